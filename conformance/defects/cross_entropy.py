"""Defects of CrossEntropyLoss and of the kernel that five losses share."""

from __future__ import annotations

from typing import Any

import numpy as np

from unilossseg.backends import Array
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect
from unilossseg.losses import CrossEntropyLoss
from unilossseg.losses import _weighted_cross_entropy as kernel
from unilossseg.losses import cross_entropy as module
from unilossseg.losses._weighted_cross_entropy import WeightedCrossEntropy

_KERNEL = ("CrossEntropyLoss", "BootstrappedCrossEntropyLoss", "OhemCrossEntropyLoss", "EdgeAttentionLoss")


@defect("CrossEntropyLoss")
def cross_entropy_eps(patches: Patches) -> None:
    """The denominator's 1e-8 is 1e-7."""
    patches.replace(module, "EPS", 1e-7)


@defect("CrossEntropyLoss")
def cross_entropy_sum_for_mean(patches: Patches) -> None:
    """The pixels are added up and not averaged."""
    changes.result(patches, CrossEntropyLoss, "_denominator", lambda whole: whole * 0 + 1)


@defect("CrossEntropyLoss")
def cross_entropy_ignored_in_denominator(patches: Patches) -> None:
    """The mean runs over ignored pixels too."""
    for method in ("pixel_weights", "_by_loop"):
        changes.attribute(patches, CrossEntropyLoss, method, "avg_non_ignore", lambda flag: False)


@defect("CrossEntropyLoss")
def mean_over_all_denied(patches: Patches) -> None:
    """avg_non_ignore=False changes nothing."""
    for method in ("pixel_weights", "_by_loop"):
        changes.attribute(patches, CrossEntropyLoss, method, "avg_non_ignore", lambda flag: True)


@defect("CrossEntropyLoss")
def ignored_class_without_weight(patches: Patches) -> None:
    """In a mean over all pixels an ignored one counts as 1, though its label is a class."""
    changes.result(patches, CrossEntropyLoss, "_weight_if_ignored", lambda weight: 1.0)


@defect("CrossEntropyLoss")
def class_weights_not_normalised(patches: Patches) -> None:
    """The denominator counts pixels, not their class weights."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, losses: Array, pixels: Any, **inputs: Any) -> Array:
            weights = original(self, ops, losses, pixels, **inputs)
            whole = self.class_weight(ops, pixels, losses).sum()
            return weights * whole / max(1, pixels.valid.sum())

        return wrong

    changes.without_loops(patches, "plain_cross_entropy")
    patches.wrap(CrossEntropyLoss, "pixel_weights", make)


@defect(*_KERNEL[:3])
def class_weights_dropped(patches: Patches) -> None:
    """All classes weigh the same."""
    changes.attribute(patches, CrossEntropyLoss, "_by_loop", "weight", lambda weight: None)
    changes.attribute(patches, WeightedCrossEntropy, "class_weight", "weight", lambda weight: None)


@defect("CrossEntropyLoss", "OhemCrossEntropyLoss")
def class_weights_shifted(patches: Patches) -> None:
    """Each class gets the weight of the next."""

    def rolled(weight: Any) -> Any:
        return weight if weight is None else (*weight[1:], weight[0])

    for owner, method in ((WeightedCrossEntropy, "class_weight"), (CrossEntropyLoss, "_by_loop")):
        changes.attribute(patches, owner, method, "weight", rolled)


@defect("CrossEntropyLoss")
def semantic_weights_dropped(patches: Patches) -> None:
    """The pixels' own weights change nothing."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, losses: Array, pixels: Any, **inputs: Any) -> Array:
            return original(self, ops, losses, pixels)

        return wrong

    patches.wrap(CrossEntropyLoss, "pixel_weights", make)


@defect("CrossEntropyLoss")
def semantic_weights_normalised(patches: Patches) -> None:
    """The pixels' own weights count in the denominator."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, losses: Array, pixels: Any, **inputs: Any) -> Array:
            found = original(self, ops, losses, pixels, **inputs)
            weights = inputs.get("semantic_weights")
            return found if weights is None else found / np.mean(weights, dtype=found.dtype)

        return wrong

    patches.wrap(CrossEntropyLoss, "pixel_weights", make)


@defect("CrossEntropyLoss")
def channels_last_gradient_as_computed(patches: Patches) -> None:
    """The gradient of logits (N, *S, C) comes back as (N, C, *S)."""
    from unilossseg._loss import Loss

    def wrong(self: Any, logits: Any, labels: Array, **inputs: Any) -> Any:
        return Loss.value_and_grad(self, logits, labels, **inputs)

    patches.replace(CrossEntropyLoss, "value_and_grad", wrong)


# ---------------------------------------------------------------------------------------------------- the hardest pixels
_TOP_K = ("CrossEntropyLoss", "BootstrappedCrossEntropyLoss")


def _top_k_modules() -> tuple[Any, Any]:
    from unilossseg.losses import bootstrapped

    return module, bootstrapped


@defect(*_TOP_K)
def top_k_one_less(patches: Patches) -> None:
    """One pixel less than k is kept."""
    for place in _top_k_modules():
        changes.argument(
            patches, place, "top_k_mask", 2, lambda k: np.maximum(k - 1, 1) if not isinstance(k, int) else max(k - 1, 1)
        )


@defect(*_TOP_K)
def top_k_one_more(patches: Patches) -> None:
    """One pixel more than k is kept."""

    def make(original: Any) -> Any:
        def wrong(ops: Any, x: Array, k: Any) -> Array:
            most = x.shape[-1]
            return original(ops, x, min(k + 1, most) if isinstance(k, int) else np.minimum(k + 1, most))

        return wrong

    for place in _top_k_modules():
        patches.wrap(place, "top_k_mask", make)


@defect(*_TOP_K)
def top_k_last_of_the_ties(patches: Patches) -> None:
    """Among equal losses the last pixels are kept, not the first."""

    def make(original: Any) -> Any:
        return lambda ops, x, k: original(ops, x[..., ::-1], k)[..., ::-1]

    for place in _top_k_modules():
        patches.wrap(place, "top_k_mask", make)


@defect(*_TOP_K)
def top_k_all_of_the_ties(patches: Patches) -> None:
    """All pixels whose loss equals the k-th are kept."""
    for place in _top_k_modules():
        patches.replace(place, "top_k_mask", lambda ops, x, k: x >= ops.kth_largest(x, k))


@defect("CrossEntropyLoss")
def top_k_per_image(patches: Patches) -> None:
    """The hardest pixels of each image, not of the batch."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, hardness: Array, scaled: Array, counted: Array, pixels: Any) -> Array:
            rows = [slice(n, n + 1) for n in range(hardness.shape[0])]
            parts = [
                original(self, ops, hardness[r], scaled[r], counted[r], type(pixels)(pixels.index[r], pixels.valid[r]))
                for r in rows
            ]
            return np.concatenate(parts) / len(rows)

        return wrong

    patches.wrap(CrossEntropyLoss, "_hardest", make)


