"""The float64 reference where nothing counts, at ties, kinks and extremes, and values by hand."""

import math

import numpy as np
import pytest
from checks.cases import BOOT, CE, CORRECTED, IGNORED, named
from checks.reference_calls import CASES, logits_with_odds, random_batch, value_of

from unilossseg.conformance.reference import value_and_gradient
from unilossseg.conformance.reference.dual_task import triangle_matrix


@pytest.mark.parametrize("case", CASES, ids=named)
def test_an_ignored_batch_is_exactly_zero(case):
    loss, parameters = case
    parameters = dict(parameters)
    logits, labels = random_batch(seed=19)
    labels[...] = parameters.get("ignore_index", IGNORED)
    rng = np.random.default_rng(20)
    further = {"edge_logits": 2 * rng.random((2, 1, 4, 5)), "noise": rng.random(logits.shape)}
    if parameters.pop("semantic_weights", False):
        further["semantic_weights"] = rng.random(labels.shape)
    value, gradient = value_and_gradient(loss, parameters, logits, labels, **further)
    assert not value.any()
    assert not gradient.any()


@pytest.mark.parametrize("parameters", [{}, CORRECTED], ids=str)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("loss", ["LovaszHingeLoss", "LovaszSoftmaxLoss", "BCELoss"])
def test_an_ignored_binary_batch_is_exactly_zero(loss, channels, parameters):
    logits = np.random.default_rng(21).normal(size=(2, channels, 3, 3))
    value, gradient = value_and_gradient(loss, parameters, logits, np.full((2, 3, 3), IGNORED))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("loss", "parameters"), [("L1Loss", {}), ("MSELoss", CORRECTED)])
def test_an_ignored_regression_batch_is_exactly_zero(loss, parameters, reduction):
    logits = np.ones((2, 3))
    value, gradient = value_and_gradient(loss, {"reduction": reduction, **parameters}, logits, np.full((2, 3), 255.0))
    assert not value.any()
    assert not gradient.any()


def test_nothing_counts_where_every_pixel_is_off_the_edges():
    logits, labels = random_batch(seed=22)
    for loss in ("EdgeAttentionLoss", "OhemEdgeAttentionLoss"):
        value, gradient = value_and_gradient(loss, {}, logits, labels, edge_logits=np.full((2, 1, 4, 5), 0.8))
        assert value == 0
        assert not gradient.any()


def test_an_ignored_image_keeps_its_dice():
    logits, labels = random_batch(seed=23, share_ignored=0)
    alone = value_of("DiceLoss", {}, logits[:1], labels[:1])
    labels[1] = IGNORED
    assert value_of("DiceLoss", {}, logits, labels) == pytest.approx((alone + 1) / 2, rel=1e-14)
    assert value_of("DiceLoss", {"smooth": 1.0}, logits, labels) < value_of("DiceLoss", {}, logits, labels)


def test_ties_go_by_the_order_of_the_pixels():
    logits, labels = np.zeros((2, 2, 3)), np.zeros((2, 3), dtype=int)
    _, gradient = value_and_gradient(CE, {"top_k_percent_pixels": 0.7}, logits, labels)  # 4 of 6 pixels
    assert gradient[:, 1].astype(bool).tolist() == [[True, True, True], [True, False, False]]
    _, gradient = value_and_gradient(BOOT, {"min_K": 1, "loss_th": 1.0}, logits, labels)
    assert gradient[:, 1].astype(bool).tolist() == [[True, False, False]] * 2
    labels[0, 1] = 1  # Lovász: the errors are all equal, and the first background pixel of class 1 has all the weight
    _, gradient = value_and_gradient("LovaszSoftmaxLoss", {"classes": [1]}, logits, labels)
    # weights 1 - 1/2, 1/2, 0, ... for background, foreground, background, ...
    np.testing.assert_allclose(gradient[:, 1], np.array([[0.5, -0.5, 0], [0, 0, 0]]) / 4, rtol=1e-14)


def test_slopes_at_kinks_are_zero():
    _, gradient = value_and_gradient("L1Loss", {"reduction": "sum"}, np.ones((1, 2)), np.ones((1, 2)))
    assert not gradient.any()
    _, gradient = value_and_gradient("LovaszHingeLoss", {}, np.ones((1, 1, 1)), np.ones((1, 1), dtype=int))
    assert not gradient.any()


