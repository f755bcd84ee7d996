"""What calls may be given, and what they leave alone, on NumPy and array-api-strict."""

import numpy as np
import pytest
from checks.cases import ROWS, batch_of_row, named
from checks.drivers import ArrayDriver
from checks.inputs import *  # noqa: F403  each of its tests


@pytest.mark.parametrize("row", ROWS, ids=named)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_read_only_arrays(row, dtype):
    driver = ArrayDriver("numpy")
    batch = batch_of_row(row)
    logits, labels, further = driver.inputs(batch, dtype)
    for x in (logits, labels, *further.values()):
        x.flags.writeable = False
    value, gradient = driver.backward(driver.make(*row), logits, labels, None, further)
    expected = driver.value_and_gradient(driver.make(*row), batch, dtype)
    np.testing.assert_array_equal(driver.numpy(value), expected[0])
    np.testing.assert_array_equal(gradient, expected[1])
    assert gradient.flags.writeable


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_gradients_share_no_memory_with_inputs(row):
    driver = ArrayDriver("numpy")
    logits, labels, further = driver.inputs(batch_of_row(row), "float64")
    value, gradient = driver.backward(driver.make(*row), logits, labels, None, further)
    for x in (logits, labels, *further.values()):
        assert not np.shares_memory(gradient, x)
        assert not np.shares_memory(driver.numpy(value), x)
    assert not np.shares_memory(driver.numpy(value), gradient)
