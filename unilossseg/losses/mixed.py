"""Several losses on the same logits."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np

from unilossseg import _errors
from unilossseg._call import multiplied_by
from unilossseg._loss import Loss
from unilossseg._pixels import shape_of, upcast
from unilossseg.backends import Array, backend_of


def _checked_losses(owner: str, name: str, value: Any) -> Any:
    """At least one loss, or function that is called like one, as they came; those of a generator in a list.

    A framework's list of layers is one too.
    """
    if not hasattr(value, "__iter__") or isinstance(value, str | bytes | dict):
        raise TypeError(f"{owner}: {name} must be a list of losses (got {value!r} that is a {type(value).__name__})")
    losses = value if hasattr(value, "__len__") else list(value)
    if len(losses) == 0:
        raise ValueError(f"{owner}: {name} must be a list of at least one loss (got none)")
    for at, loss in enumerate(losses):
        if not callable(loss) or isinstance(loss, type):
            raise TypeError(f"{owner}: {name}[{at}] must be a loss (got {loss!r} that is a {type(loss).__name__})")
    return losses


@dataclass(eq=False)
class MixedLoss(Loss):
    r"""A list of weighted losses.

    .. math:: L_k = coef_k \cdot losses_k(z, y)

    Parameters
    ----------
    losses
        Losses, or any callables of (logits, labels); a MixedLoss among them works.
    coef
        One finite number per loss, or one for all.
    reduction
        'list': the list of the L_k, as the reference's trainer expects it (an inner MixedLoss gives its own list, each
        entry times coef); 'sum': their total.

    Shapes and dtypes
    -----------------
    Whatever the losses take. Further inputs of a call go to those losses that take them.

    Raises
    ------
    ValueError, TypeError
        Where a parameter does not fit, and what the losses raise.

    References
    ----------
    The convention of PaddleSeg's configurations.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import CrossEntropyLoss, DiceLoss, MixedLoss
    >>> loss = MixedLoss([CrossEntropyLoss(), DiceLoss()], coef=[1, 0.5], reduction="sum")
    >>> round(float(loss(np.zeros((1, 2, 4)), np.array([[0, 1, 0, 1]]))), 6)
    0.943147
    """

    losses: Sequence[Callable[..., Any]]
    coef: Sequence[float] | float
    _: KW_ONLY
    reduction: str = "list"

    parameter_checks: ClassVar[_errors.Checks] = {
        "losses": _checked_losses,
        "reduction": functools.partial(_errors.choice, options=("list", "sum")),
    }

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        self.coef = self._coefficients()

    def _coefficients(self) -> list[float]:
        """One number for each loss; looked at in each call, since they may be set anew."""
        given = self.coef.tolist() if isinstance(self.coef, np.ndarray) else self.coef
        if _errors.is_list(given):
            coef = [_errors.number(self.name, f"coef[{at}]", c) for at, c in enumerate(given)]
        else:
            coef = [_errors.number(self.name, "coef", given)] * len(self.losses)
        if len(coef) != len(self.losses):
            raise ValueError(
                f"{self.name}: coef has {len(coef)} entries and losses {len(self.losses)}: expected one number per loss"
            )
        return coef

    def __repr__(self) -> str:
        return f"{self.name}(losses={list(self.losses)!r}, coef={self.coef!r}, reduction={self.reduction!r})"

    def __setattr__(self, name: str, value: Any) -> None:
        """Losses of later are kept as those of the constructor are."""
        if name == "losses":
            # Checked before a face lets go of an earlier list.
            value = self._kept(list(self._parameter(name, value)))
        super().__setattr__(name, value)

    def _kept(self, losses: list[Any]) -> Any:
        """How a framework's face keeps them."""
        return losses

    def _registered(self, losses: list[Any], layer: type, as_list: Callable[..., Any], as_dict: Callable[..., Any]) -> Any:
        """Where the framework finds those that are its layers, so that `.to()` and the parameters of a learned loss are
        reached: in a list of its own, or beside one that holds functions too.
        """
        layers = {str(at): loss for at, loss in enumerate(losses) if isinstance(loss, layer)}
        # What an earlier list left there.
        for name in ("losses", "layers_among_losses"):
            if hasattr(self, name) and isinstance(getattr(self, name), layer):
                delattr(self, name)
        if len(layers) == len(losses):
            return as_list(losses)
        if layers:
            self.layers_among_losses = as_dict(layers)
        return losses

    def evaluate(self, logits: Any, labels: Array, *, validate: bool | None = None, **inputs: Array) -> Any:
        """The list, or its sum."""
        self._check_inputs(validate, inputs)
        coefficients, traced = self._coefficients(), _is_traced(logits)
        values = []
        for at, (loss, coef) in enumerate(zip(self.losses, coefficients, strict=True)):
            # Not where a compiler looks on: there is no gradient yet that could come with the factor in it.
            with nullcontext() if traced else multiplied_by(coef):
                value = loss(logits, labels, **self._inputs_of(loss, validate, inputs))
            values.append(self._number(at, value))
        # Not around the losses: in a function of the user's the casts are wanted.
        with _full_precision(values):
            return self._reduced([_times(value, coef) for value, coef in zip(values, coefficients, strict=True)])

    def _reduced(self, values: list[Any]) -> Any:
        """The list, or its sum."""
        return values if self.reduction == "list" else functools.reduce(operator.add, _flattened(values))

    def _number(self, at: int, value: Any) -> Any:
        """What a loss has returned, which may be a function of the user's."""
        if isinstance(value, list):
            return [self._number(at, one) for one in value]
        if not hasattr(value, "dtype") and not isinstance(value, int | float):
            raise TypeError(
                f"{self.name}: losses[{at}] returned a {type(value).__name__}, expected one value, or a list of values"
            )
        return value

    def _check_inputs(self, validate: bool | None, inputs: dict[str, Array]) -> None:
        """Raises where an input is for none of the losses, and where `validate` is no answer, which functions never see."""
        _errors.flag_or_none(self.name, "validate", validate)
        unknown = sorted(set(inputs) - self._taken())
        if unknown:
            known = ", ".join(("validate", *sorted(self._taken())))
            raise TypeError(f"{self.name}: unexpected input {unknown[0]!r}: a call takes logits, labels and {known}")

    def _taken(self) -> set[str]:
        taken: set[str] = set()
        for loss in self.losses:
            if isinstance(loss, Loss):
                taken |= loss._taken() if isinstance(loss, MixedLoss) else set(loss.call_inputs)
        return taken

    def _inputs_of(self, loss: Any, validate: bool | None, inputs: dict[str, Array]) -> dict[str, Any]:
        if not isinstance(loss, Loss):
            return {}
        names = loss._taken() if isinstance(loss, MixedLoss) else loss.call_inputs
        taken = {name: value for name, value in inputs.items() if name in names}
        wanted = self.validate if validate is None else validate
        return taken if wanted is None else {**taken, "validate": wanted}

    def value_and_grad(
        self,
        logits: Any,
        labels: Array,
        *,
        upstream: Array | None = None,
        validate: bool | None = None,
        **inputs: Array,
    ) -> tuple[Any, Array]:
        """The list or the sum, and the gradient of the sum."""
        self._check_inputs(validate, inputs)
        values, gradient, dtype = self._with_factor(1.0, logits, labels, upstream, validate, inputs)
        ops = backend_of(gradient)
        with ops.full_precision():
            return self._reduced(values), ops.xp.astype(gradient, dtype, copy=False)

    def _with_factor(
        self,
        factor: float,
        logits: Any,
        labels: Array,
        upstream: Array | None,
        validate: bool | None,
        inputs: dict[str, Any],
    ) -> tuple[list[Any], Array, Any]:
        """What each loss gives times its coef; the gradient of their sum times the `factor` of a MixedLoss around; and the
        dtype that it still has to get.
        """
        values, gradient = [], None
        for loss, coef in zip(self.losses, self._coefficients(), strict=True):
            if not isinstance(loss, Loss):
                raise TypeError(
                    f"{self.name}: value_and_grad needs losses that are unilossseg.Loss (got a {type(loss).__name__})"
                )
            taken = self._inputs_of(loss, validate, inputs)
            if isinstance(loss, MixedLoss):
                wanted = taken.pop("validate", None)
                parts, slope, dtype = loss._with_factor(factor * coef, logits, labels, upstream, wanted, taken)
                value = loss._reduced(parts)
            else:
                # In the upstream gradient: a half-precision gradient is rounded once, and that is after the coef.
                share = self._share(loss, factor * coef, logits, upstream)
                value, slope = loss.value_and_grad(logits, labels, upstream=share, **taken)
                dtype = slope.dtype
            ops = backend_of(slope)
            with ops.full_precision():
                values.append(_times(value, coef))
                # Added up in the working dtype: half types lack digits for it, and on some CPUs the operation.
                gradient = upcast(ops, slope) if gradient is None else gradient + upcast(ops, slope)
        assert gradient is not None
        self._check_shapes(values)
        return values, gradient, dtype

    def _share(self, loss: Loss, factor: float, logits: Any, upstream: Array | None) -> Array | None:
        """The upstream gradient of a loss whose value is multiplied by `factor`."""
        logits, _, ops = loss._taken_apart(logits)
        if upstream is not None:
            upstream = loss._checked_upstream(ops, logits, upstream)
        if factor == 1:
            return upstream
        dtype = ops.work_dtype(logits)
        with ops.full_precision():
            if upstream is None:
                return ops.xp.full(loss.value_shape(shape_of(logits)), factor, dtype=dtype, device=ops.device(logits))
            return ops.xp.multiply(ops.xp.astype(upstream, dtype, copy=False), factor)

    def _check_shapes(self, values: list[Any]) -> None:
        """Raises where the sum would repeat one value for each entry of another, and the sum of the gradients does not."""
        shapes = {shape_of(value) for value in _flattened(values)}
        if self.reduction == "sum" and len(shapes) > 1:
            raise ValueError(
                f"{self.name}: the losses' values have shapes {sorted(shapes)}, expected one shape for all under "
                "reduction='sum': give the losses one reduction, or this one reduction='list'"
            )


