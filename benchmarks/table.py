"""The page's tables in Markdown, from a run's results and the targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.marks import ANOTHER, FAILED, SAME, SYMBOLS, UNCHECKED, WRONG
from benchmarks.names import FLOOR, OURS, WARM_FLOOR
from benchmarks.plan import LARGE
from benchmarks.results import Results
from benchmarks.rows import ROWS, TARGET, Shape
from benchmarks.standing import Speed, Standing, growth, mark_of, over_floor, speed, standings
from benchmarks.stats import Spread, spread, taken
from benchmarks.targets import TARGETS, reason
from unilossseg.conformance.results import write_whole

BEGIN = "<!-- results:begin -->"
END = "<!-- results:end -->"
DASH = "–"
TITLES = {"torch": "PyTorch", "paddle": "PaddlePaddle"}


# ------------------------------------------------------------------------------------------------- numbers
def number(value: float) -> str:
    """Three digits, and never an exponent."""
    if value == 0:
        return "0"
    # As many digits after the point as leave three in all, at most three.
    digits = min(3, max(0, 2 - math.floor(math.log10(abs(value)))))
    return f"{value:.{digits}f}"


def times(found: Spread) -> str:
    """A median with its quartiles."""
    return f"{number(found.median)} [{number(found.low)}–{number(found.high)}]"


def milliseconds(found: Spread) -> str:
    """Median and quartiles, in milliseconds."""
    return times(Spread(1000 * found.median, 1000 * found.low, 1000 * found.high, found.count))


def grid(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *lines)]
    return "\n".join(rows)


def said(text: str) -> str:
    """What a library said, in one line that neither ends a cell nor is HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


# ------------------------------------------------------------------------------------------------- sections
def markdown(results: Results) -> str:
    """All that stands between the page's markers."""
    parts = [setting(results)]
    for backend in results.backends:
        found = standings(results, backend)
        if found:
            parts += [f"### {TITLES[backend]}, {TARGET}, float32", _targets(results, found), _shortfalls(found)]
            parts += [_floors(results, backend), _matrix(results, backend), _linear(results, backend)]
    parts += [peers(results), gaps(results)]
    return "\n\n".join(part for part in parts if part)


def setting(results: Results) -> str:
    """What was measured with what."""
    machine = results.machine
    lines = [
        f"Measured {results.created[:10]} in {results.seconds / 60:.0f} minutes by `{results.command}` on: "
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}; "
        f"device {results.device}; load of the machine before the run {machine['load_before']}."
    ]
    for backend, found in results.backends.items():
        versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
        threads = found["threads"]
        on = f" Accelerator: {found['accelerator']}." if "accelerator" in found else ""
        lines.append(
            f"- {TITLES[backend]}: {versions}. Threads: {threads['framework']} (the framework's own setting), "
            f"{threads['kernels']} for our kernels.{on}"
        )
    return "\n".join([lines[0], "", *lines[1:]])


def _judged(value: float | None, target: float | None, sign: str, met: bool | None) -> str:
    if value is None:
        return DASH if target is None else f"? ({sign}{target:g})"
    if target is None:
        return number(value)
    return f"{number(value)} ({sign}{target:g}) {'✓' if met else '**short**'}"


def _targets(results: Results, found: Sequence[Standing]) -> str:
    head = ["loss", "ours, ms", "peer", "peer, ms", "times as fast (target)", "memory × logits (target)", "peer's"]
    head += ["first call, ms", "÷ later (target ≤2)", "peer's first call, ms (÷ later)"]
    return grid(head, [_target_line(results, one) for one in found])


def _target_line(results: Results, one: Standing) -> list[str]:
    assert one.ours is not None
    target = TARGETS[one.row]
    met = {verdict.what: verdict for verdict in one.verdicts}
    ratio = one.speed.ratio if one.speed else None
    judged = met["speed"]
    speeds = _judged(judged.value, judged.target, "≥", judged.met)
    if ratio is not None:
        speeds = speeds.replace(number(ratio.median), times(ratio), 1)
    first, peer_first = one.first_call, one.peer_first_call
    return [
        one.row,
        milliseconds(one.ours),
        _peer_name(results, one.backend, one.row, one.speed),
        milliseconds(one.speed.theirs) if one.speed else DASH,
        speeds,
        _judged(one.memory, target.memory, "≤", met["memory"].met),
        DASH if one.peer_memory is None else number(one.peer_memory),
        DASH if first is None else number(1000 * first.seconds),
        _judged(met["first call"].value, met["first call"].target, "≤", met["first call"].met),
        DASH if peer_first is None else f"{number(1000 * peer_first.seconds)} ({number(peer_first.ratio)})",
    ]


def _peer_name(results: Results, backend: str, row: str, found: Speed | None) -> str:
    if found is None:
        return DASH
    name = found.peer + SYMBOLS[mark_of(results, backend, row, found.peer)]
    return name if found.extrapolated is None else f"{name}, at {found.extrapolated} × pixels"


