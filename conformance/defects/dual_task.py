"""Defects of DualTaskLoss."""

from __future__ import annotations

from typing import Any

import numpy as np

from unilossseg._pixels import shifted_logits, softmax
from unilossseg.backends import Array, Backend
from unilossseg.backends.numpy import BACKEND
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect
from unilossseg.losses import DualTaskLoss
from unilossseg.losses import dual_task as module

#: The axes of one image, and of the batch.
_ONE, _ALL = (1, 2, 3), (0, 1, 2, 3)


@defect("DualTaskLoss")
def dual_padding(patches: Patches) -> None:
    """Zeros lie beyond the edge in the corrected variant, and the edge pixel in the other."""

    def make(original: Any) -> Any:
        return lambda ops, x, axis, replicate: original(ops, x, axis, not replicate)

    for name in ("central_difference", "central_difference_transposed"):
        patches.wrap(module, name, make)


@defect("DualTaskLoss")
def dual_padding_of_the_gradient(patches: Patches) -> None:
    """The gradient knows nothing of the replicated edge pixels."""

    def make(original: Any) -> Any:
        return lambda ops, x, axis, replicate: original(ops, x, axis, False)

    patches.wrap(module, "central_difference_transposed", make)


@defect("DualTaskLoss")
def dual_filter_padded_with_zeros(patches: Patches) -> None:
    """The filter sees zeros beyond the edge."""
    from unilossseg import _neighbourhood

    def wrong(ops: Any, x: Array, axis: int, width: int) -> Array:
        sides = [(width, width) if at == axis else (0, 0) for at in range(x.ndim)]
        return np.pad(x, sides)

    patches.everywhere(_neighbourhood, "symmetric_padding", lambda original: wrong)


@defect("DualTaskLoss")
def dual_filter_reflects(patches: Patches) -> None:
    """The filter mirrors the image without its edge pixel."""
    from unilossseg import _neighbourhood

    def wrong(ops: Any, x: Array, axis: int, width: int) -> Array:
        sides = [(width, width) if at == axis else (0, 0) for at in range(x.ndim)]
        return np.pad(x, sides, mode="reflect")

    patches.everywhere(_neighbourhood, "symmetric_padding", lambda original: wrong)


@defect("DualTaskLoss")
def dual_filter_radius(patches: Patches) -> None:
    """The filter has radius 3."""

    def make(original: Any) -> Any:
        return lambda ops, x, axis, radius: original(ops, x, axis, 3)

    patches.wrap(module, "triangle", make)


@defect("DualTaskLoss")
def dual_one_axis_filtered(patches: Patches) -> None:
    """The filter smooths along the rows alone."""

    def make(original: Any) -> Any:
        return lambda ops, x, axis, radius: x if axis == -2 else original(ops, x, axis, radius)

    patches.wrap(module, "triangle", make)


@defect("DualTaskLoss")
def dual_magnitude_eps(patches: Patches) -> None:
    """The 1e-6 under the square root is 1e-8."""
    patches.replace(module, "MAGNITUDE_EPS", 1e-8)


@defect("DualTaskLoss")
def dual_noise_eps(patches: Patches) -> None:
    """The noise's 1e-10 are 1e-6."""
    patches.replace(module, "NOISE_EPS", 1e-6)


@defect("DualTaskLoss")
def dual_noise_sign(patches: Patches) -> None:
    """The noise is subtracted."""
    changes.result(patches, DualTaskLoss, "_noise", lambda gumbel: -gumbel)


@defect("DualTaskLoss")
def dual_noise_dropped(patches: Patches) -> None:
    """The given noise is not used."""
    changes.result(patches, DualTaskLoss, "_noise", np.zeros_like)


@defect("DualTaskLoss")
def dual_gradient_without_tau(patches: Patches) -> None:
    """The gradient is not divided by tau."""
    changes.gradient(patches, DualTaskLoss, lambda slope, loss, *_: slope * loss.tau)


@defect("DualTaskLoss")
def dual_logits_alone_divided_by_tau(patches: Patches) -> None:
    """tau divides the logits and not the noise."""

    def wrong(self: Any, ops: Any, logits: Array, valid: Array, gumbel: Array) -> Array:
        return softmax(ops, shifted_logits(ops, logits * valid) / self.tau + gumbel)

    patches.replace(DualTaskLoss, "_sample", wrong)


