"""What the diagnosis has to go by in one case, and how well an explanation accounts for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.records.comparison import Verdict
from unilossseg.conformance.records.record import Record, RecordedCase
from unilossseg.conformance.records.thresholds import THRESHOLDS, Threshold

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """A value and a gradient in float64."""

    value: Floats
    gradient: Floats | None
    #: The value is a list of losses, stacked.
    listed: bool = False

    def classes_first(self, shape: tuple[int, ...]) -> Result:
        """With the last axis of what has the logits' shape moved to axis 1."""
        value = _classes_first(self.value) if self.value.shape == shape and not self.listed else self.value
        return Result(value, None if self.gradient is None else _classes_first(self.gradient), self.listed)


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
    `given` to get `other`. `flipped` swaps them, since the reference may be the odd one. The classes are on axis 1 in all
    arrays: channels-last ones are moved.
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
    #: The classes were on the last axis.
    moved: bool
    #: What is added to the scale of each loss of a list, for its errors as shares of that.
    small_scale: float

    @classmethod
    def of(cls, verdict: Verdict, ignore_index: int, data_format: object = None) -> Evidence:
        """From a verdict; `data_format` is what the records' arguments say, if anything."""
        case = verdict.reference
        inputs = {name: array.wide() if name != "labels" else array.numbers() for name, array in case.inputs.items()}
        moved = _channels_last(inputs["logits"].shape, inputs["labels"].shape, data_format == "NHWC")
        upstream = None if case.upstream is None else case.upstream.wide()
        given, other = _result(case), _result(verdict.candidate)
        if moved:
            shape = inputs["logits"].shape
            inputs = {
                # An axis of 1 in front of the pixels of the labels is where it belongs.
                name: array if array.ndim != len(shape) or array.shape == _single(shape[:-1]) else _classes_first(array)
                for name, array in inputs.items()
            }
            upstream = _classes_first(upstream) if upstream is not None and upstream.shape == shape else upstream
            given, other = given.classes_first(shape), other.classes_first(shape)
        allowed = THRESHOLDS[case.value.dtype]
        gradient_bound = 0.0 if case.gradient is None else THRESHOLDS[case.gradient.dtype].gradient
        made = cls(
            name=verdict.name,
            inputs=inputs,
            ignore_index=ignore_index,
            upstream=upstream,
            given=given,
            other=other,
            same=verdict.same,
            value_bound=_value_bound(given, other, allowed),
            gradient_bound=gradient_bound,
            dtype=case.inputs["logits"].dtype,
            repeatable=case.repeatable and verdict.candidate.repeatable,
            moved=moved,
            small_scale=allowed.small_value / allowed.value,
        )
        # As shares of the reference's scale, as in the verdict.
        alike = given.listed == other.listed or given.value.size == other.value.size == 1
        near = alike and made.apart(other.value, given.value) <= made.value_bound
        agree = near and distance(other.gradient, given.gradient) <= gradient_bound
        return replace(made, same=verdict.same or agree)

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

    @property
    def lists(self) -> bool:
        """Both values are lists of as many losses."""
        return _are_lists(self.given, self.other)

    def apart(self, predicted: Floats | None, found: Floats) -> float:
        """The distance of a value from what was found; of lists, that of the loss that is farthest off on its own scale."""
        if not self.lists or predicted is None or predicted.shape != found.shape:
            return distance(predicted, found)
        pairs = zip(predicted, found, strict=True)
        return max(distance(one, other, _largest(other) + self.small_scale) for one, other in pairs)

    def spread(self, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """A mask of pixels (N, *S) over the entries of the logits."""
        return np.broadcast_to(mask[:, None], self.logits.shape)


def _are_lists(given: Result, other: Result) -> bool:
    return given.listed and other.listed and given.value.shape == other.value.shape


def _largest(numbers: Floats) -> float:
    return float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0))


def _value_bound(given: Result, other: Result, allowed: Threshold) -> float:
    largest = _largest(given.value)
    # The scale of each loss of a list has what is absolute in the bound in it.
    return allowed.value if _are_lists(given, other) or not largest else allowed.value + allowed.small_value / largest


def _channels_last(logits: tuple[int, ...], labels: tuple[int, ...], named: bool) -> bool:
    """Whether the labels say that the classes are on the last axis; where they say nothing, what was named."""
    if len(logits) < 3:
        return False
    first, last = (logits[0], *logits[2:]), logits[:-1]
    fits_first = labels in (first, _single(first))
    fits_last = labels in (last, _single(last), (*last, 1))
    return named if fits_first == fits_last else fits_last


def _single(pixels: tuple[int, ...]) -> tuple[int, ...]:
    """The shape (N, 1, *S) of labels (N, *S) with an axis of one channel."""
    return (pixels[0], 1, *pixels[1:])


def _classes_first(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))


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
    # What is not finite has no distance: it is the same or it is not.
    if not np.array_equal(predicted[~finite], found[~finite], equal_nan=True) or not np.isfinite(predicted[finite]).all():
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
    # Distances before and after, the latter None where nothing was predicted, and the bound.
    after = None if prediction.value is None else evidence.apart(prediction.value, other.value)
    parts = [(evidence.apart(given.value, other.value), after, evidence.value_bound)]
    if given.gradient is not None or other.gradient is not None:
        # A mistake that changes a gradient does not account for one that is not there.
        known = prediction.gradient is not None and given.gradient is not None
        after = distance(prediction.gradient, other.gradient) if known else None
        parts.append((distance(given.gradient, other.gradient), after, evidence.gradient_bound))
    most = max(before for before, _, _ in parts)
    shares = []
    for before, after, bound in parts:
        if before <= bound:
            # What agreed must still agree, or the cause would have shown here too. The formulas' small epsilons aside.
            if after is not None and after > max(10 * bound, 1e-4):
                return 0.0
        # What differs ten thousand times less has a cause of its own, and must not hide the one that matters.
        elif before > 1e-4 * most:
            shares.append(0.0 if after is None else _share(before, after))
    return max(0.0, sum(shares) / len(shares)) if shares else 1.0


def _share(before: float, after: float) -> float:
    """Of a distance, how much a prediction takes away; below 0 where it is farther off than nothing done at all."""
    if after > before:
        # A part that is spoiled undoes one that is explained, and no more than that.
        return max(-1.0, 1.0 - after / before)
    # Being off by as much as there is explains nothing, however much further off the other record is.
    return max(0.0, 1.0 - after / min(before, 1.0))
