"""A run as one HTML page that asks nothing of the network and works from a disk."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from unilossseg.conformance.protocol import MODES
from unilossseg.conformance.reports import page_data
from unilossseg.conformance.reports.model import StoredRun
from unilossseg.conformance.reports.summary import (
    SYMBOLS,
    WARNED,
    Cell,
    cell,
    environment_of,
    failures_of,
    grouped,
    heading,
    natives_of,
    warnings_of,
)
from unilossseg.conformance.verdict import STATUSES

#: No more than this many failures are spelled out at the top; the list of cases holds them all.
MOST_FAILURES = 50
_DTYPES = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}


def render(run: StoredRun) -> str:
    """The page."""
    failures = failures_of(run)
    script = _raw("report.js")
    page: str = (
        _environment()
        .get_template("report.html")
        .render(
            run=run,
            heading=heading(run),
            header=run.header,
            backends=run.backends,
            dtypes=_dtypes(run),
            matrix=_matrix(run),
            failures=failures[:MOST_FAILURES],
            more_failures=max(0, len(failures) - MOST_FAILURES),
            counts={status: run.count(status) for status in STATUSES},
            symbols=SYMBOLS,
            warned=WARNED,
            natives=natives_of(run),
            warnings=warnings_of(run)[:MOST_FAILURES],
            modes=MODES,
            environment=environment_of(run),
            style=_raw("report.css"),
            script=script,
            # No other script runs in the page, whatever a record may smuggle in.
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            # Unescaped: `embedded` leaves no character that could end a script element.
            data=Markup(page_data.embedded(run)),
        )
    )
    return page


def _dtypes(run: StoredRun) -> list[tuple[str, str]]:
    """The dtypes of the cases and what stands over their columns, in the usual order."""
    found = {case.dtype for case in run.cases}
    names = [*(name for name in _DTYPES if name in found), *sorted(found - set(_DTYPES))]
    return [(name, _DTYPES.get(name, name)) for name in names]


def _matrix(run: StoredRun) -> list[dict[str, Any]]:
    """A row for each loss: a cell for each backend and dtype, and for a narrow screen one for each backend."""
    by_place = grouped(run.results, "loss", "backend", "dtype")
    by_backend = grouped(run.results, "loss", "backend")
    rows = []
    for loss in run.losses:
        cells: list[list[tuple[str, Cell | None]]] = []
        for name in run.backends:
            found = [(dtype, by_place.get((loss, name, dtype))) for dtype, _ in _dtypes(run)]
            cells.append([(dtype, cell(results) if results else None) for dtype, results in found])
        rows.append({"name": loss, "words": re.findall(r"[A-Z]+[a-z0-9]*|[^A-Z]+", loss), "cells": cells})
        rows[-1]["whole"] = [cell(by_backend[loss, name]) if (loss, name) in by_backend else None for name in run.backends]
    return rows


def _raw(name: str) -> Markup:
    """A file of ours, as it is."""
    environment = _environment()
    assert environment.loader is not None
    text, _, _ = environment.loader.get_source(environment, name)
    return Markup(text)


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("unilossseg.conformance"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
