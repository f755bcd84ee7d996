"""Checks of a loss that nobody wrote a reference for: what its own formula and the frameworks can say about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unilossseg.conformance.cases import DTYPES, Array, Case, Layout, generator, rounded, strided_axis
from unilossseg.conformance.protocol import CLOSED_FORM, PLAIN_FORMULA, Outcome
from unilossseg.conformance.thresholds import EPS32, TOLERANCES
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, Verdict, first_place, largest

#: Central differences, extrapolated, in float64: what they are off by themselves.
DIFFERENCES = 1e-6
#: Two ways of computing one formula in float64.
FORMULAS = TOLERANCES["float64"].value
#: Nothing is known of the formula's length: a hundred operations, each off by half an eps, and one more factor of ten.
IN_FLOAT32 = 512 * EPS32
#: What rounding the gradient once to a half type costs each entry.
ROUNDING = {dtype: tolerance.rounding for dtype, tolerance in TOLERANCES.items() if tolerance.rounding}
#: Where a framework rounds Python numbers to float32 (see the capability table), a formula keeps no more digits.
ROUNDED_SCALARS = 1e-6

#: Of a gradient.
LEAST_SCALE = 1e-3

SHAPE = (2, 3, 2, 3)
#: By what logits are multiplied so that pixels are sure of their class: most probabilities round to 0 or 1, in float64 too.
CONFIDENT = 30.0


@dataclass(frozen=True)
class _Condition:
    name: str
    dtypes: tuple[str, ...]
    layout: Layout = "contiguous"
    chunk: int = 0
    upstream: bool = False
    all_ignored: bool = False
    #: Of the labels that are drawn, where they are classes; empty: int64.
    labels: str = ""
    #: Whether the logits that are drawn are large, and half of the pixels right.
    confident: bool = False

    @property
    def drawn(self) -> bool:
        """Whether it is about how inputs are drawn."""
        return bool(self.labels) or self.confident


CONDITIONS = (
    _Condition("plain", DTYPES),
    _Condition("all ignored", ("float32", "float64"), all_ignored=True),
    _Condition("strided memory", ("float64",), layout="non_contiguous"),
    _Condition("several chunks", ("float64",), chunk=6),
    _Condition("upstream gradient", ("float64",), upstream=True),
    _Condition("byte labels", ("float64",), labels="uint8"),
    _Condition("confident pixels", ("float64",), confident=True),
)


@dataclass(frozen=True)
class Facts:
    """What a worker found out about the loss, and the inputs that it brings."""

    name: str
    closed_form: bool
    ignore_index: int | None
    class_labels: bool
    call_inputs: tuple[str, ...]
    inputs: Mapping[str, Array]
    #: Whether it says that a pixel's loss depends on those around it, so that an ignored one may have a gradient.
    neighbourhood: bool = False

    @property
    def labels_dtype(self) -> np.dtype[Any]:
        """Of the labels that it brings, or of those that are drawn."""
        return self.inputs["labels"].dtype if self.inputs else np.dtype("int64" if self.class_labels else "float64")

    @property
    def can_ignore(self) -> bool:
        """Whether it has an `ignore_index` that its labels can hold."""
        return _holds(self.labels_dtype, self.ignore_index)


@dataclass(frozen=True)
class Truth:
    """The plain formula in NumPy and float64, and its gradient by central differences: NaN where they say nothing."""

    value: Array
    gradient: Array


def names() -> Iterator[tuple[str, _Condition, str]]:
    """The cases' names, each with its condition and its dtype."""
    for condition in CONDITIONS:
        for dtype in condition.dtypes:
            yield f"{condition.name.replace(' ', '-')}/{dtype}", condition, dtype


def _holds(dtype: np.dtype[Any], ignore_index: int | None) -> bool:
    if ignore_index is None:
        return False
    if dtype.kind == "f":
        return True
    least, most = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    return bool(least <= ignore_index <= most)


def needless(condition: _Condition, facts: Facts) -> str:
    """Why a loss has no such case; empty: it has."""
    if condition.all_ignored:
        if facts.ignore_index is None:
            return f"{facts.name} has no ignore_index"
        if not facts.can_ignore:
            return (
                f"{facts.name} has labels of {facts.labels_dtype}, which cannot hold its ignore_index, {facts.ignore_index}"
            )
    if condition.chunk and not facts.closed_form:
        return f"{facts.name} has no closed form, which alone works in chunks"
    if condition.drawn and facts.inputs:
        return f"{facts.name} brings its inputs, which are taken as they are"
    if condition.labels and not facts.class_labels:
        return f"{facts.name} has labels that are no classes"
    if condition.layout != "contiguous" and facts.inputs and strided_axis(facts.inputs["logits"]) is None:
        shape = facts.inputs["logits"].shape
        return f"{facts.name} brings logits of shape {shape}, which are in one piece in whichever order their axes lie"
    return ""


