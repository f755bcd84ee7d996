"""The float64 reference: PaddleSeg's recordings, MixedLoss, what a call takes and refuses, and what it imports."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
from checks.cases import CE, OHEM
from checks.reference_calls import check_gradient, random_batch, value_of

from unilossseg.conformance import reference
from unilossseg.conformance.reference import LOSSES, value_and_gradient

GOLDEN = Path(__file__).parent / "golden" / "paddleseg"
RECORDED = json.loads((GOLDEN / "manifest.json").read_text())["cases"]


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
