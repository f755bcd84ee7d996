"""Defects of what all losses share: labels, masks, sums, the call itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from unilossseg import _call, _pixels
from unilossseg.backends import Array
from unilossseg.backends.numpy import BACKEND
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect
from unilossseg.losses import BCELoss, CrossEntropyLoss, DiceLoss, L1Loss, MSELoss

_CLASSES = ("CrossEntropyLoss", "DiceLoss", "LovaszSoftmaxLoss")


def _labels(patches: Patches, index: Any = None, valid: Any = None) -> None:
    """Other classes, or another mask, out of `split_labels`."""
    changes.without_loops(patches, "plain_cross_entropy")

    def make(original: Any) -> Any:
        def wrong(ops: Any, labels: Array, ignore_index: int) -> Any:
            right = original(ops, labels, ignore_index)
            return _pixels.PixelLabels(
                index(ops, right.index) if index else right.index, valid(ops, right.valid) if valid else right.valid
            )

        return wrong

    patches.everywhere(_pixels, "split_labels", make)


def _calls(patches: Patches, change: Any) -> None:
    """Something else around the closed form; `change` gets it, its upstream gradient, the call and the logits, and answers
    what a call gets.
    """

    def make(original: Any) -> Any:
        def wrong(self: Any, logits: Array, wanted: bool, upstream: Array | None) -> Any:
            return change(lambda up: original(self, logits, wanted, up), upstream, self, logits)

        return wrong

    patches.wrap(_call.Call, "fused", make)


@defect("DiceLoss", "L1Loss")
def no_gradient(patches: Patches) -> None:
    """The closed form gives its value and no gradient."""
    for loss in (DiceLoss, L1Loss):
        changes.gradient(patches, loss, lambda *_: None)


@defect(*_CLASSES, "RelaxBoundaryLoss")
def labels_shifted(patches: Patches) -> None:
    """Every class is taken for the one before it."""
    _labels(patches, index=lambda ops, index: ops.xp.where(index > 0, index - 1, index))


@defect(*_CLASSES, "LovaszHingeLoss")
def classes_swapped(patches: Patches) -> None:
    """Classes 0 and 1 change places."""
    _labels(patches, index=lambda ops, index: ops.xp.where(index < 2, 1 - index, index))


@defect(*_CLASSES, "OhemCrossEntropyLoss")
def ignored_pixels_counted(patches: Patches) -> None:
    """Ignored pixels count as class 0."""
    _labels(patches, valid=lambda ops, valid: ops.xp.ones_like(valid))


@defect("CrossEntropyLoss", "DiceLoss", "LovaszSoftmaxLoss", "OhemCrossEntropyLoss")
def ignored_label_fixed(patches: Patches) -> None:
    """255 is ignored, whatever ignore_index says; another ignored label counts as class 0."""

    def make(original: Any) -> Any:
        def wrong(ops: Any, labels: Array, ignore_index: int) -> Any:
            return _pixels.PixelLabels(original(ops, labels, ignore_index).index, original(ops, labels, 255).valid)

        return wrong

    changes.without_loops(patches, "plain_cross_entropy")
    patches.everywhere(_pixels, "split_labels", make)


@defect("BCELoss", "L1Loss", "MSELoss")
def ignored_number_fixed(patches: Patches) -> None:
    """255 is ignored in labels of the logits' shape, whatever ignore_index says."""
    from unilossseg.losses import bce, regression

    for place in (bce, regression):
        changes.argument(patches, place, "differs", 2, lambda number: 255)
    for name in (*changes.BINARY, *changes.DIFFERENCES):
        changes.argument(patches, changes.NUMPY, name, 3, lambda number: None if number is None else 255)


@defect("LovaszHingeLoss")
def a_mask_multiplies(patches: Patches) -> None:
    """A mask is multiplied where it should choose, so that a masked NaN stays NaN."""

    def make(original: Any) -> Any:
        def wrong(self: Any, mask: Array, x: Array, other: float = 0) -> Array:
            return original(self, mask, x, other) if other else x * mask.astype(x.dtype)

        return wrong

    patches.wrap(changes.NUMPY, "keep_where", make)
    changes.without_loops(patches, "hinge_errors")


