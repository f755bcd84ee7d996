"""The float64 reference: against PaddleSeg's recordings, against central differences, and against values by hand."""

import ast
import json
import math
from pathlib import Path

import numpy as np
import pytest

from unilossseg.conformance import reference
from unilossseg.conformance.reference import LOSSES, value_and_gradient
from unilossseg.conformance.reference.dual_task import triangle_matrix

GOLDEN = Path(__file__).parent / "golden" / "paddleseg"
RECORDED = json.loads((GOLDEN / "manifest.json").read_text())["cases"]
CORRECTED = {"variant": "corrected"}
IGNORED = 255


def logits_with_odds(*odds):
    """Two channels of one image: class 0 has probability 1/(1 + a), class 1 a/(1 + a), at each pixel."""
    z = np.zeros((1, 2, len(odds)))
    z[0, 1] = np.log(odds)
    return z


def value_of(loss, parameters, logits, labels, **further):
    return float(value_and_gradient(loss, parameters, logits, labels, **further)[0])


# --- the recordings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", RECORDED, ids=[case["id"] for case in RECORDED])
def test_recorded_case(case):
    with np.load(GOLDEN / f"{case['id']}.npz", allow_pickle=False) as file:
        data = dict(file)
    further = {name: data[name] for name in ("upstream", "edge_logits", "noise") if name in data}
    value, gradient = value_and_gradient(case["loss"], case["kwargs"], data["logits"], data["labels"], **further)

    assert value.dtype == gradient.dtype == np.float64
    assert value.shape == data["value"].shape
    assert gradient.shape == data["logits"].shape
    if "value_float64" in case:
        np.testing.assert_allclose(value, case["value_float64"], rtol=1e-9)
    else:
        np.testing.assert_allclose(value, data["value"], rtol=2e-5, atol=2e-5 * np.max(np.abs(data["value"])))
    np.testing.assert_allclose(gradient, data["grad"], rtol=0, atol=1e-4 * np.max(np.abs(data["grad"])))


def test_the_recordings_hold_every_loss_but_mixed():
    assert len(RECORDED) == 160
    assert {case["loss"] for case in RECORDED} == set(LOSSES) - {"MixedLoss"}


# --- central differences --------------------------------------------------------------------------------------------

CE, BOOT, OHEM = "CrossEntropyLoss", "BootstrappedCrossEntropyLoss", "OhemCrossEntropyLoss"
WEIGHT3 = [0.5, 2.0, 1.25]
WITH_VARIANT = [
    (CE, {}),
    (CE, {"weight": WEIGHT3}),
    (CE, {"top_k_percent_pixels": 0.3}),
    (CE, {"top_k_percent_pixels": 0.0}),
    (CE, {"top_k_percent_pixels": 0.4, "weight": WEIGHT3}),
    (CE, {"weight": WEIGHT3, "avg_non_ignore": False}),
    (CE, {"top_k_percent_pixels": 0.4, "weight": WEIGHT3, "avg_non_ignore": False}),
    (CE, {"top_k_percent_pixels": 0.4, "semantic_weights": True}),
    (CE, {"semantic_weights": True, "weight": WEIGHT3}),
    (CE, {"ignore_index": 1}),
    (BOOT, {"min_K": 3, "loss_th": 1.0}),
    (BOOT, {"min_K": 4, "loss_th": 50.0}),
    (BOOT, {"min_K": 1000, "loss_th": 0.5, "weight": WEIGHT3}),
    (BOOT, {"min_K": 0, "loss_th": 0.5, "weight": WEIGHT3}),
    (OHEM, {}),
    (OHEM, {"min_kept": 5, "thresh": 0.1}),
    (OHEM, {"min_kept": 5, "thresh": 0.4, "weight": WEIGHT3}),
    (OHEM, {"min_kept": 0, "thresh": 0.3}),
    ("OhemEdgeAttentionLoss", {"min_kept": 3, "thresh": 0.2}),
    ("OhemEdgeAttentionLoss", {"min_kept": 0, "thresh": 0.5, "edge_threshold": 0.3}),
    ("DiceLoss", {}),
    ("DiceLoss", {"smooth": 1.0, "weight": WEIGHT3}),
    ("LovaszSoftmaxLoss", {}),
    ("LovaszSoftmaxLoss", {"classes": "all"}),
    ("LovaszSoftmaxLoss", {"classes": [2, 0, 2]}),
    ("BCELoss", {}),
    ("BCELoss", {"weight": "dynamic"}),
    ("BCELoss", {"weight": [0.5, 2.0], "pos_weight": 3}),
    ("BCELoss", {"weight": "dynamic", "pos_weight": "dynamic"}),
    ("RelaxBoundaryLoss", {}),
    ("RelaxBoundaryLoss", {"border": 2}),
    ("RelaxBoundaryLoss", {"calculate_weights": True, "upper_bound": 1.5}),
    ("DualTaskLoss", {}),
    ("DualTaskLoss", {"tau": 1.0}),
]
WITHOUT_VARIANT = [
    ("EdgeAttentionLoss", {}),
    ("EdgeAttentionLoss", {"edge_threshold": 0.3}),
    ("MixedLoss", {"losses": [(CE, {}), ("DiceLoss", {})], "coef": [0.5, 2.0]}),
    ("MixedLoss", {"losses": [(CE, {}), ("LovaszSoftmaxLoss", {})], "coef": 0.7, "reduction": "sum"}),
]
CASES = [
    *[(loss, {**parameters, **extra}) for loss, parameters in WITH_VARIANT for extra in ({}, CORRECTED)],
    *WITHOUT_VARIANT,
]


