"""Each known cause is planted, in plain NumPy, and has to be named: a factor on the value and the gradient."""

import numpy as np
import pytest
from checks.diagnosis import (
    IGNORED,
    check,
    each_loss,
    explained,
    of,
    original,
    recorded,
    times,
)

from unilossseg import CrossEntropyLoss, DiceLoss


def valid_share(logits, labels):
    return (labels != IGNORED).mean()


@each_loss
def test_denominators_that_count_ignored_pixels(loss):
    best = check(
        original(loss),
        recorded(times(loss, valid_share)),
        "ignored pixels in the denominator",
        "the candidate divides by all pixels",
        "valid pixels ÷ all pixels",
    )
    assert set(best.cases) == {"ignored", "absent", "single"}


COUNTS = {
    "valid pixels": lambda z, y: (y != IGNORED).sum(),
    "pixels of the batch": lambda z, y: y.size,
    "images": lambda z, y: z.shape[0],
    "pixels of an image": lambda z, y: y[0].size,
    "classes": lambda z, y: z.shape[1],
    "entries of the logits": lambda z, y: z.size,
    "valid pixels times classes": lambda z, y: (y != IGNORED).sum() * z.shape[1],
    "images times classes": lambda z, y: z.shape[0] * z.shape[1],
}


@pytest.mark.parametrize("words", COUNTS)
def test_sums_in_place_of_means(words):
    reference, candidate = (recorded(f) for f in (of(CrossEntropyLoss()), times(CrossEntropyLoss(), COUNTS[words])))
    best = check(reference, candidate, "sum in place of mean", "the candidate sums where the reference takes a mean")
    assert best.title.endswith(f"the number of {words}")
    assert explained(candidate, reference)[0].title.startswith("the reference sums")


@each_loss
@pytest.mark.parametrize("base", [2, 10])
def test_logarithms_to_another_base(loss, base):
    other = recorded(times(loss, lambda z, y: 1 / np.log(base)))
    check(original(loss), other, "base of the logarithm", f"base {base}")


WEIGHTS = [0.5, 2.0, 1.0, 3.0, 0.25]


def mean_weight(logits, labels):
    return np.asarray(WEIGHTS)[labels[labels != IGNORED]].mean()


def test_class_weights_that_are_not_normalised():
    loss = CrossEntropyLoss(weight=WEIGHTS)
    kwargs = {"weight": WEIGHTS}
    reference = recorded(of(loss), kwargs=kwargs)
    candidate = recorded(times(loss, mean_weight), kwargs=kwargs)
    check(reference, candidate, "class weights not normalised", "the candidate does not divide by the class weights")


def test_class_weights_that_are_missing():
    reference = recorded(of(CrossEntropyLoss(weight=WEIGHTS)), kwargs={"weight": WEIGHTS})
    check(reference, recorded(of(CrossEntropyLoss())), "another weight", "the candidate has weight=None")


@pytest.mark.parametrize("factor", [0.4, 3.7, -1.0])
def test_a_constant_without_a_name(factor):
    other = recorded(times(DiceLoss(), lambda z, y: factor))
    check(recorded(of(DiceLoss())), other, "constant factor", "the candidate is the reference times")


@pytest.mark.parametrize("factor", [0.5, 3.7])
def test_a_scaled_gradient(factor):
    other = recorded(times(DiceLoss(), lambda z, y: factor, of_value=False))
    check(recorded(of(DiceLoss())), other, "gradient scaled", "gradient is the reference's times")


def test_a_slightly_different_denominator():
    def other(logits, labels):
        valid = (labels != IGNORED).mean()
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        return value * valid / (valid + 1e-4), gradient * valid / (valid + 1e-4)

    check(recorded(of(CrossEntropyLoss())), recorded(other), "denominator", "epsilon")
