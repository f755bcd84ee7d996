"""Large arrays in memory that was used before: a fresh one costs a page fault for each of its pages.

A gradient of 40 MB costs 3 to 5 ms of them, half of what computing it costs. From the moment that the last array on it is
gone until the next call takes it, at most two and a half times as much is kept as the largest array, or `LEAST_KEPT`: two
losses that wait for one backward pass, of a network's two heads or a MixedLoss, have a gradient each, and temporaries.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import os
import threading
from typing import Any

import numpy as np

Array = Any

#: From here on the system is asked for large pages. NumPy asks for arrays of twice that, which begin in the midst of one.
LARGE_PAGE = 1 << 21
#: Below it the allocator keeps memory by itself.
LEAST_BYTES = 1 << 16
#: The temporaries of a loss of one channel together, which are larger than its gradient.
LEAST_KEPT = 32 << 20


class Shelf:
    """Memory that nobody uses.

    No one waits for its lock: memory comes back wherever an array dies, in the collector too, that is also in the midst of
    this class's own work. Where the lock is taken, memory is let go, or allocated afresh.
    """

    def __init__(self, limit: int = LEAST_KEPT) -> None:
        self._lock = threading.Lock()
        # With where they begin, which takes NumPy longer to say than all else here.
        self._kept: list[tuple[Array, int]] = []
        self._limit = limit

    @property
    def kept(self) -> int:
        """Bytes."""
        return sum(raw.nbytes for raw, _ in self._kept)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """As numpy.empty."""
        dtype = np.dtype(dtype)
        size = math.prod(shape) * dtype.itemsize
        if size < LEAST_BYTES:
            return np.empty(shape, dtype)
        found = np.asarray(_Memory(self, *self._take(size), shape, dtype.str))
        return found if dtype.names is None else found.view(dtype)

    def _take(self, size: int) -> tuple[Array, int]:
        """Memory of at least `size` bytes, and of less than twice as many."""
        found = self._find(size)
        if found is None:
            raw = _fresh(size)
            found = raw, raw.ctypes.data
        # Only now: memory that nobody got is no reason to keep more. Of two threads here one may undo what the other did:
        # the next call makes up for it.
        self._limit = max(self._limit, 5 * size // 2)
        return found

    def _find(self, size: int) -> tuple[Array, int] | None:
        lock = self._lock
        if lock.acquire(blocking=False):
            try:
                for at in range(len(self._kept) - 1, -1, -1):
                    if size <= self._kept[at][0].nbytes < 2 * size:
                        return self._kept.pop(at)
            finally:
                lock.release()
        return None

    def put(self, raw: Array, address: int) -> None:
        """Keeps memory, and lets go of what has waited longest: after a change of sizes nobody asks for the old ones."""
        lock = self._lock
        if lock.acquire(blocking=False):
            try:
                self._kept.append((raw, address))
                while self.kept > self._limit:
                    self._kept.pop(0)
            finally:
                lock.release()

    def renew_lock(self) -> None:
        """In the child of a fork: a thread that held the lock is not there to release it."""
        self._lock = threading.Lock()


def _fresh(size: int) -> Array:
    """Where there are large pages, memory that begins with one: a fault for each of them, not for each of 512 small ones."""
    if size < LARGE_PAGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return np.empty(size, np.uint8)
    try:
        raw = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        # Where NumPy finds no memory either, it raises MemoryError.
        return np.empty(size, np.uint8)
    # A kernel may be built without large pages.
    with contextlib.suppress(OSError):
        raw.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(raw, np.uint8)


class _Memory:
    """Goes back to the shelf when the last array on it is gone."""

    def __init__(self, shelf: Shelf, raw: Array, address: int, shape: tuple[int, ...], kind: str) -> None:
        self.shelf, self.raw, self.address = shelf, raw, address
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": kind, "data": (address, False)}

    def __del__(self) -> None:
        self.shelf.put(self.raw, self.address)


SHELF = Shelf()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=SHELF.renew_lock)
