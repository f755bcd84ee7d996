"""Rounds in which every contestant is called once, so that a noisy moment of the machine hits all alike."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping

#: Everyone is called at least so often, however slow.
LEAST_ROUNDS = 3


def interleave(
    steps: Mapping[str, Callable[[], float]], *, anchor: str, rounds: int, seconds: float
) -> dict[str, list[float | None]]:
    """Seconds of each contestant in each round; None where it sat a round out.

    A step does one call and returns its seconds. The order rotates from round to round. After `LEAST_ROUNDS` rounds a
    contestant sits out once it has used `seconds` in all; the anchor, which ratios are formed with, takes part as long as
    anyone does.
    """
    if anchor not in steps:
        raise ValueError(f"anchor must be one of {sorted(steps)} (got {anchor!r})")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1 (got {rounds})")
    names = list(steps)
    times: dict[str, list[float | None]] = {name: [] for name in names}
    used = dict.fromkeys(names, 0.0)
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        for turn in range(rounds):
            playing = {name for name in names if turn < LEAST_ROUNDS or used[name] < seconds}
            if not playing:
                break
            playing.add(anchor)
            start = turn % len(names)
            for name in names[start:] + names[:start]:
                if name not in playing:
                    times[name].append(None)
                    continue
                spent = steps[name]()
                used[name] += spent
                times[name].append(spent)
            # Cycles of one round are no other round's cost; collected between rounds, outside every measurement.
            gc.collect()
    finally:
        if enabled:
            gc.enable()
    return times
