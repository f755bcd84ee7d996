"""Binary cross entropy with logits, class by class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

from unilossseg import _errors, _inputs
from unilossseg._loss import Loss
from unilossseg._pixels import (
    added,
    differs,
    flat,
    in_one_pass,
    keep_where,
    numbers_of,
    rescale,
    shape_of,
    size_of,
    softplus,
    split_labels,
    total,
    upcast,
    work_dtype,
)
from unilossseg.backends import Array, Backend
from unilossseg.backends._backend import Chunk

EPS = 1e-10


def _word_or(check: _errors.Check, otherwise: str, owner: str, name: str, value: Any) -> Any:
    """'dynamic', or what another check lets through."""
    if not isinstance(value, str):
        return check(owner, name, value)
    if value != "dynamic":
        raise ValueError(f"{owner}: {name} must be 'dynamic' or {otherwise} (got {value!r})")
    return value


def _factor_or_none(owner: str, name: str, value: Any) -> float | None:
    return None if value is None else _errors.number(owner, name, value, at_least=0)


@dataclass(eq=False)
class BCELoss(Loss):
    r"""Binary cross entropy of sigmoid(z), averaged over the elements that are not ignored.

    .. math:: L = \frac{\mathrm{mean}(m\, w\, [(1-y) z + (1 - y + w_+ y) \log(1 + e^{-z})])}
                       {\mathrm{mean}(m) + 10^{-10}}

    With n+ and n- the numbers of labels 1 and 0: 'dynamic' `weight` is w = 2 n- / (n+ + n- + 1e-10) on positives and
    2 n+ / (...) on negatives; 'dynamic' `pos_weight` is w+ = 2 n- / (...).

    Parameters
    ----------
    weight
        'dynamic', or one non-negative number per image of the batch, None for 1.
    pos_weight
        'dynamic', or a non-negative number that multiplies the positive term, None for 1.
    ignore_index
        The label of elements that count nowhere. In a mask of 0 and 255 the default ignores all of the foreground: divide
        the mask by 255, or set another number.
    edge_label
        Kept as an attribute for trainers that pass edge masks to such losses; it changes nothing in the value.
    variant
        The reference counts ignored labels as negatives in the 'dynamic' weights; 'corrected' counts valid ones only.

    Shapes and dtypes
    -----------------
    logits (N, C, *S). Labels: (N, C, *S), 0, 1 or `ignore_index`, integers or (soft labels) floats in [0, 1]; (N, *S) for
    one channel; or class numbers (N, *S) or (N, 1, *S), integers in [0, C), for more channels: they are one-hot encoded.
    Returns a scalar, float32, or float64 for float64 logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape, dtype or label does not fit.

    References
    ----------
    The 'dynamic' weights balance classes as in Xie, Tu, "Holistically-Nested Edge Detection", arXiv:1504.06375.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import BCELoss
    >>> round(float(BCELoss()(np.array([[[0.0, 2.0]]]), np.array([[1, 255]]))), 6)
    0.693147
    """

    weight: str | Sequence[float] | Array | None = None
    pos_weight: str | float | None = None
    ignore_index: int = 255
    edge_label: bool = False
    _: KW_ONLY
    variant: str = "paddleseg"

    packed_logits = defers = True
    tallied = counts_labels = True
    flat_pixels = False
    parameter_checks: ClassVar[_errors.Checks] = {
        "weight": partial(_word_or, _errors.weights, "a 1-D array"),
        "pos_weight": partial(_word_or, _factor_or_none, "a number"),
        "edge_label": _errors.flag,
        "variant": _errors.variant,
    }

    def class_limit(self, channels: int, dense: bool) -> int:
        """0 and 1 for labels of the logits' shape."""
        return 2 if dense else channels

    def check_channels(self, channels: int) -> None:
        """`weight` is per image, not per class."""

    def check_labels(self, backend: Backend, logits: Array, labels: Array) -> Array:
        """Labels of the logits' shape, or class numbers (N, *S) to encode."""
        full, shape = shape_of(logits), shape_of(labels)
        weight = self.weight
        if isinstance(weight, tuple) and len(weight) != full[0]:
            raise ValueError(
                f"{self.name}: weight has {len(weight)} entries and logits a batch of {full[0]}: "
                "expected one weight per image"
            )
        if full[1] == 1 and shape == (full[0], *full[2:]):
            labels, shape = backend.xp.reshape(labels, full), full
        if shape != full:
            return _inputs.class_labels(self.name, backend, logits, labels)
        if not backend.is_dtype(labels, ("integral", "bool", "real floating")):
            raise TypeError(f"{self.name}: labels have dtype {labels.dtype}, expected integers, bool or a floating dtype")
        return labels

    def _target(self, ops: Backend, labels: Array, channels: int, dtype: Any) -> tuple[Array, Array]:
        """Targets, and the mask: (N, C, S) both, or (N, 1, S) the mask of class numbers (N, S)."""
        if len(labels.shape) == 2:
            pixels = split_labels(ops, labels, self.ignore_index)
            return ops.xp.astype(ops.one_hot(pixels.index, channels), dtype), pixels.valid[:, None, :]
        mask = differs(ops, labels, self.ignore_index)
        return keep_where(ops, mask, ops.cast(labels, dtype)), mask

    def _shares(self, ops: Backend, labels: Array, tally: Array, channels: int) -> _Shares:
        """The numbers of the whole batch that an element's weight is put together from; `tally` is the labels'."""
        (valid, positives, negatives), number = numbers_of(ops, tally, 3)
        # Of class numbers each stands for one element a channel.
        each = 1 if len(labels.shape) == 3 else channels
        counted = valid if each == 1 else number(each) * valid
        share = ops.reciprocal(counted + number(EPS * each * size_of(labels)))
        if "dynamic" not in (self.weight, self.pos_weight):
            return _Shares(share, None, None, number)
        ignored = number(size_of(labels)) - valid if self.variant == "paddleseg" else number(0)
        if len(labels.shape) == 3:
            negatives = negatives + ignored
        else:
            # The reference takes ignored pixels for class 0.
            positives, negatives = valid + ignored, number(channels - 1) * (valid + ignored)
        whole, two = positives + negatives + number(EPS), number(2)
        return _Shares(share, two * positives / whole, two * negatives / whole, number)

    def _lines(self, ops: Backend, labels: Array, tally: Array, channels: int, dtype: Any) -> _Lines:
        """The weights as functions of the label, with the denominator in them."""
        shares = self._shares(ops, labels, tally, channels)
        negative = positive = shares.each
        if self.weight == "dynamic":
            negative, positive = negative * shares.positive, positive * shares.negative
        if self.pos_weight == "dynamic":
            most = shares.negative
        else:
            most = shares.number(1.0 if self.pos_weight is None else float(self.pos_weight))
        if shares.number is float:
            return _Lines(negative, positive, most)
        return _Lines(*(ops.xp.astype(number, dtype) for number in (negative, positive, most)))

    def _weights(self, ops: Backend, target: Array, away: Array, lines: _Lines, images: slice) -> tuple[Array, Array | None]:
        """Each element's weight, and the factor of the softplus term, None for 1; `away` is 1 - target."""
        a = lines.negative
        if self.weight == "dynamic":
            a = a * away + lines.positive * target
        elif isinstance(self.weight, tuple):
            a = a * ops.constant(self.weight, target)[images, None, None]
        return a, None if self.pos_weight is None else away + lines.pos_weight * target

    def _flat_labels(self, ops: Backend, z: Array, labels: Array) -> Array:
        """Labels as (N, C, S), or class numbers as (N, S): the number of entries tells (with one channel, the former)."""
        images, _, count = shape = shape_of(z)
        return ops.reshape(labels, shape if size_of(labels) == size_of(z) else (images, count))

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        z = flat(ops, logits)
        labels, channels = self._flat_labels(ops, z, labels), int(z.shape[1])
        target, mask = self._target(ops, labels, channels, z.dtype)
        lines = self._lines(ops, labels, ops.tally(labels, self.ignore_index, 1), channels, z.dtype)
        away = 1 - target
        a, factor = self._weights(ops, target, away, lines.beside(ops, z), slice(None))
        losses = softplus(ops, -z)
        losses = away * z + (losses if factor is None else factor * losses)
        return total(ops, a * keep_where(ops, mask, losses))

    def closed_form(  # type: ignore[override]
        self,
        ops: Backend,
        logits: Array,
        labels: Array,
        *,
        gradient: bool,
        upstream: Array | None,
        tally: Array | None = None,
        pending: _inputs.Range | None = None,
        later: bool = False,
    ) -> tuple[Array, Any]:
        """Derivative a * ((1 - y) - factor * sigmoid(-z)), a piece of the elements at a time."""
        shape, size = shape_of(logits), size_of(logits)
        if size_of(labels) == size:
            # Every element for itself: channels are no more than pixels.
            row = (shape[0], 1, size // shape[0])
            logits, labels = ops.reshape(logits, row), ops.reshape(labels, row)
        else:
            logits, labels = flat(ops, logits), ops.reshape(labels, (shape[0], size // (shape[0] * shape[1])))
        # Also where they were counted before: a second backward pass gives the bits of the first.
        found = None if later else self._counting(ops, logits, labels, pending, gradient, upstream)
        if found is not None:
            return found
        if pending is not None:
            tally = pending.tally()
        elif tally is None:
            tally = ops.tally(labels, self.ignore_index, 1)
        lines = self._lines(ops, labels, tally, shape_of(logits)[1], work_dtype(ops, logits))

        def one_pass(gradient: bool, upstream: Array | None) -> tuple[Array, Array | None]:
            run = _Pass(self, ops, logits, labels, lines, gradient, upstream)
            return run.value(), run.slopes

        return in_one_pass(one_pass, gradient, upstream, later)

    def _counting(
        self,
        ops: Backend,
        logits: Array,
        labels: Array,
        pending: _inputs.Range | None,
        gradient: bool,
        upstream: Array | None,
    ) -> tuple[Array, Array | None] | None:
        """In one pass that counts the labels too: as if all of them counted, and the gradient mended where not all do.

        None where weights depend on the counts, where nobody may read them, where the backend has no such loop, and for half
        precision, whose gradient is rounded once.
        """
        simple = self.weight is None and self.pos_weight != "dynamic" and len(labels.shape) == 3
        if not (simple and ops.one_pass and ops.readable(labels) and logits.dtype == ops.xp.float32):
            return None
        size, slopes = size_of(labels), ops.buffer_like(logits) if gradient else None
        lines = self._lines(ops, labels, (size, 0, 0), 1, logits.dtype)
        # Labels 0 and 1 weigh the same.
        base = lines.negative
        share = base if upstream is None else base * upstream
        most = 1 if pending is None else pending.limit - 1
        found = ops.counted_binary_cross_entropy(logits, labels, self.ignore_index, most, share, lines.pos_weight, slopes)
        if found is None:
            return None
        sum_, tally = found
        if pending is not None:
            pending.confirm(tally)
        if tally[0] != size:
            base = self._lines(ops, labels, tally, 1, logits.dtype).negative
            if slopes is not None:
                rescale(ops, slopes, base / lines.negative)
        return ops.cast(sum_ * base, logits.dtype), slopes


class _Pass:
    """One pass over the logits, a chunk at a time."""

    def __init__(
        self,
        loss: BCELoss,
        ops: Backend,
        logits: Array,
        labels: Array,
        lines: _Lines,
        gradient: bool,
        upstream: Array | None,
    ) -> None:
        self.loss, self.ops, self.logits, self.labels, self.lines, self.upstream = loss, ops, logits, labels, lines, upstream
        self.dtype, self.channels = work_dtype(ops, logits), shape_of(logits)[1]
        self.slopes = ops.buffer_like(logits) if gradient else None
        #: Whether a loop of the backend's own may know the weights: it knows labels, and no images.
        self.plain = len(labels.shape) == 3 and not isinstance(loss.weight, tuple)

    def value(self) -> Array:
        """The loss; its gradient comes to `slopes`."""
        ops = self.ops
        value = self.by_loop() if self.plain else None
        if value is None:
            value = added(ops.run(self.in_parts, ops.chunks(*shape_of(self.logits), small=True)))
        # A weight that all elements have has waited for their sum.
        return ops.cast(value * self.lines.negative if self.loss.weight is None else value, self.dtype)

    def by_loop(self) -> Array | None:
        """The sum with the backend's loop, if it has one for such arrays."""
        lines, ignored = self.lines, self.loss.ignore_index
        weight, share = (lines.negative, lines.positive), 1.0 if self.upstream is None else self.upstream
        if self.loss.weight is None:
            weight, share = (1.0, 1.0), lines.negative * share
        return self.ops.binary_cross_entropy(self.logits, self.labels, ignored, weight, share, lines.pos_weight, self.slopes)

    def in_parts(self, chunk: Chunk) -> Array:
        """The sum over one chunk, in calls of the standard."""
        ops, xp, loss, (place, span) = self.ops, self.ops.xp, self.loss, chunk
        y = self.labels[place, span] if len(self.labels.shape) == 2 else self.labels[place, :, span]
        target, mask = loss._target(ops, y, self.channels, self.dtype)
        z = upcast(ops, self.logits[place, :, span])
        away = 1 - target
        a, factor = loss._weights(ops, target, away, self.lines, place)
        above, rising = ops.softplus_and_sigmoid(-z)
        if factor is not None:
            above *= factor
            rising *= factor
        above += away * z
        if self.slopes is not None:
            slope = keep_where(ops, mask, away - rising) * (a if self.upstream is None else a * self.upstream)
            self.slopes[place, :, span] = ops.cast(slope, self.logits.dtype)
        above = keep_where(ops, mask, above)
        if loss.weight is not None:
            above *= a
        return xp.sum(above, dtype=xp.float64)


@dataclass(slots=True)
class _Shares:
    """Numbers of a whole batch: what one element counts, twice the share of positives and of negatives if it matters."""

    each: Any
    positive: Any
    negative: Any
    #: See `numbers_of`.
    number: Callable[[float], Any]


@dataclass(slots=True)
class _Lines:
    """An element's weight (times its image's) goes from `negative` at label 0 to `positive` at label 1, the factor of the
    softplus term from 1 to `pos_weight`.

    Both ends, and not one and the step to the other: their sum would lose the digits of an end that is much the smaller.
    """

    negative: Any
    positive: Any
    pos_weight: Any

    def beside(self, ops: Backend, x: Array) -> _Lines:
        """As arrays of the dtype of x: Paddle 2 rounds a Python number beside a float64 tensor to float32."""
        if ops.exact_numbers:
            return self
        numbers = (self.negative, self.positive, self.pos_weight)
        arrays = (ops.xp.asarray(n, dtype=x.dtype, device=ops.device(x)) if isinstance(n, float) else n for n in numbers)
        return _Lines(*arrays)
