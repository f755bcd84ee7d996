"""What the operations of a backend compute, in float64 and a pixel at a time where that is plainest."""

from __future__ import annotations

import math

import numpy as np


def grid(rng, shape, dtype, most=8.0):
    """Logits that are multiples of 1/64: their differences are exact in float32: an operation adds its own error alone."""
    return (rng.integers(-64 * most, 64 * most + 1, size=shape) / 64).astype(dtype)


def softmax_parts(x):
    """exp(x - top), its sum and top, of x (N, C, S)."""
    x = x.astype(np.float64)
    top = x.max(axis=1)
    powers = np.exp(x - top[:, None, :])
    return powers, powers.sum(axis=1), top


def at(x, index):
    """x[n, index[n, s], s]."""
    images, pixels = index.shape
    return np.asarray([[x[n, index[n, s], s] for s in range(pixels)] for n in range(images)], x.dtype).reshape(index.shape)


def one_hot(index, classes):
    return (np.arange(classes)[None, :, None] == index[:, None, :]).astype(np.float64)


def cross_entropy(x, index, weights=None):
    """The losses (N, S) and, with weights, the gradient of their weighted sum."""
    powers, norm, top = softmax_parts(x)
    losses = np.log(norm) + top - at(x.astype(np.float64), index)
    if weights is None:
        return losses, None
    return losses, weights[:, None, :] * (powers / norm[:, None, :] - one_hot(index, x.shape[1]))


def relaxed_cross_entropy(x, near, weights=None):
    """The losses (N, S) and, with weights, the gradient of their weighted sum."""
    powers, norm, top = softmax_parts(x)
    near_powers, near_norm, near_top = softmax_parts(np.where(near, x, -np.inf))
    losses = np.log(norm) + top - np.log(near_norm) - near_top
    if weights is None:
        return losses, None
    return losses, weights[:, None, :] * (powers / norm[:, None, :] - near_powers / near_norm[:, None, :])


def through_softmax(x, slope, weights=None):
    """The Jacobian of each pixel's softmax, as a matrix, times its slope."""
    powers, norm, _ = softmax_parts(x)
    p = powers / norm[:, None, :]
    jacobian = np.einsum("ncs,cd->nscd", p, np.eye(x.shape[1])) - np.einsum("ncs,nds->nscd", p, p)
    found = np.einsum("nscd,nds->ncs", jacobian, slope.astype(np.float64))
    return found if weights is None else found * weights[:, None, :]


def through_softmax_by_class(x, index, by_class, by_own, weights):
    """Of the slope that each pixel has."""
    return through_softmax(x, by_class[:, :, None] + by_own[:, :, None] * one_hot(index, x.shape[1]), weights)


def softmax_totals(x, index, weights):
    """Sums over the pixels: of all, of those of each class, and of the weights of these."""
    powers, norm, _ = softmax_parts(x)
    p, own = weights[:, None, :] * powers / norm[:, None, :], one_hot(index, x.shape[1])
    return p.sum(axis=2), (p * own).sum(axis=2), (weights[:, None, :] * own).sum(axis=2)


def tally(labels, ignore, most):
    """Counted label by label."""
    numbers = [label for label in labels.ravel().tolist() if ignore is None or label != ignore]
    return [len(numbers), numbers.count(1), numbers.count(0), sum(not 0 <= label <= most for label in numbers)]


def softplus(x):
    x = np.asarray(x, np.float64)
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid(x):
    x = np.asarray(x, np.float64)
    power = np.exp(-np.abs(x))
    return np.where(x > 0, 1, power) / (1 + power)


def counted(labels, ignore):
    """Which labels count, as Python compares numbers."""
    return np.asarray([ignore is None or label != ignore for label in labels.ravel().tolist()], bool).reshape(labels.shape)


def binary_cross_entropy(x, labels, ignore, weight, share, pos_weight):
    """The sum and the derivatives of `Backend.binary_cross_entropy`."""
    kept = counted(labels, ignore)
    z, y = x.astype(np.float64), np.where(kept, labels, 0).astype(np.float64)
    # Not (1 - y) z + (1 - y + pos_weight y) softplus(-z), which takes digits from digits, and is NaN where it grows without
    # bound.
    away, towards = 1 - y, pos_weight * y
    by_label = weight[0] * away + weight[1] * y
    losses = by_label * (away * softplus(z) + towards * softplus(-z))
    slopes = by_label * (away * sigmoid(z) - towards * sigmoid(-z))
    return math.fsum(losses[kept]), np.where(kept, share * slopes, 0)


def plain_cross_entropy(x, labels, ignore, share, weight=None):
    """The sum and the derivatives of `Backend.plain_cross_entropy`."""
    kept = counted(labels, ignore)
    index = np.where(kept, labels, 0).astype(np.int64)
    weights = np.ones(labels.shape) if weight is None else weight.astype(np.float64)[index]
    losses, slopes = cross_entropy(x, index, share * weights)
    kept &= weights != 0
    return math.fsum((weights * losses)[kept]), np.where(kept[:, None, :], slopes, 0)


def differences(x, labels, ignore, squares, share):
    """The sum and the derivatives of `Backend.differences`."""
    kept = counted(labels, ignore)
    d = x.astype(np.float64) - np.where(kept, labels, 0).astype(np.float64)
    losses, slopes = (d * d, 2 * d) if squares else (np.abs(d), np.sign(d))
    return math.fsum(losses[kept]), np.where(kept, share * slopes, 0)


def jaccard_steps(errors, foreground):
    """Differences of the Jaccard loss along the sorted errors, row by row and pixel by pixel; 0 at errors not above 0."""
    steps = np.zeros(errors.shape)
    for errors_of_row, hits, out in zip(errors, foreground, steps, strict=True):
        whole, hit, missed, before = int(hits.sum()), 0, 0, 0.0
        for place in sorted(range(len(hits)), key=lambda pixel: -errors_of_row[pixel]):
            hit, missed = hit + int(hits[place]), missed + int(not hits[place])
            loss = 1 - (whole - hit) / (whole + missed)
            out[place], before = loss - before, loss
    return np.where(errors > 0, steps, 0)
