"""Cross entropies of pixels whose class leads by far: value and gradient are small, and have all their digits."""

from __future__ import annotations

import numpy as np
import pytest
from checks.cases import Batch

#: By how much the label's logit, or the two that are near, lead the others.
LEADS = (0.0, 0.5, 3.0, 8.0, 12.0, 16.0, 17.0, 25.0, 40.0, 80.0)
#: Relative: roundings of an exponential, whose argument is exact here, a logarithm, sums and products.
PRECISION = {"float32": 1e-6, "float64": 1e-14}
#: With few pixels each of them is among the hard ones.
LOSSES = [
    ("CrossEntropyLoss", {}),
    ("CrossEntropyLoss", {"top_k_percent_pixels": 0.5}),
    ("CrossEntropyLoss", {"weight": (2.0, 0.5, 1.0)}),
    ("BootstrappedCrossEntropyLoss", {"min_K": 10, "loss_th": 0.5}),
    ("OhemCrossEntropyLoss", {}),
    ("RelaxBoundaryLoss", {}),
]


def one_pixel(lead):
    """Its class leads two others."""
    return Batch(np.array([0.0, -lead, -lead]).reshape(1, 3, 1, 1), np.zeros((1, 1, 1), np.int64))


def two_pixels(lead):
    """Each is near the other, so that it may have the class of either; the third one lags."""
    logits = np.repeat(np.array([0.0, 0.0, -lead]), 2).reshape(1, 3, 1, 2)
    return Batch(logits, np.array([[[0, 1]]]))


def check(driver, loss, dtype, batch_of, others):
    """`others` is what the powers of the others add up to beside those that lead, at a lead of 0.

    How much pixels weigh in a loss, and in what number of them it is divided, is in what it gives at that lead.
    """
    made = driver.make(*loss)
    value, gradient = driver.value_and_gradient(made, batch_of(0.0), "float64")
    by, first = value / np.log1p(others), (slice(None), 2)
    for lead in LEADS:
        power = others * np.exp(-lead)
        found, slopes = driver.value_and_gradient(made, batch_of(lead), dtype)
        np.testing.assert_allclose(found, by * np.log1p(power), rtol=PRECISION[dtype], err_msg=f"value, lead {lead}")
        share = power / (1 + power) * (1 + others) / others
        np.testing.assert_allclose(slopes, gradient * share, rtol=PRECISION[dtype], err_msg=f"gradient, lead {lead}")
        assert np.all(slopes[first] > 0)


dtypes = pytest.mark.parametrize("dtype", list(PRECISION))


@dtypes
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_a_confident_pixel_keeps_its_digits(driver, loss, dtype):
    with driver.closed():
        check(driver, loss, dtype, one_pixel, others=2.0)


@dtypes
def test_a_pixel_that_is_sure_of_two_near_classes_keeps_its_digits(driver, dtype):
    with driver.closed():
        check(driver, ("RelaxBoundaryLoss", {}), dtype, two_pixels, others=0.5)


def test_the_classes_that_are_near_may_be_far_below(driver):
    """Their powers have left float32: the loss is the distance, the slopes are those of the two softmaxes."""
    logits = np.array([-300.0, -301.0, 0.0, -2.0]).reshape(1, 4, 1, 1).repeat(2, axis=3)
    with driver.closed():
        value, gradient = driver.value_and_gradient(
            driver.make("RelaxBoundaryLoss", {"variant": "corrected"}), Batch(logits, np.array([[[0, 1]]])), "float32"
        )
    near, far = np.log(1 + np.exp(-1.0)), np.log(1 + np.exp(-2.0))
    np.testing.assert_allclose(value, 300 + far - near, rtol=1e-6)
    e = np.exp([0.0, -1.0, 0.0, -2.0])
    exact = np.concatenate([-e[:2] / e[:2].sum(), e[2:] / e[2:].sum()]) / 2
    np.testing.assert_allclose(gradient[0, :, 0, 0], exact, rtol=1e-6)
