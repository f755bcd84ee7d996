"""What the diagnosis has to go by in one case, and how well an explanation accounts for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.records.comparison import Verdict
from unilossseg.conformance.records.record import Record, RecordedCase
from unilossseg.conformance.records.thresholds import THRESHOLDS

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """A value and a gradient in float64."""

    value: Floats
    gradient: Floats | None
    #: The value is a list of losses, stacked.
    listed: bool = False


@dataclass(frozen=True)
class Side:
    """One of the two records, as far as a cause may ask."""

    who: str
    target: str
    kwargs: Mapping[str, Any]
    device: str

    @property
    def class_name(self) -> str:
        """The last name of the target."""
        return self.target.removesuffix("()").rpartition(":")[2].rpartition(".")[2]


@dataclass(frozen=True, eq=False)  # its arrays have no hash
class Evidence:
    """One case of two records.

    `given` and `other` are the two results in the direction in which a cause is tried: what would have to be done to
    `given` to get `other`. `flipped` swaps them, since the reference may be the odd one.
    """

    name: str
    inputs: Mapping[str, npt.NDArray[Any]]
    ignore_index: int
    upstream: Floats | None
    given: Result
    other: Result
    #: The numbers agree, whatever else may differ.
    same: bool
    #: What two roundings may be apart, as shares of the scale.
    value_bound: float
    gradient_bound: float
    dtype: str
    repeatable: bool

    @classmethod
    def of(cls, verdict: Verdict, ignore_index: int) -> Evidence:
        """From a verdict."""
        case = verdict.reference
        given, other = _result(case), _result(verdict.candidate)
        allowed = THRESHOLDS[case.value.dtype]
        largest = float(np.abs(given.value[np.isfinite(given.value)]).max(initial=0))
        value_bound = allowed.value + allowed.small_value / largest if largest else allowed.value
        gradient_bound = 0.0 if case.gradient is None else THRESHOLDS[case.gradient.dtype].gradient
        apart = distance(given.value, other.value), distance(given.gradient, other.gradient)
        return cls(
            name=verdict.name,
            inputs={name: array.wide() if name != "labels" else array.numbers() for name, array in case.inputs.items()},
            ignore_index=ignore_index,
            upstream=None if case.upstream is None else case.upstream.wide(),
            given=given,
            other=other,
            same=verdict.same or (apart[0] <= value_bound and apart[1] <= gradient_bound),
            value_bound=value_bound,
            gradient_bound=gradient_bound,
            dtype=case.inputs["logits"].dtype,
            repeatable=case.repeatable and verdict.candidate.repeatable,
        )

    @property
    def flipped(self) -> Evidence:
        """The same case in the other direction."""
        return Evidence(**{**self.__dict__, "given": self.other, "other": self.given})

    @property
    def logits(self) -> Floats:
        """The logits."""
        return self.inputs["logits"]

    @property
    def classes(self) -> int:
        """The length of axis 1; 1 where the logits have no such axis."""
        return int(self.logits.shape[1]) if self.logits.ndim > 1 else 1

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Class labels (N, *S); None where the labels are something else, or the logits have no axis of classes."""
        labels = self.inputs["labels"]
        if self.logits.ndim < 2:
            return None
        shape = (self.logits.shape[0], *self.logits.shape[2:])
        if labels.dtype.kind not in "iu" or labels.size != int(np.prod(shape)):
            return None
        return labels.reshape(shape).astype(np.int64)

    @property
    def valid(self) -> npt.NDArray[np.bool_] | None:
        """Pixels that are not ignored."""
        labels = self.labels
        return None if labels is None else labels != self.ignore_index

    def spread(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask of pixels (N, *S) over the entries of the logits."""
        return np.broadcast_to(mask[:, None], self.logits.shape)


def _result(case: RecordedCase) -> Result:
    return Result(case.value.wide(), None if case.gradient is None else case.gradient.wide(), case.listed)


def sides(reference: Record, candidate: Record) -> tuple[Side, Side]:
    """The two records."""
    return tuple(  # type: ignore[return-value]
        Side(who, record.target, record.kwargs, record.environment.get("device", ""))
        for who, record in (("reference", reference), ("candidate", candidate))
    )


@dataclass(frozen=True)
class Prediction:
    """What `other` should be if a cause holds; None: the cause says nothing about it."""

    value: Floats | None = None
    gradient: Floats | None = None


def distance(predicted: Floats | None, found: Floats | None, scale: float | None = None) -> float:
    """The largest difference as a share of the scale of what was found; 1 where one is missing or has another form."""
    if predicted is None or found is None:
        return 0.0 if predicted is found else 1.0
    if predicted.size == found.size == 1:
        predicted, found = predicted.reshape(()), found.reshape(())
    if predicted.shape != found.shape:
        return 1.0
    finite = np.isfinite(found)
    if (np.isfinite(predicted) != finite).any():
        return 1.0
    apart = float(np.abs(np.where(finite, predicted, 0) - np.where(finite, found, 0)).max(initial=0))
    if apart == 0:
        return 0.0
    scale = scale or float(np.abs(np.where(finite, found, 0)).max(initial=0))
    # Of what is all zero, anything else is wholly different.
    return apart / scale if scale else 1.0


def explained(evidence: Evidence, prediction: Prediction) -> float:
    """The share of the difference that a prediction accounts for, from 0 to 1.

    0 if it spoils what agrees, or as much as it explains.
    """
    given, other = evidence.given, evidence.other
    parts = [(given.value, prediction.value, other.value, evidence.value_bound)]
    if given.gradient is not None or other.gradient is not None:
        parts.append((given.gradient, prediction.gradient, other.gradient, evidence.gradient_bound))  # type: ignore[arg-type]
    apart = [distance(part[0], part[2]) for part in parts]
    shares = []
    for (_, predicted, found, bound), before in zip(parts, apart, strict=True):
        if before <= bound:
            # What agreed must still agree, or the cause would have shown here too. The formulas' small epsilons aside.
            if predicted is not None and distance(predicted, found) > max(10 * bound, 1e-4):
                return 0.0
        # What differs ten thousand times less has a cause of its own, and must not hide the one that matters.
        elif before > 1e-4 * max(apart):
            shares.append(0.0 if predicted is None else _share(before, distance(predicted, found)))
    return max(0.0, sum(shares) / len(shares)) if shares else 1.0


def _share(before: float, after: float) -> float:
    """Of a distance, how much a prediction takes away; below 0 where it is farther off than nothing done at all."""
    if after > before:
        # A part that is spoiled undoes one that is explained, and no more than that.
        return max(-1.0, 1.0 - after / before)
    # Being off by as much as there is explains nothing, however much further off the other record is.
    return max(0.0, 1.0 - after / min(before, 1.0))
