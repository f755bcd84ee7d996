"""A comparison as JSON and as one HTML page that asks nothing of the network."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from unilossseg import __version__
from unilossseg.conformance.environment import TITLES
from unilossseg.conformance.records.comparison import Part, Verdict, compare
from unilossseg.conformance.records.diagnosis import Explanation, diagnose
from unilossseg.conformance.records.record import Record
from unilossseg.conformance.records.thresholds import TABLE, THRESHOLDS, Allowance

SCHEMA = 1


@dataclass(frozen=True)
class Comparison:
    """Two records, the verdicts and what explains them."""

    reference: Record
    candidate: Record
    verdicts: list[Verdict]
    explanations: list[Explanation]
    allowance: Allowance = TABLE

    @classmethod
    def of(cls, reference: Record, candidate: Record, allowance: Allowance = TABLE) -> Comparison:
        """Compares and, where something differs, explains."""
        verdicts = compare(reference, candidate, allowance)
        return cls(reference, candidate, verdicts, diagnose(reference, candidate, verdicts), allowance)

    @property
    def same(self) -> bool:
        """Whether nothing changed in any case."""
        return all(verdict.same for verdict in self.verdicts)

    @property
    def summary(self) -> str:
        """What the terminal, the page and the JSON say of it, claiming no agreement of what was not compared."""
        total, different = len(self.verdicts), sum(not verdict.same for verdict in self.verdicts)
        if different:
            return f"different: {different} of {_cases(total)}"
        values = sum(verdict.value.compared for verdict in self.verdicts)
        gradients = sum(verdict.gradient is not None and verdict.gradient.compared for verdict in self.verdicts)
        finite = all(part.compared for verdict in self.verdicts for part in verdict.parts)
        head = "nothing changed" if finite else "nothing changed, as far as there were finite numbers to compare"
        # The edge_logits may be trained as well, and their gradient is in no record.
        some = any("edge_logits" in verdict.reference.inputs for verdict in self.verdicts)
        by = " by the logits" if some else ""
        if values == gradients == total:
            return f"{head}: values and gradients{by} agree in {_cases(total)}"
        if not values and not gradients:
            return f"{head}: there were none in {_cases(total)}"
        return f"{head}: {_agreement('value', '', values, total)}; {_agreement('gradient', by, gradients, total)}"


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"


def _agreement(quantity: str, by: str, count: int, total: int) -> str:
    if not count:
        return f"no {quantity} was compared"
    where = _cases(total) if count == total else f"the {count} of {_cases(total)} where they were compared"
    return f"{quantity}s{by} agree in {where}"


def to_json(comparison: Comparison) -> str:
    """The comparison as JSON: infinities and NaN, which JSON lacks, are words."""
    content = {
        "schema": SCHEMA,
        "unilossseg": __version__,
        "same": comparison.same,
        "summary": comparison.summary,
        "allowed_by_the_user": {"value": comparison.allowance.value, "gradient": comparison.allowance.gradient},
        "reference": _record(comparison.reference),
        "candidate": _record(comparison.candidate),
        "cases": [_case(verdict) for verdict in comparison.verdicts],
        "explanations": [
            {
                "cause": explanation.cause,
                "certainty": explanation.certainty,
                "score": round(explanation.score, 4),
                "title": explanation.title,
                "evidence": explanation.evidence,
                "remedy": explanation.remedy,
                "cases": list(explanation.cases),
            }
            for explanation in comparison.explanations
        ],
    }
    return json.dumps(_plain(content), allow_nan=False, indent=2) + "\n"


def _record(record: Record) -> dict[str, Any]:
    return {
        "file": record.source,
        "target": record.target,
        "kwargs": record.kwargs,
        "ignore_index": record.ignore_index,
        "environment": record.environment,
    }


def _case(verdict: Verdict) -> dict[str, Any]:
    inputs = verdict.reference.inputs
    return {
        "name": verdict.name,
        "status": verdict.status,
        "inputs": {name: {"dtype": array.dtype, "shape": list(array.shape)} for name, array in inputs.items()},
        "value": _part(verdict.value),
        "gradient": None if verdict.gradient is None else _part(verdict.gradient),
        "notes": list(verdict.notes),
    }


def _part(part: Part) -> dict[str, Any]:
    if part.structure:
        return {"same": False, "structure": part.structure}
    if not part.compared:
        # No error of 0, and no place of the worst entry, where there was no number.
        return {"same": part.same, "compared": False}
    return {
        "same": part.same,
        "compared": True,
        "error": part.error,
        "bound": part.bound,
        "scale": part.scale,
        "rtol_needed": part.rtol,
        "atol_needed": part.atol,
        "ulp": part.ulp,
        "worst": {"index": list(part.index), "reference": part.reference, "candidate": part.candidate},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def render(comparison: Comparison) -> str:
    """The page."""
    records = (comparison.reference, comparison.candidate)
    told = [(title, [record.environment.get(key, "") for record in records]) for key, title in TITLES.items()]
    environment = [(title, row) for title, row in told if any(row)]
    dtypes = {stored.dtype for verdict in comparison.verdicts for _, stored in verdict.reference.arrays()}
    page: str = (
        _environment()
        .get_template("compare.html.j2")
        .render(
            comparison=comparison,
            version=__version__,
            kwargs=[json.dumps(record.kwargs) for record in records],
            environment=environment,
            thresholds={name: threshold for name, threshold in THRESHOLDS.items() if name in dtypes},
        )
    )
    return page


def inputs_of(verdict: Verdict) -> str:
    """A case's inputs in words."""
    return ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in verdict.reference.inputs.items())


def number(value: float | None) -> str:
    """A number as short as it can be read."""
    return "" if value is None else f"{value:.3g}"


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("unilossseg.conformance"),
        # The template's name does not end in .html: whatever comes out of a record is text, never markup.
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, inputs_of=inputs_of)
    return environment
