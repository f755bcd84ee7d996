"""Defects of BCELoss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from unilossseg._pixels import sigmoid, softplus
from unilossseg.backends import Array
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect
from unilossseg.losses import BCELoss
from unilossseg.losses import bce as module

Function = Callable[[Any, Array], Array]


def _functions(patches: Patches, above: Function = softplus, rising: Function = sigmoid) -> None:
    """Another softplus in formula and closed form, or another sigmoid in the closed form, both of x = -z."""
    changes.without_loops(patches, *changes.BINARY)
    patches.replace(module, "softplus", above)
    patches.replace(changes.NUMPY, "softplus_and_sigmoid", lambda self, x: (above(self, x), rising(self, x)))


def _targets(patches: Patches, change: Callable[[Array, Array], tuple[Array, Array]]) -> None:
    """Other targets, or another mask."""
    changes.without_loops(patches, *changes.BINARY)
    changes.result(patches, BCELoss, "_target", lambda found: change(*found))


def _parameter(patches: Patches, key: str, change: Callable[[Any], Any]) -> None:
    """Another parameter, in formula and closed form."""
    for name in ("compute", "closed_form"):
        changes.attribute(patches, BCELoss, name, key, change)


@defect("BCELoss")
def bce_softplus_sign(patches: Patches) -> None:
    """softplus(z) in place of softplus(-z)."""
    _functions(patches, above=lambda ops, x: softplus(ops, -x))


@defect("BCELoss")
def bce_softplus_overflows(patches: Patches) -> None:
    """log(1 + exp(x)) as it stands."""
    _functions(patches, above=lambda ops, x: np.log(1 + np.exp(x)))


@defect("BCELoss")
def bce_sigmoid_sign(patches: Patches) -> None:
    """sigmoid(z) in place of sigmoid(-z) in the gradient."""
    _functions(patches, rising=lambda ops, x: sigmoid(ops, -x))


@defect("BCELoss")
def bce_eps(patches: Patches) -> None:
    """The denominators' 1e-10 is 1e-7."""
    patches.replace(module, "EPS", 1e-7)


@defect("BCELoss")
def bce_mean_over_all(patches: Patches) -> None:
    """The mean runs over ignored elements too."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, labels: Array, tally: Array, channels: int) -> Any:
            found = original(self, ops, labels, tally, channels)
            return replace(found, each=1 / (labels.size * (1 if labels.ndim == 3 else channels)))

        return wrong

    patches.wrap(BCELoss, "_shares", make)


@defect("BCELoss")
def bce_mask_missing(patches: Patches) -> None:
    """Ignored elements count as negatives."""
    _targets(patches, lambda target, mask: (target * mask, np.ones_like(mask)))


@defect("BCELoss")
def bce_targets_swapped(patches: Patches) -> None:
    """Positives and negatives change places."""
    _targets(patches, lambda target, mask: (1 - target, mask))


@defect("BCELoss")
def bce_pos_weight_everywhere(patches: Patches) -> None:
    """pos_weight multiplies the softplus of negatives too."""

    def everywhere(found: tuple[Array, Array | None]) -> tuple[Array, Array | None]:
        a, factor = found
        return a, None if factor is None else np.full_like(factor, np.max(factor))

    changes.without_loops(patches, *changes.BINARY)
    changes.result(patches, BCELoss, "_weights", everywhere)


@defect("BCELoss")
def bce_pos_weight_dropped(patches: Patches) -> None:
    """pos_weight changes nothing."""
    changes.result(patches, BCELoss, "_lines", lambda lines: replace(lines, pos_weight=1.0))


@defect("BCELoss")
def bce_weight_per_class(patches: Patches) -> None:
    """The images' weights are dropped."""
    _parameter(patches, "weight", lambda weight: None if isinstance(weight, tuple) else weight)


@defect("BCELoss")
def bce_variants_swapped(patches: Patches) -> None:
    """The dynamic weights count ignored labels in the corrected variant, and not in the other."""
    other = {"paddleseg": "corrected", "corrected": "paddleseg"}
    _parameter(patches, "variant", lambda variant: other[variant])


@defect("BCELoss")
def bce_dynamic_weights_swapped(patches: Patches) -> None:
    """The rarer label gets the smaller dynamic weight."""
    changes.result(
        patches, BCELoss, "_shares", lambda shares: replace(shares, positive=shares.negative, negative=shares.positive)
    )


@defect("BCELoss")
def bce_dynamic_without_two(patches: Patches) -> None:
    """The dynamic weights are shares, not twice as much."""
    changes.result(
        patches,
        BCELoss,
        "_shares",
        lambda shares: (
            shares
            if shares.positive is None
            else replace(shares, positive=shares.positive / 2, negative=shares.negative / 2)
        ),
    )


@defect("BCELoss")
def bce_soft_labels_counted(patches: Patches) -> None:
    """A soft label above 0.5 counts as a positive in the dynamic weights."""
    # Rounded; whole numbers, the ignored label among them, stay.
    changes.argument(patches, changes.NUMPY, "tally", 1, lambda labels: np.floor(labels + 0.5))


@defect("BCELoss")
def bce_upstream_dropped(patches: Patches) -> None:
    """The gradient is not multiplied by the upstream gradient."""
    changes.keyword(patches, BCELoss, "closed_form", "upstream", lambda upstream: None)
