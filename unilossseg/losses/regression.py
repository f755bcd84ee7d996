"""L1 and MSE, element by element."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar

from unilossseg import _errors
from unilossseg._loss import Loss, comes_before
from unilossseg._pixels import (
    added,
    as_weights,
    average,
    differs,
    in_one_pass,
    keep_where,
    numbers_like,
    numbers_of,
    rescale,
    shape_of,
    size_of,
    total,
    upcast,
    work_dtype,
)
from unilossseg.backends import Array, Backend

EPS = 1e-10
REDUCTIONS = ("mean", "sum", "none")


class ElementLoss(Loss):
    """A loss e(z - y) of each element; a subclass has these fields and defines `distance` and `derivative`."""

    reduction: str
    ignore_index: int

    parameter_checks: ClassVar[_errors.Checks] = {"reduction": partial(_errors.choice, options=REDUCTIONS)}
    class_labels = False
    flat_pixels = False
    packed_logits = packed_labels = defers = True
    least_rank = 1
    #: Whether e is the square; else it is the absolute value.
    squares: ClassVar[bool]
    #: Whether it is one of them: what loops know.
    has_loop: ClassVar[bool]

    def __init_subclass__(cls, **options: Any) -> None:
        """An e of one's own that says nothing of squares is no loop's; the derivative of another e is none of it."""
        super().__init_subclass__(**options)
        cls.has_loop = not any(comes_before(cls, name, "squares") for name in ("distance", "derivative"))
        if all(comes_before(cls, "distance", name) for name in ("derivative", "closed_form")):
            cls.closed_form = None  # type: ignore[assignment, method-assign]

    def distance(self, ops: Backend, difference: Array) -> Array:
        """e; 0 at 0."""
        raise NotImplementedError

    def derivative(self, ops: Backend, difference: Array) -> Array:
        """The derivative of e; 0 at 0."""
        raise NotImplementedError

    def masks(self) -> bool:
        """Whether elements whose label is `ignore_index` are left out."""
        return True

    def value_shape(self, logits_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Unreduced, that of the logits."""
        return logits_shape if self.reduction == "none" else ()

    def _share(self, counted: Any, size: int, number: Callable[[float], Any]) -> Any:
        """What one element counts, of so many of which the mean of the mask, `counted`, is left; see `numbers_of`."""
        if self.reduction != "mean":
            return number(1)
        # Without a mask the mean is plain: no eps in its denominator.
        return number(1) / ((counted + number(EPS) if self.masks() else number(1)) * number(size))

    def _mask(self, ops: Backend, labels: Array) -> Array:
        return differs(ops, labels, self.ignore_index)

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        xp = ops.xp
        mask = self._mask(ops, labels) if self.masks() else xp.ones_like(labels, dtype=xp.bool)
        counted = average(ops, as_weights(ops, mask, logits))
        share = self._share(counted, size_of(logits), numbers_like(ops, counted))
        terms = share * keep_where(ops, mask, self.distance(ops, logits - xp.astype(labels, logits.dtype)))
        return terms if self.reduction == "none" else total(ops, terms)

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
        """Derivative a * e'(z - y), a piece of the elements at a time."""
        by_loop = ops.one_pass and self.has_loop
        found = self._counting(ops, logits, labels, gradient, upstream) if by_loop and not later else None
        if found is not None:
            return found
        share = self._counted_share(ops, labels, work_dtype(ops, logits))

        def one_pass(gradient: bool, upstream: Array | None) -> tuple[Array, Array | None]:
            scalar = self.reduction != "none" and (upstream is None or len(upstream.shape) == 0)
            found = self._by_loop(ops, logits, labels, share, gradient, upstream) if scalar and by_loop else None
            return self._in_parts(ops, logits, labels, share, gradient, upstream) if found is None else found

        return in_one_pass(one_pass, gradient, upstream, later)

    def _counting(
        self, ops: Backend, logits: Array, labels: Array, gradient: bool, upstream: Array | None
    ) -> tuple[Array, Array | None] | None:
        """In one pass that counts the labels too: as if all of them counted, and the gradient mended where not all do.

        None where no share depends on the count, where nobody may read it or the backend has no such loop, and for half
        precision, whose gradient is rounded once.
        """
        if not (self.reduction == "mean" and self.masks() and logits.dtype == ops.xp.float32 and ops.readable(logits)):
            return None
        (z, y), size = _rows(ops, logits, labels), size_of(logits)
        share = self._share(1.0, size, float)
        slopes = ops.buffer_like(z) if gradient else None
        factor = share if upstream is None else share * upstream
        ignored = self.ignore_index
        found = ops.counted_differences(z, y, ignored, self.squares, factor, slopes)
        if found is None:
            return None
        sum_, counted = found
        if counted != size:
            mended = self._share(counted / size, size, float)
            if slopes is not None:
                rescale(ops, slopes, mended / share)
            share = mended
        return ops.cast(share * sum_, logits.dtype), slopes

    def _by_loop(
        self, ops: Backend, logits: Array, labels: Array, share: Any, gradient: bool, upstream: Array | None
    ) -> tuple[Array, Array | None] | None:
        """With the backend's loop, if it has one for such arrays: what is part of a larger one is read row by row."""
        z, y = _rows(ops, logits, labels)
        slopes = ops.buffer_like(z) if gradient else None
        ignored = self.ignore_index if self.masks() else None
        found = ops.differences(z, y, ignored, self.squares, share if upstream is None else share * upstream, slopes)
        return None if found is None else (ops.cast(share * found, work_dtype(ops, logits)), slopes)

    def _in_parts(
        self, ops: Backend, logits: Array, labels: Array, share: Any, gradient: bool, upstream: Array | None
    ) -> tuple[Array, Array | None]:
        """In calls of the standard."""
        xp, dtype, row = ops.xp, work_dtype(ops, logits), (1, 1, size_of(logits))
        z, y = ops.reshape(logits, row), ops.reshape(labels, row)
        if upstream is not None and len(upstream.shape) > 0:
            upstream = ops.reshape(upstream, row)
        values = xp.empty_like(z, dtype=dtype) if self.reduction == "none" else None
        slopes = ops.buffer_like(z) if gradient else None

        def task(here: tuple[slice, ...]) -> Array:
            label = ops.unpacked(y[here])
            d = upcast(ops, z[here]) - xp.astype(label, dtype, copy=False)
            if self.masks():
                # e and its derivative are 0 at 0.
                d = keep_where(ops, self._mask(ops, label), d)
            loss = self.distance(ops, d)
            if values is not None:
                values[here] = share * loss
            if slopes is not None:
                factor = share
                if upstream is not None:
                    factor = share * (upstream[here] if len(upstream.shape) > 0 else upstream)
                slopes[here] = ops.cast(self.derivative(ops, d) * factor, logits.dtype)
            return xp.sum(loss, dtype=xp.float64)

        sums = ops.run(task, [(slice(0, 1), slice(0, 1), span) for _, span in ops.chunks(*row, small=True)])
        if values is not None:
            return ops.reshape(values, shape_of(logits)), slopes
        return ops.cast(share * added(sums), dtype), slopes

    def _counted_share(self, ops: Backend, labels: Array, dtype: Any) -> Any:
        """A share in Python's numbers where values are at hand, which take a tenth of an array's time."""
        xp, size = ops.xp, size_of(labels)
        if self.reduction != "mean" or not self.masks():
            plain = ops.readable(labels) or ops.exact_numbers
            counted = 1.0 if plain else xp.ones((), dtype=dtype, device=ops.device(labels))
        elif ops.one_pass:
            (counted,), _ = numbers_of(ops, ops.tally(labels, self.ignore_index, 1), 1)
            counted = counted / size
        else:
            # What else a tally counts would be passes of their own.
            counted = xp.astype(xp.astype(ops.count(self._mask(ops, labels)), xp.float64) / size, dtype)
        return self._share(counted, size, float if isinstance(counted, float) else numbers_like(ops, counted))


