"""What the variant "corrected" mends, by hand: one test for each row of the table."""

import math

import numpy as np
import pytest
from checks.cases import BOOT, CE, CORRECTED, IGNORED, OHEM
from checks.reference_calls import logits_with_odds, random_batch, value_of

from unilossseg.conformance.reference import value_and_gradient


def test_corrected_top_k_counts_valid_pixels():
    logits = logits_with_odds(1, 3, 7, 15, 15, 15, 15, 15)
    labels = np.array([[0, 0, 0, IGNORED, IGNORED, IGNORED, IGNORED, IGNORED]])
    nll = np.log([2, 4, 8])
    top = {"top_k_percent_pixels": 0.7}
    # int(0.7·3) = 2 of the valid pixels; int(0.7·8) = 5 of all
    assert value_of(CE, {**top, **CORRECTED}, logits, labels) == pytest.approx(nll[1:].mean(), rel=1e-14)
    assert value_of(CE, top, logits, labels) == pytest.approx(nll.sum() / 5 / (1 + 1e-8), rel=1e-14)
    # with class weights 3 and 2: the ignored two of the five count as class 0
    weighted = {**top, "weight": [3, 2]}
    assert value_of(CE, {**weighted, **CORRECTED}, logits, labels) == pytest.approx(nll[1:].mean(), rel=1e-14)
    assert value_of(CE, weighted, logits, labels) == pytest.approx(3 * nll.sum() / 5 / (3 + 1e-8), rel=1e-14)
    # where ignored ones count as 1, the chosen valid ones still weigh as their classes
    everything = {**weighted, "avg_non_ignore": False}
    assert value_of(CE, {**everything, **CORRECTED}, logits, labels) == pytest.approx(nll[1:].mean(), rel=1e-14)
    assert value_of(CE, everything, logits, labels) == pytest.approx(3 * nll.sum() / 5 / (11 / 5 + 1e-8), rel=1e-14)


def test_corrected_top_k_weighs_by_the_chosen_classes():
    logits = logits_with_odds(3, 1 / 3, 1)
    labels = np.array([[0, 1, 0]])  # nll log 4, log 4, log 2 before the weights 2 and 5
    parameters = {"top_k_percent_pixels": 0.7, "weight": [2, 5], **CORRECTED}
    assert value_of(CE, parameters, logits, labels) == pytest.approx(7 * math.log(4) / 7, rel=1e-14)
    # semantic weights scale the nll, and with it the selection, but not the denominator
    value = value_of(CE, parameters, logits, labels, semantic_weights=np.array([[0.1, 1.0, 3.0]]))
    assert value == pytest.approx((5 * math.log(4) + 6 * math.log(2)) / 7, rel=1e-14)


def test_corrected_bootstrapped_counts_valid_pixels():
    logits = np.concatenate([logits_with_odds(1, 7, 3, 3), logits_with_odds(3, 3, 3, 3)])
    labels = np.array([[0, 0, IGNORED, IGNORED], [IGNORED] * 4])
    few = {"min_K": 3, "loss_th": 10.0}
    log2 = math.log(2)
    assert value_of(BOOT, {**few, **CORRECTED}, logits, labels) == pytest.approx((1 + 3) * log2 / 2 / 2, rel=1e-14)
    assert value_of(BOOT, few, logits, labels) == pytest.approx((1 + 3) * log2 / 3 / 2, rel=1e-14)
    # class weights 2 and 6: nll 2·1·log 2 and 6·3·log 2 for the labels 0 and 1 at odds 1 and 1/7
    logits, labels = logits_with_odds(1, 1 / 7, 3), np.array([[0, 1, IGNORED]])
    weighted = {"min_K": 2, "loss_th": 10.0, "weight": [2, 6]}
    assert value_of(BOOT, {**weighted, **CORRECTED}, logits, labels) == pytest.approx(20 * log2 / 8, rel=1e-14)
    assert value_of(BOOT, weighted, logits, labels) == pytest.approx(20 * log2 / 2, rel=1e-14)
    # a pixel is hard only above the threshold: at 0 the ignored ones are not
    zero = {"min_K": 1, "loss_th": 0.0}
    assert value_of(BOOT, zero, logits, labels) == pytest.approx(4 * log2 / 2, rel=1e-14)
    # one hard pixel is more than none
    hard = {"min_K": 0, "loss_th": 10.0, "weight": [2, 6], **CORRECTED}
    assert value_of(BOOT, hard, logits, labels) == pytest.approx(18 * log2 / 6, rel=1e-14)


