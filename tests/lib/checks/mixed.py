"""The coefficients of a MixedLoss in gradients, by a framework's autograd."""

from __future__ import annotations

import numpy as np
import pytest
from checks.cases import CE, DICE, L1, LOVASZ, MIXED, OHEM, batch_for
from checks.compare import assert_close, reference_of

import unilossseg

NESTED = {"losses": [(CE, {}), (MIXED, {"losses": [(DICE, {}), (LOVASZ, {})], "coef": [0.3, -2.0]}), (OHEM, {})]}


def total(driver, loss, leaf, batch):
    """The sum of what a MixedLoss returns."""
    value = driver.call(loss, leaf, driver.array(batch.labels), {})
    leaves = [value]
    while any(isinstance(one, list) for one in leaves):
        leaves = [inner for one in leaves for inner in (one if isinstance(one, list) else [one])]
    return sum(leaves[1:], leaves[0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [CE, DICE, LOVASZ])
def test_the_coefficient_is_in_the_gradient_from_the_start(driver, name, dtype):
    """To the bit: a gradient that is multiplied afterwards is rounded once more, and takes a pass more."""
    batch, coef = batch_for(name), 0.7
    leaf = driver.leaf(batch.logits, dtype)
    total(driver, driver.make(MIXED, {"losses": [(name, {})], "coef": coef}), leaf, batch).backward()
    closed = getattr(unilossseg, name)().value_and_grad
    _, gradient = closed(batch.logits.astype(dtype), batch.labels, upstream=np.asarray(coef, dtype))
    np.testing.assert_array_equal(driver.gradient(leaf), gradient)


@pytest.mark.parametrize("factor", [1.0, -3.7, 0.0, 65536.0])
@pytest.mark.parametrize("coef", [[0.8, 0.2, 1.0], [-0.5, 0.0, 1e-12], [1e300, 1e-300, 7.0]], ids=repr)
def test_whatever_multiplies_the_value(driver, coef, factor):
    batch = batch_for(CE)
    options = {**NESTED, "coef": coef, "reduction": "sum"}
    leaf = driver.leaf(batch.logits)
    (total(driver, driver.make(MIXED, options), leaf, batch) * factor).backward()
    _, exact = reference_of(MIXED, options, batch)
    assert_close(driver.gradient(leaf), factor * exact, 1e-10)


def test_each_value_with_an_upstream_gradient_of_its_own(driver):
    batch = batch_for(CE)
    leaf = driver.leaf(batch.logits)
    mixed = driver.make(MIXED, {"losses": [(CE, {}), (DICE, {})], "coef": [0.8, 0.2]})
    first, second = driver.call(mixed, leaf, driver.array(batch.labels), {})
    (3 * first - 0.5 * second).backward()
    exact = 2.4 * reference_of(CE, {}, batch)[1] - 0.1 * reference_of(DICE, {}, batch)[1]
    assert_close(driver.gradient(leaf), exact, 1e-10)


def test_losses_called_by_a_function_among_them(driver):
    """That multiplies by numbers of its own, and calls a loss that returns a value for each entry."""
    batch = batch_for(L1)
    inner, each = driver.make(L1, {}), driver.make(L1, {"reduction": "none"})

    def weighted(logits, labels):
        return 0.25 * inner(logits, labels) + (each(logits, labels) * 2.0).mean()

    leaf = driver.leaf(batch.logits)
    mixed = driver.make(MIXED, {"losses": [(L1, {})], "coef": 0.7})
    mixed.losses, mixed.coef = [weighted], [0.7]
    total(driver, mixed, leaf, batch).backward()
    mean, each = reference_of(L1, {}, batch)[1], reference_of(L1, {"reduction": "sum"}, batch)[1] / batch.logits.size
    assert_close(driver.gradient(leaf), 0.7 * (0.25 * mean + 2 * each), 1e-10)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_value_and_grad_rounds_after_the_coefficient(driver, dtype):
    """Before it, most entries of so small a gradient would be 0."""
    batch, coef = batch_for(CE), 2.0**12
    scale = np.float64(2.0**-20)
    mixed = driver.make(MIXED, {"losses": [(CE, {}), (MIXED, {"losses": [(DICE, {})], "coef": 0.5})], "coef": coef})
    logits, labels = driver.array(batch.logits, dtype), driver.array(batch.labels)
    _, gradient = mixed.value_and_grad(logits, labels, upstream=driver.array(np.float32(scale)))
    _, exact = reference_of(CE, {}, batch)
    _, other = reference_of(DICE, {}, batch)
    # The logits are rounded, too, by which their gradient is off as far.
    assert_close(driver.numpy(gradient), scale * coef * (exact + 0.5 * other), 2e-2 if dtype == "bfloat16" else 3e-3)
