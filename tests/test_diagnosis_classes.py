"""Each known cause is planted, in plain NumPy, and has to be named: softmax, labels and the order of classes."""

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

from unilossseg import CrossEntropyLoss, DiceLoss, LovaszSoftmaxLoss, OhemCrossEntropyLoss
from unilossseg.conformance.records.inputs import Recipe, generated


@each_loss
def test_softmax_twice(loss):
    def twice(logits, labels):
        p = softmax(logits)
        value, slope = of(loss)(p, labels)
        return value, p * (slope - (slope * p).sum(axis=1, keepdims=True))

    check(original(loss), recorded(twice), "softmax twice", "the candidate applies softmax twice")


def nll_of_logits(logits, labels):
    target, count = one_hot(labels, logits.shape[1]), (labels != IGNORED).sum()
    return -(target * logits).sum() / count, -target / count


def test_no_softmax_in_cross_entropy():
    check(recorded(of(CrossEntropyLoss())), recorded(nll_of_logits), "softmax missing", "the candidate takes logits")


def test_no_softmax_in_dice():
    def raw(logits, labels):
        target, mask = one_hot(labels, logits.shape[1]), (labels != IGNORED)[:, None]
        shared = 2 * (target * logits).sum(axis=(2, 3), keepdims=True)
        total = ((target + logits) * mask).sum(axis=(2, 3), keepdims=True) + 1e-8
        slope = (shared - 2 * target * total) / total**2 * mask
        return (1 - shared / total).mean(), slope / shared.size

    check(recorded(of(DiceLoss())), recorded(raw), "softmax missing", "the candidate takes logits for probabilities")


def test_no_softmax_in_a_loss_that_nobody_knows():
    def unknown(activation, back):
        def function(logits, labels):
            target, mask = one_hot(labels, logits.shape[1]), (labels != IGNORED)[:, None]
            p = activation(logits)
            slope = 3 * np.abs(p - target) ** 2 * np.sign(p - target) * mask
            return (np.abs(p - target) ** 3 * mask).sum(), back(p, slope)

        return function

    reference = unknown(softmax, lambda p, g: p * (g - (g * p).sum(axis=1, keepdims=True)))
    candidate = unknown(lambda z: 1 / (1 + np.exp(-z)), lambda p, g: g * p * (1 - p))
    words = "gradient does not sum to zero over the classes", "(softmax makes it 0)", "a softmax that is missing"
    check(recorded(reference), recorded(candidate), "gradient of single classes", *words, convincing=False)


def test_a_softmax_is_not_called_missing_where_one_class_has_no_gradient():
    def masked(logits, labels):
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        return value, gradient * (np.arange(5) != 2).reshape(1, 5, 1, 1)

    (found,) = explained(recorded(of(CrossEntropyLoss())), recorded(masked))
    assert found.cause == "gradient of single classes"
    assert "no softmax" not in found.title


@pytest.mark.parametrize("axis", [0, 2, 3])
def test_softmax_over_another_axis(axis):
    def other(logits, labels):
        target, count = one_hot(labels, logits.shape[1]), (labels != IGNORED).sum()
        p = softmax(logits, axis)
        value = -(np.log(p) * target).sum() / count
        return value, (p * target.sum(axis=axis, keepdims=True) - target) / count

    cases = {name: inputs for name, inputs in CASES.items() if name != "confident" and not (axis == 0 and name == "single")}
    reference, candidate = recorded(of(CrossEntropyLoss()), cases), recorded(other, cases)
    check(reference, candidate, "wrong class axis", f"softmax over axis {axis}")


@each_loss
def test_logits_that_are_reshaped_in_place_of_transposed(loss):
    def reshaped(logits, labels):
        flat = logits.reshape(-1, logits.shape[1])
        value, gradient = of(loss)(flat, labels.reshape(-1))
        return value, gradient.reshape(logits.shape)

    # Dice of flat pixels is another thing: each pixel would be an image.
    cause = "wrong class axis" if loss.name != "DiceLoss" else None
    found = explained(original(loss), recorded(reshaped))
    assert cause is None or found[0].cause == cause, found


@each_loss
@pytest.mark.parametrize("step", [1, -1])
@pytest.mark.parametrize("end", ["wrap", "ignore", "clip"])
def test_labels_that_are_shifted_by_one(loss, step, end):
    def shifted(logits, labels):
        classes = logits.shape[1]
        moved = labels + step
        outside = (moved < 0) | (moved >= classes)
        if end == "ignore":
            moved = np.where(outside, IGNORED, moved)
        else:
            moved = moved % classes if end == "wrap" else np.clip(moved, 0, classes - 1)
        return of(loss)(logits, np.where(labels == IGNORED, IGNORED, moved))

    words = "one higher" if step > 0 else "one lower"
    check(original(loss), recorded(shifted), "labels shifted by one")
    assert words in explained(original(loss), recorded(shifted))[0].title


