"""A user's own closed form: it gets what the formula gets, and the number that it returns has the formula's dtype."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from checks.cases import CE, batch_for
from checks.compare import assert_close

import unilossseg
from unilossseg.building import average, total

SIDE = 400


@dataclass(eq=False)
class Squares(unilossseg.Loss):
    """The sum of the squares, in the dtype that the logits come in."""

    def compute(self, ops, logits, labels):
        return total(ops, logits * logits)

    def closed_form(self, ops, logits, labels, *, gradient, upstream):
        slope = 2 * logits if upstream is None else 2 * logits * upstream
        return total(ops, logits * logits), slope if gradient else None


@dataclass(eq=False)
class Coded(unilossseg.Loss):
    """The mean of the first channel's (100 y + 1), with numbers that no uint8 holds."""

    def compute(self, ops, logits, labels):
        return average(ops, logits[:, 0, ...] * self._code(ops, logits, labels))

    def closed_form(self, ops, logits, labels, *, gradient, upstream):
        xp = ops.xp
        code = xp.reshape(self._code(ops, logits, labels), (logits.shape[0], -1))
        slope = xp.zeros_like(logits)
        slope[:, 0, :] = code / code.size * (1.0 if upstream is None else upstream)
        return average(ops, logits[:, 0, :] * code), slope if gradient else None

    def _code(self, ops, logits, labels):
        return ops.xp.astype(100 * labels + 1, logits.dtype)


@dataclass(eq=False)
class Halved(unilossseg.Loss):
    """Half of the mean, times a number of Python's: NumPy 1 makes float64 of the two."""

    def compute(self, ops, logits, labels):
        return average(ops, logits) * 0.5

    def closed_form(self, ops, logits, labels, *, gradient, upstream):
        slope = ops.xp.ones_like(logits) / logits.size * (0.5 if upstream is None else 0.5 * upstream)
        return average(ops, logits) * 0.5, slope if gradient else None


@dataclass(eq=False)
class Scaled(unilossseg.Loss):
    """The mean times a number that may be learned."""

    factor: object = 1.0

    def compute(self, ops, logits, labels):
        return average(ops, logits) * self.factor

    def closed_form(self, ops, logits, labels, *, gradient, upstream):
        raise AssertionError("it has no derivative by the factor")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_its_logits_come_in_the_working_dtype(driver, dtype):
    driver.has(dtype)
    # More than float16 has numbers for.
    batch = batch_for(CE).changed(logits=np.ones((1, 2, SIDE, SIDE)), labels=np.zeros((1, SIDE, SIDE), np.int64))
    value, gradient = driver.value_and_gradient(driver.own_loss(Squares)(), batch, dtype)
    assert value.dtype == (np.float64 if dtype == "float64" else np.float32)
    assert value == 2 * SIDE * SIDE
    assert np.all(gradient == 2)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "int64"])
def test_its_labels_come_as_int64(driver, dtype):
    batch = batch_for(CE, ignored=0.0)
    code = 100.0 * batch.labels + 1
    given = batch.changed(labels=batch.labels.astype(dtype))
    value, gradient = driver.value_and_gradient(driver.own_loss(Coded)(), given, "float64")
    assert_close(value, np.mean(batch.logits[:, 0] * code), 1e-12)
    assert_close(gradient[:, 0], code / code.size, 1e-12)
    assert not np.any(gradient[:, 1:])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("way", ["closed", "plain"])
def test_its_value_has_the_working_dtype(driver, dtype, way):
    driver.has(dtype)
    batch = batch_for(CE, ignored=0.0)
    with getattr(driver, way)():
        value = driver.value(driver.own_loss(Halved)(), batch, dtype)
    assert value.dtype == (np.float64 if dtype == "float64" else np.float32)
    assert_close(value, np.mean(batch.logits) / 2, 1e-2 if dtype == "float16" else 1e-6)


def test_a_parameter_that_is_learned_gets_its_gradient_by_the_formula(driver):
    if not driver.autograd:
        pytest.skip("a framework's autograd learns parameters")
    batch = batch_for(CE, ignored=0.0)
    logits, labels, _ = driver.inputs(batch, "float64")
    loss = driver.own_loss(Scaled)(factor=driver.parameter(np.asarray(3.0)))
    with pytest.warns(UserWarning, match="the loss's own parameters want a gradient"):
        loss(logits, labels).backward()
    assert_close(driver.gradient(loss.factor), np.mean(batch.logits), 1e-12)


@pytest.mark.parametrize("shape", [(1, -1, 20), (-1,), (-1, 20)], ids=str)
def test_its_gradient_may_have_any_axes_in_the_order_of_the_logits(driver, shape):
    class Reshaped(Squares):
        def closed_form(self, ops, logits, labels, *, gradient, upstream):
            value, slope = super().closed_form(ops, logits, labels, gradient=gradient, upstream=upstream)
            return value, None if slope is None else ops.xp.reshape(slope, shape)

    batch = batch_for(CE, ignored=0.0)
    assert batch.logits.shape[2:] == (4, 5)
    gradient = driver.value_and_gradient(driver.own_loss(Reshaped)(), batch, "float64")[1]
    assert_close(gradient, 2 * batch.logits, 1e-14)


def test_a_parameter_beside_a_closed_form_of_the_package_is_no_reason_for_the_formula(driver, recwarn):
    """It has no part in that."""
    if not driver.autograd:
        pytest.skip("a framework's autograd learns parameters")

    class Calibrated(type(driver.make(CE, {}))):
        def __init__(self):
            super().__init__()
            self.temperature = driver.parameter(np.asarray(2.0))

        def forward(self, logits, labels):
            return super().forward(logits / self.temperature, labels)

    batch, loss = batch_for(CE), Calibrated()
    value, gradient = driver.value_and_gradient(loss, batch, "float64")
    exact, slope = driver.value_and_gradient(driver.make(CE, {}), batch.changed(logits=batch.logits / 2), "float64")
    assert_close(value, exact, 1e-12)
    assert_close(gradient, slope / 2, 1e-12)
    assert_close(driver.gradient(loss.temperature), -np.sum(slope * batch.logits) / 4, 1e-12)
    assert not [warning for warning in recwarn if "want a gradient" in str(warning.message)]
