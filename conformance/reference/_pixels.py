"""Arrays taken apart into plain lists of pixels, and put together again."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Rows = list[list[list[float]]]
"""``rows[n][s][c]``: image, pixel (row by row, as NumPy flattens), class."""
Marks = list[list[int]]
"""``marks[n][s]``: one integer for each pixel of each image."""


def pixel_rows(logits: Array) -> Rows:
    """Logits (N, C, *S) as ``rows[n][s][c]``."""
    images, classes, *sizes = logits.shape
    flat = logits.reshape(images, classes, math.prod(sizes))
    rows: Rows = np.moveaxis(flat, 1, 2).tolist()
    return rows


def from_rows(rows: Rows, shape: tuple[int, ...]) -> Array:
    """``rows[n][s][c]`` as an array of shape (N, C, *S)."""
    images, classes, *sizes = shape
    flat = np.asarray(rows, dtype=np.float64).reshape(images, math.prod(sizes), classes)
    return np.moveaxis(flat, 2, 1).reshape(shape)


def zero_rows(rows: Rows) -> Rows:
    """As many zeros as `rows` has numbers."""
    return [[[0.0] * len(row) for row in image] for image in rows]


def per_pixel(values: npt.ArrayLike, shape: tuple[int, ...], what: str) -> list[list[float]]:
    """Values of shape (N, *S) or (N, 1, *S), for logits of `shape`, as ``values[n][s]``."""
    array = np.asarray(values)
    images, _, *sizes = shape
    if array.shape not in [(images, *sizes), (images, 1, *sizes)]:
        raise ValueError(f"{what} have shape {array.shape}, which does not match logits of shape {shape}")
    flat: list[list[float]] = array.reshape(images, math.prod(sizes)).tolist()
    return flat


def label_marks(labels: npt.ArrayLike, shape: tuple[int, ...], classes: int, ignore_index: int) -> Marks:
    """Labels (N, *S) or (N, 1, *S) as ``marks[n][s]``; each is in [0, classes) or is `ignore_index`."""
    marks = [[int(label) for label in image] for image in per_pixel(labels, shape, "labels")]
    for image in marks:
        for label in image:
            if label != ignore_index and not 0 <= label < classes:
                raise ValueError(f"label {label} is neither in [0, {classes}) nor the ignored label {ignore_index}")
    return marks


def count_valid(marks: Marks, ignore_index: int) -> int:
    """How many pixels of the batch are not ignored."""
    return sum(label != ignore_index for image in marks for label in image)


def largest_first(values: Sequence[float]) -> list[int]:
    """The positions of `values`, the largest value first; of equal values, the one that stands first."""
    return sorted(range(len(values)), key=lambda position: -values[position])


def is_corrected(variant: str) -> bool:
    """Whether `variant` is "corrected"; the other one is "paddleseg"."""
    if variant not in ("paddleseg", "corrected"):
        raise ValueError(f"variant must be 'paddleseg' or 'corrected' (got {variant!r})")
    return variant == "corrected"