def named(case):
    loss, parameters = case
    return "-".join([loss, *(f"{name}={value}" for name, value in parameters.items() if name != "losses")])


def check_gradient(loss, parameters, logits, labels, **further):
    """Central differences of Σ upstream·value, with a random upstream."""
    value, _ = value_and_gradient(loss, parameters, logits, labels, **further)
    upstream = np.random.default_rng(3).normal(size=value.shape)
    _, gradient = value_and_gradient(loss, parameters, logits, labels, upstream=upstream, **further)
    assert gradient.shape == logits.shape

    step = 1e-5
    expected = np.zeros(logits.shape)
    for at in np.ndindex(logits.shape):
        ends = []
        for sign in (1, -1):
            moved = logits.copy()
            moved[at] += sign * step
            ends.append(np.sum(upstream * value_and_gradient(loss, parameters, moved, labels, **further)[0]))
        expected[at] = (ends[0] - ends[1]) / (2 * step)
    assert np.any(expected)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-7 * np.max(np.abs(expected)) + 1e-10)


def random_batch(seed=0, shape=(2, 3, 4, 5), classes=None, share_ignored=0.2, ignore_index=IGNORED):
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=shape)
    labels = rng.integers(0, shape[1] if classes is None else classes, size=(shape[0], *shape[2:]))
    labels[rng.random(labels.shape) < share_ignored] = ignore_index
    return logits, labels


@pytest.mark.parametrize("case", CASES, ids=named)
def test_gradient_is_the_central_difference(case):
    loss, parameters = case
    parameters = dict(parameters)
    logits, labels = random_batch(share_ignored=0.1, ignore_index=parameters.get("ignore_index", IGNORED))
    rng = np.random.default_rng(1)
    further = {"edge_logits": 2 * rng.random((2, 1, 4, 5)), "noise": rng.random(logits.shape)}
    if parameters.pop("semantic_weights", False):
        further["semantic_weights"] = rng.random(labels.shape)
    if loss == "DualTaskLoss" and "variant" in parameters:
        logits, labels = random_batch(shape=(2, 3, 4, 9), share_ignored=0.0)
        labels[0, 0, 0] = IGNORED
        further["noise"] = rng.random(logits.shape)
    check_gradient(loss, parameters, logits, labels, **further)