def _rows(ops: Backend, logits: Array, labels: Array) -> tuple[Array, Array]:
    """Both as loops take them, row by row where they are part of something larger."""
    shape = shape_of(logits)
    rows = (*shape[:2], math.prod(shape[2:])) if len(shape) > 2 else (1, 1, math.prod(shape))
    return ops.reshape(logits, rows), ops.reshape(labels, rows)


@dataclass(eq=False)
class L1Loss(ElementLoss):
    r"""The absolute difference of logits and labels.

    .. math:: L = \frac{\mathrm{mean}(m\,|z - y|)}{\mathrm{mean}(m) + 10^{-10}}, \quad \sum m\,|z - y|,
              \quad\text{or}\quad m\,|z - y|

    for reduction 'mean', 'sum' and 'none', with m = 0 where the label is `ignore_index`. The derivative at 0 is 0.

    Parameters
    ----------
    reduction
        'mean', 'sum' or 'none'.
    ignore_index
        The label of elements that count nowhere.

    Shapes and dtypes
    -----------------
    logits and labels of one shape (N, *); labels floating or integers, in the logits' unit. Returns a scalar, or an array
    of that shape for 'none': float32, or float64 for float64 logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape or dtype does not fit.

    References
    ----------
    Zhao, Gallo, Frosio, Kautz, "Loss Functions for Neural Networks for Image Processing", arXiv:1511.08861.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import L1Loss
    >>> round(float(L1Loss()(np.array([[1.0, 3.0, 9.0]]), np.array([[2.0, 5.0, 255.0]]))), 6)
    1.5
    """

    reduction: str = "mean"
    ignore_index: int = 255

    squares = False

    def distance(self, ops: Backend, difference: Array) -> Array:
        """The absolute value."""
        return ops.xp.abs(difference)

    def derivative(self, ops: Backend, difference: Array) -> Array:
        """The sign."""
        return ops.xp.sign(difference)


