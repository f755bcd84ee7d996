"""LovaszSoftmaxLoss and LovaszHingeLoss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.reference._pixels import (
    Array,
    from_rows,
    is_corrected,
    label_marks,
    largest_first,
    pixel_rows,
    zero_rows,
)
from unilossseg.conformance.reference._softmax import sigmoid, softmax, through_softmax


def lovasz_weights(foreground: Sequence[bool]) -> list[float]:
    """By how much each pixel raises the Jaccard loss, as the pixels are predicted wrongly one after another.

    `foreground` tells which pixels belong to the class, in falling order of their errors. After the first k pixels,
    ``jaccard_k = 1 - (G - foreground among them) / (G + background among them)``, G = all foreground pixels; the k-th
    weight is ``jaccard_k - jaccard_{k-1}`` (algorithm 1 of Berman et al., 2018).
    """
    intersection = union = sum(foreground)
    before = 0.0
    weights = []
    for belongs in foreground:
        if belongs:
            intersection -= 1
        else:
            union += 1
        jaccard = 1 - intersection / union
        weights.append(jaccard - before)
        before = jaccard
    return weights


def lovasz_softmax(
    logits: Array,
    labels: npt.ArrayLike,
    ignore_index: int = 255,
    classes: str | Sequence[int] = "present",
    *,
    variant: str = "paddleseg",
) -> tuple[float, Array]:
    """Mean over classes of ``Σ_k |onehot - p|_(k)·weight_k``, the errors of the batch's valid pixels, largest first.

    The slope to p is ``sign(p - onehot)·weight``. One channel: p = 1 and the class is 0; corrected: p = sigmoid(z) and
    the class is 1.
    """
    corrected = is_corrected(variant)
    channels = logits.shape[1]
    single = channels == 1
    marks = label_marks(labels, logits.shape, max(channels, 2), ignore_index)
    rows = pixel_rows(logits)
    valid = [(n, s) for n, image in enumerate(rows) for s in range(len(image)) if marks[n][s] != ignore_index]
    probabilities = {}
    for n, s in valid:
        row = rows[n][s]
        probabilities[n, s] = [sigmoid(row[0])] if single and corrected else softmax(row)

    everything = [1] if single and corrected else list(range(channels))
    if isinstance(classes, str):
        present = {marks[n][s] for n, s in valid}
        listed = [c for c in everything if classes == "all" or c in present]
    else:
        listed = [int(c) for c in classes]
        if single and corrected and listed != [1]:
            raise ValueError(f"with one channel, classes must be 'present', 'all' or [1] (got {classes})")
    if not valid or not listed:
        return 0.0, np.zeros(logits.shape)

    value = 0.0
    slopes = {pixel: [0.0] * channels for pixel in valid}
    for c in listed:
        channel = 0 if single else c
        belongs = [marks[n][s] == c for n, s in valid]
        distances = [probabilities[pixel][channel] - fg for pixel, fg in zip(valid, belongs, strict=True)]
        order = largest_first([abs(distance) for distance in distances])
        weights = lovasz_weights([belongs[i] for i in order])
        value += math.fsum(abs(distances[i]) * w for i, w in zip(order, weights, strict=True)) / len(listed)
        for i, w in zip(order, weights, strict=True):
            slopes[valid[i]][channel] += float(np.sign(distances[i])) * w / len(listed)

    gradient = zero_rows(rows)
    for n, s in valid:
        p, slope = probabilities[n, s], slopes[n, s]
        gradient[n][s] = [p[0] * (1 - p[0]) * slope[0]] if single else through_softmax(p, slope)
    return value, from_rows(gradient, logits.shape)


def lovasz_hinge(
    logits: Array, labels: npt.ArrayLike, ignore_index: int = 255, *, variant: str = "paddleseg"
) -> tuple[float, Array]:
    """``Σ_k relu(e_(k))·weight_k`` with the errors ``e = 1 - z·(2·y - 1)``, largest first.

    Two channels become one: ``z = log(p₁ + 1e-9/(1 - p₁ + 1e-9))``; corrected: ``z = z₁ - z₀``.
    """
    corrected = is_corrected(variant)
    marks = label_marks(labels, logits.shape, 2, ignore_index)
    rows = pixel_rows(logits)
    valid = [(n, s) for n, image in enumerate(rows) for s in range(len(image)) if marks[n][s] != ignore_index]
    errors = []
    slopes = []
    for n, s in valid:
        z, dz = _single_logit(rows[n][s], corrected)
        sign = 2 * marks[n][s] - 1
        errors.append(1 - z * sign)
        slopes.append([-sign * d for d in dz])

    order = largest_first(errors)
    weights = lovasz_weights([marks[valid[i][0]][valid[i][1]] == 1 for i in order])
    value = math.fsum(max(errors[i], 0.0) * w for i, w in zip(order, weights, strict=True))
    gradient = zero_rows(rows)
    for i, w in zip(order, weights, strict=True):
        n, s = valid[i]
        if errors[i] > 0:
            gradient[n][s] = [w * slope for slope in slopes[i]]
    return value, from_rows(gradient, logits.shape)


def _single_logit(row: Sequence[float], corrected: bool) -> tuple[float, list[float]]:
    """One or two channels as a single logit z, and the slope of z to each channel."""
    if len(row) == 1:
        return row[0], [1.0]
    if len(row) != 2:
        raise ValueError(f"LovaszHingeLoss takes one or two channels (got {len(row)})")
    if corrected:
        return row[1] - row[0], [-1.0, 1.0]
    p0, p1 = softmax(row)
    rest = p0 + 1e-9
    inner = p1 + 1e-9 / rest
    slope = (1 + 1e-9 / rest**2) / inner * p1 * p0
    return math.log(inner), [-slope, slope]