@pytest.mark.parametrize("loss", [OHEM, "OhemEdgeAttentionLoss"])
def test_corrected_ohem_keeps_ties_holds_the_threshold_and_divides_exactly(loss):
    eps = 1e-5 if loss == OHEM else 1e-10
    labels = np.zeros((1, 4), dtype=int)
    edges = {"edge_logits": np.ones((1, 1, 4))}
    tied = logits_with_odds(1, 1, 1, 1 / 9)  # q = 0.5, 0.5, 0.5, 0.9
    parameters = {"thresh": 0.3, "min_kept": 2}
    assert value_of(loss, {**parameters, **CORRECTED}, tied, labels, **edges) == pytest.approx(math.log(2), rel=1e-14)
    assert value_of(loss, parameters, tied, labels, **edges) == 0  # none is strictly below 0.5

    spread = logits_with_odds(1, 3, 1 / 9, 1 / 9)  # q = 0.5, 0.25, 0.9, 0.9
    parameters = {"thresh": 0.3, "min_kept": 0}
    assert value_of(loss, {**parameters, **CORRECTED}, spread, labels, **edges) == pytest.approx(math.log(4), rel=1e-14)
    everything = (math.log(2) + math.log(4) + 2 * math.log(1 / 0.9)) / 4 / (1 + eps)
    assert value_of(loss, parameters, spread, labels, **edges) == pytest.approx(everything, rel=1e-14)

    parameters = {"thresh": 0.3, "min_kept": 1}  # keeps q = 0.25 alone: a quarter of the pixels
    assert value_of(loss, {**parameters, **CORRECTED}, spread, labels, **edges) == pytest.approx(math.log(4), rel=1e-14)
    diminished = math.log(4) / 4 / (0.25 + eps)
    assert value_of(loss, parameters, spread, labels, **edges) == pytest.approx(diminished, rel=1e-14)


def test_corrected_ohem_divides_by_the_weights():
    logits, labels = logits_with_odds(3, 1 / 3), np.array([[0, 1]])
    parameters = {"thresh": 0.3, "min_kept": 1, "weight": [2, 5]}
    assert value_of(OHEM, {**parameters, **CORRECTED}, logits, labels) == pytest.approx(math.log(4), rel=1e-14)
    assert value_of(OHEM, parameters, logits, labels) == pytest.approx(3.5 * math.log(4) / (1 + 1e-5), rel=1e-14)


def test_corrected_dice_divides_by_the_sum_of_weights():
    logits, labels = logits_with_odds(1), np.array([[0]])
    # class 0: 1 - 2·0.5/1.5 = 1/3; class 1: 1 - 0/0.5 = 1
    parameters = {"weight": [3, 1]}
    assert value_of("DiceLoss", parameters, logits, labels) == pytest.approx(2 / 2, rel=1e-7)
    assert value_of("DiceLoss", {**parameters, **CORRECTED}, logits, labels) == pytest.approx(2 / 4, rel=1e-7)
    assert value_of("DiceLoss", CORRECTED, logits, labels) == value_of("DiceLoss", {}, logits, labels)


def test_corrected_lovasz_softmax_takes_one_channel_as_foreground():
    logits, labels = np.array([[[0.0, math.log(3)]]]), np.array([[1, 0]])
    # errors 0.5 (foreground) and 0.75 (background): weights 1/2 and 1/2, the background first
    value, gradient = value_and_gradient("LovaszSoftmaxLoss", CORRECTED, logits, labels)
    assert value == pytest.approx(0.75 / 2 + 0.5 / 2, rel=1e-14)
    np.testing.assert_allclose(gradient, [[[-0.5 * 0.25, 0.5 * 0.1875]]], rtol=1e-14)
    # one class 0 of probability 1 everywhere: error 1 at the pixel labelled 1, weight 1/2, no gradient
    value, gradient = value_and_gradient("LovaszSoftmaxLoss", {}, logits, labels)
    assert value == 0.5
    assert not gradient.any()
    # no foreground: 0 for 'present', the largest error for 'all'
    background = np.array([[0, 0]])
    assert value_of("LovaszSoftmaxLoss", CORRECTED, logits, background) == 0
    everything = {"classes": "all", **CORRECTED}
    assert value_of("LovaszSoftmaxLoss", everything, logits, background) == pytest.approx(0.75, rel=1e-14)
    with pytest.raises(ValueError, match="one channel"):
        value_and_gradient("LovaszSoftmaxLoss", {"classes": [0], **CORRECTED}, logits, labels)


