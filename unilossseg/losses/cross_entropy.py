"""Softmax cross entropy, over all pixels or the hardest share of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from unilossseg import _errors
from unilossseg._loss import comes_before
from unilossseg._pixels import (
    PixelLabels,
    class_values,
    flat,
    in_one_pass,
    keep_where,
    numbers_like,
    numbers_of,
    ratio,
    shape_of,
    size_of,
    spread,
    top_k_mask,
    total,
    upcast,
    work_dtype,
)
from unilossseg.backends import Array, Backend, backend_of
from unilossseg.losses._weighted_cross_entropy import WeightedCrossEntropy

EPS = 1e-8


@dataclass(eq=False)
class CrossEntropyLoss(WeightedCrossEntropy):
    r"""Softmax cross entropy with class weights, and optionally only over the hardest pixels.

    .. math:: L = \frac{\frac1P \sum_i m_i\, w_{y_i} (\log\sum_c e^{z_{ic}} - z_{i y_i})}
                       {\frac1P \sum_i m_i\, w_{y_i} + 10^{-8}}

    with m_i = 0 where ignored and P the number of pixels. With `top_k_percent_pixels` q < 1 both means run over the
    k = int(q P) pixels of the largest weighted loss of the whole batch (at least one; q P in float32, so that 0.29 of 100
    pixels are 29), equal ones in the order of the pixels.

    Parameters
    ----------
    weight
        One non-negative weight per class, None for 1.
    ignore_index
        The label of pixels that count nowhere.
    top_k_percent_pixels
        The share of pixels to keep, in [0, 1].
    avg_non_ignore
        Whether the denominator counts only pixels that are not ignored. False: ignored ones count too, each as 1, or as
        w[ignore_index] where that is a class.
    data_format
        'NCHW', or 'NHWC' for logits (N, *S, C); for any number of spatial axes.
    variant
        With top-k the reference lets ignored pixels take part (as loss 0) and counts them in the denominator.
        'corrected': k = int(q * valid), over valid pixels, and sum(w ce) / sum(w) of the chosen, whatever `avg_non_ignore`.

    Shapes and dtypes
    -----------------
    logits (N, C, *S), float16, bfloat16, float32 or float64; labels (N, *S) or (N, 1, *S), integers in [0, C) or
    `ignore_index`; `semantic_weights` in the call, (N, *S), multiply each pixel's loss. Returns a scalar, float32, or
    float64 for float64 logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape, dtype or label does not fit.

    References
    ----------
    Top-k pixels: Wu, Shen, van den Hengel, "Bridging Category-level and Instance-level Semantic Image Segmentation",
    arXiv:1605.06885.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import CrossEntropyLoss
    >>> logits = np.array([[[2.0, 0.0], [0.0, 1.0]]])
    >>> round(float(CrossEntropyLoss()(logits, np.array([[0, 255]]))), 6)
    0.126928
    """

    weight: Sequence[float] | Array | None = None
    ignore_index: int = 255
    top_k_percent_pixels: float = 1.0
    _: KW_ONLY
    avg_non_ignore: bool = True
    data_format: str = "NCHW"
    variant: str = "paddleseg"

    call_inputs = ("semantic_weights",)
    packed_logits = tallied = defers = joins_images = True
    parameter_checks: ClassVar[_errors.Checks] = {
        "weight": _errors.weights,
        "top_k_percent_pixels": partial(_errors.number, at_least=0, at_most=1),
        "avg_non_ignore": _errors.flag,
        "data_format": partial(_errors.choice, options=("NCHW", "NHWC")),
        "variant": _errors.variant,
    }
    #: Whether a pixel's weight is that of its class, which loops know; not where a subclass has other pixels or weights.
    has_loop: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        """Looks whether it changes what the loops take for granted."""
        super().__init_subclass__(**options)
        if any(comes_before(cls, name, "has_loop") for name in ("pixels", "class_weight", "pixel_weights")):
            cls.has_loop = False

    def split_logits(self, logits: Any) -> tuple[Array, dict[str, Array]]:
        """Channels last are a matter of the view alone."""
        logits, further = super().split_logits(logits)
        rank = getattr(logits, "ndim", 0)
        if self.data_format == "NHWC" and rank >= 2:
            logits = self._move(logits, (0, rank - 1, *range(1, rank - 1)))
        return logits, further

    def value_and_grad(
        self,
        logits: Any,
        labels: Array,
        *,
        upstream: Array | None = None,
        validate: bool | None = None,
        **inputs: Array,
    ) -> tuple[Any, Array]:
        """See `unilossseg.value_and_grad`."""
        value, gradient = super().value_and_grad(logits, labels, upstream=upstream, validate=validate, **inputs)
        if self.data_format == "NCHW":
            return value, gradient
        return value, self._move(gradient, (0, *range(2, gradient.ndim), 1))

    def _move(self, x: Array, axes: tuple[int, ...]) -> Array:
        ops = backend_of(x)
        with ops.full_precision():
            return ops.xp.permute_dims(x, axes)

    def needs_losses(self) -> bool:
        """Only to find the hardest pixels."""
        return self.top_k_percent_pixels < 1

    def pixel_weights(self, ops: Backend, losses: Array, pixels: PixelLabels, **inputs: Array) -> Array:
        """1 / denominator, for all pixels or the chosen ones."""
        xp = ops.xp
        semantic = inputs.get("semantic_weights")
        every = self.top_k_percent_pixels == 1
        if every and not self.is_weighted and semantic is None:
            counted = self._counted(ops, losses, pixels)
            return spread(ops, pixels.valid, losses, self._denominator(counted, size_of(losses), numbers_like(ops, counted)))
        w = self.class_weight(ops, pixels, losses)
        scaled = w
        if semantic is not None:
            # Those of ignored pixels may be anything.
            semantic = keep_where(ops, pixels.valid, flat(ops, upcast(ops, semantic), leading=1))
            scaled = w * xp.astype(semantic, w.dtype)
        if every:
            counted = self._counted(ops, w, pixels)
            whole = self._denominator(counted, size_of(w), numbers_like(ops, counted))
            return ops.elementwise(lambda weights: weights / whole, scaled)
        # Without weights they are the losses, which are 0 where ignored.
        hardness = losses if not self.is_weighted and semantic is None else scaled * losses
        return self._hardest(ops, hardness, scaled, w, pixels)

    def _counted(self, ops: Backend, w: Array, pixels: PixelLabels) -> Array:
        """The sum of the weights w that count: without class weights the number of valid pixels."""
        xp = ops.xp
        if not (self.avg_non_ignore or self.is_weighted):
            return xp.multiply(xp.ones((), dtype=w.dtype, device=ops.device(w)), size_of(w))
        if not self.avg_non_ignore:
            return total(ops, keep_where(ops, pixels.valid, w, self._weight_if_ignored()))
        if self.is_weighted:
            return total(ops, w)
        return xp.astype(ops.count(pixels.valid), w.dtype)

    def _weight_if_ignored(self) -> float:
        """What an ignored pixel counts in a mean over all pixels.

        The reference looks up the weight of the ignored label, and fails where that is not a class: such a pixel has none.
        """
        weight, label = self.weight, self.ignore_index
        return float(weight[label]) if weight is not None and 0 <= label < len(weight) else 1.0

    def _denominator(self, counted: Any, size: int, number: Callable[[float], Any]) -> Any:
        """Of so many pixels, what counts and a little; see `numbers_of`."""
        return counted + number(EPS * size)

    def closed_form(  # type: ignore[override]
        self,
        ops: Backend,
        logits: Array,
        labels: Array,
        *,
        gradient: bool,
        upstream: Array | None,
        tally: Array | None = None,
        later: bool = False,
        **inputs: Array,
    ) -> tuple[Array, Any]:
        """Where a pixel's weight depends on its class alone, in a loop that the backend may have: all that it writes is the
        gradient.
        """
        # Where there is no such loop, counting would be for nothing.
        if self.has_loop and not (self.needs_losses() or inputs) and ops.one_pass:
            found = self._by_loop(ops, logits, flat(ops, labels, leading=1), tally, gradient, upstream, later)
            if found is not None:
                return found
        return super().closed_form(ops, logits, labels, gradient=gradient, upstream=upstream, later=later, **inputs)

    def _by_loop(
        self,
        ops: Backend,
        logits: Array,
        labels: Array,
        tally: Array | None,
        gradient: bool,
        upstream: Array | None,
        later: bool,
    ) -> tuple[Array, Any] | None:
        size, dtype, weight = size_of(labels), work_dtype(ops, logits), None
        if self.weight is not None:
            weight = ops.constant(tuple(self.weight), ops.xp.empty(0, dtype=dtype, device=ops.device(logits)))
        counted, number = self._counted_by_loop(ops, labels, weight, tally)
        whole = self._denominator(counted, size, number)

        def one_pass(gradient: bool, upstream: Array | None) -> tuple[Array | None, Array | None]:
            share = ops.reciprocal(whole) if upstream is None else upstream / whole
            slopes = ops.buffer_like(logits) if gradient else None
            return ops.plain_cross_entropy(logits, labels, self.ignore_index, weight, share, slopes), slopes

        found, slopes = in_one_pass(one_pass, gradient, upstream, later)
        return None if found is None else (ops.cast(found / whole, dtype), slopes)

    def _counted_by_loop(
        self, ops: Backend, labels: Array, weight: Array | None, tally: Array | None
    ) -> tuple[Any, Callable[[float], Any]]:
        """As `_counted`, from the labels themselves; see `numbers_of`."""
        size = size_of(labels)

        def counts() -> Array:
            return ops.tally(labels, self.ignore_index, 1) if tally is None else tally

        if weight is None:
            if not self.avg_non_ignore:
                return float(size), float
            (valid,), number = numbers_of(ops, counts(), 1)
            return valid, number
        (counted,), number = numbers_of(ops, ops.xp.reshape(ops.weight_sum(labels, self.ignore_index, weight), (1,)), 1)
        if not self.avg_non_ignore:
            (valid,), _ = numbers_of(ops, counts(), 1)
            counted = counted + (number(size) - valid) * number(self._weight_if_ignored())
        return counted, number

    def _hardest(self, ops: Backend, hardness: Array, scaled: Array, w: Array, pixels: PixelLabels) -> Array:
        xp = ops.xp
        row, shape = (1, -1), shape_of(hardness)
        share = np.float32(self.top_k_percent_pixels)
        if self.variant == "corrected":
            valid = xp.reshape(pixels.valid, row)
            some = xp.astype(ops.count(valid, axis=-1, keepdims=True), xp.float32)
            k = xp.astype(xp.floor(float(share) * some), xp.int64)
            hardness = ops.keep_where(valid, xp.reshape(hardness, row), -math.inf)
            chosen = xp.reshape(top_k_mask(ops, hardness, xp.maximum(k, xp.ones_like(k))) & valid, shape)
            counted = total(ops, keep_where(ops, chosen, w)) if self.is_weighted else xp.astype(ops.count(chosen), w.dtype)
            return keep_where(ops, chosen, scaled * ratio(ops, xp.ones_like(counted), counted))
        kept = max(1, int(share * np.float32(size_of(hardness))))
        chosen = xp.reshape(top_k_mask(ops, xp.reshape(hardness, row), kept), shape)
        if self.is_weighted:
            if not self.avg_non_ignore:
                w = keep_where(ops, pixels.valid, w, self._weight_if_ignored())
            elif not self.weighs:
                # The reference looks up the weight of class 0 for an ignored pixel.
                w = class_values(ops, ops.constant(tuple(self.weight), scaled), pixels.index)  # type: ignore[arg-type]
            counted = total(ops, keep_where(ops, chosen, w))
        else:
            counted = xp.astype(ops.count(chosen), w.dtype)
        whole = xp.add(counted, kept * EPS)
        return ops.elementwise(lambda chosen, weights: keep_where(ops, chosen, weights / whole), chosen, scaled)
