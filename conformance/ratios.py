"""Errors beside native ones: the same inputs in the same dtype, computed by the framework's own means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unilossseg.conformance.cases import Array
from unilossseg.conformance.protocol import NATIVE, PLAIN_FORMULA, Outcome
from unilossseg.conformance.thresholds import native_factor

Level = Literal["pass", "warning", "fail"]
PASS: Level = "pass"
WARNING: Level = "warning"
FAIL: Level = "fail"
LEVELS = (PASS, WARNING, FAIL)


@dataclass(frozen=True)
class Ratio:
    """The errors of a value or a gradient, as shares of its scale, and how many times the native ones they are."""

    rmse: float
    largest: float
    #: Infinite where the native implementation is exact and the candidate is not; 1 where both are.
    rmse_ratio: float
    largest_ratio: float
    #: How many times the native errors are still no failure.
    factor: float
    #: By how much of the scale they may exceed the native ones at any rate.
    allowance: float
    level: Level

    @property
    def measures(self) -> Iterator[tuple[str, float, float]]:
        """What is measured, its size, and its ratio."""
        yield "RMSE", self.rmse, self.rmse_ratio
        yield "largest error", self.largest, self.largest_ratio

    @property
    def standing(self) -> float:
        """The larger measure as a multiple of the native one and a few eps: above 1 it is conspicuous."""
        limits = [(size, (size / times if times else 0.0) + self.allowance) for _, size, times in self.measures]
        # A record may say that nothing is allowed.
        return max((size / limit if limit else np.inf) if size else 0.0 for size, limit in limits)


def native_of(mode: str, outcomes: Mapping[str, Outcome]) -> tuple[str, Outcome] | None:
    """What a mode is compared with, and its name: the framework's functional, or else its autograd through the formula."""
    functional, formula = outcomes.get(NATIVE), outcomes.get(PLAIN_FORMULA)
    if functional is not None:
        return functional.name, functional
    if formula is None or formula.error or mode == PLAIN_FORMULA:
        return None
    return PLAIN_FORMULA, formula


def ratio(
    dtype: str,
    got: Array,
    native: Array | None,
    wanted: Array,
    *,
    scale: float,
    allowance: float,
    either_way: Array | None = None,
) -> Ratio | None:
    """The errors of what a candidate got beside the native ones.

    Parameters
    ----------
    scale
        Of the errors; 0: there is nothing to be off from.
    allowance
        What an error may exceed the native one by, of the scale.
    either_way
        Entries for which more than one number is right: they are left out.

    Returns
    -------
    None for float64, which an absolute bound alone holds, and where the native result has another form.
    """
    if dtype == "float64" or native is None or native.shape != wanted.shape or not scale:
        return None
    counted = np.isfinite(wanted) & np.isfinite(got)
    if either_way is not None:
        counted = counted & ~either_way
    if not counted.any():
        return None
    mine, theirs = (_errors(x[counted], wanted[counted], scale) for x in (got, native))
    sizes = [(_rmse(mine), _rmse(theirs)), (float(mine.max()), float(theirs.max()))]
    factor = native_factor(dtype, wanted.size)
    level: Level = PASS
    if any(one > factor * other + allowance for one, other in sizes):
        level = FAIL
    elif any(one > other + allowance for one, other in sizes):
        level = WARNING
    return Ratio(sizes[0][0], sizes[1][0], _times(*sizes[0]), _times(*sizes[1]), factor, allowance, level)


def in_words(part: str, found: Ratio, native: str) -> str:
    """What is conspicuous about a ratio."""
    limit = 1.0 if found.level == WARNING else found.factor
    whose = f"the {native}" if native == PLAIN_FORMULA else native
    sizes = [
        f"{what} is {size:.3g} of its scale, {times:.3g} times that of {whose}"
        for what, size, times in found.measures
        if size > limit * (size / times if times else 0.0) + found.allowance
    ]
    return f"{part}'s {' and its '.join(sizes)} (allowed are {found.factor:g} times, and {found.allowance:.2g} of the scale)"


def _errors(got: Array, wanted: Array, scale: float) -> Array:
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(got.astype(np.float64) - wanted) / scale
    # Where the native implementation has a NaN or an infinity it is off by any amount.
    return np.where(np.isfinite(errors), errors, np.inf)


def _rmse(errors: Array) -> float:
    """The root of the mean square; tiny errors' squares must not underflow."""
    largest = float(errors.max())
    return largest * float(np.sqrt(np.mean((errors / largest) ** 2))) if 0 < largest < np.inf else largest


def _times(mine: float, theirs: float) -> float:
    return (mine / theirs if theirs else np.inf) if mine != theirs else 1.0
