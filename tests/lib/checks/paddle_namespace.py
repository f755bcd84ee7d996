"""Arrays of Paddle's Array API namespace, and their comparison with NumPy's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

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
EVERY_AXIS = (None, 0, -1, 1, (0, 2), (-1, 0), (0, 1, 2), ())
rng = np.random.default_rng(0)


def array(values, dtype="float64", grad=False):
    """A tensor of the namespace; a leaf that wants a gradient if `grad`."""
    x = xp.asarray(np.asarray(values, dtype))
    x.stop_gradient = not grad
    return x


def draw(shape, dtype="float64", low=0, high=5):
    """Random numbers that every dtype holds exactly, as a NumPy array."""
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
    """The gradients of the sum of a function, as lists."""
    xs = [array(v, dtype, grad=True) for v in values]
    return [g.numpy().tolist() for g in paddle.grad(xp.sum(function(*xs)), xs)]


def numpy_dtype(a, b):
    """Give NumPy's promotion, but torch's where integer meets floating point."""
    a, b = np.dtype(a), np.dtype(b)
    kinds = {a.kind in "f": a, b.kind in "f": b}
    return kinds[True] if len(kinds) == 2 else np.promote_types(a, b)
