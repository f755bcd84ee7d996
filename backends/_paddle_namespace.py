"""A small Array API (2024.12) namespace for Paddle, which has none: what formulas are written with, on Paddle 2.6 and 3.

It has creation, arithmetic, comparison, reduction, order and shape; no sets, no FFT, no linear algebra but `matmul`, no
complex numbers. The losses of the package use most of it, and one of a user's own may use all.

Everything stays on the device of its input, is differentiable by Paddle's autograd and never waits for a value.
Half types pass through to Paddle's kernels, most of which exist on GPUs only.

Formulas also use Python operators on `paddle.Tensor`, which Paddle resolves itself. What formulas must not rely on
there, and what to use instead (2: seen on 2.6.2, 3: seen on 3.3.1, no number: both):

- Mixed kinds or widths. A Boolean or integer tensor with a tensor of any other dtype: TypeError (3); the LEFT dtype
  wins, so that `mask * x` is Boolean and `i * x` truncates (2). Only floats mix. `xp.astype(mask, x.dtype) * x`,
  `xp.equal(a, b)`.
- `==`, `!=`, `<=`, `>=` of floats: differences below 1e-8 (2) or 1e-15 (3) count as none. `<` and `>` are exact, and
  so are `xp.equal` and its kin.
- Integers with scalars. `uint8`, `int8`, `int16`, `int32` (3) compared with a scalar out of range wrap around: at 0,
  `uint8 == 2**40` is true. `bool == -1` is true at True, `bool - 1` is Boolean, and scalars above 2**53 are rounded
  (2). Integers `* 2.5` and `/ 2` give float32. Narrow integers have no kernel for `*`, `**`, `%`, nor for `+ True`
  (2). `xp.equal` and its kin, `xp.add`, `xp.multiply`, or cast first.
- `x + 0.1`, `x - 0.1`, `0.1 - x` with a float64 tensor round the scalar to float32 (2), `x ** 0.1` always. Scalars
  that float32 holds exactly (1, 0.5, 2) are safe, and so are `x * 0.1`, `x / 3`, `x > 0.1`. `xp.add`, `xp.subtract`,
  `xp.pow`.
- `x ** 0` has gradient NaN at 0 (2). `xp.pow`.
- `abs(x)` (2 has none): `xp.abs(x)`. `-mask` is `mask`: `~mask`. `x // 2` of a 0-d tensor has shape (1,) (3).
- `x[mask]` waits for the device, and a 0-d mask gives another shape: `xp.where`. Integers, slices (negative steps
  too), None and ... are sound.
- `x.shape` is a list (2) or like one (3), never equal to a tuple: `tuple(x.shape)`.
- Arrays without elements: 2 refuses to broadcast, reduce, stack or reshape them. The functions below do it, without
  gradient.
- Half-type arithmetic on a CPU lacks kernels between tensors and for `where`, `abs` and reductions: cast to float32
  first.
"""

from __future__ import annotations

from math import e, inf, nan, pi

from unilossseg.backends._paddle_arrays import (
    all,
    any,
    argmax,
    argsort,
    broadcast_arrays,
    broadcast_to,
    concat,
    cumulative_sum,
    expand_dims,
    flip,
    matmul,
    max,
    mean,
    min,
    permute_dims,
    reshape,
    roll,
    sort,
    squeeze,
    stack,
    sum,
    take,
    take_along_axis,
    tril,
)
from unilossseg.backends._paddle_dtypes import (
    bfloat16,
    bool,
    can_cast,
    finfo,
    float16,
    float32,
    float64,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    isdtype,
    result_type,
    uint8,
)
from unilossseg.backends._paddle_elementwise import (
    abs,
    add,
    arange,
    asarray,
    astype,
    ceil,
    clip,
    divide,
    empty,
    empty_like,
    equal,
    exp,
    expm1,
    eye,
    floor,
    full,
    full_like,
    greater,
    greater_equal,
    isfinite,
    isinf,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    ones,
    ones_like,
    pow,
    round,
    sign,
    sqrt,
    subtract,
    where,
    zeros,
    zeros_like,
)

__all__ = [
    "abs",
    "add",
    "all",
    "any",
    "arange",
    "argmax",
    "argsort",
    "asarray",
    "astype",
    "bfloat16",
    "bool",
    "broadcast_arrays",
    "broadcast_to",
    "can_cast",
    "ceil",
    "clip",
    "concat",
    "cumulative_sum",
    "divide",
    "e",
    "empty",
    "empty_like",
    "equal",
    "exp",
    "expand_dims",
    "expm1",
    "eye",
    "finfo",
    "flip",
    "float16",
    "float32",
    "float64",
    "floor",
    "full",
    "full_like",
    "greater",
    "greater_equal",
    "iinfo",
    "inf",
    "int8",
    "int16",
    "int32",
    "int64",
    "isdtype",
    "isfinite",
    "isinf",
    "isnan",
    "less",
    "less_equal",
    "log",
    "log1p",
    "logical_and",
    "logical_not",
    "logical_or",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "multiply",
    "nan",
    "negative",
    "newaxis",
    "not_equal",
    "ones",
    "ones_like",
    "permute_dims",
    "pi",
    "pow",
    "reshape",
    "result_type",
    "roll",
    "round",
    "sign",
    "sort",
    "sqrt",
    "squeeze",
    "stack",
    "subtract",
    "sum",
    "take",
    "take_along_axis",
    "tril",
    "uint8",
    "where",
    "zeros",
    "zeros_like",
]

__array_api_version__ = "2024.12"
newaxis = None
