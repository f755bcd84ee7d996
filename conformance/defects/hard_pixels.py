"""Defects of the losses that choose hard pixels: bootstrapped and OHEM cross entropy, with and without an edge branch."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from unilossseg._pixels import as_weights, keep_where, ratio, split_labels, top_k_mask, total
from unilossseg.backends import Array
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect
from unilossseg.losses import BootstrappedCrossEntropyLoss, OhemCrossEntropyLoss, OhemEdgeAttentionLoss
from unilossseg.losses import edge_attention as edges
from unilossseg.losses.edge_attention import EdgeMasked
from unilossseg.losses.ohem import OhemSelection

Comparison = Callable[[Any, Any], Any]
_OHEM = ("OhemCrossEntropyLoss", "OhemEdgeAttentionLoss")


# ---------------------------------------------------------------------------------------------------- bootstrapped
def bootstrapped_weights(
    above: Comparison = operator.gt,
    more: Comparison = operator.gt,
    weighted: bool = True,
    corrected_masks: bool = True,
    corrected_counts: bool = False,
    images: bool = True,
) -> Callable[..., Array]:
    """BootstrappedCrossEntropyLoss.pixel_weights with one thing changed."""

    def wrong(self: Any, ops: Any, losses: Array, pixels: Any, **inputs: Any) -> Array:
        xp, corrected = ops.xp, self.variant == "corrected"
        w = self.class_weight(ops, pixels, losses)
        hardness = w * losses if weighted else losses
        hard = above(hardness, self.loss_th) | xp.isnan(hardness)
        if corrected and corrected_masks:
            hard = hard & pixels.valid
            hardness = xp.where(pixels.valid, hardness, -xp.inf)
        least = min(self.min_K, losses.shape[1])
        many = more(xp.sum(hard, axis=1, keepdims=True), self.min_K)
        chosen = xp.where(many, hard, top_k_mask(ops, hardness, least)) if least > 0 else hard
        if corrected and corrected_masks:
            chosen = chosen & pixels.valid
        a = as_weights(ops, chosen, losses)
        weighed = total(ops, a * w if corrected and not corrected_counts else a, axis=1)
        found = keep_where(ops, chosen, ratio(ops, w, weighed[:, None] + xp.zeros_like(w)))
        return found / losses.shape[0] if images else found

    return wrong


def _bootstrapped(patches: Patches, **changed: Any) -> None:
    patches.replace(BootstrappedCrossEntropyLoss, "pixel_weights", bootstrapped_weights(**changed))


@defect("BootstrappedCrossEntropyLoss")
def bootstrapped_threshold_inclusive(patches: Patches) -> None:
    """A loss equal to loss_th counts as hard."""
    _bootstrapped(patches, above=operator.ge)


@defect("BootstrappedCrossEntropyLoss")
def bootstrapped_threshold_reversed(patches: Patches) -> None:
    """The pixels below loss_th are the hard ones."""
    _bootstrapped(patches, above=operator.lt)


@defect("BootstrappedCrossEntropyLoss")
def bootstrapped_never_by_threshold(patches: Patches) -> None:
    """Always the min_K hardest, however many lie above loss_th."""
    _bootstrapped(patches, more=lambda count, least: np.zeros_like(count, dtype=bool))


@defect("BootstrappedCrossEntropyLoss")
def bootstrapped_min_k_one_more(patches: Patches) -> None:
    """The threshold needs one pixel more than min_K + 1 to be used."""
    _bootstrapped(patches, more=lambda count, least: count > least + 1)


@defect("BootstrappedCrossEntropyLoss")
def bootstrapped_hardness_unweighted(patches: Patches) -> None:
    """Pixels are hard by their loss before it is weighted."""
    _bootstrapped(patches, weighted=False)


@defect("BootstrappedCrossEntropyLoss")
def bootstrapped_ignored_chosen(patches: Patches) -> None:
    """The corrected variant lets ignored pixels among the hardest."""
    _bootstrapped(patches, corrected_masks=False)


@defect("BootstrappedCrossEntropyLoss")
def bootstrapped_weights_not_normalised(patches: Patches) -> None:
    """The corrected variant divides by the number of pixels, not by their class weights."""
    _bootstrapped(patches, corrected_counts=True)


@defect("BootstrappedCrossEntropyLoss")
def bootstrapped_images_added(patches: Patches) -> None:
    """The images are added up and not averaged."""
    _bootstrapped(patches, images=False)


@defect("BootstrappedCrossEntropyLoss")
def bootstrapped_over_the_batch(patches: Patches) -> None:
    """The hard pixels of the batch, not of each image."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, losses: Array, pixels: Any, **inputs: Any) -> Array:
            row = type(pixels)(pixels.index.reshape(1, -1), pixels.valid.reshape(1, -1))
            return original(self, ops, losses.reshape(1, -1), row).reshape(losses.shape)

        return wrong

    patches.wrap(BootstrappedCrossEntropyLoss, "pixel_weights", make)


