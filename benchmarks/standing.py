"""How each loss stands against its targets: what tables and the chart show, computed from a run's results."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median

from benchmarks.marks import UNKNOWN
from benchmarks.names import FLOOR, FLOORS, OURS, REFERENCE
from benchmarks.plan import AT_SMALL_SIZE, LARGE, SMALL, TINY
from benchmarks.results import Results, Timing
from benchmarks.rows import ROWS, TARGET, Shape
from benchmarks.stats import Spread, ratios, spread, taken
from benchmarks.targets import FIRST_CALL, LINEAR, TARGETS, at_least, at_most
from benchmarks.targets import FLOOR as FLOOR_TARGET
from benchmarks.targets import SMALL as SMALL_TARGET


@dataclass(frozen=True)
class Speed:
    """Ours against one peer in the same rounds: above 1, ours is faster."""

    ours: Spread
    peer: str
    theirs: Spread
    ratio: Spread
    #: The size whose numbers these are; None: the one that was asked for.
    extrapolated: Shape | None = None


@dataclass(frozen=True)
class Verdict:
    """A number against its target."""

    what: str
    value: float | None
    target: float | None
    met: bool | None


@dataclass(frozen=True)
class First:
    """A first call: its seconds, and how many times those of a later one."""

    seconds: float
    ratio: float


@dataclass
class Standing:
    """A loss on one backend at the target's configuration."""

    backend: str
    row: str
    ours: Spread | None = None
    speed: Speed | None = None
    memory: float | None = None
    #: The peer's memory, of the same peer that the speed is against.
    peer_memory: float | None = None
    first_call: First | None = None
    peer_first_call: First | None = None
    verdicts: list[Verdict] = field(default_factory=list)

    @property
    def short(self) -> list[Verdict]:
        """What falls short."""
        return [verdict for verdict in self.verdicts if verdict.met is False]


def speed(timing: Timing, only: str | None = None) -> Speed | None:
    """Against the fastest peer, or against one; None where there is none."""
    peers = [name for name in timing.times if name not in (OURS, *FLOORS) and only in (None, name)]
    if not peers or not taken(timing.times.get(OURS, [])):
        return None
    best = min(peers, key=lambda name: median(taken(timing.times[name])))
    ours, theirs = timing.times[OURS], timing.times[best]
    return Speed(spread(taken(ours)), best, spread(taken(theirs)), spread(ratios(theirs, ours)))


def standing(results: Results, backend: str, row: str) -> Standing | None:
    """At the target's configuration; None where it was not measured."""
    timing = results.timing(backend, row, TARGET)
    if timing is None or not taken(timing.times.get(OURS, [])):
        return None
    found = Standing(backend, row, spread(taken(timing.times[OURS])))
    found.speed = judged_speed(results, backend, row, timing)
    peer = found.speed.peer if found.speed else None
    for entry in results.memory:
        if (entry.backend, entry.row, entry.shape) == (backend, row, TARGET):
            if entry.contestant == OURS:
                found.memory = entry.multiple
            elif entry.contestant == peer:
                found.peer_memory = entry.multiple
    for call in results.first_calls:
        if (call.backend, call.row, call.shape) == (backend, row, TARGET) and call.first is not None and call.later:
            first = First(call.first, call.first / median(call.later))
            if call.contestant == OURS:
                found.first_call = first
            elif call.contestant == peer:
                found.peer_first_call = first
    found.verdicts = _verdicts(results, found, timing)
    return found


def judged_speed(results: Results, backend: str, row: str, timing: Timing) -> Speed | None:
    """Torch's target is against the fastest peer, Paddle's against the reference; None where ours was not measured."""
    if not taken(timing.times.get(OURS, [])):
        return None
    judged = speed(timing, REFERENCE if backend == "paddle" else None)
    if judged is not None or (backend, row) not in AT_SMALL_SIZE:
        return judged
    small = results.timing(backend, row, TINY)
    measured = speed(small, REFERENCE) if small is not None else None
    if measured is None:
        return None
    # The reference's cost for a pixel at the tiny size, times the pixels: less than it would take.
    more = TARGET.pixels / TINY.pixels
    theirs = _times(measured.theirs, more)
    ours = spread(taken(timing.times[OURS]))
    return Speed(ours, REFERENCE, theirs, _times(theirs, 1 / ours.median), TINY)


def _times(one: Spread, factor: float) -> Spread:
    return Spread(one.median * factor, one.low * factor, one.high * factor, one.count)


def _verdicts(results: Results, found: Standing, timing: Timing) -> list[Verdict]:
    target = TARGETS[found.row]
    ratio = found.speed.ratio.median if found.speed else None
    wanted = target.speed(found.backend)
    first = found.first_call.ratio if found.first_call else None
    verdicts = [
        Verdict("speed", ratio, wanted, at_least(ratio, wanted)),
        Verdict("memory", found.memory, target.memory, at_most(found.memory, target.memory)),
        Verdict("first call", first, FIRST_CALL, at_most(first, FIRST_CALL)),
    ]
    if found.row == "CrossEntropyLoss":
        over = over_floor(timing, FLOOR)
        value = over.median if over else None
        verdicts.append(Verdict("floor", value, FLOOR_TARGET, at_most(value, FLOOR_TARGET)))
    small = results.timing(found.backend, found.row, SMALL)
    against = speed(small) if small is not None else None
    if against is not None:
        slower = 1 / against.ratio.median
        verdicts.append(Verdict("small", slower, SMALL_TARGET, at_most(slower, SMALL_TARGET)))
    costs = [cost for shape in LARGE if (cost := growth(results, found.backend, found.row, shape)) is not None]
    if costs:
        verdicts.append(Verdict("linear", max(costs), LINEAR, at_most(max(costs), LINEAR)))
    return verdicts


def over_floor(timing: Timing, floor: str) -> Spread | None:
    """Our time over the floor's."""
    if floor not in timing.times or OURS not in timing.times:
        return None
    found = ratios(timing.times[OURS], timing.times[floor])
    return spread(found) if found else None


def growth(results: Results, backend: str, row: str, shape: Shape) -> float | None:
    """Our cost of one element of the logits at a configuration, over that at the target's, both measured without peers."""
    channels = ROWS[row].channels
    here, there = results.by_itself(backend, row, shape), results.by_itself(backend, row, TARGET)
    if here is None or there is None or OURS not in here.times or OURS not in there.times:
        return None
    cost = median(taken(here.times[OURS])) / (shape.pixels * channels(shape))
    return cost / (median(taken(there.times[OURS])) / (TARGET.pixels * channels(TARGET)))


def standings(results: Results, backend: str) -> list[Standing]:
    """Of every row that was measured."""
    found = [standing(results, backend, row) for row in ROWS]
    return [one for one in found if one is not None]


def mark_of(results: Results, backend: str, row: str, contestant: str) -> str:
    """A contestant's mark; of one whose row could not be checked, as where the worker died of it, that it is not known."""
    found = results.check(backend, row, contestant)
    return found.mark if found else UNKNOWN
