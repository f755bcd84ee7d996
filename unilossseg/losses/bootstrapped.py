"""Cross entropy over the pixels of each image that are hard enough, or the K hardest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import ClassVar

from unilossseg import _errors
from unilossseg._pixels import PixelLabels, keep_where, ratio, shape_of, top_k_mask, total
from unilossseg.backends import Array, Backend
from unilossseg.losses._weighted_cross_entropy import WeightedCrossEntropy


@dataclass(eq=False)
class BootstrappedCrossEntropyLoss(WeightedCrossEntropy):
    r"""Cross entropy averaged over the hard pixels of each image, then over the images.

    .. math:: L = \frac1N \sum_n \frac{1}{|H_n|} \sum_{i \in H_n} w_{y_i}\, ce_i

    H_n: the pixels of image n with a weighted loss above `loss_th`, if they are more than `min_K`; else its `min_K`
    pixels of the largest loss (all, if there are fewer), equal ones in the order of the pixels.

    Parameters
    ----------
    min_K
        The least number of pixels per image, at least 0.
    loss_th
        The loss above which a pixel is hard.
    weight
        One non-negative weight per class, None for 1.
    ignore_index
        The label of pixels whose loss is 0.
    variant
        The reference lets ignored pixels (loss 0) among the hardest and divides by their number. 'corrected': only
        valid pixels are chosen, and each image's sum is divided by the sum of its chosen pixels' class weights.

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
    Pohlen, Hermans, Mathias, Leibe, "Full-Resolution Residual Networks for Semantic Segmentation in Street Scenes",
    arXiv:1611.08323.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import BootstrappedCrossEntropyLoss
    >>> logits = np.array([[[2.0, 0.0, -3.0], [0.0, 0.0, 0.0]]])
    >>> round(float(BootstrappedCrossEntropyLoss(1, 0.5)(logits, np.array([[0, 0, 0]]))), 6)
    1.870867
    """

    min_K: int  # noqa: N815  the contract's name
    loss_th: float
    weight: Sequence[float] | Array | None = None
    ignore_index: int = 255
    _: KW_ONLY
    variant: str = "paddleseg"

    parameter_checks: ClassVar[_errors.Checks] = {
        "min_K": partial(_errors.integer, at_least=0),
        "loss_th": _errors.number,
        "weight": _errors.weights,
        "variant": _errors.variant,
    }

    def pixel_weights(self, ops: Backend, losses: Array, pixels: PixelLabels, **inputs: Array) -> Array:
        """1 / (images * chosen pixels) for the chosen pixels of each image."""
        xp = ops.xp
        w = self.class_weight(ops, pixels, losses)
        # Without weights they are the losses, which are 0 where ignored.
        hardness = w * losses if self.is_weighted else losses
        images, count = shape_of(losses)
        hard = (hardness > self.loss_th) | xp.isnan(hardness)
        corrected = self.variant == "corrected"
        if corrected:
            hard = hard & pixels.valid
            hardness = keep_where(ops, pixels.valid, hardness, -math.inf)
        least = min(self.min_K, count)
        many = ops.count(hard, axis=1, keepdims=True) > self.min_K
        chosen = (hard & many) | (top_k_mask(ops, hardness, least) & ~many) if least > 0 else hard
        if corrected:
            chosen = chosen & pixels.valid
            counted = total(ops, keep_where(ops, chosen, w), axis=1)
        else:
            counted = xp.astype(ops.count(chosen, axis=1), w.dtype)
        each = ratio(ops, xp.ones_like(counted), xp.multiply(counted, images))[:, None]
        return ops.elementwise(lambda chosen, w, each: keep_where(ops, chosen, w * each), chosen, w, each)
