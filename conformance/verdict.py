"""Whether what a backend computed conforms to the float64 reference on the same rounded inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from unilossseg.conformance.cases import Array, Case
from unilossseg.conformance.errormaps import ErrorMap, error_map
from unilossseg.conformance.margins import undecided
from unilossseg.conformance.measures import most_ulps, required
from unilossseg.conformance.protocol import Outcome
from unilossseg.conformance.ratios import FAIL, WARNING, Ratio, in_words, ratio
from unilossseg.conformance.thresholds import (
    RECORDED_GRADIENT,
    RECORDED_VALUE,
    TOLERANCES,
    UNDECIDED_GRADIENT,
    gradient_tolerance,
    native_allowance,
    roundings,
)

CONFORM, DIFFERS, ERRORED, UNSUPPORTED, EXPECTED = STATUSES = (
    "conform",
    "differs",
    "errored",
    "unsupported",
    "xfailed",
)


def is_bad(status: str) -> bool:
    """Whether a result neither conforms nor is declared to be impossible, or to fail."""
    return status not in (CONFORM, UNSUPPORTED, EXPECTED)


#: What NumPy computes where a reference is too large for the gradient's dtype; bfloat16 has float32's range.
_RANGE = {"float16": np.float16, "bfloat16": np.float32, "float32": np.float32, "float64": np.float64}


@dataclass(frozen=True)
class Reference:
    """The float64 value and gradient of a case."""

    value: Array
    gradient: Array


@dataclass(frozen=True)
class Comparison:
    """The worst entry of a value or a gradient: its error and what is allowed there, both relative to the scale."""

    error: float
    bound: float
    index: tuple[int, ...]
    #: What stands there.
    got: float
    expected: float
    #: Over all entries: what `numpy.allclose` would need if it had only that one, and the most units in the last place.
    rtol: float
    atol: float
    ulp: int
    #: Beside a native implementation, where there is one to compare with.
    native: Ratio | None = None

    @property
    def ratio(self) -> float:
        """Above 1: out of bounds."""
        return self.error / self.bound


@dataclass(frozen=True)
class Verdict:
    """The outcome of one case on one backend in one mode."""

    status: str
    message: str = ""
    value: Comparison | None = None
    gradient: Comparison | None = None
    #: Where one reads more about what is unsupported or expected to fail.
    link: str = ""
    #: Of what differs, where its errors lie.
    maps: Mapping[str, ErrorMap] = field(default_factory=dict)
    #: The native implementation that its errors were compared with, and what is conspicuous about them yet no failure.
    native: str = ""
    warning: str = ""

    @property
    def ratio(self) -> float | None:
        """The larger share of its bound that an error took up."""
        return max((part.ratio for part in (self.value, self.gradient) if part is not None), default=None)


def judge(
    case: Case, outcome: Outcome, reference: Reference, native: tuple[str, Outcome] | None = None, due: bool = True
) -> Verdict:
    """Exact checks first; then errors against their bounds and the native ones; then the recording, if there is one.

    `native`: the name of a native implementation and what it got. `due`: whether the mode must give a gradient.
    """
    found = _judged(case, outcome, reference, native, due)
    return found if found.status != DIFFERS else replace(found, maps=_maps(case, outcome, reference))


def _judged(case: Case, outcome: Outcome, reference: Reference, native: tuple[str, Outcome] | None, due: bool) -> Verdict:
    if outcome.error:
        return Verdict(ERRORED, outcome.error)
    if outcome.value is None:
        return Verdict(ERRORED, "the worker sent no value")
    broken = next(_exact(case, outcome, reference, due), None)
    if broken:
        return Verdict(DIFFERS, broken)
    value = _compare_value(case, outcome.value, reference.value)
    gradient = None if outcome.gradient is None else _compare_gradient(case, outcome.gradient, reference.gradient)
    messages = [
        f"{name} is off by {part.error:.3g} of its scale at {part.index}, allowed are {part.bound:.3g}"
        for name, part in (("value", value), ("gradient", gradient))
        if part is not None and part.ratio > 1
    ]
    messages += _against_recording(case, outcome)
    name, warnings = "", list[str]()
    if native is not None:
        name, other = native
        value = replace(value, native=_value_ratio(case, outcome.value, other.value, reference.value))
        if gradient is not None and outcome.gradient is not None:
            found = _gradient_ratio(case, outcome.gradient, other.gradient, reference.gradient)
            gradient = replace(gradient, native=found)
        for part, compared in (("value", value.native), ("gradient", None if gradient is None else gradient.native)):
            if compared is not None and compared.level in (WARNING, FAIL):
                (messages if compared.level == FAIL else warnings).append(in_words(part, compared, name))
        if value.native is None and (gradient is None or gradient.native is None):
            name = ""
    status = DIFFERS if messages else CONFORM
    return Verdict(status, "; ".join(messages), value, gradient, native=name, warning="; ".join(warnings))


def _value_ratio(case: Case, got: Array, native: Array | None, wanted: Array) -> Ratio | None:
    scale = _value_bounds(case, wanted)[1]
    return ratio(case.dtype, got, native, wanted, scale=scale, allowance=native_allowance(case.loss, "value"))


def _gradient_ratio(case: Case, got: Array, native: Array | None, wanted: Array) -> Ratio | None:
    scale, allowance = _gradient_bounds(case, wanted)[1], native_allowance(case.loss, "gradient")
    return ratio(case.dtype, got, native, wanted, scale=scale, allowance=allowance, either_way=undecided(case))


def _exact(case: Case, outcome: Outcome, reference: Reference, due: bool) -> Iterator[str]:
    """What must hold to the letter, before any number is compared with a tolerance."""
    work = "float64" if case.dtype == "float64" else "float32"
    value, gradient = outcome.value, outcome.gradient
    assert value is not None
    if value.shape != reference.value.shape:
        yield f"value has shape {value.shape}, expected {reference.value.shape}"
    if outcome.value_dtype != work:
        yield f"value has dtype {outcome.value_dtype}, expected {work}"
    yield from _finite("value", value, reference.value, work)
    if np.all(case.ignored()) and np.any(value != 0):
        yield f"value is {float(value.ravel()[0])!r} where all pixels are ignored, expected exactly 0"
    if gradient is None:
        if due:
            yield "there is no gradient"
        return
    if gradient.shape != reference.gradient.shape:
        yield f"gradient has shape {gradient.shape}, expected {reference.gradient.shape}"
    if outcome.gradient_dtype != case.dtype:
        yield f"gradient has dtype {outcome.gradient_dtype}, expected {case.dtype}, the logits'"
    yield from _finite("gradient", gradient, reference.gradient, case.dtype)
    astray = case.ignored() & (gradient != 0)
    if np.any(astray):
        index = first_place(astray)
        yield f"gradient is {float(gradient[index])!r} at the ignored pixel {index}, expected exactly 0"


def _finite(name: str, got: Array, wanted: Array, dtype: str) -> Iterator[str]:
    """NaN and infinities must stand where the reference has them, once it is rounded to the dtype."""
    with np.errstate(over="ignore"):
        wanted = wanted.astype(_RANGE[dtype])
    checks: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("NaN", np.isnan),
        ("+Inf", np.isposinf),
        ("-Inf", np.isneginf),
    )
    for kind, test in checks:
        wrong = test(got) != test(wanted)
        if np.any(wrong):
            index = first_place(wrong)
            here, there = float(got[index]), float(wanted[index])
            yield f"{name} is {here!r} at {index}, the reference is {there!r} ({kind} in one alone)"


def _maps(case: Case, outcome: Outcome, reference: Reference) -> dict[str, ErrorMap]:
    """The errors of the value and of the gradient, as far as they have the reference's shapes."""
    found = {}
    if outcome.value is not None and outcome.value.shape == reference.value.shape:
        found["value"] = error_map(case, outcome.value, reference.value, _value_bounds(case, reference.value)[0])
    gradient = outcome.gradient
    if gradient is not None and gradient.shape == reference.gradient.shape:
        bounds, _ = _gradient_bounds(case, reference.gradient)
        found["gradient"] = error_map(case, gradient, reference.gradient, bounds, case.ignored() & (gradient != 0))
    return found


