"""Large arrays in memory that was used before: a fresh one costs a page fault for each of its pages.

A gradient of 40 MB costs 3 to 5 ms of them, half of what computing it costs. From the moment that the last array on it is
gone until the next call takes it, at most two and a half times as much is kept as the largest array, or `LEAST_KEPT`: two
losses that wait for one backward pass, of a network's two heads or a MixedLoss, have a gradient each, and temporaries.
`release_memory` gives it back.
"""

from __future__ import annotations

import contextlib
import math
import mmap
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

    Without a lock: memory comes back wherever an array dies, in the collector too, that is also in the midst of this class's
    own work; and an interruption between taking a lock and noting it would leave it taken for good. Each step is one
    operation of a dict, which no other thread sees halfway.
    """

    def __init__(self, limit: int = LEAST_KEPT) -> None:
        # By where it begins, which takes NumPy longer to say than all else here; what came last stands last.
        self._kept: dict[int, Array] = {}
        self._least = self._limit = limit

    @property
    def kept(self) -> int:
        """Bytes."""
        return sum(raw.nbytes for raw in list(self._kept.values()))

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
        # the next call makes up for it. Not `max`, which could put back the limit of before a `release`.
        if 5 * size // 2 > self._limit:
            self._limit = 5 * size // 2
        return found

    def _find(self, size: int) -> tuple[Array, int] | None:
        for address in reversed(list(self._kept)):
            raw = self._kept.get(address)
            if raw is not None and size <= raw.nbytes < 2 * size:
                taken = self._kept.pop(address, None)
                if taken is raw:
                    return taken, address
                # Another thread has had it, and the same place came back as another size.
                if taken is not None:
                    self._kept[address] = taken
        return None

    def put(self, raw: Array, address: int) -> None:
        """Keeps memory, and lets go of what has waited longest: after a change of sizes nobody asks for the old ones."""
        self._kept[address] = raw
        for oldest in list(self._kept):
            if self.kept <= self._limit:
                return
            self._kept.pop(oldest, None)

    def release(self) -> None:
        """Lets go of everything, and forgets how much was needed at a time."""
        # First: what comes back meanwhile is measured by it.
        self._limit = self._least
        for address in list(self._kept):
            self._kept.pop(address, None)


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

    #: None in one that an interruption has left half made.
    shelf: Shelf | None = None

    def __init__(self, shelf: Shelf, raw: Array, address: int, shape: tuple[int, ...], kind: str) -> None:
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": kind, "data": (address, False)}
        self.raw, self.address = raw, address
        self.shelf = shelf

    def __del__(self) -> None:
        if self.shelf is not None:
            self.shelf.put(self.raw, self.address)


SHELF = Shelf()


def release_memory() -> None:
    """Gives back the memory that losses of CPU arrays keep for their next calls, after one large call say.

    Calls may run in other threads meanwhile. Of what they and the arrays in use have, no more than 32 MB is kept when it
    comes back, until a later call needs more again.

    Examples
    --------
    >>> import numpy as np
    >>> import unilossseg
    >>> from unilossseg.backends import release_memory
    >>> logits, labels = np.zeros((1, 8, 512, 512), np.float32), np.zeros((1, 512, 512), np.int64)
    >>> value, gradient = unilossseg.value_and_grad(unilossseg.CrossEntropyLoss())(logits, labels)
    >>> del gradient  # whose memory would wait for the next one
    >>> release_memory()
    """
    SHELF.release()
