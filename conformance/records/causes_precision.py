"""Causes that lose digits: half or single precision on the way, TF32, a logarithm that is clipped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from unilossseg.conformance.cases import rounded
from unilossseg.conformance.records.evidence import Evidence, Floats, Prediction, Side, distance
from unilossseg.conformance.records.hypothesis import Hypothesis, predicting
from unilossseg.conformance.records.models import Model
from unilossseg.conformance.records.thresholds import EPS16, EPS32, EPS_BFLOAT16

#: Where losses are found clipped: -log of what they add or clamp to, torch's BCELoss, the least normal number of float32.
CAPS = {
    **{f"-log({eps:g})": -math.log(eps) for eps in (1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15)},
    "-log of the least normal float32": -math.log(2.0**-126),
    "where Paddle's cross entropy clips on the CPU": 64.0,
    "where torch's BCELoss clips": 100.0,
}
_HALVES = (("bfloat16", EPS_BFLOAT16), ("float16", EPS16))
#: How many steps of a type two results may be apart of which one went through it; losses that lose digits need more.
_MOST_STEPS = {"bfloat16": 64, "float16": 64, "float32": 1024}
#: Numbers that are all the same but for their powers of two, as the gradients of an L1 loss, are numbers of a half type by
#: chance. Of so many that are not, none is.
_TELLING_MANTISSAS = 8
#: How many steps of a half type the reference, rounded, may be away from fewer: a sum is rounded at every addition.
_STEPS = {"value": 8.0, "gradient": 1.0}
#: Of fewer errors of both directions most have the same one by chance.
_FEWEST_SIGNS = 8
#: The share of one direction over the other, of the errors of a channel at the pixels of a label: up to 0.6 for TF32 and
#: half types where pixels are few or alike, 0.7 to 1 for a term with another constant.
_MOST_ONE_WAY = 0.65
#: What TF32 keeps of a number that it multiplies.
_EPS_TF32 = 2.0**-10


def hypotheses(evidence: Sequence[Evidence], given: Side, other: Side, model: Model | None) -> Iterator[Hypothesis]:
    """All of them, in the direction of the evidence."""
    for name, eps in _HALVES:
        offset = _offset(evidence, name, eps)
        yield Hypothesis(
            "half precision",
            f"the {{other}} was computed or accumulated in {name}",
            "Convert the logits to float32 before the loss, or keep the loss out of autocast; sums and means above all.",
            lambda case, name=name, eps=eps, offset=offset: _held_by(case, name, eps, offset),  # type: ignore[misc]
            lambda cases, name=name, eps=eps: _held_words(cases, name, eps),  # type: ignore[misc]
            order=6,
        )
        if model is not None:
            yield _of_rounded_logits(model, name, lambda z, name=name: rounded(z, name).astype(np.float64))  # type: ignore[misc]
    offset_of_single = _offset(evidence, "float32", EPS32)
    yield Hypothesis(
        "single precision",
        "the {other} was computed in float32 or converted to it",
        "Compute in the dtype of the logits, and look for .float() or astype('float32') behind the loss; or allow for it "
        "with --value-tolerance or --gradient-tolerance.",
        lambda case: _held_by(case, "float32", EPS32, offset_of_single),
        lambda cases: _held_words(cases, "float32", EPS32),
        order=6,
    )
    on_gpu = any("cuda" in side.device or "gpu" in side.device for side in (given, other))
    if model is not None:
        if on_gpu:
            yield _of_rounded_logits(model, "TF32", _tf32)
        yield from _clipped(model)
    yield Hypothesis(
        "values capped",
        "the {other}'s losses are capped",
        "Compute the loss from logits (log_softmax, logsigmoid, cross_entropy): the logarithm then needs no clip.",
        predicting(_capped),
        lambda cases: (
            f"no loss of the {{other}} exceeds {_cap(cases[0])}, the {{given}}'s go up to {cases[0].given.value.max():.6g}"
        ),
        order=7,
    )
    yield _of_half_size(on_gpu)


# ------------------------------------------------------------------------------------------------ half precision
def _held_by(case: Evidence, name: str, eps: float, offset: bool) -> float | None:
    """Whether the one's numbers are exactly numbers of a shorter type, and those of the other are not.

    If the values have an offset, they alone are not convincing: a loss of that type with another term gives them too.
    """
    if case.same:
        return None
    found = {
        "value": (distance(case.given.value, case.other.value), case.value_bound),
        "gradient": (distance(case.given.gradient, case.other.gradient), case.gradient_bound),
    }
    apart = {word: off if off > bound else 0.0 for word, (off, bound) in found.items()}
    most = max(apart.values())
    held = _held(case, name, eps) if most <= _MOST_STEPS[name] * eps else []
    if not held:
        return 0.0
    # A value of float16 does not account for a gradient that is farther off.
    told = max(apart[word] for word in held) >= most / 2 and not (offset and held == ["value"])
    return 0.9 if told else 0.6


def _offset(evidence: Sequence[Evidence], name: str, eps: float) -> bool:
    """Whether the values, single numbers, are all off in one direction by more than a step: rounding goes both ways."""
    pairs = [(case.given.value, case.other.value) for case in evidence]
    if any(given.size != 1 or other.size != 1 for given, other in pairs):
        return False
    steps = np.asarray([((other - rounded(given, name)) / (np.abs(other) * eps)).item() for given, other in pairs])
    return bool((steps > 1).all() or (steps < -1).all())


def _held(case: Evidence, name: str, eps: float) -> list[str]:
    """The quantities of the one that are numbers of a shorter type, and not by chance; those of the other are not."""
    quantities = (
        ("value", case.given.value, case.other.value),
        ("gradient", case.given.gradient, case.other.gradient),
    )
    return [
        word
        for word, given, other in quantities
        # A coarser bfloat16 is a float16 too, in its range.
        if _holds(name, other) and not _holds(name, given) and _telling(word, given, other, name, eps)
    ]


def _telling(word: str, given: Floats | None, other: Floats | None, name: str, eps: float) -> bool:
    """Whether numbers that a shorter type holds say that it was used."""
    if other is None or given is None:
        return False
    if np.unique(np.frexp(np.abs(other[other != 0]))[0]).size >= _TELLING_MANTISSAS:
        return True
    return distance(rounded(given, name).astype(np.float64), other) <= _STEPS[word] * eps


def _holds(name: str, numbers: Floats | None) -> bool:
    if numbers is None or not numbers.any() or not np.isfinite(numbers).all():
        return False
    with np.errstate(over="ignore"):
        return bool((rounded(numbers, name).astype(np.float64) == numbers).all())


def _held_words(cases: Sequence[Evidence], name: str, eps: float) -> str:
    case = cases[0]
    what = _held(case, name, eps)
    return (
        f"every number of the {{other}}'s {' and '.join(what) or 'value'} is one of {name}, not so in the {{given}}; "
        f"they differ by {_noise(case):.2g} of the scale"
    )


def _of_rounded_logits(model: Model, name: str, rounding: Callable[[Floats], Floats]) -> Hypothesis:
    def predict(case: Evidence) -> Prediction | None:
        logits = rounding(case.logits)
        # Numbers of float16 are TF32's already, and most of bfloat16 are float16's: nothing is rounded then.
        if (logits == case.logits).all():
            return None
        result = model.result(case, logits=logits)
        return None if result is None else Prediction(result.value, result.gradient)

    return Hypothesis(
        "TF32" if name == "TF32" else "half precision",
        f"the {{other}} rounds the logits to {name} before it computes",
        "Keep the logits in float32 up to the loss: look for autocast, .half(), .bfloat16() or TF32 in front of it.",
        model.improved_by(predicting(predict)),
        lambda cases: f"{model.name} of the rounded logits {{gives}} the {{other}}'s numbers",
        order=5,
    )


def _tf32(logits: Floats) -> Floats:
    bits = logits.astype(np.float32).view(np.uint32)
    # To 10 bits of mantissa, to nearest, ties to even.
    odd = (bits >> np.uint32(13)) & np.uint32(1)
    return ((bits + np.uint32(0x0FFF) + odd) & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def _noise(case: Evidence) -> float:
    parts = [distance(case.given.value, case.other.value)]
    if case.given.gradient is not None and case.other.gradient is not None:
        parts.append(distance(case.given.gradient, case.other.gradient))
    return max(parts)


def _of_half_size(on_gpu: bool) -> Hypothesis:
    autocast = "the loss out of autocast, .half() and .bfloat16(), and record again."
    tf32 = "Switch off TF32 (torch.backends.cuda.matmul.allow_tf32, NVIDIA_TF32_OVERRIDE=0), keep "
    # No CPU multiplies in TF32.
    name, short = ("TF32 or half precision", "TF32 and float16") if on_gpu else ("half precision", "float16")
    return Hypothesis(
        name,
        f"the errors have the size of {name} on the way",
        (tf32 if on_gpu else "Keep ") + autocast,
        lambda case: _half_sized(case, 0.6 if on_gpu else 0.4),
        lambda cases: (
            ", ".join(f"{_noise(case):.2g} of the scale ({case.name})" for case in cases[:4])
            + f"; one step of {short} is 2**-11 = 0.00049, of bfloat16 2**-8 = 0.0039"
        ),
        order=60,
    )


def _half_sized(case: Evidence, score: float) -> float | None:
    """Whether the errors have half precision's size and no direction."""
    if case.dtype in ("float16", "bfloat16"):
        return None
    given, other = case.given.gradient, case.other.gradient
    # Digits that are lost are lost in every case: one that agrees speaks against it.
    if case.same or given is None or other is None or given.shape != other.shape:
        return 0.0
    if not _EPS_TF32 / 16 < _noise(case) < EPS_BFLOAT16:
        return 0.0
    large = np.abs(given) > 0.1 * np.abs(given).max(initial=0)
    return score if _without_direction((other - given) * large, case) else 0.0


