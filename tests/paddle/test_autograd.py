"""Gradients inside Paddle's autograd."""

import numpy as np
import paddle
import pytest
from checks.autograd import *  # noqa: F403  each of its tests
from checks.cases import BCE, CE, DICE, LOVASZ, ROWS, batch_for, batch_of_row, named
from checks.compare import assert_close, reference_of


def test_whole_numbers_that_paddle_follows_keep_the_closed_form(driver, recwarn):
    batch = batch_for(CE)
    labels = driver.array(batch.labels)
    labels.stop_gradient = False
    value = driver.make(CE, {})(driver.leaf(batch.logits), labels)
    assert_close(driver.numpy(value), reference_of(CE, {}, batch)[0], 1e-12)
    assert not [warning for warning in recwarn if "want a gradient" in str(warning.message)]


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_hook_on_the_value_changes_the_gradient(driver, row):
    batch = batch_of_row(row)
    loss = driver.make(*row)
    _, usual = driver.value_and_gradient(loss, batch)
    leaf = driver.leaf(batch.logits)
    _, labels, further = driver.inputs(batch, "float64")
    value = driver.call(loss, leaf, labels, further)
    for one in value if isinstance(value, list) else [value]:
        one.register_hook(lambda gradient: gradient * 0.5)
    (sum(value) if isinstance(value, list) else value).backward()
    assert_close(driver.gradient(leaf), usual / 2, 1e-12)


@pytest.mark.parametrize("factor", [None, 2.0])
def test_a_second_backward_pass_is_an_error_of_paddle(driver, factor):
    batch = batch_for(CE)
    logits, labels, _ = driver.inputs(batch, "float32")
    logits.stop_gradient = False
    value = driver.make(CE, {})(logits, labels)
    value = value if factor is None else value * factor
    value.backward()
    with pytest.raises((RuntimeError, OSError, SystemError), match="backward"):
        value.backward()


@pytest.mark.parametrize("factors", [(), (1.0, 2.0)], ids=["expected", "a surprise"])
@pytest.mark.parametrize("name", [CE, DICE, LOVASZ, BCE])
def test_labels_of_half_precision_that_come_back_from_elsewhere(driver, name, factors):
    batch = batch_for(name)
    _, labels, further = driver.inputs(batch, "bfloat16")
    labels.add_(paddle.zeros_like(labels))
    leaf, loss = driver.leaf(batch.logits, "bfloat16"), driver.make(name, {})
    given = labels.clone()
    copies = paddle.autograd.saved_tensors_hooks(lambda tensor: tensor.clone(), lambda tensor: tensor)
    for factor in factors:
        (driver.call(loss, driver.leaf(batch.logits, "bfloat16"), labels, further) * factor).backward()
    with copies:
        value = driver.call(loss, leaf, labels, further)
    assert labels.inplace_version > 0
    # The graph has copies.
    labels.zero_()
    (value * 7.0).backward()
    again = driver.leaf(batch.logits, "bfloat16")
    (driver.call(driver.make(name, {}), again, given, further) * 7.0).backward()
    np.testing.assert_array_equal(driver.gradient(leaf), driver.gradient(again))


def test_bfloat16_without_views_of_other_dtypes(driver):
    batch = batch_for(CE)
    expected = driver.value_and_gradient(driver.make(CE, {}), batch, "bfloat16")
    before = paddle.get_flags("FLAGS_use_stride_kernel")
    paddle.set_flags({"FLAGS_use_stride_kernel": False})
    try:
        found = driver.value_and_gradient(driver.make(CE, {}), batch, "bfloat16")
    finally:
        paddle.set_flags(before)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
