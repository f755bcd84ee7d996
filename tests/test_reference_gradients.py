"""The float64 reference's gradients against central differences."""

import numpy as np
import pytest
from checks.cases import BOOT, CE, CORRECTED, IGNORED, OHEM, named
from checks.reference_calls import CASES, check_gradient, random_batch

from unilossseg.conformance.reference import value_and_gradient


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