def _without_direction(errors: Floats, case: Evidence) -> bool:
    """Whether errors go both ways, about as often, as those of rounding do.

    For each channel at the pixels of each label too: a factor or another formula errs there in one direction.
    """
    signed = np.sign(errors)
    found = signed[signed != 0]
    if not found.size or abs(found.mean()) >= 0.5:
        return False
    labels = case.labels
    if labels is None:
        return True
    rows = np.moveaxis(signed, 1, 0)
    groups = [rows[channel][labels == label] for label in np.unique(labels) for channel in range(case.classes)]
    counted = [group[group != 0] for group in groups if np.count_nonzero(group) >= _FEWEST_SIGNS]
    return sum(abs(group.sum()) for group in counted) <= _MOST_ONE_WAY * sum(group.size for group in counted)


# ------------------------------------------------------------------------------------------------ clipped logarithms
def _clipped(model: Model) -> Iterator[Hypothesis]:
    """A logarithm's argument that is clamped, or has an epsilon added: losses above the cap count as the cap."""
    if model.name not in ("CrossEntropyLoss", "BCELoss", "OhemCrossEntropyLoss", "BootstrappedCrossEntropyLoss"):
        return
    for words, cap in CAPS.items():
        for order, (form, changed) in enumerate(_FORMS):
            yield Hypothesis(
                "logarithm clipped",
                f"in the {{other}} the loss of a pixel is {form} {cap:.4g} ({words})",
                "Compute the loss from logits (log_softmax, logsigmoid, cross_entropy), where the logarithm needs no clip; "
                "or make sure that logits do not get so far apart.",
                predicting(lambda case, cap=cap, changed=changed: _with_cap(model, case, cap, changed)),  # type: ignore[misc]
                lambda cases, cap=cap: _cap_words(model, cases, cap),  # type: ignore[misc]
                order=7 + order,
            )


