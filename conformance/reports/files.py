"""The files of a report, all made from a run's record."""

from __future__ import annotations

from pathlib import Path

from unilossseg.conformance.reports import badge, junit, markdown, page
from unilossseg.conformance.reports.model import StoredRun
from unilossseg.conformance.results import write_together

PAGE = "index.html"
_MAKERS = {PAGE: page.render, "junit.xml": junit.render, "summary.md": markdown.render, "badge.svg": badge.render}
FILES = tuple(_MAKERS)


def rendered(run: StoredRun) -> dict[str, str]:
    """The text of each file."""
    return {name: make(run) for name, make in _MAKERS.items()}


def write(run: StoredRun, folder: Path, record: dict[str, str] | None = None) -> None:
    """Writes them, with the record itself where it is new: all are made before the first is written."""
    write_together(folder, {**rendered(run), **(record or {})})
