"""What changed between two runs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unilossseg.conformance.reports import less_checked
from unilossseg.conformance.reports.less_checked import Less
from unilossseg.conformance.reports.model import Part, ResultLine, StoredRun
from unilossseg.conformance.verdict import CONFORM, EXPECTED, UNSUPPORTED

SCHEMA = 1
#: What differs between two runs' workers and may explain the rest.
_VERSIONS = (
    "version",
    "distribution",
    "revision",
    "python",
    "numpy",
    "array_api_compat",
    "unilossseg",
    "sources",
    "loop_sources",
    "threads",
    "device",
    "device_name",
)


@dataclass(frozen=True)
class Growth:
    """An error of a result that conforms in both runs and has become much larger."""

    result: ResultLine
    quantity: str
    before: Part
    after: Part
    #: How much it grew; infinite where it was exactly 0.
    factor: float


@dataclass(frozen=True)
class Difference:
    """Two runs, and their results sorted by what became of them."""

    before: StoredRun
    after: StoredRun
    #: Bad now: those that were not bad before, and those that were not there.
    failures: list[ResultLine]
    fixed: list[ResultLine]
    still_bad: list[ResultLine]
    #: Checked before and declared unsupported now: a skip is no pass.
    given_up: list[ResultLine]
    #: Conformed before and fails now, as the capability table declares: a declaration makes no number right.
    declared: list[ResultLine]
    #: Declared unsupported before and checked now.
    taken_up: list[ResultLine]
    grown: list[Growth]
    #: Of what both runs have, what B holds less strictly: that it conforms says less than before.
    less: list[Less]
    added: list[ResultLine]
    removed: list[ResultLine]
    troubles: list[str]
    common: int

    @property
    def regressed(self) -> bool:
        """Whether anything is worse than before. What was removed is told and is no regression by itself."""
        return bool(self.failures or self.given_up or self.declared or self.grown or self.less or self.troubles)

    def versions(self) -> list[tuple[str, str, str]]:
        """What changed in the environment: what, before, after."""
        was, now = self.before.header.version, self.after.header.version
        found = [("unilossseg", was, now)] if was != now else []
        for name in self.after.backends:
            one, other = (run.header.backends.get(name) or {} for run in (self.before, self.after))
            found += [
                (f"{name}: {key}", str(one.get(key, "")), str(other.get(key, "")))
                for key in _VERSIONS
                if name in self.before.backends and one.get(key) != other.get(key)
            ]
        return found


def compare(before: StoredRun, after: StoredRun, factor: float = 2.0, floor: float = 0.5) -> Difference:
    """Sorts the results of two runs.

    Parameters
    ----------
    factor, floor
        An error has grown where it is more than `factor` times what it was, and more than `floor` of what is allowed: far
        below the bound a rounding error more or less is a large factor and no matter. Where run B allows more than run A,
        it is what run A allowed: a larger bound must not hide the error that it makes room for.
    """
    old = {result.key: result for result in before.results}
    new = {result.key: result for result in after.results}
    pairs = [(old[key], result) for key, result in new.items() if key in old]
    added = [result for key, result in new.items() if key not in old]
    return Difference(
        before=before,
        after=after,
        failures=[two for one, two in pairs if two.is_bad and not one.is_bad] + [two for two in added if two.is_bad],
        fixed=[two for one, two in pairs if (one.is_bad or one.status == EXPECTED) and two.status == CONFORM],
        still_bad=[two for one, two in pairs if one.is_bad and (two.is_bad or two.status == EXPECTED)],
        given_up=[two for one, two in pairs if one.status != UNSUPPORTED and two.status == UNSUPPORTED],
        declared=[two for one, two in pairs if one.status == CONFORM and two.status == EXPECTED],
        taken_up=[two for one, two in pairs if one.status == UNSUPPORTED and two.status in (CONFORM, EXPECTED)],
        grown=[growth for one, two in pairs for growth in _growths(one, two, factor, floor)],
        less=less_checked.found(pairs),
        added=added,
        removed=[result for key, result in old.items() if key not in new],
        troubles=[trouble for trouble in after.troubles if trouble not in before.troubles],
        common=len(pairs),
    )


def _growths(one: ResultLine, two: ResultLine, factor: float, floor: float) -> list[Growth]:
    if not one.status == two.status == CONFORM:
        return []
    grown = []
    for (name, was), (_, now) in zip(one.quantities, two.quantities, strict=True):
        if was is None or now is None:
            continue
        room = less_checked.room(two.case, name, was, now)
        allowed = min(now.bound, was.bound * room) if was.bound else now.bound
        # Where entries have bounds of their own, and the worst is another one now, the shares are what can be compared.
        equal = was.error if less_checked.one_bound(two.case, name, was, now) else was.ratio * allowed
        if now.error > floor * allowed and now.error > factor * equal:
            grown.append(Growth(two, name, was, now, now.error / equal if equal else math.inf))
    return grown


def to_json(difference: Difference, names: Sequence[str]) -> str:
    """The difference as JSON."""
    runs = zip(("before", "after"), names, (difference.before, difference.after), strict=True)
    content = {
        "schema": SCHEMA,
        "regression": difference.regressed,
        **{key: _run(name, run) for key, name, run in runs},
        "common_results": difference.common,
        "new_failures": [_result(result) for result in difference.failures],
        "fixed": [_result(result) for result in difference.fixed],
        "still_failing": [_result(result) for result in difference.still_bad],
        "no_longer_supported": [_result(result) for result in difference.given_up],
        "fails_as_declared": [_result(result) for result in difference.declared],
        "newly_supported": [_result(result) for result in difference.taken_up],
        "grown": [_growth(growth) for growth in difference.grown],
        "less_checked": [_less(less) for less in difference.less],
        "added": [_result(result) for result in difference.added],
        "removed": [_result(result) for result in difference.removed],
        "new_troubles": difference.troubles,
        "environment": [{"what": what, "before": one, "after": other} for what, one, other in difference.versions()],
    }
    # In ASCII, which any terminal and any pipe takes as it is.
    return json.dumps(content, indent=1, allow_nan=False)


def _run(name: str, run: StoredRun) -> dict[str, Any]:
    return {
        "file": name,
        "started": run.header.started.isoformat(),
        "unilossseg": run.header.version,
        "results": len(run.results),
        "conforms": run.conforms,
    }


def _result(result: ResultLine) -> dict[str, Any]:
    return {
        "case": result.case.id,
        "backend": result.backend,
        "mode": result.mode,
        "status": result.status,
        "message": result.message,
        "repeat": result.repeat,
    }


def _growth(growth: Growth) -> dict[str, Any]:
    parts = growth.before, growth.after
    return {
        **_result(growth.result),
        "quantity": growth.quantity,
        "ratio": [part.ratio for part in parts],
        "error": [part.error for part in parts],
        "bound": [_number(part.bound) for part in parts],
        # An error that was exactly 0 grew by no factor.
        "factor": growth.factor if math.isfinite(growth.factor) else None,
    }


def _less(less: Less) -> dict[str, Any]:
    before, after = (_number(x) if isinstance(x, float) else x for x in (less.before, less.after))
    return {**_result(less.result), "what": less.what, "quantity": less.quantity, "before": before, "after": after}


def _number(number: float) -> float | str:
    """JSON has no infinity: it is written as a word, as in a record."""
    return number if math.isfinite(number) else str(number)


#: What a table shows: the heading, the member, whether it is a regression.
SECTIONS: tuple[tuple[str, str, bool], ...] = (
    ("new failures", "failures", True),
    ("no longer supported", "given_up", True),
    ("fail as declared now", "declared", True),
    ("errors that grew", "grown", True),
    ("less is checked", "less", True),
    ("new troubles of the run", "troubles", True),
    ("fixed", "fixed", False),
    ("failing in both", "still_bad", False),
    ("newly supported", "taken_up", False),
    ("added results", "added", False),
    ("removed results", "removed", False),
)


def line(item: ResultLine | Growth | Less | str) -> str:
    """One of a section's items in words, on one line: no name in a record can begin another."""
    return " ".join(_words(item).split())


def _words(item: ResultLine | Growth | Less | str) -> str:
    if isinstance(item, str):
        return item
    if isinstance(item, Growth):
        return f"{item.result.title}: {item.quantity}'s error from {_sizes(item.before, item.after)}"
    if isinstance(item, Less):
        return f"{item.result.case.id if item.what == 'case' else item.result.title}: {item.words}"
    return f"{item.title}: {item.status}" + (f": {item.first_line}" if item.is_bad or item.status == EXPECTED else "")


def _sizes(was: Part, now: Part) -> str:
    if was.bound == now.bound:
        return f"{was.ratio:.3g} to {now.ratio:.3g} of what is allowed"
    # Shares of two bounds say nothing about the errors.
    return f"{was.error:.3g} to {now.error:.3g} of its scale; allowed was {was.bound:.3g} and is {now.bound:.3g}"
