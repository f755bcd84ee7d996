"""Records of functions in plain NumPy, and the check that a planted cause is named."""

from __future__ import annotations

import numpy as np
import pytest

from unilossseg import BCELoss, CrossEntropyLoss, DiceLoss, LovaszSoftmaxLoss, OhemCrossEntropyLoss, value_and_grad
from unilossseg.conformance.cases import bfloat16_bits
from unilossseg.conformance.records.comparison import compare
from unilossseg.conformance.records.diagnosis import diagnose
from unilossseg.conformance.records.inputs import GENERATED, ON_REQUEST, Recipe, generated, upstream_for
from unilossseg.conformance.records.record import Record, RecordedCase, Stored

IGNORED = 255
CASES = generated(Recipe(shape=(2, 5, 8, 9)))
WITH_EXTREME = generated(Recipe(shape=(2, 5, 20, 20)), GENERATED + ON_REQUEST)
LOSSES = [CrossEntropyLoss(), DiceLoss(), LovaszSoftmaxLoss(), BCELoss(), OhemCrossEntropyLoss(min_kept=20)]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


def recorded(
    function, cases=CASES, target="my:criterion", kwargs=None, device="cpu", upstream=False, repeatable=True, dtype="float32"
):
    """The record of a function from (logits, labels) to (value, gradient), computed in float64 and kept in float32.

    Or in another dtype, perhaps one for the value and one for the gradient.
    """
    dtypes = (dtype, dtype) if isinstance(dtype, str) else dtype
    found = []
    for name, inputs in cases.items():
        logits, labels = inputs["logits"].wide(), inputs["labels"].data
        value, gradient = function(logits, labels)
        shape = np.shape(value)
        value = kept(np.asarray(value), dtypes[0])
        drawn = upstream_for(name, 0, shape, "float32") if upstream and shape else None
        if drawn is not None and gradient is not None:
            weights = drawn.wide()
            gradient = gradient * (weights if weights.ndim == gradient.ndim else weights[:, None])
        gradient = None if gradient is None else kept(gradient, dtypes[1])
        found.append(RecordedCase(name, inputs, value, gradient, upstream=drawn, repeatable=repeatable))
    return Record(target, kwargs or {}, IGNORED, 0, {"framework": "numpy", "device": device}, tuple(found))


def kept(numbers, dtype):
    """Numbers rounded to a dtype."""
    if dtype == "bfloat16":
        return Stored(bfloat16_bits(numbers.astype(np.float32)), dtype)
    return Stored.of(numbers.astype(dtype))


def drawn(dtype, shape=(2, 5, 8, 9)):
    """The cases with logits of a dtype."""
    return generated(Recipe(shape=shape, dtype=dtype))


def explained(reference, candidate):
    """The explanations of a difference, the best first."""
    return diagnose(reference, candidate, compare(reference, candidate))


def of(loss):
    """A loss of this package as a function from (logits, labels) to (value, gradient)."""
    return value_and_grad(loss)


def original(loss):
    """The record of a loss of this package under its own name."""
    kwargs = {"min_kept": loss.min_kept} if hasattr(loss, "min_kept") else {}
    return recorded(of(loss), target=f"unilossseg:{loss.name}", kwargs=kwargs)


def check(reference, candidate, cause, *words, convincing=True):
    """The best explanation is the cause, and the other way round it blames the other record."""
    best, *_ = explained(reference, candidate)
    assert best.cause == cause, best
    assert (best.certainty == "explains the difference") == convincing, best
    text = f"{best.title} | {best.evidence} | {best.remedy}"
    for word in words:
        assert word in text, text
    assert best.evidence
    assert best.remedy
    back, *_ = explained(candidate, reference)
    assert back.cause == cause, back
    return best


def times(loss, factor, of_value=True):
    """A loss whose gradient, and value unless told otherwise, are off by a factor of (logits, labels)."""

    def function(logits, labels):
        value, gradient = of(loss)(logits, labels)
        number = factor(logits, labels)
        return (value * number if of_value else value), gradient * number

    return function


def softmax(logits, axis=1):
    """Probabilities of the classes."""
    powers = np.exp(logits - logits.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def one_hot(labels, classes):
    """1.0 at each label's class, 0.0 elsewhere and at ignored pixels."""
    shape = (1, classes, *[1] * (labels.ndim - 1))
    return (labels[:, None] == np.arange(classes).reshape(shape)) * 1.0
