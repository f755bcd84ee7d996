"""Paddle's Array API namespace against NumPy: functions of each element."""

from __future__ import annotations

import itertools
import operator

import numpy as np
import pytest
from checks.paddle_namespace import ALL, FLOAT, NUMBER, array, check, draw, numpy_dtype, rng, xp

OPERATORS = {"equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}


@pytest.mark.parametrize("dtype", FLOAT)
@pytest.mark.parametrize("name", ["exp", "log", "log1p", "expm1", "sqrt"])
@pytest.mark.parametrize("shape", [(), (0,), (7, 9)])
def test_float_functions(name, dtype, shape):
    x = (rng.random(shape) * 3 + 1e-3).astype(dtype)
    check(getattr(xp, name)(array(x, dtype)), getattr(np, name)(x), rtol={"float32": 1e-5, "float64": 1e-12}[dtype])


def test_small_arguments_keep_their_precision():
    tiny = np.array([1e-12, -1e-12, 0.0])
    check(xp.log1p(array(tiny)), np.log1p(tiny))
    check(xp.expm1(array(tiny)), np.expm1(tiny))


@pytest.mark.parametrize("dtype", NUMBER)
@pytest.mark.parametrize("name", ["abs", "sign", "floor", "ceil", "negative"])
def test_number_functions(name, dtype):
    x = draw((3, 5), dtype, low=0 if dtype == "uint8" else -4)
    check(getattr(xp, name)(array(x, dtype)), getattr(np, name)(x).astype(dtype))


@pytest.mark.parametrize("dtype", NUMBER)
def test_round_takes_ties_to_even(dtype):
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.4, 1e15, np.inf, -np.inf, np.nan]) if dtype in FLOAT else np.arange(5)
    check(xp.round(array(x, dtype)), np.round(x.astype(dtype)))


@pytest.mark.parametrize("dtype", NUMBER)
@pytest.mark.parametrize("name", ["isfinite", "isinf", "isnan"])
def test_finiteness(name, dtype):
    x = np.array([0.5, -np.inf, np.inf, np.nan]) if dtype in FLOAT else np.arange(3)
    x = x.astype(dtype)
    check(getattr(xp, name)(array(x, dtype)), getattr(np, name)(x))


@pytest.mark.parametrize("dtype", NUMBER)
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "maximum", "minimum"])
@pytest.mark.parametrize("shapes", [((2, 3), (2, 3)), ((2, 1), (3,)), ((), (2, 2)), ((), ()), ((0, 2), (1, 2))])
def test_arithmetic(name, dtype, shapes):
    a, b = (draw(s, dtype, low=1, high=100) for s in shapes)
    expected = getattr(np, name)(a, b)
    if name == "divide" and dtype not in FLOAT:
        expected = expected.astype(np.float32)
    check(getattr(xp, name)(array(a, dtype), array(b, dtype)), expected)


@pytest.mark.parametrize("name", ["add", "multiply", "maximum"])
@pytest.mark.parametrize(("a", "b"), list(itertools.product(NUMBER, repeat=2)))
def test_mixed_dtypes(name, a, b):
    x, y = draw((3,), a), draw((3,), b)
    dtype = numpy_dtype(a, b)
    check(getattr(xp, name)(array(x, a), array(y, b)), getattr(np, name)(x.astype(dtype), y.astype(dtype)))


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "maximum", "minimum", "pow"])
def test_scalars_keep_the_dtype_and_their_precision(name):
    x = np.array([0.5, 1.0, 3.0])
    numpy_name = {"pow": "power"}.get(name, name)
    for scalar in (0.1, 2, True):
        check(getattr(xp, name)(array(x), scalar), getattr(np, numpy_name)(x, scalar))
        check(getattr(xp, name)(scalar, array(x)), getattr(np, numpy_name)(scalar, x))
    check(getattr(xp, name)(array(x, "float32"), 0.5), getattr(np, numpy_name)(np.float32(x), np.float32(0.5)))


def test_integer_arithmetic_wraps_as_in_numpy():
    x = np.array([200, 100], np.uint8)
    check(xp.add(array(x, "uint8"), array(x, "uint8")), x + x)
    check(xp.multiply(array(x, "uint8"), 3), x * np.uint8(3))
    check(xp.subtract(array([1, 2], "uint8"), 2), np.array([255, 0], np.uint8))


