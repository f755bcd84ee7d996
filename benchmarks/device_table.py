"""The tables of a run on a GPU, which has no targets: calls from an idle device, and the device's own work."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.marks import SYMBOLS
from benchmarks.names import FLOOR, OURS
from benchmarks.results import Results, Timing
from benchmarks.rows import ROWS, Shape
from benchmarks.standing import Speed, mark_of, speed
from benchmarks.stats import spread, taken
from benchmarks.table import DASH, TITLES, gaps, grid, milliseconds, number, peers, setting, times

_HEAD = (
    "loss",
    "ours, ms",
    "peer, ms",
    "times as fast",
    "device: ours, ms",
    "device: peer, ms",
    "device: times as fast",
    "memory × logits; the peer's",
)


def markdown(results: Results) -> str:
    """All that stands between the page's markers."""
    parts = [setting(results)]
    for backend, found in results.backends.items():
        shapes = list(dict.fromkeys(timing.shape for timing in results.timings if timing.backend == backend))
        for shape in shapes:
            rows = [row for row in ROWS if results.timing(backend, row, shape) is not None]
            parts.append(f"### {TITLES[backend]} on {found.get('accelerator', results.device)}, {shape}")
            parts.append(grid(_HEAD, [_line(results, backend, row, shape) for row in rows]))
            parts.append(_floor(results, backend, shape))
    parts += [_uncaptured(results), peers(results), gaps(results)]
    return "\n\n".join(part for part in parts if part)


def _line(results: Results, backend: str, row: str, shape: Shape) -> list[str]:
    timing, replay = results.timing(backend, row, shape), results.replay(backend, row, shape)
    call = _speeds(results, backend, row, timing)
    device = _speeds(results, backend, row, replay)
    judged = speed(timing) if timing else None
    memory = {
        entry.contestant: entry.multiple
        for entry in results.memory
        if (entry.backend, entry.row, entry.shape) == (backend, row, shape)
    }
    peer = memory.get(judged.peer) if judged else None
    ours = memory.get(OURS)
    return [row, *call, *device, f"{DASH if ours is None else number(ours)}; {DASH if peer is None else number(peer)}"]


def _speeds(results: Results, backend: str, row: str, timing: Timing | None) -> Sequence[str]:
    """Ours, the fastest peer's, and the ratio."""
    if timing is None or not taken(timing.times.get(OURS, [])):
        return DASH, DASH, DASH
    found: Speed | None = speed(timing)
    ours = milliseconds(spread(taken(timing.times[OURS])))
    if found is None:
        return ours, DASH, DASH
    name = found.peer + SYMBOLS[mark_of(results, backend, row, found.peer)]
    return ours, f"{name}: {milliseconds(found.theirs)}", times(found.ratio)


def _floor(results: Results, backend: str, shape: Shape) -> str:
    replay = results.replay(backend, "CrossEntropyLoss", shape)
    if replay is None or FLOOR not in replay.times:
        return ""
    floor = spread(taken(replay.times[FLOOR]))
    return f"To read the logits once, compute exp and write as much takes the device {milliseconds(floor)} ms."


def _uncaptured(results: Results) -> str:
    """Peers without a graph, with each of their reasons once."""
    failed = ((t.backend, t.row, name, why) for t in results.replays for name, why in t.failures.items() if name != OURS)
    lines = [f"- {TITLES[backend]} {row}: {name}: {why}" for backend, row, name, why in dict.fromkeys(failed)]
    if not lines:
        return ""
    return "\n".join(["No graph can be captured of these peers:", "", *lines])
