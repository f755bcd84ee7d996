"""The kernel of the five cross-entropy losses: sum of a_i * ce_i, with five ways to choose the pixel weights a_i."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

from unilossseg._loss import Loss, comes_before
from unilossseg._pixels import (
    PixelLabels,
    added,
    as_weights,
    class_values,
    keep_where,
    pixel_cross_entropy,
    split_labels,
    total,
    work_dtype,
)
from unilossseg.backends import Array, Backend
from unilossseg.backends._backend import Chunk


@dataclass(eq=False)
class WeightedCrossEntropy(Loss):
    """The sum over pixels of a_i * ce_i, where ce_i = logsumexp(z_i) - z_i[y_i] and a_i carries no gradient.

    A subclass defines `pixel_weights`, the one place where it differs from the others.
    """

    packed_logits = defers = True
    #: Methods that may tell images apart: a subclass with one of its own has no `joins_images` but what it says itself.
    chooses_pixels: ClassVar[tuple[str, ...]] = ("pixels", "class_weight", "pixel_weights")
    #: Whether a subclass has weights of its own, with which pixels count even where no class weights are given.
    weighs: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        """Looks whether it weighs pixels by itself. Other weights than those that its base could do without the losses get
        them, where it does not say itself that they can too.
        """
        super().__init_subclass__(**options)
        cls.weighs = cls.class_weight is not WeightedCrossEntropy.class_weight
        if any(comes_before(cls, name, "joins_images") for name in cls.chooses_pixels):
            cls.joins_images = False
        if comes_before(cls, "pixel_weights", "needs_losses"):
            cls.needs_losses = WeightedCrossEntropy.needs_losses  # type: ignore[method-assign]

    @property
    def is_weighted(self) -> bool:
        """Whether pixels may have other weights than 1."""
        return self.weighs or getattr(self, "weight", None) is not None

    def needs_losses(self) -> bool:
        """Whether the weights depend on the pixels' losses; if not, one pass over the logits is enough, and the weights are
        asked for with losses of 0.
        """
        return True

    def pixel_weights(self, ops: Backend, losses: Array, pixels: PixelLabels, **inputs: Array) -> Array:
        """The weights a (N, S), from detached losses ce (N, S), which are 0 where ignored."""
        raise NotImplementedError

    def pixels(self, ops: Backend, labels: Array, **inputs: Array) -> PixelLabels:
        """The labels; a subclass may ignore more of them."""
        return split_labels(ops, labels, self.ignore_index)  # type: ignore[attr-defined]

    def class_weight(self, ops: Backend, pixels: PixelLabels, like: Array) -> Array:
        """w[y_i] (N, S), 1 without class weights, 0 where ignored."""
        weight = getattr(self, "weight", None)
        mask = ops.elementwise(lambda valid: as_weights(ops, valid, like), pixels.valid)
        return mask if weight is None else mask * class_values(ops, ops.constant(weight, mask), pixels.index)

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        pixels = self.pixels(ops, labels, **inputs)
        losses = pixel_cross_entropy(ops, logits, pixels)
        weights = self.pixel_weights(ops, ops.stop_gradient(losses), pixels, **inputs)
        return total(ops, _terms(ops, weights, losses))

    def closed_form(  # type: ignore[override]
        self,
        ops: Backend,
        logits: Array,
        labels: Array,
        *,
        gradient: bool,
        upstream: Array | None,
        later: bool = False,
        **inputs: Array,
    ) -> tuple[Array, Any]:
        """Gradient a_i * (softmax(z_i) - onehot(y_i)), with the value in one pass over the logits or in two."""
        pixels = self.pixels(ops, labels, **inputs)
        run = _Pass(ops, logits, pixels)
        if self.needs_losses():
            losses = run.losses()
            weights = self.pixel_weights(ops, losses, pixels, **inputs)
            value = total(ops, _terms(ops, weights, losses))
            if gradient:
                return value, run.gradient(weights, upstream)
        else:
            like = ops.xp.zeros_like(pixels.index, dtype=work_dtype(ops, logits))
            weights = self.pixel_weights(ops, like, pixels, **inputs)
            value, slopes = run.value_and_gradient(weights, gradient, upstream)
            if gradient:
                return value, slopes
        return value, functools.partial(run.gradient, weights) if later else None


def _terms(ops: Backend, weights: Array, losses: Array) -> Array:
    """weights * losses, and 0 where the weight is 0, whatever the loss."""
    return ops.elementwise(lambda a, ce: a * keep_where(ops, ops.xp.not_equal(a, 0), ce), weights, losses)


class _Pass:
    """Passes over the logits, a chunk of pixels at a time."""

    def __init__(self, ops: Backend, logits: Array, pixels: PixelLabels) -> None:
        self.ops, self.logits, self.index, self.valid = ops, logits, pixels.index, pixels.valid
        self.dtype = work_dtype(ops, logits)
        self.chunks = ops.class_chunks(logits)

    def losses(self) -> Array:
        """ce (N, S), 0 where ignored."""
        ops = self.ops

        def task(chunk: Chunk) -> Array:
            return keep_where(ops, self.valid[chunk], self.of(chunk))

        if len(self.chunks) == 1:
            return task(self.chunks[0])
        out = ops.buffer_like(self.index, self.dtype)

        def put(chunk: Chunk) -> None:
            out[chunk] = task(chunk)

        ops.run(put, self.chunks)
        return out

    def value_and_gradient(self, weights: Array, gradient: bool, upstream: Array | None) -> tuple[Array, Array | None]:
        """The sum of weights * ce, and its gradient if it is wanted, in one pass."""
        ops, xp = self.ops, self.ops.xp
        slopes = ops.buffer_like(self.logits) if gradient else None

        def task(chunk: Chunk) -> Array:
            losses = self.of(chunk, weights, upstream, slopes)
            return xp.sum(_terms(ops, weights[chunk], losses), dtype=xp.float64)

        value = added(ops.run(task, self.chunks))
        return ops.cast(value, weights.dtype), slopes

    def gradient(self, weights: Array, upstream: Array | None) -> Array:
        """The gradient of the sum of weights * ce."""
        slopes = self.ops.buffer_like(self.logits)

        def task(chunk: Chunk) -> None:
            self.of(chunk, weights, upstream, slopes)

        self.ops.run(task, self.chunks)
        return slopes

    def of(
        self, chunk: Chunk, weights: Array | None = None, upstream: Array | None = None, slopes: Array | None = None
    ) -> Array:
        """ce of one chunk; with weights their gradient goes to its place in `slopes`, if it is wanted."""
        ops, (images, span) = self.ops, chunk
        z, index = self.logits[images, :, span], self.index[chunk]
        if slopes is None or weights is None:
            return ops.cross_entropy(z, index)[0]
        a, room = weights[chunk], slopes[images, :, span]
        losses, slope = ops.cross_entropy(z, index, a if upstream is None else a * upstream, room)
        if slope is not room:
            slopes[images, :, span] = ops.cast(slope, slopes.dtype)
        return losses
