"""What calls may be given, and what they leave alone, on NumPy and array-api-strict."""

import sys
import threading

import numpy as np
import pytest
from checks.cases import BCE, CE, DICE, L1, LOVASZ, MSE, OHEM, ROWS, Batch, batch_for, batch_of_row, named
from checks.compare import assert_close
from checks.drivers import ArrayDriver
from checks.inputs import *  # noqa: F403  each of its tests

from unilossseg import DiceLoss, LovaszSoftmaxLoss, value_and_grad


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


@pytest.mark.parametrize("row", ROWS, ids=named)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_other_order_of_bytes(row, dtype):
    """The same numbers, in the same precision."""
    driver, batch = ArrayDriver("numpy"), batch_of_row(row)
    logits, labels, further = driver.inputs(batch, dtype)
    other = np.dtype(dtype).newbyteorder(">" if sys.byteorder == "little" else "<")
    swapped = {name: x.astype(other) for name, x in further.items()}
    value, gradient = driver.backward(driver.make(*row), logits.astype(other), labels, None, swapped)
    expected = driver.backward(driver.make(*row), logits, labels, None, further)
    tolerance = 1e-13 if dtype == "f8" else 1e-5
    assert np.asarray(value).dtype == np.dtype(dtype)
    assert_close(driver.numpy(value), driver.numpy(expected[0]), tolerance)
    assert_close(gradient, expected[1], tolerance)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_the_order_of_bytes_by_its_name(row):
    """The machine's own, of a dtype that says so."""
    driver, batch = ArrayDriver("numpy"), batch_of_row(row)
    logits, labels, further = driver.inputs(batch, "float32")
    order = "<" if sys.byteorder == "little" else ">"
    named = {name: x.view(x.dtype.newbyteorder(order)) for name, x in further.items()}
    logits_named, labels_named = (x.view(x.dtype.newbyteorder(order)) for x in (logits, labels))
    value, gradient = driver.backward(driver.make(*row), logits_named, labels_named, None, named)
    expected = driver.backward(driver.make(*row), logits, labels, None, further)
    np.testing.assert_array_equal(driver.numpy(value), driver.numpy(expected[0]))
    np.testing.assert_array_equal(gradient, expected[1])


@pytest.mark.skipif(np.finfo(np.longdouble).nmant == np.finfo(np.float64).nmant, reason="longdouble is float64 here")
def test_extended_precision_is_refused():
    with pytest.raises(
        TypeError, match=r"^DiceLoss: logits have dtype (float128|longdouble|float96), expected float16, bfloat16"
    ):
        DiceLoss()(np.zeros((1, 2, 3), np.longdouble), np.zeros((1, 3), np.int64))


@pytest.mark.parametrize("name", [CE, OHEM, DICE, LOVASZ, BCE, L1, MSE])
def test_many_images_of_two_pixels(name):
    """They have a share of the work each, however little that is."""
    driver, batches = ArrayDriver("numpy"), [batch_for(name, shape=(1, 2), seed=seed) for seed in range(150)]
    parts = [np.concatenate([getattr(batch, part) for batch in batches]) for part in ("logits", "labels")]
    large = Batch(*parts)
    found, wanted = (driver.value_and_gradient(driver.make(name, {}), large, dtype) for dtype in ("float32", "float64"))
    assert_close(found[0], wanted[0], 1e-5)
    assert_close(found[1], wanted[1], 1e-5)
