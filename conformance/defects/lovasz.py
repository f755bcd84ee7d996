"""Defects of the two Lovász losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from unilossseg._pixels import sigmoid, softmax, split_labels, upcast
from unilossseg.backends import Array
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect
from unilossseg.losses import LovaszHingeLoss, LovaszSoftmaxLoss
from unilossseg.losses import lovasz_hinge as hinge
from unilossseg.losses import lovasz_softmax as module

_BOTH = ("LovaszSoftmaxLoss", "LovaszHingeLoss")


def jaccard_terms(
    ascending: bool = False,
    last_first: bool = False,
    offset: int = 0,
    jump: bool = True,
    weighs: Any = lambda errors: errors > 0,
) -> Callable[..., tuple[Array, Array]]:
    """NumPy's `lovasz` with one thing changed."""

    def wrong(self: Any, errors: Array, foreground: Array, scale: Array) -> tuple[Array, Array]:
        order = np.argsort(errors if ascending else -errors, kind="stable")
        if last_first:
            order = errors.size - 1 - np.argsort(-errors[::-1], kind="stable")
        hits = foreground[order].astype(np.int64)
        found, whole, place = np.cumsum(hits), hits.sum(), np.arange(1, errors.size + 1)
        union = np.maximum(whole + place - found + offset, 1).astype(errors.dtype)
        steps = np.where(hits > 0, 1 / union, (whole - found).astype(errors.dtype) / (union * np.maximum(union - 1, 1)))
        if jump:
            steps = np.where((whole == 0) & (place == 1), 1, steps)
        out = np.empty_like(errors)
        out[order] = steps
        out = np.where(weighs(errors), out, 0)
        return np.sum(out * errors, dtype=np.float64), out * np.where(foreground, -scale, scale)

    return wrong


def _terms(patches: Patches, **changed: Any) -> None:
    patches.replace(changes.NUMPY, "lovasz", jaccard_terms(**changed))


@defect(*_BOTH)
def lovasz_smallest_errors_first(patches: Patches) -> None:
    """The errors are sorted from small to large."""
    _terms(patches, ascending=True)


@defect(*_BOTH)
def lovasz_last_of_the_ties_first(patches: Patches) -> None:
    """Equal errors are taken in the reverse order of the pixels."""
    _terms(patches, last_first=True)


@defect(*_BOTH)
def lovasz_union_one_more(patches: Patches) -> None:
    """The union counts one pixel too many."""
    _terms(patches, offset=1)


@defect("LovaszSoftmaxLoss")
def lovasz_no_jump_without_foreground(patches: Patches) -> None:
    """A class without a pixel has loss 0."""
    _terms(patches, jump=False)


@defect("LovaszSoftmaxLoss")
def lovasz_ignored_pixels_sorted(patches: Patches) -> None:
    """Ignored pixels are sorted among the others, and weigh."""

    def make(original: Any) -> Any:
        def wrong(self: Any, x: Array, top: Array, norm: Array, index: Array, valid: Array, number: int) -> Any:
            errors, foreground = original(self, x, top, norm, index, valid, number)
            return np.where(valid, errors, errors.dtype.type(0.5)), foreground

        return wrong

    patches.wrap(changes.NUMPY, "class_errors", make)


@defect("LovaszSoftmaxLoss")
def lovasz_absent_classes_counted(patches: Patches) -> None:
    """'present' means all classes."""
    changes.attribute(patches, LovaszSoftmaxLoss, "_shares", "classes", lambda c: "all" if c == "present" else c)


@defect("LovaszSoftmaxLoss")
def lovasz_all_means_present(patches: Patches) -> None:
    """'all' means the classes that are present."""
    changes.attribute(patches, LovaszSoftmaxLoss, "_shares", "classes", lambda c: "present" if c == "all" else c)


@defect("LovaszSoftmaxLoss")
def lovasz_listed_twice_counted_once(patches: Patches) -> None:
    """A class that is listed twice counts once."""

    def once(classes: Any) -> Any:
        return classes if isinstance(classes, str) else tuple(dict.fromkeys(classes))

    changes.attribute(patches, LovaszSoftmaxLoss, "_shares", "classes", once)


@defect("LovaszSoftmaxLoss")
def lovasz_classes_added(patches: Patches) -> None:
    """The classes are added up and not averaged."""

    def make(original: Any) -> Any:
        return lambda self, ops, *rest: (original(self, ops, *rest) > 0).astype(rest[-1].dtype)

    patches.wrap(LovaszSoftmaxLoss, "_shares", make)


def _per_image(patches: Patches, loss: type) -> None:
    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, logits: Array, labels: Array, **inputs: Any) -> tuple[Array, Array | None]:
            count = logits.shape[0]
            parts = [original(self, ops, logits[n : n + 1], labels[n : n + 1], **inputs) for n in range(count)]
            value = np.asarray(sum(value for value, _ in parts) / count, parts[0][0].dtype)
            return value, np.concatenate([slope for _, slope in parts]) / count if inputs["gradient"] else None

        return wrong

    patches.wrap(loss, "closed_form", make)


@defect("LovaszSoftmaxLoss")
def lovasz_softmax_per_image(patches: Patches) -> None:
    """The mean over the images, not the batch as one."""
    _per_image(patches, LovaszSoftmaxLoss)


