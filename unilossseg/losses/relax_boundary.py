"""Label relaxation at boundaries: a pixel may be any class of its neighbourhood."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

from unilossseg import _errors
from unilossseg._loss import Loss
from unilossseg._neighbourhood import dilate
from unilossseg._pixels import (
    added,
    as_weights,
    flat,
    in_one_pass,
    keep_where,
    ratio,
    shape_of,
    split_labels,
    total,
    upcast,
    work_dtype,
)
from unilossseg.backends import Array, Backend
from unilossseg.backends._backend import Chunk


@dataclass(eq=False)
class RelaxBoundaryLoss(Loss):
    r"""Minus the log of the summed probability of the classes in a pixel's neighbourhood.

    .. math:: L = \sum_n \sum_j \sum_i \frac{-B_{ni}}{B_{ji}} \log\Big(\sum_{c \in K_{ni}} p_{nic}\Big)
              \frac{1 - g_{ni}}{H W - \sum_i g_{ni} + 1}

    K: the classes within `border` pixels (outside the image and at ignored pixels: none), B their number (1 where none),
    g = 1 where none, p = softmax(z). With `calculate_weights` the numerator B_ni is the sum of the class weights
    1 + upper_bound * (1 - share) of K, share being the class's part of the image's relaxed labels ("no class" included).

    Parameters
    ----------
    border
        The radius of the (2 border + 1)^2 neighbourhood in pixels, at least 0.
    calculate_weights
        Whether classes are weighted by their rarity in the image.
    upper_bound
        How much more the rarest class may weigh, at least 0.
    ignore_index
        The label of pixels without a class.
    variant
        The sum over all images j divides by other images' counts, the loss is summed over images, and an ignored pixel
        next to a valid one is trained: 'corrected' takes each image's own counts and the mean over the valid pixels.

    Shapes and dtypes
    -----------------
    logits (N, C, H, W); labels (N, H, W) or (N, 1, H, W), integers in [0, C) or `ignore_index`. Returns a scalar, float32,
    or float64 for float64 logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape, dtype or label does not fit.

    References
    ----------
    Zhu, Sapra, Reda, Shih, Newsam, Tao, Catanzaro, "Improving Semantic Segmentation via Video Propagation and Label
    Relaxation", arXiv:1812.01593; Li et al., "Improving Semantic Segmentation via Decoupled Body and Edge Supervision",
    arXiv:2007.10035.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import RelaxBoundaryLoss
    >>> logits = np.zeros((1, 4, 1, 4))
    >>> labels = np.array([[[0, 0, 0, 1]]])
    >>> round(float(RelaxBoundaryLoss(variant="corrected")(logits, labels)), 6)
    1.039721
    """

    border: int = 1
    calculate_weights: bool = False
    upper_bound: float = 1.0
    ignore_index: int = 255
    _: KW_ONLY
    variant: str = "paddleseg"

    flat_pixels = False
    packed_logits = defers = True
    parameter_checks: ClassVar[_errors.Checks] = {
        "border": partial(_errors.integer, at_least=0),
        "calculate_weights": _errors.flag,
        "upper_bound": partial(_errors.number, at_least=0),
        "variant": _errors.variant,
    }

    def check_labels(self, backend: Backend, logits: Array, labels: Array) -> Array:
        """Two spatial axes."""
        if len(logits.shape) != 4:
            raise ValueError(
                f"{self.name}: logits have shape {tuple(logits.shape)}, expected (N, C, H, W): the neighbourhood is 2-D"
            )
        return super().check_labels(backend, logits, labels)

    def _neighbourhood(self, ops: Backend, logits: Array, labels: Array) -> tuple[Array, Array]:
        """Which classes count at each pixel, (N, C, S), never none; and the pixels' weights (N, S)."""
        xp = ops.xp
        images, channels, height, width = shape_of(logits)
        pixels = split_labels(ops, labels, self.ignore_index)
        onehot = ops.one_hot(pixels.index, channels) & pixels.valid[:, None, :]
        onehot = xp.reshape(onehot, (images, channels, height, width))
        near = flat(ops, ops.planewise(lambda planes: dilate(ops, planes, self.border, self.border), onehot))
        like = xp.zeros((1,), dtype=work_dtype(ops, logits), device=ops.device(logits))
        number = xp.astype(ops.count(near, axis=1), like.dtype)
        none = xp.equal(number, 0)
        own = xp.where(none, xp.ones_like(number), number)
        numerator = number
        if self.calculate_weights:
            unknown = xp.reshape(~pixels.valid, (images, height, width))
            unknown = flat(ops, dilate(ops, unknown, self.border, self.border, outside=True), leading=1)
            weights = self._class_weights(ops, near, unknown, like)
            numerator = xp.sum(keep_where(ops, near, weights[:, :, None] + xp.zeros_like(number)[:, None, :]), axis=1)
        if self.variant == "corrected":
            valid = as_weights(ops, pixels.valid, like)
            a = ratio(ops, valid * numerator / own, total(ops, valid) + xp.zeros_like(own))
        else:
            some = as_weights(ops, ~none, like)
            a = numerator * xp.sum(1 / own, axis=0, keepdims=True) * some / (total(ops, some, axis=1)[:, None] + 1)
        return near | none[:, None, :], a

    def _class_weights(self, ops: Backend, near: Array, unknown: Array, like: Array) -> Array:
        """1 + upper_bound * (1 - share) for classes that occur in an image, else 1: (N, C)."""
        xp = ops.xp
        counts = xp.astype(ops.count(near, axis=2), like.dtype)
        without = xp.astype(ops.count(unknown, axis=1), like.dtype)
        shares = counts / (xp.sum(counts, axis=1, keepdims=True) + without[:, None])
        return 1 + keep_where(ops, counts > 0, self.upper_bound * (1 - shares))

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        near, a = self._neighbourhood(ops, logits, labels)
        z = flat(ops, logits)
        return total(ops, a * keep_where(ops, ops.xp.not_equal(a, 0), _relaxed(ops, z, near)))

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
        """Gradient a * (softmax over all - softmax over the neighbourhood)."""
        xp = ops.xp
        near, a = self._neighbourhood(ops, logits, labels)
        z = flat(ops, logits)

        def one_pass(gradient: bool, upstream: Array | None) -> tuple[Array, Array | None]:
            slopes = ops.buffer_like(z) if gradient else None

            def task(chunk: Chunk) -> Array:
                place, span = chunk
                weights, part = a[chunk], (upcast(ops, z[place, :, span]), near[place, :, span])
                if slopes is None:
                    losses, _ = ops.relaxed_cross_entropy(*part)
                else:
                    room = slopes[place, :, span]
                    scaled = weights if upstream is None else weights * upstream
                    losses, slope = ops.relaxed_cross_entropy(*part, scaled, room)
                    if slope is not room:
                        slopes[place, :, span] = ops.cast(slope, logits.dtype)
                return xp.sum(weights * keep_where(ops, xp.not_equal(weights, 0), losses), dtype=xp.float64)

            value = added(ops.run(task, ops.chunks(*shape_of(z), small=True)))
            return ops.cast(value, a.dtype), slopes

        return in_one_pass(one_pass, gradient, upstream, later)


def _relaxed(ops: Backend, z: Array, near: Array) -> Array:
    """logsumexp over all classes minus logsumexp over those of the neighbourhood, each from its own largest logit."""
    xp = ops.xp
    masked = ops.keep_where(near, z, -math.inf)
    top, near_top = (xp.max(ops.stop_gradient(x), axis=1, keepdims=True) for x in (z, masked))
    sums, near_sums = (xp.sum(xp.exp(x - t), axis=1, keepdims=True) for x, t in ((z, top), (masked, near_top)))
    return (top - near_top + xp.log(sums) - xp.log(near_sums))[:, 0, :]
