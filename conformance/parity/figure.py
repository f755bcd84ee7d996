"""The figure: both loss curves, and how far they are apart."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from unilossseg.conformance.parity import plan
from unilossseg.conformance.parity.compare import CURVE
from unilossseg.conformance.parity.run import Parity

# Of Okabe and Ito's palette, told apart with any colour vision; here by width, dashes and markers as well.
_SKY, _VERMILION, _BLUE, _GREY = "#56B4E9", "#D55E00", "#0072B2", "#555555"
_NAMES = {"torch": "PyTorch", "paddle": "PaddlePaddle"}


def draw(parity: Parity) -> str:
    """An SVG on white."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # A fixed salt and no date: the same numbers give the same file.
    with rc_context({"svg.hashsalt": "unilossseg", "font.family": "DejaVu Sans", "font.size": 10}):
        figure = Figure(figsize=(7.2, 5.4), layout="constrained", facecolor="white")
        FigureCanvasSVG(figure)
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _curves(above, parity)
        _differences(below, parity)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _curves(axes: Any, parity: Parity) -> None:
    (first, a), (second, b) = parity.curves().items()
    steps = np.arange(1, len(a) + 1)
    # A thin dashed line on a wide band: where the two agree it runs in the middle of the band.
    axes.plot(steps, a, color=_SKY, linewidth=6, solid_capstyle="round", label=_label(parity, first))
    axes.plot(steps, b, color=_VERMILION, linewidth=1.6, linestyle=(0, (4, 2)), label=_label(parity, second))
    axes.set_title(f"{plan.title(parity.config)}, {parity.settings.dtype}", fontsize=11)
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    _bare(axes)


def _differences(axes: Any, parity: Parity) -> None:
    looks = ((_VERMILION, "o"), (_BLUE, "s"))
    for item in (item for item in parity.comparisons if item.quantity == CURVE):
        color, marker = looks[parity.settings.dtypes.index(item.dtype)]
        # A logarithm has no place for curves that are equal: those steps are left out, and counted.
        gaps = np.asarray(list(item.parts.values()))
        equal = int(np.sum(gaps == 0))
        label = item.dtype + (f" ({equal} of {len(gaps)} steps equal)" if equal else "")
        shown = np.where(gaps > 0, gaps, np.nan)
        axes.plot(np.arange(1, len(gaps) + 1), shown, color=color, marker=marker, markersize=3, linewidth=0.8, label=label)
        axes.axhline(item.bound, color=color, linewidth=0.9, linestyle=":")
        axes.annotate(
            f"bound for {item.dtype}",
            (1, item.bound),
            xycoords=("axes fraction", "data"),
            xytext=(0, -2),
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=8,
            color=_GREY,
        )
    axes.set_yscale("log")
    axes.set_ylabel("difference\n(share of the largest loss)")
    axes.set_xlabel("step")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(frameon=False, fontsize=9, ncols=2, loc="lower left", bbox_to_anchor=(0, 1), borderaxespad=0)
    _bare(axes)


def _label(parity: Parity, backend: str) -> str:
    version = str(parity.workers[backend].get("version", "")).partition("+")[0]
    return f"{_NAMES.get(backend, backend)} {version}".rstrip()


def _bare(axes: Any) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
