"""Causes that multiply: another denominator, a sum in place of a mean, another logarithm, weights not normalised."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unilossseg.conformance.records.evidence import Evidence, Floats, Prediction, Side
from unilossseg.conformance.records.hypothesis import Hypothesis, Score, predicting
from unilossseg.conformance.records.thresholds import EPS16

#: What a factor must account for.
_FITS = 0.9
#: How many roundings the ratios of two cases may be apart where the factor is one number; half types, whose bound is a
#: step, round too coarsely for more than one.
_ROUNDINGS = 10

#: How far the ratios of value and gradient may be apart, as a share of how far they are from 1.
_ALIKE = 0.25

Number = Callable[[Evidence], float | None]


@dataclass(frozen=True)
class Factor:
    """What a value and its gradient may be multiplied by, computed from a case's inputs."""

    cause: str
    title: str
    remedy: str
    words: str
    number: Number
    order: int = 10


def hypotheses(evidence: Sequence[Evidence], given: Side, other: Side) -> Iterator[Hypothesis]:
    """All of them, in the direction of the evidence."""
    for factor in (*_factors(), *_weight_factors(given, other)):
        yield Hypothesis(
            factor.cause,
            factor.title,
            factor.remedy,
            exactly(lambda case, number=factor.number: _both_times(case, number(case))),  # type: ignore[misc]
            lambda cases, factor=factor: _compared(cases, factor),  # type: ignore[misc]
            factor.order,
        )
    yield from _constants(evidence)


# ------------------------------------------------------------------------------------------------ named factors
def _factors() -> Iterator[Factor]:
    yield Factor(
        "ignored pixels in the denominator",
        "the {other} divides by all pixels, the {given} by those that are not ignored",
        "Divide by the number of valid pixels: mean(loss * mask) / mean(mask).",
        "valid pixels ÷ all pixels",
        lambda case: None if case.valid is None else float(case.valid.mean()),
        order=5,
    )
    for words, number in _counts():
        yield Factor(
            "sum in place of mean",
            f"the {{other}} sums where the {{given}} takes a mean: the factor is the number of {words}",
            f"Divide by the number of {words} once, in one of the two, or set reduction='mean'.",
            f"number of {words}",
            number,
        )
    for base in (2, 10):
        yield Factor(
            "base of the logarithm",
            f"the {{other}} takes the logarithm to base {base}, the {{given}} the natural one",
            f"Use log in place of log{base}.",
            f"1 ÷ ln {base}",
            lambda case, base=base: 1 / math.log(base),  # type: ignore[misc]
        )


def _counts() -> Iterator[tuple[str, Number]]:
    def images(case: Evidence) -> float:
        return float(np.prod(case.logits.shape[:1]))

    def pixels(case: Evidence) -> float:
        return float(np.prod(case.logits.shape[2:], dtype=np.int64))

    def valid(case: Evidence) -> float | None:
        return None if case.valid is None else float(case.valid.sum())

    def times_classes(count: Number) -> Number:
        def number(case: Evidence) -> float | None:
            found = count(case)
            return None if found is None else found * case.classes

        return number

    yield "valid pixels", valid
    yield "pixels of the batch", lambda case: images(case) * pixels(case)
    yield "images", images
    yield "pixels of an image", pixels
    yield "classes", lambda case: float(case.classes)
    yield "entries of the logits", times_classes(lambda case: images(case) * pixels(case))
    yield "valid pixels times classes", times_classes(valid)
    yield "images times classes", times_classes(images)
    yield "pixels of an image times classes", times_classes(pixels)


def _weight_factors(given: Side, other: Side) -> Iterator[Factor]:
    weights = _weights(other.kwargs.get("weight")) if "weight" in other.kwargs else _weights(given.kwargs.get("weight"))
    if weights is None:
        return

    def mean_of_pixels(case: Evidence) -> float | None:
        labels, valid = case.labels, case.valid
        if labels is None or valid is None or not valid.any() or case.classes != weights.size:
            return None
        chosen = labels[valid]
        if chosen.min() < 0 or chosen.max() >= weights.size:
            return None
        return float(weights[chosen].mean())

    for words, number in (
        ("mean class weight of the valid pixels", mean_of_pixels),
        ("mean of the class weights", lambda _: float(weights.mean())),
        ("sum of the class weights", lambda _: float(weights.sum())),
    ):
        yield Factor(
            "class weights not normalised",
            f"the {{other}} does not divide by the class weights where the {{given}} does: the factor is the {words}",
            "Divide by the sum of the weights of the pixels that count, as cross entropy with weights does.",
            words,
            number,
            order=8,
        )


def _weights(value: Any) -> Floats | None:
    if not isinstance(value, list) or not value or not all(type(x) in (int, float) and 0 <= x < 1e30 for x in value):
        return None
    return np.asarray(value, dtype=np.float64)


