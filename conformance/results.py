"""The lines of a run's record, `results.jsonl`; every other file of a report is made from it.

`schema/results.schema.json` says what each line holds: a header, a line for each case, a line for each result.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import platform
import re
import secrets
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from unilossseg import __version__
from unilossseg.conformance.cases import Case
from unilossseg.conformance.devices import CPU
from unilossseg.conformance.errormaps import ErrorMap
from unilossseg.conformance.ratios import Ratio
from unilossseg.conformance.verdict import Comparison, Verdict

#: Raised whenever a field of `results.jsonl` changes its name or its meaning.
SCHEMA = 3
RESULTS = "results.jsonl"
#: Where a repeated case's report goes: beside that of the run that it repeats, never over it. The page's script says it too.
REPEATED = "conformance-repeat"
#: What no file of a report can hold: control characters, directions of writing, halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Result:
    """One case on one backend in one mode."""

    case: Case
    backend: str
    mode: str
    verdict: Verdict
    seconds: float = 0.0
    #: Where it was computed.
    device: str = CPU
    #: Whether the Python of another environment computed it.
    elsewhere: bool = False

    def row(self) -> dict[str, Any]:
        """As one line of the record."""
        case, verdict = self.case, self.verdict
        row = {
            "type": "result",
            "case": case.id,
            "loss": case.loss,
            "variant": case.variant,
            "dtype": case.dtype,
            "backend": self.backend,
            "mode": self.mode,
            "status": verdict.status,
            "message": verdict.message,
            "link": verdict.link,
            "native": verdict.native,
            "warning": verdict.warning,
            "value": _part(verdict.value, case.dtype),
            "gradient": _part(verdict.gradient, case.dtype),
            "seconds": round(self.seconds, 6),
            "repeat": repeat(case, self.backend, self.device, self.elsewhere),
        }
        if verdict.maps:
            row["errors"] = {name: _map(found) for name, found in verdict.maps.items()}
        return row


def described(case: Case) -> dict[str, Any]:
    """A case as one line of the record."""
    return {
        "type": "case",
        "case": case.id,
        "loss": case.loss,
        "variant": case.variant,
        "dtype": case.dtype,
        "condition": case.condition,
        "origin": "generated" if case.recorded is None else "recorded",
        "layout": case.layout,
        "chunk": case.chunk,
        "parameters": dict(case.parameters),
        "inputs": {name: {"dtype": case.dtype_of(name), "shape": list(array.shape)} for name, array in case.arrays.items()},
    }


def repeat(case: Case, backend: str, device: str = CPU, elsewhere: bool = False) -> str:
    """The command that runs a case again; the loss is named since one's name can end another's.

    PYTHON stands for the Python of another environment: a report can be published, and does not tell where that lies.
    """
    words = ["unilossseg", "conformance", "run", "--loss", case.loss, "-k", case.id, "--out", REPEATED, "--backend", backend]
    if elsewhere:
        words += ["--worker", f"{backend}=PYTHON"]
    if device != CPU:
        words += ["--device", device]
    return shlex.join(words)


def _part(part: Comparison | None, dtype: str) -> dict[str, Any] | None:
    if part is None:
        return None
    # Nine digits tell any two numbers of float32 apart; the reference is known better than that.
    digits = (17, 17) if dtype == "float64" else (9, 12)
    return {
        "error": _short(part.error),
        "bound": _short(part.bound),
        "index": list(part.index),
        "got": _short(part.got, digits[0]),
        "expected": _short(part.expected, digits[1]),
        "rtol": _short(part.rtol),
        "atol": _short(part.atol),
        "ulp": part.ulp,
        "native": _ratio(part.native),
    }


def _ratio(found: Ratio | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "rmse": _short(found.rmse),
        "max": _short(found.largest),
        "rmse_ratio": _short(found.rmse_ratio),
        "max_ratio": _short(found.largest_ratio),
        "factor": found.factor,
        "allowance": _short(found.allowance),
        "level": found.level,
    }


def _map(found: ErrorMap) -> dict[str, Any]:
    return {
        "index": list(found.index),
        "got": found.got,
        "expected": found.expected,
        "counts": list(found.counts),
        "axes": list(found.axes),
        "start": list(found.start),
        "shares": [[_short(share, 3) for share in row] for row in found.shares],
    }


def _short(x: float, digits: int = 6) -> float:
    """Rounded, which keeps the order of any two: an error within its bound stays there."""
    return float(f"{x:.{digits}g}")


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
    #: Exceptions about these backends that have expired, each with what to do about it: a warning.
    overdue: list[str] = field(default_factory=list)

    def count(self, status: str) -> int:
        """Results of one status."""
        return sum(result.verdict.status == status for result in self.results)

    def header(self) -> dict[str, Any]:
        """The first line of the record."""
        return {
            "type": "header",
            "schema": SCHEMA,
            "unilossseg": __version__,
            "started": self.started.isoformat(timespec="seconds"),
            "seconds": round(self.seconds, 3),
            "cases": self.cases,
            "results": len(self.results),
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
        cases = {result.case.id: result.case for result in self.results}
        rows = (self.header(), *map(described, cases.values()), *(result.row() for result in self.results))
        return "".join(
            json.dumps(_plain(row), allow_nan=False, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows
        )


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinities: they are written as words. What cannot be printed is replaced."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(key)): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def printable(text: str) -> str:
    """A text whose characters any file and any terminal can hold, each that is none replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\ufffd", text)


