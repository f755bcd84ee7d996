"""Reads a run's record, believing nothing: a record may be damaged, cut off, newer than this, or made up."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from unilossseg.conformance import standard_json
from unilossseg.conformance.errormaps import EDGES, ErrorMap
from unilossseg.conformance.ratios import LEVELS, Ratio
from unilossseg.conformance.reports.model import CaseLine, Header, Part, ResultLine, StoredRun
from unilossseg.conformance.results import RESULTS, SCHEMA, printable
from unilossseg.conformance.verdict import CONFORM, STATUSES

#: JSON has no infinities and no NaN: a record writes them as words.
_WORDS = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}
#: No run takes a thousand years, in seconds.
_LONGEST = 3e10


class RecordError(Exception):
    """A record cannot be used, and why."""


def place_of(path: Path) -> Path:
    """The file of a record, which its folder can stand for."""
    # What cannot be looked at, such as a name that is too long, is no folder: the reason comes when it is read.
    return path / RESULTS if os.path.isdir(path) else path


def read(path: Path) -> StoredRun:
    """The run in a file, or in the `results.jsonl` of a folder; raises RecordError where there is none."""
    path = place_of(path)
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise RecordError(f"{path}: is damaged: byte {error.start} is not UTF-8") from None
    return parse(text, str(path))


def parse(text: str, name: str = RESULTS) -> StoredRun:
    """The run that a record's text tells; `name` begins each error's message."""
    lines = text.split("\n")
    if lines[-1]:
        # Every line ends, so that half a line is never taken for a whole one.
        raise RecordError(f"{name}: is cut off: its last line, {len(lines)}, does not end")
    if len(lines) == 1:
        raise RecordError(f"{name}: is empty")
    header, *rest = (_Line(name, number, line) for number, line in enumerate(lines[:-1], 1))
    run = _run(header, rest)
    for what, found in (("cases", len(run.cases)), ("results", len(run.results))):
        if found != header.whole(what):
            header.fail(f"promises {header.whole(what)} {what}, and the file has {found}: it is cut off or was put together")
    return run


class _Line:
    """A JSON object, or one inside it, and what it must hold."""

    def __init__(self, name: str, number: int, line: str | Mapping[str, Any], place: str = "") -> None:
        self.name, self.number, self.place = name, number, place
        if isinstance(line, str):
            try:
                line = _cleaned(standard_json.parse(line))
            except (ValueError, RecursionError) as error:
                self.fail(f"is no JSON: {error}")
            if not isinstance(line, dict):
                self.fail("is no JSON object")
        self.content: Mapping[str, Any] = line

    def fail(self, what: str) -> NoReturn:
        raise RecordError(f"{self.name}: line {self.number}: {self.place}{what}")

    def of(self, key: str, *types: type) -> Any:
        """A member, which must have one of some types; bool is no int here."""
        if key not in self.content:
            self.fail(f"lacks {key!r}")
        found = self.content[key]
        if type(found) not in types:
            expected = " or ".join("null" if kind is type(None) else kind.__name__ for kind in types)
            self.fail(f"{key!r} must be {expected} (got {json.dumps(found)[:80]})")
        return found

    def text(self, key: str) -> str:
        return str(self.of(key, str))

    def whole(self, key: str) -> int:
        """A whole number, at least 0."""
        found = int(self.of(key, int))
        if found < 0:
            self.fail(f"{key!r} must not be below 0 (got {found})")
        return found

    def number_in(self, key: str, least: float = -math.inf) -> float:
        return self._number(key, self.of(key, int, float, str), least)

    def seconds(self) -> float:
        """How long it took: reports add it up and print it."""
        found = self.number_in("seconds", 0.0)
        if not found <= _LONGEST:
            self.fail(f"'seconds' must be at most {_LONGEST:g} (got {found:g})")
        return found

    def _number(self, key: str, found: Any, least: float = -math.inf) -> float:
        if type(found) not in (int, float) and not (type(found) is str and found in _WORDS):
            self.fail(f"{key!r} must be a number, 'inf', '-inf' or 'nan' (got {json.dumps(found)[:80]})")
        try:
            number = _WORDS[found] if isinstance(found, str) else float(found)
        except OverflowError:
            self.fail(f"{key!r} is too large a number")
        if number < least:
            self.fail(f"{key!r} must not be below {least:g} (got {number:g})")
        return number

    def wholes(self, key: str, least: int = 0) -> tuple[int, ...]:
        found = self.of(key, list)
        if not all(type(item) is int and item >= least for item in found):
            self.fail(f"{key!r} must be a list of whole numbers (got {json.dumps(found)[:80]})")
        return tuple(found)

    def texts(self, key: str) -> tuple[str, ...]:
        found = self.of(key, list)
        if not all(isinstance(item, str) for item in found):
            self.fail(f"{key!r} must be a list of texts")
        return tuple(found)

    def rows(self, key: str) -> tuple[tuple[float, ...], ...]:
        """Rows of equal length, none of them empty."""
        found = self.of(key, list)
        if not all(isinstance(row, list) and row for row in found) or len({len(row) for row in found}) != 1:
            self.fail(f"{key!r} must be a list of rows of equal length")
        return tuple(tuple(self._number(key, item) for item in row) for row in found)

    def inner(self, key: str) -> _Line:
        return _Line(self.name, self.number, self.of(key, dict), f"{self.place}{key}: ")


def _cleaned(value: Any) -> Any:
    """The same without characters that no page, table or terminal should get."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): _cleaned(inner) for key, inner in value.items()}
    return [_cleaned(inner) for inner in value] if isinstance(value, list) else value


