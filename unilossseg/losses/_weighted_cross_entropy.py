"""The kernel of the five cross-entropy losses: sum of a_i * ce_i, with five ways to choose the pixel weights a_i."""

from __future__ import annotations

from dataclasses import dataclass

from unilossseg._loss import Loss
from unilossseg._pixels import (
    PixelLabels,
    as_weights,
    class_values,
    keep_where,
    pixel_cross_entropy,
    shape_of,
    split_labels,
    total,
    upcast,
    work_dtype,
)
from unilossseg.backends import Array, Backend
from unilossseg.backends._backend import Chunk


@dataclass(eq=False)
class WeightedCrossEntropy(Loss):
    """The sum over pixels of a_i * ce_i, where ce_i = logsumexp(z_i) - z_i[y_i] and a_i carries no gradient.

    A subclass defines `pixel_weights`, the one place where it differs from the others.
    """

    def needs_losses(self) -> bool:
        """Whether the weights depend on the pixels' losses; if not, one pass over the logits is enough."""
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
        mask = as_weights(ops, pixels.valid, like)
        return mask if weight is None else mask * class_values(ops, ops.constant(weight, mask), pixels.index)

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        pixels = self.pixels(ops, labels, **inputs)
        losses = pixel_cross_entropy(ops, logits, pixels)
        weights = self.pixel_weights(ops, ops.stop_gradient(losses), pixels, **inputs)
        return total(ops, weights * keep_where(ops, ops.xp.not_equal(weights, 0), losses))

    def closed_form(  # type: ignore[override]
        self, ops: Backend, logits: Array, labels: Array, *, gradient: bool, upstream: Array | None, **inputs: Array
    ) -> tuple[Array, Array | None]:
        """Gradient a_i * (softmax(z_i) - onehot(y_i)), with the value in one pass over the logits or in two."""
        xp = ops.xp
        pixels = self.pixels(ops, labels, **inputs)
        dtype = work_dtype(ops, logits)
        run = _Pass(ops, logits, pixels)
        if not self.needs_losses():
            weights = self.pixel_weights(ops, xp.zeros_like(pixels.index, dtype=dtype), pixels, **inputs)
            return run.value_and_gradient(weights, gradient, upstream)
        losses = keep_where(ops, pixels.valid, run.losses())
        weights = self.pixel_weights(ops, losses, pixels, **inputs)
        value = total(ops, weights * keep_where(ops, ops.xp.not_equal(weights, 0), losses))
        return value, run.value_and_gradient(weights, True, upstream)[1] if gradient else None


class _Pass:
    """Passes over the logits, a chunk of pixels at a time."""

    def __init__(self, ops: Backend, logits: Array, pixels: PixelLabels) -> None:
        self.ops, self.logits, self.index = ops, logits, pixels.index
        self.chunks = ops.chunks(*shape_of(logits))

    def powers(self, chunk: Chunk) -> tuple[Array, Array, Array]:
        """exp(z - max), its sum over the channels, and the losses, of one chunk."""
        ops, (images, span) = self.ops, chunk
        xp = ops.xp
        z = upcast(ops, self.logits[images, :, span])
        shifted = z - xp.max(z, axis=1, keepdims=True)
        picked = ops.pick(shifted, self.index[images, span])
        powers = ops.exp_(shifted)
        norm = xp.sum(powers, axis=1)
        return powers, norm, xp.log(norm) - picked

    def losses(self) -> Array:
        """ce (N, S)."""
        ops = self.ops
        out = ops.xp.zeros_like(self.index, dtype=work_dtype(ops, self.logits))

        def task(chunk: Chunk) -> None:
            out[chunk[0], chunk[1]] = self.powers(chunk)[2]

        ops.run(task, self.chunks)
        return out

    def value_and_gradient(self, weights: Array, gradient: bool, upstream: Array | None) -> tuple[Array, Array | None]:
        """The sum of weights * ce, and its gradient, in one pass."""
        ops, xp = self.ops, self.ops.xp
        slopes = xp.empty_like(self.logits) if gradient else None

        def task(chunk: Chunk) -> Array:
            images, span = chunk
            a = weights[images, span]
            powers, norm, losses = self.powers(chunk)
            value = xp.sum(a * keep_where(ops, xp.not_equal(a, 0), losses), dtype=xp.float64)
            if slopes is not None:
                if upstream is not None:
                    a = a * upstream
                powers *= (a / norm)[:, None, :]
                powers = ops.subtract_at(powers, self.index[images, span], a)
                slopes[images, :, span] = xp.astype(powers, self.logits.dtype, copy=False)
            return value

        value = xp.sum(xp.stack(ops.run(task, self.chunks)))
        return xp.astype(value, weights.dtype), slopes
