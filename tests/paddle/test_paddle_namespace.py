"""Paddle's Array API namespace against NumPy: values, dtypes, shapes, and the gradients NumPy has none of."""

from __future__ import annotations

import itertools
import operator
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

with warnings.catch_warnings():
    # What `import paddle` says about the machine: no ccache to compile extensions with, a GPU build without a GPU.
    warnings.filterwarnings("ignore", message="No ccache found", category=UserWarning)
    warnings.filterwarnings("ignore", message="You are using GPU version Paddle", category=UserWarning)
    paddle = pytest.importorskip("paddle", reason="needs PaddlePaddle")

from unilossseg.backends import _paddle_namespace as xp

FLOAT = ("float32", "float64")
INTEGER = ("uint8", "int8", "int16", "int32", "int64")
NUMBER = (*INTEGER, *FLOAT)
ALL = ("bool", *NUMBER)
OPERATORS = {"equal": "eq", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}
EVERY_AXIS = (None, 0, -1, 1, (0, 2), (-1, 0), (0, 1, 2), ())
rng = np.random.default_rng(0)


def array(values, dtype="float64", grad=False):
    x = xp.asarray(np.asarray(values, dtype))
    x.stop_gradient = not grad
    return x


def draw(shape, dtype="float64", low=0, high=5):
    return np.asarray(rng.integers(low, high, shape) + (0.25 if dtype in FLOAT else 0), dtype)


def check(actual, expected, dtype=None, rtol=None):
    """Compare values, shape and dtype; `dtype` where Paddle's differs from NumPy's by design."""
    expected = np.asarray(expected)
    assert isinstance(actual, paddle.Tensor)
    assert tuple(actual.shape) == expected.shape
    assert actual.dtype == getattr(xp, dtype or expected.dtype.name)
    rtol = {"float32": 2e-6, "float64": 1e-14}.get(expected.dtype.name, 0) if rtol is None else rtol
    np.testing.assert_allclose(actual.numpy(), expected, rtol=rtol, atol=0)


def gradients(function, *values, dtype="float64"):
    xs = [array(v, dtype, grad=True) for v in values]
    return [g.numpy().tolist() for g in paddle.grad(xp.sum(function(*xs)), xs)]


# ---- dtypes


def numpy_dtype(a, b):
    """Give NumPy's promotion, but torch's where integer meets floating point."""
    a, b = np.dtype(a), np.dtype(b)
    kinds = {a.kind in "f": a, b.kind in "f": b}
    return kinds[True] if len(kinds) == 2 else np.promote_types(a, b)


@pytest.mark.parametrize(("a", "b"), list(itertools.product((*ALL, "float16"), repeat=2)))
def test_result_type_of_two(a, b):
    expected = getattr(xp, numpy_dtype(a, b).name)
    assert xp.result_type(getattr(xp, a), getattr(xp, b)) == expected
    assert xp.can_cast(getattr(xp, a), getattr(xp, b)) == (expected == getattr(xp, b))


def test_result_type_of_halves_and_scalars():
    assert xp.result_type(xp.float16, xp.bfloat16) == xp.float32
    assert xp.result_type(xp.bfloat16, xp.float64) == xp.float64
    assert xp.result_type(xp.bfloat16, xp.int64) == xp.bfloat16
    assert xp.result_type(array([1.0]), 2, True) == xp.float64
    assert xp.result_type(array([1], "uint8"), 2) == xp.uint8
    assert xp.result_type(array([1], "uint8"), 2.0) == xp.float32
    assert xp.result_type(array([True], "bool"), 2) == xp.int64
    assert xp.result_type(1, 2.0) == xp.float32


def test_isdtype():
    assert xp.isdtype(xp.bfloat16, "real floating")
    assert xp.isdtype(xp.uint8, ("bool", "unsigned integer"))
    assert xp.isdtype(xp.int8, xp.int8)
    assert xp.isdtype(xp.int64, "integral")
    assert not xp.isdtype(xp.bool, "numeric")
    assert not xp.isdtype(xp.float32, "complex floating")
    with pytest.raises(ValueError, match="kind must be one of"):
        xp.isdtype(xp.int8, "float")


def test_limits_and_constants():
    assert xp.finfo(xp.float32).eps == np.finfo(np.float32).eps
    assert xp.finfo(array([1.0])).max == np.finfo(np.float64).max
    assert xp.iinfo(xp.uint8).max == 255
    assert (xp.pi, xp.e, xp.newaxis) == (np.pi, np.e, None)
    assert np.isinf(xp.inf)
    assert np.isnan(xp.nan)