@defect("DualTaskLoss")
def dual_ignored_logits_sampled(patches: Patches) -> None:
    """The logits of ignored pixels enter the edge map."""

    def make(original: Any) -> Any:
        return lambda self, ops, logits, valid, gumbel: original(self, ops, logits, np.ones_like(valid), gumbel)

    patches.wrap(DualTaskLoss, "_sample", make)


@defect("DualTaskLoss")
def dual_maximum_of_the_other_variant(patches: Patches) -> None:
    """One maximum per image in the reference's variant, and one per batch in the corrected one."""

    def make(original: Any) -> Any:
        def wrong(self: Any) -> tuple[Array, ...]:
            original(self)  # which finds the edges too
            magnitudes = self.loss._edges(self.ops, self.smooth).magnitude, self.wanted
            axes = _ALL if self.loss.variant == "corrected" else _ONE
            tops = [np.max(magnitude, axis=axes, keepdims=True) for magnitude in magnitudes]
            return tuple(np.repeat(top, self.shape[0] // len(top), axis=0) for top in tops)

        return wrong

    patches.wrap(module._Planes, "_tops", make)
    changes.keyword(patches, BACKEND.xp, "max", "axis", lambda axis: {_ONE: _ALL, _ALL: _ONE}.get(axis, axis))


@defect("DualTaskLoss")
def dual_maximum_without_gradient(patches: Patches) -> None:
    """The maximum that edges are divided by has no gradient."""
    changes.result(patches, module._Planes, "_through_tops", np.zeros_like)


@defect("DualTaskLoss")
def dual_first_of_the_maxima(patches: Patches) -> None:
    """Of several equal maxima the first gets the whole gradient."""

    def make(original: Any) -> Any:
        def wrong(self: Any, group: Any, rows: slice) -> Any:
            edges, *relative = original(self, group, rows)
            highest = edges.magnitude == self.tops[0]
            images = highest.reshape(len(highest) if self.loss.variant == "corrected" else 1, -1)
            others = highest & ~self.ops.first_true(images, 1).reshape(highest.shape)
            apart = np.where(others, np.nextafter(edges.magnitude, 0), edges.magnitude)
            return edges._replace(magnitude=apart), *relative

        return wrong

    # All planes at once, and all of their rows: which maximum is the first is seen in no single one.
    for name in ("planes", "strips"):
        patches.replace(changes.NUMPY, name, getattr(Backend, name))
    patches.wrap(module._Planes, "_relative", make)


@defect("DualTaskLoss")
def dual_ignored_counted(patches: Patches) -> None:
    """Sums and counts take in the ignored pixels."""
    for name in ("_weights", "_numbers"):
        changes.argument(patches, DualTaskLoss, name, 4, np.ones_like)


@defect("DualTaskLoss")
def dual_ignored_neighbours_counted(patches: Patches) -> None:
    """The corrected variant counts pixels whose filter reaches an ignored pixel."""
    patches.replace(module, "dilate", lambda ops, mask, rows, columns: mask)


@defect("DualTaskLoss")
def dual_reach_one_less(patches: Patches) -> None:
    """The filter's reach is taken one pixel too short."""

    def make(original: Any) -> Any:
        return lambda ops, mask, rows, columns: original(ops, mask, rows - 1, columns - 1)

    patches.wrap(module, "dilate", make)


@defect("DualTaskLoss")
def dual_half_missing(patches: Patches) -> None:
    """The two parts are added, not averaged."""
    changes.result(patches, DualTaskLoss, "_weights", lambda weights: 2 * weights)


@defect("DualTaskLoss")
def dual_kink(patches: Patches) -> None:
    """The derivative of |x| at 0 is 1."""
    # Where the two edge maps are equal the sign of the difference decides.
    changes.gradient(
        patches,
        DualTaskLoss,
        lambda slope, *_: slope + np.where(slope == 0, np.max(np.abs(slope)) * slope.dtype.type(1e-3), 0),
    )


@defect("DualTaskLoss")
def dual_upstream_dropped(patches: Patches) -> None:
    """The gradient is not multiplied by the upstream gradient."""
    changes.keyword(patches, DualTaskLoss, "closed_form", "upstream", lambda upstream: None)
