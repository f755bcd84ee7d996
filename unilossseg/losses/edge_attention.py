"""Cross entropy at the pixels that an edge branch marks, all of them or the hard ones."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from unilossseg import _errors
from unilossseg._pixels import PixelLabels, flat, size_of, split_labels, spread, upcast
from unilossseg.backends import Array, Backend
from unilossseg.losses._weighted_cross_entropy import WeightedCrossEntropy
from unilossseg.losses.ohem import OhemSelection

EPS = 1e-10


class EdgeMasked(WeightedCrossEntropy):
    """Ignores the pixels off the edges; a subclass has these fields."""

    edge_threshold: float
    ignore_index: int

    parameter_checks: ClassVar[_errors.Checks] = {"edge_threshold": _errors.number}

    def split_logits(self, logits: Any) -> tuple[Array, dict[str, Array]]:
        """Two arrays come in; the gradient is for the first alone."""
        if not isinstance(logits, tuple | list) or len(logits) != 2:
            got = f"a {type(logits).__name__}" + (f" of {len(logits)}" if isinstance(logits, tuple | list) else "")
            raise TypeError(f"{self.name}: logits must be the pair (seg_logits, edge_logits) (got {got})")
        return logits[0], {"edge_logits": logits[1]}

    def pixels(self, ops: Backend, labels: Array, **inputs: Array) -> PixelLabels:
        """Valid where the label is and the edge logit exceeds the threshold."""
        split = split_labels(ops, labels, self.ignore_index)
        edges = upcast(ops, flat(ops, ops.stop_gradient(inputs["edge_logits"]), leading=1))
        valid = split.valid & (edges > self.edge_threshold)
        return PixelLabels(ops.keep_where(valid, split.index), valid)


@dataclass(eq=False)
class EdgeAttentionLoss(EdgeMasked):
    r"""Cross entropy over the pixels that the edge branch takes for an edge.

    .. math:: L = \frac{\frac1P \sum_i m_i\, ce_i}{\frac1P \sum_i m_i + 10^{-10}}, \qquad
              m_i = [y_i \ne ignore]\,[e_i > edge\_threshold]

    The edge logits e are compared as they are, without a sigmoid, and get no gradient.

    Parameters
    ----------
    edge_threshold
        The edge logit above which a pixel counts.
    ignore_index
        The label of pixels that count nowhere.

    Shapes and dtypes
    -----------------
    Called with `((seg_logits, edge_logits), labels)`: seg_logits (N, C, *S), edge_logits (N, 1, *S) or (N, *S), floating;
    labels (N, *S) or (N, 1, *S), integers in [0, C) or `ignore_index`. Returns a scalar, float32, or float64 for float64
    logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape, dtype or label does not fit.

    References
    ----------
    Takikawa, Acuna, Jampani, Fidler, "Gated-SCNN: Gated Shape CNNs for Semantic Segmentation", arXiv:1907.05740.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import EdgeAttentionLoss
    >>> seg, edge = np.array([[[4.0, 0.0], [0.0, 0.0]]]), np.array([[[0.1, 0.9]]])
    >>> round(float(EdgeAttentionLoss()((seg, edge), np.array([[0, 1]]))), 6)
    0.693147
    """

    edge_threshold: float = 0.8
    ignore_index: int = 255

    joins_images = True

    def needs_losses(self) -> bool:
        """The edges decide."""
        return False

    def pixel_weights(self, ops: Backend, losses: Array, pixels: PixelLabels, **inputs: Array) -> Array:
        """1 / denominator at the edges."""
        xp = ops.xp
        counted = xp.divide(xp.astype(ops.count(pixels.valid), losses.dtype), size_of(losses))
        return spread(ops, pixels.valid, losses, xp.multiply(xp.add(counted, EPS), size_of(losses)))


@dataclass(eq=False)
class OhemEdgeAttentionLoss(EdgeMasked, OhemSelection):
    r"""Cross entropy over the hard pixels among those that the edge branch takes for an edge.

    .. math:: L = \frac{\frac1P \sum_i k_i\, ce_i}{\frac1P \sum_i k_i + 10^{-10}}, \qquad
              k_i = m_i\,[p_{i y_i} < t], \qquad m_i = [y_i \ne ignore]\,[e_i > edge\_threshold]

    The mask m is that of `EdgeAttentionLoss`, the selection k that of `OhemCrossEntropyLoss` among its pixels: t =
    max(thresh, the min_kept-th smallest p of the true class at them), and if they are no more than `min_kept`, or `min_kept`
    is 0, all of them are kept. The edge logits e get no gradient.

    Parameters
    ----------
    edge_threshold
        The edge logit above which a pixel counts; compared without a sigmoid.
    thresh
        The probability of the true class below which a pixel is hard.
    min_kept
        How many pixels to keep at least, in the whole batch.
    ignore_index
        The label of pixels that count nowhere.
    variant
        'corrected' mends the selection as in `OhemCrossEntropyLoss`.

    Shapes and dtypes
    -----------------
    Called with `((seg_logits, edge_logits), labels)`: seg_logits (N, C, *S), edge_logits (N, 1, *S) or (N, *S), floating;
    labels (N, *S) or (N, 1, *S), integers in [0, C) or `ignore_index`. Returns a scalar, float32, or float64 for float64
    logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape, dtype or label does not fit.

    References
    ----------
    Takikawa, Acuna, Jampani, Fidler, "Gated-SCNN: Gated Shape CNNs for Semantic Segmentation", arXiv:1907.05740.
    Shrivastava, Gupta, Girshick, "Training Region-based Object Detectors with Online Hard Example Mining",
    arXiv:1604.03540.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import OhemEdgeAttentionLoss
    >>> seg, edge = np.array([[[4.0, 0.0], [0.0, 0.0]]]), np.array([[[0.1, 0.9]]])
    >>> round(float(OhemEdgeAttentionLoss()((seg, edge), np.array([[0, 1]]))), 6)
    0.693147
    """

    edge_threshold: float = 0.8
    thresh: float = 0.7
    min_kept: int = 5000
    ignore_index: int = 255
    _: KW_ONLY
    variant: str = "paddleseg"

    eps = EPS
    joins_images = True