def case(spec: str, name: str, condition: _Condition, dtype: str, facts: Facts) -> Case:
    """A case of the loss, without its upstream gradient: that has the value's shape, which only the formula knows."""
    draws = generator(f"{facts.name}/{condition.name}")
    arrays = {key: np.array(array) for key, array in facts.inputs.items()} or _drawn(facts, condition, draws)
    if condition.all_ignored:
        arrays["labels"] = np.full_like(arrays["labels"], facts.ignore_index)
    work = "float64" if dtype == "float64" else "float32"
    for key, array in arrays.items():
        if array.dtype.kind == "f":
            arrays[key] = rounded(array, dtype if key in ("logits", "labels") else work)
    return Case(
        id=f"{spec}/{name}",
        loss=spec,
        parameters={} if facts.ignore_index is None else {"ignore_index": facts.ignore_index},
        dtype=dtype,
        condition=condition.name,
        arrays=arrays,
        layout=condition.layout,
        chunk=condition.chunk,
    )


def _drawn(facts: Facts, condition: _Condition, draws: np.random.Generator) -> dict[str, Array]:
    """Small inputs: classes or numbers as labels, two of them ignored, and a positive number per pixel for other inputs."""
    pixels = (SHAPE[0], *SHAPE[2:])
    labels: Array = draws.integers(0, SHAPE[1], size=pixels) if facts.class_labels else draws.normal(size=SHAPE)
    others = {name: draws.uniform(0.5, 2.0, size=pixels) for name in facts.call_inputs}
    logits = 2 * draws.normal(size=SHAPE)
    if condition.confident:
        logits = _confident(logits, labels if facts.class_labels else None)
    if condition.labels:
        labels = labels.astype(condition.labels)
    if _holds(labels.dtype, facts.ignore_index):
        labels.reshape(-1)[:2] = facts.ignore_index
    return {"logits": logits, "labels": labels, **others}


def _confident(logits: Array, labels: Array | None) -> Array:
    """Large logits; those of every second column are sure of the pixel's own class, the others of any."""
    large = CONFIDENT * logits
    if labels is None:
        return large
    right = np.arange(SHAPE[1])[:, None, None] == labels[:, None]
    right[..., 1::2] = False
    return np.where(right, np.max(large, axis=1, keepdims=True) + 2 * CONFIDENT, large)


# ---------------------------------------------------------------------------------------------------- verdicts
def verdicts(
    checked: Case, facts: Facts, outcomes: Mapping[str, Outcome], truth: Truth, exact: bool, due: Collection[str]
) -> dict[str, Verdict]:
    """The verdict on each mode of a backend.

    `exact`: float64 formulas keep all of float64's digits. `due`: the modes that must give a gradient.
    """
    found = {}
    for mode, outcome in outcomes.items():
        if outcome.error or outcome.value is None:
            found[mode] = Verdict(ERRORED, outcome.error or "the worker sent no value")
        else:
            found[mode] = _verdict(_of_mode(checked, facts, outcome, truth, exact, mode in due))
    if checked.dtype == "float64" and facts.closed_form and all(verdict.status == CONFORM for verdict in found.values()):
        closed, plain = outcomes.get(CLOSED_FORM), outcomes.get(PLAIN_FORMULA)
        if closed is not None and plain is not None:
            bound = FORMULAS if exact else ROUNDED_SCALARS
            lines = disagreements(CLOSED_FORM, closed, PLAIN_FORMULA, plain, bound, due=PLAIN_FORMULA in due)
            found[CLOSED_FORM] = _verdict(lines)
    return found


def _verdict(lines: Iterable[str]) -> Verdict:
    """Of sentences about what is wrong: none is right."""
    message = "; ".join(lines)
    return Verdict(DIFFERS if message else CONFORM, message)