def _compare_value(case: Case, got: Array, wanted: Array) -> Comparison:
    return _worst(got, wanted, *_value_bounds(case, wanted), "float64" if case.dtype == "float64" else "float32")


def _compare_gradient(case: Case, got: Array, wanted: Array) -> Comparison:
    return _worst(got, wanted, *_gradient_bounds(case, wanted), case.dtype)


def _value_bounds(case: Case, wanted: Array) -> tuple[Array, float]:
    """What each entry may be off by, and the scale."""
    scale = max(1.0, largest(wanted))
    return np.full(wanted.shape, TOLERANCES[case.dtype].value * scale), scale


def _gradient_bounds(case: Case, wanted: Array) -> tuple[Array, float]:
    """What each entry may be off by, and the scale."""
    tolerance = TOLERANCES[case.dtype]
    scale = largest(wanted)
    terms = len(case.parameters.get("losses", ())) or 1
    rounding = tolerance.rounding * roundings(case.loss, terms)
    # An entry that is rounded once is off by half of its own spacing; a sum of rounded terms by that of its terms. Not by a
    # NaN of the reference, whose place `_exact` checks: a bound of NaN would let every other entry pass.
    sizes = np.where(np.isfinite(wanted), np.abs(wanted), 0.0) if terms == 1 else np.full(wanted.shape, scale)
    bounds = gradient_tolerance(case.loss, case.dtype) * scale + rounding * sizes + tolerance.smallest
    either_way = undecided(case)
    if either_way is not None:
        bounds = np.where(either_way, np.maximum(bounds, UNDECIDED_GRADIENT * scale), bounds)
    return np.asarray(bounds), scale