@defect("LovaszHingeLoss")
def lovasz_hinge_per_image(patches: Patches) -> None:
    """The mean over the images, not the batch as one."""
    _per_image(patches, LovaszHingeLoss)


@defect("LovaszSoftmaxLoss")
def lovasz_softmax_not_differentiated(patches: Patches) -> None:
    """The gradient is multiplied by p(1 - p) of its own class alone."""

    def wrong(slope: Array, loss: Any, ops: Any, logits: Array, labels: Array) -> Array:
        z = upcast(ops, logits)
        pixels, channels = split_labels(ops, labels, loss.ignore_index), z.shape[1]
        if channels == 1:
            return slope
        p = softmax(ops, z)
        shares = loss._shares(ops, pixels, channels, p)
        one, by_p = np.ones_like(p[:, 0]), np.empty_like(p)
        for c in range(channels):
            errors, foreground = ops.class_errors(np.log(p[:, c]), 0 * one, one, pixels.index, pixels.valid, c)
            by_p[:, c] = ops.lovasz(errors.reshape(-1), foreground.reshape(-1), shares[c])[1].reshape(one.shape)
        return by_p * p * (1 - p)

    changes.gradient(patches, LovaszSoftmaxLoss, wrong)


@defect("LovaszSoftmaxLoss")
def lovasz_one_channel_by_softmax(patches: Patches) -> None:
    """With one channel the corrected variant takes a softmax too."""
    patches.replace(module, "sigmoid", lambda ops, x: np.ones_like(x))


@defect("LovaszSoftmaxLoss")
def lovasz_sigmoids(patches: Patches) -> None:
    """Sigmoids in place of the softmax."""
    patches.replace(module, "softmax", sigmoid)

    def make(original: Any) -> Any:
        def wrong(self: Any, x: Array, top: Array, norm: Array, *rest: Any) -> Any:
            top = np.maximum(x, 0)
            return original(self, x, top, np.exp(x - top) + np.exp(-top), *rest)

        return wrong

    patches.wrap(changes.NUMPY, "class_errors", make)


# ---------------------------------------------------------------------------------------------------- the hinge
def hinge_errors(
    margin: float = 1.0, flipped: bool = False, hinged: bool = True, ignored: float = 0.0
) -> Callable[..., tuple[Array, Array]]:
    """NumPy's `hinge_errors` with one thing changed."""

    def wrong(self: Any, score: Array, index: Array, valid: Array) -> tuple[Array, Array]:
        sign = np.where(index == (0 if flipped else 1), 1, -1).astype(score.dtype)
        errors = score.dtype.type(margin) - score * sign
        if hinged:
            errors = np.maximum(errors, 0)
        return np.where(valid, errors, score.dtype.type(ignored)), (index == 1) & valid

    return wrong


def _hinge(patches: Patches, **changed: Any) -> None:
    patches.replace(changes.NUMPY, "hinge_errors", hinge_errors(**changed))


@defect("LovaszHingeLoss")
def hinge_kink(patches: Patches) -> None:
    """The derivative of max(0, x) at 0 is 1."""
    _hinge(patches, ignored=-1)
    _terms(patches, weighs=lambda errors: errors >= 0)


@defect("LovaszHingeLoss")
def hinge_without_its_bend(patches: Patches) -> None:
    """Errors below 0 count as they are."""
    _hinge(patches, hinged=False, ignored=-1e4)
    _terms(patches, weighs=lambda errors: errors > -1e4)


@defect("LovaszHingeLoss")
def hinge_margin(patches: Patches) -> None:
    """The margin is 0.5."""
    _hinge(patches, margin=0.5)


@defect("LovaszHingeLoss")
def hinge_sign(patches: Patches) -> None:
    """Background pixels are pushed up, foreground pixels down."""
    _hinge(patches, flipped=True)


@defect("LovaszHingeLoss")
def hinge_channels_swapped(patches: Patches) -> None:
    """Of two channels the first is the foreground."""

    def make(original: Any) -> Any:
        return lambda self, ops, *channels: original(self, ops, *channels[::-1])

    patches.wrap(LovaszHingeLoss, "_score", make)


@defect("LovaszHingeLoss")
def hinge_eps(patches: Patches) -> None:
    """The 1e-9 of two channels is missing."""
    patches.replace(hinge, "EPS", 1e-12)


@defect("LovaszHingeLoss")
def hinge_gradient_without_eps(patches: Patches) -> None:
    """The gradient of two channels is that of the log odds, without the 1e-9 of the value."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, slope: Array, *channels: Array) -> tuple[Array, Array]:
            if self.variant == "corrected":
                return original(self, ops, slope, *channels)
            p0 = softmax(ops, np.stack([upcast(ops, z) for z in channels], axis=1))[:, 0, :]
            return -slope * p0, slope * p0

        return wrong

    patches.wrap(LovaszHingeLoss, "_by_channels", make)


@defect("LovaszHingeLoss")
def hinge_upstream_dropped(patches: Patches) -> None:
    """The gradient is not multiplied by the upstream gradient."""
    changes.keyword(patches, LovaszHingeLoss, "closed_form", "upstream", lambda upstream: None)
