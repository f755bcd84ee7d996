"""What a framework must supply, and what it may.

A backend is a namespace of the Array API standard (2024.12) and a handful of operations that the standard lacks. Each of
them but `uniform` has a fallback here, written in the standard, so that `Backend("toy", toy_namespace)` is a complete
backend: every loss computes on it, DualTaskLoss if it is given its noise. A subclass overrides what its framework does
better, and says what it can do beyond values:

========================  =======================================================================================
`differentiable`          it has an autograd: without this, `value_and_grad` is never asked
`assignable`              arrays can be assigned to in place: the closed forms run in this namespace
`traced`                  an array only stands for values: a compiler looks on
`readable`                values of an array can be read without stalling a device: labels out of range raise
`layout`                  how an array lies that losses cannot take: sparse, nested, distributed
`wants_gradient`          an array does: labels and pixel weights then get one, by the formula
`stop_gradient`           detaches an array from autograd
`custom_gradient`         hangs a value and its gradient, computed together, into autograd: without one of its own, a
                          backend that is differentiable follows the formula where it could use the closed form
`full_precision`          switches off automatic casts that would change dtypes: a call is checked and computed in it
`value_and_grad`          value and gradient of a function by the framework's autograd
`kernel`                  the backend in whose namespace closed forms of an array are computed (NumPy for CPU tensors)
`to_kernel, from_kernel`  the way there and back, without a copy
`exact_numbers`           a Python number beside an array keeps its digits
`one_pass`                it has loops or kernels that are all of a loss's work: `FusedOperations`
`chunks ... run`          into which pieces work is cut, and who does them; `threads`, `computing`: with how many
`device ... constant`     what a framework asks or converts faster: `are_together`, `is_dtype`, `reshape`, `nan_if`
`pick ... uniform`        operations that the standard lacks or that the framework has a better primitive for
========================  =======================================================================================
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import array_api_compat

from unilossseg.backends._computation import Computation
from unilossseg.backends._fused import FusedOperations, holds

Array = Any
Chunk = tuple[slice, slice]

# Off the CPU a chunk only bounds the size of temporaries: large enough to fill an accelerator.
LARGE_CHUNK = 1 << 26
MOST_CONSTANTS = 256
#: Rows of a strip: more than a neighbourhood reaches.
LEAST_STRIP = 16
_NOTHING = nullcontext()


class Backend(FusedOperations):
    """An Array API namespace and the operations beyond it, each with a fallback in the standard."""

    assignable: bool = False
    differentiable: bool = False
    #: Whether the closed forms' operations (`FusedOperations`) are loops of one pass: then to count first costs little.
    one_pass: bool = False
    #: Whether a Python number beside an array keeps its digits, whatever the array's dtype and in a trace too.
    exact_numbers: bool = False

    def __init__(self, name: str, namespace: Any) -> None:
        self.name = name
        self.xp = namespace
        self._constants: dict[Any, Array] = {}
        self._most_constants = MOST_CONSTANTS

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

    def are_together(self, x: Array, y: Array) -> bool:
        """Whether two arrays are on one device; one that only stands for values may have none, and is where the other is."""
        here, there = self.device(x), self.device(y)
        return here is None or there is None or bool(here == there)

    def layout(self, x: Array) -> str:
        """How `x` lies in memory, if losses cannot take it like that; empty: they can."""
        return ""

    def traced(self, x: Array) -> bool:
        """Whether `x` only stands for values, in a compiler's trace or under a transform: they can never be read."""
        return False

    def readable(self, x: Array) -> bool:
        """Whether reading a value of `x` neither stalls a device nor breaks a trace."""
        return False

    def read(self, x: Array) -> Any:
        """An array of one value as a Python number; waits for the device."""
        return x.item() if hasattr(x, "item") else float(x)

    def numbers(self, x: Array, count: int) -> list[Any]:
        """The first entries of a row to calculate with in float64: Python's numbers where values are at hand, else arrays of
        one entry, or what a backend has in their place.
        """
        if self.readable(x):
            return [float(self.read(x[k])) for k in range(count)]
        found = self.cast(x[:count], self.xp.float64)
        return [found[k] for k in range(count)]

    def settled(self, x: Any) -> Array:
        """The value of a closed form as an array, where it was calculated from `numbers`."""
        return x

    def is_dtype(self, x: Array, kind: str | tuple[str, ...]) -> bool:
        """Whether the array's dtype is of a kind, in the standard's words ('integral', 'real floating', ...)."""
        return bool(self.xp.isdtype(x.dtype, kind))

    def constant(self, values: tuple[float, ...], like: Array) -> Array:
        """Numbers as an array of the dtype and on the device of `like`; kept, so that a device gets them only once.

        That is in the first call, before a CUDA graph is captured. The graph reads them ever after: a device's stay.
        """
        key = (values, like.dtype, self.device(like))
        # Looked up once: another thread may clear them in between.
        found = self._constants.get(key)
        if found is None:
            if len(self._constants) >= self._most_constants:
                self._constants = {key: kept for key, kept in list(self._constants.items()) if not self.readable(kept)}
                # Not at each new one from then on, where none could be dropped.
                self._most_constants = max(MOST_CONSTANTS, 2 * len(self._constants))
            found = self.xp.asarray(list(values), dtype=like.dtype, device=self.device(like))
            self._constants[key] = found
        return found

    def cast(self, x: Array, dtype: Any) -> Array:
        """The array in a dtype, itself if it is of that."""
        return self.xp.astype(x, dtype, copy=False)

    def work_dtype(self, x: Array) -> Any:
        """The dtype that a loss computes in: float64 for float64, else float32."""
        return self.xp.float64 if x.dtype == self.xp.float64 else self.xp.float32

    def upcast(self, x: Array) -> Array:
        """The array in its working dtype."""
        dtype = self.work_dtype(x)
        return x if x.dtype == dtype else self.cast(x, dtype)

    def nan_if(self, condition: Array) -> Array:
        """NaN where a condition holds, else 1, in float32."""
        one = self.xp.ones_like(condition, dtype=self.xp.float32)
        return self.xp.where(condition, one * self.xp.nan, one)

    def reciprocal(self, x: Any) -> Any:
        """1 / x of an array or a number."""
        return 1 / x

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The array in another shape."""
        return self.xp.reshape(x, shape)

    # ------------------------------------------------------------------------------------------------ gradients
    def stop_gradient(self, x: Array) -> Array:
        """The same values, detached from autograd."""
        return x

    def wants_gradient(self, x: Array) -> bool:
        """Whether the framework's autograd follows it."""
        return False

    def custom_gradient(self, call: Computation, x: Array) -> Array:
        """The value, with the gradient that the closed form returns hung into autograd.

        How that is done only a framework's adapter knows. Here an autograd follows the formula: a closed form writes into
        its own arrays, through which none can.
        """
        return call.plain(x) if self.differentiable else call.fused(x, False, None)[0]

    def value_and_grad(self, function: Callable[[Array], Array], x: Array, upstream: Array | None) -> tuple[Array, Array]:
        """Value of `function(x)` and the gradient of `sum(value * upstream)` with respect to `x`, by autograd."""
        raise TypeError(
            f"the {self.name} backend has no autograd: expected a loss with a closed-form gradient, "
            "or an array of a framework that differentiates"
        )

    def full_precision(self) -> AbstractContextManager[None]:
        """A context in which the framework's automatic mixed precision leaves the dtypes of a formula alone."""
        return _NOTHING

    # ------------------------------------------------------------------------------------------------ closed forms
    def kernel(self, x: Array) -> Backend | None:
        """The backend whose namespace computes closed forms for `x`; None: use the plain formula."""
        return self if self.assignable else None

    def to_kernel(self, x: Array, packed: bool = False) -> Array:
        """The array as one of the kernel's backend, without a copy where the dtype allows.

        A dtype that the kernel lacks is widened, or with `packed` stays as it is: only `cast` and `unpacked` make numbers
        of it then.
        """
        return x

    def unpacked(self, x: Array) -> Array:
        """The array, or where it is packed its numbers."""
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

    def class_chunks(self, x: Array) -> Sequence[Chunk]:
        """`chunks` of x (N, C, S) for operations on a pixel and its class, which a backend may share out among its threads:
        `cross_entropy`, `softmax_totals`, `through_softmax_by_class`.
        """
        return self.chunks(*(int(length) for length in x.shape))

    def class_groups(self, channels: int, pixels: int) -> Sequence[slice]:
        """Slices of the channels that are sorted by one task."""
        return [slice(c, c + 1) for c in range(channels)]

    def planes(self, images: int, channels: int, height: int, width: int) -> Sequence[Chunk]:
        """Slices of images and channels that cover (images, channels), each worked on by one task."""
        return [(slice(0, images), slice(0, channels))]

    def strips(self, height: int, width: int) -> Sequence[slice]:
        """Slices of the rows of a plane, which a task takes one after the other: of `LEAST_STRIP` at least, but the last."""
        return [slice(0, height)]

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

    def computing(self, threads: int | None) -> AbstractContextManager[None]:
        """The context of a closed form: `run` uses no more threads than that, and overflows and the like are no news."""
        return _NOTHING

    def exp_(self, x: Array) -> Array:
        """exp(x); may overwrite x, which must be a temporary."""
        return self.xp.exp(x)

    def subtract_at(self, x: Array, index: Array, amount: Array) -> Array:
        """x with `amount` (N, S) subtracted at class `index` (N, S) of axis 1 of x (N, C, S); may overwrite x."""
        return x - self.xp.where(self.one_hot(index, x.shape[1]), amount[:, None, :], self.xp.zeros_like(x))

    # ------------------------------------------------------------------------------------------------ beyond the standard
    def checked_labels(
        self, labels: Array, ignore_index: int | None, limit: int, dense: bool
    ) -> tuple[Array, Array, Array, Array] | None:
        """Labels that nobody may read, with 0 for those that are neither ignored nor in [0, limit - 1]: see `Checked`.

        `dense` ones, numbers for every element, are never looked up with and may stay as they are. None: the backend has no
        pass of its own for it.
        """
        return None

    def pick(self, x: Array, index: Array) -> Array:
        """The values x[n, index[n, s], s] of x (N, C, S) for an index (N, S)."""
        return self.xp.squeeze(self.xp.take_along_axis(x, index[:, None, :], axis=1), axis=1)

    def look_up(self, table: Array, index: Array) -> Array:
        """table[n, index[n, s]] of a table (N, C) for an index (N, S)."""
        return self.xp.take_along_axis(table, index, axis=1)

    def class_values(self, table: Array, index: Array) -> Array:
        """table[index] of a table (C,) for an index (N, S)."""
        xp = self.xp
        return xp.reshape(xp.take(table, xp.reshape(index, (-1,)), axis=0), tuple(map(int, index.shape)))

    def buffer_like(self, x: Array, dtype: Any = None) -> Array:
        """An array of the shape and device of x, and of its dtype or another: for a gradient, say. It has no values yet."""
        return self.xp.empty_like(x, dtype=dtype)

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
        whole = self.is_dtype(labels, "integral")
        # Up to 256 even bfloat16 has all numbers.
        if (whole or abs(number) > 256) and not holds((xp.iinfo if whole else xp.finfo)(labels.dtype), number, whole):
            return xp.ones_like(labels, dtype=xp.bool)
        return xp.not_equal(labels, number if whole else float(number))

    def split_labels(self, labels: Array, ignore_index: int) -> tuple[Array, Array]:
        """The class of integer labels in `index_dtype`, 0 where ignored; and a mask, False where ignored."""
        valid = self.differs(labels, ignore_index)
        return self.keep_where(valid, self.xp.astype(labels, self.index_dtype, copy=False)), valid

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

    def top_k_mask(self, x: Array, k: int | Array) -> Array:
        """Where the k largest of the last axis are; of equal values the first come first. NaN counts as chosen."""
        xp = self.xp
        least = self.kth_largest(x, k)
        above = x > least
        wanted = k - self.count(above, axis=-1, keepdims=True)
        return above | self.first_true(xp.equal(x, least), wanted) | xp.isnan(x)

    def uniform(self, shape: tuple[int, ...], like: Array) -> Array:
        """Uniform random numbers of [0, 1) from the framework's own generator, on the device of `like`."""
        raise TypeError(f"the {self.name} backend has no random generator: pass noise= with the logits' shape")

    # ------------------------------------------------------------------------------------------------ error messages
    def describe(self, x: Array) -> str:
        """An array in an error message."""
        return f"a {type(x).__module__.split('.')[0]}.{type(x).__name__}"


@functools.cache
def is_dtype_kept(xp: Any, dtype: Any, kind: str | tuple[str, ...]) -> bool:
    """`Backend.is_dtype`, asked once for each dtype, for backends whose namespace takes long to answer."""
    return bool(xp.isdtype(dtype, kind))