@dataclass(eq=False)
class MSELoss(ElementLoss):
    r"""The squared difference of logits and labels.

    .. math:: L = \mathrm{mean}((z - y)^2), \quad \sum (z - y)^2, \quad\text{or}\quad (z - y)^2

    for reduction 'mean', 'sum' and 'none'.

    Parameters
    ----------
    reduction
        'mean', 'sum' or 'none'.
    ignore_index
        The label of elements to leave out in the corrected variant.
    variant
        The reference takes `ignore_index` and never applies it; 'corrected' applies it as `L1Loss` does.

    Shapes and dtypes
    -----------------
    logits and labels of one shape (N, *); labels floating or integers, in the logits' unit. Returns a scalar, or an array
    of that shape for 'none': float32, or float64 for float64 logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape or dtype does not fit.

    References
    ----------
    Zhao, Gallo, Frosio, Kautz, "Loss Functions for Neural Networks for Image Processing", arXiv:1511.08861.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import MSELoss
    >>> float(MSELoss()(np.array([[1.0, 3.0]]), np.array([[2.0, 5.0]])))
    2.5
    """

    reduction: str = "mean"
    ignore_index: int = 255
    _: KW_ONLY
    variant: str = "paddleseg"

    squares = True
    parameter_checks: ClassVar[_errors.Checks] = {"variant": _errors.variant}

    def masks(self) -> bool:
        """Only in the corrected variant."""
        return self.variant == "corrected"

    def distance(self, ops: Backend, difference: Array) -> Array:
        """The square."""
        return difference * difference

    def derivative(self, ops: Backend, difference: Array) -> Array:
        """Twice the difference."""
        return 2 * difference