@pytest.mark.parametrize(("a", "b"), list(itertools.product(ALL, repeat=2)))
def test_astype(a, b):
    x = draw((2, 3), a) if a != "bool" else draw((2, 3), a, high=2)
    check(xp.astype(array(x, a), getattr(xp, b)), x.astype(b))


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_types_move_and_convert(half):
    x = xp.astype(array([[1.5, -2.0, 3.0]], grad=True), getattr(xp, half))
    assert x.dtype == getattr(xp, half)
    for y in (x, xp.reshape(x, (3, 1)), x[0, 1:], x[..., ::2], xp.permute_dims(x, (1, 0)), xp.expand_dims(x, axis=0)):
        assert y.dtype == x.dtype
    check(xp.astype(xp.reshape(x, (-1,))[1:], xp.float32), np.float32([-2, 3]))
    check(xp.astype(xp.full((2,), 0.5, dtype=x.dtype), xp.float64), np.array([0.5, 0.5]))
    check(xp.astype(xp.zeros_like(x), xp.float64), np.zeros((1, 3)))
    assert xp.asarray([1.5], dtype=x.dtype).dtype == x.dtype


def test_astype_keeps_gradient_and_copies_on_demand():
    x = array([1.0, 2.0], "float32", grad=True)
    assert xp.astype(x, xp.float32, copy=False) is x
    assert xp.astype(x, xp.float32) is not x
    (g,) = paddle.grad(xp.sum(xp.astype(x, xp.float64)), x)
    check(g, np.float32([1, 1]))


# ---- creation


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("device", [None, paddle.CPUPlace()])
def test_creation(dtype, device):
    to = {"dtype": getattr(xp, dtype), "device": device}
    check(xp.zeros((2, 3), **to), np.zeros((2, 3), dtype))
    check(xp.ones(3, **to), np.ones(3, dtype))
    check(xp.full((), 1, **to), np.ones((), dtype))
    check(xp.full((0, 2), 1, **to), np.ones((0, 2), dtype))
    check(xp.full_like(array([[1, 2]], "float32"), 1, **to), np.ones((1, 2), dtype))
    check(xp.ones_like(array(1, dtype)), np.ones((), dtype))
    check(xp.eye(2, 3, k=1, **to), np.eye(2, 3, k=1, dtype=dtype))
    assert tuple(xp.empty((2, 0), **to).shape) == (2, 0)
    if dtype != "bool":
        check(xp.arange(5, **to), np.arange(5, dtype=dtype))
        check(xp.arange(5, 0, -2, **to), np.arange(5, 0, -2).astype(dtype))
        check(xp.arange(3, 3, **to), np.arange(3, 3, dtype=dtype))
        check(xp.asarray([[1, 2], [3, 4]], **to), np.array([[1, 2], [3, 4]], dtype))


def test_default_dtypes():
    assert xp.zeros(1).dtype == xp.ones(1).dtype == xp.full(1, 0.5).dtype == xp.eye(1).dtype == xp.float32
    assert xp.full(1, 2).dtype == xp.arange(2).dtype == xp.asarray([1, 2]).dtype == xp.asarray(3).dtype == xp.int64
    assert xp.asarray(True).dtype == xp.full((), True).dtype == xp.bool
    assert xp.asarray([1, 2.5]).dtype == xp.arange(0.0, 1.0, 0.5).dtype == xp.asarray(1.0).dtype == xp.float32
    assert xp.asarray(np.float64(1)).dtype == xp.asarray(np.ones(2)).dtype == xp.float64
    assert tuple(xp.asarray(2.0).shape) == ()


def test_large_integers_are_exact():
    big = 2**62 + 1
    check(xp.full(2, big), np.array([big, big]))
    check(xp.full_like(array([1], "int64"), big), np.array([big]))
    check(xp.add(array([0], "int64"), big), np.array([big]))


@pytest.mark.parametrize(("unsigned", "signed"), [("uint16", "int32"), ("uint32", "int64"), ("uint64", "int64")])
def test_unsigned_numpy_arrays_keep_their_values(unsigned, signed):
    check(xp.asarray(np.array([1, 255, 40000], unsigned)), np.array([1, 255, 40000], signed))