@defect("CrossEntropyLoss")
def top_k_share_rounded_up(patches: Patches) -> None:
    """k is the share of the pixels rounded up."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, hardness: Array, *further: Any) -> Array:
            right = self.top_k_percent_pixels
            self.top_k_percent_pixels = min(1.0, (np.ceil(right * hardness.size) + 0.25) / hardness.size)
            try:
                return original(self, ops, hardness, *further)
            finally:
                self.top_k_percent_pixels = right

        return wrong

    patches.wrap(CrossEntropyLoss, "_hardest", make)


@defect("CrossEntropyLoss")
def top_k_share_in_float64(patches: Patches) -> None:
    """k is the share times the pixels in float64: 0.29 of 100 pixels are 28."""

    class Double:
        float32 = np.float64

    patches.replace(module, "np", Double)


@defect("CrossEntropyLoss")
def top_k_share_of_all_pixels(patches: Patches) -> None:
    """The corrected variant takes its share of all pixels, not of the valid ones."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, hardness: Array, scaled: Array, counted: Array, pixels: Any) -> Array:
            right, valid = self.top_k_percent_pixels, max(1, int(pixels.valid.sum()))
            # Past the check: it may be more than all.
            object.__setattr__(self, "top_k_percent_pixels", right * hardness.size / valid)
            try:
                return original(self, ops, hardness, scaled, counted, pixels)
            finally:
                self.top_k_percent_pixels = right

        return lambda self, *rest: (wrong if self.variant == "corrected" else original)(self, *rest)

    patches.wrap(CrossEntropyLoss, "_hardest", make)


@defect("CrossEntropyLoss")
def hardness_without_class_weights(patches: Patches) -> None:
    """The hardest pixels are those of the largest loss before it is weighted."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, hardness: Array, scaled: Array, counted: Array, pixels: Any) -> Array:
            plain = np.where(scaled > 0, hardness / np.where(scaled > 0, scaled, 1), 0)
            return original(self, ops, plain, scaled, counted, pixels)

        return wrong

    patches.wrap(CrossEntropyLoss, "_hardest", make)


@defect("CrossEntropyLoss")
def ignored_pixels_weigh_nothing_in_top_k(patches: Patches) -> None:
    """The reference's denominator leaves ignored pixels out; it counts them as class 0."""
    patches.wrap(
        module, "class_values", lambda original: lambda ops, table, index: original(ops, table, index) * (index > 0)
    )


# ---------------------------------------------------------------------------------------------------- the kernel
@defect(*_KERNEL)
def onehot_missing(patches: Patches) -> None:
    """The gradient is the softmax alone."""
    changes.without_loops(patches, *changes.CROSS_ENTROPIES)
    patches.replace(changes.NUMPY, "subtract_at", lambda self, x, index, amount: x)


@defect(*_KERNEL)
def onehot_added(patches: Patches) -> None:
    """The one-hot labels are added to the softmax: the wrong sign."""
    changes.without_loops(patches, *changes.CROSS_ENTROPIES)
    changes.argument(patches, changes.NUMPY, "subtract_at", 3, lambda amount: -amount)


@defect(*_KERNEL)
def upstream_dropped_by_the_kernel(patches: Patches) -> None:
    """The cross entropies' gradient is not multiplied by the upstream gradient."""

    def make(original: Any) -> Any:
        return lambda self, chunk, weights=None, upstream=None, slopes=None: original(self, chunk, weights, None, slopes)

    patches.wrap(kernel._Pass, "of", make)


@defect(*_KERNEL)
def probabilities_clipped(patches: Patches) -> None:
    """log(p + 1e-12) in place of the log of the softmax."""

    def clipped(found: tuple[Array, Array | None]) -> tuple[Array, Array | None]:
        losses, slope = found
        return -np.log(np.exp(-losses) + losses.dtype.type(1e-12)), slope

    changes.without_loops(patches, "plain_cross_entropy")
    changes.result(patches, changes.NUMPY, "cross_entropy", clipped)


@defect(*_KERNEL)
def last_chunk_dropped(patches: Patches) -> None:
    """The last chunk of pixels is left out where there are several."""

    def make(original: Any) -> Any:
        def wrong(self: Any, *shape: int, **small: bool) -> Any:
            found = original(self, *shape, **small)
            return found[:-1] if len(found) > 1 else found

        return wrong

    patches.wrap(changes.NUMPY, "chunks", make)
