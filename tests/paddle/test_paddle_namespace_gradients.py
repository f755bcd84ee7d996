"""The gradients of Paddle's Array API namespace, which NumPy has none of."""

from __future__ import annotations

import numpy as np
import pytest
from checks.paddle_namespace import FLOAT, array, gradients, paddle, rng, xp


@pytest.mark.parametrize("dtype", FLOAT)
def test_gradients_at_ties(dtype):
    a, b = [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]
    assert gradients(xp.maximum, a, b, dtype=dtype) == [[0.5, 0, 1], [0.5, 1, 0]]
    assert gradients(xp.minimum, a, b, dtype=dtype) == [[0.5, 1, 0], [0.5, 0, 1]]
    assert gradients(lambda x: xp.maximum(x, 2.0), a, dtype=dtype) == [[0, 0.5, 1]]
    assert gradients(lambda x: xp.max(x, axis=1), [[1.0, 3.0, 3.0]], dtype=dtype) == [[[0, 0.5, 0.5]]]
    assert gradients(xp.min, [[1.0, 3.0], [1.0, 5.0]], dtype=dtype) == [[[0.5, 0], [0.5, 0]]]
    assert gradients(xp.abs, [0.0, -0.0, -2.0, 2.0], dtype=dtype) == [[0, 0, -1, 1]]
    assert gradients(lambda x: xp.clip(x, 0.0, 1.0), [0.0, 1.0, -1.0, 2.0, 0.5], dtype=dtype) == [[1, 1, 0, 0, 1]]
    assert gradients(lambda x, y: xp.clip(x, y), [1.0, 3.0], [2.0, 2.0], dtype=dtype) == [[0, 1], [1, 0]]


@pytest.mark.parametrize("dtype", FLOAT)
def test_gradients_of_extremes_whose_ties_do_not_add_up(dtype):
    """Three thirds of a number need not be the number; what is infinite has a gradient too, and NaN the whole one."""
    thirds = gradients(lambda x: 3 * xp.max(x), [0.7, 0.1, 0.7, 0.7], dtype=dtype)
    np.testing.assert_allclose(thirds, [[1, 0, 1, 1]], rtol=2.0**-8)
    x = array([[0.7, 0.1, 0.7, 0.7], [-0.3, 0.1, 0.7, 0.7]], dtype, grad=True)
    assert xp.max(x, axis=1).tolist() == [x[0, 0].item()] * 2
    assert xp.min(x, axis=(0, 1), keepdims=True).tolist() == [[x[1, 0].item()]]
    assert gradients(xp.max, [1.0, np.inf, np.inf], dtype=dtype) == [[0, 0.5, 0.5]]
    assert gradients(xp.max, [-np.inf, -np.inf], dtype=dtype) == [[0.5, 0.5]]
    assert gradients(xp.min, [1.0, -np.inf, np.inf], dtype=dtype) == [[0, 1, 0]]
    assert gradients(xp.max, [np.nan, np.inf, 1.0], dtype=dtype) == [[1, 0, 0]]


def test_gradients_of_powers():
    assert gradients(lambda x: xp.pow(x, 0), [0.0, 2.0]) == [[0, 0]]
    assert gradients(lambda x: xp.pow(x, 1), [0.0, 2.0]) == [[1, 1]]
    assert gradients(lambda x: xp.pow(x, 2), [0.0, 2.0]) == [[0, 4]]
    assert gradients(lambda x: xp.pow(x, 0.1), [1.0]) == [[0.1]]


def test_where_stops_infinite_gradients_of_the_branch_not_taken():
    def root_of_selected(x, y):
        return xp.sqrt(xp.where(array([True, False], "bool"), x, y))

    assert gradients(root_of_selected, [0.0, 4.0], [0.0, 4.0]) == [[np.inf, 0], [0, 0.25]]
    x, y = array([4.0, 0.0], grad=True), array([1.0, 0.0], grad=True)
    for wanted, kept in ((x, [0.25, 0.0]), (y, [0.0, np.inf])):  # one of two leaves
        (g,) = paddle.grad(xp.sum(root_of_selected(x, y)), [wanted])
        assert g.tolist() == kept
    (g,) = paddle.grad(xp.sum(xp.sqrt(xp.where(x > 1, x, 0.0))), [x])
    assert g.tolist() == [0.25, 0.0]
    loss = xp.sum(root_of_selected(x, y))
    loss.backward(retain_graph=True)
    loss.backward()
    assert x.grad.tolist() == [0.5, 0.0]


def test_gradients_through_indexing_and_order():
    weights = array([1.0, 2.0, 3.0])
    assert gradients(lambda x: xp.sort(x, descending=True) * weights, [0.5, 1.5, 0.5]) == [[2, 1, 3]]
    assert gradients(lambda x: xp.cumulative_sum(x, include_initial=True), [1.0, 2.0, 3.0]) == [[3, 2, 1]]
    index = array([[0, 0], [1, 2]], "int64")
    assert gradients(lambda x: xp.take_along_axis(x, index, axis=1), [[1.0, 2.0, 3.0]] * 2) == [[[2, 0, 0], [0, 1, 1]]]
    assert gradients(lambda x: xp.take_along_axis(x, index, axis=1), [[1.0, 2.0, 3.0]]) == [[[2, 1, 1]]]
    assert gradients(lambda x: xp.take(x, array([1, 1], "int32"), axis=0), [1.0, 2.0]) == [[0, 2]]
    assert gradients(lambda x: xp.broadcast_to(x, (2, 3)), 1.0) == [6]
    assert gradients(lambda x: xp.flip(xp.roll(x, 1), axis=0) * weights, [1.0, 2.0, 3.0]) == [[2, 1, 3]]
    assert gradients(lambda x, y: xp.stack([x, y * 2]), [1.0], [1.0]) == [[1], [2]]
    assert gradients(lambda x, y: xp.concat([x, y * 2]), [1.0], [1.0]) == [[1], [2]]
    assert gradients(lambda x: xp.sum(xp.reshape(x, (2, 2))[:, ::-1] * weights[:2]), [1.0, 2.0, 3.0, 4.0]) == [[2, 1, 2, 1]]


@pytest.mark.parametrize(
    "name", ["exp", "log", "log1p", "expm1", "sqrt", "mean", "divide", "multiply", "matmul", "subtract"]
)
def test_gradients_against_differences(name):
    values = [rng.random((3, 3)) + 0.5 for _ in range(2 if name in ("divide", "multiply", "matmul", "subtract") else 1)]
    function = getattr(xp, name)
    for i, g in enumerate(gradients(function, *values)):
        for position in np.ndindex(3, 3):
            step = np.zeros((3, 3))
            step[position] = 1e-6
            up, down = (
                float(xp.sum(function(*(array(v + s * step * (i == k)) for k, v in enumerate(values))))) for s in (1, -1)
            )
            assert g[position[0]][position[1]] == pytest.approx((up - down) / 2e-6, rel=1e-6)
