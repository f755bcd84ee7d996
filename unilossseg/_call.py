"""One call of a loss: its value and gradient, by the closed form or by the formula."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import math
import operator
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from unilossseg._inputs import Checked, as_int64
from unilossseg._pixels import flat, shape_of, size_of, upcast
from unilossseg.backends import Array, Backend

if TYPE_CHECKING:
    from unilossseg._loss import Loss

_FOR_OTHERS = (
    "{}: labels, pixel weights or the loss's own parameters want a gradient, which the closed form does not have: the "
    "formula is computed instead, which takes more time and memory; detach them where no gradient is needed"
)
_ON_THE_WAY = ("unilossseg", "torch", "paddle")
_plain: contextvars.ContextVar[bool] = contextvars.ContextVar("plain_formula", default=False)
_factors: contextvars.ContextVar[tuple[float, ...]] = contextvars.ContextVar("factors", default=())
#: Beyond these a gradient that comes with the factor in it might leave float32's range, and its digits with it.
_LEAST_FACTOR, _LARGEST_FACTOR = 2.0**-20, 2.0**20


@contextlib.contextmanager
def plain_formula() -> Iterator[None]:
    """Inside it, losses are computed by their formula and differentiated by the framework's autograd.

    The closed forms that are otherwise used are faster and need less memory; this is the way to compare them with
    autograd, and to differentiate more than once where a framework's custom gradients cannot. On a backend without
    autograd (NumPy) `value_and_grad` raises there.

    >>> import numpy as np, unilossseg
    >>> logits, labels = np.zeros((1, 3, 2)), np.array([[0, 2]])
    >>> with unilossseg.plain_formula():
    ...     round(float(unilossseg.DiceLoss()(logits, labels)), 6)
    0.733333
    """
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def is_plain() -> bool:
    """Whether the caller is inside it."""
    return _plain.get()


@contextlib.contextmanager
def multiplied_by(factor: float) -> Iterator[None]:
    """Inside it, the caller multiplies by this number what losses return: their gradients come with it in them, and need no
    pass of their own for it in the backward pass.
    """
    token = _factors.set((*_factors.get(), factor))
    try:
        yield
    finally:
        _factors.reset(token)


def _level_of_the_caller() -> int:
    """As warnings count: of the line that called the loss, from the function that asks. A Module has frames of its own."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _ON_THE_WAY:
        level, frame = level + 1, frame.f_back
    return level


