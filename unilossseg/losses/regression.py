"""L1 and MSE, element by element."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

from unilossseg import _errors
from unilossseg._loss import Loss
from unilossseg._pixels import as_weights, average, differs, keep_where, shape_of, size_of, total, upcast, work_dtype
from unilossseg.backends import Array, Backend

EPS = 1e-10
REDUCTIONS = ("mean", "sum", "none")


@dataclass(eq=False)
class ElementLoss(Loss):
    """A loss e(z - y) of each element; a subclass has fields reduction and ignore_index and defines `distance`."""

    class_labels = False
    flat_pixels = False
    least_rank = 1

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        self.reduction: str = _errors.choice(self.name, "reduction", self.reduction, REDUCTIONS)

    def distance(self, ops: Backend, difference: Array) -> tuple[Array, Array]:
        """e and its derivative."""
        raise NotImplementedError

    def masks(self) -> bool:
        """Whether elements whose label is `ignore_index` are left out."""
        return True

    def value_shape(self, logits_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Unreduced, that of the logits."""
        return logits_shape if self.reduction == "none" else ()

    def check_labels(self, backend: Backend, logits: Array, labels: Array) -> Array:
        """Real numbers in the logits' shape."""
        if not backend.is_dtype(labels, ("integral", "real floating")):
            raise TypeError(f"{self.name}: labels have dtype {labels.dtype}, expected a floating or integer dtype")
        shape, full = shape_of(labels), shape_of(logits)
        if shape != full:
            raise ValueError(f"{self.name}: labels have shape {shape}, expected {full}, the shape of the logits")
        return labels

    def _weights(self, ops: Backend, mask: Array, like: Array) -> Array:
        m = as_weights(ops, mask, like)
        if self.reduction != "mean":
            return m
        size = size_of(like)
        # Without a mask the mean is plain: no eps in its denominator.
        return m / (size * (average(ops, m) + EPS)) if self.masks() else ops.xp.divide(m, size)

    def _mask(self, ops: Backend, labels: Array) -> Array:
        if self.masks():
            return differs(ops, labels, self.ignore_index)  # type: ignore[attr-defined]
        return ops.xp.ones_like(labels, dtype=ops.xp.bool)

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        mask = self._mask(ops, labels)
        target = ops.xp.astype(labels, logits.dtype)
        terms = self._weights(ops, mask, logits) * keep_where(ops, mask, self.distance(ops, logits - target)[0])
        return terms if self.reduction == "none" else total(ops, terms)

    def closed_form(  # type: ignore[override]
        self, ops: Backend, logits: Array, labels: Array, *, gradient: bool, upstream: Array | None
    ) -> tuple[Array, Array | None]:
        """Derivative a * e'(z - y), a piece of the elements at a time."""
        xp = ops.xp
        mask = self._mask(ops, labels)
        row = (1, 1, -1)
        z, y = xp.reshape(logits, row), xp.reshape(labels, row)
        m = xp.reshape(mask, row)
        a = self._weights(ops, m, z)
        scale = None if upstream is None else upstream
        if scale is not None and len(scale.shape) > 0:
            scale = xp.reshape(scale, row)
        dtype = work_dtype(ops, logits)
        each = self.reduction == "none"
        values = xp.empty_like(z, dtype=dtype) if each else None
        slopes = xp.empty_like(z) if gradient else None

        def task(chunk: tuple[slice, slice]) -> Array:
            _, span = chunk
            here = (slice(0, 1), slice(0, 1), span)
            loss, slope = self.distance(ops, upcast(ops, z[here]) - xp.astype(y[here], dtype, copy=False))
            terms = a[here] * keep_where(ops, m[here], loss)
            if values is not None:
                values[here] = terms
            if slopes is not None:
                slope = a[here] * keep_where(ops, m[here], slope)
                if scale is not None:
                    slope = slope * (scale[here] if len(scale.shape) > 0 else scale)
                slopes[here] = xp.astype(slope, logits.dtype, copy=False)
            return xp.sum(terms, dtype=xp.float64)

        sums = ops.run(task, ops.chunks(*shape_of(z)))
        slopes = None if slopes is None else xp.reshape(slopes, logits.shape)
        if values is not None:
            return xp.reshape(values, logits.shape), slopes
        return xp.astype(xp.sum(xp.stack(sums)), dtype), slopes


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

    def distance(self, ops: Backend, difference: Array) -> tuple[Array, Array]:
        """The absolute value."""
        xp, d = ops.xp, ops.stop_gradient(difference)
        one = xp.ones_like(d)
        # Not `sign`: array-api-compat's writes through a mask, which torch.func.vmap cannot follow. NaN stays NaN.
        return xp.abs(difference), xp.where(d > 0, one, xp.where(d < 0, -one, d * 0))


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

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        _errors.variant(self.name, self.variant)

    def masks(self) -> bool:
        """Only in the corrected variant."""
        return self.variant == "corrected"

    def distance(self, ops: Backend, difference: Array) -> tuple[Array, Array]:
        """The square."""
        return difference * difference, 2 * ops.stop_gradient(difference)
