"""Paddle's Array API namespace against NumPy: dtypes, constants and new arrays."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from checks.paddle_namespace import ALL, array, check, draw, numpy_dtype, paddle, rng, xp


def test_every_public_name_exists():
    assert all(hasattr(xp, name) for name in xp.__all__)
    assert xp.__array_api_version__ == "2024.12"


# ---- dtypes


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
