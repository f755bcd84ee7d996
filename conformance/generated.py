"""The generated cases: every loss and variant under every condition, and every option of a loss."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from unilossseg.conformance.cases import DTYPES, Array, Case, Layout, generator, rounded
from unilossseg.conformance.margins import is_clear
from unilossseg.conformance.specifications import LOSSES, SPECIFICATIONS, Specification

__all__ = ["LOSSES", "cases"]

IGNORED = 255
FLOATS = ("float32", "float64")
#: Losses of which it is settled how far a NaN among the logits reaches; with others what is chosen or sorted depends on it.
NAN_STAYS = ("BCELoss", "CrossEntropyLoss", "EdgeAttentionLoss", "MSELoss", "RelaxBoundaryLoss")
#: Draws of one case before it counts as impossible to keep clear of ties.
MOST_DRAWS = 500


@dataclass(frozen=True)
class Condition:
    """What is peculiar about the inputs of a case."""

    name: str
    dtypes: tuple[str, ...]
    #: How logits are drawn: see `_logits`.
    logits: str = "normal"
    share_ignored: float = 0.15
    sizes: tuple[int, ...] | None = None
    images: int | None = None
    absent: bool = False
    channel_axis: bool = False
    label_dtype: str = "int64"
    layout: Layout = "contiguous"
    chunk: int = 0
    upstream: bool = False
    #: The upstream gradient of a reduced loss; None: any number, or for half precision 64.
    scale: float | None = None
    #: NaN and Inf in the logits: at ignored pixels, or at one pixel that counts.
    nan: Literal["", "ignored", "counted"] = ""
    quick: bool = False
    #: Kinds of labels that it makes sense for.
    kinds: tuple[str, ...] = ("classes", "numbers")
    #: The losses that it is for; none named: all.
    losses: tuple[str, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


CONDITIONS = (
    Condition("plain", DTYPES, quick=True),
    Condition("all ignored", ("float16", *FLOATS), share_ignored=1.0, quick=True),
    Condition("nothing ignored", ("float32",), share_ignored=0.0),
    Condition("one class absent", FLOATS, absent=True, kinds=("classes",)),
    Condition("ties", ("float16", *FLOATS), logits="few rows", quick=True),
    Condition("all logits equal", FLOATS, logits="equal"),
    Condition("logits of ±1e4", DTYPES, logits="extreme", quick=True),
    Condition("no spatial axes", FLOATS, sizes=(), images=14),
    Condition("one spatial axis", FLOATS, sizes=(17,)),
    Condition("three spatial axes", FLOATS, sizes=(2, 3, 4)),
    Condition("strided memory", DTYPES, layout="non_contiguous"),
    Condition("batch of one", FLOATS, images=1),
    Condition("labels with a channel axis", ("float32",), channel_axis=True, kinds=("classes",)),
    Condition("uint8 labels", ("float32",), label_dtype="uint8"),
    Condition("int32 labels", ("float32",), label_dtype="int32"),
    Condition("upstream gradient", DTYPES, upstream=True),
    # Neither a power of two, by which one multiplies without rounding, nor small enough to keep tiny gradients tiny.
    Condition("gradient scaler", ("float16", "bfloat16"), upstream=True, scale=3 * 2.0**13),
    Condition("several chunks", FLOATS, chunk=24, upstream=True),
    Condition("NaN at ignored pixels", ("float16", *FLOATS), nan="ignored", losses=("LovaszHingeLoss",)),
    Condition("NaN at a pixel", FLOATS, nan="counted", losses=NAN_STAYS),
)
#: The plain condition, which each option of a loss is tried under.
OPTION = Condition("", ("float16", *FLOATS))


def cases(loss: str) -> Iterator[Case]:
    """The generated cases of a loss."""
    specification = SPECIFICATIONS[loss]
    for variant in specification.variants:
        for condition in CONDITIONS:
            if _fits(specification, condition):
                for dtype in condition.dtypes:
                    yield _case(specification, variant, condition, dtype)
        for option in specification.options:
            changed = specification.with_option(option)
            condition = replace(OPTION, name=option.name, upstream=option.upstream, **option.condition)
            for dtype in condition.dtypes:
                yield _case(changed, variant, condition, dtype)


def _fits(specification: Specification, condition: Condition) -> bool:
    free_axes = condition.sizes is None or not specification.planar
    wanted = not condition.losses or specification.loss in condition.losses
    return wanted and free_axes and specification.labels in condition.kinds


def _case(specification: Specification, variant: str | None, condition: Condition, dtype: str) -> Case:
    name = "/".join((specification.loss, variant or "-", _slug(condition.name), dtype))
    parameters = {**specification.parameters, **({"variant": variant} if variant else {})}
    draws = generator(name)
    for _ in range(MOST_DRAWS):
        arrays = _arrays(specification, parameters, condition, dtype, draws)
        if is_clear(specification.loss, parameters, arrays):
            break
    else:
        raise RuntimeError(f"{name}: no inputs found that keep clear of ties in {MOST_DRAWS} draws")
    return Case(
        id=name,
        loss=specification.loss,
        parameters=parameters,
        dtype=dtype,
        condition=condition.name,
        arrays=arrays,
        layout=condition.layout,
        chunk=condition.chunk,
        quick=condition.quick and dtype != "float64",
    )


def _slug(name: str) -> str:
    """A condition's name in plain letters, as one types it."""
    return "-".join(re.findall(r"[a-zA-Z0-9_]+", name))


