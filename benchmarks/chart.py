"""The page's chart: how many times as fast as the judged peer, with each target."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from benchmarks.results import Results
from benchmarks.standing import Standing, standings
from benchmarks.table import TITLES, number
from benchmarks.targets import TARGETS
from unilossseg.conformance.results import write_whole

_OURS, _SHORT, _TARGET = "#2a6f97", "#c1666b", "#222222"


def draw(results: Results, path: Path) -> None:
    """Writes an SVG; the same results give the same bytes."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "unilossseg"
    panels = [(b, [s for s in standings(results, b) if s.speed is not None]) for b in results.backends]
    panels = [(backend, found) for backend, found in panels if found]
    if not panels:
        raise ValueError("no loss was measured against a peer at the target's configuration: there is nothing to draw")
    rows = max(len(found) for _, found in panels)
    figure, axes = pyplot.subplots(1, len(panels), figsize=(6.2 * len(panels), 1.4 + 0.36 * rows), squeeze=False)
    for axis, (backend, found) in zip(axes[0], panels, strict=True):
        _panel(axis, backend, found)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = BytesIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    write_whole(path, drawn.getvalue())


def _panel(axis: Any, backend: str, found: list[Standing]) -> None:
    found = found[::-1]
    for place, one in enumerate(found):
        assert one.speed is not None
        ratio, target = one.speed.ratio, TARGETS[one.row].speed(backend)
        short = target is not None and ratio.median < target
        # The logarithm of a ratio: twice as slow reaches as far to the left as twice as fast to the right.
        axis.barh(place, ratio.median - 1, left=1, color=_SHORT if short else _OURS, height=0.6)
        axis.plot([ratio.low, ratio.high], [place, place], color="#000000", linewidth=1)
        if target is not None:
            axis.plot([target, target], [place - 0.4, place + 0.4], color=_TARGET, linewidth=2)
        beside = max(ratio.high, ratio.median, target or 1, 1)
        axis.annotate(f" {number(ratio.median)}×", (beside, place), va="center", ha="left", fontsize=8)
    axis.set_xscale("log")
    low = min(one.speed.ratio.low for one in found if one.speed)
    high = max(one.speed.ratio.high for one in found if one.speed)
    axis.set_xlim(min(0.5, low * 0.8), high * 2)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 1000) if min(0.5, low * 0.8) <= tick <= high * 2]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    axis.minorticks_off()
    axis.set_yticks(range(len(found)), [one.row for one in found], fontsize=8)
    axis.axvline(1, color="#888888", linewidth=1)
    peer = "the fastest peer" if backend == "torch" else "PaddleSeg's class"
    axis.set_title(f"{TITLES[backend]}: times as fast as {peer}", fontsize=10)
    axis.set_xlabel("forward and backward; bar: median, line: quartiles, tick: target", fontsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
