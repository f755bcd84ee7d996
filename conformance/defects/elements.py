"""Defects of L1Loss and MSELoss."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from unilossseg._pixels import keep_where
from unilossseg.backends import Array
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect
from unilossseg.losses import L1Loss, MSELoss
from unilossseg.losses import regression as module
from unilossseg.losses.regression import ElementLoss

_BOTH = ("L1Loss", "MSELoss")


@defect("L1Loss")
def l1_kink(patches: Patches) -> None:
    """The derivative of |x| at 0 is 1."""

    def wrong(slope: Array, loss: Any, ops: Any, logits: Array, labels: Array) -> Array:
        return np.where(np.reshape(logits == labels, slope.shape), np.max(np.abs(slope)), slope)

    changes.gradient(patches, L1Loss, wrong)


@defect("L1Loss")
def l1_sign(patches: Patches) -> None:
    """The derivative of |x| has the wrong sign."""
    changes.without_loops(patches, *changes.DIFFERENCES)
    changes.result(patches, L1Loss, "derivative", operator.neg)


@defect("L1Loss")
def l1_smooth(patches: Patches) -> None:
    """Differences below 1e-3 are squared."""

    def distance(self: Any, ops: Any, difference: Array) -> Array:
        far = np.abs(difference)
        return np.where(far < 1e-3, far * far / 2e-3, far - 0.5e-3)

    changes.without_loops(patches, *changes.DIFFERENCES)
    patches.replace(L1Loss, "distance", distance)
    patches.replace(L1Loss, "derivative", lambda self, ops, difference: np.clip(difference / 1e-3, -1, 1))


@defect("MSELoss")
def mse_derivative_without_two(patches: Patches) -> None:
    """The derivative of x^2 is x."""
    changes.without_loops(patches, *changes.DIFFERENCES)
    changes.result(patches, MSELoss, "derivative", lambda slope: slope / 2)


@defect("MSELoss")
def mse_halved(patches: Patches) -> None:
    """Half of the square."""
    changes.without_loops(patches, *changes.DIFFERENCES)
    for name in ("distance", "derivative"):
        changes.result(patches, MSELoss, name, lambda found: found / 2)


@defect("L1Loss")
def element_eps(patches: Patches) -> None:
    """The denominator's 1e-10 is 1e-7."""
    patches.replace(module, "EPS", 1e-7)


@defect("MSELoss")
def element_eps_without_a_mask(patches: Patches) -> None:
    """The plain mean has 1e-8 in its denominator too."""
    changes.result(patches, ElementLoss, "_share", lambda share: share / (1 + 1e-8))


@defect("MSELoss")
def mse_masked_in_both_variants(patches: Patches) -> None:
    """The reference's variant leaves ignored elements out."""
    patches.replace(MSELoss, "masks", lambda self: True)


@defect(*_BOTH)
def element_mask_missing(patches: Patches) -> None:
    """Ignored elements count."""
    patches.replace(ElementLoss, "masks", lambda self: False)
    patches.replace(MSELoss, "masks", lambda self: False)


@defect("L1Loss")
def element_mean_over_all(patches: Patches) -> None:
    """The mean runs over ignored elements too."""
    changes.argument(patches, ElementLoss, "_share", 1, lambda mean: mean * 0 + 1)


def _divided(patches: Patches, reduction: str) -> None:
    """Elements count in a reduction what they count in a mean."""
    for name in ("_share", "_counted_share"):
        changes.attribute(patches, ElementLoss, name, "reduction", lambda given: "mean" if given == reduction else given)


@defect(*_BOTH)
def element_sum_is_mean(patches: Patches) -> None:
    """reduction='sum' is a mean."""
    _divided(patches, "sum")


@defect(*_BOTH)
def element_none_is_divided(patches: Patches) -> None:
    """reduction='none' divides by the number of elements."""
    _divided(patches, "none")


@defect(*_BOTH)
def element_upstream_averaged(patches: Patches) -> None:
    """Of an upstream gradient for each element only the mean is used."""

    def mean(upstream: Any) -> Any:
        return upstream if upstream is None else np.mean(upstream, dtype=upstream.dtype)

    changes.keyword(patches, ElementLoss, "closed_form", "upstream", mean)


@defect("MSELoss")
def element_gradient_of_labels(patches: Patches) -> None:
    """The derivative by the labels, not by the logits."""
    changes.gradient(patches, MSELoss, lambda slope, *_: -slope)


@defect("L1Loss")
def element_masked_by_product(patches: Patches) -> None:
    """The gradient keeps the sign of ignored elements, next to 0."""

    def wrong(slope: Array, loss: Any, ops: Any, logits: Array, labels: Array) -> Array:
        return slope + keep_where(ops, labels == loss.ignore_index, np.full_like(slope, 1e-7))

    changes.gradient(patches, L1Loss, wrong)