def test_corrected_lovasz_hinge_takes_the_difference_of_two_channels():
    logits, labels = np.array([[[1.0], [3.0]]]), np.array([[0]])
    value, gradient = value_and_gradient("LovaszHingeLoss", CORRECTED, logits, labels)
    assert value == 3  # 1 + (3 - 1)
    np.testing.assert_array_equal(gradient, [[[-1.0], [1.0]]])
    p1 = 1 / (1 + math.exp(-2))
    expected = 1 + math.log(p1 + 1e-9 / (1 - p1 + 1e-9))
    assert value_of("LovaszHingeLoss", {}, logits, labels) == pytest.approx(expected, rel=1e-14)


def test_corrected_bce_counts_valid_labels():
    logits, labels = np.zeros((1, 1, 4)), np.array([[[1, 0, 0, IGNORED]]])
    log2 = math.log(2)
    # n₊ = 1, n₋ = 2: weights 4/3 and 2/3; counting the ignored one n₋ = 3: weights 3/2 and 1/2
    for parameters, corrected, reference_ in [
        ({"weight": "dynamic"}, (4 / 3 + 2 * 2 / 3) / 3, (3 / 2 + 2 * 1 / 2) / 3),
        ({"pos_weight": "dynamic"}, (4 / 3 + 2) / 3, (3 / 2 + 2) / 3),
        ({"weight": "dynamic", "pos_weight": "dynamic"}, (16 / 9 + 4 / 3) / 3, (9 / 4 + 1) / 3),
    ]:
        assert value_of("BCELoss", {**parameters, **CORRECTED}, logits, labels) == pytest.approx(corrected * log2, rel=1e-9)
        assert value_of("BCELoss", parameters, logits, labels) == pytest.approx(reference_ * log2, rel=1e-9)


def test_corrected_mse_ignores():
    logits, labels = np.array([[0.0, 3.0]]), np.array([[IGNORED, 1]])
    assert value_of("MSELoss", {}, logits, labels) == (255**2 + 4) / 2
    value, gradient = value_and_gradient("MSELoss", CORRECTED, logits, labels)
    assert value == pytest.approx(4, rel=1e-9)
    np.testing.assert_allclose(gradient, [[0, 4]], rtol=1e-9)
    assert value_of("MSELoss", {"reduction": "sum", **CORRECTED}, logits, labels) == 4


def test_corrected_relax_boundary_is_the_mean_over_valid_pixels():
    log2, relaxed = math.log(2), math.log(3 / 2)
    # two images of one pixel: each image's value is counted once for each image, over H·W + 1
    logits, labels = np.zeros((2, 2, 1, 1)), np.array([[[0]], [[1]]])
    assert value_of("RelaxBoundaryLoss", CORRECTED, logits, labels) == pytest.approx(log2, rel=1e-14)
    assert value_of("RelaxBoundaryLoss", {}, logits, labels) == pytest.approx(2 * 2 * log2 / 2, rel=1e-14)
    # an ignored pixel beside a valid one
    logits, labels = np.zeros((1, 2, 1, 2)), np.array([[[0, IGNORED]]])
    value, gradient = value_and_gradient("RelaxBoundaryLoss", CORRECTED, logits, labels)
    assert value == pytest.approx(log2, rel=1e-14)
    np.testing.assert_allclose(gradient, [[[[-0.5, 0]], [[0.5, 0]]]], rtol=1e-14)
    assert value_of("RelaxBoundaryLoss", {}, logits, labels) == pytest.approx(2 * log2 / 3, rel=1e-14)
    # both classes around both pixels: share 1/3 each, and 1/3 for "no class" (outside the image)
    logits, labels = np.zeros((1, 3, 1, 2)), np.array([[[0, 1]]])
    weighted = {"calculate_weights": True, "upper_bound": 3.0}
    assert value_of("RelaxBoundaryLoss", CORRECTED, logits, labels) == pytest.approx(relaxed, rel=1e-14)
    assert value_of("RelaxBoundaryLoss", {**weighted, **CORRECTED}, logits, labels) == pytest.approx(3 * relaxed, rel=1e-14)
    assert value_of("RelaxBoundaryLoss", weighted, logits, labels) == pytest.approx(3 * 2 * relaxed / 3, rel=1e-14)