def test_asarray_of_strided_and_empty():
    x = rng.random((4, 6))
    check(xp.asarray(x.T[::-1, ::2]), x.T[::-1, ::2])
    check(xp.asarray(np.zeros((0, 3), np.float32)), np.zeros((0, 3), np.float32))


def test_asarray_copies_numpy_memory():
    x = np.ones(3)
    y = xp.asarray(x)
    x[:] = 2
    check(y, np.ones(3))


def test_asarray_keeps_tensors_attached():
    x = array([1.0], grad=True)
    assert xp.asarray(x) is x
    assert xp.asarray(x, device=x.place) is x
    for y in (xp.asarray(x, copy=True), xp.asarray(x, dtype=xp.float32)):
        assert y is not x
        assert not y.stop_gradient
    with pytest.raises(TypeError, match="stack or concat"):
        xp.asarray([x, x])


# ---- elementwise


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


# ---- reductions


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", EVERY_AXIS)
def test_reductions(dtype, axis, keepdims):
    x = draw((2, 3, 4), dtype, high=2 if dtype == "bool" else 100)
    to = {"axis": axis, "keepdims": keepdims}
    t = array(x, dtype)
    check(xp.sum(t, **to), np.sum(x, dtype=dtype if dtype in FLOAT else "int64", **to))
    check(xp.sum(t, dtype=xp.float64, **to), np.sum(x, dtype="float64", **to))
    check(xp.any(t, **to), np.any(x, **to))
    check(xp.all(t, **to), np.all(x, **to))
    check(xp.max(t, **to), np.max(x, **to))
    check(xp.min(t, **to), np.min(x, **to))
    if dtype in FLOAT:
        check(xp.mean(t, **to), np.mean(x, **to))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32"])
def test_reductions_of_one_number(dtype):
    for name in ("sum", "any", "all", "max", "min"):
        out = getattr(xp, name)(array(1, dtype))
        assert tuple(out.shape) == ()
        assert float(out) == 1


@pytest.mark.parametrize("axis", EVERY_AXIS[:-1])
@pytest.mark.parametrize("shape", [(2, 0, 3), (0, 2, 3), (0, 0, 0)])
def test_empty_reductions(shape, axis):
    x = np.ones(shape, np.float32)
    t = array(x, "float32")
    check(xp.sum(t, axis=axis), np.sum(x, axis=axis))
    check(xp.sum(xp.astype(t, xp.int32), axis=axis, keepdims=True), np.sum(x, axis=axis, keepdims=True).astype("int64"))
    check(xp.any(t, axis=axis), np.any(x, axis=axis))
    check(xp.all(t, axis=axis), np.all(x, axis=axis))
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy's "mean of empty slice"
        check(xp.mean(t, axis=axis), np.mean(x, axis=axis))
    try:
        expected = np.max(x, axis=axis)
    except ValueError:
        for name in ("max", "min"):
            with pytest.raises(ValueError, match="empty axis"):
                getattr(xp, name)(t, axis=axis)
    else:
        check(xp.max(t, axis=axis), expected)


def test_axis_errors():
    x = array(np.ones((2, 3)))
    with pytest.raises(IndexError, match="within 2 dimensions"):
        xp.sum(x, axis=2)
    with pytest.raises(ValueError, match="twice"):
        xp.sum(x, axis=(0, -2))
    with pytest.raises(ValueError, match="length 1"):
        xp.squeeze(x, 0)
    with pytest.raises(ValueError, match="axis is needed"):
        xp.cumulative_sum(x)
    with pytest.raises(ValueError, match="empty axis"):
        xp.argmax(array(np.ones((0, 2))), axis=0)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumulative_sum(dtype, axis):
    x = draw((3, 4, 2), dtype, high=2 if dtype == "bool" else 100)
    expected = np.cumsum(x, axis=axis, dtype=dtype if dtype in FLOAT else "int64")
    check(xp.cumulative_sum(array(x, dtype), axis=axis), expected)
    zero = np.zeros_like(np.take(expected, [0], axis=axis))
    check(xp.cumulative_sum(array(x, dtype), axis=axis, include_initial=True), np.concatenate([zero, expected], axis=axis))
    check(xp.cumulative_sum(array(x[:, 0, 0], dtype), dtype=xp.float64), np.cumsum(x[:, 0, 0], dtype="float64"))


# ---- sorting, indexing, shapes


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


# ---- gradients


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


def test_every_public_name_exists():
    assert all(hasattr(xp, name) for name in xp.__all__)
    assert xp.__array_api_version__ == "2024.12"
