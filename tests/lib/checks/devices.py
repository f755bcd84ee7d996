"""Tensors of an accelerator, tried on the CPU: nobody reads a value, and closed forms run in the framework."""

from __future__ import annotations

import numpy as np
import pytest
from checks.autograd import check_value_changed_in_place
from checks.cases import CLASS_ROWS, DICE, ROWS, batch_for, batch_of_row, named
from checks.compare import assert_close, reference_of

from unilossseg.backends import get_backend

every_row = pytest.mark.parametrize("row", ROWS, ids=named)


@pytest.fixture
def accelerator(driver, monkeypatch):
    """The adapter takes tensors for those of a device: not to be read, not to be handed to NumPy."""
    adapter = type(get_backend(driver.name))
    reads = []

    def read(self, x):
        reads.append(x)
        return original(self, x)

    original = adapter.read
    monkeypatch.setattr(adapter, "readable", lambda self, x: False)
    monkeypatch.setattr(adapter, "kernel", lambda self, x: self)
    monkeypatch.setattr(adapter, "to_kernel", lambda self, x, packed=False: x.detach())
    monkeypatch.setattr(adapter, "read", read)
    return reads


@every_row
@pytest.mark.parametrize("way", ["closed", "plain"])
def test_value_and_gradient_are_the_same_there(driver, accelerator, row, way):
    batch = batch_of_row(row, seed=7)
    with getattr(driver, way)():
        value, gradient = driver.value_and_gradient(driver.make(*row), batch)
    exact_value, exact = reference_of(*row, batch)
    assert_close(value, exact_value, 1e-11)
    assert_close(gradient, exact, 1e-10)
    assert accelerator == []


@every_row
def test_float32_and_many_pixels_there(driver, accelerator, row):
    batch = batch_for(row[0], shape=(15, 17), seed=8)
    value, gradient = driver.value_and_gradient(driver.make(*row), batch, "float32")
    exact_value, exact = reference_of(*row, batch)
    assert_close(value, exact_value, 1e-5)
    # Which of two near-equal errors comes first may differ from float64: the norm bears that, a single entry would not.
    assert np.linalg.norm(gradient - exact) <= 1e-3 * np.linalg.norm(exact)


@every_row
def test_a_value_may_be_changed_in_place_there(driver, accelerator, row):
    check_value_changed_in_place(driver, row, "float32")


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
@pytest.mark.parametrize("number", [-1, 3, 200, 2**33])
def test_a_label_out_of_range_makes_value_and_gradient_nan_there(driver, accelerator, row, number):
    batch = batch_for(row[0], ignored=0.1)
    batch.labels[1, 3, 2] = number
    value, gradient = driver.value_and_gradient(driver.make(*row), batch)
    assert np.isnan(value)
    assert np.all(np.isnan(gradient))
    assert accelerator == []


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32"])
def test_a_narrow_label_out_of_range_is_nan_there(driver, accelerator, row, dtype):
    batch = batch_for(row[0], ignored=0.0)
    batch.labels[0, 0, 0] = 100
    labels = batch.labels.astype(dtype)
    assert np.isnan(driver.value_and_gradient(driver.make(*row), batch.changed(labels=labels))[0])
    batch.labels[0, 0, 0] = 1
    good = batch.changed(labels=batch.labels.astype(dtype))
    assert_close(driver.value_and_gradient(driver.make(*row), good)[0], reference_of(*row, good)[0], 1e-11)


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
def test_validation_can_be_asked_for_there(driver, accelerator, row):
    batch = batch_for(row[0], ignored=0.0)
    batch.labels[1, 3, 2] = 3
    with pytest.raises(ValueError, match=r"labels hold 3 at \(1, 3, 2\)"):
        driver.value(driver.make(row[0], {**row[1], "validate": True}), batch)
    assert accelerator


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
def test_an_ignored_batch_is_exactly_zero_there(driver, accelerator, row):
    batch = batch_for(row[0], ignored=1.1)
    value, gradient = driver.value_and_gradient(driver.make(*row), batch)
    assert value == 0
    assert not np.any(gradient)


@pytest.mark.parametrize("row", [row for row in CLASS_ROWS if row[0] != "MixedLoss"], ids=named)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_there(driver, accelerator, row, dtype):
    driver.needs(dtype)
    batch = batch_for(row[0], seed=3)
    logits, labels, further = driver.inputs(batch, dtype)
    rounded = batch.changed(logits=driver.numpy(logits), further={name: driver.numpy(x) for name, x in further.items()})
    exact_value, exact = reference_of(*row, rounded)
    leaf = driver.leaf(batch.logits, dtype)
    value = driver.call(driver.make(*row), leaf, labels, further)
    (value * 1024.0).backward()
    assert_close(driver.numpy(value), exact_value, 1e-5)
    assert_close(driver.gradient(leaf), 1024 * exact, 1e-2)
    assert dtype in str(leaf.grad.dtype)


def test_the_fixture_can_see_a_read(driver, accelerator):
    batch = batch_for(DICE)
    driver.value(driver.make(DICE, {"validate": True}), batch)
    assert len(accelerator) == 1
