"""What the page's script draws: the results as JSON that is as small as it gets, since it is all of the page that grows."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import shlex
from collections.abc import Hashable
from typing import Any

from unilossseg.conformance.errormaps import EDGES, ErrorMap
from unilossseg.conformance.ratios import Ratio
from unilossseg.conformance.reports.model import CaseLine, Part, ResultLine, StoredRun
from unilossseg.conformance.reports.summary import grouped, parameters_of
from unilossseg.conformance.verdict import STATUSES

#: Maps and messages stop here; the record has them all, and a run that fails everywhere must not make a page of any size.
MOST_MAPS = 600
LONGEST_MESSAGE = 2000
MOST_MESSAGE_CHARACTERS = 600_000


class _Pool:
    """Texts that many lines share, each kept once."""

    def __init__(self, budget: int | None = None) -> None:
        self._places: dict[Hashable, int] = {}
        self.items: list[str] = []
        self._left = budget

    def place(self, text: str) -> int:
        """Its number; beyond the budget that of a note."""
        if self._left is not None and text not in self._places:
            self._left -= len(text)
            if self._left < 0:
                text = "(left out of this page: see results.jsonl)"
        if text not in self._places:
            self._places[text] = len(self.items)
            self.items.append(text)
        return self._places[text]


def embedded(run: StoredRun) -> str:
    """JSON that can stand inside a script element: no text of a record can end it."""
    text = json.dumps(_data(run), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _data(run: StoredRun) -> dict[str, Any]:
    pools = {
        name: _Pool() for name in ("losses", "dtypes", "modes", "conditions", "parameters", "inputs", "links", "natives")
    }
    for name in ("messages", "warnings"):
        pools[name] = _Pool(MOST_MESSAGE_CHARACTERS)
    maps = {key: number for number, key in enumerate(_mapped(run))}
    by_case: dict[str, list[list[Any]]] = {case.id: [] for case in run.cases}
    places = {name: place for place, name in enumerate(run.backends)}
    for result in run.results:
        by_case[result.case.id].append(_result(result, places, pools, maps))
    cases = [[*_case(case, pools), by_case[case.id]] for case in run.cases]
    return {
        "backends": run.backends,
        "repeated": [_end_of_command(run, name) for name in run.backends],
        "statuses": list(STATUSES),
        "edges": list(EDGES),
        **{name: pool.items for name, pool in pools.items()},
        "maps": [_maps(result) for result in run.results if result.key in maps],
        "cases": cases,
    }


def _end_of_command(run: StoredRun, backend: str) -> str:
    """What follows `--backend` in the command that repeats a case of it: one worker and one device computed them all."""
    said = next((result.repeat for result in run.results if result.backend == backend), "")
    with contextlib.suppress(ValueError):
        # Quoted anew: a record may come from anywhere.
        words = shlex.split(said)
        options = [word for name in ("--worker", "--device") for word in _option(words, name)]
        return shlex.join([backend, *options])
    return shlex.quote(backend)


def _option(words: list[str], name: str) -> list[str]:
    return [name, words[words.index(name) + 1]] if name in words[:-1] else []


def _mapped(run: StoredRun) -> list[tuple[str, str, str]]:
    """The results whose maps the page shows, in their order: the first of each loss on each backend, then the second, ..."""
    queues = grouped([result for result in run.results if result.errors], "loss", "backend").values()
    turns = itertools.chain.from_iterable(itertools.zip_longest(*queues))
    chosen = {result.key for result in itertools.islice(filter(None, turns), MOST_MAPS)}
    return [result.key for result in run.results if result.key in chosen]


def _case(case: CaseLine, pools: dict[str, _Pool]) -> list[Any]:
    origin = case.condition + ("; recorded from PaddleSeg" if case.origin == "recorded" else "")
    layout = "" if case.layout == "contiguous" else f"; {case.layout.replace('_', '-')} memory"
    chunk = f"; chunks of {case.chunk} elements" if case.chunk else ""
    return [
        # The loss is in the pool of losses: most ids begin with it.
        case.id.removeprefix(f"{case.loss}/"),
        int(case.id.startswith(f"{case.loss}/")),
        pools["losses"].place(case.loss),
        pools["dtypes"].place(case.dtype),
        pools["conditions"].place(f"{origin}{layout}{chunk}"),
        pools["parameters"].place(parameters_of(case)),
        pools["inputs"].place(case.inputs_in_words),
    ]


def _digits(result: ResultLine) -> int:
    """As many as tell any two numbers of its dtype apart."""
    return 17 if result.case.dtype == "float64" else 9


def _result(
    result: ResultLine, places: dict[str, int], pools: dict[str, _Pool], maps: dict[tuple[str, str, str], int]
) -> list[Any]:
    digits = _digits(result)
    row: list[Any] = [
        places[result.backend],
        pools["modes"].place(result.mode),
        STATUSES.index(result.status),
        _part(result.value, digits),
        _part(result.gradient, digits),
        round(result.seconds * 1000, 2),
        pools["natives"].place(result.native),
        pools["warnings"].place(result.warning[:LONGEST_MESSAGE]),
    ]
    if result.message or result.link:
        row += [pools["messages"].place(result.message[:LONGEST_MESSAGE]), pools["links"].place(result.link)]
        if result.errors:
            row.append(maps.get(result.key, -1))
    return row


def _maps(result: ResultLine) -> dict[str, list[Any]]:
    return {name: _map(found, _digits(result)) for name, found in result.errors.items()}


def _part(part: Part | None, digits: int) -> Any:
    if part is None:
        return 0
    numbers = [_number(part.error, 3), _number(part.bound, 3), _number(part.got, digits), _number(part.expected, digits)]
    return [*numbers, _number(part.rtol, 3), _number(part.atol, 3), part.ulp, _ratio(part.native), *part.index]


def _ratio(found: Ratio | None) -> Any:
    return 0 if found is None else [_number(found.rmse_ratio, 3), _number(found.largest_ratio, 3)]


def _map(found: ErrorMap, digits: int) -> list[Any]:
    return [
        list(found.index),
        _number(found.got, digits),
        _number(found.expected, digits),
        list(found.counts),
        list(found.axes),
        list(found.start),
        [[_number(share, 3) for share in row] for row in found.shares],
    ]


def _number(x: float, digits: int) -> float | int | str:
    """A number of so many digits; JSON has no others than finite ones."""
    if not math.isfinite(x):
        return str(x)
    short = float(f"{x:.{digits}g}")
    return int(short) if short == int(short) and abs(short) < 1e15 else short