def now() -> datetime:
    """The time, with its zone."""
    return datetime.now(UTC)


def check_writable(folder: Path) -> list[Path]:
    """Makes a folder, and finds out now, not after a long run, whether files can be written there; raises OSError.

    Returns
    -------
    The folders that it has made, the inner before the outer, for `taken_back_on_failure`.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    # A name of its own: another run may be trying the same at the same time.
    descriptor, name = tempfile.mkstemp(prefix=".writable-", dir=folder)
    os.close(descriptor)
    Path(name).unlink(missing_ok=True)
    return made


@contextlib.contextmanager
def taken_back_on_failure(made: Sequence[Path]) -> Iterator[None]:
    """Where what follows is refused, fails or is interrupted, the folders made for it go, as far as they are empty."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise


def final_place(path: Path) -> Path | None:
    """Where a file is to be put so that links to it remain; None: it is a pipe, a device or a socket, to be written into."""
    # Not the methods of Path: what cannot be looked at is an error of them, and here it shows when it is written.
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        return None
    return Path(os.path.realpath(path))


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file so that it is there completely or, if anything goes wrong, not at all; an older one stays until then.

    A symbolic link stays one, and its file is replaced; what is no file, such as a pipe or a device, is written into.
    """
    place = final_place(path)
    if place is None:
        path.write_bytes(_encoded(content))
        return
    with _drafts({place: content}) as drafts:
        drafts[place].replace(place)


def write_together(folder: Path, texts: Mapping[str, str]) -> None:
    """Writes files that belong together: all of them come, or those of an earlier run stay.

    All are complete on the disk before the first takes its place, and those of an earlier run are set aside before the new
    ones come, so that nobody finds some of these beside some of those. Where that fails or is interrupted, they are put
    back; a process that is killed just then leaves them under hidden names. Links and pipes are as in `write_whole`.
    """
    places = {name: final_place(folder / name) for name in texts}
    with _drafts({place: texts[name] for name, place in places.items() if place}) as drafts:
        for name, place in places.items():
            if place is None:
                (folder / name).write_bytes(_encoded(texts[name]))
        older = {place: draft.with_name(f"{draft.name}.old") for place, draft in drafts.items()}
        try:
            for place, old in older.items():
                with contextlib.suppress(FileNotFoundError):
                    place.replace(old)
            for place, draft in drafts.items():
                draft.replace(place)
        except BaseException:
            _put_back(older, drafts)
            raise
        for old in older.values():
            # The new files are there, which is what counts.
            with contextlib.suppress(OSError):
                old.unlink()


def _put_back(older: Mapping[Path, Path], drafts: Mapping[Path, Path]) -> None:
    """Each place as it was; the disk tells how far the replacing has come, as an interruption leaves no time to note it."""
    for place, old in older.items():
        # What cannot be put back stays under its hidden name, and keeps no other from its place.
        with contextlib.suppress(OSError):
            if os.path.lexists(old):
                old.replace(place)
            elif not drafts[place].exists():
                place.unlink()


@contextlib.contextmanager
def _drafts(contents: Mapping[Path, str | bytes]) -> Iterator[dict[Path, Path]]:
    """Each content complete on the disk beside its place, by its place; what has not been moved there in the end goes."""
    # No other run shares the name, not even one in a container that shares the folder and numbers its processes alike.
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    drafts = {place: place.with_name(f".{place.name}.{mark}") for place in contents}
    try:
        for place in contents:
            if place.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(place))
        for place, draft in drafts.items():
            with draft.open("wb") as file:
                file.write(_encoded(contents[place]))
                file.flush()
                os.fsync(file.fileno())
        yield drafts
    finally:
        for draft in drafts.values():
            draft.unlink(missing_ok=True)


def _encoded(content: str | bytes) -> bytes:
    return content.encode() if isinstance(content, str) else content
