"""Compares every contestant with the float64 reference, at a small size. Runs in a worker."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from benchmarks.contestants import Field
from benchmarks.marks import FAILED, mark
from benchmarks.names import OURS
from benchmarks.rows import ROWS, Row, Shape, arrays, reference_arguments
from unilossseg.conformance.reference import value_and_gradient

SMALL = Shape(2, 4, 16)
_NAMES_AN_ERROR = re.compile(r"\w+Error: |\(?\w*InvalidType")
Answer = tuple[Any, Any]


def _reference(row: Row, inputs: Mapping[str, Any], **changes: Any) -> Answer:
    further = {name: inputs[name] for name in ("edge_logits", "noise") if name in inputs}
    parameters = {**reference_arguments(row, SMALL), **changes}
    return value_and_gradient(row.loss, parameters, inputs["logits"], inputs["labels"], **further)


def _per_image(row: Row, inputs: Mapping[str, Any], **changes: Any) -> Answer:
    """The mean of the images' own losses."""
    count = len(inputs["logits"])
    answers = [
        _reference(row, {name: array[image : image + 1] for name, array in inputs.items()}, **changes)
        for image in range(count)
    ]
    return sum(value for value, _ in answers) / count, np.concatenate([slope for _, slope in answers]) / count


def _whole_batch(row: Row, inputs: Mapping[str, Any]) -> Answer:
    """The batch taken for one tall image."""
    logits, labels = inputs["logits"], inputs["labels"]
    n, c, h, w = logits.shape
    tall = {"logits": logits.transpose(1, 0, 2, 3).reshape(1, c, n * h, w), "labels": labels.reshape(1, n * h, w)}
    value, slope = _reference(row, tall)
    return value, slope.reshape(c, n, h, w).transpose(1, 0, 2, 3)


def _classes_present(row: Row, inputs: Mapping[str, Any]) -> Answer:
    """The mean of the images' own losses, each over the classes that occur in it."""
    answers = []
    for logits, labels in zip(inputs["logits"], inputs["labels"], strict=True):
        weight = [float((labels == c).any()) for c in range(len(logits))]
        image = {"logits": logits[None], "labels": labels[None]}
        answers.append(_reference(row, image, weight=weight, variant="corrected"))
    return sum(value for value, _ in answers) / len(answers), np.concatenate([slope for _, slope in answers]) / len(answers)


def _mixed_of_kornia(row: Row, inputs: Mapping[str, Any]) -> Answer:
    """Our cross entropy, and the Lovász loss of `per image, all classes`."""
    first, second = row.arguments(SMALL)["coef"]
    entropy, slope = _reference(ROWS["CrossEntropyLoss"], inputs)
    lovasz, other = _per_image(ROWS["LovaszSoftmaxLoss"], inputs, classes="all")
    return first * entropy + second * lovasz, first * slope + second * other


#: Definitions that peers mean: ours, and how ours is turned into theirs.
DEFINITIONS: dict[str, Callable[[Row, Mapping[str, Any]], Answer]] = {
    "ours": _reference,
    "per image": _per_image,
    "per image, all classes": lambda row, inputs: _per_image(row, inputs, classes="all"),
    "whole batch": _whole_batch,
    "classes present": _classes_present,
    "kornia's parts": _mixed_of_kornia,
}


def check(field: Field, row: Row) -> list[dict[str, Any]]:
    """A mark with its reason for us and each peer of a row."""
    inputs = arrays(row, SMALL, field.framework.name, seed=1)
    if row.channels(SMALL) > 1 and row.kind != "values":
        # One image lacks a class, as most do: a peer may leave such classes out.
        inputs["labels"][0][inputs["labels"][0] == SMALL.classes - 1] = 0
    found = [_checked(field, row, inputs, OURS, "", "ours")]
    for peer in field.peers(row):
        answer = _checked(field, row, inputs, peer.name, peer.differs, peer.definition)
        found.append({**answer, "note": peer.note})
    return found


def _checked(field: Field, row: Row, inputs: Mapping[str, Any], name: str, differs: str, definition: str) -> dict[str, Any]:
    value_error = gradient_error = None
    try:
        value, gradient = _numbers(field, row, inputs, name)
        if definition:
            expected, slope = DEFINITIONS[definition](row, inputs)
            value_error = float(abs(value - expected) / max(abs(float(expected)), 1e-12))
            gradient_error = float(np.abs(gradient - slope).max() / np.abs(slope).max())
        verdict, reason = mark(differs, value_error, gradient_error)
    except Exception as error:  # a peer may fail in any way: what it said is the result
        verdict, reason = FAILED, described(error)
    return {
        "contestant": name,
        "mark": verdict,
        "reason": reason,
        "value_error": value_error,
        "gradient_error": gradient_error,
        "note": "",
    }


def _numbers(field: Field, row: Row, inputs: Mapping[str, Any], name: str) -> tuple[float, Any]:
    tensors = field.framework.tensors(inputs, "float32")
    value = field.value(name, row, SMALL, tensors)(tensors["logits"])
    value.backward()
    return float(value), field.framework.numbers(tensors["logits"].grad)


def described(error: BaseException) -> str:
    """An error in one line, without the frameworks' stack traces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Where a stack trace comes first, what is wrong stands in a line that begins with the kind of error.
    said = next((line for line in lines if _NAMES_AN_ERROR.match(line)), lines[0] if lines else "")
    return f"{type(error).__name__}: {said}"[:300]
