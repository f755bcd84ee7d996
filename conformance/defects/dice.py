"""Defects of DiceLoss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from unilossseg._pixels import keep_where, total
from unilossseg.backends import Array
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect
from unilossseg.losses import DiceLoss
from unilossseg.losses import dice as module


def from_sums(factor: float = 2.0, above: float = 1.0, below: float = 1.0, power: float = 1.0) -> Callable[..., Array]:
    """DiceLoss._from_sums with other numbers in it."""

    def wrong(self: Any, ops: Any, overlap: Array, size: Array, shares: Array) -> Array:
        dice = 1 - ((factor * overlap + above * self.smooth) / (size + below * self.smooth + module.EPS)) ** power
        return total(ops, dice * shares)

    return wrong


@defect("DiceLoss")
def dice_eps(patches: Patches) -> None:
    """The denominator's 1e-8 is 1e-6."""
    patches.replace(module, "EPS", 1e-6)


@defect("DiceLoss")
def dice_without_two(patches: Patches) -> None:
    """The overlap is not taken twice."""
    patches.replace(DiceLoss, "_from_sums", from_sums(factor=1.0))


@defect("DiceLoss")
def dice_smooth_below_alone(patches: Patches) -> None:
    """`smooth` is added to the denominator alone."""
    patches.replace(DiceLoss, "_from_sums", from_sums(above=0.0))


@defect("DiceLoss")
def dice_smooth_above_alone(patches: Patches) -> None:
    """`smooth` is added to the numerator alone."""
    patches.replace(DiceLoss, "_from_sums", from_sums(below=0.0))


@defect("DiceLoss")
def dice_smooth_twice(patches: Patches) -> None:
    """The numerator has twice `smooth`."""
    patches.replace(DiceLoss, "_from_sums", from_sums(above=2.0))


@defect("DiceLoss")
def dice_over_the_batch(patches: Patches) -> None:
    """Overlaps are summed over the batch before they are divided."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, overlap: Array, size: Array, shares: Array) -> Array:
            overlap, size = (np.sum(x, axis=0, keepdims=True) + np.zeros_like(x) for x in (overlap, size))
            return original(self, ops, overlap, size, shares)

        return wrong

    patches.wrap(DiceLoss, "_from_sums", make)


@defect("DiceLoss")
def dice_ignored_in_size(patches: Patches) -> None:
    """The probabilities of ignored pixels count in the denominator."""

    def make(original: Any) -> Any:
        def wrong(self: Any) -> tuple[Array, Array]:
            overlap, size = original(self)
            return overlap, size + np.sum(~self.pixels.valid, axis=1, keepdims=True) / size.shape[1]

        return wrong

    patches.wrap(module._Pass, "sums", make)


def _shares(patches: Patches, weighted: Any = None, images: int = 1, always: bool = False) -> None:
    def wrong(self: Any, ops: Any, like: Array, pixels: Any) -> Array:
        count, channels = like.shape
        weight = np.asarray(self.weight if self.weight is not None else np.ones(channels))
        whole = channels
        if self.weight is not None and (self.variant == "corrected") != bool(weighted):
            whole = weight.sum()
        share = np.broadcast_to(weight / whole / (count if images else 1), like.shape).astype(like.dtype)
        return share if always else keep_where(ops, np.any(pixels.valid), share)

    patches.replace(DiceLoss, "_shares", wrong)


@defect("DiceLoss")
def dice_variants_swapped(patches: Patches) -> None:
    """The class weights are normalised in the reference's variant, and not in the corrected one."""
    _shares(patches, weighted=True)


@defect("DiceLoss")
def dice_images_added(patches: Patches) -> None:
    """The images are added up and not averaged."""
    _shares(patches, images=0)


@defect("DiceLoss")
def dice_of_nothing_is_one(patches: Patches) -> None:
    """A batch whose pixels are all ignored has loss 1."""
    _shares(patches, always=True)


@defect("DiceLoss")
def dice_gradient_of_the_overlap_alone(patches: Patches) -> None:
    """The gradient lacks the part through the denominator."""

    class Wrong(module._Pass):
        def gradient(self, by_overlap: Array, by_size: Array, upstream: Array | None) -> Array:
            return super().gradient(by_overlap, np.zeros_like(by_size), upstream)

    patches.replace(module, "_Pass", Wrong)


@defect("DiceLoss")
def dice_gradient_by_overlap_sign(patches: Patches) -> None:
    """The gradient has the wrong sign."""
    changes.gradient(patches, DiceLoss, lambda slope, *_: -slope)


@defect("DiceLoss")
def dice_softmax_not_differentiated(patches: Patches) -> None:
    """The last term of the softmax's derivative is missing."""

    def wrong(
        self: Any, x: Array, index: Array, by_class: Array, by_own: Array, weights: Array, out: Array | None = None
    ) -> Array:
        powers, norm, _ = self.softmax_parts(x)
        slope = by_class[:, :, None] + by_own[:, :, None] * self.one_hot(index, x.shape[1])
        return powers * slope * (weights / norm)[:, None, :]

    patches.replace(changes.NUMPY, "through_softmax_by_class", wrong)


@defect("DiceLoss")
def dice_upstream_dropped(patches: Patches) -> None:
    """The gradient is not multiplied by the upstream gradient."""
    changes.keyword(patches, DiceLoss, "closed_form", "upstream", lambda upstream: None)


@defect("DiceLoss")
def dice_chunks_in_another_order(patches: Patches) -> None:
    """The thread pool returns its results in another order."""
    changes.result(patches, changes.NUMPY, "run", lambda results: results[::-1])


@defect("DiceLoss")
def dice_classes_swapped_in_the_gradient(patches: Patches) -> None:
    """The gradients of the first two classes change places."""
    changes.gradient(patches, DiceLoss, lambda slope, *_: np.concatenate([slope[:, 1::-1], slope[:, 2:]], axis=1))
