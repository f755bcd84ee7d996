"""The Lovász extension of the mean Jaccard loss over classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from unilossseg import _errors
from unilossseg._loss import Loss
from unilossseg._pixels import (
    PixelLabels,
    added,
    flat,
    keep_where,
    lovasz_weights,
    ratio,
    shape_of,
    sigmoid,
    size_of,
    softmax,
    split_labels,
    total,
    upcast,
    work_dtype,
)
from unilossseg.backends import Array, Backend
from unilossseg.backends._backend import Chunk


def _class_numbers(owner: str, name: str, value: Any) -> str | tuple[int, ...]:
    """'present', 'all' or class numbers, of an array too."""
    value = tuple(value) if getattr(value, "ndim", 0) == 1 else value
    if not _errors.is_list(value):
        # A string first: an array is neither equal to one nor not.
        if not (isinstance(value, str) and value in ("present", "all")):
            raise (ValueError if isinstance(value, str) else TypeError)(
                f"{owner}: {name} must be 'present', 'all' or a list of class numbers (got {value!r})"
            )
        return value
    if not value:
        raise ValueError(f"{owner}: {name} must be 'present', 'all' or a list of class numbers (got none)")
    return tuple(_errors.integer(owner, f"{name}[{at}]", number, at_least=0) for at, number in enumerate(value))


@dataclass(eq=False)
class LovaszSoftmaxLoss(Loss):
    r"""A surrogate of one minus the mean intersection over union, over the valid pixels of the whole batch.

    .. math:: L = \frac{1}{|K|} \sum_{c \in K} \overline{\Delta_{J_c}}(m(c)), \qquad
              m_i(c) = |[y_i = c] - p_{ic}|

    with the Lovász extension of the Jaccard loss of class c at the errors m(c): their dot product with its gradient, where
    equal errors are ordered by pixel. A batch whose pixels are all ignored has loss 0.

    Parameters
    ----------
    ignore_index
        The label of pixels that count nowhere.
    classes
        'present': the mean over classes with a valid pixel; 'all': over all; or a list of classes, absent ones too.
    variant
        With one channel the reference takes a softmax, which is constant 1: no gradient. 'corrected': the sigmoid, and
        labels 0 and 1 (class 1 is the only one).

    Shapes and dtypes
    -----------------
    logits (N, C, *S); labels (N, *S) or (N, 1, *S), integers in [0, C), with one channel 0 or 1, or `ignore_index`.
    Returns a scalar, float32, or float64 for float64 logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape, dtype or label does not fit.

    References
    ----------
    Berman, Rannen Triki, Blaschko, "The Lovász-Softmax loss: A tractable surrogate for the optimization of the
    intersection-over-union measure in neural networks", arXiv:1705.08790.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import LovaszSoftmaxLoss
    >>> logits = np.log(np.array([[[0.9, 0.2], [0.1, 0.8]]]))
    >>> round(float(LovaszSoftmaxLoss()(logits, np.array([[0, 1]]))), 6)
    0.175
    """

    ignore_index: int = 255
    classes: str | Sequence[int] = "present"
    _: KW_ONLY
    variant: str = "paddleseg"

    packed_logits = defers = joins_images = True
    parameter_checks: ClassVar[_errors.Checks] = {"classes": _class_numbers, "variant": _errors.variant}

    def class_limit(self, channels: int, dense: bool) -> int:
        """One channel is a binary problem."""
        return max(2, channels)

    def check_channels(self, channels: int) -> None:
        """Listed classes must have a channel."""
        first, end = (1, 2) if self._is_binary(channels) else (0, channels)
        for number in self._listed():
            if not first <= number < end:
                raise ValueError(
                    f"{self.name}: classes name {number} and logits have {channels} channels: "
                    f"expected numbers in [{first}, {end})"
                )

    def _listed(self) -> Sequence[int]:
        """The class numbers; none for 'present' and 'all'."""
        return () if isinstance(self.classes, str) else self.classes

    def _is_binary(self, channels: int) -> bool:
        return channels == 1 and self.variant == "corrected"

    def _class_number(self, channel: int, channels: int) -> int:
        return 1 if self._is_binary(channels) else channel

    def _foreground(self, pixels: PixelLabels, channel: int, channels: int) -> Array:
        return (pixels.index == self._class_number(channel, channels)) & pixels.valid

    def _shares(self, ops: Backend, pixels: PixelLabels, channels: int, like: Array) -> Array:
        """What each class (C,) counts in the mean."""
        xp = ops.xp
        if self.classes == "present":
            present = ops.presence(pixels.index, pixels.valid, self._class_number(0, channels), channels)
            present = xp.astype(present, like.dtype)
            return ratio(ops, present, xp.sum(present) + xp.zeros_like(present))
        offset = 1 if self._is_binary(channels) else 0
        numbers = self._listed() or tuple(range(offset, channels + offset))
        shares = tuple(numbers.count(c + offset) / len(numbers) for c in range(channels))
        return keep_where(ops, xp.any(pixels.valid), ops.constant(shares, like))

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        xp = ops.xp
        pixels = split_labels(ops, labels, self.ignore_index)
        z = flat(ops, logits)
        channels = int(z.shape[1])
        p = sigmoid(ops, z) if self._is_binary(channels) else softmax(ops, z)
        shares = self._shares(ops, pixels, channels, p)
        value = xp.zeros_like(shares[0])
        for c in range(channels):
            foreground = self._foreground(pixels, c, channels)
            errors = keep_where(ops, pixels.valid, xp.abs(xp.astype(foreground, p.dtype) - p[:, c, :]))
            errors, foreground = xp.reshape(errors, (1, -1)), xp.reshape(foreground, (1, -1))
            weights = lovasz_weights(ops, ops.stop_gradient(errors), foreground)
            value = value + shares[c] * total(ops, weights * errors)
        return value

    def closed_form(  # type: ignore[override]
        self,
        ops: Backend,
        logits: Array,
        labels: Array,
        *,
        gradient: bool,
        upstream: Array | None,
        later: bool = False,
    ) -> tuple[Array, Any]:
        """Linear in the errors once they are sorted; then back through the softmax."""
        run = _Pass(self, ops, logits, split_labels(ops, labels, self.ignore_index), gradient or later)
        value = added(ops.run(run.some_classes, ops.class_groups(run.shape[1], size_of(run.pixels.index))))
        found: Any = None
        if later:
            found = run.gradient
        elif gradient:
            found = run.gradient(upstream)
        return ops.cast(value, run.dtype), found


class _Pass:
    """Passes over the logits. Of the probabilities only the sums are kept: they are computed again, class by class for the
    sorts and chunk by chunk for the way back.
    """

    def __init__(
        self,
        loss: LovaszSoftmaxLoss,
        ops: Backend,
        logits: Array,
        pixels: PixelLabels,
        gradient: bool,
    ) -> None:
        self.loss, self.ops, self.logits, self.pixels = loss, ops, logits, pixels
        self.shape, self.dtype = shape_of(logits), work_dtype(ops, logits)
        self.binary = loss._is_binary(self.shape[1])
        self.chunks = ops.chunks(*self.shape)
        self.norm, self.top = self._sums()
        self.shares = loss._shares(ops, pixels, self.shape[1], self.top)
        #: By the probabilities.
        self.slopes = ops.buffer_like(logits, self.dtype) if gradient else None

    def _sums(self) -> tuple[Array, Array]:
        """The softmax's sum and the largest logit of each pixel, (N, S) both."""
        ops = self.ops
        if len(self.chunks) == 1:
            return self._sums_of(self.chunks[0])
        norm, top = (ops.buffer_like(self.pixels.index, self.dtype) for _ in range(2))

        def put(chunk: Chunk) -> None:
            norm[chunk], top[chunk] = self._sums_of(chunk)

        ops.run(put, self.chunks)
        return norm, top

    def _sums_of(self, chunk: Chunk) -> tuple[Array, Array]:
        (place, span), ops = chunk, self.ops
        z = self.logits[place, :, span]
        if self.binary:
            # A sigmoid is the softmax beside a logit of 0.
            z = upcast(ops, z)
            z = ops.xp.concat([ops.xp.zeros_like(z), z], axis=1)
        return ops.softmax_sums(z)

    def some_classes(self, group: slice) -> Array:
        """The losses of some classes times their shares; their derivatives by the probabilities go to `slopes`."""
        ops, pixels = self.ops, self.pixels
        return ops.lovasz_classes(
            self.logits[:, group, :],
            (self.norm, self.top),
            (pixels.index, pixels.valid),
            self.loss._class_number(group.start, self.shape[1]),
            self.shares[group],
            None if self.slopes is None else self.slopes[:, group, :],
        )

    def gradient(self, upstream: Array | None) -> Array:
        """Back through the softmax or the sigmoid, in the place of `slopes` where the dtype is the same: once."""
        ops, slopes = self.ops, self.slopes
        assert slopes is not None
        out = slopes if self.logits.dtype == self.dtype else ops.buffer_like(self.logits)
        # Last, so that a factor that was known and one that was not give the same bits.
        weights = None if upstream is None else ops.xp.broadcast_to(upstream, shape_of(self.top))

        def backward(chunk: Chunk) -> None:
            place, span = chunk
            z, slope, room = self.logits[place, :, span], slopes[place, :, span], out[place, :, span]
            here = None if weights is None else weights[chunk]
            if self.binary:
                p = sigmoid(ops, upcast(ops, z))
                slope = slope * (1 - p) * p
                slope = slope if here is None else slope * here[:, None, :]
            else:
                slope = ops.through_softmax(z, slope, here, room)
            if slope is not room:
                out[place, :, span] = ops.cast(slope, self.logits.dtype)

        ops.run(backward, self.chunks)
        return out