def _shortfalls(found: Sequence[Standing]) -> str:
    lines = [
        f"- {one.row}, {verdict.what} ({number(verdict.value or 0.0)} instead of {verdict.target:g}): "
        f"{reason(one.row, one.backend, verdict.what)}."
        for one in found
        for verdict in one.short
    ]
    if not lines:
        return "Every target that is set and was measured is met."
    return "\n".join(["What falls short, and why:", "", *lines])


def _floors(results: Results, backend: str) -> str:
    timing = results.timing(backend, "CrossEntropyLoss", TARGET)
    if timing is None or FLOOR not in timing.times:
        return ""
    fresh, warm = over_floor(timing, FLOOR), over_floor(timing, WARM_FLOOR)
    floor = milliseconds(spread(taken(timing.times[FLOOR])))
    text = f"Cross entropy takes {times(fresh)} times the floor of {floor} ms (target ≤3)" if fresh else ""
    if warm is not None:
        text += f"; {times(warm)} times the floor that writes into a buffer which is already there"
    return text + "."


def _matrix(results: Results, backend: str) -> str:
    """Ours in milliseconds and the ratio to the fastest peer, for each configuration."""
    shapes = _shapes(results, backend)
    if len(shapes) < 2:
        return ""
    lines = []
    for row in ROWS:
        cells = [_cell(results, backend, row, shape) for shape in shapes]
        if any(cell != DASH for cell in cells):
            lines.append([row, *cells])
    title = "Milliseconds, and how many times as fast as the fastest peer of any kind:"
    return f"{title}\n\n{grid(['loss', *map(str, shapes)], lines)}"


def _shapes(results: Results, backend: str) -> list[Shape]:
    return list(dict.fromkeys(t.shape for t in (*results.timings, *results.alone) if t.backend == backend))


def _cell(results: Results, backend: str, row: str, shape: Shape) -> str:
    timing = results.timing(backend, row, shape) or results.by_itself(backend, row, shape)
    if timing is None or not taken(timing.times.get(OURS, [])):
        return DASH
    found = speed(timing)
    ours = number(1000 * spread(taken(timing.times[OURS])).median)
    if found is None:
        return ours
    return f"{ours} ({number(found.ratio.median)}×{SYMBOLS[mark_of(results, backend, row, found.peer)]})"


def _linear(results: Results, backend: str) -> str:
    shapes = [shape for shape in LARGE if any(t.shape == shape for t in (*results.timings, *results.alone))]
    if not shapes:
        return ""
    lines = []
    for row in ROWS:
        found = [growth(results, backend, row, shape) for shape in shapes]
        if any(value is not None for value in found):
            lines.append([row, *(DASH if value is None else number(value) for value in found)])
    title = f"Our cost of one element of the logits, over that at {TARGET} (1 is linear; target ≤1.5):"
    return f"{title}\n\n{grid(['loss', *map(str, shapes)], lines)}"


_LEGEND = {
    SAME: "the same numbers",
    ANOTHER: "the numbers of another definition, as it means to",
    WRONG: "not the numbers of the definition that it means",
    UNCHECKED: "another definition, which is not checked",
    FAILED: "cannot be run",
}


def peers(results: Results) -> str:
    """Every peer with its mark."""
    lines = [
        [
            TITLES[c.backend],
            c.row,
            c.contestant + SYMBOLS[c.mark],
            c.mark,
            said("; ".join(filter(None, (c.reason, c.note)))) or DASH,
        ]
        for c in results.checks
        if c.contestant != OURS
    ]
    own = [c for c in results.checks if c.contestant == OURS]
    wrong = [c for c in own if c.mark != SAME]
    measured = {(c.backend, c.row) for c in results.checks} | {(t.backend, t.row) for t in results.timings}
    unchecked = measured - {(c.backend, c.row) for c in own}
    head = [
        "### The peers' numbers",
        ", ".join(f"{SYMBOLS[m].strip() or 'no sign'}: {text}" for m, text in _LEGEND.items()) + ".",
    ]
    ours = "Our own numbers were checked in the same way: " + (
        "all agree."
        if not wrong
        else "**differ** for " + ", ".join(f"{c.backend} {c.row} ({c.reason})" for c in wrong) + "."
    )
    if unchecked:
        ours += " **Not** those of " + ", ".join(f"{backend} {row}" for backend, row in sorted(unchecked)) + "."
    table = grid(["framework", "loss", "peer", "numbers", "why, and what was done to run it"], lines)
    return "\n\n".join([*head, ours, table]) if results.checks else ""


def gaps(results: Results) -> str:
    """What was not measured."""
    if not results.gaps:
        return ""
    return "\n".join(["### What was not measured", "", *(f"- {said(gap)}" for gap in results.gaps)])


# ------------------------------------------------------------------------------------------------- the page
def replaced(page: str, content: str) -> str:
    """The page with what stands between its markers exchanged."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page must hold the lines {BEGIN} and {END}, in this order")
    return f"{before}{begin}\n{content}\n{end}{after}"


def update(page: Path, content: str) -> None:
    """Exchanges it in a file."""
    write_whole(page, replaced(page.read_text(encoding="utf-8"), content))
