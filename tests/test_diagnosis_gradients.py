"""Each known cause is planted, in plain NumPy, and has to be named: gradients, masks and reductions."""

import numpy as np
import pytest
from checks.diagnosis import (
    CASES,
    IGNORED,
    check,
    each_loss,
    explained,
    of,
    one_hot,
    original,
    recorded,
    softmax,
)

from unilossseg import CrossEntropyLoss, DiceLoss


@each_loss
@pytest.mark.parametrize("missing", [True, False])
def test_a_detached_gradient(loss, missing):
    def detached(logits, labels):
        value, gradient = of(loss)(logits, labels)
        return value, None if missing else np.zeros_like(gradient)

    best = check(original(loss), recorded(detached), "detached gradient", "the candidate has no gradient")
    assert set(best.cases) == set(CASES)


@each_loss
def test_ignored_pixels_that_are_trained_as_class_0(loss):
    def unmasked(logits, labels):
        return of(loss)(logits, np.where(labels == IGNORED, 0, labels))

    best = check(original(loss), recorded(unmasked), "ignored pixels not masked", "class 0")
    assert set(best.cases) == {"ignored", "absent", "single"}


def test_ignored_pixels_that_are_trained_by_a_loss_that_nobody_knows():
    def cubes(masked):
        def function(logits, labels):
            mask = (labels != IGNORED)[:, None] if masked else 1.0
            return (mask * logits**4).mean(), mask * 4 * logits**3 / logits.size

        return function

    check(recorded(cubes(True)), recorded(cubes(False)), "ignored pixels not masked", "at ignored pixels")


def test_a_value_for_each_pixel():
    def pixels(logits, labels):
        target = one_hot(labels, logits.shape[1])
        return -(target * np.log(softmax(logits))).sum(axis=1), (softmax(logits) - target) * (labels != IGNORED)[:, None]

    best, *_ = explained(recorded(of(CrossEntropyLoss())), recorded(pixels, upstream=True))
    assert best.cause == "reduction"
    assert "the candidate returns a value for each pixel" in best.title


def test_random_numbers():
    reference = recorded(of(DiceLoss()))

    def noisy(logits, labels):
        value, gradient = of(DiceLoss())(logits, labels)
        draws = np.random.default_rng(0)
        return value * draws.uniform(0.5, 1.5), gradient * draws.uniform(0.5, 1.5, gradient.shape)

    best, *_ = explained(reference, recorded(noisy, repeatable=False))
    assert best.cause == "random numbers"
