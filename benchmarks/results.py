"""What a run found, as a file: written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from benchmarks.names import FLOORS, OURS
from benchmarks.rows import ROWS, Shape
from unilossseg.conformance.results import check_writable, write_whole

FORMAT = "unilossseg-benchmarks/1"


class ResultsError(ValueError):
    """A file that is not a run's results."""


@dataclass(frozen=True)
class Timing:
    """Seconds of each contestant in each round (None: sat out), and why others have none."""

    backend: str
    row: str
    shape: Shape
    times: dict[str, list[float | None]]
    failures: dict[str, str]


@dataclass(frozen=True)
class Memory:
    """Peak extra bytes of one contestant in a process of its own, or why there are none."""

    backend: str
    row: str
    shape: Shape
    contestant: str
    extra: int | None
    logits: int
    failure: str = ""

    @property
    def multiple(self) -> float | None:
        """In multiples of the logits."""
        return None if self.extra is None else self.extra / self.logits


@dataclass(frozen=True)
class FirstCall:
    """Seconds of the first call in a process of its own, and of those after it."""

    backend: str
    row: str
    shape: Shape
    contestant: str
    first: float | None
    later: list[float]
    failure: str = ""


@dataclass(frozen=True)
class Check:
    """How a contestant's numbers relate to ours."""

    backend: str
    row: str
    contestant: str
    mark: str
    reason: str
    value_error: float | None
    gradient_error: float | None
    note: str = ""


@dataclass
class Results:
    """A whole run."""

    device: str
    created: str
    seconds: float
    command: str
    machine: dict[str, Any]
    #: Per backend: versions and thread counts.
    backends: dict[str, dict[str, Any]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    timings: list[Timing] = field(default_factory=list)
    #: Of us and the floor alone: at the largest configurations, and at the target's, which they are compared with.
    alone: list[Timing] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    first_calls: list[FirstCall] = field(default_factory=list)
    #: Of graphs of an accelerator.
    replays: list[Timing] = field(default_factory=list)
    #: What could not be measured at all, with the reason.
    gaps: list[str] = field(default_factory=list)

    def timing(self, backend: str, row: str, shape: Shape) -> Timing | None:
        """The times of one configuration."""
        return next((t for t in self.timings if (t.backend, t.row, t.shape) == (backend, row, shape)), None)

    def by_itself(self, backend: str, row: str, shape: Shape) -> Timing | None:
        """The times of one configuration with nobody between our calls but the floor."""
        # A row has such times among its others too: where it has no peer, and at the largest ones in a run's older results.
        found = [*self.alone, *(t for t in self.timings if {OURS, *FLOORS}.issuperset(t.times))]
        return next((t for t in found if (t.backend, t.row, t.shape) == (backend, row, shape)), None)

    def replay(self, backend: str, row: str, shape: Shape) -> Timing | None:
        """Those of its graphs."""
        return next((t for t in self.replays if (t.backend, t.row, t.shape) == (backend, row, shape)), None)

    def check(self, backend: str, row: str, contestant: str) -> Check | None:
        """The check of one contestant."""
        wanted = (backend, row, contestant)
        return next((c for c in self.checks if (c.backend, c.row, c.contestant) == wanted), None)


_LISTS: dict[str, type[Any]] = {
    "checks": Check,
    "timings": Timing,
    "alone": Timing,
    "memory": Memory,
    "first_calls": FirstCall,
    "replays": Timing,
}


def prepare(path: Path) -> None:
    """Raises OSError where `write` could not write: before an hour of measuring, not after it."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    check_writable(path.parent)


def write(results: Results, path: Path) -> None:
    """Writes the file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps({"format": FORMAT, **_rounded(asdict(results))}, indent=1) + "\n")


def read(path: Path) -> Results:
    """Reads such a file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ResultsError(f"{path} does not exist: run `make bench` first") from None
    except OSError as error:
        raise ResultsError(f"{path} cannot be read ({error.strerror}): expected a run's results") from None
    except ValueError as error:
        raise ResultsError(f"{path} is not JSON ({error}): run `make bench` again") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        got = found.get("format") if isinstance(found, dict) else type(found).__name__
        raise ResultsError(f"{path} has format {got!r}, expected {FORMAT!r}: run `make bench` again")
    try:
        lists: dict[str, Any] = {name: [_entry(kind, item) for item in found[name]] for name, kind in _LISTS.items()}
        rest = {f.name: found[f.name] for f in fields(Results) if f.name not in lists}
        return Results(**rest, **lists)
    except (KeyError, TypeError) as error:
        raise ResultsError(f"{path} lacks or misspells something ({error}): run `make bench` again") from None


def _entry(kind: type[Any], item: dict[str, Any]) -> Any:
    made = kind(**{**item, "shape": Shape(**item["shape"])}) if "shape" in item else kind(**item)
    if made.row not in ROWS:
        raise KeyError(f"row {made.row!r} is not measured any more")
    return made


def _rounded(value: Any) -> Any:
    """Numbers to four digits: a file that a person can read, and no digit that the clock did not give."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value