# ------------------------------------------------------------------------------------------------ any constant
def _constants(evidence: Sequence[Evidence]) -> Iterator[Hypothesis]:
    yield Hypothesis(
        "denominator",
        "the {other} divides by a slightly different number than the {given}, value and gradient alike",
        "Look for another epsilon in the denominator, or a mask that is averaged in float32 where the logits are float64.",
        exactly(_near_one),
        lambda cases: (
            "the ratio of the values is 1 and "
            + ", ".join(f"{(_value_ratio(case) or 1) - 1:.3g} ({case.name})" for case in cases[:4])
        ),
        order=9,
    )
    values = [(_value_ratio(case), case.value_bound) for case in evidence]
    gradients = [(_gradient_ratio(case), case.gradient_bound) for case in evidence]
    of_values, of_gradients, of_both = common(values), common(gradients), common(values + gradients)
    if tells(of_gradients):
        yield Hypothesis(
            "gradient scaled",
            f"the {{other}}'s gradient is the {{given}}'s times {of_gradients:.6g}, and its value is the same",
            "Look for a loss weight, a gradient hook or scaler, or a stop-gradient on one of several equal terms.",
            exactly(lambda case: Prediction(case.given.value, _times(case.given.gradient, of_gradients))),
            lambda cases: f"the ratio of the gradients is {_listed(cases, lambda case: _gradient_ratio(case))}",
            order=20,
        )
    if tells(of_both):
        yield Hypothesis(
            "constant factor",
            f"the {{other}} is the {{given}} times {of_both:.6g}, value and gradient",
            "Look for a loss weight or coefficient that only one of the two has.",
            exactly(lambda case: _both_times(case, of_both)),
            lambda cases: f"the ratio of the values is {_listed(cases, lambda case: _value_ratio(case))}",
            order=30,
        )
    if tells(of_values):
        yield Hypothesis(
            "value scaled",
            f"the {{other}}'s value is the {{given}}'s times {of_values:.6g}, and its gradient is the same",
            "Look for a value that is rescaled for display after the gradient's graph was cut.",
            exactly(lambda case: Prediction(_times(case.given.value, of_values), case.given.gradient)),
            lambda cases: f"the ratio of the values is {_listed(cases, lambda case: _value_ratio(case))}",
            order=30,
        )


def exactly(predict: Callable[[Evidence], Prediction | None]) -> Score:
    """Factors fit or do not: some number always brings two results a little nearer to each other."""
    score = predicting(predict)

    def exact(case: Evidence) -> float | None:
        share = score(case)
        return share if share is None or share > _FITS else 0.0

    return exact


def _near_one(case: Evidence) -> Prediction | None:
    """The value's own ratio, if it is near 1, for the gradient as well, if that has it too."""
    ratio, of_gradient = _value_ratio(case), _gradient_ratio(case)
    if case.same or ratio is None or abs(ratio - 1) > 1e-3:
        return None
    # So near 1, a gradient that is not divided at all would pass for one that is.
    alike = of_gradient is None or abs(of_gradient - ratio) <= _ALIKE * abs(ratio - 1)
    return _both_times(case, ratio) if alike else None


def common(ratios: Sequence[tuple[float | None, float]]) -> float:
    """The ratio of all cases, each with the bound of its rounding; NaN where they have none in common."""
    known = [(ratio, bound) for ratio, bound in ratios if ratio is not None]
    if not known:
        return math.nan
    middle = float(np.median([ratio for ratio, _ in known]))
    apart = [(abs(ratio - middle), bound if bound >= EPS16 else _ROUNDINGS * bound) for ratio, bound in known]
    return middle if all(off <= allowed * abs(middle) for off, allowed in apart) else math.nan


def tells(ratio: float) -> bool:
    """Whether a factor says something."""
    # A ratio of almost 1 is rounding, and of almost 0 a gradient that is missing.
    return math.isfinite(ratio) and abs(ratio) > 1e-9 and abs(ratio - 1) > 1e-4


def ratio(given: Floats | None, other: Floats | None) -> float | None:
    """The factor that brings one nearest to the other."""
    if given is None or other is None or given.size != other.size:
        return None
    finite = np.isfinite(given.ravel()) & np.isfinite(other.ravel())
    a, b = given.ravel()[finite], other.ravel()[finite]
    unit = float(np.abs(a).max(initial=0))  # squares of small gradients would underflow
    return float((a / unit) @ b / ((a / unit) @ a)) if unit else None


def _value_ratio(case: Evidence) -> float | None:
    return ratio(case.given.value, case.other.value)


def _gradient_ratio(case: Evidence) -> float | None:
    return ratio(case.given.gradient, case.other.gradient)


def _times(array: Floats | None, factor: float) -> Floats | None:
    return None if array is None else array * factor


def _both_times(case: Evidence, factor: float | None) -> Prediction | None:
    # No mistake multiplies by 0, as does the share of valid pixels where all are ignored: of what is 0 it would explain all.
    if not factor:
        return None
    return Prediction(_times(case.given.value, factor), _times(case.given.gradient, factor))


def _compared(cases: Sequence[Evidence], factor: Factor) -> str:
    found = _listed(cases, lambda case: _value_ratio(case))
    return f"the ratio of the values is {found}; {factor.words}: {_listed(cases, factor.number)}"


def _listed(cases: Sequence[Evidence], number: Number) -> str:
    shown = []
    for case in cases[:4]:
        found = number(case)
        shown.append(f"{'unknown' if found is None else f'{found:.6g}'} ({case.name})")
    return ", ".join(shown) + (", ..." if len(cases) > 4 else "")
