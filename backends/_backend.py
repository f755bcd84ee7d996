"""What a framework must supply, and what it may.

A backend is a namespace of the Array API standard (2024.12) and a handful of operations that the standard lacks. Each of
them has a fallback here, written in the standard, so that `Backend("toy", toy_namespace)` is a complete backend: every loss
computes on it. A subclass overrides what its framework does better, and says what it can do beyond values:

========================  =======================================================================================
`assignable`              arrays can be assigned to in place: the closed forms run in this namespace
`traced`                  an array only stands for values: a compiler looks on
`readable`                values of an array can be read without stalling a device: labels out of range raise
`stop_gradient`           detaches an array from autograd
`custom_gradient`         hangs a value and its gradient, computed together, into autograd
`full_precision`          switches off automatic casts that would change a formula's dtypes
`value_and_grad`          value and gradient of a function by the framework's autograd
`kernel`                  the backend in whose namespace closed forms of an array are computed (NumPy for CPU tensors)
`to_kernel, from_kernel`  the way there and back, without a copy
`pick ... uniform`        operations that the standard lacks or that the framework has a better primitive for
========================  =======================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_compat

Array = Any
Chunk = tuple[slice, slice]
# fused(x, need_gradient, upstream): the value and, if wanted, the gradient of sum(value * upstream).
Fused = Callable[[Array, bool, Array | None], tuple[Array, Array | None]]

# Off the CPU a chunk only bounds the size of temporaries: large enough to fill an accelerator.
LARGE_CHUNK = 1 << 26

MOST_CONSTANTS = 256


class Backend:
    """An Array API namespace and the operations beyond it, each with a fallback in the standard."""

    assignable: bool = False
    differentiable: bool = False

    def __init__(self, name: str, namespace: Any) -> None:
        self.name = name
        self.xp = namespace
        self._constants: dict[Any, Array] = {}

    def __repr__(self) -> str:
        return f"<backend {self.name}>"

    @property
    def index_dtype(self) -> Any:
        """The dtype in which class numbers are kept to look things up with."""
        return self.xp.int64

    # ------------------------------------------------------------------------------------------------ where arrays live
    def device(self, x: Array) -> Any:
        """The device of an array, as the namespace's creation functions take it."""
        return array_api_compat.device(x)

    def traced(self, x: Array) -> bool:
        """Whether `x` only stands for values, in a compiler's trace or under a transform: they can never be read."""
        return False

    def readable(self, x: Array) -> bool:
        """Whether reading a value of `x` neither stalls a device nor breaks a trace."""
        return False

    def read(self, x: Array) -> Any:
        """An array of one value as a Python number; waits for the device."""
        return x.item() if hasattr(x, "item") else float(x)

    def is_dtype(self, x: Array, kind: str | tuple[str, ...]) -> bool:
        """Whether the array's dtype is of a kind, in the standard's words ('integral', 'real floating', ...)."""
        return bool(self.xp.isdtype(x.dtype, kind))

    def constant(self, values: tuple[float, ...], like: Array) -> Array:
        """Numbers as an array of the dtype and on the device of `like`; kept, so that a device gets them only once.

        That is in a loss's first call, which must therefore come before a CUDA graph is captured.
        """
        key = (values, like.dtype, self.device(like))
        if key not in self._constants:
            if len(self._constants) >= MOST_CONSTANTS:
                self._constants.clear()
            self._constants[key] = self.xp.asarray(list(values), dtype=like.dtype, device=self.device(like))
        return self._constants[key]

    def cast(self, x: Array, dtype: Any) -> Array:
        """The array in a dtype, itself if it is of that."""
        return self.xp.astype(x, dtype, copy=False)

    # ------------------------------------------------------------------------------------------------ gradients
    def stop_gradient(self, x: Array) -> Array:
        """The same values, detached from autograd."""
        return x

    def custom_gradient(self, fused: Fused, plain: Callable[[Array], Array], x: Array) -> Array:
        """The value of `fused(x, need_gradient, upstream)`, with the gradient that it returns hung into autograd.

        `plain` is the same value as a differentiable formula, for a backend that needs a second derivative.
        """
        return fused(x, False, None)[0]

    def value_and_grad(self, function: Callable[[Array], Array], x: Array, upstream: Array | None) -> tuple[Array, Array]:
        """Value of `function(x)` and the gradient of `sum(value * upstream)` with respect to `x`, by autograd."""
        raise TypeError(
            f"the {self.name} backend has no autograd: expected a loss with a closed-form gradient, "
            "or an array of a framework that differentiates"
        )

    def full_precision(self) -> AbstractContextManager[None]:
        """A context in which the framework's automatic mixed precision leaves the dtypes of a formula alone."""
        return nullcontext()

    # ------------------------------------------------------------------------------------------------ closed forms
    def kernel(self, x: Array) -> Backend | None:
        """The backend whose namespace computes closed forms for `x`; None: use the plain formula."""
        return self if self.assignable else None

    def to_kernel(self, x: Array, packed: bool = False) -> Array:
        """The array as one of the kernel's backend, without a copy where the dtype allows.

        A dtype that the kernel lacks is widened, or with `packed` stays as it is: only `cast` makes numbers of it then.
        """
        return x

    def from_kernel(self, x: Array, dtype: Any = None) -> Array:
        """An array of the kernel's backend as one of this backend; in its own dtype, or in one of this backend's."""
        return x if dtype is None else self.xp.astype(x, dtype, copy=False)

    def chunks(self, images: int, channels: int, pixels: int, *, small: bool = False) -> Sequence[Chunk]:
        """Slices of images and pixels that cover (images, channels, pixels), each small enough to work on at once.

        `small` is for work with many temporaries of a chunk's size.
        """
        step = max(1, LARGE_CHUNK // max(1, channels * images))
        return [(slice(0, images), slice(a, min(a + step, pixels))) for a in range(0, pixels, step)]

    def planes(self, images: int, channels: int) -> Sequence[Chunk]:
        """Slices of images and channels that cover (images, channels), each worked on at once."""
        return [(slice(0, images), slice(0, channels))]

    def run(self, task: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Calls `task` on every item, in any order, and returns the results in the order of the items."""
        return [task(item) for item in items]

    def elementwise(self, function: Callable[..., Any], *arrays: Array) -> Any:
        """function(*arrays), an array or a tuple of them, of a function that treats every entry for itself.

        It may be called on pieces of the last axis, side by side. An array may have length 1 there: it goes along whole.
        """
        return function(*arrays)

    def planewise(self, function: Callable[[Array], Array], x: Array) -> Array:
        """function(x) of a function that treats every plane of x (N, C, H, W) for itself and keeps its shape."""
        return function(x)

    def threads(self) -> int | None:
        """How many threads the framework is set to use; None: it does not say."""
        return None

    def limited_threads(self, count: int | None) -> AbstractContextManager[None]:
        """A context in which `run` uses no more threads than that."""
        return nullcontext()

    def exp_(self, x: Array) -> Array:
        """exp(x); may overwrite x, which must be a temporary."""
        return self.xp.exp(x)

    def subtract_at(self, x: Array, index: Array, amount: Array) -> Array:
        """x with `amount` (N, S) subtracted at class `index` (N, S) of axis 1 of x (N, C, S); may overwrite x."""
        return x - self.xp.where(self.one_hot(index, x.shape[1]), amount[:, None, :], self.xp.zeros_like(x))

    def softmax_parts(self, x: Array, out: Array | None = None) -> tuple[Array, Array, Array]:
        """exp(x - top) (N, C, S), its sum over the channels and top, the largest of them, (N, S) both; not for autograd.

        A backend may put the powers into `out`, and returns it then.
        """
        top = self.xp.max(x, axis=1)
        powers = self.exp_(x - top[:, None, :])
        return powers, self.xp.sum(powers, axis=1), top

    def softmax_sums(self, x: Array) -> tuple[Array, Array]:
        """The last two of `softmax_parts`."""
        return self.softmax_parts(x)[1:]

    def cross_entropy(
        self, x: Array, index: Array, weights: Array | None = None, out: Array | None = None
    ) -> tuple[Array, Array | None]:
        """logsumexp(x) - x[index] (N, S) of x (N, C, S); not for autograd.

        With weights (N, S) also the gradient of the sum of weights * it, weights * (softmax(x) - onehot(index)), which a
        backend may put into `out`, and returns that then.
        """
        slope, norm, top = self.softmax_parts(x, out)
        losses = self.xp.log(norm) - (self.pick(x, index) - top)
        if weights is None:
            return losses, None
        slope *= (weights / norm)[:, None, :]
        return losses, self.subtract_at(slope, index, weights)

    def relaxed_cross_entropy(
        self, x: Array, near: Array, weights: Array | None = None, out: Array | None = None
    ) -> tuple[Array, Array | None]:
        """logsumexp(x) - logsumexp(x where near) (N, S), each from its own largest: near (N, C, S) bool, never none at a
        pixel; not for autograd.

        With weights (N, S) also the gradient of the sum of weights * it; see `cross_entropy`.
        """
        powers, norm, top = self.softmax_parts(x)
        near_powers, near_norm, near_top = self.softmax_parts(self.keep_where(near, x, -math.inf))
        losses = (top - near_top) + self.xp.log(norm) - self.xp.log(near_norm)
        if weights is None:
            return losses, None
        powers *= (weights / norm)[:, None, :]
        near_powers *= (weights / near_norm)[:, None, :]
        return losses, powers - near_powers

    def through_softmax(self, x: Array, slope: Array, weights: Array | None = None, out: Array | None = None) -> Array:
        """weights * p * (slope - sum p * slope) with p = softmax(x): from the gradient by p that by x; not for autograd.

        A backend may put it into `out`, which may be `slope`, and returns that then.
        """
        p, norm, _ = self.softmax_parts(x)
        p /= norm[:, None, :]
        p *= slope - self.xp.sum(p * slope, axis=1, keepdims=True)
        return p if weights is None else p * weights[:, None, :]

    def softmax_totals(self, x: Array, index: Array, weights: Array) -> tuple[Array, Array]:
        """The sums over the pixels of weights * softmax(x), float64 (N, C), and that at class `index`, (N, S)."""
        p, norm, _ = self.softmax_parts(x)
        p *= (weights / norm)[:, None, :]
        return self.pixel_sums(p), self.pick(p, index)

    def binary_cross_entropy(
        self,
        x: Array,
        labels: Array,
        ignore_index: int,
        weight: tuple[Array, Array],
        slope_weight: tuple[Array, Array],
        extra: Array,
        out: Array | None,
    ) -> Array | None:
        """The sum of (v + w y) ((1 - y) x + (1 + e y) log(1 + exp(-x))) over the labels y that count, float64.

        The derivative of each term, with a weight of its own, goes to `out`. None: the backend has no loop of its own for
        this, or not for such arrays.
        """
        return None

    def differences(
        self, x: Array, labels: Array, ignore_index: int | None, squares: bool, share: Array, out: Array | None
    ) -> Array | None:
        """The sum of (x - y)^2, or of |x - y|, over the labels y that count, float64.

        The derivative of each term times `share` goes to `out`. None: the backend has no loop of its own for this, or not
        for such arrays.
        """
        return None

    def softplus_and_sigmoid(self, x: Array) -> tuple[Array, Array]:
        """log(1 + exp(x)) and its derivative from one exponential; not for autograd, which would have a kink at 0."""
        xp = self.xp
        power = self.exp_(-xp.abs(x))
        above = xp.maximum(x, xp.zeros_like(x)) + xp.log1p(power)
        # 1 / (1 + e) for positive x, e / (1 + e) for others, where e <= 1.
        return above, xp.maximum(power, xp.astype(x > 0, x.dtype)) / (1 + power)

    # ------------------------------------------------------------------------------------------------ beyond the standard
    def pick(self, x: Array, index: Array) -> Array:
        """The values x[n, index[n, s], s] of x (N, C, S) for an index (N, S)."""
        return self.xp.squeeze(self.xp.take_along_axis(x, index[:, None, :], axis=1), axis=1)

    def look_up(self, table: Array, index: Array) -> Array:
        """table[n, index[n, s]] of a table (N, C) for an index (N, S)."""
        return self.xp.take_along_axis(table, index, axis=1)

    def buffer_like(self, x: Array) -> Array:
        """An array for the gradient of x: its shape, dtype and device, and no values yet."""
        return self.xp.empty_like(x)

    def sign(self, x: Array) -> Array:
        """1, 0 or -1, and NaN for NaN."""
        one = self.xp.ones_like(x)
        # Not the namespace's: some write it through a mask, for which a device has to be waited for.
        return self.xp.where(x > 0, one, self.xp.where(x < 0, -one, x))

    def keep_where(self, mask: Array, x: Array, other: float = 0) -> Array:
        """x where the mask holds, else a number; mask and array broadcast."""
        return self.xp.where(mask, x, self.xp.full_like(x, other))

    def count(self, mask: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        """How many entries of a mask are True: int64."""
        return self.xp.sum(self.xp.astype(mask, self.xp.int64), axis=axis, keepdims=keepdims)

    def first_true(self, mask: Array, k: int | Array) -> Array:
        """A mask of the first k entries of the last axis that are True in this one; k may differ from row to row."""
        return mask & (self.xp.cumulative_sum(self.xp.astype(mask, self.xp.int64), axis=-1) <= k)

    def one_hot(self, index: Array, classes: int) -> Array:
        """Boolean (N, C, S): where the index (N, S) equals the class."""
        numbers = self.xp.arange(classes, dtype=index.dtype, device=self.device(index))
        return self.xp.equal(index[:, None, :], numbers[None, :, None])

    def differs(self, labels: Array, number: int) -> Array:
        """labels != number; a number that the labels' dtype cannot hold differs from every label."""
        xp = self.xp
        if self.is_dtype(labels, "bool"):
            labels = xp.astype(labels, xp.int64)
        if self.is_dtype(labels, "integral"):
            limits = xp.iinfo(labels.dtype)
            if not limits.min <= number <= limits.max:
                return xp.ones_like(labels, dtype=xp.bool)
        return xp.not_equal(labels, number)

    def tally(self, labels: Array, ignore_index: int | None, most: float) -> Array:
        """How many labels count, and of those how many are 1, are 0, and lie outside [0, most] (NaN too): int64 (4,)."""
        xp = self.xp
        if self.is_dtype(labels, "bool"):
            labels = xp.astype(labels, xp.int8)
        mask = xp.ones_like(labels, dtype=xp.bool) if ignore_index is None else self.differs(labels, ignore_index)
        # Not `>= limit`: soft labels are floats up to 1.
        masks = [xp.equal(labels, 1), xp.equal(labels, 0), ~((labels >= 0) & (labels <= most))]
        return xp.stack([self.count(mask), *(self.count(mask & which) for which in masks)])

    def split_labels(self, labels: Array, ignore_index: int) -> tuple[Array, Array]:
        """The class of integer labels in `index_dtype`, 0 where ignored; and a mask, False where ignored."""
        valid = self.differs(labels, ignore_index)
        return self.keep_where(valid, self.xp.astype(labels, self.index_dtype, copy=False)), valid

    def pixel_sums(self, x: Array) -> Array:
        """Sums over the last axis of (N, C, S): float64 (N, C)."""
        return self.xp.sum(x, axis=2, dtype=self.xp.float64)

    def class_sums(self, values: Array, index: Array, classes: int) -> Array:
        """Sums of values (N, S) by the class `index` (N, S): float64 (N, C)."""
        xp = self.xp
        zero = xp.zeros_like(values)[:, None, :]
        parts = xp.where(self.one_hot(index, classes), values[:, None, :], zero)
        return xp.sum(parts, axis=2, dtype=xp.float64)

    def argsort_descending(self, x: Array) -> Array:
        """Indices that sort the last axis from large to small; equal values keep their order."""
        # Ascending order of the negated values: `descending=True, stable=True` is the least tested corner of namespaces.
        return self.xp.argsort(-x, axis=-1, stable=True)

    def jaccard_steps(self, errors: Array, foreground: Array) -> Array:
        """Of errors (rows, P) sorted from large to small, equal ones in their order: the step at each pixel, in its place.

        With G foreground pixels in all, I the number of them still to come and U = G + the number of background pixels so
        far, the Jaccard loss after k pixels is 1 - I/U. Its steps are 1/U at a foreground pixel and I/(U(U-1)) at a
        background pixel: written so, nothing cancels, where differences of neighbouring quotients lose every digit of
        float32 in a million pixels.
        """
        order = self.argsort_descending(errors)
        hits = self.in_order(foreground, order)
        xp, pixels = self.xp, int(hits.shape[-1])
        # Narrow counts halve the memory that a million pixels pass through.
        number = xp.int32 if pixels < 2**30 else xp.int64
        found = xp.cumulative_sum(xp.astype(hits, number), axis=-1, dtype=number)
        place = xp.arange(1, pixels + 1, dtype=number, device=self.device(hits))[None, :]

        def step(hits: Array, found: Array, place: Array, whole: Array) -> Array:
            union = xp.astype(whole + place - found, errors.dtype)
            at_background = xp.astype(whole - found, errors.dtype) / xp.maximum(union - 1, xp.ones_like(union))
            # Without foreground the Jaccard loss jumps to 1 at the first pixel.
            jump = hits | (xp.equal(whole, 0) & xp.equal(place, 1))
            return (xp.astype(jump, errors.dtype) + self.keep_where(~jump, at_background)) / union

        return self.unsort(self.elementwise(step, hits, found, place, found[..., -1:]), order)

    def in_order(self, x: Array, order: Array) -> Array:
        """The last axis in the order of a sort: y[k] = x[order[k]]."""
        return self.xp.take_along_axis(x, order, axis=-1)

    def unsort(self, x: Array, order: Array) -> Array:
        """Undoes a sort of the last axis: y[order[k]] = x[k]."""
        return self.xp.take_along_axis(x, self.xp.argsort(order, axis=-1, stable=True), axis=-1)

    def kth_largest(self, x: Array, k: int | Array) -> Array:
        """The k-th largest value (k from 1) of the last axis, which stays with length 1; k may differ from row to row."""
        xp = self.xp
        ascending = xp.sort(x, axis=-1)
        if isinstance(k, int):
            place = x.shape[-1] - k
            return ascending[..., place : place + 1]
        place = xp.broadcast_to(xp.astype(x.shape[-1] - k, xp.int64), (*x.shape[:-1], 1))
        return xp.take_along_axis(ascending, place, axis=-1)

    def uniform(self, shape: tuple[int, ...], like: Array) -> Array:
        """Uniform random numbers of [0, 1) from the framework's own generator, on the device of `like`."""
        raise TypeError(f"the {self.name} backend has no random generator: pass noise= with the logits' shape")

    # ------------------------------------------------------------------------------------------------ error messages
    def describe(self, x: Array) -> str:
        """An array in an error message."""
        return f"a {type(x).__module__.split('.')[0]}.{type(x).__name__}"


def balanced_step(pixels: int, limit: int) -> int:
    """The chunk length not above `limit` that divides the pixels most evenly."""
    return max(1, math.ceil(pixels / max(1, math.ceil(pixels / max(1, limit)))))