def _run(header: _Line, rest: list[_Line]) -> StoredRun:
    told = _header(header)
    cases: dict[str, CaseLine] = {}
    results: dict[tuple[str, str, str], ResultLine] = {}
    for line in rest:
        kind = line.text("type")
        if kind == "case":
            case = _case(line)
            if case.id in cases:
                line.fail(f"case {case.id!r} is there twice")
            cases[case.id] = case
        elif kind == "result":
            result = _result(line, cases, told)
            if result.key in results:
                line.fail(f"{result.title} is there twice")
            results[result.key] = result
        else:
            line.fail(f"'type' must be 'case' or 'result' (got {kind!r})")
    return StoredRun(told, tuple(cases.values()), tuple(results.values()))


def _header(line: _Line) -> Header:
    if line.content.get("type") != "header":
        line.fail("is no header: this is no record of a conformance run")
    schema = line.whole("schema")
    if schema > SCHEMA:
        line.fail(f"has schema {schema}, this unilossseg reads schema {SCHEMA}: update it")
    if schema < SCHEMA:
        line.fail(f"has schema {schema}, this unilossseg reads schema {SCHEMA}: run it again")
    return Header(
        version=line.text("unilossseg"),
        started=_time(line),
        seconds=line.seconds(),
        python=line.text("python"),
        numpy=line.text("numpy"),
        platform=line.text("platform"),
        machine=line.text("machine"),
        cpus=line.of("cpus", int, type(None)),
        backends=_backends(line),
        not_installed={name: str(remedy) for name, remedy in line.of("not_installed", dict).items()},
        expired=line.texts("expired_exceptions"),
    )


def _time(line: _Line) -> datetime:
    try:
        return datetime.fromisoformat(line.text("started")).astimezone(UTC)
    except (ValueError, OverflowError):
        line.fail("'started' is no time")


def _backends(line: _Line) -> dict[str, Mapping[str, Any] | None]:
    found: dict[str, Any] = line.of("backends", dict)
    if not all(said is None or isinstance(said, dict) for said in found.values()):
        line.fail("'backends' must hold objects or null")
    return found


def _case(line: _Line) -> CaseLine:
    inputs = line.inner("inputs")
    described = {name: inputs.inner(name) for name in inputs.content}
    return CaseLine(
        id=line.text("case"),
        loss=line.text("loss"),
        variant=line.text("variant"),
        dtype=line.text("dtype"),
        condition=line.text("condition"),
        origin=line.text("origin"),
        layout=line.text("layout"),
        chunk=line.whole("chunk"),
        parameters=line.of("parameters", dict),
        inputs={name: (one.text("dtype"), one.wholes("shape")) for name, one in described.items()},
    )


def _result(line: _Line, cases: Mapping[str, CaseLine], header: Header) -> ResultLine:
    case, backend, status = line.text("case"), line.text("backend"), line.text("status")
    if case not in cases:
        line.fail(f"no line above describes case {case!r}")
    if backend not in header.backends:
        line.fail(f"the header knows no backend {backend!r}")
    if status not in STATUSES:
        line.fail(f"'status' must be one of {', '.join(STATUSES)} (got {status!r})")
    value = _part(line, "value", status)
    if status == CONFORM and value is None:
        line.fail(f"'value' must be no null where the status is {CONFORM!r}: nothing was compared")
    errors = line.inner("errors") if "errors" in line.content else None
    return ResultLine(
        case=cases[case],
        backend=backend,
        mode=line.text("mode"),
        status=status,
        message=line.text("message"),
        link=line.text("link"),
        native=line.text("native"),
        warning=line.text("warning"),
        value=value,
        gradient=_part(line, "gradient", status),
        seconds=line.seconds(),
        repeat=line.text("repeat"),
        errors={} if errors is None else {name: _map(errors.inner(name)) for name in errors.content},
    )


def _part(line: _Line, key: str, status: str) -> Part | None:
    if line.of(key, dict, type(None)) is None:
        return None
    part = line.inner(key)
    error, bound = part.number_in("error", 0.0), part.number_in("bound", 0.0)
    if status == CONFORM and not (error <= bound and math.isfinite(error)):  # NaN is within no bound
        part.fail(f"'error' must be finite and within 'bound' where the status is {CONFORM!r} (got {error:g}, {bound:g})")
    return Part(
        error=error,
        bound=bound,
        index=part.wholes("index"),
        got=part.number_in("got"),
        expected=part.number_in("expected"),
        rtol=part.number_in("rtol", 0.0),
        atol=part.number_in("atol", 0.0),
        ulp=part.whole("ulp"),
        native=_ratio(part),
    )


def _ratio(part: _Line) -> Ratio | None:
    if part.of("native", dict, type(None)) is None:
        return None
    found = part.inner("native")
    said = found.text("level")
    level = next((level for level in LEVELS if level == said), None)
    if level is None:
        found.fail(f"'level' must be one of {', '.join(LEVELS)} (got {said!r})")
    return Ratio(
        rmse=found.number_in("rmse", 0.0),
        largest=found.number_in("max", 0.0),
        rmse_ratio=found.number_in("rmse_ratio", 0.0),
        largest_ratio=found.number_in("max_ratio", 0.0),
        factor=found.number_in("factor", 1.0),
        allowance=found.number_in("allowance", 0.0),
        level=level,
    )


def _map(line: _Line) -> ErrorMap:
    counts, axes, start = line.wholes("counts"), line.wholes("axes", -1), line.wholes("start")
    if (len(counts), len(axes), len(start)) != (len(EDGES) + 2, 2, 2):
        line.fail(f"'counts', 'axes' and 'start' must have {len(EDGES) + 2}, 2 and 2 entries")
    index = line.wholes("index")
    got, expected = line.number_in("got"), line.number_in("expected")
    return ErrorMap(index, got, expected, counts, (axes[0], axes[1]), (start[0], start[1]), line.rows("shares"))
