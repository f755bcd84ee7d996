"""A term of a sum of losses that differs: what the two records differ by is that term's own difference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from unilossseg import DiceLoss
from unilossseg.conformance.records.causes_scale import exactly, ratio
from unilossseg.conformance.records.evidence import Evidence, Floats, Prediction
from unilossseg.conformance.records.hypothesis import Hypothesis
from unilossseg.conformance.records.models import Model

#: Appended to what is to be done about another `smooth`.
SMOOTH_CHANGED = " Newer PaddleSeg releases changed the default smooth of DiceLoss from 0 to 1."


def hypotheses(evidence: Sequence[Evidence]) -> Iterator[Hypothesis]:
    """All of them, in the direction of the evidence."""
    for mine, theirs in ((1.0, 0.0), (0.0, 1.0)):
        models = [Model(DiceLoss(smooth=smooth, ignore_index=evidence[0].ignore_index)) for smooth in (mine, theirs)]
        found = [number for case in evidence if (number := _coefficient(models, case)) is not None]
        coefficient = float(np.median(found)) if found else 0.0
        if not coefficient > 0:
            continue
        size = "larger" if theirs > mine else "smaller"
        yield Hypothesis(
            "another smooth",
            f"a DiceLoss in the {{other}} behaves like one with a {size} smooth than in the {{given}}",
            f"Give both the same smooth.{SMOOTH_CHANGED}",
            exactly(lambda case, models=models, coefficient=coefficient: _changed(models, case, coefficient)),  # type: ignore[misc]
            # Any two smooths differ nearly alike but for a factor, so that neither they nor the term's coefficient are told.
            lambda cases, mine=mine, theirs=theirs: (  # type: ignore[misc]
                f"the {{given}} and what DiceLoss(smooth={theirs}) has more than DiceLoss(smooth={mine}), times a constant, "
                "{gives} the {other}'s numbers"
            ),
            order=9,
        )


def _differences(models: Sequence[Model], case: Evidence) -> tuple[Floats, Floats] | None:
    """Value and gradient of the second loss less those of the first."""
    results = [model.result(case) for model in models] if case.upstream is None else []
    first, second = results if len(results) == 2 else (None, None)
    if first is None or second is None or first.gradient is None or second.gradient is None:
        return None
    return second.value - first.value, second.gradient - first.gradient


def _coefficient(models: Sequence[Model], case: Evidence) -> float | None:
    differences, given, other = _differences(models, case), case.given.gradient, case.other.gradient
    if differences is None or given is None or other is None or given.shape != other.shape:
        return None
    return ratio(differences[1], other - given)


def _changed(models: Sequence[Model], case: Evidence, coefficient: float) -> Prediction | None:
    differences = _differences(models, case)
    if differences is None or case.given.gradient is None or case.given.value.shape != case.other.value.shape:
        return None
    value = case.given.value.copy()
    # Of a list it is the loss that differs most.
    value.flat[int(np.abs(case.other.value - value).argmax())] += coefficient * differences[0]
    return Prediction(value, case.given.gradient + coefficient * differences[1])
