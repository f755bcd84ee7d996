"""NumPy: the namespace in which closed forms run for every array in the CPU's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from unilossseg.backends import _threads
from unilossseg.backends._backend import Array, Backend, Chunk, balanced_step


class NumPyBackend(Backend):
    """NumPy arrays: chunks of pixels on a thread pool, vectorised sorts and partitions."""

    assignable = True

    def device(self, x: Array) -> Any:
        """NumPy has one device."""
        return "cpu"

    def readable(self, x: Array) -> bool:
        """Values are at hand."""
        return True

    def chunks(self, images: int, channels: int, pixels: int) -> Sequence[Chunk]:
        """Pieces that fit a core's cache: several small images together, or part of a large one."""
        limit = max(1, _threads.CHUNK_ELEMENTS // channels)
        if pixels >= limit:
            step = balanced_step(pixels, limit)
            return [
                (slice(n, n + 1), slice(a, min(a + step, pixels))) for n in range(images) for a in range(0, pixels, step)
            ]
        step = max(1, limit // pixels)
        return [(slice(n, min(n + step, images)), slice(0, pixels)) for n in range(0, images, step)]

    def run(self, task: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Spreads the items over the thread pool."""
        return _threads.run(task, items)

    def limited_threads(self, count: int | None) -> AbstractContextManager[None]:
        """Of the pool."""
        return _threads.limited(count)

    def exp_(self, x: Array) -> Array:
        """In place."""
        return np.exp(x, out=x)

    def pick(self, x: Array, index: Array) -> Array:
        """One fancy index instead of the broadcast ones of take_along_axis."""
        images = np.arange(x.shape[0])[:, None]
        return x[images, index, np.arange(x.shape[2])[None, :]]

    def subtract_at(self, x: Array, index: Array, amount: Array) -> Array:
        """In place: every (n, s) names its own entry, so that no two writes meet."""
        images = np.arange(x.shape[0])[:, None]
        x[images, index, np.arange(x.shape[2])[None, :]] -= amount
        return x

    def class_sums(self, values: Array, index: Array, classes: int) -> Array:
        """One pass with float64 accumulators."""
        rows = [np.bincount(i, weights=v, minlength=classes) for v, i in zip(values, index, strict=True)]
        return np.stack(rows).astype(np.float64)

    def argsort_descending(self, x: Array) -> Array:
        """float32: one vectorised sort of 64-bit (value, index) pairs, which is stable by construction."""
        if x.dtype != np.float32 or x.shape[-1] >= 1 << 32:
            return np.argsort(-x, axis=-1, kind="stable")
        # -0.0 + 0.0 is 0.0: both zeros get the same bits, as they compare equal.
        bits = (x + np.float32(0)).view(np.uint32)
        # Larger value, smaller key: flip positive numbers, keep negative ones (whose bits already grow downwards).
        sign = np.uint32(1 << 31)
        rising = np.where(bits & sign, bits, ~(bits | sign))
        keys = rising.astype(np.uint64) << np.uint64(32)
        keys |= np.arange(x.shape[-1], dtype=np.uint64)
        keys.sort(axis=-1)
        return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)

    def unsort(self, x: Array, order: Array) -> Array:
        """One scattered write."""
        out = np.empty_like(x)
        np.put_along_axis(out, order, x, axis=-1)
        return out

    def kth_largest(self, x: Array, k: int | Array) -> Array:
        """A partition finds it without a sort."""
        if not isinstance(k, int):
            return super().kth_largest(x, k)
        place = x.shape[-1] - k
        return np.partition(x, place, axis=-1)[..., place : place + 1]

    def uniform(self, shape: tuple[int, ...], like: Array) -> Array:
        """From NumPy's global generator, which `numpy.random.seed` seeds."""
        return np.random.random_sample(shape).astype(np.float64 if like.dtype == np.float64 else np.float32)


BACKEND = NumPyBackend("numpy", xp)