def test_corrected_dual_task_takes_a_maximum_for_each_image():
    logits, labels = random_batch(seed=12, shape=(2, 3, 6, 7), share_ignored=0)
    logits[1] *= 0.01
    noise = np.random.default_rng(13).random(logits.shape)

    def value(parameters, images):
        return value_of("DualTaskLoss", parameters, logits[images], labels[images], noise=noise[images])

    alone = [value(CORRECTED, slice(n, n + 1)) for n in (0, 1)]
    assert value(CORRECTED, slice(None)) == pytest.approx(np.mean(alone), rel=1e-12)
    alone = [value({}, slice(n, n + 1)) for n in (0, 1)]
    assert value({}, slice(None)) != pytest.approx(np.mean(alone), rel=1e-3)


def test_corrected_dual_task_sees_no_edge_at_the_frame():
    logits, labels, noise = np.zeros((1, 2, 6, 7)), np.zeros((1, 6, 7), dtype=int), np.full((1, 2, 6, 7), 0.5)
    logits[:, 1] = 1.0  # the same at every pixel, hence no edge
    value, gradient = value_and_gradient("DualTaskLoss", CORRECTED, logits, labels, noise=noise)
    assert value == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
    assert value_of("DualTaskLoss", {}, logits, labels, noise=noise) > 1e-3


def test_corrected_dual_task_leaves_out_what_an_ignored_pixel_touches():
    rng = np.random.default_rng(14)
    width = 12
    logits, noise = rng.normal(size=(1, 2, 1, width)), rng.random((1, 2, 1, width))
    labels = rng.integers(0, 2, size=(1, 1, width))
    labels[0, 0, 0] = IGNORED

    def edges(x):  # one line: the differences down are 0
        kernel = np.array([1, 2, 3, 4, 5, 4, 3, 2, 1]) / 25
        smooth = np.array([np.convolve(np.pad(line, 4, mode="symmetric"), kernel, mode="valid") for line in x])
        padded = np.pad(smooth, ((0, 0), (1, 1)), mode="edge")
        magnitude = np.sqrt((0.5 * (padded[:, 2:] - padded[:, :-2])) ** 2 + 1e-6)
        return magnitude / magnitude.max()

    scores = logits[0, :, 0] * (labels[0, 0] != IGNORED) - np.log(1e-10 - np.log(noise[0, :, 0] + 1e-10))
    sample = np.exp(scores / 0.5) / np.exp(scores / 0.5).sum(axis=0)
    one_hot = np.eye(2)[np.where(labels[0, 0] == IGNORED, 0, labels[0, 0])].T
    distance = np.abs(edges(sample) - edges(one_hot))
    value, gradient = value_and_gradient("DualTaskLoss", CORRECTED, logits, labels, noise=noise)
    assert value == pytest.approx(distance[:, 6:].mean(), rel=1e-12)
    assert not gradient[..., 0].any()


def test_corrected_dual_task_without_a_pixel_far_from_the_ignored_is_zero():
    logits, labels = random_batch(seed=15, shape=(1, 3, 4, 5), share_ignored=0)
    labels[0, 0, 0] = IGNORED
    noise = np.random.default_rng(16).random(logits.shape)
    value, gradient = value_and_gradient("DualTaskLoss", CORRECTED, logits, labels, noise=noise)
    assert value == 0
    assert not gradient.any()
    assert value_of("DualTaskLoss", {}, logits, labels, noise=noise) > 0


def test_corrected_dual_task_corner_of_the_filter_support():
    """An ignored pixel five rows and five columns away is not under the filter; five and four is."""
    logits, labels = random_batch(seed=17, shape=(1, 2, 6, 6), share_ignored=0)
    noise = np.random.default_rng(18).random(logits.shape)
    labels[0, 0, 0] = IGNORED
    value, gradient = value_and_gradient("DualTaskLoss", CORRECTED, logits, labels, noise=noise)
    assert value > 0  # the pixel (5, 5) alone counts
    assert gradient.any()
    labels[0, 0, 1] = IGNORED
    assert value_of("DualTaskLoss", CORRECTED, logits, labels, noise=noise) == 0