@pytest.mark.parametrize("name", OPERATORS)
class TestComparisons:
    @pytest.mark.parametrize(("a", "b"), list(itertools.product(ALL, repeat=2)))
    def test_two_arrays(self, name, a, b):
        x, y = draw((4, 1), a, high=2 if a == "bool" else 4), draw((3,), b, high=2 if b == "bool" else 4)
        check(getattr(xp, name)(array(x, a), array(y, b)), getattr(np, name)(x, y))

    @pytest.mark.parametrize("dtype", ALL)
    @pytest.mark.parametrize("scalar", [0, 1, -1, 255, 256, 2**31, -(2**40), 2**63, 2**70, 0.5, float("inf"), float("nan")])
    def test_scalars_out_of_range_do_not_wrap(self, name, dtype, scalar):
        x = np.array([0, 1, 3, 100]).astype(dtype)
        compare = getattr(operator, OPERATORS[name])  # on Python's own numbers
        exact = [compare(v, scalar) for v in x.tolist()]
        check(getattr(xp, name)(array(x, dtype), scalar), np.array(exact, bool))
        exact = [compare(scalar, v) for v in x.tolist()]
        check(getattr(xp, name)(scalar, array(x, dtype)), np.array(exact, bool))

    def test_empty(self, name):
        check(getattr(xp, name)(array(np.ones((0, 2))), array(np.ones(2))), np.ones((0, 2), bool))


def test_large_integers_compare_exactly():
    x = array([2**62, 2**62 + 1], "int64")
    check(xp.equal(x, 2**62 + 1), np.array([False, True]))
    check(xp.greater(array([2**24 + 1], "int32"), 2.0**24), np.array([True]))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float32"])
def test_logic(dtype):
    a, b = array([0, 0, 1, 1], dtype), array([0, 1, 0, 1], dtype)
    check(xp.logical_and(a, b), np.array([False, False, False, True]))
    check(xp.logical_or(a, b), np.array([False, True, True, True]))
    check(xp.logical_not(a), np.array([True, True, False, False]))
    check(xp.logical_and(a, True), np.array([False, False, True, True]))


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize(
    "shapes", [((3,),) * 3, ((2, 1), (3,), (1, 1)), ((), (2,), ()), ((), (), ()), ((2,), (), ()), ((0, 1),) * 3]
)
def test_where(dtype, shapes):
    c, a, b = draw(shapes[0], "bool", high=2), draw(shapes[1], dtype), draw(shapes[2], dtype)
    check(xp.where(array(c, "bool"), array(a, dtype), array(b, dtype)), np.where(c, a, b))
    check(
        xp.where(array(c, "bool"), array(a, dtype), 1),
        np.where(c, a, np.ones((), a.dtype)),
        "int64" if dtype == "bool" else None,
    )


def test_where_of_scalars_and_mixed_dtypes():
    c = array([True, False], "bool")
    check(xp.where(c, 1.0, 0.0), np.float32([1, 0]))
    check(xp.where(c, array([1, 2], "uint8"), -1), np.array([1, 255], np.uint8))
    check(xp.where(c, array([1, 2], "float32"), array(0.1)), np.array([1, 0.1]))


@pytest.mark.parametrize("dtype", NUMBER)
def test_clip(dtype):
    x = draw((4, 4), dtype, high=9)
    for low, high in ((2, 5), (None, 3), (1, None), (None, None), (5, 2), (-1000, 1000)):
        check(
            xp.clip(array(x, dtype), low, high),
            x if low is high else np.clip(x.astype("float64"), low, high).astype(dtype),
        )
    check(
        xp.clip(array(x, dtype), array(2, dtype), array([3, 4, 5, 6], dtype)),
        np.clip(x, 2, np.arange(3, 7)).astype(dtype),
    )


def test_extremes_propagate_nan():
    a, b = np.array([1, np.nan, np.inf, -np.inf, np.nan]), np.array([np.nan, 1, np.inf, np.inf, np.nan])
    check(xp.maximum(array(a), array(b)), np.maximum(a, b))
    check(xp.minimum(array(a), array(b)), np.minimum(a, b))
    check(xp.clip(array(a), 0.0, 2.0), np.clip(a, 0, 2))
    x = np.array([[1, np.nan, 3], [2, 2, 2], [np.inf, -np.inf, 0]])
    for axis in (None, 0, 1):
        check(xp.max(array(x), axis=axis), np.max(x, axis=axis))
        check(xp.min(array(x), axis=axis, keepdims=True), np.min(x, axis=axis, keepdims=True))