@defect("DiceLoss", "LovaszSoftmaxLoss", "DualTaskLoss")
def no_largest_logit_subtracted(patches: Patches) -> None:
    """The softmax takes exp of the logits as they are."""
    patches.everywhere(_pixels, "shifted_logits", lambda original: lambda ops, logits: logits)

    def wrong(self: Any, x: Array) -> tuple[Array, Array, Array]:
        powers = np.exp(x)
        return powers, np.sum(powers, axis=1), np.zeros_like(powers[:, 0])

    # Closed forms have a softmax of their own.
    patches.replace(changes.NUMPY, "softmax_parts", wrong)
    changes.without_loops(patches, "softmax_sums", "class_errors", *changes.SOFTMAXES)


@defect("CrossEntropyLoss", "DiceLoss", "MSELoss")
def computed_in_float16(patches: Patches) -> None:
    """float16 logits are computed with in float16."""
    patches.everywhere(_pixels, "work_dtype", lambda original: lambda ops, x: x.dtype)


def _sums(patches: Patches, change: Any) -> None:
    """Other sums, of `total` and of closed forms, which add up their pieces themselves; `change` gets the right one too."""

    def make(original: Any) -> Any:
        return lambda x, **rest: change(original, x, **rest)

    right = BACKEND.xp.sum
    sums = ("plain_cross_entropy", *changes.BINARY, *changes.DIFFERENCES, "lovasz")
    changes.without_loops(patches, *sums, *changes.SOFTMAXES)
    patches.everywhere(
        _pixels,
        "total",
        lambda original: lambda ops, x, axis=None: ops.cast(change(right, x, axis=axis, dtype=np.float64), x.dtype),
    )
    patches.wrap(BACKEND.xp, "sum", make)


@defect("CrossEntropyLoss", "BCELoss", "LovaszHingeLoss")
def summed_in_float16(patches: Patches) -> None:
    """Sums have float16 accumulators."""

    def narrow(original: Any, x: Array, *, dtype: Any = None, **rest: Any) -> Array:
        return original(x, dtype=np.float16 if dtype == np.float64 else dtype, **rest)

    _sums(patches, narrow)


@defect("OhemCrossEntropyLoss", "BCELoss")
def summed_in_float32(patches: Patches) -> None:
    """float32 numbers are added up one by one in float32."""

    def one_by_one(original: Any, x: Array, *, axis: Any = None, **rest: Any) -> Array:
        if axis is not None or x.dtype != np.float32:
            return original(x, axis=axis, **rest)
        return np.asarray(np.cumsum(x)[-1])

    _sums(patches, one_by_one)


@defect("CrossEntropyLoss", "LovaszSoftmaxLoss", "BCELoss", "DiceLoss")
def strides_forgotten(patches: Patches) -> None:
    """Logits are read in the order of memory."""

    def make(original: Any) -> Any:
        def wrong(ops: Any, x: Array, leading: int = 2) -> Array:
            return original(ops, np.reshape(np.ravel(x, order="K"), x.shape), leading)

        return wrong

    patches.everywhere(_pixels, "flat", make)


@defect("CrossEntropyLoss", "DiceLoss", "L1Loss", "LovaszSoftmaxLoss", "DualTaskLoss", "RelaxBoundaryLoss")
def upstream_dropped(patches: Patches) -> None:
    """The gradient is not multiplied by the upstream gradient."""
    _calls(patches, lambda right, upstream, *_: right(None))


@defect("CrossEntropyLoss", "BCELoss", "MSELoss", "LovaszHingeLoss")
def upstream_squared(patches: Patches) -> None:
    """The gradient is multiplied by the upstream gradient twice."""
    _calls(patches, lambda right, upstream, *_: right(None if upstream is None else upstream * upstream))


