"""What run B checks less strictly than run A did: a result that still conforms then says less."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from unilossseg.conformance.protocol import PLAIN_FORMULA
from unilossseg.conformance.reports.model import CaseLine, Part, ResultLine
from unilossseg.conformance.verdict import CONFORM

#: A record keeps six digits: what is larger by less than this is the same.
_DIGITS = 1 + 1e-4
Pair = tuple[ResultLine, ResultLine]


@dataclass(frozen=True)
class Less:
    """One thing that is checked less."""

    #: Of run B; where a case is another, the first of its results.
    result: ResultLine
    #: 'bound', 'native factor', 'native allowance', 'part', 'native' or 'case'.
    what: str
    #: Of which quantity; of a case, which of its fields.
    quantity: str
    before: float | str
    after: float | str

    @property
    def words(self) -> str:
        """The same in words."""
        before, after = (f"{x:.3g}" if isinstance(x, float) else _cut(x) for x in (self.before, self.after))
        whose = f"{self.quantity}'s"
        return {
            "bound": f"{whose} error may be {after} of its scale, before {before}",
            "native factor": f"{whose} errors may be {after} times the native ones, before {before}",
            "native allowance": f"{whose} errors may exceed the native ones by {after} of its scale, before {before}",
            "part": f"the {self.quantity} is not compared any more",
            "native": f"{whose} errors are compared with {after or 'nothing native'}, before with {before}",
            "case": f"another case of that name: {self.quantity} {before} -> {after}",
        }[self.what]


def found(pairs: Iterable[Pair]) -> list[Less]:
    """All of it, of the results that both runs have."""
    changes: dict[str, list[Less]] = {}
    less = []
    for one, two in pairs:
        if two.case.id not in changes:
            changes[two.case.id] = list(_of_the_case(one, two))
            less += changes[two.case.id]
        for (quantity, was), (_, now) in zip(one.quantities, two.quantities, strict=True):
            if was is None:
                continue
            if now is not None:
                # The bounds of two cases that differ have nothing to do with each other.
                less += [] if changes[two.case.id] else _of_the_bounds(two, quantity, was, now)
            elif two.status == CONFORM:  # what fails has no numbers, for another reason
                less.append(Less(two, "part", quantity, "compared", "not compared"))
            if now is not None and two.status == CONFORM:
                before, after = _native(one, was), _native(two, now)
                if _rank(after) < _rank(before):
                    less.append(Less(two, "native", quantity, before, after))
    return less


def one_bound(case: CaseLine, quantity: str, was: Part, now: Part) -> bool:
    """Whether one run has one bound for both errors: all entries of a case may have the same, or both are of one entry."""
    everywhere = quantity == "value" or (case.origin == "generated" and case.dtype in ("float32", "float64"))
    return everywhere or was.index == now.index


def room(case: CaseLine, quantity: str, was: Part, now: Part) -> float:
    """How many times as much as at the entry of run A's error run A may have allowed at the entry of run B's."""
    if one_bound(case, quantity, was, now):
        return 1.0
    size = abs(was.expected)
    if case.origin != "generated" or not 0 < size < math.inf:
        # More is allowed at recorded pixels whose order float32 cannot tell, and no record says which they are.
        return math.inf
    # In half precision an entry's own rounding is allowed: the bound grows with the entry, and never faster.
    return max(1.0, abs(now.expected) / size)


def _of_the_case(one: ResultLine, two: ResultLine) -> Iterator[Less]:
    was, now = _told(one.case), _told(two.case)
    return (Less(two, "case", name, was[name], now[name]) for name in was if was[name] != now[name])


def _told(case: CaseLine) -> dict[str, str]:
    """What a case is, as texts; not the words that say what it is there for."""
    return {
        "loss": case.loss,
        "dtype": case.dtype,
        "parameters": json.dumps(case.parameters, sort_keys=True),
        "inputs": "; ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in sorted(case.inputs.items())),
        "layout": case.layout,
        "chunk": str(case.chunk),
        "origin": case.origin,
    }


def _of_the_bounds(two: ResultLine, quantity: str, was: Part, now: Part) -> Iterator[Less]:
    limits = [("bound", was.bound, now.bound, room(two.case, quantity, was, now))]
    if was.native is not None and now.native is not None:
        limits += [
            ("native factor", was.native.factor, now.native.factor, 1.0),
            ("native allowance", was.native.allowance, now.native.allowance, 1.0),
        ]
    return (Less(two, what, quantity, old, new) for what, old, new, times in limits if new > old * times * _DIGITS)


def _native(result: ResultLine, part: Part) -> str:
    return "" if part.native is None else result.native


def _rank(native: str) -> int:
    """A framework's own functional is another implementation; its autograd through the formula shares the formula."""
    return 0 if not native else 1 if native == PLAIN_FORMULA else 2


def _cut(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:97]}..."
