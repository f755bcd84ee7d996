"""What has no known cause is called unknown, and every record can be diagnosed."""

import numpy as np
import pytest
from checks.diagnosis import (
    IGNORED,
    explained,
    of,
    recorded,
    softmax,
    times,
)

import unilossseg
from unilossseg import BCELoss, CrossEntropyLoss, DiceLoss, L1Loss, LovaszSoftmaxLoss
from unilossseg.conformance.records.diagnosis import UNKNOWN
from unilossseg.conformance.records.inputs import Recipe, generated
from unilossseg.conformance.records.record import Stored


def test_what_agrees_needs_no_explanation():
    one = recorded(of(DiceLoss()))
    assert explained(one, one) == []


def test_another_loss_is_unknown():
    reference = recorded(of(CrossEntropyLoss()))

    def odd(logits, labels):
        p, mask = softmax(logits), (labels != IGNORED)[:, None]
        slope = 40 * np.cos(40 * p) * mask / p.size
        return (np.sin(40 * p) * mask).mean(), p * (slope - (slope * p).sum(axis=1, keepdims=True))

    (only,) = explained(reference, recorded(odd))
    assert only.cause == UNKNOWN
    assert only.certainty == "no known cause"
    assert "the same: none" in only.evidence


def test_a_single_wrong_pixel_is_unknown():
    def one_off(logits, labels):
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        gradient = gradient.copy()
        gradient[0, :, 3, 3] = [0.1, -0.2, 0.3, -0.4, 0.2]
        return value, gradient

    (only,) = explained(recorded(of(CrossEntropyLoss())), recorded(one_off))
    assert only.cause == UNKNOWN


def test_a_cause_that_should_show_elsewhere_too_is_not_named():
    """Twice as much in one case is the number of images there; but other cases have as many, and agree."""

    def sometimes(logits, labels):
        value, gradient = of(DiceLoss())(logits, labels)
        factor = 2 if (labels == IGNORED).any() and logits.shape[0] == 2 else 1
        return value * factor, gradient * factor

    assert explained(recorded(of(DiceLoss())), recorded(sometimes))[0].cause != "sum in place of mean"


@pytest.mark.parametrize(
    ("loss", "cases"),
    [
        (BCELoss(), generated(Recipe((3, 1, 6)))),
        (CrossEntropyLoss(), generated(Recipe((6, 2)))),
        (DiceLoss(), generated(Recipe((1, 3, 2, 2, 2)))),
        (LovaszSoftmaxLoss(), generated(Recipe((1, 40, 3)))),
    ],
    ids=lambda x: getattr(x, "name", ""),
)
def test_other_shapes_can_be_diagnosed(loss, cases):
    found = explained(recorded(of(loss), cases), recorded(times(loss, lambda z, y: 1 / np.log(2)), cases))
    assert "base of the logarithm" in [explanation.cause for explanation in found]


def test_labels_of_another_kind_can_be_diagnosed():
    draws = np.random.default_rng(0)
    logits = Stored.of(draws.normal(size=(2, 3, 4)).astype(np.float32))
    cases = {"dense": {"logits": logits, "labels": Stored.of(draws.normal(size=(2, 3, 4)).astype(np.float32))}}
    found = explained(recorded(of(L1Loss()), cases), recorded(times(L1Loss(), lambda z, y: y.size), cases))
    assert "entries of the logits" in [explanation.title.partition("number of ")[2] for explanation in found]


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e38, 1e-45, 0.0])
def test_numbers_of_every_kind_can_be_diagnosed(number):
    def odd(logits, labels):
        gradient = np.zeros_like(logits)
        gradient[0] = number
        return number, gradient

    assert explained(recorded(of(CrossEntropyLoss())), recorded(odd))


def test_every_loss_of_this_package_can_be_diagnosed():
    cases = generated(Recipe((2, 2, 8, 8), extras=("edge_logits", "noise")), ["ignored"])
    (inputs,) = cases.values()
    for name in unilossseg.LOSSES:
        target = f"unilossseg:{name}"
        found = explained(
            recorded(of(CrossEntropyLoss()), cases, target=target), recorded(of(DiceLoss()), cases, target=target)
        )
        assert found, name
    assert inputs
