"""Records whose classes are on the last axis are diagnosed as those with the classes on axis 1 are."""

from dataclasses import replace

import numpy as np
import pytest
from checks.diagnosis import CASES, IGNORED, check, explained, of, recorded, softmax

from unilossseg import CrossEntropyLoss
from unilossseg.conformance.records.comparison import compare
from unilossseg.conformance.records.evidence import Evidence
from unilossseg.conformance.records.inputs import Recipe, generated
from unilossseg.conformance.records.record import Stored

LAST = {"data_format": "NHWC"}
TARGET = "unilossseg.torch:CrossEntropyLoss"


def channels_last(cases):
    """Cases with the class axis of the logits moved to the end."""

    def moved(stored):
        return replace(stored, data=np.ascontiguousarray(np.moveaxis(stored.data, 1, -1)))

    return {name: {**inputs, "logits": moved(inputs["logits"])} for name, inputs in cases.items()}


def of_last(function):
    """A function of logits with the classes on axis 1 as one of channels-last logits."""

    def moved(logits, labels):
        value, gradient = function(np.ascontiguousarray(np.moveaxis(logits, -1, 1)), labels)
        return value, np.ascontiguousarray(np.moveaxis(gradient, 1, -1))

    return moved


def mean_of_all(logits, labels):
    value, gradient = of(CrossEntropyLoss())(logits, labels)
    share = (labels != IGNORED).mean()
    return value * share, gradient * share


def twice(logits, labels):
    p = softmax(logits)
    value, slope = of(CrossEntropyLoss())(p, labels)
    return value, p * (slope - (slope * p).sum(axis=1, keepdims=True))


def shifted(logits, labels):
    return of(CrossEntropyLoss())(logits, np.where(labels >= 4, IGNORED, labels + 1))


def reordered(logits, labels):
    order = [1, 0, 2, 3, 4]
    value, gradient = of(CrossEntropyLoss())(np.ascontiguousarray(logits[:, order]), labels)
    return value, np.ascontiguousarray(gradient[:, order])


MISTAKES = [
    (mean_of_all, "ignored pixels in the denominator"),
    (twice, "softmax twice"),
    (shifted, "labels shifted by one"),
    (reordered, "classes in another order"),
]


@pytest.mark.parametrize("names", [["ignored"], ["plain", "ignored", "single"]], ids=len)
@pytest.mark.parametrize(("mistake", "cause"), MISTAKES, ids=[cause for _, cause in MISTAKES])
def test_a_mistake_with_channels_last_is_named(mistake, cause, names):
    cases = channels_last({name: CASES[name] for name in names})
    reference = recorded(of(CrossEntropyLoss(**LAST)), cases, target=TARGET, kwargs=LAST)
    best, *_ = explained(reference, recorded(of_last(mistake), cases))
    assert (best.cause, round(best.score, 2)) == (cause, 1.0)


def test_what_is_said_of_an_axis_says_how_it_is_counted():
    def best(cases, function):
        return explained(recorded(function(of(CrossEntropyLoss())), cases), recorded(function(reordered), cases))[0]

    told = "; axes are counted with the classes, which are last here, on axis 1"
    assert best(channels_last(CASES), of_last).evidence == best(CASES, lambda function: function).evidence + told


def shapes(logits, labels, data_format=None):
    """The shapes of the evidence's logits, labels and gradient, and of its class labels."""
    inputs = {"logits": Stored.of(np.ones(logits, np.float32)), "labels": Stored.of(np.zeros(labels, np.int64))}
    made = recorded(lambda z, y: (1.0, z), {"one": inputs})
    (verdict,) = compare(made, made)
    case = Evidence.of(verdict, IGNORED, data_format)
    known = None if case.labels is None else case.labels.shape
    return case.logits.shape, case.inputs["labels"].shape, case.given.gradient.shape, known


@pytest.mark.parametrize("named", [None, "NCHW", "NHWC", 3, ["NHWC"]])
def test_the_labels_decide_where_the_classes_are(named):
    first, last, pixels = (2, 3, 4, 5), (2, 4, 5, 3), (2, 4, 5)
    assert shapes(first, pixels, named) == (first, pixels, first, pixels)
    assert shapes(first, (2, 1, 4, 5), named) == (first, (2, 1, 4, 5), first, pixels)
    assert shapes(last, pixels, named) == (first, pixels, first, pixels)
    assert shapes(last, (2, 4, 5, 1), named) == (first, (2, 1, 4, 5), first, pixels)
    # An axis of one channel in front of the pixels, as labels for torch have, stands where it belongs.
    assert shapes(last, (2, 1, 4, 5), named) == (first, (2, 1, 4, 5), first, pixels)
    assert shapes((6, 3), (6,), named) == ((6, 3), (6,), (6, 3), (6,))


def test_where_both_fit_what_is_named_decides():
    """As many classes as rows and columns."""
    draws = generated(Recipe((2, 4, 4, 4)))
    last = channels_last(draws)
    for kwargs, cases, moved in ((LAST, last, True), ({}, draws, False), ({"data_format": "NCHW"}, draws, False)):
        reference = recorded(of(CrossEntropyLoss(**kwargs)), cases, target=TARGET, kwargs=kwargs)
        candidate = recorded(of_last(twice) if moved else twice, cases)
        assert explained(reference, candidate)[0].cause == "softmax twice"


def unmasked(logits, labels):
    return of(CrossEntropyLoss())(logits, np.where(labels == IGNORED, 0, labels))


@pytest.mark.parametrize("kwargs", [LAST, {}], ids=["named", "not named"])
def test_labels_with_an_axis_of_one_channel_keep_their_order(kwargs):
    cases = {
        name: {**inputs, "labels": replace(inputs["labels"], data=inputs["labels"].data[:, None])}
        for name, inputs in channels_last(CASES).items()
    }
    reference = recorded(of(CrossEntropyLoss(**LAST)), cases, target=TARGET if kwargs else "my:criterion", kwargs=kwargs)
    best, *_ = explained(reference, recorded(of_last(unmasked), cases))
    assert (best.cause, round(best.score, 2)) == ("ignored pixels not masked", 1.0)


@pytest.mark.parametrize("other", [{}, {"data_format": "NCHW"}], ids=["default", "stated"])
def test_one_loss_that_is_told_two_formats(other):
    """The logits fit both: which of the two is meant, nobody says."""
    cubes = generated(Recipe((2, 4, 4, 4)))
    first, last = (recorded(of(CrossEntropyLoss(**kwargs)), cubes, target=TARGET, kwargs=kwargs) for kwargs in (other, LAST))
    words = "the candidate has data_format='NHWC', the reference data_format='NCHW'"
    check(first, last, "another data_format", words)


def test_labels_for_each_class_are_moved_where_channels_last_is_named():
    assert shapes((2, 4, 5, 3), (2, 4, 5, 3), "NHWC")[:2] == ((2, 3, 4, 5), (2, 3, 4, 5))
    assert shapes((2, 4, 5, 3), (2, 4, 5, 3))[:2] == ((2, 4, 5, 3), (2, 4, 5, 3))
