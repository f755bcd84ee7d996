"""Results taken together: what the terminal, the page and the Markdown summary all show."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from unilossseg.conformance.reports.model import CaseLine, ResultLine, StoredRun, worst
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, EXPECTED, UNSUPPORTED

#: The status of a group is the gravest of its members.
_GRAVEST_FIRST = (ERRORED, DIFFERS, CONFORM, EXPECTED, UNSUPPORTED)
SYMBOLS = {CONFORM: "✓", DIFFERS: "✗", ERRORED: "!", UNSUPPORTED: "○", EXPECTED: "x"}
_ENVIRONMENT = (
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


@dataclass(frozen=True)
class Cell:
    """Some results taken together."""

    status: str
    conforming: int
    checked: int
    ratio: str

    @property
    def symbol(self) -> str:
        """What tells the status without a colour."""
        return SYMBOLS[self.status]

    @property
    def words(self) -> str:
        """How many conform, and the worst error."""
        if not self.checked:
            return "unsupported"
        share = "" if self.conforming == self.checked else f" of {self.checked}"
        return f"{self.conforming}{share}" + (f" · {self.ratio}" if self.ratio else "")


@dataclass(frozen=True)
class Failure:
    """What does not conform on one backend: all results with the same message."""

    backend: str
    status: str
    message: str
    results: list[ResultLine]

    @property
    def title(self) -> str:
        """The first of the results in words."""
        first = self.results[0].case.id
        modes = [result.mode for result in self.results if result.case.id == first]
        more = len({result.case.id for result in self.results}) - 1
        others = f", and {more} more case{'' if more == 1 else 's'}" if more else ""
        return f"{first} ({', '.join(modes)}){others}"


def cell(results: Sequence[ResultLine]) -> Cell:
    """Results as one cell of a table."""
    found = {result.status for result in results}
    checked = [result for result in results if result.status != UNSUPPORTED]
    status = next((status for status in _GRAVEST_FIRST if status in found), UNSUPPORTED)
    ratio = worst(results)
    if status in (ERRORED, DIFFERS) and ratio is not None and ratio <= 1:
        ratio = None  # an exact check failed: no number says how badly
    return Cell(
        status=status,
        conforming=sum(result.status == CONFORM for result in checked),
        checked=len(checked),
        ratio=short(ratio),
    )


def short(ratio: float | None) -> str:
    """A share of a bound as short as it can be read."""
    return "" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}" if ratio < 1e4 else f"{ratio:.0e}"


def grouped(results: Sequence[ResultLine], *keys: str) -> dict[tuple[str, ...], list[ResultLine]]:
    """Results by 'backend', and by their case's 'loss' or 'dtype'."""
    found: dict[tuple[str, ...], list[ResultLine]] = defaultdict(list)
    for result in results:
        found[tuple(str(getattr(result if key == "backend" else result.case, key)) for key in keys)].append(result)
    return found


def failures_of(run: StoredRun) -> list[Failure]:
    """What does not conform; results that fail alike in one entry."""
    alike: dict[tuple[str, str, str], list[ResultLine]] = defaultdict(list)
    for result in run.bad:
        alike[result.backend, result.status, result.message].append(result)
    return [Failure(*key, found) for key, found in alike.items()]


def parameters_of(case: CaseLine) -> str:
    """All but the variant, which the id names."""
    shown = {name: value for name, value in case.parameters.items() if name != "variant"}
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in shown.items())


def environment_of(run: StoredRun) -> list[tuple[str, list[str]]]:
    """The workers' descriptions of themselves as rows of a table, one column a backend."""
    rows = []
    for key, title in _ENVIRONMENT:
        row = []
        for said in run.header.backends.values():
            value = (said or {}).get(key)
            row.append(", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value))
        if any(row):
            rows.append((title, row))
    return rows


def heading(run: StoredRun) -> str:
    """Whether a run conforms, in a sentence."""
    return "Every result conforms." if run.conforms else "Not every result conforms."
