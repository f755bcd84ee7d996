"""Online hard example mining: cross entropy over the pixels that the network is least sure of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import ClassVar

from unilossseg import _errors
from unilossseg._pixels import PixelLabels, keep_where, ratio, size_of, spread, total
from unilossseg.backends import Array, Backend
from unilossseg.losses._weighted_cross_entropy import WeightedCrossEntropy


class OhemSelection(WeightedCrossEntropy):
    """The pixel weights that the OHEM losses share; a subclass has these fields."""

    thresh: float
    min_kept: int
    ignore_index: int
    variant: str

    #: Added to the mean of the kept pixels.
    eps: ClassVar[float]
    chooses_pixels = (*WeightedCrossEntropy.chooses_pixels, "kept")
    parameter_checks: ClassVar[_errors.Checks] = {
        "thresh": _errors.number,
        "min_kept": partial(_errors.integer, at_least=0),
        "variant": _errors.variant,
    }

    def pixel_weights(self, ops: Backend, losses: Array, pixels: PixelLabels, **inputs: Array) -> Array:
        """1 / denominator for the kept pixels."""
        kept = self.kept(ops, losses, pixels)
        w = self.class_weight(ops, pixels, losses) if self.is_weighted else None
        if self.variant == "corrected" and w is not None:
            counted = total(ops, keep_where(ops, kept, w))
            return keep_where(ops, kept, w * ratio(ops, ops.xp.ones_like(counted), counted))
        xp, whole = ops.xp, ops.xp.astype(ops.count(kept), losses.dtype)
        if self.variant == "corrected":
            # Where none is kept, 1 is as good as any.
            return spread(ops, kept, losses, xp.maximum(whole, xp.ones_like(whole)))
        # Not operators: where Paddle traces a program it rounds a Python number beside one to float32.
        whole = xp.multiply(xp.add(xp.divide(whole, size_of(losses)), self.eps), size_of(losses))
        if w is None:
            return spread(ops, kept, losses, whole)
        return ops.elementwise(lambda kept, w: keep_where(ops, kept, w / whole), kept, w)

    def kept(self, ops: Backend, losses: Array, pixels: PixelLabels) -> Array:
        """Valid pixels whose probability of the true class lies below the threshold: bool (N, S)."""
        xp = ops.xp
        corrected = self.variant == "corrected"
        if self.min_kept == 0 and not corrected:
            return pixels.valid
        # Above every probability, so that an ignored pixel is never among the least sure.
        sure = ops.elementwise(lambda ce, valid: ops.keep_where(valid, xp.exp(-ce), 2.0), losses, pixels.valid)
        limit = xp.full_like(losses[:1, :1], self.thresh)
        if self.min_kept > 0:
            # The min_kept-th smallest.
            place = min(self.min_kept, size_of(losses))
            limit = xp.maximum(limit, -ops.kth_largest(-xp.reshape(sure, (1, -1)), place))
        unsure = xp.less_equal(sure, limit) if corrected else sure < limit
        unsure = (unsure | xp.isnan(sure)) & pixels.valid
        enough = ops.count(pixels.valid) > self.min_kept
        return xp.where(enough, unsure, pixels.valid)


@dataclass(eq=False)
class OhemCrossEntropyLoss(OhemSelection):
    r"""Cross entropy over hard pixels: those whose probability of the true class lies below a threshold.

    .. math:: L = \frac{\frac1P \sum_i k_i\, w_{y_i}\, ce_i}{\frac1P \sum_i k_i + 10^{-5}}, \qquad
              k_i = m_i\,[p_{i y_i} < t]

    t = max(thresh, the min_kept-th smallest p of the true class in the batch). If no more than `min_kept` pixels are
    valid, or `min_kept` is 0, every valid pixel is kept.

    Parameters
    ----------
    thresh
        The probability below which a pixel is hard.
    min_kept
        How many pixels to keep at least, in the whole batch.
    ignore_index
        The label of pixels that count nowhere.
    weight
        One non-negative weight per class, None for 1.
    variant
        The reference's strict `<` keeps fewer than `min_kept` (none on ties), `min_kept=0` switches the threshold off,
        and eps shrinks the loss when few are kept. 'corrected': `p <= t`, the threshold holds at `min_kept=0`, and
        sum(k w ce) / sum(k w).

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
    Shrivastava, Gupta, Girshick, "Training Region-based Object Detectors with Online Hard Example Mining",
    arXiv:1604.03540.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import OhemCrossEntropyLoss
    >>> logits = np.array([[[4.0, 0.0, -3.0], [0.0, 0.0, 0.0]]])
    >>> round(float(OhemCrossEntropyLoss(min_kept=1)(logits, np.array([[0, 0, 0]]))), 6)
    1.870839
    """

    thresh: float = 0.7
    min_kept: int = 10000
    ignore_index: int = 255
    _: KW_ONLY
    weight: Sequence[float] | Array | None = None
    variant: str = "paddleseg"

    eps = 1e-5
    joins_images = True
    parameter_checks: ClassVar[_errors.Checks] = {"weight": _errors.weights}
