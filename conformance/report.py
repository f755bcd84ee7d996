"""The run as one HTML page that asks nothing of the network."""

from __future__ import annotations

import functools
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unilossseg import __version__
from unilossseg.conformance.protocol import MODES
from unilossseg.conformance.results import Result, Run, worst
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, EXPECTED, STATUSES, UNSUPPORTED

PAGE = "index.html"
#: The status of a group is the gravest of its members.
_GRAVEST_FIRST = (ERRORED, DIFFERS, CONFORM, EXPECTED, UNSUPPORTED)
SYMBOLS = {CONFORM: "✓", DIFFERS: "✗", ERRORED: "!", UNSUPPORTED: "○", EXPECTED: "x"}
#: No more than this many failures are spelled out at the top; the tables hold them all.
MOST_FAILURES = 50


@dataclass(frozen=True)
class Cell:
    """Some results taken together."""

    status: str
    conforming: int
    checked: int
    ratio: str
    detail: str
    title: str

    @property
    def symbol(self) -> str:
        """What tells the status without a colour."""
        return SYMBOLS[self.status]


@dataclass(frozen=True)
class Failure:
    """What does not conform on one backend: all results with the same message."""

    backend: str
    status: str
    message: str
    results: list[Result]

    @property
    def title(self) -> str:
        """The first of the results in words."""
        first = self.results[0].case.id
        modes = [result.mode for result in self.results if result.case.id == first]
        more = len({result.case.id for result in self.results}) - 1
        others = f", and {more} more case{'' if more == 1 else 's'}" if more else ""
        return f"{first} ({', '.join(modes)}){others}"


def render(run: Run) -> str:
    """The page."""
    backends = list(run.backends)
    by_place: dict[tuple[str, str], list[Result]] = defaultdict(list)
    by_case: dict[tuple[str, str], list[Result]] = defaultdict(list)
    cases: dict[str, dict[str, Any]] = defaultdict(dict)
    for result in run.results:
        by_place[result.case.loss, result.backend].append(result)
        by_case[result.case.id, result.backend].append(result)
        cases[result.case.loss][result.case.id] = result.case
    losses = [
        {
            "name": loss,
            "words": re.findall(r"[A-Z]+[a-z0-9]*", loss),
            "cells": [cell(by_place[loss, name]) for name in backends],
            "cases": [
                {"case": case, "parameters": _parameters(case), "cells": [cell(by_case[case.id, name]) for name in backends]}
                for case in found.values()
            ],
        }
        for loss, found in cases.items()
    ]
    failures = failures_of(run.results)
    return (
        _environment()
        .get_template("report.html")
        .render(
            run=run,
            version=__version__,
            header=run.header(),
            backends=backends,
            losses=losses,
            failures=failures[:MOST_FAILURES],
            more_failures=max(0, len(failures) - MOST_FAILURES),
            counts={status: run.count(status) for status in STATUSES},
            symbols=SYMBOLS,
            modes=MODES,
            environment=_described(run),
        )
    )


@functools.cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("unilossseg.conformance"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def cell(results: Sequence[Result]) -> Cell:
    """Results as one cell of a table."""
    found = {result.verdict.status for result in results}
    status = next((status for status in _GRAVEST_FIRST if status in found), UNSUPPORTED)
    checked = [result for result in results if result.verdict.status != UNSUPPORTED]
    ratio = worst(results)
    return Cell(
        status=status,
        conforming=sum(result.verdict.status == CONFORM for result in checked),
        checked=len(checked),
        ratio="" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}",
        detail=_worst_part(results),
        title="\n".join(line for result in results for line in _lines(result)) if len(results) <= len(MODES) else "",
    )


def _worst_part(results: Sequence[Result]) -> str:
    """The error that took up the most of its bound, and the bound."""
    parts = [part for result in results for part in (result.verdict.value, result.verdict.gradient) if part is not None]
    if not parts:
        return ""
    part = max(parts, key=lambda part: part.ratio)
    return f"{part.error:.1e} of {part.bound:.1e}"


def _lines(result: Result) -> list[str]:
    """A result in words."""
    verdict = result.verdict
    numbers = [
        f"{name} {part.error:.2e} of {part.bound:.2e} at {part.index}"
        for name, part in (("value", verdict.value), ("gradient", verdict.gradient))
        if part is not None
    ]
    if verdict.message and not numbers:
        numbers = [verdict.message.splitlines()[0]]
    return [f"{result.mode}: {verdict.status}; " + ", ".join(numbers)]


def failures_of(results: Sequence[Result]) -> list[Failure]:
    """What does not conform; results that fail alike in one entry."""
    alike: dict[tuple[str, str, str], list[Result]] = defaultdict(list)
    for result in results:
        if result.is_bad:
            alike[result.backend, result.verdict.status, result.verdict.message].append(result)
    return [Failure(*key, found) for key, found in alike.items()]


def _parameters(case: Any) -> str:
    """All but the variant, which the id names."""
    return ", ".join(f"{name}={json.dumps(value)}" for name, value in case.parameters.items() if name != "variant")


def _described(run: Run) -> list[tuple[str, list[str]]]:
    """The workers' descriptions of themselves as rows of a table, one column a backend."""
    keys = (
        ("framework", "framework"),
        ("version", "version"),
        ("distribution", "distribution"),
        ("revision", "built from"),
        ("file", "imported from"),
        ("device", "device"),
        ("threads", "threads"),
        ("flags", "settings"),
        ("environment", "environment"),
        ("frameworks", "frameworks in it"),
        ("dtypes", "dtypes"),
        ("modes", "modes"),
        ("implementation", "interpreter"),
        ("python", "Python"),
        ("numpy", "NumPy"),
        ("array_api_compat", "array-api-compat"),
        ("unilossseg", "UniLossSeg"),
        ("sources", "digest of its sources"),
    )
    rows = []
    for key, title in keys:
        row = []
        for greeting in run.backends.values():
            value = (greeting or {}).get(key)
            row.append(", ".join(map(str, value)) if isinstance(value, list) else str(value or ""))
        rows.append((title, row))
    return rows