def _is_traced(logits: Any) -> bool:
    """Whether they have no values yet; what is no array is left to the losses to refuse, or to take."""
    first = logits[0] if isinstance(logits, tuple | list) and logits else logits
    try:
        return backend_of(first).traced(first)
    except TypeError:
        return False


# Not `np.generic | np.ndarray` where it is used: torch.compile cannot trace the union of the two.
_NUMPY = (np.generic, np.ndarray)


def _times(value: Any, coef: float) -> Any:
    if isinstance(value, list):
        return [_times(inner, coef) for inner in value]
    if isinstance(value, _NUMPY):
        # NumPy 1 makes a float64 of a float32 scalar and a Python number.
        return (value * np.asarray(coef, value.dtype))[()]
    # Not `*`: where Paddle traces a program it rounds a Python number beside an operator to float32.
    return backend_of(value).xp.multiply(value, coef) if hasattr(value, "dtype") else value * coef


def _full_precision(values: list[Any]) -> AbstractContextManager[None]:
    """That of the first array among them; of Python's numbers and NumPy's, which know no automatic casts, none."""
    for value in _flattened(values):
        if hasattr(value, "dtype") and not isinstance(value, _NUMPY):
            return backend_of(value).full_precision()
    return nullcontext()


def _flattened(values: list[Any]) -> list[Any]:
    return [leaf for value in values for leaf in (_flattened(value) if isinstance(value, list) else [value])]