@pytest.mark.parametrize("variant", ["paddleseg", "corrected"])
@pytest.mark.parametrize("sizes", [(7,), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("loss", [CE, BOOT, OHEM, "DiceLoss", "LovaszSoftmaxLoss", "BCELoss"])
def test_gradient_with_one_and_three_spatial_axes(loss, sizes, variant):
    parameters = {"min_K": 2, "loss_th": 0.8} if loss == BOOT else {}
    logits, labels = random_batch(seed=4, shape=(2, 3, *sizes))
    check_gradient(loss, {**parameters, "variant": variant}, logits, labels)


@pytest.mark.parametrize("loss", [CE, "DiceLoss", "LovaszSoftmaxLoss", OHEM, "BCELoss"])
def test_gradient_without_spatial_axes(loss):
    logits, labels = random_batch(seed=5, shape=(9, 4))
    check_gradient(loss, {}, logits, labels)


@pytest.mark.parametrize("variant", ["paddleseg", "corrected"])
@pytest.mark.parametrize("channels", [1, 2])
def test_lovasz_hinge_gradient(channels, variant):
    logits, labels = random_batch(seed=6, shape=(2, channels, 4, 5), classes=2)
    check_gradient("LovaszHingeLoss", {"variant": variant}, logits, labels)


def test_lovasz_hinge_gradient_where_the_epsilon_of_two_channels_matters():
    for difference, label in [(20.0, 0), (-20.0, 1)]:  # one of the two probabilities is near 1e-9
        check_gradient("LovaszHingeLoss", {}, np.array([[[0.3], [0.3 + difference]]]), np.array([[label]]))


@pytest.mark.parametrize("classes", ["present", "all", [1]])
def test_lovasz_softmax_gradient_with_one_channel(classes):
    logits, labels = random_batch(seed=7, shape=(2, 1, 4, 5), classes=2)
    check_gradient("LovaszSoftmaxLoss", {"variant": "corrected", "classes": classes}, logits, labels)


@pytest.mark.parametrize("parameters", [{}, {"weight": "dynamic"}, {"pos_weight": 2.5}, {"pos_weight": "dynamic"}])
@pytest.mark.parametrize("channels", [1, 3])
def test_bce_gradient_with_a_label_for_each_logit(channels, parameters):
    rng = np.random.default_rng(8)
    logits, _ = random_batch(seed=8, shape=(2, channels, 3, 4))
    hard = rng.integers(0, 2, size=logits.shape)
    hard[rng.random(hard.shape) < 0.2] = IGNORED
    soft = np.where(rng.random(hard.shape) < 0.3, rng.random(hard.shape), hard)
    for labels in (hard, soft):
        for variant in ("paddleseg", "corrected"):
            check_gradient("BCELoss", {**parameters, "variant": variant}, logits, labels)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("loss", ["L1Loss", "MSELoss"])
def test_regression_gradient(loss, reduction):
    rng = np.random.default_rng(9)
    logits, labels = rng.normal(size=(3, 2, 4)), rng.normal(size=(3, 2, 4))
    labels[0, 1, 2] = labels[2, 0, 0] = IGNORED
    check_gradient(loss, {"reduction": reduction}, logits, labels)
    if loss == "MSELoss":
        check_gradient(loss, {"reduction": reduction, **CORRECTED}, logits, labels)


def test_gradient_with_channels_last():
    logits, labels = random_batch(seed=10)
    last = np.ascontiguousarray(np.moveaxis(logits, 1, -1))
    first_value, first_gradient = value_and_gradient(CE, {"top_k_percent_pixels": 0.5}, logits, labels)
    value, gradient = value_and_gradient(CE, {"top_k_percent_pixels": 0.5, "data_format": "NHWC"}, last, labels)
    assert value == first_value
    np.testing.assert_array_equal(np.moveaxis(gradient, -1, 1), first_gradient)


def test_labels_with_a_channel_axis_are_the_same():
    logits, labels = random_batch(seed=11)
    for loss in (CE, "DiceLoss", "LovaszSoftmaxLoss", "BCELoss", "RelaxBoundaryLoss", OHEM):
        plain = value_and_gradient(loss, {}, logits, labels)
        with_axis = value_and_gradient(loss, {}, logits, labels[:, None])
        np.testing.assert_array_equal(plain[0], with_axis[0])
        np.testing.assert_array_equal(plain[1], with_axis[1])


# --- what "corrected" mends: one test for each row of the table -------------------------------------------------------


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
    # all pixels in the denominator
    everything = {**weighted, "avg_non_ignore": False}
    assert value_of(CE, {**everything, **CORRECTED}, logits, labels) == pytest.approx(3 * nll[1:].mean(), rel=1e-14)


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


# --- edge cases -----------------------------------------------------------------------------------------------------


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


# --- MixedLoss and the call -----------------------------------------------------------------------------------------


def test_mixed_loss_lists_or_adds():
    logits, labels = random_batch(seed=29)
    single = [value_and_gradient(loss, {}, logits, labels) for loss in (CE, "DiceLoss")]
    losses = [(CE, {}), ("DiceLoss", {})]
    upstream = np.array([3.0, -2.0])
    values, gradient = value_and_gradient(
        "MixedLoss", {"losses": losses, "coef": [0.5, 2.0]}, logits, labels, upstream=upstream
    )
    np.testing.assert_allclose(values, [0.5 * single[0][0], 2 * single[1][0]], rtol=1e-14)
    np.testing.assert_allclose(gradient, 1.5 * single[0][1] - 4 * single[1][1], rtol=1e-12, atol=1e-16)
    total, gradient = value_and_gradient("MixedLoss", {"losses": losses, "coef": 0.5, "reduction": "sum"}, logits, labels)
    assert total == pytest.approx(0.5 * (single[0][0] + single[1][0]), rel=1e-14)
    np.testing.assert_allclose(gradient, 0.5 * (single[0][1] + single[1][1]), rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("reduction", ["list", "sum"])
def test_mixed_loss_in_a_mixed_loss(reduction):
    logits, labels = random_batch(seed=30)
    inner = {"losses": [(CE, {}), ("DiceLoss", {})], "coef": [0.5, 2.0], "reduction": reduction}
    outer = {"losses": [("MixedLoss", inner), (OHEM, {})], "coef": [10.0, 1.0]}
    values, _ = value_and_gradient("MixedLoss", outer, logits, labels)
    ce, dice, ohem = (value_of(loss, {}, logits, labels) for loss in (CE, "DiceLoss", OHEM))
    expected = [5 * ce, 20 * dice, ohem] if reduction == "list" else [5 * ce + 20 * dice, ohem]
    np.testing.assert_allclose(values, expected, rtol=1e-14)
    check_gradient("MixedLoss", outer, logits, labels)


def test_upstream_multiplies_the_gradient():
    logits, labels = random_batch(seed=31)
    _, gradient = value_and_gradient(CE, {}, logits, labels)
    _, doubled = value_and_gradient(CE, {}, logits, labels, upstream=2.0)
    np.testing.assert_array_equal(doubled, 2 * gradient)
    with pytest.raises(ValueError, match="upstream"):
        value_and_gradient(CE, {}, logits, labels, upstream=np.ones(3))


def test_inputs_of_any_dtype_are_left_alone():
    logits, labels = random_batch(seed=32)
    logits, labels = logits.astype(np.float16), labels.astype(np.uint8)
    before = logits.copy(), labels.copy()
    for loss in (CE, "DiceLoss", "LovaszSoftmaxLoss", "RelaxBoundaryLoss", "BCELoss"):
        value, gradient = value_and_gradient(loss, {}, logits, labels)
        assert value.dtype == gradient.dtype == np.float64
        expected, _ = value_and_gradient(loss, {}, logits.astype(np.float64), labels.astype(np.int64))
        assert value == expected
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(labels, before[1])


@pytest.mark.parametrize("loss", [CE, "DiceLoss", "LovaszSoftmaxLoss", "RelaxBoundaryLoss", "BCELoss", "DualTaskLoss"])
def test_a_label_outside_the_classes_is_an_error(loss):
    logits, labels = random_batch(seed=33)
    labels[1, 2, 3] = 7
    with pytest.raises(ValueError, match="label 7"):
        value_and_gradient(loss, {}, logits, labels, noise=np.full(logits.shape, 0.5))


def test_bad_arguments_are_errors():
    logits, labels = random_batch(seed=34)
    with pytest.raises(ValueError, match="variant"):
        value_and_gradient(CE, {"variant": "fixed"}, logits, labels)
    with pytest.raises(ValueError, match="reduction"):
        value_and_gradient("L1Loss", {"reduction": "avg"}, logits, logits)
    with pytest.raises(ValueError, match="labels have shape"):
        value_and_gradient(CE, {}, logits, labels[:, :2])
    with pytest.raises(ValueError, match="edge_logits"):
        value_and_gradient("EdgeAttentionLoss", {}, logits, labels)
    with pytest.raises(ValueError, match="noise"):
        value_and_gradient("DualTaskLoss", {}, logits, labels)


def test_the_reference_imports_nothing_it_judges():
    allowed = {"__future__", "collections", "dataclasses", "math", "numpy", "typing"}
    files = sorted(Path(reference.__file__).parent.glob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                own = name.startswith("unilossseg.conformance.reference.")
                assert own or name.split(".")[0] in allowed, f"{file.name} imports {name}"
