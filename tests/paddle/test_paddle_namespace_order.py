"""Paddle's Array API namespace against NumPy: sorting, indexing, shapes and products of matrices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from checks.paddle_namespace import ALL, NUMBER, array, check, draw, rng, xp
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(
    ("shape", "axis"), [((1,), 0), ((5000,), -1), ((3, 700), 1), ((700, 3), 0), ((2, 300, 2), 1), ((0, 2), 0)]
)
def test_sorts_are_stable(dtype, descending, shape, axis):
    x = draw(shape, dtype, high=2 if dtype == "bool" else 4)
    key = -x.astype("float64") if descending else x
    expected = np.argsort(key, axis=axis, kind="stable")
    t = array(x, dtype)
    check(xp.argsort(t, axis=axis, descending=descending, stable=True), expected)
    check(xp.sort(t, axis=axis, descending=descending), np.take_along_axis(x, expected, axis=axis))
    assert xp.argsort(t, axis=axis, descending=descending, stable=False).dtype == xp.int64


@pytest.mark.parametrize("descending", [False, True])
def test_large_sort_is_stable(descending):
    x = draw((300_000,), "float32", high=7)
    expected = np.argsort(-x if descending else x, kind="stable")
    check(xp.argsort(array(x, "float32"), descending=descending), expected)


def test_sorts_with_special_values():
    x = np.array([0.0, -0.0, np.inf, np.nan, 1.0, -np.inf, np.nan, 0.0] * 5)
    check(xp.argsort(array(x)), np.argsort(x, kind="stable"))
    check(xp.sort(array(x)), np.sort(x))
    check(xp.sort(array(x), descending=True), np.sort(x)[::-1])
    check(xp.argsort(array(1.0)), np.array(0))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.booleans())
def test_stable_order_of_any_integers(values, descending):
    expected = sorted(range(len(values)), key=lambda i: -values[i] if descending else values[i])
    assert xp.argsort(array(values, "int16"), descending=descending).tolist() == expected


@pytest.mark.parametrize("dtype", ALL)
def test_argmax(dtype):
    x = draw((4, 5), dtype, high=2 if dtype == "bool" else 3)
    for axis, keepdims in itertools.product((None, 0, 1, -1), (False, True)):
        check(xp.argmax(array(x, dtype), axis=axis, keepdims=keepdims), np.argmax(x, axis=axis, keepdims=keepdims))


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("index", ["int32", "int64", "uint8"])
def test_take(dtype, index):
    x = draw((3, 4), dtype)
    i = np.array([2, 0, 0, 1])
    for axis in (0, 1, -1):
        check(xp.take(array(x, dtype), array(i, index), axis=axis), np.take(x, i, axis=axis))
    check(xp.take(array(x[0], dtype), array(i, index)), np.take(x[0], i))
    check(xp.take(array(x, dtype), array([], index), axis=1), x[:, :0])


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("index", ["int32", "int64", "uint8"])
@pytest.mark.parametrize(
    ("shape", "indexed", "axis"),
    [
        ((3, 4), (3, 2), 1),
        ((3, 4), (7, 4), 0),
        ((3, 4), (1, 2), -1),
        ((1, 4), (5, 3), 1),
        ((2, 3, 4), (2, 1, 4), 1),
        ((3, 4), (3, 0), 1),
    ],
)
def test_take_along_axis(dtype, index, shape, indexed, axis):
    x, i = draw(shape, dtype), rng.integers(0, shape[axis], indexed)
    check(xp.take_along_axis(array(x, dtype), array(i, index), axis=axis), np.take_along_axis(x, i, axis=axis))


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (1, 1)])
def test_shapes(dtype, shape):
    x = draw(shape, dtype)
    t = array(x, dtype)
    check(xp.reshape(t, (-1,)), x.reshape(-1))
    check(xp.reshape(t, shape[::-1]), x.reshape(shape[::-1]))
    check(xp.permute_dims(t, (1, 0)), x.T)
    check(xp.permute_dims(t, (-1, 0)), x.T)
    for axis in (0, 1, -1, (0, 2), (-1, 0)):
        check(xp.expand_dims(t, axis=axis), np.expand_dims(x, axis))
    check(xp.squeeze(t[None, :, None], (0, -2)), x)
    check(xp.broadcast_to(t, (2, *shape)), np.broadcast_to(x, (2, *shape)))
    check(xp.stack([t, t], axis=-1), np.stack([x, x], axis=-1))
    check(xp.concat([t, t], axis=1), np.concatenate([x, x], axis=1))
    check(xp.concat([t, t], axis=None), np.concatenate([x, x], axis=None))
    for axis in (None, 0, -1, (0, 1)):
        check(xp.flip(t, axis=axis), np.flip(x, axis))
    check(xp.roll(t, 1), np.roll(x, 1))
    check(xp.roll(t, -1, axis=-1), np.roll(x, -1, axis=-1))
    check(xp.roll(t, (1, 2), axis=(0, 1)), np.roll(x, (1, 2), axis=(0, 1)))
    check(xp.tril(t, k=-1), np.tril(x, k=-1))


def test_joining_promotes():
    check(xp.concat([array([1], "uint8"), array([-1], "int8")]), np.array([1, -1], np.int16))
    check(xp.stack([array(1, "float32"), array(0.1)]), np.array([1, 0.1]))


def test_broadcast_arrays():
    a, b = xp.broadcast_arrays(array([[1.0], [2.0]]), array(3.0))
    check(a, np.array([[1.0], [2.0]]))
    check(b, np.array([[3.0], [3.0]]))


@pytest.mark.parametrize("dtype", NUMBER)
@pytest.mark.parametrize(
    ("a", "b"), [((2, 3), (3, 4)), ((5, 2, 3), (3, 1)), ((3,), (3,)), ((0, 2), (2, 3)), ((3, 0), (0, 2))]
)
def test_matmul(dtype, a, b):
    x, y = draw(a, dtype), draw(b, dtype)
    check(xp.matmul(array(x, dtype), array(y, dtype)), x @ y)
