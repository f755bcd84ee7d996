"""Soft Dice over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

from unilossseg import _errors
from unilossseg._loss import Loss
from unilossseg._pixels import (
    PixelLabels,
    as_weights,
    flat,
    keep_where,
    shape_of,
    softmax,
    split_labels,
    total,
    work_dtype,
)
from unilossseg.backends import Array, Backend
from unilossseg.backends._backend import Chunk

EPS = 1e-8


@dataclass(eq=False)
class DiceLoss(Loss):
    r"""One minus the soft Dice overlap, per image and class.

    .. math:: L = \frac1C \sum_c v_c \frac1N \sum_n \left(1 -
              \frac{2 I_{nc} + smooth}{S_{nc} + smooth + 10^{-8}}\right)

    I = sum of p * onehot over the image's valid pixels, S = sum of p + onehot, p = softmax(z), v = weight or 1. A batch
    whose pixels are all ignored has loss 0.

    Parameters
    ----------
    ignore_index
        The label of pixels that count nowhere.
    smooth
        Added to numerator and denominator, at least 0.
    weight
        One non-negative number per class, None for 1.
    variant
        The reference divides a weighted sum by C; 'corrected' by the sum of the weights.

    Shapes and dtypes
    -----------------
    logits (N, C, *S); labels (N, *S) or (N, 1, *S), integers in [0, C) or `ignore_index`. Returns a scalar, float32, or
    float64 for float64 logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape, dtype or label does not fit.

    References
    ----------
    Milletari, Navab, Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image Segmentation",
    arXiv:1606.04797.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import DiceLoss
    >>> logits = np.array([[[20.0, 0.0], [0.0, 20.0]]])
    >>> round(float(DiceLoss()(logits, np.array([[0, 0]]))), 6)
    0.666667
    """

    ignore_index: int = 255
    smooth: float = 0.0
    _: KW_ONLY
    weight: Sequence[float] | Array | None = None
    variant: str = "paddleseg"

    packed_logits = defers = True
    parameter_checks: ClassVar[_errors.Checks] = {
        "smooth": partial(_errors.number, at_least=0),
        "weight": _errors.weights,
        "variant": _errors.variant,
    }

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        pixels = split_labels(ops, labels, self.ignore_index)
        z = flat(ops, logits)
        valid = as_weights(ops, pixels.valid, z)[:, None, :]
        onehot = as_weights(ops, ops.one_hot(pixels.index, int(z.shape[1])), z) * valid
        p = softmax(ops, z) * valid
        overlap, size = total(ops, p * onehot, axis=2), total(ops, p + onehot, axis=2)
        return self._from_sums(ops, overlap, size, self._shares(ops, size, pixels))

    def _from_sums(self, ops: Backend, overlap: Array, size: Array, shares: Array) -> Array:
        add = ops.xp.add  # not `+`: Paddle 2 rounds a Python number added to a float64 tensor to float32
        dice = 1 - add(2 * overlap, self.smooth) / add(size, self.smooth + EPS)
        return total(ops, dice * shares)

    def _shares(self, ops: Backend, like: Array, pixels: PixelLabels) -> Array:
        """What a class of `like` (N, C) counts in the mean, (1, C); nothing at all in a batch without a valid pixel."""
        xp = ops.xp
        images, channels = shape_of(like)
        weight = self.weight if self.weight is not None else (1.0,) * channels
        whole = sum(weight) if self.variant == "corrected" and self.weight is not None else channels
        # The number of images is no part of the constant: a device would wait for a new one with each size of batch.
        share = ops.constant(tuple(w / whole if whole else 0.0 for w in weight), like)
        # Not `/`: where Paddle traces a program it rounds a Python number beside an operator to float32.
        return keep_where(ops, xp.any(pixels.valid), xp.divide(share, images)[None, :])

    def closed_form(  # type: ignore[override]
        self,
        ops: Backend,
        logits: Array,
        labels: Array,
        *,
        gradient: bool,
        upstream: Array | None,
        later: bool = False,
    ) -> tuple[Array, Any]:
        """Two sums per image and class, then a second pass back through the softmax."""
        xp = ops.xp
        run = _Pass(ops, logits, split_labels(ops, labels, self.ignore_index))
        overlap, size = run.sums()
        shares = self._shares(ops, size, run.pixels)
        value = xp.astype(self._from_sums(ops, overlap, size, shares), run.dtype)

        def finish(upstream: Array | None) -> Array:
            below = xp.add(size, self.smooth + EPS)
            each = shares / below
            by_size = xp.astype(each * xp.add(2 * overlap, self.smooth) / below, run.dtype)
            by_overlap = xp.astype(-2 * each, run.dtype)
            return run.gradient(by_overlap, by_size, upstream)

        if later:
            return value, finish
        return value, finish(upstream) if gradient else None


class _Pass:
    """Passes over the logits, a chunk of pixels at a time: one for the sums, one for the gradient."""

    def __init__(self, ops: Backend, logits: Array, pixels: PixelLabels) -> None:
        self.ops, self.logits, self.pixels = ops, logits, pixels
        self.dtype = work_dtype(ops, logits)
        self.chunks = ops.class_chunks(logits)

    def sums(self) -> tuple[Array, Array]:
        """Of p in each image's true class, and of p and of the labels, in float64: (N, C)."""
        ops, xp = self.ops, self.ops.xp
        images, channels, _ = shape_of(self.logits)

        def task(chunk: Chunk) -> tuple[Array, Array]:
            place, span = chunk
            index, valid = self.pixels.index[chunk], xp.astype(self.pixels.valid[chunk], self.dtype)
            mass, inside, counts = ops.softmax_totals(self.logits[place, :, span], index, valid)
            return inside, mass + counts

        found = ops.run(task, self.chunks)
        if len(found) == 1:
            return found[0]
        overlap = xp.zeros((images, channels), dtype=xp.float64, device=ops.device(self.logits))
        size = xp.zeros_like(overlap)
        for (place, _), (inside, mass) in zip(self.chunks, found, strict=True):
            overlap[place, :] += inside
            size[place, :] += mass
        return overlap, size

    def gradient(self, by_overlap: Array, by_size: Array, upstream: Array | None) -> Array:
        """From dL/dp, `by_size` (N, C) for every class and `by_overlap` more for the true one, back through the softmax."""
        ops, xp, slopes = self.ops, self.ops.xp, self.ops.buffer_like(self.logits)

        def task(chunk: Chunk) -> None:
            place, span = chunk
            index, valid = self.pixels.index[chunk], xp.astype(self.pixels.valid[chunk], self.dtype)
            z, room = self.logits[place, :, span], slopes[place, :, span]
            weights = valid if upstream is None else valid * upstream
            slope = ops.through_softmax_by_class(z, index, by_size[place, :], by_overlap[place, :], weights, room)
            if slope is not room:
                slopes[place, :, span] = ops.cast(slope, slopes.dtype)

        ops.run(task, self.chunks)
        return slopes
