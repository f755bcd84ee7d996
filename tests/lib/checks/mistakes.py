"""Labels that name no class, in every framework."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from checks.cases import CE, CLASS_ROWS, DICE, batch_for, named


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
@pytest.mark.parametrize("number", [-1, 3, 254])
def test_every_loss_names_a_label_out_of_range(driver, row, number):
    name, options = row
    batch = batch_for(name, ignored=0.0)
    batch.labels[1, 2, 3] = number
    found = "DiceLoss|CrossEntropyLoss" if name == "MixedLoss" else name
    with pytest.raises(
        ValueError, match=rf"^({found}): labels hold {number} at \(1, 2, 3\), expected a class in \[0, [23]\)"
    ):
        driver.value(driver.make(name, options), batch)


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
def test_the_first_of_several_is_named(driver, row):
    batch = batch_for(row[0], ignored=0.0)
    batch.labels[1, 2, 3] = 77
    batch.labels[0, 1, 4] = 99
    with pytest.raises(ValueError, match=r"labels hold 99 at \(0, 1, 4\)"):
        driver.value(driver.make(*row), batch)


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
def test_labels_are_checked_by_the_formula_too(driver, row):
    batch = batch_for(row[0], ignored=0.0)
    batch.labels[1, 2, 3] = 3
    with driver.plain(), pytest.raises(ValueError, match=r"labels hold 3 at \(1, 2, 3\)"):
        driver.value(driver.make(*row), batch)


@pytest.mark.parametrize("options", [{}, {"pos_weight": 2.0}, {"weight": "dynamic"}], ids=["plain", "weighted", "dynamic"])
@pytest.mark.parametrize("way", ["closed", "plain"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("number", [0.0, 1.5, 2.0, np.nan])
def test_soft_labels_are_checked_wherever_they_are_counted(driver, options, way, dtype, number):
    driver.has(dtype)
    batch = batch_for("BCELoss", ignored=0.0)
    batch = replace(batch, labels=np.zeros(batch.logits.shape, "float32"))
    batch.labels[1, 2, 3, 1], batch.labels[0, 1, 2, 3] = number, 255
    loss = driver.make("BCELoss", options)
    with getattr(driver, way)():
        if number == 0:
            value, gradient = driver.value_and_gradient(loss, batch, dtype)
            assert np.isfinite(value)
            assert gradient[0, 1, 2, 3] == 0
            return
        with pytest.raises(ValueError, match=rf"^BCELoss: labels hold {number} at \(1, 2, 3, 1\), expected a number in"):
            driver.value_and_gradient(loss, batch, dtype)


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
@pytest.mark.parametrize("way", ["closed", "plain"])
def test_without_validation_a_label_out_of_range_is_nan(driver, row, way):
    batch = batch_for(row[0], ignored=0.0)
    batch.labels[0, 1, 2] = 200
    loss = driver.make(row[0], {**row[1], "validate": False})
    with getattr(driver, way)():
        value, gradient = driver.value_and_gradient(loss, batch)
    assert np.isnan(value)
    # By the formula, pixels that a loss leaves out keep their gradient of 0.
    assert np.any(np.isnan(gradient)) if way == "plain" else np.all(np.isnan(gradient))


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
def test_without_validation_good_labels_give_the_same(driver, row):
    batch = batch_for(row[0])
    checked = driver.value_and_gradient(driver.make(*row), batch)
    unchecked = driver.value_and_gradient(driver.make(row[0], {**row[1], "validate": False}), batch)
    for one, other in zip(checked, unchecked, strict=True):
        np.testing.assert_array_equal(one, other)


def test_validation_of_a_call_overrules_that_of_the_loss(driver):
    batch = batch_for(DICE)
    batch.labels[0, 0, 0] = 99
    logits, labels, _ = driver.inputs(batch, "float64")
    assert np.isnan(driver.numpy(driver.make(DICE, {})(logits, labels, validate=False)))
    with pytest.raises(ValueError, match="labels hold 99"):
        driver.make(DICE, {"validate": False})(logits, labels, validate=True)


def test_validation_reaches_the_losses_of_a_mixed_loss(driver):
    batch = batch_for(CE)
    batch.labels[0, 0, 0] = 99
    parts = [(CE, {}), (DICE, {})]
    unchecked = driver.make("MixedLoss", {"losses": parts, "coef": 1, "validate": False})
    assert np.all(np.isnan(driver.value(unchecked, batch)))
    logits, labels, _ = driver.inputs(batch, "float64")
    with pytest.raises(ValueError, match="labels hold 99"):
        unchecked(logits, labels, validate=True)
