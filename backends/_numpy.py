"""NumPy arrays: the namespace in which closed forms run for every array in the CPU's memory."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from unilossseg.backends import _threads
from unilossseg.backends._backend import LEAST_STRIP, Array, Backend, Chunk, is_dtype_kept
from unilossseg.backends._bfloat16 import BFLOAT16, bits_of, rounded, widened
from unilossseg.backends._buffers import SHELF

# Entries of a small piece, for work with a dozen temporaries. More of them stay in a core's cache the smaller it is, and
# threads wait more for each other. With two threads, of 2^15, 2^16, 2^17 and 2^18: L1 44, 33, 24, 23 ms; binary cross
# entropy 7.4, 6.8, 5.8, 5.7.
SMALL = 1 << 17
# Entries of one piece of an elementwise function, which one thread computes: between its short operations two threads would
# wait for each other longer than they work.
PIECE = 1 << 16
# A logit far below the largest is meant to overflow to -inf or to vanish in exp, and infinite logits to become NaN: whatever
# the caller has set NumPy to say of that, is not said of losses.
_quiet = functools.partial(np.errstate, all="ignore")

_SAME_SIZE = {
    np.dtype(np.float32): np.int32,
    np.dtype(np.float64): np.int64,
    np.dtype(np.int32): np.int32,
    np.dtype(np.int64): np.int64,
}


class NumPyBackend(Backend):
    """NumPy arrays: chunks of pixels on a thread pool, vectorised sorts and partitions."""

    assignable = True
    one_pass = True
    exact_numbers = True

    @property
    def index_dtype(self) -> Any:
        """Half as wide as elsewhere."""
        return np.int32

    def is_dtype(self, x: Array, kind: str | tuple[str, ...]) -> bool:
        """Asked once for each dtype: NumPy takes as long for it as for a small sum. longdouble is of no kind."""
        return x.dtype.type is not np.longdouble and is_dtype_kept(self.xp, x.dtype, kind)

    def layout(self, x: Array) -> str:
        """A mask would be lost on the way."""
        return "masked" if type(x) is not np.ndarray and isinstance(x, np.ma.MaskedArray) else ""

    def device(self, x: Array) -> Any:
        """NumPy has one device."""
        return "cpu"

    def work_dtype(self, x: Array) -> Any:
        """By the type, which knows no order of bytes, and takes a tenth of the time that comparing dtypes does."""
        return np.float64 if x.dtype.type is np.float64 else np.float32

    def numbers(self, x: Array, count: int) -> list[Any]:
        """Of a tuple too."""
        return [float(number) for number in x[:count]]

    def cast(self, x: Array, dtype: Any) -> Array:
        """Also from and to the bits of bfloat16."""
        if isinstance(x, np.generic):
            # Its own method goes by way of an array.
            return np.dtype(dtype).type(x)
        if dtype == BFLOAT16:
            return x if x.dtype == BFLOAT16 else rounded(x)
        return super().cast(widened(x) if x.dtype == BFLOAT16 else x, dtype)

    def unpacked(self, x: Array) -> Array:
        """bfloat16 as float32."""
        return self.cast(x, np.float32) if x.dtype == BFLOAT16 else x

    def readable(self, x: Array) -> bool:
        """Values are at hand."""
        return True

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """NumPy's function asks what kind of array it has, and then calls the method."""
        return x.reshape(shape)

    def chunks(self, images: int, channels: int, pixels: int, *, small: bool = False) -> Sequence[Chunk]:
        """Pieces that fit a core's cache: several small images together, or part of a large one."""
        limit = min(_threads.CHUNK_ELEMENTS, SMALL if small else _threads.CHUNK_ELEMENTS) // channels
        return self.pieces(images, pixels, limit)

    def in_rows(self, x: Array) -> Array:
        """The copy costs a tenth of what reading them as they lie does, pixels far from each other in every pass."""
        if are_in_rows(x):
            return x
        out = self.buffer_like(x)
        seen, room = bits_of(x), bits_of(out)

        def task(chunk: Chunk) -> None:
            images, span = chunk
            room[images, :, span] = seen[images, :, span]

        self.run(task, self.chunks(*x.shape))
        return out

    def as_pixels(self, x: Array) -> Array:
        """A copy in one piece, which a framework's autograd would make otherwise, in several times the time."""
        _, channels, count = x.shape
        out = SHELF.empty((count, channels), x.dtype)
        seen, room = bits_of(x)[0].T, bits_of(out)

        def task(chunk: Chunk) -> None:
            room[chunk[1]] = seen[chunk[1]]

        self.run(task, self.chunks(1, channels, count))
        return out

    def pieces(self, images: int, pixels: int, limit: int) -> Sequence[Chunk]:
        """Chunks of at most `limit` pixels, and of 1 at least."""
        limit = max(1, limit)
        if pixels >= limit:
            step = _balanced_step(pixels, limit)
            return [
                (slice(n, n + 1), slice(a, min(a + step, pixels))) for n in range(images) for a in range(0, pixels, step)
            ]
        step = max(1, limit // pixels)
        return [(slice(n, min(n + step, images)), slice(0, pixels)) for n in range(0, images, step)]

    def planes(self, images: int, channels: int, height: int, width: int) -> Sequence[Chunk]:
        """One by one, or several small ones of an image."""
        step = _balanced_step(channels, max(1, _threads.CHUNK_ELEMENTS // (height * width)))
        return [
            (slice(n, n + 1), slice(c, min(c + step, channels))) for n in range(images) for c in range(0, channels, step)
        ]

    def strips(self, height: int, width: int) -> Sequence[slice]:
        """As many rows as fit a core's cache."""
        step = max(LEAST_STRIP, _threads.CHUNK_ELEMENTS // width)
        return [slice(a, min(a + step, height)) for a in range(0, height, step)]

    def run(self, task: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Spreads the items over the thread pool."""
        # What NumPy warns of is set for each thread.
        return _threads.run(task, items, _quiet)

    def planewise(self, function: Callable[[Array], Array], x: Array) -> Array:
        """Plane by plane, spread over the thread pool."""
        first, *others = self.planes(*x.shape)
        found = function(x[first])
        out = np.empty(x.shape, found.dtype)
        out[first] = found

        def put(group: Chunk) -> None:
            out[group] = function(x[group])

        self.run(put, others)
        return out

    def computing(self, threads: int | None) -> AbstractContextManager[None]:
        """Of the pool."""
        return _threads.Limited(threads, _quiet())

    def elementwise(self, function: Callable[..., Any], *arrays: Array) -> Any:
        """On pieces that fit a core's cache, one after the other."""
        # Asking NumPy for their common shape takes longer than most work on so few.
        if max([x.size for x in arrays]) <= min(_threads.CHUNK_ELEMENTS, PIECE):
            return function(*arrays)
        shape = np.broadcast_shapes(*(x.shape for x in arrays))
        rows, length = math.prod(shape[:-1]), shape[-1] if shape else 1
        step = max(1, min(_threads.CHUNK_ELEMENTS, PIECE) // max(1, rows))
        if length <= step:
            return function(*arrays)

        def piece(start: int) -> Any:
            return function(*(x if x.shape[-1] == 1 else x[..., start : start + step] for x in arrays))

        # The first piece tells which arrays come out.
        first = piece(0)
        several = isinstance(first, tuple)
        outs = [SHELF.empty((*x.shape[:-1], length), x.dtype) for x in (first if several else (first,))]

        def put(start: int, results: Any) -> None:
            for out, result in zip(outs, results if several else (results,), strict=True):
                out[..., start : start + step] = result

        put(0, first)
        for start in range(step, length, step):
            put(start, piece(start))
        return tuple(outs) if several else outs[0]

    def exp_(self, x: Array) -> Array:
        """In place."""
        return np.exp(x, out=x)

    def pick(self, x: Array, index: Array) -> Array:
        """From contiguous memory."""
        return np.ascontiguousarray(x).reshape(-1).take(_places(index, x.shape[1]))

    def look_up(self, table: Array, index: Array) -> Array:
        """Row by row: an index for each axis takes ten times as long."""
        return np.stack([row.take(places) for row, places in zip(table, index, strict=True)])

    def subtract_at(self, x: Array, index: Array, amount: Array) -> Array:
        """In place: every (n, s) names its own entry, so that no two writes meet."""
        x = np.ascontiguousarray(x)
        x.reshape(-1)[_places(index, x.shape[1])] -= amount
        return x

    def tally(self, labels: Array, ignore_index: int | None, most: float) -> Array:
        """Piece by piece, spread over the thread pool."""
        count, flat = super().tally, labels.reshape(-1)

        def part(start: int) -> Array:
            return count(self.unpacked(flat[start : start + SMALL]), ignore_index, most)

        return sum(self.run(part, range(0, flat.size, SMALL)))

    def split_labels(self, labels: Array, ignore_index: int) -> tuple[Array, Array]:
        """Piece by piece."""
        split = super().split_labels
        return self.elementwise(lambda labels: split(labels, ignore_index), labels)  # type: ignore[no-any-return]

    def buffer_like(self, x: Array, dtype: Any = None) -> Array:
        """In memory that an earlier gradient had, if one is free."""
        return SHELF.empty(x.shape, x.dtype if dtype is None else dtype)

    def keep_where(self, mask: Array, x: Array, other: float = 0) -> Array:
        """By the bits: `where` guesses each entry of a mask, and a random one costs it ten times as much."""
        kind = _SAME_SIZE.get(x.dtype)
        if kind is None:
            return super().keep_where(mask, x, other)
        # All bits of -1 are set, none of 0 are.
        kept = np.asarray(mask).astype(kind)
        np.negative(kept, out=kept)
        bits = x.view(kind) & kept
        if other != 0:
            np.invert(kept, out=kept)
            kept &= np.asarray(other, x.dtype).view(kind)
            bits |= kept
        return bits.view(x.dtype)

    def count(self, mask: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        """Without a wider copy."""
        if axis is None and not keepdims:
            return np.asarray(np.count_nonzero(mask), np.int64)
        return np.sum(mask, axis=axis, dtype=np.int64, keepdims=keepdims)

    def first_true(self, mask: Array, k: int | Array) -> Array:
        """Few are: their places are looked up row by row."""
        first = np.zeros(mask.shape, np.bool_)
        rows, marks = mask.reshape(-1, mask.shape[-1]), first.reshape(-1, mask.shape[-1])
        counts = np.ravel(k).tolist()
        counts = counts * len(rows) if len(counts) == 1 else np.broadcast_to(k, (*mask.shape[:-1], 1)).ravel().tolist()
        for row, marked, count in zip(rows, marks, counts, strict=True):
            marked[row.nonzero()[0][: max(0, count)]] = True
        return first

    def class_sums(self, values: Array, index: Array, classes: int) -> Array:
        """One pass with float64 accumulators."""
        rows = [np.bincount(i, weights=v, minlength=classes) for v, i in zip(values, index, strict=True)]
        return np.stack(rows).astype(np.float64)

    def argsort_descending(self, x: Array) -> Array:
        """float32: one vectorised sort of 64-bit (value, index) pairs, which is stable by construction."""
        if x.dtype != np.float32 or x.shape[-1] >= 1 << 32:
            return np.argsort(-x, axis=-1, kind="stable")
        keys = self.elementwise(_descending_keys, x, np.arange(x.shape[-1], dtype=np.uint32))
        keys.sort(axis=-1)
        keys &= np.uint64(0xFFFFFFFF)
        return keys.view(np.int64)

    def in_order(self, x: Array, order: Array) -> Array:
        """Row by row."""
        out = np.empty_like(x)
        for row in np.ndindex(x.shape[:-1]):
            np.take(x[row], order[row], out=out[row], mode="clip")
        return out

    def unsort(self, x: Array, order: Array) -> Array:
        """One scattered write a row."""
        out = np.empty_like(x)
        for row in np.ndindex(x.shape[:-1]):
            out[row][order[row]] = x[row]
        return out

    def kth_largest(self, x: Array, k: int | Array) -> Array:
        """A partition finds it without a sort."""
        if not isinstance(k, int):
            return super().kth_largest(x, k)
        place = x.shape[-1] - k
        # A copy: a view would keep the whole partition.
        return np.partition(x, place, axis=-1)[..., place : place + 1].copy()

    def uniform(self, shape: tuple[int, ...], like: Array) -> Array:
        """From NumPy's global generator, which `numpy.random.seed` seeds."""
        return np.random.random_sample(shape).astype(self.work_dtype(like))


def _places(index: Array, classes: int) -> Array:
    """Of x[n, index[n, s], s] in contiguous memory: one look-up takes a third of the time of an index for each axis."""
    images, count = index.shape
    places = np.multiply(index, count, dtype=np.int64)
    places += np.arange(count)
    if images > 1:
        places += np.arange(0, images * classes * count, classes * count)[:, None]
    return places


def _descending_keys(x: Array, place: Array) -> Array:
    """uint64 that ascend as float32 descends, equal ones by their place."""
    # -0.0 + 0.0 is 0.0: both zeros get the same bits, as they compare equal.
    bits = (x + np.float32(0)).view(np.int32)
    # Larger value, smaller key: positive numbers with all bits but the sign turned, negative ones (whose bits already grow
    # downwards) as they are.
    rising = bits >> 31
    np.invert(rising, out=rising)
    rising &= 0x7FFFFFFF
    rising ^= bits
    keys = rising.view(np.uint32).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= place
    return keys


def are_in_rows(x: Array) -> bool:
    """The entries of the last axis lie side by side, and aligned, as numbers: bfloat16's own dtype may begin anywhere."""
    return bool(bits_of(x).flags.aligned and (x.strides[-1] == x.itemsize or x.shape[-1] == 1))


def _balanced_step(pixels: int, limit: int) -> int:
    """The chunk length not above `limit` that divides the pixels most evenly."""
    return max(1, math.ceil(pixels / max(1, math.ceil(pixels / max(1, limit)))))