# ---------------------------------------------------------------------------------------------------- OHEM
def kept_pixels(
    strict: Comparison = operator.lt,
    loose: Comparison = operator.le,
    limits: Any = np.maximum,
    offset: int = 0,
    enough: Comparison = operator.gt,
    ignored_sure: float = 2.0,
    zero_keeps_all: bool = True,
    valid_only: bool = True,
) -> Callable[..., Array]:
    """OhemSelection.kept with one thing changed."""

    def wrong(self: Any, ops: Any, losses: Array, pixels: Any) -> Array:
        xp, corrected = ops.xp, self.variant == "corrected"
        if self.min_kept == 0 and not corrected and zero_keeps_all:
            return pixels.valid
        sure = xp.where(pixels.valid, xp.exp(-losses), xp.full_like(losses, ignored_sure))
        limit = xp.full_like(losses[:1, :1], self.thresh)
        if self.min_kept > 0:
            place = max(1, min(self.min_kept + offset, losses.size))
            limit = limits(limit, -ops.kth_largest(-xp.reshape(sure, (1, -1)), place))
        unsure = (loose if corrected else strict)(sure, limit) | xp.isnan(sure)
        unsure = unsure & pixels.valid if valid_only else unsure
        return xp.where(enough(xp.sum(pixels.valid), self.min_kept), unsure, pixels.valid)

    return wrong


def _kept(patches: Patches, **changed: Any) -> None:
    patches.replace(OhemSelection, "kept", kept_pixels(**changed))


@defect(*_OHEM)
def ohem_inclusive(patches: Patches) -> None:
    """The reference's strict comparison is not strict."""
    _kept(patches, strict=operator.le)


@defect(*_OHEM)
def ohem_corrected_strict(patches: Patches) -> None:
    """The corrected variant's comparison is strict."""
    _kept(patches, loose=operator.lt)


@defect(*_OHEM)
def ohem_smaller_limit(patches: Patches) -> None:
    """The smaller of threshold and min_kept-th probability decides."""
    _kept(patches, limits=np.minimum)


@defect(*_OHEM)
def ohem_one_kept_more(patches: Patches) -> None:
    """The probability of place min_kept + 1."""
    _kept(patches, offset=1)


@defect(*_OHEM)
def ohem_one_kept_less(patches: Patches) -> None:
    """The probability of place min_kept - 1."""
    _kept(patches, offset=-1)


@defect("OhemCrossEntropyLoss")
def ohem_just_enough(patches: Patches) -> None:
    """As many valid pixels as min_kept are enough to choose among."""
    _kept(patches, enough=operator.ge)


@defect(*_OHEM)
def ohem_ignored_unsure(patches: Patches) -> None:
    """Ignored pixels take places among the least sure."""
    _kept(patches, ignored_sure=0.0)


@defect(*_OHEM)
def ohem_zero_kept_by_threshold(patches: Patches) -> None:
    """With min_kept=0 the reference's variant uses its threshold."""
    _kept(patches, zero_keeps_all=False)


@defect("OhemCrossEntropyLoss")
def ohem_eps(patches: Patches) -> None:
    """The denominator's 1e-5 is 1e-8."""
    patches.replace(OhemCrossEntropyLoss, "eps", 1e-8)


@defect("OhemEdgeAttentionLoss")
def ohem_edge_eps(patches: Patches) -> None:
    """The denominator's 1e-10 is 1e-5, that of OHEM without edges."""
    patches.replace(OhemEdgeAttentionLoss, "eps", 1e-5)


@defect("OhemCrossEntropyLoss")
def ohem_weights_normalised(patches: Patches) -> None:
    """The reference's variant divides by the class weights of the kept pixels."""
    changes.attribute(patches, OhemSelection, "pixel_weights", "variant", lambda variant: "corrected")


# ---------------------------------------------------------------------------------------------------- edges
_EDGES = ("EdgeAttentionLoss", "OhemEdgeAttentionLoss")


def _edge_pixels(patches: Patches, compare: Comparison = operator.gt, valid: bool = True) -> None:
    def wrong(self: Any, ops: Any, labels: Array, **inputs: Any) -> Any:
        split = split_labels(ops, labels, self.ignore_index)
        logits = inputs["edge_logits"].reshape(split.valid.shape)
        found = compare(logits.astype(np.float64 if logits.dtype == np.float64 else np.float32), self.edge_threshold)
        found = split.valid & found if valid else found
        return type(split)(ops.xp.where(found, split.index, 0), found)

    patches.replace(EdgeMasked, "pixels", wrong)


@defect(*_EDGES)
def edge_threshold_inclusive(patches: Patches) -> None:
    """An edge logit equal to the threshold counts as an edge."""
    _edge_pixels(patches, operator.ge)


@defect(*_EDGES)
def edge_threshold_reversed(patches: Patches) -> None:
    """The pixels off the edges count."""
    _edge_pixels(patches, operator.le)


@defect(*_EDGES)
def edges_at_ignored_pixels(patches: Patches) -> None:
    """An ignored pixel at an edge counts as class 0."""
    _edge_pixels(patches, valid=False)


@defect(*_EDGES)
def edges_through_a_sigmoid(patches: Patches) -> None:
    """The edge logits are compared after a sigmoid."""
    _edge_pixels(patches, lambda logits, threshold: 1 / (1 + np.exp(-logits)) > threshold)


@defect("EdgeAttentionLoss")
def edge_eps(patches: Patches) -> None:
    """The denominator's 1e-10 is 1e-8."""
    patches.replace(edges, "EPS", 1e-8)


@defect("EdgeAttentionLoss")
def edge_mean_over_all(patches: Patches) -> None:
    """The mean runs over all pixels, on edges or off them."""

    def make(original: Any) -> Any:
        return lambda ops, mask, like, whole: original(ops, mask, like, whole * 0 + mask.size)

    patches.wrap(edges, "spread", make)
