"""A step of training in which the host reads no value of a device: each framework forbids reading in its own way."""

from __future__ import annotations

import numpy as np
from checks.cases import batch_of_row
from checks.compare import assert_close, reference_of

METHODS = ("item", "tolist", "numpy", "cpu", "__array__", "__bool__", "__int__", "__float__", "__index__", "nonzero")


class HostAccessError(AssertionError):
    """A value was read, or written, by the host."""


def forbidden(name):
    """What takes the place of a method or function by which the host would read or write."""

    def function(*args, **kwargs):
        raise HostAccessError(f"the host reads or writes a device's values in {name}")

    return function


def check_two_steps(driver, no_host, row, way, dtype="float64", writing=False):
    """Forward and backward twice, without a read; the first may write, the second where `writing` says so."""
    batch = batch_of_row(row)
    loss = driver.make(*row)
    logits, labels, further = driver.inputs(batch, dtype)

    def step():
        return driver.backward(loss, logits, labels, None, further)

    with getattr(driver, way)():
        no_host(step, writing=True)
        value, gradient = no_host(step, writing=writing)
    value = driver.numpy(value)
    assert np.isfinite(value).all()
    if dtype == "float64":
        exact_value, exact = reference_of(*row, batch)
        assert_close(np.sum(value), np.sum(exact_value), 1e-11)
        assert_close(driver.numpy(gradient), exact, 1e-10)
