"""Defects of BCELoss."""

from __future__ import annotations

from typing import Any

import numpy as np

from unilossseg._pixels import as_weights, total
from unilossseg.backends import Array
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect
from unilossseg.losses import BCELoss
from unilossseg.losses import bce as module


def _parts(patches: Patches, change: Any) -> None:
    """Other targets, element weights, factors or mask; `change` gets the loss, the four and the logits."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, z: Array, labels: Array) -> Any:
            return change(self, *original(self, ops, z, labels), z)

        return wrong

    patches.wrap(BCELoss, "_elements", make)


@defect("BCELoss")
def bce_softplus_sign(patches: Patches) -> None:
    """softplus(z) in place of softplus(-z)."""
    changes.argument(patches, module, "softplus", 1, lambda x: -x)


@defect("BCELoss")
def bce_softplus_overflows(patches: Patches) -> None:
    """log(1 + exp(x)) as it stands."""
    patches.replace(module, "softplus", lambda ops, x: np.log(1 + np.exp(x)))


@defect("BCELoss")
def bce_sigmoid_sign(patches: Patches) -> None:
    """sigmoid(z) in place of sigmoid(-z) in the gradient."""
    changes.argument(patches, module, "sigmoid", 1, lambda x: -x)


@defect("BCELoss")
def bce_eps(patches: Patches) -> None:
    """The denominators' 1e-10 is 1e-7."""
    patches.replace(module, "EPS", 1e-7)


@defect("BCELoss")
def bce_mean_over_all(patches: Patches) -> None:
    """The mean runs over ignored elements too."""
    changes.result(patches, module, "average", lambda mean: mean * 0 + 1)


@defect("BCELoss")
def bce_mask_missing(patches: Patches) -> None:
    """Ignored elements count as negatives."""
    _parts(
        patches,
        lambda loss, target, a, factor, mask, z: (target, np.where(mask, a, np.max(a)), factor, np.ones_like(mask)),
    )


@defect("BCELoss")
def bce_targets_swapped(patches: Patches) -> None:
    """Positives and negatives change places."""
    _parts(patches, lambda loss, target, a, factor, mask, z: (1 - target, a, factor, mask))


@defect("BCELoss")
def bce_pos_weight_everywhere(patches: Patches) -> None:
    """pos_weight multiplies the softplus of negatives too."""

    def change(loss: Any, target: Array, a: Array, factor: Array, mask: Array, z: Array) -> Any:
        return target, a, np.full_like(factor, np.max(factor)), mask

    _parts(patches, change)


@defect("BCELoss")
def bce_pos_weight_dropped(patches: Patches) -> None:
    """pos_weight changes nothing."""
    _parts(patches, lambda loss, target, a, factor, mask, z: (target, a, np.ones_like(factor), mask))


@defect("BCELoss")
def bce_weight_per_class(patches: Patches) -> None:
    """The images' weights are dropped."""
    changes.attribute(patches, BCELoss, "_elements", "weight", lambda w: None if isinstance(w, tuple) else w)


@defect("BCELoss")
def bce_variants_swapped(patches: Patches) -> None:
    """The dynamic weights count ignored labels in the corrected variant, and not in the other."""
    other = {"paddleseg": "corrected", "corrected": "paddleseg"}
    changes.attribute(patches, BCELoss, "_balance", "variant", lambda variant: other[variant])


@defect("BCELoss")
def bce_dynamic_weights_swapped(patches: Patches) -> None:
    """The rarer label gets the smaller dynamic weight."""
    changes.result(patches, BCELoss, "_balance", lambda shares: shares[::-1])


@defect("BCELoss")
def bce_dynamic_without_two(patches: Patches) -> None:
    """The dynamic weights are shares, not twice as much."""
    changes.result(patches, BCELoss, "_balance", lambda shares: (shares[0] / 2, shares[1] / 2))


@defect("BCELoss")
def bce_soft_labels_counted(patches: Patches) -> None:
    """A soft label above 0.5 counts as a positive in the dynamic weights."""

    def wrong(self: Any, ops: Any, target: Array, m: Array) -> tuple[Array, Array]:
        counted = m if self.variant == "corrected" else np.ones_like(m)
        positives = total(ops, as_weights(ops, target >= 0.5, target) * counted)
        negatives = total(ops, as_weights(ops, target < 0.5, target) * counted)
        whole = positives + negatives + module.EPS
        return 2 * positives / whole, 2 * negatives / whole

    patches.replace(BCELoss, "_balance", wrong)


@defect("BCELoss")
def bce_upstream_dropped(patches: Patches) -> None:
    """The gradient is not multiplied by the upstream gradient."""
    changes.keyword(patches, BCELoss, "closed_form", "upstream", lambda upstream: None)
