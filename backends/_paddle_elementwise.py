"""Elementwise functions and creation of the Paddle namespace; `_paddle_namespace` says what is promised and why."""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import paddle
from paddle.base.framework import _dygraph_place_guard

from unilossseg.backends._paddle_dtypes import (
    FLOATS,
    FROM_NUMPY,
    INTEGERS,
    NARROW,
    NUMPY_NAMES,
    bfloat16,
    bool,
    default_dtype,
    default_float,
    float16,
    float32,
    float64,
    iinfo,
    int32,
    int64,
    result_type,
)
from unilossseg.backends._paddle_tracing import is_array, is_traced, place_of
from unilossseg.backends._paddle_version import OLD, VERSION

HALF = (float16, bfloat16)
Array = Any  # a paddle.Tensor: Paddle 2 ships no types
Flag = builtins.bool  # `bool` is a dtype here

# Paddle 2's gradient of `where` multiplies by 0 instead of selecting, so that inf becomes NaN; 3.3 selects.
_WHERE_LEAKS = VERSION < (3, 3)


# ---- helpers


def _place(device: Any) -> Any:
    return paddle.framework._current_expected_place() if device is None else device


def _on(device: Any) -> AbstractContextManager[Any]:
    return nullcontext() if device is None else _dygraph_place_guard(device)


def filled(shape: Sequence[int], value: Any, dtype: Any, device: Any) -> Array:
    # Not paddle.full: Paddle 2's rounds integers above 2**53 and takes no place.
    value = float(value) if dtype in FLOATS else value  # an int beyond int64 overflows
    if not paddle.in_dynamic_mode():
        return paddle.full(list(shape), value, dtype)
    return paddle._C_ops.full(list(shape), value, dtype, _place(device))


def needs_grad(*arrays: Array) -> Flag:
    return paddle.is_grad_enabled() and builtins.any(not a.stop_gradient for a in arrays)


def widened(function: Callable[..., Any], keep: Flag = True) -> Callable[..., Any]:
    """Run `function` on int32 where its first argument is a narrow integer or Boolean; `keep` casts the result back."""

    @functools.wraps(function)
    def wrapper(x: Array, *args: Any, **kwargs: Any) -> Array:
        if x.dtype not in NARROW:
            return function(x, *args, **kwargs)
        out = function(paddle.cast(x, int32), *args, **kwargs)
        return paddle.cast(out, x.dtype) if keep else out

    return wrapper


def together(*values: Any, beside: Array | None = None) -> tuple[list[Array], list[int]]:
    """Return values in one dtype, scalars as 0-d arrays on the arrays' device, and the shape all broadcast to."""
    dtype = result_type(*values)
    others = [] if beside is None else [beside]
    device = next((place_of(v) for v in (*values, *others) if is_array(v)), None)
    arrays = [astype(v, dtype, copy=False) if is_array(v) else filled([], v, dtype, device) for v in values]
    return arrays, list(np.broadcast_shapes(*(tuple(a.shape) for a in arrays + others)))


# ---- creation


def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: Flag | None = None) -> Array:
    """Return `obj` as a tensor; a tensor comes back itself, in its gradient graph, unless something asks otherwise."""
    if is_array(obj):
        x = obj if dtype is None else astype(obj, dtype, copy=False)
        if device is not None and str(device) != str(place_of(x)):
            x = x.to(device)
        return x.clone() if copy and x is obj else x
    if isinstance(obj, list | tuple) and builtins.any(map(is_array, obj)):
        raise TypeError("asarray takes scalars, lists and NumPy arrays: join tensors with stack or concat")
    values = np.asarray(obj)
    if dtype is None:
        lone_float = values.dtype == np.float64 and not isinstance(obj, np.ndarray | np.generic)
        dtype = default_float() if lone_float else FROM_NUMPY[values.dtype.name]
    # NumPy has no bfloat16; reading a uint16 array would make one out of its bits.
    x = paddle.to_tensor(values.astype(NUMPY_NAMES.get(dtype, "float32")), place=device)
    return astype(x, dtype, copy=False)


