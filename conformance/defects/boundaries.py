"""Defects of RelaxBoundaryLoss."""

from __future__ import annotations

from typing import Any

import numpy as np

from unilossseg._neighbourhood import dilate
from unilossseg._pixels import as_weights, flat, ratio, split_labels, total, work_dtype
from unilossseg.backends import Array
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect
from unilossseg.losses import RelaxBoundaryLoss
from unilossseg.losses import relax_boundary as module


@defect("RelaxBoundaryLoss")
def relax_border_one_more(patches: Patches) -> None:
    """The neighbourhood reaches one pixel further."""
    changes.attribute(patches, RelaxBoundaryLoss, "_neighbourhood", "border", lambda border: border + 1)


@defect("RelaxBoundaryLoss")
def relax_cross_not_square(patches: Patches) -> None:
    """The neighbourhood lacks its corners."""

    def make(original: Any) -> Any:
        def wrong(ops: Any, mask: Array, rows: int, columns: int, outside: bool = False) -> Array:
            return original(ops, mask, rows, 0, outside) | original(ops, mask, 0, columns, outside)

        return wrong

    patches.wrap(module, "dilate", make)


@defect("RelaxBoundaryLoss")
def relax_wraps_around(patches: Patches) -> None:
    """The image continues at its other side."""

    def make(original: Any) -> Any:
        def wrong(ops: Any, mask: Array, rows: int, columns: int, outside: bool = False) -> Array:
            lead = [(0, 0)] * (mask.ndim - 2)
            wide = np.pad(mask, [*lead, (rows, rows), (columns, columns)], mode="wrap")
            height, width = mask.shape[-2:]
            found = original(ops, wide, rows, columns, outside)
            return found[..., rows : rows + height, columns : columns + width]

        return wrong

    patches.wrap(module, "dilate", make)


@defect("RelaxBoundaryLoss")
def relax_outside_known(patches: Patches) -> None:
    """Beyond the image lies no pixel without a class."""

    def make(original: Any) -> Any:
        return lambda ops, mask, rows, columns, outside=False: original(ops, mask, rows, columns)

    patches.wrap(module, "dilate", make)


def _weights(patches: Patches, others: bool = True, one: int = 1, swapped: bool = False) -> None:
    """RelaxBoundaryLoss's pixel weights with one thing changed, where it has no class weights."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, logits: Array, labels: Array) -> tuple[Array, Array]:
            near, a = original(self, ops, logits, labels)
            if self.calculate_weights:
                return near, a
            pixels = split_labels(ops, labels, self.ignore_index)
            onehot = (ops.one_hot(pixels.index, logits.shape[1]) & pixels.valid[:, None, :]).reshape(logits.shape)
            number = np.sum(flat(ops, dilate(ops, onehot, self.border, self.border)), axis=1)
            number = number.astype(work_dtype(ops, logits))
            own, some = np.where(number == 0, 1, number), as_weights(ops, number > 0, number)
            if (self.variant == "corrected") != swapped:
                valid = as_weights(ops, pixels.valid, own)
                return near, ratio(ops, valid * number / own, total(ops, valid) + np.zeros_like(own))
            shares = np.sum(1 / own, axis=0, keepdims=True) if others else 1 / own
            return near, number * shares * some / (np.sum(some, axis=1, keepdims=True) + one)

        return wrong

    patches.wrap(RelaxBoundaryLoss, "_neighbourhood", make)


@defect("RelaxBoundaryLoss")
def relax_own_counts(patches: Patches) -> None:
    """The reference's variant divides by each image's own counts alone."""
    _weights(patches, others=False)


@defect("RelaxBoundaryLoss")
def relax_plus_one_missing(patches: Patches) -> None:
    """The denominator's + 1 is missing."""
    _weights(patches, one=0)


@defect("RelaxBoundaryLoss")
def relax_variants_swapped(patches: Patches) -> None:
    """Each variant has the other's weights."""
    _weights(patches, swapped=True)


@defect("RelaxBoundaryLoss")
def relax_class_weights_dropped(patches: Patches) -> None:
    """calculate_weights changes nothing."""
    changes.attribute(patches, RelaxBoundaryLoss, "_neighbourhood", "calculate_weights", lambda flag: False)


@defect("RelaxBoundaryLoss")
def relax_upper_bound_fixed(patches: Patches) -> None:
    """upper_bound is always 1."""
    changes.attribute(patches, RelaxBoundaryLoss, "_class_weights", "upper_bound", lambda bound: 1.0)


@defect("RelaxBoundaryLoss")
def relax_no_class_not_counted(patches: Patches) -> None:
    """The classes' shares leave out the pixels without a class."""
    changes.argument(patches, RelaxBoundaryLoss, "_class_weights", 3, np.zeros_like)


@defect("RelaxBoundaryLoss")
def relax_absent_classes_weigh_most(patches: Patches) -> None:
    """Shares are taken over the batch, not per image."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, near: Array, unknown: Array, like: Array) -> Array:
            joined = np.concatenate(list(near), axis=1)[None], np.concatenate(list(unknown))[None]
            return np.repeat(original(self, ops, *joined, like), near.shape[0], axis=0)

        return wrong

    patches.wrap(RelaxBoundaryLoss, "_class_weights", make)


@defect("RelaxBoundaryLoss")
def relax_one_maximum(patches: Patches) -> None:
    """The neighbourhood's probabilities are taken from the maximum of all classes, and may vanish."""

    def wrong(
        self: Any, x: Array, near: Array, weights: Array | None = None, out: Array | None = None
    ) -> tuple[Array, Array | None]:
        powers, norm, _ = self.softmax_parts(x)
        near_powers = np.where(near, powers, 0)
        near_norm = np.sum(near_powers, axis=1)
        slope = powers / norm[:, None, :] - near_powers / near_norm[:, None, :]
        return np.log(norm) - np.log(near_norm), None if weights is None else slope * weights[:, None, :]

    patches.replace(changes.NUMPY, "relaxed_cross_entropy", wrong)


@defect("RelaxBoundaryLoss")
def relax_gradient_sign(patches: Patches) -> None:
    """The gradient has the wrong sign."""

    def turned(found: tuple[Array, Array | None]) -> tuple[Array, Array | None]:
        losses, slope = found
        return losses, None if slope is None else np.negative(slope, out=slope)

    changes.result(patches, changes.NUMPY, "relaxed_cross_entropy", turned)


@defect("RelaxBoundaryLoss")
def relax_gradient_over_all(patches: Patches) -> None:
    """The gradient lacks the softmax over the neighbourhood."""

    def make(original: Any) -> Any:
        def wrong(self: Any, x: Array, near: Array, weights: Array | None = None, out: Array | None = None) -> Any:
            losses, _ = original(self, x, near)
            if weights is None:
                return losses, None
            powers, norm, _ = self.softmax_parts(x)
            return losses, powers * (weights / norm)[:, None, :]

        return wrong

    patches.wrap(changes.NUMPY, "relaxed_cross_entropy", make)


@defect("RelaxBoundaryLoss")
def relax_upstream_dropped(patches: Patches) -> None:
    """The gradient is not multiplied by the upstream gradient."""
    changes.keyword(patches, RelaxBoundaryLoss, "closed_form", "upstream", lambda upstream: None)
