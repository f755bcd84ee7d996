"""torch's own checks of first and second derivatives, in float64 and away from kinks."""

import pytest
import torch
from checks.cases import DUAL, ROWS, batch_for, batch_of_row, named
from torch.autograd import gradcheck, gradgradcheck

every_row = pytest.mark.parametrize("row", ROWS, ids=named)


def function_of(driver, row):
    """The loss as a function of its logits, and those."""
    batch = batch_of_row(row, seed=5) if row[0] == DUAL else batch_for(row[0], shape=(3, 3), seed=5)
    loss = driver.make(*row)
    _, labels, further = driver.inputs(batch, "float64")
    listed = row[0] == "MixedLoss" and row[1].get("reduction") != "sum"

    def function(z):
        value = driver.call(loss, z, labels, further)
        return tuple(value) if listed else value

    return function, driver.leaf(batch.logits)


@every_row
@pytest.mark.parametrize("way", ["closed", "plain"])
def test_first_derivative(driver, row, way):
    function, logits = function_of(driver, row)
    with getattr(driver, way)():
        assert gradcheck(function, logits)


# DualTaskLoss has 216 logits or 120: a Hessian of it takes a minute.
@pytest.mark.parametrize("row", [row for row in ROWS if row[0] != DUAL], ids=named)
def test_second_derivative(driver, row):
    function, logits = function_of(driver, row)
    assert gradgradcheck(function, logits)


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] == DUAL], ids=named)
def test_second_derivative_along_random_directions(driver, row):
    function, logits = function_of(driver, row)
    assert gradgradcheck(function, logits, fast_mode=True)


@every_row
def test_second_derivative_of_the_closed_form_is_that_of_the_formula(driver, row):
    function, logits = function_of(driver, row)
    results = []
    for way in (driver.closed(), driver.plain()):
        with way:
            value = function(logits)
            # Squared, since the gradient of a piecewise linear loss is constant.
            value = sum(v**2 for v in value) if isinstance(value, tuple) else (value**2).sum()
            (first,) = torch.autograd.grad(value, logits, create_graph=True)
            (second,) = torch.autograd.grad((first**2).sum(), logits)
        results.append((first.detach(), second))
    for closed, plain in zip(*results, strict=True):
        torch.testing.assert_close(closed, plain, rtol=0, atol=1e-11 * max(1.0, float(plain.abs().max())))
