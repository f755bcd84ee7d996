"""How far two arrays are apart, in the measures that people know from elsewhere: rtol, atol, units in the last place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.cases import Array, bfloat16_bits, rounded


def required(got: Array, wanted: Array) -> tuple[float, float]:
    """The rtol that `numpy.allclose` would need without an atol, and the atol without an rtol.

    Entries that are not finite need nothing: whether they stand where they should is an exact check.
    """
    finite = np.isfinite(got) & np.isfinite(wanted)
    wanted = np.where(finite, wanted, 0.0)
    apart = np.abs(np.where(finite, got, 0.0).astype(np.float64) - wanted)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        relative = np.where(apart == 0, 0.0, apart / np.abs(wanted))
    return float(relative.max(initial=0.0)), float(apart.max(initial=0.0))


def most_ulps(got: Array, wanted: Array, dtype: str) -> int:
    """The most representable numbers of a dtype between an entry and the float64 reference's, rounded to that dtype."""
    with np.errstate(over="ignore", under="ignore"):
        nearest = rounded(wanted, dtype)
    finite = np.isfinite(got) & np.isfinite(nearest)
    first, second = (_stored(np.where(finite, x, 0), dtype) for x in (got, nearest))
    return int(steps_between(first, second).max(initial=0))


def _stored(x: Array, dtype: str) -> Array:
    """In the dtype; bfloat16 as its bits."""
    return bfloat16_bits(x.astype(np.float32)) if dtype == "bfloat16" else x.astype(dtype)


def steps_between(first: Array, second: Array) -> npt.NDArray[np.uint64]:
    """The representable numbers between the entries of two arrays as they are stored, in one dimension.

    Their bits, read as integers, count them.
    """
    # Flat, since NumPy warns of the wrapping of single numbers and not of arrays.
    one, other = (_ordered(stored.ravel()) for stored in (first, second))
    # Unsigned: the distance of two float64 of different signs can exceed int64, never uint64.
    apart = np.maximum(one, other).astype(np.uint64) - np.minimum(one, other).astype(np.uint64)
    return np.asarray(apart)


def _ordered(stored: Array) -> npt.NDArray[np.int64]:
    """Integers in the order of the numbers, neighbours one apart, both zeros at 0."""
    width = stored.dtype.itemsize * 8
    bits = np.ascontiguousarray(stored).view(f"u{width // 8}").astype(np.uint64)
    sign = np.uint64(1 << (width - 1))
    size = (bits & (sign - np.uint64(1))).astype(np.int64)
    return np.where(bits & sign != 0, -size, size)
