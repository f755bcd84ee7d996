"""Defects of the operations that NumPy's backend has compiled loops for, each as one whole, loop or not.

What is wrong goes in or comes out of whatever computes the operation; where only the loops do, a copy takes their place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from unilossseg.backends import Array
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect

_KERNEL = ("CrossEntropyLoss", "BootstrappedCrossEntropyLoss", "OhemCrossEntropyLoss", "EdgeAttentionLoss")
_ELEMENTS = ("L1Loss", "MSELoss")


# ---------------------------------------------------------------------------------------------------- cross entropy
def _cross_entropy(patches: Patches, change: Callable[[Array, Array | None], tuple[Array, Array | None]]) -> None:
    """Other logits and weights for the cross entropy of a chunk."""

    def make(original: Any) -> Any:
        def wrong(self: Any, x: Array, index: Array, weights: Array | None = None, out: Array | None = None) -> Any:
            x, weights = change(x, weights)
            return original(self, x, index, weights, out)

        return wrong

    changes.without_loops(patches, "plain_cross_entropy")
    patches.wrap(changes.NUMPY, "cross_entropy", make)


@defect(*_KERNEL)
def loop_ignores_the_weights(patches: Patches) -> None:
    """The cross entropy's gradient is not multiplied by the pixels' weights."""
    _cross_entropy(patches, lambda x, weights: (x, None if weights is None else np.ones_like(weights)))


@defect("CrossEntropyLoss", "OhemCrossEntropyLoss")
def loop_forgets_the_steps(patches: Patches) -> None:
    """A chunk of the logits is read as if its channels lay side by side in memory."""

    def packed(x: Array, weights: Array | None) -> tuple[Array, Array | None]:
        near = np.empty(x.shape, x.dtype).strides
        # Closer than they are: the memory read is the array's own.
        inside = all(a >= b for a, b in zip(x.strides, near, strict=True))
        return np.lib.stride_tricks.as_strided(x, x.shape, near) if inside else x, weights

    _cross_entropy(patches, packed)


def plain_loop(
    masked: bool = True, shared: bool = True, end: int | None = None, shift: int = 0
) -> Callable[..., Array | None]:
    """The loop over labels, in NumPy and with one thing changed."""

    def wrong(
        self: Any, x: Array, labels: Array, ignore_index: int, weight: Array | None, share: Array, out: Array | None
    ) -> Array | None:
        if not _is_wide(x):
            return None
        mask = self.differs(labels, ignore_index)
        index = np.where(mask, labels, 0)
        mask = mask if masked else np.ones_like(mask)
        by_class = np.ones(x.shape[1]) if weight is None else np.roll(weight, shift)
        weights = np.where(mask, by_class[index], 0)
        losses, slope = self.cross_entropy(x, index, (weights * (share if shared else 1)).astype(x.dtype))
        if out is not None:
            out[...] = slope
        return np.sum(np.where(weights != 0, weights * losses, 0)[..., :end], dtype=np.float64)

    return wrong


def _plain(patches: Patches, **changed: Any) -> None:
    patches.replace(changes.NUMPY, "plain_cross_entropy", plain_loop(**changed))


@defect("CrossEntropyLoss")
def plain_loop_without_a_mask(patches: Patches) -> None:
    """The loop of the cross entropy takes ignored pixels for class 0."""
    _plain(patches, masked=False)


@defect("CrossEntropyLoss")
def plain_loop_without_a_share(patches: Patches) -> None:
    """The loop's derivative has neither the denominator nor the upstream gradient."""
    _plain(patches, shared=False)


@defect("CrossEntropyLoss")
def plain_loop_of_the_next_class(patches: Patches) -> None:
    """The loop weighs a pixel by the class after its own."""
    _plain(patches, shift=-1)


@defect("CrossEntropyLoss")
def weight_sum_counts_the_ignored(patches: Patches) -> None:
    """The sum of the labels' weights takes ignored pixels for class 0."""

    def make(original: Any) -> Any:
        def wrong(self: Any, labels: Array, ignore_index: int, weight: Array) -> Array:
            return original(self, np.where(self.differs(labels, ignore_index), labels, 0), ignore_index, weight)

        return wrong

    # Nobody asks for it but the loop.
    _plain(patches)
    patches.wrap(changes.NUMPY, "weight_sum", make)


@defect("CrossEntropyLoss")
def plain_loop_ends_early(patches: Patches) -> None:
    """The loop's sum lacks the last pixel of each chunk."""
    _plain(patches, end=-1)


