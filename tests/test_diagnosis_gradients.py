"""Each known cause is planted, in plain NumPy, and has to be named: gradients, masks and reductions."""

from dataclasses import replace

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
from unilossseg.conformance.records.record import Stored


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


@pytest.mark.parametrize("missing", [True, False])
@pytest.mark.parametrize("ignored", [True, False])
def test_a_reference_without_a_gradient_is_not_the_candidates_ignored_pixels(missing, ignored):
    def detached(logits, labels):
        return of(CrossEntropyLoss())(logits, labels)[0], None if missing else np.zeros_like(logits)

    def trained(logits, labels):
        return of(CrossEntropyLoss())(logits, np.where(labels == IGNORED, 0, labels) if ignored else labels)

    found = {one.title: one for one in explained(recorded(detached, MASKED), recorded(trained, MASKED))}
    assert "the reference has no gradient" in found
    for title, one in found.items():
        assert title == "the reference has no gradient" or one.certainty == "may play a part"
    assert ignored or len(found) == 1


MASKED = {name: inputs for name, inputs in CASES.items() if name in ("ignored", "absent", "single")}
NOTHING = {**CASES["plain"], "labels": Stored.of(np.full((2, 8, 9), IGNORED))}


@each_loss
def test_a_batch_that_is_all_ignored_and_trained(loss):
    def unmasked(logits, labels):
        return of(loss)(logits, np.where(labels == IGNORED, 0, labels))

    reference, candidate = (recorded(function, {"nothing": NOTHING}) for function in (of(loss), unmasked))
    check(reference, candidate, "ignored pixels not masked")


@each_loss
def test_a_batch_that_is_all_ignored(loss):
    def without_a_count(logits, labels):
        found = of(loss)(logits, labels)
        return found if (labels != IGNORED).any() else (np.nan, np.full_like(logits, np.nan))

    cases = {**CASES, "nothing": NOTHING}
    reference, candidate = recorded(of(loss), cases), recorded(without_a_count, cases)
    best = check(reference, candidate, "mean over no pixel", "the candidate is NaN", "0 ÷ 0", "the reference is 0 (nothing)")
    assert best.cases == ("nothing",)
    assert len(explained(reference, candidate)) == 1


def test_a_value_for_each_pixel():
    def pixels(logits, labels):
        target = one_hot(labels, logits.shape[1])
        return -(target * np.log(softmax(logits))).sum(axis=1), (softmax(logits) - target) * (labels != IGNORED)[:, None]

    best, *_ = explained(recorded(of(CrossEntropyLoss())), recorded(pixels, upstream=True))
    assert best.cause == "reduction"
    assert "the candidate returns a value for each pixel" in best.title


IMAGES = {name: inputs for name, inputs in CASES.items() if name != "single"}


def in_two_parts(weights, *, listed=False):
    """Cross entropy and Dice, several numbers, and the gradient of their sum."""

    def function(logits, labels):
        parts = [of(loss)(logits, labels) for loss in (CrossEntropyLoss(), DiceLoss())]
        slopes = sum(weight * slope for weight, (_, slope) in zip(weights, parts, strict=True))
        return np.stack([weight * value for weight, (value, _) in zip(weights, parts, strict=True)]), slopes

    made = recorded(function)
    return replace(made, cases=tuple(replace(case, listed=listed) for case in made.cases))


@pytest.mark.parametrize(("way", "number"), [("sum", 1.0), ("mean", 0.5)])
def test_a_list_of_losses(way, number):
    def one(logits, labels):
        parts = [of(loss)(logits, labels) for loss in (CrossEntropyLoss(), DiceLoss())]
        return number * sum(value for value, _ in parts), sum(slope for _, slope in parts)

    best = check(recorded(one), in_two_parts((1.0, 1.0), listed=True), "reduction", "Add the losses up", 'reduction="sum"')
    assert best.title == f"the candidate returns a list of losses, whose {way} is the reference's value"
    assert "pixel" not in best.title + best.evidence + best.remedy


def test_a_list_of_losses_that_is_no_sum_is_not_named():
    found = explained(recorded(of(CrossEntropyLoss())), in_two_parts((1.0, 1.0), listed=True))
    assert "reduction" not in [one.cause for one in found]


@pytest.mark.parametrize("images", [True, False])
def test_several_values_that_are_no_pixels(images):
    def each(logits, labels):
        values, slopes = zip(
            *(of(DiceLoss())(logits[i : i + 1], labels[i : i + 1]) for i in range(len(logits))), strict=True
        )
        values = np.stack(values) if images else np.stack([sum(values) / len(values)] * 4)
        return values, np.concatenate(slopes) / len(values)

    best, *_ = explained(recorded(of(DiceLoss()), IMAGES), recorded(each, IMAGES))
    words = "a value for each image" if images else "several values"
    assert best.title == f"the candidate returns {words}, the reference one number"


def test_random_numbers():
    reference = recorded(of(DiceLoss()))

    def noisy(logits, labels):
        value, gradient = of(DiceLoss())(logits, labels)
        draws = np.random.default_rng(0)
        return value * draws.uniform(0.5, 1.5), gradient * draws.uniform(0.5, 1.5, gradient.shape)

    best, *_ = explained(reference, recorded(noisy, repeatable=False))
    assert best.cause == "random numbers"
