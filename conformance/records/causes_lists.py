"""Causes in lists of losses, of several heads or terms: another order of them, or another coefficient of one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from unilossseg.conformance.records.causes_scale import common, ratio, tells
from unilossseg.conformance.records.evidence import Evidence, distance
from unilossseg.conformance.records.hypothesis import Hypothesis

#: Of more losses only the swaps of two are tried.
_FEW_LOSSES = 4


def hypotheses(evidence: Sequence[Evidence]) -> Iterator[Hypothesis]:
    """All of them, in the direction of the evidence."""
    lengths = {len(case.other.value) for case in evidence if case.lists}
    if len(lengths) != 1 or not all(case.lists for case in evidence):
        return
    for order in _orders(*lengths):
        yield Hypothesis(
            "losses of a list in another order",
            f"the {{other}}'s list has the losses of the {{given}} in the order {order}",
            "Return them in the same order in both: coefficients are given by the place.",
            lambda case, order=order: _reordered(case, order),  # type: ignore[misc]
            lambda cases: "; ".join(_both(case) for case in cases[:4]),
            order=3,
        )
    # In a single case any two lists are multiples of each other, loss by loss.
    factors = _factors(evidence, *lengths) if len(evidence) > 1 else []
    if any(tells(factor) for factor in factors) and len({round(factor, 3) for factor in factors}) > 1:
        shown = ", ".join(f"{factor:.4g}" for factor in factors)
        yield Hypothesis(
            "coefficients of a list",
            f"the losses of the {{other}}'s list are those of the {{given}}, in order, times {shown}",
            "Look for a coefficient that only one of the two has, or that is given to another loss of the list.",
            lambda case: 0.9 * _multiplied(case, factors),
            lambda cases: "; ".join(_both(case) for case in cases[:4]),
            order=8,
        )


def _orders(length: int) -> list[tuple[int, ...]]:
    same = tuple(range(length))
    if length <= _FEW_LOSSES:
        return [order for order in itertools.permutations(same) if order != same]
    swaps = itertools.combinations(same, 2)
    return [tuple({one: other, other: one}.get(place, place) for place in same) for one, other in swaps]


def _reordered(case: Evidence, order: tuple[int, ...]) -> float:
    """Whether the values are the same in another order, and the gradient, which is that of their sum, as it was."""
    if case.apart(case.given.value[list(order)], case.other.value) > case.value_bound:
        return 0.0
    # A sum is the same in any order; where it is not, what follows the list has something to say about it.
    return 1.0 if distance(case.given.gradient, case.other.gradient) <= 10 * case.gradient_bound else 0.6


def _factors(evidence: Sequence[Evidence], length: int) -> list[float]:
    """What each loss is multiplied by, the same in all cases; empty if there are no such numbers."""
    factors = [
        common([(ratio(case.given.value[place], case.other.value[place]), case.value_bound) for case in evidence])
        for place in range(length)
    ]
    return factors if np.isfinite(factors).all() else []


def _multiplied(case: Evidence, factors: Sequence[float]) -> bool:
    wanted = np.stack([factor * value for factor, value in zip(factors, case.given.value, strict=True)])
    return case.apart(wanted, case.other.value) <= 10 * case.value_bound


def _both(case: Evidence) -> str:
    lists = (", ".join(f"{number:.6g}" for number in side.value.ravel()[:6]) for side in (case.given, case.other))
    return "[{}] in the {{given}}, [{}] in the {{other}} ({})".format(*lists, case.name)