Changed = tuple[Floats, Floats]


def _clamp(losses: Floats, cap: float) -> Changed:
    """The capped losses, and what their gradients are multiplied by."""
    return np.minimum(losses, cap), (losses < cap).astype(np.float64)


def _soften(losses: Floats, cap: float) -> Changed:
    # -log(p + eps) of p = exp(-loss), eps = exp(-cap)
    return -np.logaddexp(-losses, -cap), 1 / (1 + np.exp(np.minimum(losses - cap, 700.0)))


def _clamp_value(losses: Floats, cap: float) -> Changed:
    return np.minimum(losses, cap), np.ones_like(losses)


_FORMS = (
    ("clipped at", _clamp),
    ("clipped in the value (not in the gradient) at", _clamp_value),
    ("kept finite by an epsilon at", _soften),
)


def _losses(model: Model, case: Evidence) -> Floats | None:
    """The losses of single pixels or elements, 0 where ignored, in a shape that spreads over the logits."""
    labels, valid, z = case.labels, case.valid, case.logits
    if labels is None or valid is None or case.upstream is not None:
        return None
    classes = np.arange(case.classes).reshape(1, -1, *[1] * (z.ndim - 2))
    if model.name == "BCELoss":
        target = (labels[:, None] == classes) if case.classes > 1 else (labels[:, None] == 1)
        return np.logaddexp(0, np.where(target, -z, z)) * valid[:, None]
    top = z.max(axis=1, keepdims=True)
    norm = top + np.log(np.exp(z - top).sum(axis=1, keepdims=True))
    return ((norm - z) * (labels[:, None] == classes)).sum(axis=1, keepdims=True) * valid[:, None]


