"""Reductions, sorting, indexing and shapes of the Paddle namespace; see `_paddle_namespace` for what is promised."""

from __future__ import annotations

import builtins
import inspect
from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
import paddle

from unilossseg.backends._paddle_dtypes import FLOATS, NARROW, bool, int32, int64, result_type
from unilossseg.backends._paddle_elementwise import (
    Array,
    Flag,
    astype,
    equal,
    filled,
    isfinite,
    isnan,
    logical_and,
    logical_not,
    logical_or,
    needs_grad,
    not_equal,
    where,
    widened,
    zeros_like,
)
from unilossseg.backends._paddle_tracing import is_traced, place_of
from unilossseg.backends._paddle_version import OLD

Axes = int | tuple[int, ...] | None
_STABLE: dict[str, Any] = {"stable": True} if "stable" in inspect.signature(paddle.argsort).parameters else {}


def _normalised(axis: Axes, ndim: int) -> tuple[int, ...]:
    """Return `axis` as sorted positions from the front, every axis for None."""
    if axis is None:
        return tuple(range(ndim))
    axes = [axis] if isinstance(axis, int) else list(axis)
    if not builtins.all(-ndim <= a < ndim for a in axes):
        raise IndexError(f"axis must be within {ndim} dimensions (got {axis})")
    positions = tuple(sorted({a % ndim for a in axes}))
    if len(positions) != len(axes):
        raise ValueError(f"axis must not name a dimension twice (got {axis})")
    return positions


# ---- reductions


def _reduce(function: Any, x: Array, axis: Axes, keepdims: Flag, of_none: Any = None, dtype: Any = None) -> Array:
    """Reduce x; `of_none` is the result over no elements, None where there is none. No axes, (), leave x alone."""
    axes = _normalised(axis, x.ndim)
    shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keepdims or i not in axes]
    if 0 in x.shape and (OLD or of_none is None or dtype == bool):
        if of_none is None and 0 in [x.shape[i] for i in axes]:
            raise ValueError(f"{function.__name__}: an empty axis has no such value (shape {tuple(x.shape)}, axis {axis})")
        return filled(shape, 0 if of_none is None else of_none, dtype or x.dtype, place_of(x))
    return function(x, axis=list(axes), keepdim=keepdims) if axes else x


def sum(x: Array, /, *, axis: Axes = None, dtype: Any = None, keepdims: Flag = False) -> Array:
    """Return the sum, in int64 for Booleans and integers unless `dtype` says otherwise; 0 over no elements."""
    x = astype(x, dtype or (x.dtype if x.dtype in FLOATS else int64), copy=False)
    # Paddle sums narrow integers in int64 and leaves the sum there.
    return astype(_reduce(paddle.sum, x, axis, keepdims, of_none=0), x.dtype, copy=False)


def mean(x: Array, /, *, axis: Axes = None, keepdims: Flag = False) -> Array:
    """Return the mean; NaN over no elements."""
    return _reduce(paddle.mean, x, axis, keepdims, of_none=nan)


def any(x: Array, /, *, axis: Axes = None, keepdims: Flag = False) -> Array:
    """Tell whether any element holds; false over no elements."""
    return _reduce(paddle.any, astype(x, bool, copy=False), axis, keepdims, of_none=False, dtype=bool)


def all(x: Array, /, *, axis: Axes = None, keepdims: Flag = False) -> Array:
    """Tell whether all elements hold; true over no elements."""
    return _reduce(paddle.all, astype(x, bool, copy=False), axis, keepdims, of_none=True, dtype=bool)


def _extreme(function: Any, x: Array, axis: Axes, keepdims: Flag) -> Array:
    if needs_grad(x):
        return _shared_extreme(function, x, axis, keepdims)
    out = widened(_reduce_extreme)(x, function, axis, keepdims)
    if OLD and x.dtype in FLOATS:  # Paddle 2's kernels skip NaN
        out = where(any(isnan(x), axis=axis, keepdims=keepdims), nan, out)
    return out


def _shared_extreme(function: Any, x: Array, axis: Axes, keepdims: Flag) -> Array:
    """Return the extreme; ties share its gradient. Paddle's own gradient takes time by the square of the elements."""
    still = x.detach()
    out = _extreme(function, still, axis, keepdims=True)
    chosen = logical_or(equal(still, out), isnan(still))
    share = astype(chosen, x.dtype) / sum(astype(chosen, x.dtype), axis=axis, keepdims=True)
    whole = sum(where(chosen, x, zeros_like(still)) * share, axis=axis, keepdims=True)
    # Thirds of a number may not add up to it: the difference is 0, and has the derivative. That of infinities would be NaN.
    out = where(isfinite(out), out + (whole - whole.detach()), whole)
    return out if keepdims else squeeze(out, axis=tuple(_normalised(axis, x.ndim)))


