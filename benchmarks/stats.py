"""Medians, their spread, and ratios of measurements that were taken in the same rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

Times = Sequence[float | None]


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float
    count: int


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the values lies, interpolated."""
    if not values:
        raise ValueError("a quantile needs at least one value (got none)")
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    return Spread(median(values), quantile(values, 0.25), quantile(values, 0.75), len(values))


def taken(times: Times) -> list[float]:
    """The rounds that a contestant took part in."""
    return [time for time in times if time is not None]


def ratios(peer: Times, ours: Times) -> list[float]:
    """Peer's time over ours, of every round that both took part in: a slow moment of the machine hits both."""
    return [a / b for a, b in zip(peer, ours, strict=False) if a is not None and b is not None and b > 0]


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """An interval that holds the true median with at least this probability, whatever the distribution.

    It lies between two order statistics: how many of n draws fall below the true median is binomial(n, 1/2). Where n is
    too small for the confidence, it is the range of the values.
    """
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        raise ValueError("an interval of the median needs at least one value (got none)")
    tail, rank = 0.0, 0
    while rank < n // 2:
        tail += math.comb(n, rank) / 2**n
        if 2 * tail > 1 - confidence:
            break
        rank += 1
    # `rank` values may be left out on either side.
    lowest = max(rank - 1, 0)
    return ordered[lowest], ordered[n - 1 - lowest]