def test_extreme_logits_stay_exact():
    logits, labels = np.array([[[1e30, -1e30], [0.0, 0.0], [-1e30, 1e30]]]), np.array([[2, 2]])
    value, gradient = value_and_gradient(CE, {}, logits, labels)
    assert value == pytest.approx(1e30, rel=1e-7)
    np.testing.assert_allclose(gradient, np.array([[[0.5, 0], [0, 0], [-0.5, 0]]]), rtol=1e-7)
    # tiny losses keep their digits: log(1 + 2·exp(-50)), gradient exp(-50) and minus their sum
    sure = np.array([[[50.0], [0.0], [0.0]]])
    value, gradient = value_and_gradient(CE, {}, sure, np.array([[0]]))
    assert value == pytest.approx(2 * math.exp(-50), rel=1e-7)
    np.testing.assert_allclose(gradient[0, :, 0], np.exp(-50) * np.array([-2, 1, 1]), rtol=1e-7)


def test_k_of_top_k_is_a_float32_product():
    logits, labels = logits_with_odds(*[2.0**i for i in range(100)]), np.zeros((1, 100), dtype=int)
    # 0.29·100 is 28.999999999999996 in float64 and 29 in float32
    _, gradient = value_and_gradient(CE, {"top_k_percent_pixels": 0.29}, logits, labels)
    assert np.count_nonzero(gradient[0, 0]) == 29


def test_bce_weights_the_batch_elements():
    logits, labels = np.zeros((2, 1, 3)), np.ones((2, 3))
    expected = (0.5 + 2.0) / 2 * math.log(2)
    assert value_of("BCELoss", {"weight": [0.5, 2.0]}, logits, labels) == pytest.approx(expected, rel=1e-9)


def test_bce_one_hot_masks_the_row_of_an_ignored_pixel():
    logits, labels = np.zeros((1, 3, 2)), np.array([[2, IGNORED]])
    value, gradient = value_and_gradient("BCELoss", {}, logits, labels)
    assert value == pytest.approx(math.log(2), rel=1e-9)
    np.testing.assert_allclose(gradient[0], np.array([[0.5, 0], [0.5, 0], [-0.5, 0]]) / 3, rtol=1e-9)


def test_lovasz_counts_absent_classes_only_when_asked():
    logits, labels = np.zeros((1, 2, 2)), np.array([[0, 0]])
    present = value_of("LovaszSoftmaxLoss", {}, logits, labels)
    everything = value_of("LovaszSoftmaxLoss", {"classes": "all"}, logits, labels)
    assert present == pytest.approx(0.5, rel=1e-14)
    assert everything == pytest.approx((0.5 + 0.5) / 2, rel=1e-14)
    twice = value_of("LovaszSoftmaxLoss", {"classes": [0, 0]}, logits, labels)
    assert twice == pytest.approx(present, rel=1e-14)


@pytest.mark.parametrize("size", range(1, 10))
def test_triangle_filter_pads_symmetrically(size):
    line = np.random.default_rng(24).normal(size=size)
    kernel = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
    expected = np.convolve(np.pad(line, 4, mode="symmetric"), kernel, mode="valid")
    np.testing.assert_allclose(triangle_matrix(size) @ line, expected, rtol=1e-13)


def test_dual_task_noise_is_clipped():
    logits, labels = random_batch(seed=25, shape=(1, 3, 4, 4), share_ignored=0)
    noise = np.random.default_rng(26).random(logits.shape)
    noise[0, 0, 0, 0], noise[0, 1, 0, 0] = 1.0, 0.0
    value, gradient = value_and_gradient("DualTaskLoss", {}, logits, labels, noise=noise)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_dual_task_maximum_shares_its_gradient():
    """A batch of two equal images has the maximum twice: each image gets half of what one alone would."""
    logits, labels = random_batch(seed=27, shape=(1, 3, 5, 6), share_ignored=0)
    noise = np.random.default_rng(28).random(logits.shape)
    value, gradient = value_and_gradient("DualTaskLoss", {}, logits, labels, noise=noise)
    twice = [np.concatenate([x, x]) for x in (logits, labels, noise)]
    doubled, both = value_and_gradient("DualTaskLoss", {}, twice[0], twice[1], noise=twice[2])
    assert doubled == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(both, np.concatenate([gradient, gradient]) / 2, rtol=1e-9, atol=1e-15)
