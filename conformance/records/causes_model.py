"""Causes that are tried out: a loss that reproduces one record makes the mistake, and gives the other record's numbers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.records.causes_gradient import pushed_channels
from unilossseg.conformance.records.causes_terms import SMOOTH_CHANGED
from unilossseg.conformance.records.errors import printable
from unilossseg.conformance.records.evidence import Evidence, Floats, Prediction, Result, Side, distance
from unilossseg.conformance.records.hypothesis import Hypothesis, Score, predicting
from unilossseg.conformance.records.models import Model

#: Rounding that a loss is known to show by itself, of the scale; more than that has another cause. With logits of float64 an
#: error of float32's size comes from computing in float32, which is a cause of its own.
_MOST_ROUNDING = {"float64": 1e-9, "float32": 2e-4, "float16": 2e-4, "bfloat16": 2e-4}

Labels = npt.NDArray[np.int64]
#: All orders of so many classes are tried; of more, only those that come about by themselves.
_FEW_CLASSES = 4


def hypotheses(evidence: Sequence[Evidence], given: Side, other: Side, model: Model) -> Iterator[Hypothesis]:
    """All of them, in the direction of the evidence."""
    yield Hypothesis(
        "rounding",
        "the {given} has rounding errors of its own: the formula in float64 {gives} the {other}'s numbers",
        f"Nothing changed but the rounding. {_rounding_remedy(evidence)} with --gradient-tolerance or --value-tolerance, "
        "which the report shows.",
        lambda case: _rounding(model, case),
        lambda cases: (
            f"{model.name} in float64 is {_off(model, cases, 'given')} of the scale away from the {{given}} and "
            f"{_off(model, cases, 'other')} from the {{other}} ({cases[0].name})"
        ),
        order=12,
    )
    yield from _softmax(model, evidence)
    yield from _shifted_labels(model)
    yield from _class_orders(model, evidence)
    yield from _ignored_classes(model)
    yield from _classes_left_out(model)
    yield _tried(
        model,
        "over the batch",
        "the {other} takes all images of the batch together, the {given} each by itself",
        "Sum over the pixels of one image (axes 2, 3, ...) and take the mean of the images, or the batch in both.",
        predicting(lambda case: _over_the_batch(model, case)),
        "computed from the pixels of all images as one image",
    )
    yield from _parameters(model, given, other)


def _tried(model: Model, cause: str, title: str, remedy: str, score: Score, words: str, order: int = 4) -> Hypothesis:
    words = f"{model.name}, {words}, {{gives}} the {{other}}'s numbers"
    return Hypothesis(cause, title, remedy, model.improved_by(score), lambda cases: words, order)


def _rounding_remedy(evidence: Sequence[Evidence]) -> str:
    if all(case.dtype == "float64" for case in evidence):
        return "Allow for it"
    return "With --dtype float64 it vanishes, unless the loss computes in float32 whatever it is given; then allow for it"


def _rounding(model: Model, case: Evidence) -> float | None:
    """Whether the loss itself gives the one record's numbers, and the other's are off by a little in both directions."""
    result = model.result(case)
    if result is None or case.same:
        return None
    off = distance(result.value, case.given.value), distance(result.gradient, case.given.gradient)
    if max(off) > _MOST_ROUNDING[case.dtype]:
        return 0.0
    if case.given.gradient is None or result.gradient is None:
        return model.share(case)
    errors = case.given.gradient - result.gradient
    signed = np.sign(errors[np.abs(errors) > 0.01 * np.abs(errors).max(initial=0)])
    # Rounding goes both ways, about as often; a factor or another formula does not.
    return model.share(case) if signed.size and abs(signed.mean()) < 0.5 else 0.0


def _off(model: Model, cases: Sequence[Evidence], which: str) -> str:
    result = model.result(cases[0])
    side = cases[0].given if which == "given" else cases[0].other
    if result is None:
        return "unknown"
    return f"{max(distance(result.value, side.value), distance(result.gradient, side.gradient)):.2g}"


def _prediction(result: Result | None) -> Prediction | None:
    return None if result is None else Prediction(result.value, result.gradient)


# ------------------------------------------------------------------------------------------------ softmax
def _softmax(model: Model, evidence: Sequence[Evidence]) -> Iterator[Hypothesis]:
    yield _tried(
        model,
        "softmax twice",
        "the {other} applies softmax twice",
        "Give the loss the network's logits: it has a softmax of its own.",
        predicting(lambda case: _twice(model, case)),
        "computed from softmax(logits)",
    )
    yield _tried(
        model,
        "softmax missing",
        "the {other} takes logits for probabilities",
        "Apply softmax (or log_softmax) before a loss that takes probabilities, or use one that takes logits.",
        predicting(lambda case: _without_softmax(model, case)),
        "computed from the logits as they are, without a softmax",
    )
    yield _tried(
        model,
        "wrong class axis",
        "the {other} has the logits reshaped to (..., C) with the class axis still in place",
        "Move the class axis last (movedim, transpose, permute) before it is flattened.",
        predicting(lambda case: _reshaped(model, case)),
        "computed from logits.reshape(-1, C)",
    )
    for axis in range(max((case.logits.ndim for case in evidence), default=0)):
        if axis != 1:
            yield _tried(
                model,
                "wrong class axis",
                "the {other} has its softmax over another axis than the classes",
                "Give softmax, log_softmax or cross entropy the class axis: axis=1 for (N, C, ...).",
                predicting(lambda case, axis=axis: _over_axis(model, case, axis)),  # type: ignore[misc]
                f"with its softmax over axis {axis}",
            )


def _probabilities(logits: Floats, axis: int = 1) -> Floats:
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return np.asarray(powers / powers.sum(axis=axis, keepdims=True))


def _twice(model: Model, case: Evidence) -> Prediction | None:
    if case.logits.ndim < 2:
        return None
    p = _probabilities(case.logits)
    result = model.result(case, logits=p)
    if result is None or result.gradient is None:
        return None
    slope = result.gradient
    return Prediction(result.value, p * (slope - (slope * p).sum(axis=1, keepdims=True)))


def _one_hot(case: Evidence) -> Floats | None:
    """One-hot labels, nothing where ignored."""
    labels = case.labels
    if labels is None:
        return None
    classes = np.arange(case.classes).reshape(1, -1, *[1] * (case.logits.ndim - 2))
    hot = (labels[:, None] == classes) & (labels != case.ignore_index)[:, None]
    return hot.astype(np.float64)


def _without_softmax(model: Model, case: Evidence) -> Prediction | None:
    target, valid, z = _one_hot(case), case.valid, case.logits
    if target is None or valid is None or not valid.any() or case.upstream is not None:
        return None
    if model.name == "CrossEntropyLoss" and model.loss.weight is None:
        return Prediction(np.asarray(-(z * target).sum() / valid.sum()), -target / valid.sum())
    if model.name == "DiceLoss" and model.loss.weight is None:
        mask, axes, smooth = valid[:, None], tuple(range(2, z.ndim)), model.loss.smooth
        shared = 2 * (z * target).sum(axis=axes, keepdims=True) + smooth
        total = ((z + target) * mask).sum(axis=axes, keepdims=True) + smooth + 1e-8
        slope = -(2 * target * total - shared) / total**2 * mask / (z.shape[0] * case.classes)
        return Prediction(np.asarray((1 - shared / total).mean()), slope)
    return None


def _reshaped(model: Model, case: Evidence) -> Prediction | None:
    labels, z = case.labels, case.logits
    if labels is None or z.ndim < 3 or case.upstream is not None:
        return None
    result = model.result(case, logits=z.reshape(-1, case.classes), labels=labels.reshape(-1))
    if result is None or result.gradient is None:
        return None
    return Prediction(result.value, result.gradient.reshape(z.shape))


def _over_axis(model: Model, case: Evidence, axis: int) -> Prediction | None:
    target, valid, z = _one_hot(case), case.valid, case.logits
    if target is None or valid is None or not valid.any() or case.upstream is not None:
        return None
    if model.name != "CrossEntropyLoss" or model.loss.weight is not None or axis >= z.ndim:
        return None
    p = _probabilities(z, axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = -(np.where(target > 0, np.log(p), 0.0)).sum() / valid.sum()
    return Prediction(np.asarray(value), (p * target.sum(axis=axis, keepdims=True) - target) / valid.sum())


# ------------------------------------------------------------------------------------------------ labels
def _shifted_labels(model: Model) -> Iterator[Hypothesis]:
    for step in (1, -1):
        for end in ("ignored", "wrapped around", "kept in range"):
            yield _tried(
                model,
                "labels shifted by one",
                f"the {{other}} reads every label {'one higher' if step > 0 else 'one lower'} (out of range: {end})",
                "Look for labels that count from 1, a background class that is added or removed, or reduce_zero_label.",
                predicting(
                    lambda case, step=step, end=end: _prediction(_with_labels(model, case, _shifted(case, step, end)))  # type: ignore[misc]
                ),
                f"computed with labels {'+' if step > 0 else '-'} 1",
                order=3,
            )


def _with_labels(model: Model, case: Evidence, labels: Labels | None) -> Result | None:
    return None if labels is None else model.result(case, labels=labels)


def _shifted(case: Evidence, step: int, end: str) -> Labels | None:
    labels, valid = case.labels, case.valid
    if labels is None or valid is None:
        return None
    classes = max(case.classes, 2)
    moved = labels + step
    outside = (moved < 0) | (moved >= classes)
    if end == "ignored":
        moved = np.where(outside, case.ignore_index, moved)
    else:
        moved = moved % classes if end == "wrapped around" else np.clip(moved, 0, classes - 1)
    return np.where(valid, moved, labels)


def _ignored_classes(model: Model) -> Iterator[Hypothesis]:
    def relabelled(case: Evidence, number: int) -> Labels | None:
        return None if case.labels is None or case.valid is None else np.where(case.valid, case.labels, number)

    for words, predict in _with_the_ends(model, relabelled):
        yield _tried(
            model,
            "ignored pixels not masked",
            f"the {{other}} trains ignored pixels as {words}",
            "Pass ignore_index, and mask before labels are clamped or multiplied into range.",
            predict,
            f"computed with ignored labels as {words}",
            order=1,
        )


def _classes_left_out(model: Model) -> Iterator[Hypothesis]:
    def relabelled(case: Evidence, number: int) -> Labels | None:
        return None if case.labels is None else np.where(case.labels == number, case.ignore_index, case.labels)

    for words, predict in _with_the_ends(model, relabelled):
        yield _tried(
            model,
            "a class is ignored",
            f"the {{other}} ignores {words}",
            "Look for another ignore_index, reduce_zero_label, or a mask such as labels > 0.",
            predict,
            f"computed with the pixels of {words} ignored, beside those that are to be",
            order=3,
        )


def _with_the_ends(model: Model, relabelled: Callable[[Evidence, int], Labels | None]) -> Iterator[tuple[str, Score]]:
    """For the first class and for the last, in words, what the model gives where labels are changed by its number."""
    ends: tuple[tuple[str, Callable[[Evidence], int]], ...] = (
        ("class 0", lambda case: 0),
        ("the last class", lambda case: max(case.classes, 2) - 1),
    )
    for words, chosen in ends:

        def predict(case: Evidence, chosen: Callable[[Evidence], int] = chosen) -> Prediction | None:
            return _prediction(_with_labels(model, case, relabelled(case, chosen(case))))

        yield words, predicting(predict)


def _over_the_batch(model: Model, case: Evidence) -> Prediction | None:
    """All images as one."""
    labels, z = case.labels, case.logits
    if labels is None or z.ndim < 3 or case.upstream is not None:
        return None
    joined = np.moveaxis(z, 1, 0)
    flat = np.ascontiguousarray(joined.reshape(1, case.classes, -1))
    result = model.result(case, logits=flat, labels=labels.reshape(1, -1))
    if result is None or result.gradient is None:
        return None
    return Prediction(result.value, np.moveaxis(result.gradient.reshape(joined.shape), 0, 1))


# ------------------------------------------------------------------------------------------------ order of the classes
def _class_orders(model: Model, evidence: Sequence[Evidence]) -> Iterator[Hypothesis]:
    for order in _orders(evidence):
        shown = ", ".join(map(str, order))
        yield _tried(
            model,
            "classes in another order",
            f"the {{other}} has its channels in another class order: ({shown})",
            "Compare the class lists of the two projects: the channel of a class must be the number of its label in both.",
            predicting(lambda case, order=order: _reordered(model, case, order)),  # type: ignore[misc]
            f"computed from logits[:, ({shown})]",
        )


def _orders(evidence: Sequence[Evidence]) -> list[tuple[int, ...]]:
    classes = min((case.classes for case in evidence), default=0)
    if classes < 2 or any(case.classes != classes for case in evidence):
        return []
    same = tuple(range(classes))
    if classes <= _FEW_CLASSES:
        found = list(itertools.permutations(same))
    else:
        found = [same[::-1], (*same[1:], 0), (same[-1], *same[:-1])]
        found += [order for case in evidence if (order := pushed_channels(case, case.other.gradient)) is not None]
    return [order for order in dict.fromkeys(found) if order != same]


def _reordered(model: Model, case: Evidence, order: tuple[int, ...]) -> Prediction | None:
    """The loss of logits[:, order]: channel order[c] is read as class c."""
    if case.classes != len(order):
        return None
    result = model.result(case, logits=np.ascontiguousarray(case.logits[:, list(order)]))
    if result is None or result.gradient is None:
        return None
    gradient = np.empty_like(result.gradient)
    gradient[:, list(order)] = result.gradient
    return Prediction(result.value, gradient)


# ------------------------------------------------------------------------------------------------ parameters
def _parameters(model: Model, given: Side, other: Side) -> Iterator[Hypothesis]:
    stated = model.stated(given, other)
    for parameters in [{name: value} for name, value in stated.items()] + ([stated] if len(stated) > 1 else []):
        # Before what is only suspected: the records themselves say so.
        yield from _changed(model, parameters, given, other, order=0)
    # What a loss of one's own is told may mean the same.
    tried = [] if stated else [{name: value} for name, value in other.kwargs.items() if model.has(name)]
    if model.has("smooth"):
        tried += [{"smooth": smooth} for smooth in (0.0, 1.0) if model.loss.smooth != smooth]
    if model.has("variant"):
        tried += [{"variant": variant} for variant in ("paddleseg", "corrected") if model.loss.variant != variant]
    if model.has("weight"):
        weight = other.kwargs.get("weight", given.kwargs.get("weight"))
        tried += [
            {"weight": chosen} for chosen in (weight, None) if chosen != model.loss.weight and not isinstance(chosen, str)
        ]
    for parameters in tried:
        yield from _changed(model, parameters, given, other, order=3)


def _changed(model: Model, parameters: Mapping[str, Any], given: Side, other: Side, order: int) -> Iterator[Hypothesis]:
    """The model with other parameters; nothing where it cannot have them."""
    changed = model.with_parameters(**parameters)
    if changed is None:
        return
    theirs, ours = (_written({name: getattr(one.loss, name) for name in parameters}) for one in (changed, model))
    if theirs == ours:  # 1 and 1.0, or a list and its tuple
        return
    names = " and ".join(parameters)
    # What is guessed from the numbers must not be stated as if it had been recorded.
    known = changed.is_of(other, parameters), model.is_of(given, parameters)
    first, second = ("has" if told else "behaves like" for told in known)
    if known[0] == known[1]:
        second = "" if known[0] else "like"
    yield _tried(
        model,
        f"another {names}",
        f"the {{other}} {first} {theirs}, the {{given}} {f'{second} {ours}'.strip()}",
        f"Give both the same {names}.{SMOOTH_CHANGED if 'smooth' in parameters else ''}",
        predicting(lambda case: _prediction(changed.result(case))),
        f"computed with {theirs}",
        order=order,
    )


def _written(parameters: Mapping[str, Any]) -> str:
    """As in a call; braces doubled, since the texts of a hypothesis are filled in once more."""
    text = printable(" and ".join(f"{name}={value!r}" for name, value in parameters.items()))
    return text.replace("{", "{{").replace("}", "}}")
