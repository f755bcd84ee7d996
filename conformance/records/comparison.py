"""The verdict on two records: case by case, first what must be exact, then errors against their bounds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.measures import steps_between
from unilossseg.conformance.records.errors import RecordError
from unilossseg.conformance.records.record import INPUTS, Record, RecordedCase, Stored
from unilossseg.conformance.records.thresholds import TABLE, Allowance, bound

SAME, DIFFERENT = "same", "different"


@dataclass(frozen=True)
class Part:
    """The comparison of two arrays: a value or a gradient."""

    quantity: str
    #: What differs that must be equal; empty: nothing, and the numbers below hold.
    structure: str = ""
    #: Whether there was a finite number to compare.
    compared: bool = True
    #: The largest absolute difference and what is allowed, both as shares of the scale.
    error: float = 0.0
    bound: float = 0.0
    scale: float = 0.0
    #: What `numpy.allclose` would need if it had only that one.
    rtol: float = 0.0
    atol: float = 0.0
    #: The most representable numbers that lie between two entries; None where the dtypes differ.
    ulp: int | None = None
    #: Where the largest difference is, and what stands there.
    index: tuple[int, ...] = ()
    reference: float = 0.0
    candidate: float = 0.0

    @property
    def no_numbers(self) -> str:
        """Why there are none, for every reader the same words; empty: there are."""
        return self.structure or ("" if self.compared else "no finite number")

    @property
    def ratio(self) -> float:
        """The error as a share of its bound."""
        if self.structure:
            return math.inf
        return 0.0 if self.error == 0 else self.error / self.bound if self.bound else math.inf

    @property
    def same(self) -> bool:
        """Whether it is within its bound."""
        return self.ratio <= 1


@dataclass(frozen=True)
class Verdict:
    """One case of both records."""

    name: str
    reference: RecordedCase
    candidate: RecordedCase
    value: Part
    #: None: neither record has a gradient.
    gradient: Part | None
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing changed."""
        return all(part.same for part in self.parts)

    @property
    def status(self) -> str:
        """In a word."""
        return SAME if self.same else DIFFERENT

    @property
    def parts(self) -> tuple[Part, ...]:
        """What was compared."""
        return (self.value,) if self.gradient is None else (self.value, self.gradient)


def compare(reference: Record, candidate: Record, allowance: Allowance = TABLE) -> list[Verdict]:
    """A verdict for every case; raises RecordError where the two were not made from the same inputs."""
    names = [[case.name for case in record.cases] for record in (reference, candidate)]
    if names[0] != names[1]:
        odd = [
            name for name in {**dict.fromkeys(names[0]), **dict.fromkeys(names[1])} if not all(name in one for one in names)
        ]
        received = f"case {odd[0]!r} is in one of the two records only" if odd else "the cases stand in another order"
        raise _not_a_replay(reference, candidate, received)
    return [_verdict(reference, candidate, *pair, allowance) for pair in zip(reference.cases, candidate.cases, strict=True)]


def _not_a_replay(reference: Record, candidate: Record, received: str) -> RecordError:
    subject = f"{reference.source or 'reference'} and {candidate.source or 'candidate'}"
    remedy = "Make the second with `unilossseg replay`, from the first."
    return RecordError(subject, received, "two records of the same inputs", remedy)


def _verdict(one: Record, other: Record, reference: RecordedCase, candidate: RecordedCase, allowance: Allowance) -> Verdict:
    for role in INPUTS:
        mine, theirs = reference.inputs.get(role), candidate.inputs.get(role)
        if (mine is None) != (theirs is None) or (mine is not None and theirs is not None and not mine.same_bits(theirs)):
            raise _not_a_replay(one, other, f"case {reference.name!r} has other {role} in the two records")
    same_upstream = (reference.upstream is None) == (candidate.upstream is None) and (
        reference.upstream is None or candidate.upstream is None or reference.upstream.same_bits(candidate.upstream)
    )
    lists = reference.listed and candidate.listed
    value = (compared_lists if lists else compared)("value", reference.value, candidate.value, allowance)
    # A list of losses is given ones, an array of them random numbers, also by a replay.
    if reference.listed != candidate.listed and not value.structure:
        value = Part("value", structure="one is a list of losses, the other a single array")
    if not same_upstream and not value.structure:
        raise _not_a_replay(one, other, f"case {reference.name!r} has another upstream gradient in the two records")
    gradient = _gradients(reference, candidate, same_upstream, allowance)
    return Verdict(reference.name, reference, candidate, value, gradient, _notes(reference, candidate, value, gradient))


def _gradients(reference: RecordedCase, candidate: RecordedCase, same_upstream: bool, allowance: Allowance) -> Part | None:
    if reference.gradient is not None and candidate.gradient is not None:
        if not same_upstream:
            return Part("gradient", structure="the two come from different upstream gradients")
        return compared("gradient", reference.gradient, candidate.gradient, allowance)
    if reference.gradient is None and candidate.gradient is None:
        return None
    which = "candidate" if candidate.gradient is None else "reference"
    return Part("gradient", structure=f"the {which} has none: its value does not depend on the logits")


