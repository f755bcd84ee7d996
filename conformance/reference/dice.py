"""DiceLoss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
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
from unilossseg.conformance.reference._softmax import softmax, through_softmax


def dice(
    logits: Array,
    labels: npt.ArrayLike,
    ignore_index: int = 255,
    smooth: float = 0.0,
    *,
    weight: Sequence[float] | None = None,
    variant: str = "paddleseg",
) -> tuple[float, Array]:
    """Mean over images and (weighted) classes of ``1 - (2·I + smooth) / (S + smooth + 1e-8)``.

    ``I = Σ p·onehot·m``, ``S = Σ (p + onehot)·m`` over the pixels of one image. The weighted sum over classes is
    divided by C; corrected: by the sum of the weights. A batch without a valid pixel is 0.

    With ``D = S + smooth + 1e-8`` the slope to p of a valid pixel is ``-2·onehot/D + (2·I + smooth)/D²``.
    """
    corrected = is_corrected(variant)
    images, classes = logits.shape[:2]
    marks = label_marks(labels, logits.shape, classes, ignore_index)
    if count_valid(marks, ignore_index) == 0:
        return 0.0, np.zeros(logits.shape)
    weights = [1.0] * classes if weight is None else [float(w) for w in weight]
    divisor = math.fsum(weights) if corrected else classes
    shares = [w / divisor / images if divisor else 0.0 for w in weights]

    value = 0.0
    rows = pixel_rows(logits)
    gradient = zero_rows(rows)
    for n, image in enumerate(rows):
        valid = [s for s in range(len(image)) if marks[n][s] != ignore_index]
        p = {s: softmax(image[s]) for s in valid}
        slopes = {s: [0.0] * classes for s in valid}
        for c in range(classes):
            overlap = math.fsum(p[s][c] for s in valid if marks[n][s] == c)
            total = math.fsum(p[s][c] + (marks[n][s] == c) for s in valid)
            numerator = 2 * overlap + smooth
            denominator = total + smooth + 1e-8
            value += shares[c] * (1 - numerator / denominator)
            for s in valid:
                onehot = 1.0 if marks[n][s] == c else 0.0
                slopes[s][c] = shares[c] * (-2 * onehot / denominator + numerator / denominator**2)
        for s in valid:
            gradient[n][s] = through_softmax(p[s], slopes[s])
    return value, from_rows(gradient, logits.shape)
