"""The Lovász extension of the mean Jaccard loss over classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

from unilossseg import _errors
from unilossseg._loss import Loss
from unilossseg._pixels import (
    PixelLabels,
    flat,
    keep_where,
    ratio,
    shape_of,
    sigmoid,
    softmax,
    split_labels,
    total,
    upcast,
    work_dtype,
)
from unilossseg.backends import Array, Backend
from unilossseg.backends._backend import Chunk
from unilossseg.losses._lovasz import lovasz_weights


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

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        self.listed: tuple[int, ...] | None = None
        if isinstance(self.classes, str) or not isinstance(self.classes, list | tuple):
            if self.classes not in ("present", "all"):
                raise (ValueError if isinstance(self.classes, str) else TypeError)(
                    f"{self.name}: classes must be 'present', 'all' or a list of class numbers (got {self.classes!r})"
                )
        else:
            if not self.classes:
                raise ValueError(f"{self.name}: classes must be 'present', 'all' or a list of class numbers (got none)")
            self.listed = tuple(
                _errors.integer(self.name, f"classes[{at}]", c, at_least=0) for at, c in enumerate(self.classes)
            )
        _errors.variant(self.name, self.variant)

    def class_limit(self, channels: int, dense: bool) -> int:
        """One channel is a binary problem."""
        return max(2, channels)

    def check_channels(self, channels: int) -> None:
        """Listed classes must have a channel."""
        first, end = (1, 2) if self._is_binary(channels) else (0, channels)
        for number in self.listed or ():
            if not first <= number < end:
                raise ValueError(
                    f"{self.name}: classes name {number} and logits have {channels} channels: "
                    f"expected numbers in [{first}, {end})"
                )

    def _is_binary(self, channels: int) -> bool:
        return channels == 1 and self.variant == "corrected"

    def _foreground(self, ops: Backend, pixels: PixelLabels, channel: int, channels: int) -> Array:
        number = 1 if self._is_binary(channels) else channel
        return (pixels.index == number) & pixels.valid

    def _shares(self, ops: Backend, pixels: PixelLabels, channels: int, like: Array) -> Array:
        """What each class (C,) counts in the mean."""
        xp = ops.xp
        some = xp.any(pixels.valid)
        if self.classes == "present":
            counts = [xp.any(self._foreground(ops, pixels, c, channels)) for c in range(channels)]
            present = xp.astype(xp.stack(counts), like.dtype)
            return ratio(ops, present, xp.sum(present) + xp.zeros_like(present))
        offset = 1 if self._is_binary(channels) else 0
        numbers = self.listed or tuple(range(offset, channels + offset))
        shares = tuple(numbers.count(c + offset) / len(numbers) for c in range(channels))
        return keep_where(ops, some, ops.constant(shares, like))

    def _probabilities(self, ops: Backend, logits: Array) -> Array:
        return sigmoid(ops, logits) if self._is_binary(int(logits.shape[1])) else softmax(ops, logits)

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        xp = ops.xp
        pixels = split_labels(ops, labels, self.ignore_index)
        p = self._probabilities(ops, flat(ops, logits))
        channels = int(p.shape[1])
        shares = self._shares(ops, pixels, channels, p)
        value = xp.zeros_like(shares[0])
        for c in range(channels):
            loss, _ = self._class_loss(ops, xp.reshape(p[:, c, :], (1, -1)), pixels, c, channels)
            value = value + shares[c] * loss
        return value

    def _class_loss(self, ops: Backend, p: Array, pixels: PixelLabels, channel: int, channels: int) -> tuple[Array, Array]:
        """The loss of one class from its probabilities (1, P), and its derivative by them."""
        xp = ops.xp
        foreground = xp.reshape(self._foreground(ops, pixels, channel, channels), (1, -1))
        valid = xp.reshape(pixels.valid, (1, -1))
        errors = xp.abs(xp.astype(foreground, p.dtype) - p)
        detached = ops.stop_gradient(errors)
        weights = lovasz_weights(ops, xp.where(valid, detached, -xp.ones_like(detached)), foreground, valid)
        slope = keep_where(ops, xp.not_equal(detached, 0), xp.where(foreground, -weights, weights))
        return total(ops, weights * errors), slope

    def closed_form(  # type: ignore[override]
        self, ops: Backend, logits: Array, labels: Array, *, gradient: bool, upstream: Array | None
    ) -> tuple[Array, Array | None]:
        """Linear in the errors once they are sorted; then back through the softmax."""
        xp = ops.xp
        pixels = split_labels(ops, labels, self.ignore_index)
        dtype = work_dtype(ops, logits)
        images, channels, count = shape = shape_of(logits)
        chunks = ops.chunks(images, channels, count)
        p = xp.empty(shape, dtype=dtype, device=ops.device(logits))

        def probabilities(chunk: Chunk) -> None:
            place, span = chunk
            p[place, :, span] = self._probabilities(ops, upcast(ops, logits[place, :, span]))

        ops.run(probabilities, chunks)
        shares = self._shares(ops, pixels, channels, p)
        slopes = xp.empty_like(p) if gradient else None

        def one_class(c: int) -> Array:
            if ops.readable(shares) and float(ops.read(shares[c])) == 0:
                if slopes is not None:
                    slopes[:, c, :] = 0.0
                return xp.zeros_like(shares[c])
            loss, slope = self._class_loss(ops, xp.reshape(p[:, c, :], (1, -1)), pixels, c, channels)
            if slopes is not None:
                slopes[:, c, :] = xp.reshape(slope * shares[c], (images, count))
            return loss * shares[c]

        value = xp.sum(xp.stack(ops.run(one_class, range(channels))))
        if slopes is None:
            return value, None

        def backward(chunk: Chunk) -> None:
            place, span = chunk
            q, slope = p[place, :, span], slopes[place, :, span]
            if self._is_binary(channels):
                slope = slope * q * (1 - q)
            else:
                slope = q * (slope - xp.sum(q * slope, axis=1, keepdims=True))
            slopes[place, :, span] = slope if upstream is None else slope * upstream

        ops.run(backward, chunks)
        return value, slopes