def full(shape: int | Sequence[int], fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Return an array of `shape` holding a Python scalar."""
    shape = [shape] if isinstance(shape, int) else shape
    return filled(shape, fill_value, default_dtype(fill_value) if dtype is None else dtype, device)


def full_like(x: Array, /, fill_value: Any, *, dtype: Any = None, device: Any = None) -> Array:
    """Return an array of x's shape, and by default its dtype and device, holding a Python scalar."""
    return filled(x.shape, fill_value, x.dtype if dtype is None else dtype, place_of(x) if device is None else device)


def zeros(shape: int | Sequence[int], *, dtype: Any = None, device: Any = None) -> Array:
    """Return an array of zeros."""
    return full(shape, 0, dtype=default_float() if dtype is None else dtype, device=device)


def ones(shape: int | Sequence[int], *, dtype: Any = None, device: Any = None) -> Array:
    """Return an array of ones."""
    return full(shape, 1, dtype=default_float() if dtype is None else dtype, device=device)


def empty_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Return an array shaped like x to be written to."""
    return full_like(x, 0, dtype=dtype, device=device)


def zeros_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Return zeros shaped like x."""
    return full_like(x, 0, dtype=dtype, device=device)


def ones_like(x: Array, /, *, dtype: Any = None, device: Any = None) -> Array:
    """Return ones shaped like x."""
    return full_like(x, 1, dtype=dtype, device=device)


empty = zeros  # uninitialised memory would save a little and cost reproducibility


def arange(start: Any, /, stop: Any = None, step: Any = 1, *, dtype: Any = None, device: Any = None) -> Array:
    """Return evenly spaced values of the half-open interval."""
    start, stop = (0, start) if stop is None else (start, stop)
    dtype = result_type(start, stop, step) if dtype is None else dtype
    if (stop - start) / step <= 0:
        return filled([0], 0, dtype, device)
    with _on(device):
        x = paddle.arange(start, stop, step, dtype=dtype if dtype in (int32, int64, float32, float64) else None)
    return astype(x, dtype, copy=False)


def eye(n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None) -> Array:
    """Return ones on the k-th diagonal and zeros elsewhere."""
    rows = arange(n_rows, device=device)[:, None] + k
    columns = arange(n_rows if n_cols is None else n_cols, device=device)[None, :]
    return astype(equal(rows, columns), default_float() if dtype is None else dtype)


def astype(x: Array, dtype: Any, /, *, copy: Flag = True) -> Array:
    """Return x in another dtype, part of the same gradient graph."""
    if x.dtype == dtype:
        return x.clone() if copy else x
    out = paddle.cast(x, dtype)
    if OLD and dtype == float32 and x.dtype in HALF and needs_grad(x) and not is_traced(x) and x.place.is_cpu_place():
        out.register_hook(functools.partial(_nearest_half, dtype=x.dtype))
    return out


def _nearest_half(gradient: Array, dtype: Any) -> Array:
    """Return a float32 gradient rounded to numbers of a half type: Paddle 2 would truncate it to them on a CPU."""
    # Veltkamp's splitting keeps the leading 11 (float16) or 8 (bfloat16) of 24 digits.
    spread = gradient * float(2**13 + 1 if dtype == float16 else 2**16 + 1)
    rounded = spread - (spread - gradient)
    if dtype == float16:
        # Below 2^-14 the numbers of float16 lie 2^-24 apart, as those of float32 do above one half.
        rounded = paddle.where(gradient.abs() < 2.0**-14, (gradient + 0.75) - 0.75, rounded)
    return paddle.where(paddle.isfinite(spread), rounded, gradient)


# ---- elementwise, one array

exp, log, log1p, expm1, sqrt = paddle.exp, paddle.log, paddle.log1p, paddle.expm1, paddle.sqrt
abs, sign, negative = widened(paddle.abs), widened(paddle.sign), widened(paddle.neg)


def _on_floats(function: Callable[[Array], Array], otherwise: Callable[[Array], Array]) -> Callable[[Array], Array]:
    @functools.wraps(function)
    def wrapper(x: Array, /) -> Array:
        return function(x) if x.dtype in FLOATS else otherwise(x)

    return wrapper


def _round_half_even(x: Array, /) -> Array:
    """Round to the nearest integer, ties to the even one (Paddle 2 rounds them away from zero)."""
    return paddle.where(x - paddle.floor(x) == 0.5, 2 * paddle.round(x * 0.5), paddle.round(x))


floor = _on_floats(paddle.floor, lambda x: x)
ceil = _on_floats(paddle.ceil, lambda x: x)
round = _on_floats(_round_half_even if OLD else paddle.round, lambda x: x)
isfinite = _on_floats(paddle.isfinite, lambda x: full_like(x, True, dtype=bool))
isnan = _on_floats(paddle.isnan, lambda x: full_like(x, False, dtype=bool))
isinf = _on_floats(paddle.isinf, lambda x: full_like(x, False, dtype=bool))


def logical_not(x: Array, /) -> Array:
    """Return `not x`, elementwise."""
    return paddle.logical_not(astype(x, bool, copy=False))


# ---- elementwise, two arrays or an array and a Python scalar


def _arithmetic(function: Callable[[Array, Array], Array]) -> Callable[[Any, Any], Array]:
    @functools.wraps(function)
    def wrapper(x1: Any, x2: Any, /) -> Array:
        (x1, x2), shape = together(x1, x2)
        if OLD and 0 in shape:
            return filled(shape, 0, x1.dtype, place_of(x1))
        if x1.dtype in NARROW:  # int32 wraps around modulo the narrow type's range just as the narrow type would
            return paddle.cast(function(paddle.cast(x1, int32), paddle.cast(x2, int32)), x1.dtype)
        return function(x1, x2)

    return wrapper


add, subtract, multiply = _arithmetic(paddle.add), _arithmetic(paddle.subtract), _arithmetic(paddle.multiply)
_float_divide, _tensor_pow = _arithmetic(paddle.divide), _arithmetic(paddle.pow)


def divide(x1: Any, x2: Any, /) -> Array:
    """Return `x1 / x2`; integers divide as the default float."""
    dtype = result_type(x1, x2)
    if dtype not in FLOATS:
        x1, x2 = (astype(x, default_float()) if is_array(x) else float(x) for x in (x1, x2))
    return _float_divide(x1, x2)


def pow(x1: Any, x2: Any, /) -> Array:
    """Return `x1 ** x2`; the gradient of `x ** 0` is 0, also at 0."""
    if isinstance(x2, int | float) and is_array(x1) and x1.dtype in FLOATS:
        if x2 == 0:  # Paddle 2 gives NaN; this is 1 and still a function of x1
            return where(full_like(x1, False, dtype=bool), x1, 1.0)
        if float(np.float32(x2)) == x2:  # Paddle holds a scalar exponent in float32
            return paddle.pow(x1, x2)
    return _tensor_pow(x1, x2)


def _compare(
    function: Callable[..., Array], mirror: Callable[..., Array], above: Flag, below: Flag
) -> Callable[[Any, Any], Array]:
    """Wrap a comparison, `mirror` with sides swapped; a scalar above or below x1's range decides it without looking."""

    def compare(function: Callable[..., Array], x1: Array, x2: Any, above: Flag, below: Flag) -> Array:
        if isinstance(x2, int) and x1.dtype == bool:
            x1 = astype(x1, int64)
        if isinstance(x2, int) and x1.dtype in INTEGERS and not iinfo(x1).min <= x2 <= iinfo(x1).max:
            return full_like(x1, above if x2 > 0 else below, dtype=bool)  # Paddle would wrap it around
        if isinstance(x2, float) and x1.dtype in INTEGERS:
            x1 = astype(x1, float64)  # the promoted type, float32, would round large integers
        (x1, x2), shape = together(x1, x2)
        return filled(shape, False, bool, place_of(x1)) if OLD and 0 in shape else function(x1, x2)

    @functools.wraps(function)
    def wrapper(x1: Any, x2: Any, /) -> Array:
        if is_array(x1):
            return compare(function, x1, x2, above, below)
        return compare(mirror, x2, x1, below, above)

    return wrapper


def _exact(function: Callable[..., Array], combine: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    """A comparison of floats that means what it says, named after Paddle's.

    Paddle's own `==`, `!=`, `<=` and `>=` take floats for equal that differ by less than 1e-8 (2) or 1e-15 (3), however
    small they are; its `<` and `>` are exact.
    """

    @functools.wraps(function)
    def compare(x1: Array, x2: Any) -> Array:
        return combine(x1, x2) if x1.dtype in FLOATS else function(x1, x2)

    return compare


def _differs(x1: Array, x2: Any) -> Array:
    return (x1 < x2) | (x1 > x2) | _unordered(x1, x2)


def _unordered(x1: Array, x2: Any) -> Array:
    """Where either is NaN."""
    difference = x1 != x1
    return difference | (x2 != x2)


_equal = _exact(paddle.equal, lambda x1, x2: ~_differs(x1, x2))
_not_equal = _exact(paddle.not_equal, _differs)
_less_equal = _exact(paddle.less_equal, lambda x1, x2: ~((x1 > x2) | _unordered(x1, x2)))
_greater_equal = _exact(paddle.greater_equal, lambda x1, x2: ~((x1 < x2) | _unordered(x1, x2)))

equal = _compare(_equal, _equal, above=False, below=False)
not_equal = _compare(_not_equal, _not_equal, above=True, below=True)
less = _compare(paddle.less_than, paddle.greater_than, above=True, below=False)
less_equal = _compare(_less_equal, _greater_equal, above=True, below=False)
greater = _compare(paddle.greater_than, paddle.less_than, above=False, below=True)
greater_equal = _compare(_greater_equal, _less_equal, above=False, below=True)


def _logical(function: Callable[[Array, Array], Array]) -> Callable[[Any, Any], Array]:
    @functools.wraps(function)
    def wrapper(x1: Any, x2: Any, /) -> Array:
        (x1, x2), shape = together(x1, x2)
        if OLD and 0 in shape:
            return filled(shape, False, bool, place_of(x1))
        return function(astype(x1, bool, copy=False), astype(x2, bool, copy=False))

    return wrapper


logical_and, logical_or = _logical(paddle.logical_and), _logical(paddle.logical_or)


# ---- selection


def _masked(x: Array, mask: Array) -> Array:
    """Return x, whose gradient is kept only where the mask holds: 0, not inf * 0, elsewhere.

    Not a PyLayer, which crashes the interpreter in a second `backward(retain_graph=True)`. The copy carries the hook; a
    reshape of a leaf would lose it in `paddle.grad`.
    """
    x = paddle.assign(x)
    x.register_hook(lambda gradient: paddle.where(mask, gradient, zeros_like(gradient)))
    return x


def where(condition: Array, x1: Any, x2: Any, /) -> Array:
    """Return x1 where the condition holds, else x2; the one not taken gets gradient 0, whatever arrives."""
    (x1, x2), shape = together(x1, x2, beside=condition)
    dtype = x1.dtype
    if OLD and 0 in shape:
        return filled(shape, 0, dtype, place_of(x1))
    if dtype in NARROW:
        x1, x2 = paddle.cast(x1, int32), paddle.cast(x2, int32)
    condition, x1, x2 = (a if list(a.shape) == shape else paddle.broadcast_to(a, shape) for a in (condition, x1, x2))
    if _WHERE_LEAKS:
        x1 = _masked(x1, condition) if needs_grad(x1) else x1
        x2 = _masked(x2, paddle.logical_not(condition)) if needs_grad(x2) else x2
    return astype(paddle.where(condition, x1, x2), dtype, copy=False)


def _extremum(name: str, beyond: Callable[[Any, Any], Array]) -> Callable[[Any, Any], Array]:
    def wrapper(x1: Any, x2: Any, /) -> Array:
        (x1, x2), _ = together(x1, x2)
        if x1.dtype not in FLOATS:
            return where(beyond(x1, x2), x1, x2)
        # Paddle 2 loses a NaN in x1 and gives x2 the whole gradient at a tie. The mean of both is NaN if either is,
        # exact at a tie, and splits the gradient evenly there.
        mean = add(x1 * 0.5, x2 * 0.5)
        return where(beyond(x1, x2), x1, where(beyond(x2, x1), x2, mean))

    wrapper.__doc__ = f"Return the elementwise {name} of both, NaN if either is; a tie splits the gradient evenly."
    wrapper.__name__ = wrapper.__qualname__ = name
    return wrapper


maximum, minimum = _extremum("maximum", greater), _extremum("minimum", less)


def clip(x: Array, /, min: Any = None, max: Any = None) -> Array:
    """Limit x to [min, max], in its own dtype; the gradient is 1 on the limits too (Paddle 2 makes it 0 there)."""
    for limit, beyond in ((min, less), (max, greater)):
        if limit is not None:
            if isinstance(limit, int | float) and x.dtype in INTEGERS:
                limit = builtins.min(builtins.max(limit, iinfo(x).min), iinfo(x).max)
            x = where(beyond(x, limit), limit, x)
    return x
