"""Each known cause is planted, in plain NumPy, and has to be named: a factor on the value and the gradient."""

import numpy as np
import pytest
from checks.diagnosis import (
    IGNORED,
    check,
    drawn,
    each_loss,
    explained,
    of,
    original,
    recorded,
    times,
)

from unilossseg import CrossEntropyLoss, DiceLoss
from unilossseg.conformance.records.diagnosis import UNKNOWN


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
    check(reference, recorded(of(CrossEntropyLoss())), "another weight", "the candidate behaves like weight=None")


@pytest.mark.parametrize("factor", [0.4, 3.7, -1.0])
def test_a_constant_without_a_name(factor):
    other = recorded(times(DiceLoss(), lambda z, y: factor))
    check(recorded(of(DiceLoss())), other, "constant factor", "the candidate is the reference times")


@pytest.mark.parametrize("factor", [0.5, 3.7])
def test_a_scaled_gradient(factor):
    other = recorded(times(DiceLoss(), lambda z, y: factor, of_value=False))
    check(recorded(of(DiceLoss())), other, "gradient scaled", "gradient is the reference's times")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_constant_that_is_another_in_every_case_is_not_named(dtype):
    def one_more(logits, labels):
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        return value + 1, gradient

    def unnormalised(logits, labels):
        value, gradient = of(CrossEntropyLoss(weight=WEIGHTS))(logits, labels)
        number = mean_weight(logits, labels)
        return value * number, gradient * number

    for given, other in ((CrossEntropyLoss(), one_more), (CrossEntropyLoss(weight=WEIGHTS), unnormalised)):
        reference, candidate = (recorded(f, drawn(dtype), dtype=dtype) for f in (of(given), other))
        for pair in ((reference, candidate), (candidate, reference)):
            assert not [found.title for found in explained(*pair) if "times" in found.title]


def test_a_value_and_a_gradient_of_other_factors_have_no_constant_in_common():
    def scaled(logits, labels):
        value, gradient = of(DiceLoss())(logits, labels)
        return 1.5 * value, 1.48 * gradient

    assert "constant factor" not in [found.cause for found in explained(recorded(of(DiceLoss())), recorded(scaled))]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_a_constant_in_another_dtype(dtype):
    given, other = of(DiceLoss()), times(DiceLoss(), lambda z, y: 0.4)
    check(*(recorded(f, drawn(dtype), dtype=dtype) for f in (given, other)), "constant factor", "times 0.4")


def test_a_slightly_different_denominator():
    def other(logits, labels):
        valid = (labels != IGNORED).mean()
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        return value * valid / (valid + 1e-4), gradient * valid / (valid + 1e-4)

    check(recorded(of(CrossEntropyLoss())), recorded(other), "denominator", "epsilon")


def test_a_gradient_that_is_the_same_has_no_other_denominator():
    def other(logits, labels):
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        return value + 1e-7, gradient

    (found,) = explained(*(recorded(f, drawn("float64"), dtype="float64") for f in (of(CrossEntropyLoss()), other)))
    assert found.cause == UNKNOWN
