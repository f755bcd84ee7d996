"""Causes in lists of losses, of several heads or terms: another order of them, or another coefficient of one."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from unilossseg.conformance.records.causes_scale import common, ratio, tells
from unilossseg.conformance.records.evidence import Evidence, distance
from unilossseg.conformance.records.hypothesis import Hypothesis
from unilossseg.conformance.records.models import Model, common_models

#: Of more losses only the swaps of two are tried.
_FEW_LOSSES = 4


def hypotheses(evidence: Sequence[Evidence]) -> Iterator[Hypothesis]:
    """All of them, in the direction of the evidence."""
    lengths = {len(case.other.value) for case in evidence if case.lists}
    if len(lengths) != 1 or not all(case.lists for case in evidence):
        return
    (length,) = lengths
    for order in _orders(length):
        yield Hypothesis(
            "losses of a list in another order",
            f"the {{other}}'s list has the losses of the {{given}} in the order {order}",
            "Return them in the same order in both: coefficients are given by the place.",
            # Cases that agree may have lists of other lengths, or none.
            lambda case, order=order: _reordered(case, order) if _has(case, length) else None,  # type: ignore[misc]
            lambda cases: "; ".join(_both(case) for case in cases[:4]),
            order=3,
        )
    # In a single case any two lists are multiples of each other, loss by loss.
    factors = _factors(evidence, length) if len(evidence) > 1 else []
    if any(tells(factor) for factor in factors) and not np.allclose(factors, factors[0], rtol=1e-3, atol=0):
        shown = ", ".join(f"{factor:.4g}" for factor in factors)
        terms = [_term(evidence, place) for place in range(length)]
        yield Hypothesis(
            "coefficients of a list",
            f"the losses of the {{other}}'s list are those of the {{given}}, in order, times {shown}",
            "Look for a coefficient that only one of the two has, or that is given to another loss of the list.",
            lambda case: _multiplied(case, factors, terms) if _has(case, length) else None,
            lambda cases: "; ".join(_both(case) for case in cases[:4]),
            order=8,
        )


def _has(case: Evidence, length: int) -> bool:
    return case.lists and len(case.other.value) == length


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


def _term(evidence: Sequence[Evidence], place: int) -> tuple[Model, float] | None:
    """The loss at a place of the given list, as one of this package times a coefficient; None where none is known."""
    for model in common_models(evidence[0].ignore_index):
        results = [model.result(case) for case in evidence]
        values = [None if result is None else result.value for result in results]
        coefficient = common(
            [(ratio(value, case.given.value[place]), case.value_bound) for value, case in zip(values, evidence, strict=True)]
        )
        if np.isfinite(coefficient):
            return model, coefficient
    return None


def _multiplied(case: Evidence, factors: Sequence[float], terms: Sequence[tuple[Model, float] | None]) -> float:
    """Whether the values are multiplied, and the gradient, which is that of their sum, by as much."""
    wanted = np.stack([factor * value for factor, value in zip(factors, case.given.value, strict=True)])
    if case.apart(wanted, case.other.value) > 10 * case.value_bound:
        return 0.0
    # Where that is not known, what the gradient shows by itself stands beside it.
    return 0.9 if _followed(case, factors, terms) else 0.6


def _followed(case: Evidence, factors: Sequence[float], terms: Sequence[tuple[Model, float] | None]) -> bool:
    """Whether the gradient is known to have changed as the losses that are multiplied say."""
    wanted = case.given.gradient
    for factor, term in zip(factors, terms, strict=True):
        if wanted is None or not tells(factor):
            continue
        result = None if term is None else term[0].result(case)
        if term is None or result is None or result.gradient is None:
            return False
        wanted = wanted + (factor - 1) * term[1] * result.gradient
    return distance(wanted, case.other.gradient) <= 10 * case.gradient_bound


def _both(case: Evidence) -> str:
    lists = (", ".join(f"{number:.6g}" for number in side.value.ravel()[:6]) for side in (case.given, case.other))
    return "[{}] in the {{given}}, [{}] in the {{other}} ({})".format(*lists, case.name)
