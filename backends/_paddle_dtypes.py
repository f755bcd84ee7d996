"""Data types of the Paddle namespace: names, kinds, promotion, limits.

Promotion follows the Array API standard where that defines a result. Where it leaves one open (Boolean with number,
integer with floating point) the result is torch's: the higher kind wins, and a Python float beside integers gives the
default float.
"""

from __future__ import annotations

import builtins
from functools import reduce
from typing import Any

import paddle

bool, uint8, int8, int16, int32, int64 = (  # the standard's names
    paddle.bool,
    paddle.uint8,
    paddle.int8,
    paddle.int16,
    paddle.int32,
    paddle.int64,
)
float16, bfloat16, float32, float64 = paddle.float16, paddle.bfloat16, paddle.float32, paddle.float64

# Narrow integers lack most kernels; see `widened` in _paddle_elementwise.py.
NARROW = (bool, uint8, int8, int16)
SIGNED, UNSIGNED, FLOATS = (int8, int16, int32, int64), (uint8,), (float16, bfloat16, float32, float64)
INTEGERS = SIGNED + UNSIGNED
_BITS = {
    bool: 1,
    uint8: 8,
    int8: 8,
    int16: 16,
    int32: 32,
    int64: 64,
    float16: 16,
    bfloat16: 16,
    float32: 32,
    float64: 64,
}
_KINDS = {
    "bool": (bool,),
    "signed integer": SIGNED,
    "unsigned integer": UNSIGNED,
    "integral": INTEGERS,
    "real floating": FLOATS,
    "complex floating": (),
    "numeric": INTEGERS + FLOATS,
}
# NumPy has no bfloat16; Paddle takes a uint16 array for one, so unsigned types go up to the next signed one.
NUMPY_NAMES = {
    bool: "bool",
    uint8: "uint8",
    int8: "int8",
    int16: "int16",
    int32: "int32",
    int64: "int64",
    float16: "float16",
    float32: "float32",
    float64: "float64",
}
FROM_NUMPY = {name: dtype for dtype, name in NUMPY_NAMES.items()} | {"uint16": int32, "uint32": int64, "uint64": int64}


def default_float() -> Any:
    """Return the dtype Paddle gives Python floats (`paddle.get_default_dtype()`)."""
    return FROM_NUMPY.get(paddle.get_default_dtype(), bfloat16)


def default_dtype(value: object) -> Any:
    """Return the dtype a lone Python scalar takes."""
    return bool if isinstance(value, builtins.bool) else int64 if isinstance(value, int) else default_float()


def _rank(dtype: Any) -> int:
    return 0 if dtype == bool else 1 if dtype in INTEGERS else 2


def _promote(a: Any, b: Any) -> Any:
    if a == b:
        return a
    if _rank(a) != _rank(b):
        return max(a, b, key=_rank)
    if _BITS[a] == _BITS[b]:  # the two pairs of equal width hold different values: float16 and bfloat16, int8 and uint8
        return float32 if _rank(a) == 2 else int16
    return max(a, b, key=_BITS.__getitem__)


def result_type(*arrays_and_dtypes: Any) -> Any:
    """Return the dtype that mixing these gives; a Python scalar counts only by a kind above theirs."""
    scalars = [a for a in arrays_and_dtypes if isinstance(a, int | float)]
    dtypes = [getattr(a, "dtype", a) for a in arrays_and_dtypes if not isinstance(a, int | float)]
    if not dtypes:
        return reduce(_promote, map(default_dtype, scalars))
    dtype = reduce(_promote, dtypes)
    for kind in map(default_dtype, scalars):
        dtype = kind if _rank(kind) > _rank(dtype) else dtype
    return dtype


def can_cast(from_: Any, to: Any, /) -> builtins.bool:
    """Tell whether promotion can turn dtype or array `from_` into `to`."""
    return _promote(getattr(from_, "dtype", from_), to) == to


def isdtype(dtype: Any, kind: Any) -> builtins.bool:
    """Tell whether `dtype` is of `kind`: a dtype, one of the standard's kind names, or a tuple of these."""
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ValueError(f"isdtype: kind must be one of {sorted(_KINDS)} or a dtype (got {kind!r})")
        return dtype in _KINDS[kind]
    return builtins.bool(dtype == kind)


def finfo(type: Any, /) -> Any:
    """Return bits, eps, max, min and smallest_normal of a floating-point dtype or array."""
    return paddle.finfo(getattr(type, "dtype", type))


def iinfo(type: Any, /) -> Any:
    """Return bits, max and min of an integer dtype or array."""
    return paddle.iinfo(getattr(type, "dtype", type))
