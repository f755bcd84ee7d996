"""Exactly at a threshold, at a kink or at a tie: what is declared, in every framework and either way of computing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from checks.cases import BOOT, CE, CORRECTED, DUAL, EDGE, HINGE, L1, LOVASZ, MSE, OHEM, OHEM_EDGE, Batch
from checks.compare import assert_close, reference_of
from checks.variants import odds

LOG2, LOG4 = math.log(2), math.log(4)
both_ways = pytest.mark.parametrize("way", ["closed", "plain"])


def evaluate(driver, way, loss, options, logits, labels, **further):
    """Value and gradient of either way."""
    batch = Batch(np.asarray(logits, dtype=np.float64), np.asarray(labels), further)
    with getattr(driver, way)():
        return driver.value_and_gradient(driver.make(loss, options), batch)


# ---- thresholds


@both_ways
@pytest.mark.parametrize("loss", [OHEM, OHEM_EDGE])
def test_ohem_keeps_everything_if_no_more_is_valid_than_it_must_keep(driver, way, loss):
    logits, labels = odds(1, 3, 1, 1), [[0, 0, 255, 255]]
    edges = {"edge_logits": np.ones((1, 1, 4))} if loss == OHEM_EDGE else {}
    value, _ = evaluate(driver, way, loss, {"thresh": 0.1, "min_kept": 2}, logits, labels, **edges)
    assert value == pytest.approx(1.5 * LOG2, rel=1e-4)
    # With one more, the second smallest probability is the limit, and only what lies below it is kept.
    value, _ = evaluate(driver, way, loss, {"thresh": 0.1, "min_kept": 2}, logits, [[0, 0, 1, 255]], **edges)
    assert value == pytest.approx(LOG4, rel=1e-4)


@both_ways
@pytest.mark.parametrize(("edge", "counts"), [(0.5, False), (np.nextafter(0.5, 1), True), (0.0, False), (9.0, True)])
def test_an_edge_logit_must_exceed_the_threshold(driver, way, edge, counts):
    for loss, options in ((EDGE, {}), (OHEM_EDGE, {"min_kept": 0})):
        options = {**options, "edge_threshold": 0.5}
        value, gradient = evaluate(driver, way, loss, options, odds(1), [[0]], edge_logits=np.full((1, 1, 1), edge))
        assert value == pytest.approx(LOG2 if counts else 0.0, rel=1e-9)
        assert bool(np.any(gradient)) is counts


@both_ways
def test_a_hard_pixel_exceeds_the_threshold(driver, way):
    # The first loss is the threshold to the last bit: one pixel alone is hard, and one is more than none.
    value, gradient = evaluate(driver, way, BOOT, {"min_K": 0, "loss_th": LOG2}, odds(1, 3), [[0, 0]])
    assert value == pytest.approx(LOG4, rel=1e-12)
    assert not np.any(gradient[0, :, 0])


@both_ways
@pytest.mark.parametrize(
    ("share", "pixels", "kept"), [(0.29, 100, 29), (0.3, 10, 3), (0.7, 10, 7), (0.999, 10, 9), (0.05, 10, 1)]
)
def test_the_share_of_pixels_is_rounded_down_in_float32(driver, way, share, pixels, kept):
    # 0.29 * 100 is 28.999999999999996 in float64.
    logits, labels = odds(*np.linspace(1, 5, pixels)), [[0] * pixels]
    for options in ({}, CORRECTED):
        _, gradient = evaluate(driver, way, CE, {"top_k_percent_pixels": share, **options}, logits, labels)
        assert np.count_nonzero(gradient[0, 0]) == kept
        assert np.all(gradient[0, 0, pixels - kept :])


# ---- kinks


@both_ways
def test_the_hinge_has_no_slope_at_its_kink(driver, way):
    # The first pixel's error is 0 exactly; the loss of the second has the weight 1/2.
    value, gradient = evaluate(driver, way, HINGE, {}, [[[1.0, 0.5]]], [[1, 1]])
    assert value == 0.25
    np.testing.assert_array_equal(gradient, [[[0.0, -0.5]]])


@both_ways
def test_an_absolute_value_has_no_slope_at_its_kink(driver, way):
    value, gradient = evaluate(driver, way, L1, {"reduction": "sum"}, [[1.0, 2.0, 3.0]], [[1.0, 0.0, 4.0]])
    assert value == 3
    np.testing.assert_array_equal(gradient, [[0.0, 1.0, -1.0]])
    value, gradient = evaluate(driver, way, MSE, {"reduction": "sum"}, [[1.0, 2.0]], [[1.0, 0.0]])
    np.testing.assert_array_equal(gradient, [[0.0, 4.0]])


@both_ways
def test_lovasz_softmax_has_no_slope_where_it_is_right_for_sure(driver, way):
    logits = np.array([[[1000.0, 0.0], [0.0, 0.0]]])
    value, gradient = evaluate(driver, way, LOVASZ, {}, logits, [[0, 0]])
    assert value == 0.25
    assert not np.any(gradient[0, :, 0])
    assert np.all(gradient[0, :, 1])


# ---- ties


@both_ways
def test_of_equally_hard_pixels_the_first_are_taken(driver, way):
    logits, labels = odds(1, 1, 1, 1, 1), [[0] * 5]
    _, gradient = evaluate(driver, way, CE, {"top_k_percent_pixels": 0.4}, logits, labels)
    np.testing.assert_array_equal(np.flatnonzero(gradient[0, 0]), [0, 1])
    _, gradient = evaluate(driver, way, BOOT, {"min_K": 3, "loss_th": 9.0}, logits, labels)
    np.testing.assert_array_equal(np.flatnonzero(gradient[0, 0]), [0, 1, 2])


@both_ways
def test_of_equal_errors_the_first_comes_first(driver, way):
    # Two foreground pixels and one background pixel of error 1: weights 1/2, 1/2 and 0 in that order.
    value, gradient = evaluate(driver, way, HINGE, {}, [[[0.0, 0.0, 0.0]]], [[1, 1, 0]])
    assert value == 1
    np.testing.assert_array_equal(gradient, [[[-0.5, -0.5, 0.0]]])
    # The background pixel first: I/U falls from 1 to 2/3, then to 1/3 and 0.
    _, gradient = evaluate(driver, way, HINGE, {}, [[[0.0, 0.0, 0.0]]], [[0, 1, 1]])
    np.testing.assert_allclose(gradient, [[[1 / 3, -1 / 3, -1 / 3]]], rtol=1e-15)


@both_ways
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("loss", "options"),
    [
        (LOVASZ, {}),
        (LOVASZ, {"classes": "all"}),
        (HINGE, {}),
        (HINGE, CORRECTED),
        (CE, {"top_k_percent_pixels": 0.3}),
        (BOOT, {"min_K": 20, "loss_th": 9.0}),
        (BOOT, {"min_K": 20, "loss_th": 9.0, **CORRECTED}),
        (OHEM, {"min_kept": 20, "thresh": 0.1}),
        (OHEM, {"min_kept": 20, "thresh": 0.1, **CORRECTED}),
    ],
)
def test_many_ties_have_the_reference_s_gradient(driver, way, loss, options, dtype):
    # Three values of a difference of two logits, all exact: equal pixels have equal errors in any arithmetic.
    rng = np.random.default_rng(5)
    logits = np.zeros((3, 2, 8, 9))
    logits[:, 1] = rng.choice([-2.0, 0.0, 1.0], size=(3, 8, 9))
    labels = rng.choice([0, 1, 255], p=[0.45, 0.45, 0.1], size=(3, 8, 9))
    batch = Batch(logits, labels)
    with getattr(driver, way)():
        value, gradient = driver.value_and_gradient(driver.make(loss, options), batch, dtype)
    exact_value, exact = reference_of(loss, options, batch)
    tolerance = 2e-6 if dtype == "float32" else 1e-12
    assert_close(value, exact_value, tolerance)
    assert_close(gradient, exact, tolerance)


@both_ways
def test_a_maximum_shares_its_gradient_among_ties(driver, way):
    # The same image twice: the largest edge is there twice, and each image gets half of what it would alone.
    rng = np.random.default_rng(6)
    logits, labels, noise = rng.normal(size=(1, 3, 5, 6)), rng.integers(0, 3, size=(1, 5, 6)), rng.random((1, 3, 5, 6))
    value, alone = evaluate(driver, way, DUAL, {}, logits, labels, noise=noise)
    doubled, gradient = evaluate(
        driver, way, DUAL, {}, np.concatenate([logits] * 2), np.concatenate([labels] * 2), noise=np.concatenate([noise] * 2)
    )
    assert doubled == pytest.approx(value, rel=1e-12)
    assert_close(gradient, np.concatenate([alone] * 2) / 2, 1e-10)
