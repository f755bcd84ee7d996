"""Softmax, sigmoid and their logarithms for one pixel, written so that no digit is lost to cancellation."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence


def softplus(x: float) -> float:
    """``log(1 + exp(x))``."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def sigmoid(x: float) -> float:
    """``1 / (1 + exp(-x))``."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    return math.exp(x) / (1 + math.exp(x))


def softmax(row: Sequence[float]) -> list[float]:
    """``p_c = exp(z_c) / Σ_k exp(z_k)``."""
    largest = max(row)
    powers = [math.exp(z - largest) for z in row]
    total = math.fsum(powers)
    return [power / total for power in powers]


def through_softmax(p: Sequence[float], slope: Sequence[float]) -> list[float]:
    """The gradient to the logits of a value whose gradient to ``p = softmax(z)`` is `slope`.

    ``∂p_k/∂z_c = p_k·([k = c] - p_c)``, hence ``∂v/∂z_c = p_c·(slope_c - Σ_k p_k·slope_k)``.
    """
    average = math.fsum(p_k * slope_k for p_k, slope_k in zip(p, slope, strict=True))
    return [p_c * (slope_c - average) for p_c, slope_c in zip(p, slope, strict=True)]


def negative_log_share(row: Sequence[float], members: Collection[int]) -> tuple[float, list[float]]:
    """The negative logarithm of the probability of a set A of classes, and its gradient to the logits.

    ``-log Σ_{c in A} p_c = log(1 + exp(d))`` with ``d = logsumexp_{c not in A}(z) - logsumexp_{c in A}(z)``. Its slope
    to d is ``sigmoid(d)``, the probability outside A; the gradient of d is the softmax over the classes outside A and
    minus the softmax over A. For a single class, ``A = {y}``, this is the cross entropy ``-log p_y`` and its gradient
    ``p - onehot(y)``.
    """
    inside = [z for c, z in enumerate(row) if c in members]
    outside = [z for c, z in enumerate(row) if c not in members]
    if not outside:
        return 0.0, [0.0] * len(row)
    top_inside, top_outside = max(inside), max(outside)
    sum_inside = math.fsum(math.exp(z - top_inside) for z in inside)
    sum_outside = math.fsum(math.exp(z - top_outside) for z in outside)
    d = (top_outside - top_inside) + (math.log(sum_outside) - math.log(sum_inside))
    slope = sigmoid(d)
    gradient = []
    for c, z in enumerate(row):
        if c in members:
            gradient.append(-slope * math.exp(z - top_inside) / sum_inside)
        else:
            gradient.append(slope * math.exp(z - top_outside) / sum_outside)
    return softplus(d), gradient
