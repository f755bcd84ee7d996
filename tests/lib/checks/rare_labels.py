"""BCELoss where one label is rare: what labels 0 and 1 weigh then differs much, and neither takes digits from the other."""

from __future__ import annotations

import numpy as np
import pytest
from checks import plain_loops as plain
from checks.cases import BCE, Batch

#: No power of two: shares of it have digits to lose.
SIDE = 500
#: Of what an element weighs: roundings of float32, and of bfloat16 one more.
PRECISION = {"float32": 1e-6, "bfloat16": 1e-6 + 2.0**-8}
#: 'dynamic', or one number that is small beside the 1 of the other labels.
WEIGHTS = [
    {"weight": "dynamic"},
    {"pos_weight": "dynamic"},
    {"weight": "dynamic", "pos_weight": "dynamic"},
    {"pos_weight": 1e-3},
    {"pos_weight": 1e-6},
    {"weight": "dynamic", "pos_weight": 1e-6},
]


def rare_batch(rare, count, soft=False, side=SIDE):
    """Labels of which so many are `rare`, 0 or 1, and the others are the other one; a quarter may lie between."""
    rng = np.random.default_rng(count)
    labels = np.full(side * side, 1.0 - rare)
    labels[rng.permutation(labels.size)[:count]] = rare
    if soft:
        between = (rng.random(labels.shape) < 0.25) & (labels != rare)
        labels = np.where(between, rng.integers(1, 64, labels.shape) / 64, labels)
    shape = (1, 1, side, side)
    return Batch(rng.normal(size=shape), labels.reshape(shape) if soft else labels.reshape(shape).astype(np.int64))


def exact_loss(logits, labels, weight=None, pos_weight=None):
    """The value and the gradient in float64, and what each element weighs in them."""
    positives, negatives = np.sum(labels == 1), np.sum(labels == 0)
    whole, share = positives + negatives + 1e-10, 1 / labels.size
    by_label = (2 * positives / whole, 2 * negatives / whole) if weight == "dynamic" else (1.0, 1.0)
    factor = {"dynamic": 2 * negatives / whole, None: 1.0}.get(pos_weight, pos_weight)
    value, slopes = plain.binary_cross_entropy(logits, labels, 255, by_label, share, factor)
    weighs = (by_label[0] * (1 - labels) + by_label[1] * labels) * ((1 - labels) + factor * labels)
    return value * share, slopes, weighs * share


def check_rare(driver, options, batch, dtype):
    """A call's value and gradient against float64: each element is held to a few roundings of what itself weighs."""
    logits, labels, _ = driver.inputs(batch, dtype)
    exact, slopes, weighs = exact_loss(*(driver.numpy(x).astype(np.float64) for x in (logits, labels)), **options)
    value, gradient = driver.value_and_gradient(driver.make(BCE, options), batch, dtype)
    np.testing.assert_allclose(value, exact, rtol=1e-6, atol=0)
    assert np.max(np.abs(gradient.astype(np.float64) - slopes) / weighs) <= PRECISION[dtype]


each_way = pytest.mark.parametrize("way", ["closed", "plain"])
each_weight = pytest.mark.parametrize("options", WEIGHTS, ids=str)


@pytest.mark.parametrize(("rare", "count"), [(0, 1), (0, 3), (0, 50), (1, 1)])
@each_weight
@each_way
def test_a_rare_label_takes_no_digits(driver, options, rare, count, way):
    with getattr(driver, way)():
        check_rare(driver, options, rare_batch(rare, count), "float32")


@each_weight
@each_way
def test_soft_labels_beside_a_rare_one(driver, options, way):
    with getattr(driver, way)():
        check_rare(driver, options, rare_batch(0, 3, soft=True), "float32")


@each_way
def test_a_rare_label_in_half_precision(driver, way):
    driver.has("bfloat16")
    with getattr(driver, way)():
        check_rare(driver, WEIGHTS[0], rare_batch(0, 1), "bfloat16")
