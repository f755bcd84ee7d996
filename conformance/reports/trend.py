"""How many runs fared, one after the other: a table and a chart."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unilossseg.conformance.reports.model import StoredRun, worst
from unilossseg.conformance.verdict import CONFORM

SCHEMA = 1
# Of Okabe and Ito's palette, told apart with any colour vision; here by markers as well.
_LOOKS = (("#0072B2", "o"), ("#E69F00", "s"), ("#009E73", "^"), ("#D55E00", "D"), ("#CC79A7", "v"), ("#56B4E9", "P"))
_RED = "#D55E00"


@dataclass(frozen=True)
class Point:
    """A run, or one backend's part of it."""

    conforming: int
    bad: int
    ratio: float | None
    warned: int = 0


def points(run: StoredRun) -> dict[str, Point]:
    """The whole run, named '', and each of its backends."""
    by_name = {"": run.results, **{name: [r for r in run.results if r.backend == name] for name in run.backends}}
    return {
        name: Point(
            sum(r.status == CONFORM for r in results),
            sum(r.is_bad for r in results),
            worst(results),
            sum(bool(r.warning) and r.status == CONFORM for r in results),
        )
        for name, results in by_name.items()
    }


def backends_of(runs: Sequence[StoredRun]) -> list[str]:
    """All backends of some runs."""
    return list(dict.fromkeys(name for run in runs for name in run.backends))


def to_json(runs: Sequence[StoredRun], names: Sequence[str]) -> str:
    """The runs in the order given, each with its whole and its backends."""
    content = {"schema": SCHEMA, "runs": [_run(run, name) for run, name in zip(runs, names, strict=True)]}
    # In ASCII, which any terminal and any pipe takes as it is.
    return json.dumps(content, indent=1, allow_nan=False)


def _run(run: StoredRun, name: str) -> dict[str, Any]:
    found = points(run)
    return {
        "file": name,
        "started": run.header.started.isoformat(),
        "unilossseg": run.header.version,
        "seconds": run.header.seconds,
        "conforms": run.conforms,
        **_point(found.pop("")),
        "backends": {backend: _point(point) for backend, point in found.items()},
    }


def _point(point: Point) -> dict[str, Any]:
    # JSON has no infinity: it is written as a word, as in a record.
    ratio = point.ratio if point.ratio is None or math.isfinite(point.ratio) else "inf"
    return {"conform": point.conforming, "fail": point.bad, "warned": point.warned, "worst": ratio}


def chart(runs: Sequence[StoredRun]) -> str:
    """An SVG on white: conforming results of each backend above, its worst error below."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # A fixed salt and no date: the same runs give the same file. Names are drawn as they are, not read as formulas.
    settings: dict[Any, Any] = {"svg.hashsalt": "unilossseg", "font.family": "DejaVu Sans", "font.size": 10}
    with rc_context({**settings, "text.parse_math": False}):
        figure = Figure(figsize=(7.2, 5.4), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        above, below = figure.subplots(2, 1, sharex=True)
        found = [points(run) for run in runs]
        for number, name in enumerate(backends_of(runs)):
            color, marker = _LOOKS[number % len(_LOOKS)]
            # The first lie widest: of lines that lie on each other all remain visible.
            width = max(1.2, 4 - 0.9 * number)
            look = {"color": color, "marker": marker, "markersize": 3 + width, "linewidth": width}
            mine = [one.get(name) for one in found]
            counts = [math.nan if point is None else point.conforming for point in mine]
            # A name that begins with an underscore would be left out of the legend: a space of no width precedes it.
            above.plot(range(len(runs)), counts, label=f"\u200b{name}", **look)
            below.plot(range(len(runs)), [math.nan if point is None else _drawn(point.ratio) for point in mine], **look)
        _finish(above, below, runs, [one[""].bad for one in found])
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _drawn(ratio: float | None) -> float:
    """A logarithm has no place for 0 or infinity."""
    return math.nan if ratio is None or not 0 < ratio < math.inf else ratio


def _finish(above: Any, below: Any, runs: Sequence[StoredRun], bad: Sequence[int]) -> None:
    above.set_title("Conformance over runs", fontsize=11)
    above.set_ylabel("results that conform")
    above.set_ylim(bottom=0)
    for place, count in enumerate(bad):
        if count:
            above.annotate(f"✗ {count}", (place, 0), xytext=(0, 3), textcoords="offset points", ha="center", color=_RED)
    if backends_of(runs):
        above.legend(frameon=False, fontsize=9)
    below.set_ylabel("worst error\n(share of what is allowed)")
    below.set_yscale("log")
    below.yaxis.set_major_formatter(lambda x, _: f"{x:g}")
    below.yaxis.set_minor_formatter(lambda x, _: "")
    below.axhline(1, color=_RED, linewidth=0.9, linestyle=":")
    labels = [f"{run.header.started:%Y-%m-%d}\n{run.header.version}" for run in runs]
    below.set_xticks(range(len(runs)), labels, fontsize=8)
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#DDDDDD", linewidth=0.6)
        axes.set_axisbelow(True)
