"""Building blocks of the formulas, in Array API calls: what a loss of one's own is written with too."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from unilossseg.backends import Array, Backend
from unilossseg.backends._backend import Chunk


@dataclass(frozen=True)
class PixelLabels:
    """Integer labels ready for formulas.

    `index` (N, S), integers: the class, 0 where ignored. `valid` bool (N, S): False where ignored.
    """

    index: Array
    valid: Array


def shape_of(x: Array) -> tuple[int, ...]:
    """The shape as plain numbers, whatever the framework makes of it."""
    shape = x.shape
    return shape if type(shape) is tuple else tuple(map(int, shape))


def size_of(x: Array) -> int:
    """The number of entries."""
    return math.prod(shape_of(x))


def work_dtype(ops: Backend, x: Array) -> Any:
    """The dtype that a loss computes in: float64 for float64, else float32."""
    return ops.work_dtype(x)


def upcast(ops: Backend, x: Array) -> Array:
    """The array in its working dtype."""
    return ops.upcast(x)


def flat(ops: Backend, x: Array, leading: int = 2) -> Array:
    """Spatial axes as one: (N, C, *S) to (N, C, S), or (N, *S) to (N, S) with one leading axis."""
    shape = shape_of(x)
    return x if len(shape) == leading + 1 else ops.reshape(x, (*shape[:leading], math.prod(shape[leading:])))


def differs(ops: Backend, labels: Array, number: int) -> Array:
    """labels != number; a number that the labels' dtype cannot hold differs from every label."""
    return ops.differs(labels, number)


def split_labels(ops: Backend, labels: Array, ignore_index: int) -> PixelLabels:
    """Integer labels (N, *S) as classes and a mask, flat."""
    return PixelLabels(*ops.split_labels(flat(ops, labels, leading=1), ignore_index))


def as_weights(ops: Backend, mask: Array, like: Array) -> Array:
    """A boolean mask as 0.0 and 1.0 of the working dtype of `like`."""
    return ops.xp.astype(mask, work_dtype(ops, like))


def spread(ops: Backend, mask: Array, like: Array, whole: Array) -> Array:
    """1 / whole where a mask holds, else 0, in the working dtype of `like`."""
    return ops.elementwise(lambda mask: as_weights(ops, mask, like) / whole, mask)


def total(ops: Backend, x: Array, axis: int | tuple[int, ...] | None = None) -> Array:
    """The sum, accumulated in float64 so that a million float32 terms lose no digits, in the array's own dtype."""
    xp = ops.xp
    return ops.cast(xp.sum(x, axis=axis, dtype=xp.float64), x.dtype)


def added(parts: Sequence[Array]) -> Array:
    """The sum of some arrays, or of their sums."""
    return functools.reduce(operator.add, parts)


def numbers_of(ops: Backend, x: Array, count: int) -> tuple[list[Any], Callable[[float], Any]]:
    """The first entries of a row to calculate with in float64, and what makes one more such number.

    They are Python's where values are at hand, which cost a tenth; elsewhere arrays of one entry, and so are the others
    then where the backend needs that.
    """
    found = ops.numbers(x, count)
    return found, float if isinstance(found[0], float) else numbers_like(ops, found[0])


def numbers_like(ops: Backend, x: Array) -> Callable[[float], Array]:
    """What makes a number one to calculate with beside x; see `numbers_of`."""
    if ops.exact_numbers:
        return float
    # Where Paddle traces a program it rounds a Python number beside an operator to float32.
    return lambda number: ops.xp.full_like(x, number)


def in_one_pass(
    compute: Callable[[bool, Array | None], tuple[Any, Array | None]], gradient: bool, upstream: Array | None, later: bool
) -> tuple[Any, Any]:
    """Value and gradient by `compute(gradient, upstream)`; a gradient that is wanted later takes another pass."""
    value, slopes = compute(gradient, upstream)
    return value, (lambda upstream: compute(True, upstream)[1]) if later else slopes


