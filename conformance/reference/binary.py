"""BCELoss."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.reference._pixels import Array, from_rows, is_corrected, pixel_rows, zero_rows
from unilossseg.conformance.reference._softmax import sigmoid, softplus

Truth = list[list[list[float]]]
"""``truth[n][s][c]``: the label of each logit, with the ignored ones set to 0."""
Mask = list[list[list[bool]]]
"""``mask[n][s]``: one entry for each logit, or a single one for all logits of a pixel."""


def binary_cross_entropy(
    logits: Array,
    labels: npt.ArrayLike,
    weight: Sequence[float] | str | None = None,
    pos_weight: float | str | None = None,
    ignore_index: int = 255,
    edge_label: bool = False,
    *,
    variant: str = "paddleseg",
) -> tuple[float, Array]:
    """``mean(e·m) / (mean(m) + 1e-10)`` with ``e = w·[(1 - y)·softplus(z) + w₊·y·softplus(-z)]``.

    The bracket is ``(1 - y)·z + (1 + (w₊ - 1)·y)·softplus(-z)``, its slope ``(1 - y)·sigmoid(z) - w₊·y·sigmoid(-z)``.
    'dynamic', from the numbers n₊ and n₋ of labels equal to 1 and 0: ``w = 2·n₋/(n₊ + n₋ + 1e-10)`` on positives and
    ``2·n₊/(…)`` on negatives; ``w₊ = 2·n₋/(…)``. `edge_label` changes nothing.
    """
    corrected = is_corrected(variant)
    truth, mask = truth_and_mask(np.asarray(labels), logits.shape, ignore_index)
    share_negative, share_positive = _shares(truth, mask, valid_only=corrected)
    rows = pixel_rows(logits)

    numerators = []
    gradient = zero_rows(rows)
    for n, image in enumerate(rows):
        for s, row in enumerate(image):
            for c, z in enumerate(row):
                if not _marked(mask[n][s], c):
                    continue
                y = truth[n][s][c]
                if weight is None:
                    w = 1.0
                elif isinstance(weight, str):
                    w = 2 * share_negative * y + 2 * share_positive * (1 - y)
                else:
                    w = float(weight[n])
                if pos_weight is None:
                    w_plus = 1.0
                elif isinstance(pos_weight, str):
                    w_plus = 2 * share_negative
                else:
                    w_plus = float(pos_weight)
                numerators.append(w * ((1 - y) * softplus(z) + w_plus * y * softplus(-z)))
                gradient[n][s][c] = w * ((1 - y) * sigmoid(z) - w_plus * y * sigmoid(-z))

    marks = [mark for image in mask for pixel in image for mark in pixel]
    if not any(marks):
        return 0.0, np.zeros(logits.shape)
    scale = 1 / logits.size / (sum(marks) / len(marks) + 1e-10)
    return scale * math.fsum(numerators), scale * from_rows(gradient, logits.shape)


def truth_and_mask(labels: npt.NDArray[np.generic], shape: tuple[int, ...], ignore_index: int) -> tuple[Truth, Mask]:
    """The label of each logit and the mask m.

    Labels of the logits' shape stand for themselves. Labels (N, *S) or (N, 1, *S) for C > 1 channels are classes: they
    become one-hot rows, and the mask has one entry for each pixel; an ignored pixel gets the row of class 0.
    """
    images, classes, *sizes = shape
    pixels = math.prod(sizes)
    if labels.shape == (images, *sizes):
        labels = labels.reshape(images, 1, *sizes)
    if labels.shape not in [(images, 1, *sizes), shape]:
        raise ValueError(f"labels have shape {labels.shape}, which does not match logits of shape {shape}")
    one_hot = labels.shape[1] != classes

    given = np.moveaxis(labels.reshape(images, labels.shape[1], pixels), 1, 2).astype(np.float64).tolist()
    truth: Truth = []
    mask: Mask = []
    for image in given:
        truth.append([])
        mask.append([])
        for pixel in image:
            marks = [label != ignore_index for label in pixel]
            row = [label if mark else 0.0 for label, mark in zip(pixel, marks, strict=True)]
            if one_hot:
                y = int(row[0])
                if not 0 <= y < classes:
                    raise ValueError(f"label {y} is neither in [0, {classes}) nor the ignored label {ignore_index}")
                row = [1.0 if c == y else 0.0 for c in range(classes)]
            truth[-1].append(row)
            mask[-1].append(marks)
    return truth, mask


def _marked(marks: list[bool], c: int) -> bool:
    """The mask of channel c, where `marks` holds one entry for each channel or one for all."""
    return marks[c] if len(marks) > 1 else marks[0]


def _shares(truth: Truth, mask: Mask, valid_only: bool) -> tuple[float, float]:
    """``n₋/(n₊ + n₋ + 1e-10)`` and ``n₊/(n₊ + n₋ + 1e-10)``."""
    positive = negative = 0
    for truths, marks in zip(truth, mask, strict=True):
        for row, marked in zip(truths, marks, strict=True):
            for c, y in enumerate(row):
                if valid_only and not _marked(marked, c):
                    continue
                positive += y == 1
                negative += y == 0
    total = positive + negative + 1e-10
    return negative / total, positive / total
