"""Losses of unilossseg that reproduce a record: with one at hand, a suspected mistake can be made on purpose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

import unilossseg
from unilossseg.conformance.records.evidence import Evidence, Floats, Prediction, Result, Side, distance, explained
from unilossseg.conformance.records.hypothesis import Score

#: How near a model must be: nearer than any cause would leave it, and room for other epsilons and half precision.
NEAR = {"float64": 1e-4, "float32": 1e-3, "float16": 2e-2, "bfloat16": 5e-2}
#: What is tried where the target's own name says nothing.
_COMMON: tuple[tuple[str, dict[str, Any]], ...] = (
    ("CrossEntropyLoss", {}),
    ("BCELoss", {}),
    ("DiceLoss", {}),
    ("DiceLoss", {"smooth": 1.0}),
    ("LovaszSoftmaxLoss", {}),
    ("LovaszHingeLoss", {}),
)


@dataclass(frozen=True)
class Model:
    """A loss with parameters, computed in float64."""

    loss: Any
    #: What it gives with a case's own inputs: every suspicion is measured against that.
    _results: dict[Evidence, Result | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The class name."""
        return type(self.loss).__name__

    def with_parameters(self, **parameters: Any) -> Model | None:
        """The same loss with other parameters; None where it cannot have them."""
        try:
            return Model(replace(self.loss, **parameters))
        # They come out of a record and may be anything.
        except Exception:
            return None

    def stated(self, given: Side, other: Side) -> dict[str, Any]:
        """The arguments of the other side that differ from the given side's, where both are this class."""
        if not given.class_name == other.class_name == self.name:
            return {}
        defaults = {field.name: field.default for field in fields(self.loss) if field.init}
        values = {
            name: [side.kwargs.get(name, default) for side in (given, other)]
            for name, default in defaults.items()
            if name in given.kwargs or name in other.kwargs
        }
        return {name: last for name, (first, last) in values.items() if first != last and last is not MISSING}

    def has(self, parameter: str) -> bool:
        """Whether the loss has a parameter of that name."""
        return parameter in self.loss.__dataclass_fields__

    def is_of(self, side: Side, parameters: Iterable[str]) -> bool:
        """Whether a record says that its loss has these parameters, and does not only give numbers that are like it."""
        own = side.class_name == self.name and side.target.partition(".")[0].partition(":")[0] == "unilossseg"
        defaults = {field.name: field.default for field in fields(self.loss) if own and field.init}
        told = {**defaults, **side.kwargs}
        return all(name in told and _alike(told[name], getattr(self.loss, name)) for name in parameters)

    def result(
        self, evidence: Evidence, *, logits: Floats | None = None, labels: npt.NDArray[np.int64] | None = None
    ) -> Result | None:
        """Value and gradient for a case, with other logits or labels if they are given; None where it cannot take them."""
        if logits is not None or labels is not None:
            return self._computed(evidence, logits, labels)
        if evidence not in self._results:
            self._results[evidence] = self._computed(evidence, None, None)
        return self._results[evidence]

    def _computed(self, evidence: Evidence, logits: Floats | None, labels: npt.NDArray[np.int64] | None) -> Result | None:
        inputs = evidence.inputs
        given: Any = evidence.logits if logits is None else logits
        if self.loss.name in ("EdgeAttentionLoss", "OhemEdgeAttentionLoss"):
            if "edge_logits" not in inputs:
                return None
            given = (given, inputs["edge_logits"])
        extras = {name: inputs[name] for name in self.loss.call_inputs if name in inputs}
        compute = unilossseg.value_and_grad(self.loss)
        try:
            value, gradient = compute(
                given, inputs["labels"] if labels is None else labels, upstream=evidence.upstream, **extras
            )
        # Parameters and labels of a record may be anything, and overflow as well.
        except Exception:
            return None
        return Result(np.asarray(np.stack(value) if isinstance(value, list) else value, dtype=np.float64), gradient)

    def share(self, evidence: Evidence) -> float:
        """How much of the difference the loss itself accounts for, with no mistake: all of it if that is only rounding."""
        found = self.result(evidence)
        return 0.0 if found is None else explained(evidence, Prediction(found.value, found.gradient))

    def improved_by(self, score: Score) -> Score:
        """The score, if the mistake brings the loss nearer: one that changes nothing would explain rounding, too."""

        def improving(case: Evidence) -> float | None:
            found = score(case)
            if found is None or case.same:
                return found
            right = self.share(case)
            return found if found > right + (1 - right) / 2 else 0.0

        return improving

    def reproduces(self, evidence: Evidence) -> bool:
        """Whether it gives what the record gives."""
        found = self.result(evidence)
        if found is None:
            return False
        near = NEAR[evidence.dtype]
        given = evidence.given
        # A value is a number of order one at the least: relative to itself a loss near zero would never be near.
        if distance(found.value, given.value, max(1.0, float(np.abs(given.value).max(initial=0)))) > near:
            return False
        return given.gradient is None or distance(found.gradient, given.gradient) <= near


def _alike(told: Any, held: Any) -> bool:
    """Whether an argument of a record is what a loss made of it: lists are kept as tuples."""
    return bool((tuple(told) if isinstance(told, list) else told) == held)


def fitting(side: Side, evidence: Sequence[Evidence]) -> Model | None:
    """A loss that reproduces what this side gives in every case, if one is known."""
    for name, kwargs in _suspects(side):
        model = _built(name, kwargs, evidence[0].ignore_index)
        if model is not None and all(model.reproduces(case) for case in evidence):
            return model
    return None


def common_models(ignore_index: int) -> list[Model]:
    """The losses that are tried where nothing is named."""
    built = [_built(name, kwargs, ignore_index) for name, kwargs in _COMMON]
    return [model for model in built if model is not None]


def _suspects(side: Side) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if side.class_name in unilossseg.LOSSES:
        yield side.class_name, side.kwargs
        yield side.class_name, {}
    # What a loss of one's own is told may mean the same here; if that does not fit, the weights alone.
    for name, kwargs in _COMMON if side.kwargs else ():
        yield name, {**kwargs, **side.kwargs}
    for name, kwargs in _COMMON:
        if "weight" in side.kwargs:
            yield name, {**kwargs, "weight": side.kwargs["weight"]}
        yield name, kwargs


def _built(name: str, kwargs: Mapping[str, Any], ignore_index: int) -> Model | None:
    kind = unilossseg.LOSSES[name]
    known = {field.name for field in fields(kind)} if is_dataclass(kind) else set()
    # Evidence has the classes on axis 1, whatever the data format.
    chosen = {key: value for key, value in kwargs.items() if key in known and key != "data_format"}
    if "ignore_index" in known:
        chosen.setdefault("ignore_index", ignore_index)
    try:
        return Model(kind(**chosen))
    except Exception:  # as in `with_parameters`
        return None
