"""Causes that the two gradients show by themselves, whatever the loss."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from unilossseg.conformance.records.evidence import Evidence, Floats, Prediction, distance
from unilossseg.conformance.records.hypothesis import Hypothesis, predicting

#: Sums over an axis below this share of the largest entry are zero but for rounding.
ZERO_SUM = {"float64": 1e-9, "float32": 1e-4, "float16": 2e-2, "bfloat16": 1e-1}
_MOST_CHANNELS = 512


def hypotheses(evidence: Sequence[Evidence]) -> Iterator[Hypothesis]:
    """All of them, in the direction of the evidence."""
    yield Hypothesis(
        "detached gradient",
        "the {other} has no gradient",
        "Look for detach(), stop_gradient, no_grad, .item(), .numpy(), argmax or a cast to integers on the way to the loss.",
        _detached,
        lambda cases: (
            f"{_gradient_size(cases[0], 'other')} in the {{other}}, {_gradient_size(cases[0], 'given')} in the {{given}}"
        ),
        order=1,
    )
    yield Hypothesis(
        "ignored pixels not masked",
        "the {other} trains pixels that are to be ignored",
        "Pass ignore_index, or multiply the loss of each pixel by (labels != ignore_index) before it is summed.",
        _unmasked,
        lambda cases: (
            f"gradient up to {_at_ignored(cases[0].other.gradient, cases[0]):.3g} at ignored pixels in the {{other}}, "
            f"{_at_ignored(cases[0].given.gradient, cases[0]):.3g} in the {{given}} (largest anywhere: "
            f"{_gradient_max(cases[0].given.gradient):.3g})"
        ),
        order=2,
    )
    yield Hypothesis(
        "mean over no pixel",
        "the {other} is NaN where every pixel is ignored: a mean over no pixel is 0 ÷ 0",
        "Divide by max(count, 1), or leave out batches without a label that counts.",
        _of_no_pixel,
        lambda cases: f"no pixel counts, and the {{given}} is {cases[0].given.value.ravel()[0]:.6g} ({cases[0].name})",
        order=1,
    )
    yield Hypothesis(
        "gradient permuted",
        "the {other}'s gradient is the {given}'s with its classes in another order",
        "Look for an index, flip or permutation of the class axis that is not undone on the way back.",
        predicting(_permuted),
        lambda cases: (
            f"for each class of the {{other}} the class of the {{given}} with its gradient: {_permutation(cases[0])}"
        ),
        order=3,
    )
    yield Hypothesis(
        "gradient permuted",
        "the {other}'s gradient has the {given}'s entries in the memory order of channels-last",
        "Move the class axis with movedim, transpose or permute in place of reshape.",
        predicting(_relaid),
        lambda cases: "the entries agree after the class axis is moved to the end and the shape put back",
        order=3,
    )
    yield Hypothesis(
        "wrong class axis",
        "the {other} has its softmax over another axis than the classes",
        "Give softmax, log_softmax or cross entropy the class axis: axis=1 for (N, C, ...).",
        _other_axis,
        lambda cases: f"the {{other}}'s gradient sums to zero over axis {_zero_axis(cases[0])}, the {{given}}'s over axis 1",
        order=12,
    )
    yield Hypothesis(
        "gradient of single classes",
        "the {other}'s gradient does not sum to zero over the classes",
        "Look for a softmax that is missing, or for what else changes single classes: a clamp or dropout of the logits, a "
        "penalty on them, a gradient that is clipped or masked.",
        _no_zero_sum,
        lambda cases: (
            f"the sum of the gradient over the classes, as a share of its largest entry: "
            f"{_sum_over(cases[0].other.gradient, 1):.2g} in the {{other}}, {_sum_over(cases[0].given.gradient, 1):.2g} "
            "in the {given} (softmax makes it 0)"
        ),
        order=13,
    )
    for cause, title, remedy, wanted in _ORDERS:
        yield Hypothesis(
            cause,
            title,
            remedy,
            lambda case, wanted=wanted: _other_channels(case, wanted),  # type: ignore[misc]
            lambda cases: (
                f"at pixels of class 0, 1, ... the {{other}} pushes up channels "
                f"{pushed_channels(cases[0], cases[0].other.gradient)}"
            ),
            order=14,
        )
    yield from _reductions(evidence)
    yield Hypothesis(
        "random numbers",
        "a loss draws random numbers: it gives others when it is called again",
        "Switch dropout off, or give both losses the same noise (as `noise` in --inputs).",
        lambda case: None if case.same else (0.0 if case.repeatable else 0.75),
        lambda cases: "a second call with the same inputs gave other bits",
        order=4,
    )


_ORDERS = (
    (
        "labels shifted by one",
        "the {other} reads every label one off",
        "Look for labels that count from 1, a background class that is added or removed, or reduce_zero_label.",
        True,
    ),
    (
        "classes in another order",
        "the {other} has its channels in another class order",
        "Compare the class lists of the two projects: the channel of a class must be the number of its label in both.",
        False,
    ),
)


def _reductions(evidence: Sequence[Evidence]) -> Iterator[Hypothesis]:
    several = [case for case in evidence if case.other.value.size > 1]
    title, remedy = f"the {{other}} returns {_several(several)}, the {{given}} one number", "Set the same reduction in both."
    add = 'Add the losses up: sum(losses), or MixedLoss(..., reduction="sum")'
    if any(case.other.listed for case in several):
        way = next((way for case in several if (way := _reduced(case))), "sum")
        title, remedy = f"the {{other}} returns a list of losses, whose {way} is the {{given}}'s value", f"{add}."
    yield Hypothesis(
        "reduction",
        title,
        remedy,
        lambda case: None if case.same else (0.9 if _reduced(case) else 0.0),
        lambda cases: (
            f"shape {cases[0].other.value.shape}, whose {_reduced(cases[0])} is {float(cases[0].given.value.sum()):.6g}"
        ),
        order=1,
    )
    yield Hypothesis(
        "reduction",
        "the {other} returns a list of losses, the {given} the same losses in one array",
        f"{add}, in both: the gradients can be compared then.",
        lambda case: None if case.same else float(_in_one_array(case)),
        lambda cases: "the values agree; the gradient of a list is that of its sum, an array's has random weights",
        order=1,
    )


def _several(cases: Sequence[Evidence]) -> str:
    """Values that are no list, in words."""
    if all(case.logits.ndim > 2 and case.other.value.shape == case.logits.shape[:1] for case in cases):
        return "a value for each image"
    pixels = all(case.other.value.size >= case.logits.size // case.classes for case in cases)
    return "a value for each pixel or element" if pixels else "several values"


# ------------------------------------------------------------------------------------------------ the scores
def _is_zero(gradient: Floats | None) -> bool:
    return gradient is None or not gradient.any()


def _detached(case: Evidence) -> float | None:
    if _is_zero(case.given.gradient):
        return None
    if not _is_zero(case.other.gradient):
        return 0.0
    # The value has a tale of its own to tell where it differs too.
    return 1.0 if distance(case.given.value, case.other.value) <= max(case.value_bound, 1e-4) else 0.6


def _unmasked(case: Evidence) -> float | None:
    given, other, valid = case.given.gradient, case.other.gradient, case.valid
    if given is None or other is None or valid is None or valid.all():
        return float(case.same)
    ignored = ~case.spread(valid)
    if given[ignored].any() or not other[ignored].any() or not np.isfinite(other).all():
        return float(case.same)
    a, b = given[~ignored], other[~ignored]
    size = float(np.abs(a).max(initial=0))
    if not size:
        # What trains the others where the one trains nothing is no matter of the ignored pixels.
        return 0.0 if b.any() else 0.95
    # What more pixels in the denominator do to the others is a constant.
    factor = float((a / size) @ b / ((a / size) @ a))
    return 0.95 if distance(a * factor, b) <= 1e-3 else 0.6


def _of_no_pixel(case: Evidence) -> float | None:
    if case.same or case.valid is None or case.valid.any():
        return None
    return 1.0 if np.isnan(case.other.value).all() and np.isfinite(case.given.value).all() else 0.0


def _permuted(case: Evidence) -> Prediction | None:
    order = _permutation(case)
    if order is None or case.given.gradient is None:
        return None
    return Prediction(case.given.value, case.given.gradient[:, list(order)])


def _permutation(case: Evidence) -> tuple[int, ...] | None:
    """For each channel of the one gradient the one of the other that is like it; None where that is no new order."""
    given, other = case.given.gradient, case.other.gradient
    if given is None or other is None or given.shape != other.shape or given.ndim < 2 or given.shape[1] > _MOST_CHANNELS:
        return None
    rows = [np.moveaxis(x, 1, 0).reshape(x.shape[1], -1) for x in (given, other)]
    unit = max(float(np.abs(row).max(initial=0)) for row in rows)
    if not unit or not np.isfinite(unit):
        return None
    a, b = (row / unit for row in rows)
    apart = (a**2).sum(axis=1)[None, :] + (b**2).sum(axis=1)[:, None] - 2 * b @ a.T
    order = tuple(int(index) for index in apart.argmin(axis=1))
    return None if len(set(order)) < len(order) or order == tuple(range(len(order))) else order


def pushed_channels(case: Evidence, gradient: Floats | None) -> tuple[int, ...] | None:
    """For each label the channel that a gradient pushes up: its lowest entry. None where it is unclear."""
    labels, valid = case.labels, case.valid
    if labels is None or valid is None or gradient is None or gradient.shape != case.logits.shape:
        return None
    lowest = gradient.argmin(axis=1)
    order = []
    for label in range(case.classes):
        votes = np.bincount(lowest[valid & (labels == label)], minlength=case.classes)
        order.append(int(votes.argmax()) if votes.any() else -1)
    absent = [label for label, channel in enumerate(order) if channel < 0]
    if len(absent) == 1:  # the one that is left
        order[absent[0]] = (set(range(case.classes)) - set(order)).pop()
    return tuple(order) if sorted(order) == list(range(case.classes)) else None


def _other_channels(case: Evidence, shifted: bool) -> float | None:
    """Whether the one gradient pushes the labels' channels and the other those of another order."""
    if case.same or case.classes < 3:
        return None
    same = tuple(range(case.classes))
    order = pushed_channels(case, case.other.gradient)
    if order is None or order == same or pushed_channels(case, case.given.gradient) != same:
        return 0.0
    return 0.7 if shifted == (order in ((*same[1:], 0), (same[-1], *same[:-1]))) else 0.0


