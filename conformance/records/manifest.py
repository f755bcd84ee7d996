"""The manifest of a record: JSON in the file's metadata, believed only after each of its parts is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from unilossseg import __version__
from unilossseg.conformance import standard_json
from unilossseg.conformance.records.errors import RecordError, printable, reason
from unilossseg.conformance.records.record import (
    CASE_NAME,
    CASE_NAME_IN_WORDS,
    DTYPES,
    FLOATS,
    INPUTS,
    LABELS,
    LABELS_IN_WORDS,
    MOST_AXES,
    ROLES,
    Record,
    RecordedCase,
    Stored,
)

SCHEMA = 1
_DAMAGED = "The file is damaged or was not written by `unilossseg record`: record again."
_Kind = TypeVar("_Kind", dict, list, str, int, bool)  # type: ignore[type-arg]  # of JSON: their contents are checked after
_SHA256 = re.compile(r"[0-9a-f]{64}")
#: Texts of a manifest end up on terminals and pages.
_LONGEST_TEXT = 1000


def strict_json(subject: str, text: str, remedy: str) -> Any:
    """JSON as the standard has it; raises RecordError for anything else."""
    try:
        return standard_json.parse(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(subject, f"it holds no sound JSON ({reason(error)})", "strict JSON", remedy) from None


def dump(record: Record) -> str:
    """The manifest of a record; the same text for the same record, on every machine.

    Raises RecordError for a record that would not be read again.
    """
    text = as_json(record)
    try:
        Manifest(f"the record of {record.target!r}", text)
    except RecordError as error:
        remedy = "No command would read such a record: nothing was written."
        raise RecordError(error.subject, error.received, error.expected, remedy) from None
    return text


def as_json(record: Record) -> str:
    """The same, unchecked."""
    arrays, cases = {}, []
    for case in record.cases:
        for role, array in case.arrays():
            arrays[f"{case.name}/{role}"] = {
                "dtype": array.dtype,
                "shape": list(array.shape),
                "sha256": array.sha256,
            }
        cases.append(
            {
                "name": case.name,
                "arrays": [role for role, _ in case.arrays()],
                "listed": case.listed,
                "repeatable": case.repeatable,
                "changed": list(case.changed),
                "unused": list(case.unused),
            }
        )
    content = {
        "schema": SCHEMA,
        "unilossseg": __version__,
        "target": record.target,
        "kwargs": record.kwargs,
        "ignore_index": record.ignore_index,
        "seed": record.seed,
        # Words of the machine, such as of a variable: none of them keeps a record from being made.
        "environment": {key: text if _is_short(text) else printable(text) for key, text in record.environment.items()},
        "cases": cases,
        "arrays": arrays,
    }
    return json.dumps(content, allow_nan=False)


class Manifest:
    """A manifest's text, checked; `record` puts it together with the arrays."""

    def __init__(self, subject: str, text: str) -> None:
        self.subject = subject
        content = strict_json(f"{subject}, its manifest", text, _DAMAGED)
        if not isinstance(content, dict):
            raise self._bad("the manifest", content, "a JSON object")
        # First of all: a newer manifest may have anything in it.
        schema = self._get(content, "schema", int)
        if schema > SCHEMA:
            raise RecordError(
                subject,
                f"its schema is {schema}",
                f"at most {SCHEMA}, which this release of unilossseg ({__version__}) reads",
                f"It was written by unilossseg {printable(str(content.get('unilossseg', 'of a newer release')))}: upgrade.",
            )
        if schema < 1:
            raise self._bad("schema", schema, "1 or more")
        self.target = self._text(content, "target")
        self.kwargs = self._get(content, "kwargs", dict)
        self.ignore_index = self._get(content, "ignore_index", int)
        if self.ignore_index not in LABELS:
            raise self._bad("ignore_index", self.ignore_index, LABELS_IN_WORDS)
        self.seed = self._get(content, "seed", int)
        self.environment = {
            self._short(key, "a key of environment"): self._short(value, f"environment {key!r}")
            for key, value in self._get(content, "environment", dict).items()
        }
        self.arrays = {name: self._array(name, entry) for name, entry in self._get(content, "arrays", dict).items()}
        self.cases = [self._case(entry) for entry in self._get(content, "cases", list)]
        self._check_together()

    def record(self, arrays: Mapping[str, Stored]) -> Record:
        """The record of this manifest and its arrays."""
        cases = []
        for entry in self.cases:
            own = {role: arrays[f"{entry['name']}/{role}"] for role in entry["arrays"]}
            inputs = {role: own[role] for role in INPUTS if role in own}
            flags = {key: entry[key] for key in ("name", "listed", "repeatable", "changed", "unused")}
            cases.append(
                RecordedCase(
                    inputs=inputs, value=own["value"], gradient=own.get("gradient"), upstream=own.get("upstream"), **flags
                )
            )
        return Record(
            self.target, self.kwargs, self.ignore_index, self.seed, self.environment, tuple(cases), source=self.subject
        )

    def _array(self, name: str, entry: Any) -> tuple[str, tuple[int, ...], str]:
        where = f"array {name!r}"
        case, slash, role = name.partition("/")
        if not slash or role not in ROLES or not CASE_NAME.fullmatch(case):
            raise self._bad("an array's name", name, f"a case's name, a slash and one of {', '.join(ROLES)}")
        if not isinstance(entry, dict):
            raise self._bad(where, entry, "an object")
        dtype, digest = self._get(entry, "dtype", str), self._get(entry, "sha256", str)
        shape = self._get(entry, "shape", list)
        if dtype not in DTYPES:
            raise self._bad(f"the dtype of {where}", dtype, f"one of {', '.join(DTYPES)}")
        if len(shape) > MOST_AXES or not all(type(length) is int and 0 <= length < 2**40 for length in shape):
            expected = f"at most {MOST_AXES} whole numbers, each at least 0 and below 2**40"
            raise self._bad(f"the shape of {where}", shape, expected)
        if not _SHA256.fullmatch(digest):
            raise self._bad(f"the SHA-256 of {where}", digest, "64 hexadecimal digits")
        return dtype, tuple(shape), digest

    def _case(self, entry: Any) -> dict[str, Any]:
        if not isinstance(entry, dict):
            raise self._bad("a case", entry, "an object")
        name = self._get(entry, "name", str)
        if not CASE_NAME.fullmatch(name):
            raise self._bad("a case's name", name, CASE_NAME_IN_WORDS)
        roles = self._get(entry, "arrays", list)
        if not all(isinstance(role, str) for role in roles) or not {"logits", "labels", "value"} <= set(roles) <= set(ROLES):
            raise self._bad(
                f"the arrays of case {name!r}", roles, f"logits, labels, value and perhaps more of {', '.join(ROLES)}"
            )
        found: dict[str, Any] = {"name": name, "arrays": roles}
        for key in ("listed", "repeatable"):
            found[key] = self._get(entry, key, bool)
        for key in ("changed", "unused"):
            names = self._get(entry, key, list)
            if not all(name in INPUTS for name in names):
                raise self._bad(f"{key} of case {name!r}", names, f"some of {', '.join(INPUTS)}")
            found[key] = tuple(names)
        return found

    def _check_together(self) -> None:
        names = [entry["name"] for entry in self.cases]
        if not names or len(set(names)) != len(names):
            raise self._bad("the list of cases", names, "at least one case, each name once")
        wanted = {f"{entry['name']}/{role}" for entry in self.cases for role in entry["arrays"]}
        if wanted != set(self.arrays):
            odd = sorted(wanted ^ set(self.arrays))[0]
            raise self._bad("the list of arrays", f"{odd!r} in one list only", "exactly the arrays of the cases")
        for entry in self.cases:
            self._check_arrays(entry["name"], entry["arrays"], entry["listed"])

    def _check_arrays(self, case: str, roles: list[str], listed: bool) -> None:
        """What all of `compare` relies on, and every loss that was recorded keeps to."""
        shapes = {}
        for role in roles:
            dtype, shapes[role], _ = self.arrays[f"{case}/{role}"]
            if role != "labels" and dtype not in FLOATS:
                raise self._bad(f"the dtype of array '{case}/{role}'", dtype, f"one of {', '.join(FLOATS)}")
            if role in ("logits", "value") and 0 in shapes[role]:
                raise self._bad(f"the shape of array '{case}/{role}'", shapes[role], "at least one number")
        if listed and not shapes["value"]:
            raise self._bad(f"the shape of array '{case}/value'", (), "at least one axis: the value is a list of losses")
        for role, model in (("gradient", "logits"), ("upstream", "value")):
            if role in shapes and shapes[role] != shapes[model]:
                expected = f"{shapes[model]}, as that of the {model}"
                raise self._bad(f"the shape of array '{case}/{role}'", shapes[role], expected)

    def _get(self, content: Mapping[str, Any], key: str, kind: type[_Kind]) -> _Kind:
        value = content.get(key)
        # bool is an int to Python, not to JSON.
        if type(value) is not kind:
            raise self._bad(key, value if key in content else "nothing", f"of the kind {kind.__name__}")
        return value

    def _text(self, content: Mapping[str, Any], key: str) -> str:
        return self._short(self._get(content, key, str), key)

    def _short(self, value: Any, name: str) -> str:
        if not isinstance(value, str) or not _is_short(value):
            raise self._bad(name, value, f"printable text of at most {_LONGEST_TEXT} characters")
        return value

    def _bad(self, name: str, received: Any, expected: str) -> RecordError:
        shown = received if isinstance(received, str) else repr(received)
        return RecordError(f"{self.subject}, its manifest", f"{name} is {shown}", expected, _DAMAGED)


def _is_short(text: str) -> bool:
    return len(text) <= _LONGEST_TEXT and text.isprintable()