@dataclass(slots=True, eq=False)
class Call:
    """One checked call of a loss: all but its logits."""

    loss: Loss
    backend: Backend
    kernel: Backend | None
    checked: Checked
    extras: dict[str, Array]

    def hand_over(self) -> tuple[Array, ...]:
        """The labels and what else came, which are the caller's from now on: what is kept for a backward pass that may never
        come should be in the framework's hands.
        """
        checked, extras = self.checked, self.extras
        labels, checked.labels, checked.seen, checked.pending = checked.labels, None, None, None
        self.extras = dict.fromkeys(extras)
        return (labels, *extras.values())

    def holding(self, arrays: Sequence[Array]) -> Call:
        """The same call with them again."""
        labels, *extras = arrays
        checked = Checked(labels, self.checked.tally, poison=self.checked.poison)
        return Call(self.loss, self.backend, self.kernel, checked, dict(zip(self.extras, extras, strict=True)))

    def plain(self, logits: Array) -> Array:
        """The value by the formula, differentiable."""
        ops, poison, pending = self.backend, self.checked.poison, self.checked.pending
        if pending is not None:
            pending.tally()
        z = upcast(ops, logits)
        value = _as_number(ops, self.loss.compute(ops, z, self._formula_labels(), **self.extras), z.dtype)
        return value if poison is None else value * ops.xp.astype(poison, value.dtype)

    def _formula_labels(self) -> Array:
        """Class numbers as int64, whatever the caller brought or a kernel has made of them: a formula may look up with them
        and calculate with them.
        """
        return self._class_numbers(self.backend, self.checked.labels)

    def _class_numbers(self, ops: Backend, labels: Array) -> Array:
        """Of class labels, as int64."""
        loss = self.loss
        return as_int64(ops, labels, getattr(loss, "ignore_index", None)) if loss.class_labels else labels

    @property
    def expected(self) -> float | None:
        """None where a loss serves two heads of different weights, say: one of them would always be computed in vain."""
        last, before = self.loss._upstreams
        return last if last == before else None

    def remember(self, upstream: float) -> None:
        """Not by assignment: a Module looks at what is set."""
        if math.isfinite(upstream):
            object.__setattr__(self.loss, "_upstreams", (upstream, self.loss._upstreams[0]))

    def factor(self, logits: Array) -> float:
        """The upstream gradient to expect of those who multiply the value, see `multiplied_by`, in the working dtype."""
        factors = _factors.get()
        if not factors or self.loss.value_shape(shape_of(logits)) != ():
            return 1.0
        if not all(_LEAST_FACTOR <= abs(factor) <= _LARGEST_FACTOR for factor in factors):
            return 1.0
        number = np.float64 if self.backend.work_dtype(logits) == self.backend.xp.float64 else np.float32
        # One after the other, as the backward pass multiplies them.
        product: Any = functools.reduce(operator.mul, map(number, factors))
        return float(product)

    @property
    def has_closed_form(self) -> bool:
        """Whether value and gradient can be computed together here."""
        return self.kernel is not None and self.loss.closed_form is not None

    def value(self, logits: Array) -> Array:
        """The value: by the closed form, with its gradient hung into autograd, or by the formula."""
        # In this order: torch.compile, under which there is no closed form, cannot trace the look into the context.
        if self.has_closed_form and not is_plain():
            if not self._asks_for_more():
                return self.backend.custom_gradient(self, logits)
            warnings.warn(_FOR_OTHERS.format(self.loss.name), stacklevel=_level_of_the_caller())
        return self.plain(logits)

    def _asks_for_more(self) -> bool:
        """Whether labels, or what else came with them, or parameters of the loss want a gradient."""
        wants, extras, loss = self.backend.wants_gradient, self.extras, self.loss
        if wants(self.checked.labels):
            return True
        # A closed form of the package knows none of the parameters that a subclass may have.
        if not getattr(loss.closed_form, "__module__", "").startswith("unilossseg.") and any(map(wants, loss._learned())):
            return True
        return bool(extras) and any(name in extras and wants(extras[name]) for name in self.loss.call_inputs)

    def fused(self, logits: Array, gradient: bool, upstream: Array | None) -> tuple[Array, Array | None]:
        """The value and, if wanted, the gradient by the closed form, computed in the kernel's namespace."""
        return self._closed_form(logits, upstream, gradient=gradient)[:2]

    def deferred(self, logits: Array) -> tuple[Array, Callable[[Array], Any] | None]:
        """The value by the closed form, and what computes the gradient of an upstream one; None: `fused` does."""
        if not self.loss.defers:
            return self.fused(logits, False, None)[0], None
        value, finish, working = self._closed_form(logits, None, gradient=False, later=True)
        shape, dtype = shape_of(logits), logits.dtype

        def gradient(upstream: Array) -> Array:
            assert self.kernel is not None
            with self.kernel.computing(self.backend.threads()):
                return self._as_gradient(finish(self._scale(upstream, working)), shape, dtype)

        return value, gradient

    def _closed_form(self, logits: Array, upstream: Array | None, **wanted: bool) -> tuple[Array, Any, Any]:
        """What it returns, as arrays of the caller's but for a gradient that is wanted later, and the working dtype."""
        loss, backend, ops, checked = self.loss, self.backend, self.kernel, self.checked
        assert ops is not None
        assert loss.closed_form is not None
        z = backend.to_kernel(logits, packed=loss.packed_logits)
        dtype, plain = ops.work_dtype(z), not loss.packed_logits
        z = ops.upcast(z) if plain else z
        arrays = {name: backend.to_kernel(value) for name, value in self.extras.items()} if self.extras else {}
        labels = checked.seen
        if labels is None:
            labels = backend.to_kernel(checked.labels, packed=loss.packed_labels)
        labels = self._class_numbers(ops, labels) if plain else labels
        if loss.flat_pixels:
            z = flat(ops, z)
            if loss.joins_images and _are_single_pixels(z):
                z = ops.xp.permute_dims(z, (2, 1, 0))
                labels, *joined = (ops.reshape(x, (1, size_of(x))) for x in (labels, *arrays.values()))
                arrays = dict(zip(arrays, joined, strict=True))
            z = ops.in_rows(z)
        if loss.tallied:
            arrays["tally"] = checked.tally
        if loss.counts_labels:
            arrays["pending"] = checked.pending
        with ops.computing(backend.threads()):
            poison = self._poison(dtype)
            scale = poison if upstream is None else self._scale(upstream, dtype)
            value, slope = loss.closed_form(ops, z, labels, upstream=scale, **wanted, **arrays)
            # A copy in rows is free from here on, for the gradient's.
            del z
            value = _as_number(ops, ops.settled(value if poison is None else value * poison), dtype)
            if wanted["gradient"] and slope is not None:
                slope = self._as_gradient(slope, shape_of(logits), logits.dtype)
        return backend.from_kernel(value), slope, dtype

    def _as_gradient(self, slope: Array, shape: tuple[int, ...], dtype: Any) -> Array:
        """What a closed form computed, in the logits' shape and dtype."""
        assert self.kernel is not None
        found = shape_of(slope)
        if self.loss.joins_images and found[0] != shape[0]:
            slope = self.kernel.as_pixels(slope)
        slope = slope if found == shape else self.kernel.reshape(slope, shape)
        return self.backend.from_kernel(slope, dtype)

    def _poison(self, dtype: Any) -> Array | None:
        """1, or NaN where a label names no class; None: all do."""
        if self.checked.poison is None:
            return None
        assert self.kernel is not None
        return self.kernel.cast(self.backend.to_kernel(self.checked.poison), dtype)

    def _scale(self, upstream: Array, dtype: Any) -> Array:
        """The upstream gradient as closed forms take it, with the poison in it."""
        assert self.kernel is not None
        scale, poison = self.kernel.cast(self.backend.to_kernel(upstream), dtype), self._poison(dtype)
        return scale if poison is None else scale * poison


def _as_number(ops: Backend, value: Any, dtype: Any) -> Array:
    """NumPy 1 makes float64 of a float32 number and one of Python's."""
    return ops.cast(value, dtype) if isinstance(value, np.floating) and value.dtype != dtype else value


def _are_single_pixels(z: Array) -> bool:
    """Logits (P, C, 1): loops and kernels, which take images one by one, would find one pixel in each."""
    images, _, count = shape_of(z)
    return count == 1 < images