def _relaid(case: Evidence) -> Prediction | None:
    given, other = case.given.gradient, case.other.gradient
    if given is None or other is None or given.ndim < 3 or given.shape != other.shape:
        return None
    return Prediction(case.given.value, np.moveaxis(given, 1, -1).reshape(given.shape))


def _sum_over(gradient: Floats | None, axis: int) -> float:
    """The largest sum over an axis as a share of the largest entry; infinite where there is no such sum."""
    if gradient is None or gradient.ndim <= axis or not gradient.any() or not np.isfinite(gradient).all():
        return np.inf
    return float(np.abs(gradient.sum(axis=axis)).max() / np.abs(gradient).max())


def _loses_zero_sum(case: Evidence) -> bool:
    """Whether the one gradient sums to zero over the classes and the other does not."""
    zero = ZERO_SUM[case.dtype]
    other = _sum_over(case.other.gradient, 1)
    return case.classes > 1 and _sum_over(case.given.gradient, 1) <= zero and 10 * zero < other < np.inf


def _zero_axis(case: Evidence) -> int | None:
    """Another axis over which the other gradient sums to zero."""
    gradient = case.other.gradient
    if gradient is None:
        return None
    axes = [axis for axis in range(gradient.ndim) if axis != 1 and gradient.shape[axis] > 1]
    return next((axis for axis in axes if _sum_over(gradient, axis) <= ZERO_SUM[case.dtype]), None)


