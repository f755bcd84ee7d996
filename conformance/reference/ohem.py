"""OhemCrossEntropyLoss, EdgeAttentionLoss and OhemEdgeAttentionLoss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy.typing as npt

from unilossseg.conformance.reference._pixels import (
    Array,
    Marks,
    count_valid,
    is_corrected,
    label_marks,
    per_pixel,
    pixel_rows,
)
from unilossseg.conformance.reference._softmax import softmax
from unilossseg.conformance.reference.cross_entropy import add_up, pixel_entropies, ratio, weighted_gradient


def ohem_cross_entropy(
    logits: Array,
    labels: npt.ArrayLike,
    thresh: float = 0.7,
    min_kept: int = 10000,
    ignore_index: int = 255,
    *,
    weight: Sequence[float] | None = None,
    variant: str = "paddleseg",
) -> tuple[float, Array]:
    """Cross entropy of the pixels whose true class is improbable: ``mean(nll·keep) / (mean(keep) + 1e-5)``."""
    marks = label_marks(labels, logits.shape, logits.shape[1], ignore_index)
    return _ohem(logits, marks, thresh, min_kept, ignore_index, weight, variant, epsilon=1e-5)


def edge_attention(
    logits: Array,
    labels: npt.ArrayLike,
    edge_threshold: float = 0.8,
    ignore_index: int = 255,
    *,
    edge_logits: npt.ArrayLike | None,
) -> tuple[float, Array]:
    """Cross entropy of the pixels on edges: ``mean(nll) / (mean(m) + 1e-10)``."""
    marks = edge_marks(logits, labels, edge_logits, edge_threshold, ignore_index)
    pixels = pixel_entropies(logits, marks, None, ignore_index)
    valid = count_valid(marks, ignore_index)
    scale = 1 / len(pixels) / (valid / len(pixels) + 1e-10) if valid else 0.0
    return add_up(pixels, scale), weighted_gradient(logits, [(pixel, scale) for pixel in pixels])


def ohem_edge_attention(
    logits: Array,
    labels: npt.ArrayLike,
    edge_threshold: float = 0.8,
    thresh: float = 0.7,
    min_kept: int = 5000,
    ignore_index: int = 255,
    *,
    edge_logits: npt.ArrayLike | None,
    variant: str = "paddleseg",
) -> tuple[float, Array]:
    """The selection of OhemCrossEntropyLoss among the pixels on edges, with 1e-10 in the denominator."""
    marks = edge_marks(logits, labels, edge_logits, edge_threshold, ignore_index)
    return _ohem(logits, marks, thresh, min_kept, ignore_index, None, variant, epsilon=1e-10)


def edge_marks(
    logits: Array, labels: npt.ArrayLike, edge_logits: npt.ArrayLike | None, edge_threshold: float, ignore_index: int
) -> Marks:
    """The labels, ignored where ``edge_logits <= edge_threshold``."""
    if edge_logits is None:
        raise ValueError("the edge losses need edge_logits")
    marks = label_marks(labels, logits.shape, logits.shape[1], ignore_index)
    edges = per_pixel(edge_logits, logits.shape, "edge_logits")
    for n, image in enumerate(marks):
        for s in range(len(image)):
            if edges[n][s] <= edge_threshold:
                image[s] = ignore_index
    return marks


def _ohem(
    logits: Array,
    marks: Marks,
    thresh: float,
    min_kept: int,
    ignore_index: int,
    weight: Sequence[float] | None,
    variant: str,
    epsilon: float,
) -> tuple[float, Array]:
    """Keep the valid pixels with ``q < t``, where q is the probability of the true class.

    ``t = max(thresh, the min_kept-th smallest q)`` if ``0 < min_kept < Σm``, else all valid pixels are kept; then
    ``mean(nll·keep) / (mean(keep) + epsilon)``. Corrected: ``q <= t``, with ``t = thresh`` at ``min_kept = 0``; then
    ``Σ nll·keep / Σ w·keep``.
    """
    corrected = is_corrected(variant)
    pixels = pixel_entropies(logits, marks, weight, ignore_index)
    probabilities = []
    for n, image in enumerate(pixel_rows(logits)):
        for s, row in enumerate(image):
            y = marks[n][s]
            # No true class: a number that is never below one.
            probabilities.append(softmax(row)[y] if y != ignore_index else softmax(row)[0] + 1)

    valid = count_valid(marks, ignore_index)
    threshold = math.inf
    if 0 < min_kept < valid:
        threshold = max(thresh, sorted(probabilities)[min_kept - 1])
    elif min_kept == 0 and corrected:
        threshold = thresh
    kept = []
    for pixel, q in zip(pixels, probabilities, strict=True):
        if pixel.valid and (q < threshold or (corrected and q == threshold)):
            kept.append(pixel)

    if corrected:
        scale = ratio(1, math.fsum(pixel.weight for pixel in kept))
    else:
        scale = 1 / len(pixels) / (len(kept) / len(pixels) + epsilon) if kept else 0.0
    return add_up(kept, scale), weighted_gradient(logits, [(pixel, scale) for pixel in kept])
