"""array-api-strict: nothing but the standard, the proof that the formulas are written in it."""

from __future__ import annotations

import array_api_strict as xp

from unilossseg.backends._backend import Array, Backend


class StrictBackend(Backend):
    """A namespace alone; its arrays can be assigned to and read."""

    assignable = True

    def readable(self, x: Array) -> bool:
        """Values are at hand."""
        return True

    def read(self, x: Array) -> float:
        """The standard has no item()."""
        return float(xp.astype(x, xp.float64))


BACKEND = StrictBackend("strict", xp)
