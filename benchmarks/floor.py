"""The machine's own floor: logits read once, exp, a gradient written once, with as many threads as a loss uses.

Two floors: one writes into a buffer that is already there, the other into a fresh one, as a gradient must be; the
difference is what the system takes for new pages.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.names import FLOOR, WARM_FLOOR

#: Elements a piece; small enough for a core's cache.
PIECE = 1 << 18


class Floor:
    """Reads logits, writes exp of them."""

    def __init__(self, logits: npt.NDArray[Any], threads: int) -> None:
        self._flat = logits.reshape(-1)
        self._warm = np.zeros_like(self._flat)
        self._pool = ThreadPoolExecutor(threads)
        self._threads = threads

    def steps(self) -> dict[str, Callable[[], None]]:
        """Both floors by name."""
        return {FLOOR: lambda: self._write(np.empty_like(self._flat)), WARM_FLOOR: lambda: self._write(self._warm)}

    def _write(self, out: npt.NDArray[Any]) -> None:
        starts = range(0, self._flat.size, PIECE)

        def piece(start: int) -> None:
            np.exp(self._flat[start : start + PIECE], out=out[start : start + PIECE])

        if self._threads == 1 or len(starts) == 1:
            for start in starts:
                piece(start)
        else:
            list(self._pool.map(piece, starts))