def _other_axis(case: Evidence) -> float | None:
    if case.same:
        return None
    return 0.85 if _loses_zero_sum(case) and _zero_axis(case) is not None else 0.0


def _no_zero_sum(case: Evidence) -> float | None:
    if case.same:
        return None
    return 0.6 if _loses_zero_sum(case) and _zero_axis(case) is None else 0.0


def _reduced(case: Evidence) -> str:
    """How the many numbers of the one become the one number of the other; empty if no way leads there."""
    one, many = case.given.value, case.other.value
    if one.size != 1 or many.size <= 1:
        return ""
    ways = {"mean": float(many.mean()), "sum": float(many.sum())}
    if not case.other.listed and case.valid is not None and case.valid.any():
        ways["sum over valid pixels"] = float(many.sum() / case.valid.sum())
    near = max(case.value_bound, 1e-4)
    return next((name for name, number in ways.items() if distance(np.asarray(number), one) <= near), "")


def _in_one_array(case: Evidence) -> bool:
    """Whether the one is the other's list of losses as an array."""
    one, many = case.given, case.other
    return many.listed and not one.listed and distance(many.value, one.value) <= case.value_bound


def _gradient_size(case: Evidence, which: str) -> str:
    gradient = case.given.gradient if which == "given" else case.other.gradient
    return "no gradient" if gradient is None else f"a gradient of at most {_gradient_max(gradient):.3g}"


def _gradient_max(gradient: Floats | None) -> float:
    return 0.0 if gradient is None else float(np.abs(gradient).max(initial=0))


def _at_ignored(gradient: Floats | None, case: Evidence) -> float:
    if gradient is None or case.valid is None:
        return 0.0
    return float(np.abs(gradient[~case.spread(case.valid)]).max(initial=0))
