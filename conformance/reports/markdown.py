"""A run as a page of Markdown, for the summary of a job or the text of a pull request."""

from __future__ import annotations

import re
from collections.abc import Sequence

from unilossseg.conformance.reports.model import StoredRun
from unilossseg.conformance.reports.summary import (
    WARNED,
    cell,
    environment_of,
    failures_of,
    grouped,
    heading,
    natives_of,
    warnings_of,
)
from unilossseg.conformance.verdict import STATUSES

#: No more failures than this are spelled out.
MOST_FAILURES = 30
#: Letters, digits, spaces and what is no mark of Markdown within a line.
_PLAIN = re.compile(r"[^\w /,.;=()+·✓✗○▲-]|_|(?<=www)\.", re.IGNORECASE)


def escaped(text: str) -> str:
    """A text as one line that no Markdown reader takes for marks, links or HTML.

    Everything else is written as a numeric reference: CommonMark never takes those for structure. The text must
    not begin a line.
    """
    return _PLAIN.sub(lambda found: "".join(f"&#{ord(char)};" for char in found[0]), " ".join(text.split()))


def render(run: StoredRun) -> str:
    """The page."""
    header, backends = run.header, run.backends
    counts = ", ".join(f"{run.count(status)} {status}" for status in STATUSES)
    lines = [
        f"# UniLossSeg conformance: {'conforms' if run.conforms else 'does not conform'}",
        "",
        f"**{heading(run)}** {len(run.cases)} cases: {counts}.",
        "",
        f"UniLossSeg {escaped(header.version)}, {header.started:%Y-%m-%d %H:%M} UTC, {header.seconds:.0f} s.",
        "",
        *_matrix(run),
        "",
        f"Results that conform, and the worst error as a share of what is allowed for it; {WARNED}: with a warning.",
        "",
        *([natives_of(run), ""] if natives_of(run) else []),
    ]
    lines += [f"- **{escaped(trouble)}**" for trouble in run.troubles]
    lines += [f"- {WARNED} warning: {escaped(line)}" for line in header.expired]
    lines += [f"- not run: {escaped(name)} is not installed ({escaped(how)})" for name, how in header.not_installed.items()]
    lines += _failures(run)
    lines += _warnings(run)
    lines += ["", "## Environment", "", *table(["", *backends], [[title, *row] for title, row in environment_of(run)])]
    return "\n".join(lines) + "\n"


def _matrix(run: StoredRun) -> list[str]:
    by_place = grouped(run.results, "loss", "backend")
    rows = []
    for loss in run.losses:
        cells = [cell(by_place.get((loss, name), [])) for name in run.backends]
        rows.append([loss, *(f"{found.symbol} {found.words}" for found in cells)])
    return table(["loss", *run.backends], rows)


def _failures(run: StoredRun) -> list[str]:
    failures = failures_of(run)
    if not failures:
        return []
    lines = ["", "## What does not conform", ""]
    for failure in failures[:MOST_FAILURES]:
        first = failure.results[0]
        lines.append(
            f"- **{failure.status}** {escaped(failure.backend)}, {escaped(failure.title)}: {escaped(first.first_line)}"
        )
        lines.append(f"  - repeat: {escaped(first.repeat)}")
    if len(failures) > MOST_FAILURES:
        lines.append(f"- and {len(failures) - MOST_FAILURES} more, in results.jsonl")
    return lines


def _warnings(run: StoredRun) -> list[str]:
    found = warnings_of(run)
    if not found:
        return []
    lines = ["", "## What conforms with a warning", ""]
    lines += [f"- {escaped(one.backend)}, {escaped(one.title)}: {escaped(one.message)}" for one in found[:MOST_FAILURES]]
    if len(found) > MOST_FAILURES:
        lines.append(f"- and {len(found) - MOST_FAILURES} more, in results.jsonl")
    return lines


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table, every cell escaped."""
    return [
        "| " + " | ".join(map(escaped, head)) + " |",
        "|" + " --- |" * len(head),
        *("| " + " | ".join(map(escaped, row)) + " |" for row in rows),
    ]
