"""What `variant="corrected"` mends: a test for each row of the table in docs/variants.md, numbers by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from checks.cases import (
    BCE,
    BOOT,
    CE,
    CORRECTED,
    DICE,
    DUAL,
    HINGE,
    IGNORED,
    LOVASZ,
    MSE,
    OHEM,
    OHEM_EDGE,
    RELAX,
    Batch,
    batch_for,
)

import unilossseg

LOG2, LOG3, LOG4 = math.log(2), math.log(3), math.log(4)
TABLE = Path(__file__).parents[3] / "docs" / "variants.md"


def odds(*ratios):
    """Two channels of one image: at each pixel class 1 is so many times as probable as class 0."""
    z = np.zeros((1, 2, len(ratios)))
    z[0, 1] = np.log(ratios)
    return z


def value_of(driver, loss, options, logits, labels, **further):
    """The value; with its gradient finite."""
    batch = Batch(np.asarray(logits, dtype=np.float64), np.asarray(labels), further)
    value, gradient = driver.value_and_gradient(driver.make(loss, options), batch)
    assert np.all(np.isfinite(gradient))
    return float(value)


def assert_both(driver, loss, options, logits, labels, *, paddleseg, corrected, **further):
    """The value of either variant."""
    assert value_of(driver, loss, options, logits, labels, **further) == pytest.approx(paddleseg, rel=1e-8)
    default = {**options, "variant": "paddleseg"}
    assert value_of(driver, loss, default, logits, labels, **further) == pytest.approx(paddleseg, rel=1e-8)
    other = {**options, **CORRECTED}
    assert value_of(driver, loss, other, logits, labels, **further) == pytest.approx(corrected, rel=1e-8)


def test_losses_with_a_row_have_a_variant_and_no_others():
    rows = re.findall(r"^\| (`.*?) \|", TABLE.read_text(encoding="utf-8"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+Loss)`", row)}
    with_variant = {name for name, loss in unilossseg.LOSSES.items() if "variant" in loss.__dataclass_fields__}
    assert named == with_variant
    assert with_variant == set(unilossseg.LOSSES) - {"EdgeAttentionLoss", "L1Loss", "MixedLoss"}
    assert unilossseg.VARIANTS == ("paddleseg", "corrected")


@pytest.mark.parametrize("name", ["EdgeAttentionLoss", "L1Loss", "MixedLoss"])
def test_losses_without_a_row_take_no_variant(driver, name):
    needed = {"losses": [driver.losses.DiceLoss()], "coef": 1} if name == "MixedLoss" else {}
    with pytest.raises(TypeError, match="unexpected keyword argument 'variant'"):
        getattr(driver.losses, name)(**needed, variant="corrected")


# ---- CrossEntropyLoss


def test_top_k_counts_valid_pixels(driver):
    # Losses log 2, log 4 and log 8; int(0.7 * 3) = 2 of the valid pixels, int(0.7 * 8) = 5 of all.
    logits, labels = odds(1, 3, 7, 1, 1, 1, 1, 1), [[0, 0, 0, *[IGNORED] * 5]]
    top = {"top_k_percent_pixels": 0.7}
    assert_both(driver, CE, top, logits, labels, paddleseg=6 * LOG2 / 5 / (1 + 1e-8), corrected=5 * LOG2 / 2)
    # Weights 3 and 2: an ignored pixel counts as class 0 in the reference's denominator.
    weighted = {**top, "weight": [3.0, 2.0]}
    assert_both(driver, CE, weighted, logits, labels, paddleseg=18 * LOG2 / 5 / (3 + 1e-8), corrected=5 * LOG2 / 2)


def test_top_k_divides_by_the_weights_of_the_chosen(driver):
    # int(0.7 * 3) = 2 pixels of weighted losses 2 log 4 and 5 log 4, the third has 2 log 2.
    logits, labels = odds(3, 1 / 3, 1), [[0, 1, 0]]
    options = {"top_k_percent_pixels": 0.7, "weight": [2.0, 5.0]}
    assert_both(driver, CE, options, logits, labels, paddleseg=LOG4 * 3.5 / (3.5 + 1e-8), corrected=LOG4)


# ---- BootstrappedCrossEntropyLoss


def test_bootstrapped_takes_the_hardest_of_the_valid_pixels(driver):
    # An image of losses log 2 and 3 log 2 with two ignored pixels, and one of ignored pixels alone.
    logits = np.concatenate([odds(1, 7, 1, 1), odds(1, 1, 1, 1)])
    labels = [[0, 0, IGNORED, IGNORED], [IGNORED] * 4]
    options = {"min_K": 3, "loss_th": 10.0}
    assert_both(driver, BOOT, options, logits, labels, paddleseg=4 * LOG2 / 3 / 2, corrected=4 * LOG2 / 2 / 2)


def test_bootstrapped_divides_by_the_weights(driver):
    # Weighted losses 2 log 2 and 6 * 3 log 2.
    logits, labels = odds(1, 1 / 7), [[0, 1]]
    options = {"min_K": 2, "loss_th": 10.0, "weight": [2.0, 6.0]}
    assert_both(driver, BOOT, options, logits, labels, paddleseg=20 * LOG2 / 2, corrected=20 * LOG2 / 8)


# ---- OhemCrossEntropyLoss, OhemEdgeAttentionLoss


@pytest.mark.parametrize(("loss", "eps"), [(OHEM, 1e-5), (OHEM_EDGE, 1e-10)])
def test_ohem_keeps_ties(driver, loss, eps):
    # Probabilities of the true class 0.5, 0.5, 0.5 and 0.9: the second smallest is 0.5, and none lies below it.
    logits, labels, edges = odds(1, 1, 1, 1 / 9), [[0, 0, 0, 0]], edges_of(loss, 4)
    options = {"thresh": 0.3, "min_kept": 2}
    assert_both(driver, loss, options, logits, labels, paddleseg=0.0, corrected=LOG2, **edges)


@pytest.mark.parametrize(("loss", "eps"), [(OHEM, 1e-5), (OHEM_EDGE, 1e-10)])
def test_ohem_holds_its_threshold_without_a_minimum(driver, loss, eps):
    # Probabilities 0.5, 0.25, 0.9 and 0.9: one below 0.3.
    logits, labels, edges = odds(1, 3, 1 / 9, 1 / 9), [[0, 0, 0, 0]], edges_of(loss, 4)
    everything = (LOG2 + LOG4 - 2 * math.log(0.9)) / 4 / (1 + eps)
    options = {"thresh": 0.3, "min_kept": 0}
    assert_both(driver, loss, options, logits, labels, paddleseg=everything, corrected=LOG4, **edges)


@pytest.mark.parametrize(("loss", "eps"), [(OHEM, 1e-5), (OHEM_EDGE, 1e-10)])
def test_ohem_divides_by_what_it_keeps(driver, loss, eps):
    # One pixel in eight is kept: eps, added to a mean, counts for eight times as much.
    logits, labels, edges = odds(3, *[1 / 9] * 7), [[0] * 8], edges_of(loss, 8)
    options = {"thresh": 0.3, "min_kept": 1}
    assert_both(driver, loss, options, logits, labels, paddleseg=LOG4 / (1 + 8 * eps), corrected=LOG4, **edges)


def test_ohem_divides_by_the_weights(driver):
    logits, labels = odds(3, 1 / 3), [[0, 1]]
    options = {"thresh": 0.3, "min_kept": 1, "weight": [2.0, 5.0]}
    assert_both(driver, OHEM, options, logits, labels, paddleseg=3.5 * LOG4 / (1 + 1e-5), corrected=LOG4)


def edges_of(loss, pixels):
    return {"edge_logits": np.ones((1, 1, pixels))} if loss == OHEM_EDGE else {}


# ---- DiceLoss


def test_dice_divides_by_the_sum_of_the_weights(driver):
    # Class 0: 1 - 2 * 0.5 / 1.5 = 1/3. Class 1: 1.
    options = {"weight": [3.0, 1.0]}
    assert_both(driver, DICE, options, odds(1), [[0]], paddleseg=(3 / 3 + 1) / 2, corrected=(3 / 3 + 1) / 4)
    assert_both(driver, DICE, {}, odds(1), [[0]], paddleseg=2 / 3, corrected=2 / 3)


# ---- LovaszSoftmaxLoss, LovaszHingeLoss


def test_lovasz_softmax_of_one_channel_is_binary(driver):
    # Probabilities 1/2 of the foreground pixel and 3/4 of the background pixel: errors 1/2 and 3/4, weights 1/2 each.
    logits, labels = np.array([[[0.0, LOG3]]]), np.array([[1, 0]])
    assert_both(driver, LOVASZ, {}, logits, labels, paddleseg=0.5, corrected=0.625)
    for options, slopes in (({}, [0.0, 0.0]), (CORRECTED, [-0.5 * 0.25, 0.5 * 0.1875])):
        _, gradient = driver.value_and_gradient(driver.make(LOVASZ, options), Batch(logits, labels))
        np.testing.assert_allclose(gradient, [[slopes]], rtol=1e-12, atol=1e-15)


def test_lovasz_hinge_of_two_channels_is_that_of_their_difference(driver):
    logits, labels = np.array([[[1.0], [3.0]]]), np.array([[0]])
    p = 1 / (1 + math.exp(-2))
    reference = 1 + math.log(p + 1e-9 / (1 - p + 1e-9))
    assert_both(driver, HINGE, {}, logits, labels, paddleseg=reference, corrected=3.0)
    _, gradient = driver.value_and_gradient(driver.make(HINGE, CORRECTED), Batch(logits, labels))
    np.testing.assert_array_equal(gradient, [[[-1.0], [1.0]]])


# ---- BCELoss, MSELoss


@pytest.mark.parametrize(
    ("options", "paddleseg", "corrected"),
    [
        # One positive and two negatives; three with the ignored one.
        ({"weight": "dynamic"}, 3 / 2 + 2 * 1 / 2, 4 / 3 + 2 * 2 / 3),
        ({"pos_weight": "dynamic"}, 3 / 2 + 2, 4 / 3 + 2),
        ({"weight": "dynamic", "pos_weight": "dynamic"}, 9 / 4 + 1, 16 / 9 + 4 / 3),
    ],
)
def test_bce_counts_valid_labels(driver, options, paddleseg, corrected):
    logits, labels = np.zeros((1, 1, 4)), [[[1, 0, 0, IGNORED]]]
    assert_both(driver, BCE, options, logits, labels, paddleseg=paddleseg * LOG2 / 3, corrected=corrected * LOG2 / 3)


@pytest.mark.parametrize(("reduction", "factor"), [("mean", 0.5), ("sum", 1.0)])
def test_mse_ignores(driver, reduction, factor):
    logits, labels = [[0.0, 3.0]], [[255.0, 1.0]]
    whole = (255**2 + 4) * factor
    assert_both(driver, MSE, {"reduction": reduction}, logits, labels, paddleseg=whole, corrected=4.0)


# ---- RelaxBoundaryLoss


def test_relax_boundary_is_a_mean_over_images(driver):
    # Two images of one pixel: the reference counts each image's loss once for each image, and adds them over H W + 1.
    logits, labels = np.zeros((2, 2, 1, 1)), [[[0]], [[1]]]
    assert_both(driver, RELAX, {}, logits, labels, paddleseg=2 * 2 * LOG2 / 2, corrected=LOG2)


def test_relax_boundary_does_not_train_ignored_pixels(driver):
    logits, labels = np.zeros((1, 2, 1, 2)), np.array([[[0, IGNORED]]])
    assert_both(driver, RELAX, {}, logits, labels, paddleseg=2 * LOG2 / 3, corrected=LOG2)
    _, gradient = driver.value_and_gradient(driver.make(RELAX, CORRECTED), Batch(logits, labels))
    np.testing.assert_allclose(gradient, [[[[-0.5, 0.0]], [[0.5, 0.0]]]], rtol=1e-12)


# ---- DualTaskLoss


def test_dual_task_has_a_maximum_for_each_image(driver):
    batch = batch_for(DUAL, shape=(6, 7), ignored=0.0)
    batch.logits[1] *= 0.01

    def value(options, images):
        further = {"noise": batch.further["noise"][images]}
        return value_of(driver, DUAL, options, batch.logits[images], batch.labels[images], **further)

    for options, equal in (({}, False), (CORRECTED, True)):
        alone = [value(options, slice(n, n + 1)) for n in (0, 1)]
        assert math.isclose(value(options, slice(None)), np.mean(alone), rel_tol=1e-3) == equal


def test_dual_task_sees_no_edge_at_the_frame(driver):
    # The same at every pixel: no edge anywhere, and no loss.
    logits, labels, noise = np.zeros((1, 2, 6, 7)), np.zeros((1, 6, 7), int), np.full((1, 2, 6, 7), 0.5)
    logits[:, 1] = 1.0
    assert value_of(driver, DUAL, {}, logits, labels, noise=noise) > 1e-3
    assert value_of(driver, DUAL, CORRECTED, logits, labels, noise=noise) == pytest.approx(0.0, abs=1e-12)


def test_dual_task_leaves_out_what_an_ignored_pixel_reaches(driver):
    # The filter reaches four pixels, the difference one more: of a line of six only the last is out of the first's reach.
    batch = batch_for(DUAL, shape=(2, 6), ignored=0.0)
    batch.labels[:, 0, 0] = IGNORED
    loss = driver.make(DUAL, CORRECTED)
    value, gradient = driver.value_and_gradient(loss, batch)
    assert value == 0
    assert not np.any(gradient)
    longer = batch_for(DUAL, shape=(2, 7), ignored=0.0)
    longer.labels[:, :, 0] = IGNORED
    value, gradient = driver.value_and_gradient(loss, longer)
    assert value > 0
    assert not np.any(gradient[..., 0])
    assert np.any(gradient[..., 6])


# ---- where the reference crashes


@pytest.mark.parametrize("variant", unilossseg.VARIANTS)
def test_k_is_one_pixel_at_least(driver, variant):
    options = {"top_k_percent_pixels": 0.0, "variant": variant}
    assert value_of(driver, CE, options, odds(1, 3), [[0, 0]]) == pytest.approx(LOG4, rel=1e-7)


@pytest.mark.parametrize("variant", unilossseg.VARIANTS)
def test_more_than_all_pixels_are_all(driver, variant):
    options = {"min_K": 1000, "loss_th": 50.0, "variant": variant}
    assert value_of(driver, BOOT, options, odds(1, 3), [[0, 0]]) == pytest.approx(1.5 * LOG2, rel=1e-12)


@pytest.mark.parametrize("variant", unilossseg.VARIANTS)
def test_bce_weighs_images_and_takes_an_integer(driver, variant):
    logits, labels = np.zeros((2, 1, 1)), [[[1]], [[0]]]
    options = {"weight": [3.0, 1.0], "pos_weight": 2, "variant": variant}
    assert value_of(driver, BCE, options, logits, labels) == pytest.approx((3 * 2 + 1) * LOG2 / 2, rel=1e-9)


def test_relax_boundary_weighs_classes(driver):
    # Both classes around both pixels: each a third of the relaxed labels, "no class" of the outside the last third.
    logits, labels = np.zeros((1, 3, 1, 2)), [[[0, 1]]]
    options = {"calculate_weights": True, "upper_bound": 3.0}
    log15 = math.log(1.5)
    assert_both(driver, RELAX, options, logits, labels, paddleseg=3 * 2 * log15 / 3, corrected=3 * log15)


@pytest.mark.parametrize("variant", unilossseg.VARIANTS)
def test_relax_boundary_takes_wider_borders_and_lost_probabilities(driver, variant):
    # Five pixels in a row, radius 2: the class at the far end is never near, and its logit drowns the others.
    logits = np.zeros((1, 3, 1, 5))
    logits[:, 2] = 2000.0
    labels = [[[0, 0, 1, 1, 1]]]
    value = value_of(driver, RELAX, {"border": 2, "variant": variant}, logits, labels)
    near_both = 2000 - LOG2
    if variant == "corrected":
        assert value == pytest.approx((4 * near_both + 2000) / 5, rel=1e-12)
    else:
        assert value == pytest.approx((4 * near_both + 2000) / 6, rel=1e-12)
