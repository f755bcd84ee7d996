"""Where the errors of an array lie: kept for results that differ, so that a report shows them without running anything."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unilossseg.conformance.cases import Array, Case

#: Errors as shares of their bounds are counted in bins: exactly 0, then up to each of these, then beyond or not finite.
EDGES = (1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1e3, 1e6)
#: No more rows and columns than this, around the worst entry: a few hundred numbers for each result that differs.
MOST_ACROSS = 12


@dataclass(frozen=True)
class ErrorMap:
    """The errors of a value or a gradient as shares of what is allowed, where it is worst and around it."""

    index: tuple[int, ...]
    got: float
    expected: float
    #: How many entries fall into each bin, see `EDGES`.
    counts: tuple[int, ...]
    #: The axes of the rows and of the columns; -1: the array has no such axis.
    axes: tuple[int, int]
    #: The index of the first row and the first column along these axes.
    start: tuple[int, int]
    shares: tuple[tuple[float, ...], ...]


def error_map(case: Case, got: Array, wanted: Array, bounds: Array, forbidden: Array | None = None) -> ErrorMap:
    """The map of an array of the reference's shape; `forbidden` marks entries that are wrong whatever their size."""
    shares = _shares(got, wanted, bounds)
    if forbidden is not None:
        shares = np.where(forbidden, np.inf, shares)
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(shares)), shares.shape)) if shares.ndim else ()
    axes = _axes(case, shares.ndim)
    plane, start = _around(shares, index, axes)
    return ErrorMap(
        index, float(got[index]), float(wanted[index]), _counts(shares), axes, start, tuple(map(tuple, plane.tolist()))
    )


def _shares(got: Array, wanted: Array, bounds: Array) -> Array:
    """Errors as shares of their bounds: infinite where only one of the two is NaN, or an infinity."""
    got, tiny = got.astype(np.float64), np.finfo(np.float64).tiny
    with np.errstate(invalid="ignore", over="ignore"):
        shares = np.abs(got - wanted) / np.maximum(np.where(np.isfinite(bounds), bounds, 0.0), tiny)
    alike = (got == wanted) | (np.isnan(got) & np.isnan(wanted))
    return np.asarray(np.where(alike, 0.0, np.where(np.isfinite(got) & np.isfinite(wanted), shares, np.inf)))


def _counts(shares: Array) -> tuple[int, ...]:
    bins = np.searchsorted(EDGES, shares.ravel(), side="left") + 1
    bins = np.where(shares.ravel() == 0, 0, bins)
    return tuple(int(count) for count in np.bincount(bins, minlength=len(EDGES) + 2))


def _axes(case: Case, ndim: int) -> tuple[int, int]:
    """The last two spatial axes; of an array without them, the last two axes that it has."""
    logits = case.arrays["logits"].ndim
    if case.parameters.get("data_format") == "NHWC" and ndim == logits:
        return ndim - 3, ndim - 2
    if ndim == logits == 3:
        return -1, 2  # one spatial axis: a single row, not the classes below each other
    return ndim - 2 if ndim > 1 else -1, ndim - 1 if ndim else -1


def _around(shares: Array, index: tuple[int, ...], axes: tuple[int, int]) -> tuple[Array, tuple[int, int]]:
    """The rows and columns around an entry."""
    spans = []
    for axis in axes:
        if axis < 0:
            spans.append(slice(0, 1))
            continue
        first = min(max(0, index[axis] - MOST_ACROSS // 2), max(0, shares.shape[axis] - MOST_ACROSS))
        spans.append(slice(first, min(first + MOST_ACROSS, shares.shape[axis])))
    places = tuple(spans[axes.index(axis)] if axis in axes else index[axis] for axis in range(shares.ndim))
    rows = spans[0].stop - spans[0].start
    columns = spans[1].stop - spans[1].start
    return shares[places].reshape(rows, columns), (spans[0].start, spans[1].start)