def rescale(ops: Backend, x: Array, factor: float) -> None:
    """x * factor in the place of x, an array in one piece."""
    row = ops.reshape(x, (1, 1, size_of(x)))

    def task(chunk: Chunk) -> None:
        row[0, 0, chunk[1]] *= factor

    ops.run(task, ops.chunks(1, 1, size_of(x), small=True))


def average(ops: Backend, x: Array) -> Array:
    """The mean over all entries."""
    # Not `/`: where Paddle traces a program it rounds a Python number beside an operator to float32.
    return ops.xp.divide(total(ops, x), size_of(x))


def ratio(ops: Backend, numerator: Array, denominator: Array) -> Array:
    """numerator / denominator, and 0 where the denominator is 0."""
    xp = ops.xp
    some = denominator > 0
    return xp.where(some, numerator, xp.zeros_like(numerator)) / xp.where(some, denominator, xp.ones_like(denominator))


def keep_where(ops: Backend, mask: Array, x: Array, other: float = 0) -> Array:
    """x where the mask holds, else 0 or another number: unlike a product, a masked Inf or NaN leaves no trace."""
    return ops.keep_where(mask, x, other)


def shifted_logits(ops: Backend, logits: Array) -> Array:
    """Logits minus their largest along the channels: exp of it cannot overflow, and log loses no digits."""
    return logits - ops.xp.max(ops.stop_gradient(logits), axis=1, keepdims=True)


def pixel_cross_entropy(ops: Backend, logits: Array, pixels: PixelLabels) -> Array:
    """logsumexp(z) - z[y] of each pixel of (N, C, *S) logits, (N, S); 0 where ignored."""
    xp = ops.xp
    shifted = shifted_logits(ops, flat(ops, logits))
    losses = xp.log(xp.sum(xp.exp(shifted), axis=1)) - ops.pick(shifted, pixels.index)
    return keep_where(ops, pixels.valid, losses)


def softmax(ops: Backend, logits: Array) -> Array:
    """exp(z) / sum exp(z) over axis 1."""
    powers = ops.xp.exp(shifted_logits(ops, logits))
    return powers / ops.xp.sum(powers, axis=1, keepdims=True)


def softplus(ops: Backend, x: Array) -> Array:
    """log(1 + exp(x)): exact for large and small x, and smooth for autograd at 0 (no kink of max or abs)."""
    xp = ops.xp
    positive = x > 0
    zero = xp.zeros_like(x)
    above, below = xp.where(positive, x, zero), xp.where(positive, zero, x)
    return xp.where(positive, x + xp.log1p(xp.exp(-above)), xp.log1p(xp.exp(below)))


def sigmoid(ops: Backend, x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    xp = ops.xp
    positive = x > 0
    power = xp.exp(xp.where(positive, -x, x))
    return xp.where(positive, xp.ones_like(x), power) / (1 + power)


def class_values(ops: Backend, table: Array, index: Array) -> Array:
    """table[index] for a table of one number per class and an index (N, S)."""
    return ops.class_values(table, index)


def top_k_mask(ops: Backend, x: Array, k: int | Array) -> Array:
    """Where the k largest of the last axis are; among equal values the first come first. NaN counts as chosen."""
    return ops.top_k_mask(x, k)


def lovasz_weights(ops: Backend, errors: Array, foreground: Array) -> Array:
    """The gradient of the Lovász extension at the errors, pixel by pixel: its dot product with them is the loss.

    It is the steps of the Jaccard loss along the errors, sorted from large to small, and 0 where an error is not above 0.

    Parameters
    ----------
    errors
        (rows, P), detached, in the working dtype, none of them negative; those of ignored pixels must be 0.
    foreground
        bool, (rows, P); no ignored pixel is foreground.
    """
    return ops.jaccard_steps(errors, foreground)