def _worst(got: Array, wanted: Array, bounds: Array, scale: float, dtype: str) -> Comparison:
    """The entry whose error takes up the largest share of its bound."""
    with np.errstate(invalid="ignore", over="ignore"):
        errors = np.abs(got.astype(np.float64) - wanted)
    # Infinities that stand where they should are no error.
    errors = np.where(np.isfinite(errors), errors, 0.0)
    # Where everything is exactly 0 a bound of 0 would leave 0/0: the smallest number stands in, which no error stays under.
    bounds = np.maximum(bounds, np.finfo(np.float64).tiny)
    place = np.unravel_index(int(np.argmax(errors / bounds)), errors.shape) if errors.ndim else ()
    index = tuple(int(i) for i in place)
    unit = scale or 1.0
    return Comparison(
        float(errors[index]) / unit,
        float(bounds[index]) / unit,
        index,
        float(got[index]),
        float(wanted[index]),
        *required(got, wanted),
        most_ulps(got, wanted, dtype),
    )


def _against_recording(case: Case, outcome: Outcome) -> Iterator[str]:
    """What another implementation got in float32, to the precision that its recordings have."""
    recorded = case.recorded
    if recorded is None or outcome.value is None:
        return
    parts = [] if recorded.value_is_off else [("value", outcome.value, recorded.value, RECORDED_VALUE)]
    if outcome.gradient is not None:
        parts.append(("gradient", outcome.gradient, recorded.gradient, RECORDED_GRADIENT))
    for name, got, wanted, tolerance in parts:
        scale = largest(wanted) or 1.0
        error = largest(got.astype(np.float64) - wanted) / scale
        if error > tolerance:
            yield f"{name} is off by {error:.3g} of its scale from {recorded.source}'s, allowed are {tolerance:.3g}"


def largest(x: Array) -> float:
    """The largest finite magnitude."""
    finite = x[np.isfinite(x)]
    return float(np.max(np.abs(finite))) if finite.size else 0.0


def first_place(mask: Array) -> tuple[int, ...]:
    """Where a mask holds first."""
    return tuple(int(i) for i in np.argwhere(mask)[0]) if mask.ndim else ()