def _with_cap(model: Model, case: Evidence, cap: float, changed: Callable[[Floats, float], Changed]) -> Prediction | None:
    losses = _losses(model, case)
    if losses is None or not losses.sum():
        return None
    capped, slope = changed(losses, cap)
    gradient = case.given.gradient
    # The ratio of the sums: whatever they are divided by is divided out.
    share = float((capped * (losses > 0)).sum() / losses.sum())
    return Prediction(case.given.value * share, None if gradient is None else gradient * slope)


def _cap_words(model: Model, cases: Sequence[Evidence], cap: float) -> str:
    found = [(losses, case) for case in cases if (losses := _losses(model, case)) is not None]
    # The case with the largest loss: where all are below the cap, an epsilon shows least.
    losses, case = max(found, key=lambda pair: float(pair[0].max()))
    count = int((losses > cap).sum())
    return f"{count} of {losses.size} losses of the {{given}} are above it ({case.name}), up to {losses.max():.4g}"


def _capped(case: Evidence) -> Prediction | None:
    """Unreduced losses, several of which are exactly the largest."""
    given, other = case.given.value, case.other.value
    if other.size < 2 or given.shape != other.shape or not np.isfinite(other).all() or (other == other.max()).sum() < 2:
        return None
    cap = float(other.max())
    gradient = case.given.gradient
    if gradient is not None:
        over = given >= cap
        over = over[:, None] if over.ndim == gradient.ndim - 1 else over
        fits = over.ndim == gradient.ndim and all(
            length in (1, wanted) for length, wanted in zip(over.shape, gradient.shape, strict=True)
        )
        gradient = gradient * ~over if fits else None
    return Prediction(np.minimum(given, cap), gradient)


def _cap(case: Evidence) -> str:
    cap = float(case.other.value.max())
    words = next((words for words, known in CAPS.items() if abs(known - cap) < 1e-3 * known), "")
    return f"{cap:.6g}" + (f" ({words})" if words else "")
