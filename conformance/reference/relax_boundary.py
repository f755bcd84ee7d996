"""RelaxBoundaryLoss."""

from __future__ import annotations

import math

import numpy.typing as npt

from unilossseg.conformance.reference._pixels import (
    Array,
    count_valid,
    from_rows,
    is_corrected,
    label_marks,
    pixel_rows,
    zero_rows,
)
from unilossseg.conformance.reference._softmax import negative_log_share


def relax_boundary(
    logits: Array,
    labels: npt.ArrayLike,
    border: int = 1,
    calculate_weights: bool = False,
    upper_bound: float = 1.0,
    ignore_index: int = 255,
    *,
    variant: str = "paddleseg",
) -> tuple[float, Array]:
    """Each pixel may be any of the classes around it: ``-W·log(Σ_{c around} p_c) / B``.

    B = number of classes in the (2·border + 1)² neighbourhood, W = the sum of their class weights (= B without).
    Image n: ``Σ_j Σ_i -W_n·log(…)/B_j·(1 - g_n) / (H·W - Σ g_n + 1)``, where g = 1 marks a pixel with no class around
    it (B = 1 there); the images' values are summed. Corrected: each image's own B, only pixels whose own label is
    valid, divided by the number of valid pixels in the batch.
    """
    corrected = is_corrected(variant)
    images, classes, height, width = logits.shape
    marks = label_marks(labels, logits.shape, classes, ignore_index)
    around = [neighbourhoods(image, height, width, border, classes, ignore_index) for image in marks]
    valid = count_valid(marks, ignore_index)
    rows = pixel_rows(logits)
    gradient = zero_rows(rows)
    terms = []
    for n in range(images):
        weights = [1.0] * classes
        if calculate_weights:
            weights = class_weights(around[n], classes, upper_bound)
        without_class = sum(found <= {classes} for found in around[n])
        for s, row in enumerate(rows[n]):
            members = around[n][s] - {classes}
            if not members or (corrected and marks[n][s] == ignore_index):
                continue
            total_weight = math.fsum(weights[c] for c in members)
            if corrected:
                factor = total_weight / len(members) / valid
            else:
                factor = 0.0
                for j in range(images):
                    factor += total_weight / max(1, len(around[j][s] - {classes}))
                factor /= height * width - without_class + 1
            value, slope = negative_log_share(row, members)
            terms.append(factor * value)
            gradient[n][s] = [factor * g for g in slope]
    return math.fsum(terms), from_rows(gradient, logits.shape)


def neighbourhoods(
    image: list[int], height: int, width: int, border: int, classes: int, ignore_index: int
) -> list[set[int]]:
    """For each pixel the classes around it; an ignored pixel, or a place outside the image, is "no class" = C."""
    found = []
    for i in range(height):
        for j in range(width):
            here = set()
            for y in range(i - border, i + border + 1):
                for x in range(j - border, j + border + 1):
                    inside = 0 <= y < height and 0 <= x < width
                    label = image[y * width + x] if inside else ignore_index
                    here.add(classes if label == ignore_index else label)
            found.append(here)
    return found


def class_weights(around: list[set[int]], classes: int, upper_bound: float) -> list[float]:
    """``1 + upper_bound·(1 - share)`` for a class that occurs, else 1.

    Its share is the number of neighbourhoods with the class, over that number summed over all classes and "no class".
    """
    counts = [sum(c in here for here in around) for c in range(classes + 1)]
    weights = []
    for count in counts[:classes]:
        weights.append(1 + upper_bound * (1 - count / sum(counts)) if count else 1.0)
    return weights