def test_labels_that_are_shifted_by_one_in_a_loss_that_nobody_knows():
    def fourth_powers(step):
        def function(logits, labels):
            target = one_hot(np.where(labels == IGNORED, IGNORED, (labels + step) % 5), 5)
            p, mask = softmax(logits), (labels != IGNORED)[:, None]
            slope = 4 * (p - target) ** 3 * mask
            return ((p - target) ** 4 * mask).sum(), p * (slope - (slope * p).sum(axis=1, keepdims=True))

        return function

    check(recorded(fourth_powers(0)), recorded(fourth_powers(1)), "labels shifted by one", "channel", convincing=False)


@pytest.mark.parametrize("loss", [CrossEntropyLoss(), DiceLoss(), LovaszSoftmaxLoss()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (1, 0, 2, 3, 4), (2, 0, 1, 4, 3)])
def test_classes_in_another_order(loss, order):
    def reordered(logits, labels):
        value, gradient = of(loss)(np.ascontiguousarray(logits[:, order]), labels)
        back = np.empty_like(gradient)
        back[:, order] = gradient
        return value, back

    check(original(loss), recorded(reordered), "classes in another order")
    assert ", ".join(map(str, order)) in explained(original(loss), recorded(reordered))[0].title


@each_loss
def test_a_gradient_whose_classes_are_permuted(loss):
    def permuted(logits, labels):
        value, gradient = of(loss)(logits, labels)
        return value, gradient[:, [1, 2, 0, 4, 3]]

    check(original(loss), recorded(permuted), "gradient permuted", "(1, 2, 0, 4, 3)")


@each_loss
def test_a_gradient_in_another_memory_order(loss):
    def relaid(logits, labels):
        value, gradient = of(loss)(logits, labels)
        return value, np.moveaxis(gradient, 1, -1).reshape(gradient.shape)

    best, *_ = explained(original(loss), recorded(relaid))
    assert best.cause == "gradient permuted"
    assert "channels-last" in best.title


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_another_smooth(smooth):
    reference, candidate = recorded(of(DiceLoss(smooth=smooth))), recorded(of(DiceLoss(smooth=1 - smooth)))
    check(reference, candidate, "another smooth", f"the candidate behaves like smooth={1 - smooth}, the reference like")


OURS, THEIRS = "unilossseg.torch:DiceLoss", "paddleseg.models.losses:DiceLoss"


@pytest.mark.parametrize(
    ("reference", "candidate", "words"),
    [
        # What is guessed from the numbers is not stated as if it had been recorded.
        ((OURS, 1.0, True), ("my:dice", 1e-5, False), "the candidate behaves like smooth=0.0, the reference has smooth=1.0"),
        (("my:dice", 1e-5, False), (OURS, 1.0, True), "the candidate has smooth=1.0, the reference behaves like smooth=0.0"),
        ((OURS, 1.0, True), ("my:Dice", 1e-5, True), "the candidate has smooth=1e-05, the reference smooth=1.0"),
        ((OURS, 1.0, True), (OURS, 1e-5, True), "the candidate has smooth=1e-05, the reference smooth=1.0"),
        # The defaults of this package are known, those of another are not.
        ((OURS, 1.0, True), (OURS, 0.0, False), "the candidate has smooth=0.0, the reference smooth=1.0"),
        ((THEIRS, 1.0, False), (OURS, 0.0, False), "the candidate has smooth=0.0, the reference behaves like smooth=1.0"),
    ],
)
def test_a_title_states_only_what_is_recorded(reference, candidate, words):
    made = [
        recorded(of(DiceLoss(smooth=smooth)), target=target, kwargs={"smooth": smooth} if told else {})
        for target, smooth, told in (reference, candidate)
    ]
    best, *_ = explained(*made)
    assert (best.title, best.cause) == (words, "another smooth")


def test_what_a_loss_of_ones_own_is_told_is_tried_first():
    """Of so many pixels the numbers do not tell 0 from 1."""
    cases = generated(Recipe((1, 4, 64, 64)), ["plain", "ignored"])
    made = [recorded(of(DiceLoss(smooth=smooth)), cases, "my:dice", {"smooth": smooth}) for smooth in (1.0, 100.0)]
    check(*made, "another smooth", "the candidate has smooth=100.0, the reference smooth=1.0")


@each_loss
@pytest.mark.parametrize(("ignored", "words"), [(0, "class 0"), (4, "the last class")])
def test_a_class_that_is_ignored(loss, ignored, words):
    def without(logits, labels):
        return of(loss)(logits, np.where(labels == ignored, IGNORED, labels))

    check(original(loss), recorded(without), "a class is ignored", f"the candidate ignores {words}")


def test_dice_over_the_batch():
    def joined(logits, labels):
        flat = np.moveaxis(logits, 1, 0)
        value, slope = of(DiceLoss())(flat.reshape(1, flat.shape[0], -1), labels.reshape(1, -1))
        return value, np.moveaxis(slope.reshape(flat.shape), 0, 1)

    best = check(original(DiceLoss()), recorded(joined), "over the batch", "takes all images of the batch together")
    assert "single" not in best.cases


def test_another_variant():
    reference = recorded(
        of(OhemCrossEntropyLoss(min_kept=20)), target="unilossseg:OhemCrossEntropyLoss", kwargs={"min_kept": 20}
    )
    loss = OhemCrossEntropyLoss(min_kept=20, variant="corrected")
    check(reference, original(loss), "another variant", "variant='corrected'")