def _reduce_extreme(x: Array, function: Any, axis: Axes, keepdims: Flag) -> Array:
    return _reduce(function, x, axis, keepdims)


def max(x: Array, /, *, axis: Axes = None, keepdims: Flag = False) -> Array:
    """Return the largest element, NaN if there is one; ties share the gradient evenly."""
    return _extreme(paddle.amax, x, axis, keepdims)


def min(x: Array, /, *, axis: Axes = None, keepdims: Flag = False) -> Array:
    """Return the smallest element, NaN if there is one; ties share the gradient evenly."""
    return _extreme(paddle.amin, x, axis, keepdims)


def cumulative_sum(x: Array, /, *, axis: int | None = None, dtype: Any = None, include_initial: Flag = False) -> Array:
    """Return running sums along an axis, with a leading 0 if `include_initial`; dtypes as in `sum`."""
    if axis is None and x.ndim != 1:
        raise ValueError(f"cumulative_sum: axis is needed for {x.ndim} dimensions")
    (axis,) = _normalised(axis, x.ndim)
    x = astype(x, dtype or (x.dtype if x.dtype in FLOATS else int64), copy=False)
    sums = astype(paddle.cumsum(x, axis=axis), x.dtype, copy=False)
    if not include_initial:
        return sums
    first = filled([1 if i == axis else n for i, n in enumerate(x.shape)], 0, x.dtype, place_of(x))
    return paddle.concat([first, sums], axis=axis)


# ---- sorting and searching


def argmax(x: Array, /, *, axis: int | None = None, keepdims: Flag = False) -> Array:
    """Return the int64 position of the first largest element."""
    if 0 in x.shape:
        return _reduce(argmax, astype(x, int64), axis, keepdims)
    x = paddle.cast(x, int32) if x.dtype in NARROW else x
    out = paddle.argmax(x, axis=axis, keepdim=keepdims and axis is not None)
    return paddle.reshape(out, [1] * x.ndim) if keepdims and axis is None else out


def argsort(x: Array, /, *, axis: int = -1, descending: Flag = False, stable: Flag = True) -> Array:
    """Return the int64 positions that sort x; if `stable`, equal elements keep their order, also descending."""
    x = paddle.cast(x, int32) if x.dtype in NARROW else x.detach()
    if not stable or 0 in x.shape or x.ndim == 0:
        return paddle.argsort(x, axis=axis, descending=descending)
    if _STABLE:
        return paddle.argsort(x, axis=axis, descending=descending, **_STABLE)
    # Paddle 2 has no stable sort: number the runs of equal elements, then sort the distinct keys (run, position).
    (axis,), n = _normalised(axis, x.ndim), x.shape[axis]
    order = paddle.argsort(x, axis=axis, descending=descending)
    ordered = take_along_axis(x, order, axis=axis)
    before, after = paddle.slice(ordered, [axis], [0], [n - 1]), paddle.slice(ordered, [axis], [1], [n])
    starts = logical_and(not_equal(before, after), logical_not(logical_and(isnan(before), isnan(after))))
    run = cumulative_sum(starts, axis=axis, include_initial=True) if n > 1 else zeros_like(order)
    return paddle.sort(run * n + order, axis=axis) % n


def sort(x: Array, /, *, axis: int = -1, descending: Flag = False, stable: Flag = True) -> Array:
    """Return x sorted; if `stable`, the gradient reaches equal elements in their order."""
    if needs_grad(x) and stable and x.ndim:
        return take_along_axis(x, argsort(x, axis=axis, descending=descending), axis=axis)
    return widened(paddle.sort)(x, axis=axis, descending=descending)


# ---- indexing


def _index(indices: Array) -> Array:
    return indices if indices.dtype in (int32, int64) else astype(indices, int64)


def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
    """Return the elements of x at one-dimensional, non-negative indices along an axis."""
    if axis is None and x.ndim != 1:
        raise ValueError(f"take: axis is needed for {x.ndim} dimensions")
    (axis,) = _normalised(axis, x.ndim)
    shape = [indices.shape[0] if i == axis else n for i, n in enumerate(x.shape)]
    if OLD and 0 in shape:
        return filled(shape, 0, x.dtype, place_of(x))
    return widened(paddle.index_select)(x, _index(indices), axis)


