"""CrossEntropyLoss and BootstrappedCrossEntropyLoss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.reference._pixels import (
    Array,
    Marks,
    from_rows,
    is_corrected,
    label_marks,
    largest_first,
    per_pixel,
    pixel_rows,
    zero_rows,
)
from unilossseg.conformance.reference._softmax import negative_log_share


@dataclass
class Pixel:
    """One pixel's cross entropy: ``nll = w[y]·(logsumexp(z) - z_y)``, with ``slope`` its gradient to the logits."""

    image: int
    place: int
    valid: bool
    nll: float
    slope: list[float]
    weight: float
    """``w[y]``, or 1 without class weights; an ignored pixel counts as one of class 0."""


def pixel_entropies(logits: Array, marks: Marks, weight: Sequence[float] | None, ignore_index: int) -> list[Pixel]:
    """The cross entropy of every pixel, image by image; an ignored pixel has nll = 0 and slope = 0."""
    pixels = []
    for n, image in enumerate(pixel_rows(logits)):
        for s, row in enumerate(image):
            y = marks[n][s]
            valid = y != ignore_index
            w = 1.0 if weight is None else float(weight[y if valid else 0])
            nll, slope = 0.0, [0.0] * len(row)
            if valid:
                value, gradient = negative_log_share(row, {y})
                nll, slope = w * value, [w * g for g in gradient]
            pixels.append(Pixel(n, s, valid, nll, slope, w))
    return pixels


def add_up(pixels: Iterable[Pixel], scale: float) -> float:
    """``scale · Σ nll``."""
    return scale * math.fsum(pixel.nll for pixel in pixels)


def weighted_gradient(logits: Array, shares: Iterable[tuple[Pixel, float]]) -> Array:
    """The gradient of ``Σ a·nll`` over pairs (pixel, a)."""
    gradient = zero_rows(pixel_rows(logits))
    for pixel, a in shares:
        gradient[pixel.image][pixel.place] = [a * g for g in pixel.slope]
    return from_rows(gradient, logits.shape)


def ratio(part: float, whole: float) -> float:
    """``part / whole``, 0 where `whole` is 0."""
    return part / whole if whole else 0.0


def cross_entropy(
    logits: Array,
    labels: npt.ArrayLike,
    weight: Sequence[float] | None = None,
    ignore_index: int = 255,
    top_k_percent_pixels: float = 1.0,
    *,
    avg_non_ignore: bool = True,
    data_format: str = "NCHW",
    variant: str = "paddleseg",
    semantic_weights: npt.ArrayLike | None = None,
) -> tuple[float, Array]:
    """``mean(nll) / (mean(m·coef) + 1e-8)``, coef = w[y].

    With q = top_k_percent_pixels < 1, over the ``k = int(q·P)`` largest nll (at least one):
    ``mean(nll) / (mean(coef) + 1e-8)``; corrected: ``k = int(q·valid)``, ``Σ nll / Σ coef``.

    Where avg_non_ignore is False, m = 1 everywhere, and an ignored pixel's coef is w[ignore_index] if that is a class,
    else 1.
    """
    corrected = is_corrected(variant)
    if data_format == "NHWC":
        logits = np.moveaxis(logits, -1, 1)
    marks = label_marks(labels, logits.shape, logits.shape[1], ignore_index)
    pixels = pixel_entropies(logits, marks, weight, ignore_index)

    if not avg_non_ignore:
        ignored = 1.0
        if weight is not None and 0 <= ignore_index < len(weight):
            ignored = float(weight[ignore_index])
        for pixel in pixels:
            pixel.weight = pixel.weight if pixel.valid else ignored

    if semantic_weights is not None:
        factors = per_pixel(semantic_weights, logits.shape, "semantic_weights")
        for pixel in pixels:
            factor = float(factors[pixel.image][pixel.place])
            pixel.nll *= factor
            pixel.slope = [factor * g for g in pixel.slope]

    scale = 0.0
    if not any(pixel.valid for pixel in pixels):
        chosen = []
    elif top_k_percent_pixels == 1:
        chosen = pixels
        counted = [pixel.weight for pixel in pixels if pixel.valid or not avg_non_ignore]
        scale = 1 / len(pixels) / (math.fsum(counted) / len(pixels) + 1e-8)
    else:
        candidates = [pixel for pixel in pixels if pixel.valid] if corrected else pixels
        k = max(1, int(np.float32(top_k_percent_pixels) * np.float32(len(candidates))))
        chosen = [candidates[i] for i in largest_first([pixel.nll for pixel in candidates])[:k]]
        coefs = math.fsum(pixel.weight for pixel in chosen)
        scale = ratio(1, coefs) if corrected else 1 / k / (coefs / k + 1e-8)

    gradient = weighted_gradient(logits, [(pixel, scale) for pixel in chosen])
    if data_format == "NHWC":
        gradient = np.moveaxis(gradient, 1, -1)
    return add_up(chosen, scale), gradient


def bootstrapped_cross_entropy(
    logits: Array,
    labels: npt.ArrayLike,
    min_K: int,
    loss_th: float,
    weight: Sequence[float] | None = None,
    ignore_index: int = 255,
    *,
    variant: str = "paddleseg",
) -> tuple[float, Array]:
    """Mean over images of the mean nll of the hard pixels.

    Of one image, with ``K = min(min_K, pixels)``: all pixels with ``nll > loss_th`` if there are more than K, else the
    K largest. Corrected: only valid pixels count, and ``Σ nll / Σ w`` takes the place of the mean.
    """
    corrected = is_corrected(variant)
    marks = label_marks(labels, logits.shape, logits.shape[1], ignore_index)
    pixels = pixel_entropies(logits, marks, weight, ignore_index)
    images = logits.shape[0]
    value = 0.0
    shares = []
    for n in range(images):
        candidates = [pixel for pixel in pixels if pixel.image == n and (pixel.valid or not corrected)]
        smallest_count = min(min_K, len(candidates))
        chosen = [pixel for pixel in candidates if pixel.nll > loss_th]
        if len(chosen) <= smallest_count:
            order = largest_first([pixel.nll for pixel in candidates])
            chosen = [candidates[i] for i in order[:smallest_count]]
        whole = math.fsum(pixel.weight for pixel in chosen) if corrected else len(chosen)
        scale = ratio(1, whole) / images
        value += add_up(chosen, scale)
        shares += [(pixel, scale) for pixel in chosen]
    return value, weighted_gradient(logits, shares)
