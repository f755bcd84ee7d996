"""Second derivatives: through the formula where Paddle has them, and never a wrong one without a word."""

import numpy as np
import paddle
import pytest
from checks.cases import BCE, ROWS, batch_of_row, named
from checks.compare import scale_of

import unilossseg

OLD = paddle.__version__.startswith("2.")


def gradient_of(driver, row, batch, logits):
    """By the closed form, of other logits."""
    _, gradient = driver.value_and_gradient(driver.make(*row), batch.changed(logits=logits))
    return gradient


@pytest.mark.parametrize("row", ROWS, ids=named)
@pytest.mark.parametrize("way", ["grad", "backward"])
def test_a_closed_form_says_that_it_has_none(driver, row, way):
    batch = batch_of_row(row)
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    value = driver.call(driver.make(*row), leaf if way == "grad" else leaf * 1.0, labels, further)
    value = sum(value) if isinstance(value, list) else value.sum()
    # Paddle 3 wraps an error of a PyLayer's backward in an OSError.
    with pytest.raises((RuntimeError, OSError), match=r"create_graph=True, .* inside unilossseg\.plain_formula\(\)"):
        paddle.grad([value], [leaf], create_graph=True)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_a_first_derivative_goes_on_as_before(driver, row):
    batch = batch_of_row(row)
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    value = driver.call(driver.make(*row), leaf, labels, further)
    (gradient,) = paddle.grad([sum(value) if isinstance(value, list) else value.sum()], [leaf])
    np.testing.assert_array_equal(driver.numpy(gradient), gradient_of(driver, row, batch, batch.logits))


@pytest.mark.skipif(OLD, reason="Paddle 2 lacks the second derivatives of `where` and `exp`")
@pytest.mark.parametrize("row", [row for row in ROWS if row[0] != BCE], ids=named)
def test_the_formula_has_one(driver, row):
    """The gradient of the squared gradient is twice the curvature along it: here by a central difference."""
    batch = batch_of_row(row, seed=5)
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    with unilossseg.plain_formula():
        value = driver.call(driver.make(*row), leaf, labels, further)
        value = sum(value) if isinstance(value, list) else value.sum()
    # Half the square, since the gradient of a piecewise linear loss is constant.
    (gradient,) = paddle.grad([value * value / 2], [leaf], create_graph=True)
    (gradient * gradient).sum().backward()
    slope = gradient_of(driver, row, batch, batch.logits)
    plain = driver.numpy(value)
    first, step = plain * slope, 1e-5 / max(1.0, scale_of(plain * slope))

    def total_gradient(logits):
        moved = batch.changed(logits=logits)
        moved_value = driver.value(driver.make(*row), moved)
        return np.sum(moved_value) * gradient_of(driver, row, moved, logits)

    curved = (total_gradient(batch.logits + step * first) - total_gradient(batch.logits - step * first)) / step
    np.testing.assert_allclose(driver.gradient(leaf), curved, rtol=0, atol=1e-5 * scale_of(curved))


@pytest.mark.skipif(OLD, reason="Paddle 2 lacks the second derivatives of `where` and `exp`")
def test_what_paddle_lacks_is_its_own_error(driver):
    batch = batch_of_row((BCE, {}))
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    with unilossseg.plain_formula():
        value = driver.call(driver.make(BCE, {}), leaf, labels, further)
    with pytest.raises(RuntimeError, match="log1p"):
        (paddle.grad([value], [leaf], create_graph=True)[0] ** 2).sum().backward()