def _arrays(
    specification: Specification,
    parameters: Mapping[str, Any],
    condition: Condition,
    dtype: str,
    draws: np.random.Generator,
) -> dict[str, Array]:
    sizes = specification.sizes if condition.sizes is None else condition.sizes
    shape = (condition.images or specification.images, *specification.channels, *sizes)
    work = "float64" if dtype == "float64" else "float32"
    labels = _labels(specification, condition, shape, draws)
    logits = rounded(_logits(specification, condition.logits, shape, labels, draws), dtype)
    if condition.nan:
        _spoil(logits, labels, condition, specification)
    arrays = {"logits": logits, "labels": labels}
    if labels.dtype.kind == "f":
        arrays["labels"] = rounded(labels, dtype)
    if specification.edges:
        edges = draws.uniform(0, 2, (shape[0], 1, *sizes))
        step = specification.edge_step
        arrays["edge_logits"] = rounded(np.round(edges / step) * step if step else edges, dtype)
    if specification.noise:
        # Away from 0 and 1, where the logarithms of the noise lose float32's digits before any loss is computed.
        arrays["noise"] = draws.uniform(0.02, 0.98, shape).astype(work)
    if specification.semantic_weights:
        arrays["semantic_weights"] = draws.uniform(0.5, 2.0, (shape[0], *sizes)).astype(work)
    if condition.logits == "few rows" and specification.noise:
        # Two equal images: the largest edge is then found twice, and its gradient is shared.
        for name in ("logits", "labels", "noise"):
            arrays[name] = np.repeat(arrays[name][:1], shape[0], axis=0)
    if condition.upstream:
        each = parameters.get("reduction") == "none"
        # A gradient scaler's factor for half precision; elsewhere any number.
        scale = draws.normal(size=shape) if each else np.asarray(64.0 if work != dtype else draws.uniform(0.2, 3.0))
        arrays["upstream"] = np.asarray(scale if condition.scale is None else condition.scale).astype(work)
    if parameters.get("data_format") == "NHWC":
        arrays["logits"] = np.ascontiguousarray(np.moveaxis(arrays["logits"], 1, -1))
    return arrays


def _logits(
    specification: Specification, style: str, shape: tuple[int, ...], labels: Array, draws: np.random.Generator
) -> Array:
    """Logits; `few rows` and `equal` hold exact ties, `extreme` the largest numbers that float16 has room for."""
    if style == "equal":
        return np.zeros(shape)
    if style == "extreme":
        return draws.choice([-1e4, 0.0, 1e4], size=shape)
    logits = 2 * draws.normal(size=shape)
    if style == "normal":
        return logits
    if specification.labels == "numbers":
        # Half of the elements meet their label exactly: the kink of the absolute value.
        return np.where(draws.random(shape) < 0.5, np.broadcast_to(labels, shape), logits)
    # Each pixel gets one of three rows of logits, so that its loss has many exact equals and all others are far.
    rows = 2 * draws.normal(size=(3, shape[1]))
    if shape[1] == 1:
        rows[:2, 0] = 1.0, -1.0  # the kink of the hinge
    which = draws.integers(0, 3, size=(shape[0], *shape[2:]))
    return np.moveaxis(rows[which], -1, 1)


def _spoil(logits: Array, labels: Array, condition: Condition, specification: Specification) -> None:
    """Puts NaN, and at ignored pixels Inf too, into the first channel."""
    ignored = labels == int(specification.parameters.get("ignore_index", IGNORED))
    places = np.argwhere(ignored if condition.nan == "ignored" else ~ignored)
    for number, place in enumerate(places if condition.nan == "ignored" else places[:1]):
        entry = tuple(place) if logits.ndim == labels.ndim else (place[0], 0, *place[1:])
        logits[entry] = (np.nan, np.inf)[number % 2]


def _labels(specification: Specification, condition: Condition, shape: tuple[int, ...], draws: np.random.Generator) -> Array:
    """Labels; the ignored ones are 255 unless the loss is told otherwise."""
    ignored = int(specification.parameters.get("ignore_index", IGNORED))
    if specification.labels == "numbers":
        labels: Array = 2 * draws.normal(size=shape)
        if condition.label_dtype != "int64":
            labels = draws.integers(0, 4, size=shape).astype(condition.label_dtype)
    elif specification.dense:
        labels = draws.integers(0, 2, size=shape)
        if specification.soft:
            labels = np.where(draws.random(shape) < 0.3, draws.random(shape), labels)
    else:
        # With one channel the labels are 0 and 1.
        classes = max(2, shape[1])
        labels = draws.integers(0, classes - 1 if condition.absent else classes, size=(shape[0], *shape[2:]))
    labels[_ignored_places(specification, condition, labels.shape, draws)] = ignored
    if condition.channel_axis:
        labels = labels[:, None]
    return labels if labels.dtype.kind == "f" else labels.astype(condition.label_dtype)


def _ignored_places(
    specification: Specification, condition: Condition, shape: Sequence[int], draws: np.random.Generator
) -> Array:
    if condition.share_ignored == 1:
        return np.ones(shape, dtype=bool)
    places = draws.random(shape) < condition.share_ignored
    if specification.noise and condition.share_ignored:
        # An ignored pixel takes its whole neighbourhood of the edge filter with it: one corner is enough.
        places[...] = False
        places[..., 0, 0] = True
    return places
