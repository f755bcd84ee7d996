"""Soft Dice over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

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
    upcast,
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

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        self.smooth = _errors.number(self.name, "smooth", self.smooth, at_least=0)
        self.weight = _errors.weights(self.name, "weight", self.weight)
        _errors.variant(self.name, self.variant)

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        pixels = split_labels(ops, labels, self.ignore_index)
        z = flat(ops, logits)
        valid = as_weights(ops, pixels.valid, z)[:, None, :]
        onehot = as_weights(ops, ops.one_hot(pixels.index, int(z.shape[1])), z) * valid
        p = softmax(ops, z) * valid
        return self._from_sums(ops, total(ops, p * onehot, axis=2), total(ops, p + onehot, axis=2), pixels)

    def _from_sums(self, ops: Backend, overlap: Array, size: Array, pixels: PixelLabels) -> Array:
        add = ops.xp.add  # not `+`: Paddle 2 rounds a Python number added to a float64 tensor to float32
        dice = 1 - add(2 * overlap, self.smooth) / add(size, self.smooth + EPS)
        return total(ops, dice * self._shares(ops, dice, pixels))

    def _shares(self, ops: Backend, like: Array, pixels: PixelLabels) -> Array:
        """What each image and class (N, C) counts in the mean; nothing at all in a batch without a valid pixel."""
        xp = ops.xp
        images, channels = shape_of(like)
        weight = self.weight if self.weight is not None else (1.0,) * channels
        whole = sum(weight) if self.variant == "corrected" and self.weight is not None else channels
        share = tuple(w / (whole * images) if whole else 0.0 for w in weight)
        return keep_where(ops, xp.any(pixels.valid), ops.constant(share, like)[None, :] + xp.zeros_like(like))

    def closed_form(  # type: ignore[override]
        self, ops: Backend, logits: Array, labels: Array, *, gradient: bool, upstream: Array | None
    ) -> tuple[Array, Array | None]:
        """Two sums per image and class, then a second pass in which the softmax is computed again, not stored."""
        xp = ops.xp
        pixels = split_labels(ops, labels, self.ignore_index)
        dtype = work_dtype(ops, logits)
        images, channels, count = shape_of(logits)
        valid = xp.astype(pixels.valid, dtype)
        chunks = ops.chunks(images, channels, count)

        def sums(chunk: Chunk) -> tuple[Array, Array]:
            place, span = chunk
            p = softmax(ops, upcast(ops, logits[place, :, span]))
            m, y = valid[place, span], pixels.index[place, span]
            return ops.class_sums(ops.pick(p, y) * m, y, channels), xp.sum(p * m[:, None, :], axis=2, dtype=xp.float64)

        overlap = xp.zeros((images, channels), dtype=xp.float64, device=ops.device(logits))
        size = ops.class_sums(valid, pixels.index, channels)
        for (place, _), (inside, mass) in zip(chunks, ops.run(sums, chunks), strict=True):
            overlap[place, :] += inside
            size[place, :] += mass
        value = xp.astype(self._from_sums(ops, overlap, size, pixels), dtype)
        if not gradient:
            return value, None
        return value, self._gradient(ops, logits, pixels, overlap, size, valid, upstream, chunks)

    def _gradient(
        self,
        ops: Backend,
        logits: Array,
        pixels: PixelLabels,
        overlap: Array,
        size: Array,
        valid: Array,
        upstream: Array | None,
        chunks: Sequence[Chunk],
    ) -> Array:
        xp = ops.xp
        bottom = xp.add(size, self.smooth + EPS)
        shares = self._shares(ops, size, pixels)
        by_overlap = xp.astype(-2 * shares / bottom, valid.dtype)
        by_size = xp.astype(shares * xp.add(2 * overlap, self.smooth) / (bottom * bottom), valid.dtype)
        slopes = xp.empty_like(logits)

        def task(chunk: Chunk) -> None:
            place, span = chunk
            p = softmax(ops, upcast(ops, logits[place, :, span]))
            m, y = valid[place, span], pixels.index[place, span]
            if upstream is not None:
                m = m * upstream
            # dL/dp is by_size for every class and by_overlap more for the true one; then back through the softmax.
            own = ops.pick(p, y) * ops.pick(by_overlap[place, :, None] + xp.zeros_like(p[:, :1, :]), y)
            mean = xp.sum(p * by_size[place, :, None], axis=1) + own
            p *= (by_size[place, :, None] - mean[:, None, :]) * m[:, None, :]
            slopes[place, :, span] = xp.astype(ops.subtract_at(p, y, -own * m), logits.dtype, copy=False)

        ops.run(task, chunks)
        return slopes