def _of_mode(checked: Case, facts: Facts, outcome: Outcome, truth: Truth, exact: bool, due: bool) -> Iterator[str]:
    work = "float64" if checked.dtype == "float64" else "float32"
    value, gradient = outcome.value, outcome.gradient
    assert value is not None
    if outcome.value_dtype != work:
        yield f"value has dtype {outcome.value_dtype}, expected {work}"
    if value.shape != truth.value.shape:
        yield f"value has shape {value.shape}, in NumPy it has {truth.value.shape}"
        return
    if unknown := _astray("the formula in NumPy", truth.value):
        yield from _astray("value", value)
        yield f"{unknown[0]}: nothing can be compared"
        return
    relative = (FORMULAS if exact else ROUNDED_SCALARS) if work == "float64" else IN_FLOAT32
    scale = max(1.0, largest(truth.value))
    yield from _off("value", value, truth.value, np.full(value.shape, relative * scale), scale, "the formula in float64")
    if gradient is None:
        if due:
            yield "there is no gradient"
        return
    if gradient.shape != truth.gradient.shape or outcome.gradient_dtype != checked.dtype:
        yield (
            f"gradient has shape {gradient.shape} and dtype {outcome.gradient_dtype}, expected {truth.gradient.shape} and "
            f"{checked.dtype}, the logits'"
        )
        return
    scale = largest(truth.gradient)
    bounds = max(relative, DIFFERENCES) * max(scale, LEAST_SCALE) + ROUNDING.get(checked.dtype, 0.0) * np.abs(truth.gradient)
    yield from _off("gradient", gradient, truth.gradient, bounds, scale, "central differences of the formula")
    yield from _ignored(checked, facts, gradient)
    silent = int(np.sum(np.isnan(truth.gradient)))
    if 2 * silent > truth.gradient.size:
        yield (
            f"central differences with two steps disagree at {silent} of {truth.gradient.size} logits: the formula has "
            "kinks there, or it is not computed in float64, and its gradient remains unchecked"
        )


def _ignored(checked: Case, facts: Facts, gradient: Array) -> Iterator[str]:
    """A gradient that is not exactly 0 at an ignored pixel, where each pixel, or each logit, has a label of its own.

    A loss that looks at a pixel's neighbours is asked for it only where all of them are ignored.
    """
    shape, labels = checked.arrays["logits"].shape, checked.arrays["labels"].shape
    if facts.ignore_index is None or labels not in (shape, (shape[0], *shape[2:]), (shape[0], 1, *shape[2:])):
        return
    ignored = checked.ignored()
    counted = not np.all(ignored)
    if facts.neighbourhood and counted:
        return
    astray = np.argwhere(ignored & (gradient != 0))
    if astray.size:
        place = tuple(int(i) for i in astray[0])
        hint = ": a loss that looks at a pixel's neighbours says so by `conformance_neighbourhood = True`" if counted else ""
        yield f"gradient is {float(gradient[place])!r} at the ignored pixel {place}, expected exactly 0{hint}"


def disagreements(first: str, one: Outcome, second: str, other: Outcome, relative: float, *, due: bool = True) -> list[str]:
    """Where two outcomes of the same case in float64 differ; `due`: whether both must have a gradient."""
    found: list[str] = []
    for part in ("value", "gradient"):
        got, wanted = getattr(one, part), getattr(other, part)
        if got is None or wanted is None:
            if due or part == "value":
                found += [f"{name}: there is no {part}" for name, x in ((first, got), (second, wanted)) if x is None]
            continue
        if got.shape != wanted.shape:
            found.append(f"{part} has shape {got.shape} by the {first} and {wanted.shape} by the {second}")
            continue
        # Nothing is off from a NaN.
        astray = [line for name, x in ((first, got), (second, wanted)) for line in _astray(f"{name}'s {part}", x)]
        if astray:
            found += astray
            continue
        # Where pixels are sure a right gradient may be the difference of two probabilities near 1, of few digits.
        scale = max(1.0 if part == "value" else LEAST_SCALE, largest(wanted))
        bounds = np.full(wanted.shape, relative * scale)
        found += _off(f"{first}'s {part}", got, wanted, bounds, scale, f"{second}'s")
    return found


def _off(part: str, got: Array, wanted: Array, bounds: Array, scale: float, what: str) -> Sequence[str]:
    """A sentence about the entry that is the furthest out of its bound, or about one that is not finite."""
    if astray := _astray(part, got):
        return astray
    errors = np.abs(got.astype(np.float64) - wanted) / bounds
    errors = np.where(np.isfinite(errors), errors, 0.0)  # no difference quotient beside a kink
    if not np.any(errors > 1):
        return []
    place = first_place(errors == errors.max())
    unit = scale or 1.0
    off, bound = float(errors[place] * bounds[place]) / unit, float(bounds[place]) / unit
    return [f"{part} is off by {off:.3g} of its scale at {place} from {what}, allowed are {bound:.3g}"]


def _astray(part: str, got: Array) -> list[str]:
    """A sentence about an entry that is not finite."""
    if np.all(np.isfinite(got)):
        return []
    place = first_place(~np.isfinite(got))
    return [f"{part} is {float(got[place])!r} at {place}, expected a finite number"]