# ---------------------------------------------------------------------------------------------------- softmax and sums
@defect("DiceLoss", "LovaszSoftmaxLoss")
def loop_leaves_the_last_pixel(patches: Patches) -> None:
    """The softmax of a row's last pixel is not divided by its sum: a loop that ends too early."""

    def undivided(found: tuple[Array, ...]) -> tuple[Array, ...]:
        found[-2][..., -1] = 1
        return found

    changes.without_loops(patches, *changes.SOFTMAXES)
    for name in ("softmax_parts", "softmax_sums"):
        changes.result(patches, changes.NUMPY, name, undivided)


@defect("DiceLoss")
def loop_sums_the_first_image(patches: Patches) -> None:
    """Sums over the pixels are those of the first image."""

    def first(found: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        mass, *rest = found
        return np.repeat(mass[:1], mass.shape[0], axis=0), *rest

    changes.result(patches, changes.NUMPY, "softmax_totals", first)


@defect("DiceLoss")
def loop_leaves_the_own_class(patches: Patches) -> None:
    """On the way back through the softmax a pixel's own class is as any other."""
    changes.argument(patches, changes.NUMPY, "through_softmax_by_class", 4, np.zeros_like)


# ---------------------------------------------------------------------------------------------------- Lovász
@defect("LovaszSoftmaxLoss", "LovaszHingeLoss")
def loop_reverses_ties(patches: Patches) -> None:
    """The steps of the Jaccard loss come to equal errors in the reverse order of the pixels."""

    def make(original: Any) -> Any:
        def wrong(self: Any, errors: Array, foreground: Array, scale: Array) -> tuple[Array, Array]:
            value, slope = original(self, *(np.ascontiguousarray(x[::-1]) for x in (errors, foreground)), scale)
            return value, np.ascontiguousarray(slope[::-1])

        return wrong

    patches.wrap(changes.NUMPY, "lovasz", make)


@defect("LovaszSoftmaxLoss", "LovaszHingeLoss")
def loop_shifts_the_steps(patches: Patches) -> None:
    """The steps of the Jaccard loss come to the pixel after their own."""
    changes.result(patches, changes.NUMPY, "lovasz", lambda found: (found[0], np.roll(found[1], 1)))


@defect("LovaszSoftmaxLoss")
def loop_of_the_next_class(patches: Patches) -> None:
    """The errors of a class are taken against the labels of the one after it."""
    changes.argument(patches, changes.NUMPY, "class_errors", 6, lambda number: number + 1)


@defect("LovaszSoftmaxLoss", "LovaszHingeLoss")
def loop_drops_the_last_error(patches: Patches) -> None:
    """The smallest error that weighs is left out: a loop that ends too early."""

    def make(original: Any) -> Any:
        def wrong(self: Any, errors: Array, foreground: Array, scale: Array) -> tuple[Array, Array]:
            value, slope = original(self, errors, foreground, scale)
            (weighs,) = np.nonzero(slope)
            if weighs.size:
                last = weighs[np.argmin(errors[weighs])]
                value -= abs(slope[last] / scale) * errors[last]
                slope[last] = 0
            return value, slope

        return wrong

    patches.wrap(changes.NUMPY, "lovasz", make)


# ---------------------------------------------------------------------------------------------------- binary, differences
def _is_wide(x: Array) -> bool:
    return x.dtype in (np.float32, np.float64)


def binary_loop(masked: bool = True, shared: bool = True, end: int | None = None) -> Callable[..., Array | None]:
    """The loop of the binary cross entropy, in NumPy and with one thing changed."""

    def wrong(
        self: Any,
        x: Array,
        labels: Array,
        ignore_index: int,
        weight: tuple[Array, Array],
        share: Array,
        pos_weight: Array,
        out: Array | None,
    ) -> Array | None:
        if not _is_wide(x):
            return None
        mask = self.differs(labels, ignore_index)
        y = np.where(mask, self.cast(labels, x.dtype), x.dtype.type(0))
        mask = mask if masked else np.ones_like(mask)
        above, rising = self.softplus_and_sigmoid(-x)
        away = 1 - y
        a, factor = weight[0] * away + weight[1] * y, away + pos_weight * y
        if out is not None:
            out[...] = np.where(mask, (a * share if shared else a) * (away - factor * rising), 0)
        terms = np.where(mask, a * (away * x + factor * above), 0)
        return np.sum(terms[..., :end], dtype=np.float64)

    return wrong


def difference_loop(masked: bool = True, sign: int = 1, end: int | None = None) -> Callable[..., Array | None]:
    """The loop of the differences, in NumPy and with one thing changed."""

    def wrong(
        self: Any, x: Array, labels: Array, ignore_index: int | None, squares: bool, share: Array, out: Array | None
    ) -> Array | None:
        if not _is_wide(x):
            return None
        difference = x - self.cast(labels, x.dtype)
        if ignore_index is not None and masked:
            difference = np.where(self.differs(labels, ignore_index), difference, x.dtype.type(0))
        if out is not None:
            out[...] = sign * share * (2 * difference if squares else np.sign(difference))
        terms = difference * difference if squares else np.abs(difference)
        return np.sum(terms[..., :end], dtype=np.float64)

    return wrong


def counted_binary(loop: Callable[..., Array | None], whole: bool = False) -> Callable[..., tuple[Array, Any] | None]:
    """The loop of the binary cross entropy that counts labels too, by the other one; `whole` counts ignored ones."""

    def wrong(
        self: Any,
        x: Array,
        labels: Array,
        ignore_index: int,
        most: float,
        share: Array,
        pos_weight: Array,
        out: Array | None,
    ) -> tuple[Array, Any] | None:
        found = loop(self, x, labels, ignore_index, (1.0, 1.0), share, pos_weight, out)
        counted, *others = self.tally(labels, ignore_index, most).tolist()
        return None if found is None else (found, (labels.size if whole else counted, *others))

    return wrong


def counted_differences(loop: Callable[..., Array | None], whole: bool = False) -> Callable[..., tuple[Array, int] | None]:
    """The loop of the differences that counts labels too, likewise."""

    def wrong(
        self: Any, x: Array, labels: Array, ignore_index: int | None, squares: bool, share: Array, out: Array | None
    ) -> tuple[Array, int] | None:
        found = loop(self, x, labels, ignore_index, squares, share, out)
        counted = labels.size if whole or ignore_index is None else np.sum(self.differs(labels, ignore_index))
        return None if found is None else (found, int(counted))

    return wrong


def _binary(patches: Patches, **changed: Any) -> None:
    loop = binary_loop(**changed)
    for name, wrong in zip(changes.BINARY, (loop, counted_binary(loop)), strict=True):
        patches.replace(changes.NUMPY, name, wrong)


def _differences(patches: Patches, **changed: Any) -> None:
    loop = difference_loop(**changed)
    for name, wrong in zip(changes.DIFFERENCES, (loop, counted_differences(loop)), strict=True):
        patches.replace(changes.NUMPY, name, wrong)


@defect("BCELoss")
def binary_loop_without_a_mask(patches: Patches) -> None:
    """The loop of the binary cross entropy takes ignored elements for negatives."""
    _binary(patches, masked=False)


@defect("BCELoss")
def binary_loop_without_a_share(patches: Patches) -> None:
    """The loop's derivative lacks the upstream gradient, and without weights the denominator too."""
    _binary(patches, shared=False)


@defect("BCELoss")
def binary_loop_ends_early(patches: Patches) -> None:
    """The loop's sum lacks the last element of each piece."""
    _binary(patches, end=-1)


@defect("BCELoss")
def counting_binary_loop_counts_ignored(patches: Patches) -> None:
    """The loop that counts labels on the way counts the ignored ones: they are in the denominator."""
    patches.replace(changes.NUMPY, changes.BINARY[1], counted_binary(binary_loop(), whole=True))


@defect(*_ELEMENTS)
def counting_difference_loop_counts_ignored(patches: Patches) -> None:
    """The same of the differences."""
    patches.replace(changes.NUMPY, changes.DIFFERENCES[1], counted_differences(difference_loop(), whole=True))


@defect(*_ELEMENTS)
def difference_loop_without_a_mask(patches: Patches) -> None:
    """The loop of the differences counts ignored elements."""
    _differences(patches, masked=False)


@defect(*_ELEMENTS)
def difference_loop_sign(patches: Patches) -> None:
    """The loop's derivative is that of y - x."""
    _differences(patches, sign=-1)


@defect(*_ELEMENTS)
def difference_loop_ends_early(patches: Patches) -> None:
    """The loop's sum lacks the last element of each piece."""
    _differences(patches, end=-1)
