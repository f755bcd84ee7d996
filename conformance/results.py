"""The rows of a run, and the machine-readable record of them."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from unilossseg import __version__
from unilossseg.conformance.cases import Case
from unilossseg.conformance.verdict import CONFORM, EXPECTED, UNSUPPORTED, Comparison, Verdict

#: Raised whenever a field of `results.jsonl` changes its name or its meaning.
SCHEMA = 1
RESULTS = "results.jsonl"


@dataclass(frozen=True)
class Result:
    """One case on one backend in one mode."""

    case: Case
    backend: str
    mode: str
    verdict: Verdict
    seconds: float = 0.0

    @property
    def is_bad(self) -> bool:
        """Neither conforms nor is declared to be impossible, or to fail."""
        return self.verdict.status not in (CONFORM, UNSUPPORTED, EXPECTED)

    def row(self) -> dict[str, Any]:
        """As one line of the record."""
        case, verdict = self.case, self.verdict
        return {
            "type": "result",
            "case": case.id,
            "loss": case.loss,
            "variant": case.variant,
            "condition": case.condition,
            "origin": "generated" if case.recorded is None else "recorded",
            "dtype": case.dtype,
            "layout": case.layout,
            "backend": self.backend,
            "mode": self.mode,
            "status": verdict.status,
            "message": verdict.message,
            "link": verdict.link,
            **_part("value", verdict.value),
            **_part("gradient", verdict.gradient),
            "seconds": round(self.seconds, 6),
        }


def _part(name: str, part: Comparison | None) -> dict[str, Any]:
    if part is None:
        return {f"{name}_{key}": None for key in ("error", "bound", "worst_index")}
    return {f"{name}_error": part.error, f"{name}_bound": part.bound, f"{name}_worst_index": list(part.index)}


@dataclass(frozen=True)
class Run:
    """All results of a run and where they come from."""

    results: list[Result]
    #: What each worker said about itself; None where it never got that far.
    backends: dict[str, dict[str, Any] | None]
    #: Known backends that are not installed, with how to install them: they are no part of any count.
    absent: dict[str, str]
    cases: int
    seconds: float
    started: datetime
    #: Exceptions about these backends that have expired, each with what to do about it: they fail the run.
    overdue: list[str] = field(default_factory=list)

    def count(self, status: str) -> int:
        """Results of one status."""
        return sum(result.verdict.status == status for result in self.results)

    @property
    def conforms(self) -> bool:
        """Everything that ran conforms, something did on every backend, and no exception has expired."""
        ran = {result.backend for result in self.results if result.verdict.status == CONFORM}
        return ran == set(self.backends) and not self.overdue and not any(result.is_bad for result in self.results)

    def header(self) -> dict[str, Any]:
        """The first line of the record."""
        return {
            "type": "header",
            "schema": SCHEMA,
            "unilossseg": __version__,
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "cases": self.cases,
            "counts": {status: self.count(status) for status in sorted({result.verdict.status for result in self.results})},
            "python": platform.python_version(),
            "numpy": np.__version__,
            "platform": platform.platform(),
            "machine": platform.machine(),
            "cpus": os.cpu_count(),
            "backends": self.backends,
            "not_installed": self.absent,
            "expired_exceptions": self.overdue,
        }

    def record(self) -> str:
        """The record: one JSON object a line."""
        rows = (self.header(), *(result.row() for result in self.results))
        return "".join(json.dumps(_plain(row), allow_nan=False, ensure_ascii=False) + "\n" for row in rows)


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinities: they are written as words."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


def worst(results: Iterable[Result]) -> float | None:
    """The largest share of its bound that any error took up."""
    return max((ratio for result in results if (ratio := result.verdict.ratio) is not None), default=None)


def write_whole(path: Path, text: str) -> None:
    """Writes a file so that it is there completely or, if anything goes wrong, not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
