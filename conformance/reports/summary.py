"""Results taken together: what the terminal, the page and the Markdown summary all show."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from unilossseg.conformance.environment import TITLES
from unilossseg.conformance.reports.model import CaseLine, ResultLine, StoredRun, worst
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, EXPECTED, UNSUPPORTED

#: The status of a group is the gravest of its members.
_GRAVEST_FIRST = (ERRORED, DIFFERS, CONFORM, EXPECTED, UNSUPPORTED)
SYMBOLS = {CONFORM: "✓", DIFFERS: "✗", ERRORED: "!", UNSUPPORTED: "○", EXPECTED: "x"}
#: What stands for a warning: the result conforms.
WARNED = "▲"


@dataclass(frozen=True)
class Cell:
    """Some results taken together."""

    status: str
    conforming: int
    checked: int
    ratio: str
    warned: int = 0

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
        warned = f" · {WARNED} {self.warned}" if self.warned else ""
        return f"{self.conforming}{share}" + (f" · {self.ratio}" if self.ratio else "") + warned


@dataclass(frozen=True)
class Failure:
    """What is told together of one backend: results with the same message, or of one loss."""

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
        warned=sum(bool(result.warning) and result.status == CONFORM for result in results),
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


def warnings_of(run: StoredRun) -> list[Failure]:
    """What conforms with errors that are larger than the native ones: of a loss on a backend, the most conspicuous first."""
    alike: dict[tuple[str, str], list[ResultLine]] = defaultdict(list)
    for result in sorted(run.warned, key=lambda result: -(result.standing or 0.0)):
        alike[result.backend, result.case.loss].append(result)
    return [Failure(backend, "warning", found[0].warning, found) for (backend, _), found in alike.items()]


def natives_of(run: StoredRun) -> str:
    """How the errors stand to the native ones, in a sentence; empty where none was compared."""
    compared = [result for result in run.results if result.native]
    if not compared:
        return ""
    functionals = sum("." in result.native for result in compared)
    within = sum(not result.warning and result.status == CONFORM for result in compared)
    return (
        f"Compared with a native implementation: {len(compared)} results, {functionals} of them with a functional of their "
        f"framework, the others with the plain formula; {within} are as near to the reference or nearer, but for a few eps, "
        f"and {len(run.warned)} conform with a warning."
    )


def parameters_of(case: CaseLine) -> str:
    """All but the variant, which the id names."""
    shown = {name: value for name, value in case.parameters.items() if name != "variant"}
    return ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in shown.items())


def environment_of(run: StoredRun) -> list[tuple[str, list[str]]]:
    """The workers' descriptions of themselves as rows of a table, one column a backend."""
    rows = []
    for key, title in TITLES.items():
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
