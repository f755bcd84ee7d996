"""What calls may be given, and what they leave alone, on NumPy and array-api-strict."""

import threading

import numpy as np
import pytest
from checks.cases import LOVASZ, ROWS, batch_of_row, named
from checks.drivers import ArrayDriver
from checks.inputs import *  # noqa: F403  each of its tests

from unilossseg import LovaszSoftmaxLoss, value_and_grad


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


def test_losses_in_several_threads_of_the_user(monkeypatch):
    monkeypatch.setattr("unilossseg.backends._threads.CHUNK_ELEMENTS", 64)
    compute = value_and_grad(LovaszSoftmaxLoss())
    batches = [batch_of_row((LOVASZ, {}), seed=seed, shape=(9, 9)) for seed in range(8)]
    expected = [compute(batch.logits, batch.labels)[1] for batch in batches]
    found = [None] * len(batches)

    def work(i):
        found[i] = compute(batches[i].logits, batches[i].labels)[1]

    users = [threading.Thread(target=work, args=(i,)) for i in range(len(batches))]
    for user in users:
        user.start()
    for user in users:
        user.join()
    np.testing.assert_array_equal(found, expected)