@defect("CrossEntropyLoss", "DiceLoss", "OhemEdgeAttentionLoss")
def gradient_slightly_scaled(patches: Patches) -> None:
    """The gradient is larger by a billionth."""
    _calls(patches, lambda right, upstream, *_: _with_gradient(right(upstream), lambda slope: slope * (1 + 1e-9)))


@defect("CrossEntropyLoss", "DiceLoss", "LovaszSoftmaxLoss")
def ignored_pixels_almost_without_gradient(patches: Patches) -> None:
    """The gradient at ignored pixels is 1e-30 instead of 0."""
    _calls(patches, lambda right, upstream, *_: _with_gradient(right(upstream), lambda slope: slope + 1e-30))


@defect("CrossEntropyLoss", "DiceLoss", "MSELoss")
def gradient_in_another_dtype(patches: Patches) -> None:
    """The gradient of half-precision logits is float32."""

    def wide(slope: Array) -> Array:
        return slope.astype(np.float32) if slope.dtype == np.float16 else slope

    _calls(patches, lambda right, upstream, *_: _with_gradient(right(upstream), wide))


@defect("CrossEntropyLoss", "L1Loss", "DiceLoss", crashes="OverwrittenError: logits")
def logits_overwritten(patches: Patches) -> None:
    """The gradient is written over the logits."""

    def change(right: Any, upstream: Array | None, call: Any, logits: Array) -> Any:
        value, slope = right(upstream)
        if slope is not None:
            logits[...] = slope
        return value, slope

    _calls(patches, change)


@defect("CrossEntropyLoss", "LovaszHingeLoss", crashes="OverwrittenError: labels")
def labels_overwritten(patches: Patches) -> None:
    """Ignored labels become 0 in the caller's array."""

    def change(right: Any, upstream: Array | None, call: Any, logits: Array) -> Any:
        found, labels = right(upstream), call.checked.labels
        labels[labels == call.loss.ignore_index] = 0
        return found

    _calls(patches, change)


@defect("CrossEntropyLoss", "BCELoss", "MSELoss")
def nan_hidden(patches: Patches) -> None:
    """A value or a gradient that is NaN becomes 0."""

    def change(right: Any, upstream: Array | None, *_: Any) -> Any:
        value, slope = right(upstream)
        return np.nan_to_num(value, posinf=np.inf), None if slope is None else np.nan_to_num(slope, posinf=np.inf)

    _calls(patches, change)


@defect("CrossEntropyLoss", "DiceLoss", crashes="labels have shape")
def labels_with_a_channel_axis_refused(patches: Patches) -> None:
    """Labels (N, 1, *S) raise."""
    from unilossseg import _inputs

    def make(original: Any) -> Any:
        def wrong(owner: str, backend: Any, name: str, logits: Array, given: Array) -> Array:
            if len(given.shape) == len(logits.shape):
                raise ValueError(f"{owner}: {name} have shape {given.shape}")
            return original(owner, backend, name, logits, given)

        return wrong

    patches.wrap(_inputs, "without_channel", make)


@defect("CrossEntropyLoss", "DiceLoss", "LovaszSoftmaxLoss")
def unsigned_labels_wrap(patches: Patches) -> None:
    """Narrow labels are read as signed: 255 becomes -1, is not ignored, and counts as class 0."""

    def change(original: Any) -> Any:
        def wrong(ops: Any, labels: Array, ignore_index: int) -> Any:
            narrow = labels.astype(np.int8) if labels.dtype == np.uint8 else labels
            found = original(ops, narrow, ignore_index)
            # As -1 it would be refused where NumPy is not left to take it for the last class.
            return _pixels.PixelLabels(ops.xp.where(found.index < 0, 0, found.index), found.valid)

        return wrong

    changes.without_loops(patches, "plain_cross_entropy")
    patches.everywhere(_pixels, "split_labels", change)


def _with_gradient(found: tuple[Array, Array | None], change: Any) -> tuple[Array, Array | None]:
    value, slope = found
    return value, None if slope is None else change(slope)