def _notes(reference: RecordedCase, candidate: RecordedCase, value: Part, gradient: Part | None) -> tuple[str, ...]:
    notes = []
    for part in (value, gradient):
        # NaN at the same places is the same, as everywhere in this suite; but nobody should take it for numbers that agree.
        if part is not None and not part.compared:
            notes.append(f"no finite number of the {part.quantity} was compared: both are NaN or infinite everywhere")
    if reference.gradient is None and candidate.gradient is None:
        notes.append("neither record has a gradient: only the values were compared")
    elif "edge_logits" in reference.inputs:
        notes.append("only the gradient by the logits was compared, not the one by the edge_logits")
    for who, case in (("reference", reference), ("candidate", candidate)):
        if not case.repeatable:
            notes.append(f"the {who} gives other numbers when it is called again")
        if case.changed:
            notes.append(f"the {who} writes into its {' and '.join(case.changed)}")
    if reference.unused != candidate.unused:
        unused = sorted(set(reference.unused) ^ set(candidate.unused))
        notes.append(f"only one of the two takes {' and '.join(unused)}")
    if reference.value.shape != candidate.value.shape and reference.value.data.size == candidate.value.data.size == 1:
        notes.append(
            f"the value's shape is {reference.value.shape} in the reference, {candidate.value.shape} in the candidate"
        )
    return tuple(notes)


def compared(quantity: str, reference: Stored, candidate: Stored, allowance: Allowance = TABLE) -> Part:
    """Two arrays."""
    if reference.dtype != candidate.dtype:
        return Part(quantity, structure=f"dtype {reference.dtype} in the reference, {candidate.dtype} in the candidate")
    a, b = reference.wide(), candidate.wide()
    if a.shape != b.shape:
        # One number is one number: before it had arrays of no axes, Paddle gave losses the shape (1,).
        if not a.size == b.size == 1:
            return Part(quantity, structure=f"shape {a.shape} in the reference, {b.shape} in the candidate")
        b = b.reshape(a.shape)
    for name, test in (("NaN", np.isnan), ("inf", np.isposinf), ("-inf", np.isneginf)):
        odd = np.asarray(test(a) != test(b))
        if odd.any():
            index = _place(odd)
            return Part(
                quantity,
                structure=f"{name} in other places: {int(odd.sum())} of {odd.size}, the first at {index}, "
                f"{a[index]:g} in the reference, {b[index]:g} in the candidate",
            )
    return _measured(quantity, reference, candidate, a, b, allowance)


def compared_lists(quantity: str, reference: Stored, candidate: Stored, allowance: Allowance = TABLE) -> Part:
    """Two stacked lists of losses, each loss on a scale of its own; what is told is that of the worst.

    What a user allows is a share of the whole list's scale.
    """
    whole = compared(quantity, reference, candidate, allowance)
    if whole.structure or allowance.value is not None:
        return whole
    singles = [[Stored(data, side.dtype) for data in np.split(side.data, len(side.data))] for side in (reference, candidate)]
    parts = [compared(quantity, one, other, allowance) for one, other in zip(*singles, strict=True)]
    place, part = max(enumerate(parts), key=lambda found: (found[1].ratio, found[1].compared))
    if not part.compared:
        return part
    # What other measures would need is what all losses need.
    return replace(part, index=(place, *part.index[1:]), rtol=whole.rtol, atol=whole.atol, ulp=whole.ulp)


def _measured(
    quantity: str,
    reference: Stored,
    candidate: Stored,
    a: npt.NDArray[np.float64],
    b: npt.NDArray[np.float64],
    allowance: Allowance,
) -> Part:
    finite = np.isfinite(a)
    if not finite.any():
        return Part(quantity, compared=False)
    size = np.abs(np.where(finite, a, 0.0))
    with np.errstate(over="ignore"):
        apart = np.abs(np.where(finite, a, 0.0) - np.where(finite, b, 0.0))
    scale, largest = float(size.max()), float(apart.max())
    index = _place(apart)
    # An all-zero reference has no scale: errors are absolute then.
    unit = scale or 1.0
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        needed = np.where(apart == 0, 0.0, apart / size)
    return Part(
        quantity,
        error=largest / unit,
        bound=bound(quantity, reference.dtype, scale, allowance) / unit,
        scale=scale,
        rtol=float(needed.max()),
        atol=largest,
        ulp=_ulp(reference, candidate, finite),
        index=index,
        reference=float(a[index]),
        candidate=float(b[index]),
    )


def _place(of: npt.NDArray[Any]) -> tuple[int, ...]:
    return tuple(int(at) for at in np.unravel_index(int(np.argmax(of)), of.shape))


def _ulp(reference: Stored, candidate: Stored, finite: npt.NDArray[np.bool_]) -> int:
    """The most representable numbers between two entries."""
    return int(np.where(finite.reshape(-1), steps_between(reference.data, candidate.data), 0).max())


def worst(verdicts: Sequence[Verdict]) -> tuple[Verdict, Part] | None:
    """The largest error as a share of its bound, and the case that it is in."""
    pairs = [(verdict, part) for verdict in verdicts for part in verdict.parts]
    return max(pairs, key=lambda pair: pair[1].ratio, default=None)
