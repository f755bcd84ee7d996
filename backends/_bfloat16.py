"""bfloat16, which NumPy lacks: its bits in an array, and the way to float32 and back."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any

#: The dtype of an array of bfloat16 numbers: a field of its own, so that it is not taken for an array of integers.
BFLOAT16 = np.dtype([("bfloat16", np.uint16)])


def bits_of(x: Array) -> Array:
    """A BFLOAT16 array as whole numbers, which loops take and NumPy copies faster; any other as it is, and None."""
    return x["bfloat16"] if x is not None and x.dtype == BFLOAT16 else x


def widened(x: Array) -> Array:
    """The numbers of a BFLOAT16 array as float32: the same bits, and 16 zeros."""
    wide = x["bfloat16"].astype(np.uint32)
    wide <<= np.uint32(16)
    return wide.view(np.float32)


def rounded(x: Array) -> Array:
    """Numbers as a BFLOAT16 array, rounded to nearest, ties to even; NaN stays NaN."""
    x = np.asarray(x, dtype=np.float32)
    bits = x.view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    near = ((bits + (odd + np.uint32(0x7FFF))) >> np.uint32(16)).astype(np.uint16)
    near[np.isnan(x)] = 0x7FC0
    return near.view(BFLOAT16)