@defect("CrossEntropyLoss", "DiceLoss", "BCELoss", "LovaszHingeLoss")
def only_float32_values(patches: Patches) -> None:
    """Values of float64 logits are rounded to float32 on the way."""

    def change(right: Any, upstream: Array | None, *_: Any) -> Any:
        value, slope = right(upstream)
        return np.asarray(np.float32(value), value.dtype), slope

    _calls(patches, change)


@defect("MixedLoss")
def coef_of_the_gradient_dropped(patches: Patches) -> None:
    """The gradient of a MixedLoss is the plain sum."""
    from unilossseg.losses import MixedLoss

    def make(original: Any) -> Any:
        def wrong(self: Any, *arguments: Any, **keywords: Any) -> Any:
            value, _ = original(self, *arguments, **keywords)
            right, self.coef = self.coef, [1.0] * len(self.coef)
            try:
                return value, original(self, *arguments, **keywords)[1]
            finally:
                self.coef = right

        return wrong

    patches.wrap(MixedLoss, "value_and_grad", make)


@defect("MixedLoss")
def coefs_reversed(patches: Patches) -> None:
    """The first loss gets the last coef."""
    from unilossseg.losses import MixedLoss

    for name in ("evaluate", "value_and_grad"):
        changes.attribute(patches, MixedLoss, name, "coef", lambda coef: coef[::-1])


@defect("MixedLoss")
def last_loss_dropped(patches: Patches) -> None:
    """The gradient lacks the last loss."""
    from unilossseg.losses import MixedLoss

    def make(original: Any) -> Any:
        def wrong(self: Any, *arguments: Any, **keywords: Any) -> Any:
            value, _ = original(self, *arguments, **keywords)
            right = self.coef, self.losses
            self.coef, self.losses = self.coef[:-1], self.losses[:-1]
            try:
                return value, original(self, *arguments, **keywords)[1]
            finally:
                self.coef, self.losses = right

        return wrong

    patches.wrap(MixedLoss, "value_and_grad", make)


@defect("MixedLoss")
def mean_of_the_losses(patches: Patches) -> None:
    """The sum of a MixedLoss is a mean."""
    from unilossseg.losses import mixed

    for name in ("evaluate", "value_and_grad"):
        changes.attribute(patches, mixed.MixedLoss, name, "coef", lambda coef: [c / len(coef) for c in coef])


@defect("MixedLoss")
def mixed_gradients_in_float16(patches: Patches) -> None:
    """Gradients of a MixedLoss are added in half precision, after each product."""
    from unilossseg.losses import mixed

    patches.replace(mixed, "upcast", lambda ops, x: x.astype(np.float16) if x.dtype != np.float64 else x)


def _eps_of_float32(number: float, x: Array) -> float:
    """So many of them; none for float64, whose bound would see them."""
    return 0.0 if "float64" in str(x.dtype) else number * 2.0**-23


@defect("CrossEntropyLoss", "DiceLoss", "BCELoss", "L1Loss")
def value_three_eps_off(patches: Patches) -> None:
    """The value is off by three eps of float32: within the bounds, and several times as far off as the plain formula's."""
    for loss in (CrossEntropyLoss, DiceLoss, BCELoss, L1Loss):
        changes.value(
            patches, loss, lambda value, ops: value + _eps_of_float32(3, value) * ops.xp.maximum(ops.xp.abs(value), value**0)
        )


@defect("CrossEntropyLoss", "DiceLoss", "BCELoss", "MSELoss", backend="torch")
def gradient_twelve_eps_off(patches: Patches) -> None:
    """The gradient is off by twelve eps of float32: within the bounds, and several times as far off as autograd's."""
    for loss in (CrossEntropyLoss, DiceLoss, BCELoss, MSELoss):
        changes.gradient(patches, loss, lambda slope, self, ops, logits, labels: slope * (1 + _eps_of_float32(12, slope)))