def take_along_axis(x: Array, indices: Array, /, *, axis: int = -1) -> Array:
    """Return the elements of x at non-negative indices along an axis; the other axes broadcast."""
    (axis,) = _normalised(axis, x.ndim)
    shape = np.broadcast_shapes(*(tuple(n for i, n in enumerate(a.shape) if i != axis) for a in (x, indices)))
    x = broadcast_to(x, [*shape[:axis], x.shape[axis], *shape[axis:]])
    indices = broadcast_to(_index(indices), [*shape[:axis], indices.shape[axis], *shape[axis:]])
    if 0 in indices.shape:
        return filled(indices.shape, 0, x.dtype, place_of(x))
    if is_traced(x):
        return widened(paddle.take_along_axis)(x, indices, axis)
    # Not paddle.take_along_axis: Paddle 2's copies both arrays once more or waits to check every index.
    return widened(paddle._C_ops.take_along_axis)(x, indices, axis)


# ---- shapes


def concat(arrays: Sequence[Array], /, *, axis: int | None = 0) -> Array:
    """Join arrays along an axis, flattened ones if None, in their common dtype."""
    dtype = result_type(*arrays)
    arrays = [astype(reshape(a, (-1,)) if axis is None else a, dtype, copy=False) for a in arrays]
    axis = axis or 0
    if OLD and builtins.all(0 in a.shape for a in arrays):
        shape = list(arrays[0].shape)
        shape[axis] = builtins.sum(a.shape[axis] for a in arrays)
        return filled(shape, 0, dtype, place_of(arrays[0]))
    return paddle.concat(arrays, axis=axis)


def stack(arrays: Sequence[Array], /, *, axis: int = 0) -> Array:
    """Join arrays along a new axis, in their common dtype."""
    return concat([expand_dims(a, axis=axis) for a in arrays], axis=axis)


def reshape(x: Array, /, shape: Sequence[int], *, copy: Flag | None = None) -> Array:
    """Return x in another shape; one entry may be -1."""
    if OLD and 0 in x.shape:  # Paddle 2 reads a 0 as "as before"
        return filled([0 if n == -1 else n for n in shape], 0, x.dtype, place_of(x))
    out = paddle.reshape(x, list(shape))
    return out.clone() if copy else out


def permute_dims(x: Array, /, axes: Sequence[int]) -> Array:
    """Return x with its axes in another order."""
    return paddle.transpose(x, [a % x.ndim for a in axes])


def expand_dims(x: Array, /, *, axis: int | tuple[int, ...] = 0) -> Array:
    """Insert axes of length 1 at these positions of the result."""
    added = 1 if isinstance(axis, int) else len(axis)
    return paddle.unsqueeze(x, list(_normalised(axis, x.ndim + added)))


def squeeze(x: Array, /, axis: int | tuple[int, ...]) -> Array:
    """Remove axes of length 1."""
    axes = _normalised(axis, x.ndim)
    if not builtins.all(x.shape[a] == 1 for a in axes):
        raise ValueError(f"squeeze: axis {axis} of shape {tuple(x.shape)} must have length 1")
    return paddle.squeeze(x, list(axes)) if axes else x


def broadcast_to(x: Array, /, shape: Sequence[int]) -> Array:
    """Repeat x along axes of length 1 and new leading axes."""
    shape = list(shape)
    if shape == list(x.shape):
        return x
    if OLD and 0 in shape:
        return filled(shape, 0, x.dtype, place_of(x))
    return paddle.broadcast_to(x, shape)


def broadcast_arrays(*arrays: Array) -> list[Array]:
    """Broadcast arrays against one another."""
    shape = np.broadcast_shapes(*(tuple(a.shape) for a in arrays))
    return [broadcast_to(a, shape) for a in arrays]


def flip(x: Array, /, *, axis: Axes = None) -> Array:
    """Reverse x along axes, every axis if None."""
    return widened(paddle.flip)(x, list(_normalised(axis, x.ndim)))


def roll(x: Array, /, shift: int | tuple[int, ...], *, axis: Axes = None) -> Array:
    """Shift x cyclically, as if flat where axis is None."""
    shifts, axes = ([v] if isinstance(v, int) else v for v in (shift, axis))
    return widened(paddle.roll)(x, shifts, axes)


def matmul(x1: Array, x2: Array, /) -> Array:
    """Return the matrix product."""
    dtype = result_type(x1, x2)
    x1, x2 = (astype(x, int32 if dtype in NARROW else dtype, copy=False) for x in (x1, x2))
    if OLD and 0 in (*x1.shape, *x2.shape):
        out = filled((np.zeros(x1.shape, np.bool_) @ np.zeros(x2.shape, np.bool_)).shape, 0, x1.dtype, place_of(x1))
    else:
        out = paddle.matmul(x1, x2)
    return astype(out, dtype, copy=False)


def tril(x: Array, /, *, k: int = 0) -> Array:
    """Return x with 0 above the k-th diagonal of its last two axes."""
    return widened(paddle.tril)(x, k)
