"""How far inputs stay away from the places where a loss jumps.

The losses that sort or compare (top-k, OHEM, bootstrapping, Lovász) have gradients that jump where two numbers change
places. Where such numbers lie closer together than float32 resolves, two correct implementations may order them differently,
and a comparison would tell nothing. Generated cases are therefore drawn again until these numbers are either exactly
equal, which the tie rules decide, or clearly apart. Recorded inputs are what they are: `undecided` names their pixels that
float32 cannot order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from unilossseg.conformance.cases import Array, Case, ignore_index_of
from unilossseg.conformance.thresholds import EPS32

#: Numbers that are sorted or compared are at least this far apart, relative to the larger one or to 1: 80 times the
#: relative spacing of float32, several times what any of these numbers is off by when it is computed in float32.
LEAST_GAP = 1e-5
#: Nearer than this, 8 spacings of float32, their order may come out either way: each is off by up to four of them.
UNDECIDED_GAP = 8 * EPS32


def is_clear(loss: str, parameters: Mapping[str, Any], arrays: Mapping[str, Array]) -> bool:
    """Whether all numbers that a loss sorts or compares are equal or clearly apart."""
    return all(_apart(numbers) for numbers in _compared(loss, parameters, arrays))


def undecided(case: Case) -> Array | None:
    """The pixels, in the logits' shape, whose error float32 cannot tell from another pixel's in a Lovász sort.

    Such a pixel's weight is that of one place in the order or of the next. None: there is no such pixel. The losses that
    choose pixels have no such mask: what they choose must be right.
    """
    if case.loss not in ("LovaszSoftmaxLoss", "LovaszHingeLoss"):
        return None
    found = np.zeros(0, dtype=bool)
    for errors in _compared(case.loss, case.parameters, case.arrays):
        near = _nearly_equal(errors)
        found = found | near if found.size else near
    if not found.any():
        return None
    labels, logits = case.arrays["labels"], case.arrays["logits"]
    pixels = np.zeros(labels.size, dtype=bool)
    pixels[labels.ravel() != ignore_index_of(case)] = found[: int((labels != ignore_index_of(case)).sum())]
    return np.broadcast_to(pixels.reshape(logits.shape[0], 1, *logits.shape[2:]), logits.shape)


def _nearly_equal(numbers: Array) -> Array:
    """Which numbers have another one nearby that is not exactly equal."""
    order = np.argsort(numbers)
    gaps = np.diff(numbers[order]) / np.maximum(1, np.abs(numbers[order][1:]))
    near = (gaps > 0) & (gaps < UNDECIDED_GAP)
    out = np.zeros(numbers.shape, dtype=bool)
    out[order[1:][near]] = True
    out[order[:-1][near]] = True
    return out


def _apart(numbers: Array) -> bool:
    ordered = np.sort(numbers[np.isfinite(numbers)].ravel())
    gaps = np.diff(ordered) / np.maximum(1, np.abs(ordered[1:]))
    return not bool(np.any((gaps > 0) & (gaps < LEAST_GAP)))


def _compared(loss: str, parameters: Mapping[str, Any], arrays: Mapping[str, Array]) -> Iterator[Array]:
    """Arrays of numbers that are compared with one another."""
    if loss == "MixedLoss":
        for name, inner in parameters["losses"]:
            yield from _compared(name, inner, arrays)
    elif loss == "LovaszSoftmaxLoss":
        yield from _lovasz_errors(parameters, arrays)
    elif loss == "LovaszHingeLoss":
        yield _hinge_errors(parameters, arrays)
    elif loss in ("CrossEntropyLoss", "BootstrappedCrossEntropyLoss"):
        yield np.append(_losses(parameters, arrays), [0.0, parameters.get("loss_th", 0.0)])
    elif loss in ("OhemCrossEntropyLoss", "OhemEdgeAttentionLoss"):
        yield np.append(np.exp(-_losses({**parameters, "weight": None}, arrays)), parameters.get("thresh", 0.7))


def _log_softmax(z: Array) -> Array:
    shifted = z - z.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _pixels(parameters: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[Array, Array]:
    """Logits (P, C) in float64 and labels (P,) of the valid pixels."""
    z = arrays["logits"].astype(np.float64)
    if parameters.get("data_format") != "NHWC":
        z = np.moveaxis(z, 1, -1)
    labels = arrays["labels"].ravel()
    valid = labels != parameters.get("ignore_index", 255)
    return z.reshape(-1, z.shape[-1])[valid], labels[valid].astype(np.int64)


def _losses(parameters: Mapping[str, Any], arrays: Mapping[str, Array]) -> Array:
    """Weighted cross entropies of the valid pixels."""
    z, labels = _pixels(parameters, arrays)
    losses = -np.take_along_axis(_log_softmax(z), labels[:, None], axis=1)[:, 0]
    if parameters.get("weight") is not None:
        losses = losses * np.asarray(parameters["weight"])[labels]
    if "semantic_weights" in arrays:
        valid = arrays["labels"].ravel() != parameters.get("ignore_index", 255)
        losses = losses * arrays["semantic_weights"].ravel()[valid]
    return np.asarray(losses)


def _lovasz_errors(parameters: Mapping[str, Any], arrays: Mapping[str, Array]) -> Iterator[Array]:
    z, labels = _pixels(parameters, arrays)
    if z.shape[1] == 1:
        if parameters.get("variant") == "corrected":
            yield np.abs((labels == 1) - 1 / (1 + np.exp(-np.clip(z[:, 0], -700, 700))))
        return
    p = np.exp(_log_softmax(z))
    for channel in range(z.shape[1]):
        yield np.abs((labels == channel) - p[:, channel])


def _hinge_errors(parameters: Mapping[str, Any], arrays: Mapping[str, Array]) -> Array:
    z, labels = _pixels(parameters, arrays)
    score = z[:, 0]
    if z.shape[1] == 2:
        score = z[:, 1] - z[:, 0]
        if parameters.get("variant") != "corrected":
            p = np.exp(_log_softmax(z))
            score = np.log(p[:, 1] + 1e-9 / (p[:, 0] + 1e-9))
    # 0 is where the hinge bends.
    return np.append(1 - score * (2 * labels - 1), 0.0)
