"""What a user's loss lets through: its parameters, its labels and the maps that go with them, on every framework."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from checks.cases import CE, IGNORED, WEIGHT, Batch, batch_for
from checks.compare import assert_close, reference_of

import unilossseg
from unilossseg.building import average, choice, class_values, flag, integer, number, softmax, split_labels, total, weights
from unilossseg.building import pixel_cross_entropy as cross_entropy


@dataclass(eq=False)
class SurfaceLoss(unilossseg.Loss):
    """The mean of probability times signed distance to the boundary; its labels are maps of distances."""

    class_labels = False

    def compute(self, ops, logits, labels):
        return average(ops, softmax(ops, logits) * ops.xp.astype(labels, logits.dtype))


@dataclass(eq=False)
class MappedLoss(unilossseg.Loss):
    """The same, of distances that come beside class labels."""

    call_inputs = ("distances",)

    def check_input(self, backend, name, logits, labels, value):
        return value

    def compute(self, ops, logits, labels, distances):
        return average(ops, softmax(ops, logits) * distances)


@dataclass(eq=False)
class UncheckedLoss(unilossseg.Loss):
    """A cross entropy with class weights that nobody has looked at."""

    weight: Any = None
    ignore_index: int = IGNORED

    def compute(self, ops, logits, labels):
        pixels = split_labels(ops, labels, self.ignore_index)
        weight = class_values(ops, ops.constant(self.weight, logits), pixels.index)
        losses = weight * cross_entropy(ops, logits, pixels)
        return total(ops, losses) / total(ops, ops.xp.where(pixels.valid, weight, ops.xp.zeros_like(weight)))


@dataclass(eq=False)
class CheckedLoss(UncheckedLoss):
    """With the checks of `unilossseg.building`."""

    smooth: float = 0.5
    kept: int = 1
    per_image: bool = False
    reduction: str = "mean"

    parameter_checks = {  # noqa: RUF012  as a user writes it
        "weight": weights,
        "smooth": partial(number, above=0, at_most=1),
        "kept": partial(integer, at_least=1),
        "per_image": flag,
        "reduction": partial(choice, options=("mean", "sum")),
    }


def distances_for(batch):
    """A signed number for each logit."""
    return np.random.default_rng(3).normal(size=batch.logits.shape) * 3


def surface(batch, distances):
    """Value and gradient."""
    powers = np.exp(batch.logits)
    p = powers / powers.sum(axis=1, keepdims=True)
    weighted = p * distances
    return weighted.mean(), (weighted - p * weighted.sum(axis=1, keepdims=True)) / p.size


# ---------------------------------------------------------------------------------------------------- labels and maps
@pytest.mark.parametrize("integers", [False, True])
def test_labels_that_name_no_class_are_numbers_in_the_logits_shape(driver, integers):
    batch = batch_for(CE)
    distances = distances_for(batch)
    if integers:
        distances = np.round(distances).astype(np.int64)
    value, gradient = surface(batch, distances)
    maps = Batch(batch.logits, distances)
    assert_close(driver.value(SurfaceLoss(), maps), value, 1e-12)
    assert_close(driver.value(SurfaceLoss(), maps, "float32"), value, 1e-5)
    if driver.autograd:
        assert_close(driver.value_and_gradient(SurfaceLoss(), maps)[1], gradient, 1e-12)


def test_other_labels_need_a_check_of_their_own(driver):
    batch = batch_for(CE)
    distances = distances_for(batch)
    with pytest.raises(
        ValueError, match=r"^SurfaceLoss: labels have shape \(2, 4, 5\), expected \(2, 3, 4, 5\), the shape of"
    ):
        driver.value(SurfaceLoss(), batch)
    with pytest.raises(
        TypeError, match=r"^SurfaceLoss: labels have dtype .*bool, expected a floating or integer dtype: cast"
    ):
        driver.value(SurfaceLoss(), Batch(batch.logits, distances > 0))

    class Inside(SurfaceLoss):
        def check_labels(self, backend, logits, labels):
            return labels

    value, _ = surface(batch, distances > 0)
    assert_close(driver.value(Inside(), Batch(batch.logits, distances > 0)), value, 1e-12)


def test_a_map_in_the_logits_shape_goes_through_a_check_of_its_own(driver):
    batch = batch_for(CE, ignored=0.0)
    distances = distances_for(batch)
    value, gradient = surface(batch, distances)
    mapped = batch.changed(further={"distances": distances})
    assert_close(driver.value(MappedLoss(), mapped), value, 1e-12)
    if driver.autograd:
        assert_close(driver.value_and_gradient(MappedLoss(), mapped)[1], gradient, 1e-12)


# ---------------------------------------------------------------------------------------------------- parameters
@pytest.mark.parametrize("kind", ["tuple", "list", "array", "own array"])
@pytest.mark.parametrize("length", [1, 2, 4, 5])
def test_as_many_class_weights_as_channels_in_whatever_they_come(driver, kind, length):
    numbers = [float(c + 1) for c in range(length)]
    make = {"tuple": tuple, "list": list, "array": np.array, "own array": lambda x: driver.array(np.array(x))}[kind]
    expected = rf"^UncheckedLoss: weight has {length} entries and logits have 3 channels: expected one weight per class"
    with pytest.raises(ValueError, match=expected):
        driver.value(UncheckedLoss(weight=make(numbers)), batch_for(CE))


@pytest.mark.parametrize("weight", [2.0, np.float64(2.0), np.ones((1, 3, 1)), "median", None])
def test_what_is_no_list_of_class_weights_is_left_to_the_loss(driver, weight):
    class Own(UncheckedLoss):
        def compute(self, ops, logits, labels):
            assert self.weight is weight
            return total(ops, logits)

    batch = batch_for(CE)
    assert_close(driver.value(Own(weight=weight), batch), batch.logits.sum(), 1e-12)


@pytest.mark.parametrize("kind", ["tuple", "list", "array", "own array"])
def test_class_weights_are_kept_as_a_tuple(driver, kind):
    batch = batch_for(CE)
    make = {"tuple": tuple, "list": list, "array": np.array, "own array": lambda x: driver.array(np.array(x))}[kind]
    loss = CheckedLoss(weight=make(WEIGHT))
    assert loss.weight == tuple(WEIGHT)
    expected, _ = reference_of(CE, {"weight": WEIGHT, "variant": "corrected"}, batch)
    assert_close(driver.value(loss, batch), expected, 1e-7)


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"weight": [1, -2, float("nan")]}, ValueError, r"weight\[1\] must be a finite number at least 0 \(got -2\)"),
        ({"weight": 1.0}, TypeError, "weight must be a sequence or 1-D array of finite numbers at least 0"),
        ({"smooth": 0}, ValueError, r"smooth must be a finite number above 0 and at most 1 \(got 0\)"),
        ({"kept": 0}, ValueError, r"kept must be an integer at least 1 \(got 0\)"),
        ({"kept": 1.5}, TypeError, "kept must be an integer at least 1"),
        ({"kept": np.True_}, TypeError, "kept must be an integer at least 1"),
        ({"smooth": np.True_}, TypeError, "smooth must be a finite number above 0"),
        ({"smooth": np.complex128(0.5 + 1j)}, TypeError, "smooth must be a finite number above 0"),
        ({"per_image": 1}, TypeError, "per_image must be True or False"),
        ({"reduction": "avg"}, ValueError, r"reduction must be 'mean' or 'sum' \(got 'avg'\)"),
    ],
)
def test_the_public_checks_name_the_loss_and_the_parameter(given, error, words):
    with pytest.raises(error, match=f"^CheckedLoss: {words}"):
        CheckedLoss(**given)
