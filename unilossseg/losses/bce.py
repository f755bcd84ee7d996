"""Binary cross entropy with logits, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from unilossseg import _errors, _inputs
from unilossseg._loss import Loss
from unilossseg._pixels import (
    as_weights,
    average,
    differs,
    flat,
    keep_where,
    shape_of,
    sigmoid,
    size_of,
    softplus,
    split_labels,
    total,
    upcast,
)
from unilossseg.backends import Array, Backend

EPS = 1e-10


@dataclass(eq=False)
class BCELoss(Loss):
    r"""Binary cross entropy of sigmoid(z), averaged over the elements that are not ignored.

    .. math:: L = \frac{\mathrm{mean}(m\, w\, [(1-y) z + (1 + (w_+ - 1) y) \log(1 + e^{-z})])}
                       {\mathrm{mean}(m) + 10^{-10}}

    With n+ and n- the numbers of labels 1 and 0: 'dynamic' `weight` is w = 2 n- / (n+ + n- + 1e-10) on positives and
    2 n+ / (...) on negatives; 'dynamic' `pos_weight` is w+ = 2 n- / (...).

    Parameters
    ----------
    weight
        'dynamic', or one non-negative number per image of the batch, None for 1.
    pos_weight
        'dynamic', or a non-negative number that multiplies the positive term, None for 1.
    ignore_index
        The label of elements that count nowhere.
    edge_label
        Kept as an attribute for trainers that pass edge masks to such losses; it changes nothing in the value.
    variant
        The reference counts ignored labels as negatives in the 'dynamic' weights; 'corrected' counts valid ones only.

    Shapes and dtypes
    -----------------
    logits (N, C, *S). Labels: (N, C, *S), 0, 1 or `ignore_index`, integers or (soft labels) floats in [0, 1]; (N, *S) for
    one channel; or class numbers (N, *S) or (N, 1, *S), integers in [0, C), for more channels: they are one-hot encoded.
    Returns a scalar, float32, or float64 for float64 logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape, dtype or label does not fit.

    References
    ----------
    The 'dynamic' weights balance classes as in Xie, Tu, "Holistically-Nested Edge Detection", arXiv:1504.06375.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import BCELoss
    >>> round(float(BCELoss()(np.array([[[0.0, 2.0]]]), np.array([[1, 255]]))), 6)
    0.693147
    """

    weight: str | Sequence[float] | Array | None = None
    pos_weight: str | float | None = None
    ignore_index: int = 255
    edge_label: bool = False
    _: KW_ONLY
    variant: str = "paddleseg"

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        if isinstance(self.weight, str):
            if self.weight != "dynamic":
                raise ValueError(f"{self.name}: weight must be 'dynamic' or a 1-D array (got {self.weight!r})")
        else:
            self.weight = _errors.weights(self.name, "weight", self.weight)
        if isinstance(self.pos_weight, str):
            if self.pos_weight != "dynamic":
                raise ValueError(f"{self.name}: pos_weight must be 'dynamic' or a number (got {self.pos_weight!r})")
        elif self.pos_weight is not None:
            self.pos_weight = _errors.number(self.name, "pos_weight", self.pos_weight, at_least=0)
        _errors.flag(self.name, "edge_label", self.edge_label)
        _errors.variant(self.name, self.variant)

    def class_limit(self, channels: int, dense: bool) -> int:
        """0 and 1 for labels of the logits' shape."""
        return 2 if dense else channels

    def check_channels(self, channels: int) -> None:
        """`weight` is per image, not per class."""

    def check_labels(self, backend: Backend, logits: Array, labels: Array) -> Array:
        """Labels of the logits' shape, or class numbers (N, *S) to encode."""
        full, shape = shape_of(logits), shape_of(labels)
        if isinstance(self.weight, tuple) and len(self.weight) != full[0]:
            raise ValueError(
                f"{self.name}: weight has {len(self.weight)} entries and logits a batch of {full[0]}: "
                "expected one weight per image"
            )
        if full[1] == 1 and shape == (full[0], *full[2:]):
            labels, shape = backend.xp.reshape(labels, full), full
        if shape != full:
            return _inputs.class_labels(self.name, backend, logits, labels)
        if not backend.is_dtype(labels, ("integral", "bool", "real floating")):
            raise TypeError(f"{self.name}: labels have dtype {labels.dtype}, expected integers, bool or a floating dtype")
        return labels

    def _elements(self, ops: Backend, z: Array, labels: Array) -> tuple[Array, Array, Array, Array]:
        """Targets, element weights with the denominator in them, factors of the softplus term, and the mask."""
        xp = ops.xp
        if len(labels.shape) == 2:
            pixels = split_labels(ops, labels, self.ignore_index)
            mask = pixels.valid[:, None, :]
            target = as_weights(ops, ops.one_hot(pixels.index, int(z.shape[1])), z)
        else:
            mask = differs(ops, labels, self.ignore_index)
            target = keep_where(ops, mask, xp.astype(labels, z.dtype))
        m = as_weights(ops, mask, z)
        a = m / (size_of(z) * (average(ops, m) + EPS)) + xp.zeros_like(z)
        positive, negative = self._balance(ops, target, m)
        if self.weight == "dynamic":
            a = a * (negative * target + positive * (1 - target))
        elif isinstance(self.weight, tuple):
            a = a * ops.constant(self.weight, z)[:, None, None]
        if self.pos_weight == "dynamic":
            factor = 1 + (negative - 1) * target
        elif self.pos_weight is not None:
            factor = 1 + (self.pos_weight - 1) * target  # type: ignore[operator]
        else:
            factor = xp.ones_like(target)
        return target, a, factor, mask

    def _balance(self, ops: Backend, target: Array, m: Array) -> tuple[Array, Array]:
        """Twice the share of positives, and of negatives."""
        counted = m if self.variant == "corrected" else ops.xp.ones_like(m)
        positives = total(ops, as_weights(ops, ops.xp.equal(target, 1), target) * counted)
        negatives = total(ops, as_weights(ops, ops.xp.equal(target, 0), target) * counted)
        whole = positives + negatives + EPS
        return 2 * positives / whole, 2 * negatives / whole

    def _flat_labels(self, ops: Backend, z: Array, labels: Array) -> Array:
        """Labels as (N, C, S), or class numbers as (N, S): the number of entries tells (with one channel, the former)."""
        images, _, count = shape = shape_of(z)
        return ops.xp.reshape(labels, shape if size_of(labels) == size_of(z) else (images, count))

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        z = flat(ops, logits)
        target, a, factor, mask = self._elements(ops, z, self._flat_labels(ops, z, labels))
        return total(ops, a * keep_where(ops, mask, (1 - target) * z + factor * softplus(ops, -z)))

    def closed_form(  # type: ignore[override]
        self, ops: Backend, logits: Array, labels: Array, *, gradient: bool, upstream: Array | None
    ) -> tuple[Array, Array | None]:
        """Derivative a * ((1 - y) - factor * sigmoid(-z))."""
        z = upcast(ops, logits)
        target, a, factor, mask = self._elements(ops, z, self._flat_labels(ops, z, labels))
        value = total(ops, a * keep_where(ops, mask, (1 - target) * z + factor * softplus(ops, -z)))
        if not gradient:
            return value, None
        slope = a * ((1 - target) - factor * sigmoid(ops, -z))
        return value, slope if upstream is None else slope * upstream
