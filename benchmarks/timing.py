"""Rounds in which every contestant is called once, so that a noisy moment of the machine hits all alike."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

#: Everyone is called at least so often, however slow, unless more is asked for.
LEAST_ROUNDS = 3
#: Seconds between two contestants: threads that still spin after the work of the one before go to sleep.
REST = 0.005


def by_clock(
    step: Callable[[], Any], before: Callable[[], Any], clock: Callable[[], float] = time.perf_counter
) -> Callable[[], float]:
    """A step that returns its seconds; what comes before it is not timed."""

    def timed() -> float:
        before()
        start = clock()
        step()
        return clock() - start

    return timed


def by_events(step: Callable[[], Any], cuda: Any) -> Callable[[], float]:
    """A step that returns the seconds it took on a GPU; `cuda` is a framework's module with its events."""

    def timed() -> float:
        start, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
        cuda.synchronize()
        start.record()
        step()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1000

    return timed


def interleave(
    steps: Mapping[str, Callable[[], float]],
    *,
    anchor: str,
    rounds: int,
    seconds: float,
    least: int = LEAST_ROUNDS,
    rest: float = REST,
) -> dict[str, list[float | None]]:
    """Seconds of each contestant in each round; None where it sat a round out.

    A step does one call and returns its seconds. Each round draws its order, the same in every run: who comes after whom
    changes times, by the memory and the caches that the one before leaves. After `least` rounds a contestant sits out once
    it has used `seconds` in all; the anchor, which ratios are formed with, takes part as long as anyone does.
    """
    if anchor not in steps:
        raise ValueError(f"anchor must be one of {sorted(steps)} (got {anchor!r})")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1 (got {rounds})")
    names = list(steps)
    times: dict[str, list[float | None]] = {name: [] for name in names}
    used, draw = dict.fromkeys(names, 0.0), random.Random(0)
    enabled = gc.isenabled()
    gc.collect()
    # What is there now stays: a collection between rounds looks at the rounds' own objects only.
    gc.freeze()
    gc.disable()
    try:
        for turn in range(rounds):
            playing = {name for name in names if turn < least or used[name] < seconds}
            if not playing:
                break
            playing.add(anchor)
            for name in draw.sample(names, len(names)):
                if name not in playing:
                    times[name].append(None)
                    continue
                time.sleep(rest)
                spent = steps[name]()
                used[name] += spent
                times[name].append(spent)
            # Cycles of one round are no other round's cost; collected between rounds, outside every measurement.
            gc.collect()
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
    return times
