"""DualTaskLoss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.reference._pixels import (
    Array,
    Marks,
    Rows,
    count_valid,
    from_rows,
    is_corrected,
    label_marks,
    pixel_rows,
    zero_rows,
)
from unilossseg.conformance.reference._softmax import softmax, through_softmax

RADIUS = 4


def dual_task(
    logits: Array,
    labels: npt.ArrayLike,
    ignore_index: int = 255,
    tau: float = 0.5,
    *,
    noise: npt.ArrayLike | None,
    variant: str = "paddleseg",
) -> tuple[float, Array]:
    """``0.5·Σd·[G > 1e-8]/n + 0.5·Σd·[Ĝ > 1e-8]/n̂`` with ``d = |G - Ĝ|·m``, n and n̂ the counts of the brackets.

    G and Ĝ are edge strengths (see `Edges`), each divided by its maximum, of the Gumbel softmax
    ``softmax((m·z + g)/tau)``, ``g = -log(1e-10 - log(u + 1e-10))``, and of the one-hot labels (ignored: class 0).
    One maximum for the batch and zero padding before the differences; corrected: a maximum for each image, replicate
    padding, and m = 0, also in the counts, for a pixel whose filter support touches an ignored one.
    """
    corrected = is_corrected(variant)
    if noise is None:
        raise ValueError("DualTaskLoss needs noise, uniform numbers of the logits' shape")
    images, classes, height, width = logits.shape
    marks = label_marks(labels, logits.shape, classes, ignore_index)
    if count_valid(marks, ignore_index) == 0:
        return 0.0, np.zeros(logits.shape)

    samples = _gumbel_softmax(logits, np.asarray(noise, dtype=np.float64), marks, ignore_index, tau)
    one_hot = zero_rows(samples)
    for n, image in enumerate(marks):
        for s, label in enumerate(image):
            one_hot[n][s][label if label != ignore_index else 0] = 1.0
    predicted = Edges(from_rows(samples, logits.shape), replicate=corrected)
    true = Edges(from_rows(one_hot, logits.shape), replicate=corrected)

    use = [[label != ignore_index for label in image] for image in marks]
    counted = [[True] * len(image) for image in marks]
    if corrected:
        use = counted = [_far_from_ignored(image, height, width, ignore_index) for image in marks]
    steep, steep_true = predicted.relative > 1e-8, true.relative > 1e-8
    pixels = [(n, s // width, s % width) for n in range(images) for s in range(height * width)]
    among = [(n, c, i, j) for n, i, j in pixels if counted[n][i * width + j] for c in range(classes)]
    count = sum(bool(steep[at]) for at in among) or 1
    count_true = sum(bool(steep_true[at]) for at in among) or 1

    terms = []
    slope = np.zeros(logits.shape)
    for n, i, j in pixels:
        if use[n][i * width + j]:
            for c in range(classes):
                at = n, c, i, j
                factor = 0.5 * float(steep[at]) / count + 0.5 * float(steep_true[at]) / count_true
                difference = float(predicted.relative[at] - true.relative[at])
                terms.append(factor * abs(difference))
                slope[at] = factor * np.sign(difference)

    to_samples = pixel_rows(predicted.backward(slope))
    gradient = zero_rows(samples)
    for n, image in enumerate(marks):
        for s, label in enumerate(image):
            if label != ignore_index:
                gradient[n][s] = [g / tau for g in through_softmax(samples[n][s], to_samples[n][s])]
    return math.fsum(terms), from_rows(gradient, logits.shape)


def _gumbel_softmax(logits: Array, noise: Array, marks: Marks, ignore_index: int, tau: float) -> Rows:
    """``softmax((m·z + g)/tau)`` of each pixel."""
    draws = pixel_rows(noise)
    samples: Rows = []
    for n, image in enumerate(pixel_rows(logits)):
        samples.append([])
        for s, row in enumerate(image):
            m = marks[n][s] != ignore_index
            scores = []
            for z, u in zip(row, draws[n][s], strict=True):
                g = -math.log(1e-10 - math.log(min(u + 1e-10, 1.0)))
                scores.append(((z if m else 0.0) + g) / tau)
            samples[-1].append(softmax(scores))
    return samples


def _far_from_ignored(image: list[int], height: int, width: int, ignore_index: int) -> list[bool]:
    """Whether no ignored pixel lies under the triangle filter (4 each way) at a pixel or at its four neighbours."""
    far = [[True] * width for _ in range(height)]
    for y in range(height):
        for x in range(width):
            if image[y * width + x] == ignore_index:
                for i in range(max(0, y - RADIUS - 1), min(height, y + RADIUS + 2)):
                    for j in range(max(0, x - RADIUS - 1), min(width, x + RADIUS + 2)):
                        if abs(i - y) <= RADIUS or abs(j - x) <= RADIUS:
                            far[i][j] = False
    return [mark for line in far for mark in line]


def triangle_matrix(size: int) -> Array:
    """Row i: the filter [1, 2, 3, 4, 5, 4, 3, 2, 1]/25 around i, where the line continues as its own mirror image."""
    matrix = np.zeros((size, size))
    for i in range(size):
        for step in range(-RADIUS, RADIUS + 1):
            place = (i + step) % (2 * size)
            if place >= size:
                place = 2 * size - 1 - place
            matrix[i, place] += (RADIUS + 1 - abs(step)) / (RADIUS + 1) ** 2
    return matrix


def difference_matrix(size: int, replicate: bool) -> Array:
    """Row i: ``0.5·(x[i+1] - x[i-1])``; beyond the ends x is 0, or with `replicate` the last pixel."""
    matrix = np.zeros((size, size))
    for i in range(size):
        for place, factor in ((i + 1, 0.5), (i - 1, -0.5)):
            if replicate:
                matrix[i, min(max(place, 0), size - 1)] += factor
            elif 0 <= place < size:
                matrix[i, place] += factor
    return matrix


@dataclass
class Edges:
    """Edge strengths of x (N, C, H, W): smoothing, differences in both directions, magnitude, over its maximum.

    ``f = T_H x T_Wᵀ``, ``gx = f D_Wᵀ``, ``gy = D_H f``, ``mag = sqrt(gx² + gy² + 1e-6)``, ``relative = mag/max(mag)``.
    """

    x: Array
    replicate: bool

    def __post_init__(self) -> None:
        images, channels, height, width = self.x.shape
        self.smooth_rows, self.smooth_columns = triangle_matrix(height), triangle_matrix(width)
        self.differ_rows = difference_matrix(height, self.replicate)
        self.differ_columns = difference_matrix(width, self.replicate)
        self.across, self.down, self.magnitude, self.relative = (np.zeros(self.x.shape) for _ in range(4))
        for n in range(images):
            for c in range(channels):
                smooth = self.smooth_rows @ self.x[n, c] @ self.smooth_columns.T
                self.across[n, c] = smooth @ self.differ_columns.T
                self.down[n, c] = self.differ_rows @ smooth
                self.magnitude[n, c] = np.sqrt(self.across[n, c] ** 2 + self.down[n, c] ** 2 + 1e-6)
        self.groups = [[n] for n in range(images)] if self.replicate else [list(range(images))]
        """The images that share one maximum: each its own in the corrected variant, else all of them."""
        for group in self.groups:
            self.relative[group] = self.magnitude[group] / self.magnitude[group].max()

    def backward(self, slope: Array) -> Array:
        """The gradient to x of a value whose gradient to `relative` is `slope`.

        ``relative = mag/M``: to mag it is ``slope/M``, and to the maximum M ``-Σ slope·mag/M²``, which its ties share.
        """
        gradient = np.zeros(self.x.shape)
        for group in self.groups:
            magnitude = self.magnitude[group]
            largest = magnitude.max()
            at_largest = magnitude == largest
            to_largest = -float(np.sum(slope[group] * magnitude)) / largest**2
            to_magnitude = slope[group] / largest + at_largest * (to_largest / int(at_largest.sum()))
            for place, n in enumerate(group):
                for c in range(self.x.shape[1]):
                    to_across = to_magnitude[place, c] * self.across[n, c] / self.magnitude[n, c]
                    to_down = to_magnitude[place, c] * self.down[n, c] / self.magnitude[n, c]
                    to_smooth = to_across @ self.differ_columns + self.differ_rows.T @ to_down
                    gradient[n, c] = self.smooth_rows.T @ to_smooth @ self.smooth_columns
        return gradient
