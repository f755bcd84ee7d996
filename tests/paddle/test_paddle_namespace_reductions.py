"""Paddle's Array API namespace against NumPy: sums, extremes and what else runs along axes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from checks.paddle_namespace import ALL, EVERY_AXIS, FLOAT, array, check, draw, xp


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
