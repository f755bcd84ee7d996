"""L1Loss and MSELoss."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.reference._pixels import Array, is_corrected


def l1(
    logits: Array, labels: npt.ArrayLike, reduction: str = "mean", ignore_index: int = 255
) -> tuple[float | Array, Array]:
    """``e = |z - y|``, slope ``sign(z - y)``, 0 at 0; masked and reduced."""
    return _reduce(logits, labels, reduction, ignore_index, abs, lambda x: float(np.sign(x)))


def mse(
    logits: Array,
    labels: npt.ArrayLike,
    reduction: str = "mean",
    ignore_index: int = 255,
    *,
    variant: str = "paddleseg",
) -> tuple[float | Array, Array]:
    """``e = (z - y)²``, slope ``2·(z - y)``; nothing is ignored, corrected: masked as L1Loss."""
    ignored = ignore_index if is_corrected(variant) else None
    return _reduce(logits, labels, reduction, ignored, lambda x: x * x, lambda x: 2 * x)


def _reduce(
    logits: Array,
    labels: npt.ArrayLike,
    reduction: str,
    ignore_index: int | None,
    error: Callable[[float], float],
    slope: Callable[[float], float],
) -> tuple[float | Array, Array]:
    """``mean(e·m) / (mean(m) + 1e-10)``, ``Σ e·m`` or ``e·m``; the plain mean where nothing can be ignored."""
    targets = np.asarray(labels, dtype=np.float64)
    if targets.shape != logits.shape:
        raise ValueError(f"labels have shape {targets.shape}, logits {logits.shape}")
    errors: list[float] = []
    slopes: list[float] = []
    valid = 0
    for z, y in zip(logits.ravel().tolist(), targets.ravel().tolist(), strict=True):
        counts = ignore_index is None or y != ignore_index
        valid += counts
        errors.append(error(z - y) if counts else 0.0)
        slopes.append(slope(z - y) if counts else 0.0)
    gradient = np.asarray(slopes, dtype=np.float64).reshape(logits.shape)

    if reduction == "none":
        return np.asarray(errors, dtype=np.float64).reshape(logits.shape), gradient
    if reduction == "sum":
        return math.fsum(errors), gradient
    if reduction != "mean":
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none' (got {reduction!r})")
    if valid == 0:
        return 0.0, np.zeros(logits.shape)
    share = 1.0 if ignore_index is None else valid / len(errors) + 1e-10
    scale = 1 / len(errors) / share
    return scale * math.fsum(errors), scale * gradient
