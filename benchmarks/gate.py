"""The regression gate: our speed relative to a peer's in the same rounds, against committed numbers.

It counts the processor's seconds with one thread on both sides: on a busy machine threads wait for each other, and the
waiting depends on who else runs. So it sees work that a loss does, and not threads that it fails to use. What noise is left
is met twice: a loss fails only where even the upper end of the interval of its median ratio is below the limit, and only
after it was measured again. The price is that a small regression passes: the margin says how small.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.frameworks import BACKENDS
from benchmarks.machine import machine
from benchmarks.names import FLOORS, OURS, WARM_FLOOR
from benchmarks.results import ResultsError
from benchmarks.rows import ROWS
from benchmarks.stats import median_interval, ratios, taken
from unilossseg.conformance.results import write_whole

LIMITS = Path(__file__).with_name("limits.json")
#: A loss fails below this share of its committed speed.
MARGIN = 0.7
#: How often a loss is measured before it fails.
ATTEMPTS = 3
ROUNDS = 21
#: The least that an interval of 95 % can be had from.
LEAST_ROUNDS = 6
SECONDS = 0.6
#: A peer that takes longer is no yardstick: two minutes are for all losses.
SLOWEST_PEER = 0.4


@dataclass(frozen=True)
class Limit:
    """A committed speed: the peer's time over ours."""

    backend: str
    row: str
    peer: str
    speed: float
    #: Where it was measured: on another one a peer, and the floor even more, may be faster or slower than ours is.
    processor: str = ""


@dataclass(frozen=True)
class Outcome:
    """What the gate saw of one loss."""

    limit: Limit
    #: Interval of the median ratio of the last attempt; None: it could not be measured.
    interval: tuple[float, float] | None
    attempts: int
    failure: str = ""

    @property
    def passed(self) -> bool:
        """Whether the loss may be as fast as it was."""
        return self.interval is not None and holds(self.limit, self.interval)


Measure = Callable[[Limit], Mapping[str, Any]]


def holds(limit: Limit, interval: tuple[float, float]) -> bool:
    """Whether the interval leaves it open that the speed is what was committed, less the margin."""
    return interval[1] >= MARGIN * limit.speed


def from_elsewhere(limits: Sequence[Limit]) -> str:
    """What to know of limits that another processor than this one has; '' where none has."""
    here = machine()["processor"]
    others = sorted({limit.processor for limit in limits} - {here})
    if not others:
        return ""
    return (
        f"These limits were measured on {', '.join(others)}, and this is {here}: a loss may be slower than its peer by more "
        "here with nothing changed. To know, commit the speeds of the code before the change on this machine first: "
        "`python -m benchmarks check --write`."
    )


def judge(limit: Limit, measure: Measure) -> Outcome:
    """Measures until it holds, at most `ATTEMPTS` times.

    `measure` returns the worker's answer: {'times': ..., 'failures': ...} or {'error': ...}.
    """
    interval, failure = None, ""
    for attempt in range(1, ATTEMPTS + 1):
        answer = measure(limit)
        failure = _failure(limit, answer)
        if failure:
            return Outcome(limit, None, attempt, failure)
        interval = median_interval(ratios(answer["times"][limit.peer], answer["times"][OURS]))
        if holds(limit, interval):
            break
    return Outcome(limit, interval, attempt)


def _failure(limit: Limit, answer: Mapping[str, Any]) -> str:
    if "error" in answer:
        return str(answer["error"])
    for name in (OURS, limit.peer):
        if name not in answer["times"]:
            return f"{name}: {answer['failures'].get(name, 'was not measured')}"
    return ""


def chosen(backend: str, row: str, times: Mapping[str, list[float | None]]) -> Limit:
    """A limit from a measurement: against the fastest peer that is not slow, else against the floor."""
    peers = {name: median(taken(found)) for name, found in times.items() if name not in (OURS, *FLOORS)}
    quick = {name: spent for name, spent in peers.items() if spent <= SLOWEST_PEER}
    peer = min(quick, key=lambda name: quick[name]) if quick else WARM_FLOOR
    return Limit(backend, row, peer, median(ratios(times[peer], times[OURS])))


def agreed(backend: str, row: str, peer: str, measurements: Sequence[Mapping[str, list[float | None]]]) -> Limit:
    """The middle limit of several measurements against a peer."""
    speeds = [median(ratios(times[peer], times[OURS])) for times in measurements if peer in times]
    return Limit(backend, row, peer, median(speeds))


def write(limits: list[Limit], path: Path = LIMITS) -> None:
    """Commits limits: those of other backends and losses stay."""
    here = machine()["processor"]
    kept = {(limit.backend, limit.row): limit for limit in committed(path)}
    kept.update({(limit.backend, limit.row): replace(limit, processor=here) for limit in limits})
    found: dict[str, dict[str, Any]] = {}
    for (backend, row), limit in sorted(kept.items(), key=lambda item: (item[0][0], list(ROWS).index(item[0][1]))):
        speed = float(f"{limit.speed:.3g}")
        found.setdefault(backend, {})[row] = {"peer": limit.peer, "speed": speed, "processor": limit.processor}
    write_whole(path, json.dumps(found, indent=1) + "\n")


def committed(path: Path = LIMITS) -> list[Limit]:
    """The committed limits, none where there is no file."""
    return read(path) if path.exists() else []


def read(path: Path = LIMITS) -> list[Limit]:
    """The committed limits; raises where there is no file that holds them."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        limits = [
            Limit(backend, row, str(entry["peer"]), float(entry["speed"]), str(entry["processor"]))
            for backend, rows in found.items()
            for row, entry in rows.items()
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ResultsError(
            f"{path} does not hold limits ({type(error).__name__}: {error}): expected "
            '{backend: {loss: {"peer": name, "speed": number, "processor": name}}}; '
            "take the file away, and `python -m benchmarks check --write` makes a new one"
        ) from None
    for limit in limits:
        for name, known in ((limit.backend, BACKENDS), (limit.row, ROWS)):
            if name not in known:
                raise ResultsError(f"{path} has limits for {name!r}, which is not measured: take it out")
        if not 0 < limit.speed < math.inf:
            where = f"{path}, {limit.backend} {limit.row}"
            raise ResultsError(
                f"{where}: speed must be a number above 0 (got {limit.speed}): `check --write` measures it again"
            )
    return limits
