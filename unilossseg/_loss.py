"""The base class of every loss: checks what comes in, finds the backend, computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar

import numpy as np

from unilossseg import _errors, _inputs
from unilossseg._call import Call, is_plain
from unilossseg._pixels import shape_of
from unilossseg.backends import Array, Backend, backend_of


def comes_before(cls: type, one: str, other: str) -> bool:
    """Whether a class, or a base that is nearer to it, defines `one` anew where it takes over `other`."""
    for base in cls.__mro__:
        if other in base.__dict__:
            return False
        if one in base.__dict__:
            return True
    return False


@dataclass(eq=False)
class Loss:
    """A segmentation loss: parameters as dataclass fields, and `compute`, the formula in Array API calls.

    A loss of one's own is a subclass with one method::

        @dataclass(eq=False)
        class FocalLoss(Loss):
            gamma: float = 2.0
            ignore_index: int = 255

            def compute(self, ops, logits, labels):
                ...

    It is called with arrays of any backend. `unilossseg.torch.TorchLoss` and `unilossseg.paddle.PaddleLoss` turn it into
    a Module or a Layer: `class TorchFocalLoss(FocalLoss, TorchLoss)`.

    Parameters
    ----------
    validate
        Whether labels are checked to lie in [0, C) before they are used. None: they are where that costs no wait (on the
        CPU); elsewhere a label out of range makes the loss NaN. True: they are always, and raise. False: never raise.
    """

    _: KW_ONLY
    validate: bool | None = field(default=None, repr=False)

    #: Names of further arrays that a call takes by keyword: a number per pixel, unless `check_input` says otherwise.
    call_inputs: ClassVar[tuple[str, ...]] = ()
    #: Whether the closed form takes its logits as (N, C, S); False: in the shape that they came in.
    flat_pixels: ClassVar[bool] = True
    #: Whether the closed form knows no images: pixels without spatial axes, (P, C), come to it as those of one, (1, C, P),
    #: and what goes with them as (1, P).
    joins_images: ClassVar[bool] = False
    #: Whether the closed form takes logits as they are, those of half precision and of a dtype that the kernel lacks too
    #: (bfloat16 in NumPy), and makes numbers of them a chunk at a time, by `ops.cast` alone; and class numbers of any
    #: integers. False: they come as `compute` gets them, widened in a copy, and as int64.
    packed_logits: ClassVar[bool] = False
    #: The same of its labels; `ops.unpacked` makes numbers of them.
    packed_labels: ClassVar[bool] = False
    #: Whether the closed form takes `tally`: what the check of the labels has counted in them, None where it did not.
    tallied: ClassVar[bool] = False
    #: Whether the closed form takes `pending` as well, the labels' `Range` where they were not checked yet, and does it.
    counts_labels: ClassVar[bool] = False
    #: Whether the closed form takes `later`: instead of the gradient it then returns a function of the upstream one that
    #: computes it, and is called once. For half precision, where the upstream gradient is to be known first.
    defers: ClassVar[bool] = False
    #: How parameters are checked and kept, those of the constructor and those that are set later: a function for a field,
    #: see `unilossseg.building`. Those of the bases hold as well.
    parameter_checks: ClassVar[_errors.Checks] = {
        "validate": _errors.flag_or_none,
        "ignore_index": _errors.integer,
    }
    # With those of the bases.
    _checks: ClassVar[_errors.Checks] = parameter_checks
    #: The least rank of the logits.
    least_rank: ClassVar[int] = 2
    #: Whether labels are class numbers, which are checked to lie in [0, C); False: numbers in the logits' shape.
    class_labels: ClassVar[bool] = True
    #: The class name, as errors and reports show it.
    name: ClassVar[str] = "Loss"
    # The last two upstream gradients that the host could read, of half-precision logits alone: see `Computation.expected`.
    # Each loss has its own from its first such backward pass on.
    _upstreams: ClassVar[tuple[float, float]] = (1.0, 1.0)

    def __init_subclass__(cls, **options: Any) -> None:
        """Names the subclass; its own closed form takes what it says itself, and not what that of its base takes: arrays of
        the kernel's numbers, and no further arguments. Only their shape stays, on which one that calls its base's depends.
        That of a base is of no use to a formula of its own, being another formula's.
        """
        super().__init_subclass__(**options)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__
        for name in ("packed_logits", "packed_labels", "tallied", "counts_labels", "defers", "joins_images"):
            if comes_before(cls, "closed_form", name):
                setattr(cls, name, False)
        if comes_before(cls, "compute", "closed_form"):
            cls.closed_form = None
        tables = [base.__dict__.get("parameter_checks", {}) for base in reversed(cls.__mro__)]
        cls._checks = {name: check for table in tables for name, check in table.items()}

    def __setattr__(self, name: str, value: Any) -> None:
        """Parameters are kept as calls take them."""
        super().__setattr__(name, self._parameter(name, value))

    def _parameter(self, name: str, value: Any) -> Any:
        """What is kept of a parameter that is set."""
        check = self._checks.get(name) if name in self.__dataclass_fields__ else None
        return value if check is None else check(self.name, name, value)

    def __post_init__(self) -> None:
        """Checks the parameters again, since a subclass may set them in a way of its own. One with checks of several
        parameters calls it and adds them.
        """
        for name in self._checks:
            if name in self.__dataclass_fields__:
                given = getattr(self, name)
                kept = self._parameter(name, given)
                if kept is not given:
                    object.__setattr__(self, name, kept)

    # ------------------------------------------------------------------------------------------------ to be written
    # Both kinds of Any let a subclass name the inputs that it takes, or none, in the eyes of type checkers.
    def compute(self, ops: Backend, logits: Array, labels: Array, *_: Any, **inputs: Any) -> Array:
        """The formula, differentiable in `logits` by the framework's autograd.

        Parameters
        ----------
        ops
            The backend: `ops.xp` is its Array API namespace, its methods are what the standard lacks.
        logits
            float32 or float64, (N, C, *S).
        labels
            Checked labels: for class labels int64, (N, *S), whichever integers came, or bool (uint64 stays where
            `ignore_index` is beyond int64). Floats that `check_labels` lets through stay floats; where `class_labels` is
            False, labels are as it returns them.

        Returns
        -------
        The value, in the logits' dtype.
        """
        raise NotImplementedError(f"{self.name} must define compute(self, ops, logits, labels)")

    # An optional optimisation: the value and the gradient of sum(value * upstream) together, with no autograd.
    # Logits come in as (N, C, S) or, without `flat_pixels`, as they are, in the working dtype, or in their own where they
    # may be packed; labels as to `compute`. The conformance suite compares it with `compute`.
    # An annotation would make it a field, or a ClassVar, which pyright lets no method take the place of.
    closed_form = None  # type: Callable[..., tuple[Array, Any]] | None

    def check_labels(self, backend: Backend, logits: Array, labels: Array) -> Array:
        """Labels in the shape that formulas take; raises where shape or dtype do not fit.

        Integers (N, *S) or (N, 1, *S), as (N, *S); where `class_labels` is False, floating or integer numbers in the logits'
        shape. A subclass whose labels are others defines it anew.
        """
        check = _inputs.class_labels if self.class_labels else _inputs.number_labels
        return check(self.name, backend, logits, labels)

    def check_input(self, backend: Backend, name: str, logits: Array, labels: Array, value: Array) -> Array:
        """One of `call_inputs`, checked and in the shape that formulas take.

        Floating numbers (N, *S) or (N, 1, *S), as (N, *S); a subclass with an input of another kind defines it anew.
        """
        return _inputs.per_pixel(self.name, backend, name, logits, value)

    def drawn_inputs(self, backend: Backend, logits: Array, given: dict[str, Array]) -> dict[str, Array]:
        """Random inputs that a call did not bring: drawn once a call, so that value and gradient see the same."""
        return {}

    def class_limit(self, channels: int, dense: bool) -> int:
        """How many classes labels may name with so many channels; `dense` if labels have the logits' shape."""
        return channels

    def value_shape(self, logits_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of the value: one number, unless a subclass says otherwise."""
        return ()

    def _learned(self) -> Iterable[Array]:
        """Parameters that autograd may follow: those of a layer."""
        return ()

    def check_channels(self, channels: int) -> None:
        """Raises where the logits' number of channels does not fit the parameters: where `weight`, if there is such a field
        and it is a sequence or a 1-D array, has another length.
        """
        # A Layer looks everywhere for what it lacks.
        if "weight" in self.__dataclass_fields__:
            _inputs.weight_length(self.name, getattr(self, "weight"), channels)  # noqa: B009  the field is a subclass's

    # ------------------------------------------------------------------------------------------------ calling
    def __call__(self, logits: Any, labels: Array, *, validate: bool | None = None, **inputs: Array) -> Any:
        """The loss of logits (N, C, *S) and labels (N, *S) or (N, 1, *S)."""
        return self.evaluate(logits, labels, validate=validate, **inputs)

    def evaluate(self, logits: Any, labels: Array, *, validate: bool | None = None, **inputs: Array) -> Any:
        """What calling the loss does, also where a framework's own `__call__` stands before it."""
        logits, further, backend = self._taken_apart(logits)
        with backend.full_precision():
            return self._check(backend, logits, further, labels, validate, inputs).value(logits)

    def value_and_grad(
        self,
        logits: Any,
        labels: Array,
        *,
        upstream: Array | None = None,
        validate: bool | None = None,
        **inputs: Array,
    ) -> tuple[Any, Array]:
        """See `unilossseg.value_and_grad`."""
        logits, further, backend = self._taken_apart(logits)
        with backend.full_precision():
            call = self._check(backend, logits, further, labels, validate, inputs)
            if backend.differentiable:
                return backend.value_and_grad(call.value, logits, upstream)
        if is_plain():
            raise TypeError(
                f"{self.name}: the {backend.name} backend has no autograd, which plain_formula() asks for: expected arrays "
                "of PyTorch or PaddlePaddle, or value_and_grad outside plain_formula()"
            )
        if not call.has_closed_form:
            raise TypeError(
                f"{self.name}: the {backend.name} backend has no autograd and this loss no closed-form gradient: "
                "expected arrays of PyTorch or PaddlePaddle"
            )
        return call.fused(logits, True, None if upstream is None else self._checked_upstream(backend, logits, upstream))

    def _checked_upstream(self, backend: Backend, logits: Array, upstream: Any) -> Array:
        """An array of real numbers, in the shape of the value."""
        if isinstance(upstream, np.generic):
            # What NumPy makes of an array of no axes, the value of a loss too.
            upstream = np.asarray(upstream)
        _inputs.same_place(self.name, backend, logits, "upstream", upstream)
        if not backend.is_dtype(upstream, ("bool", "integral", "real floating")):
            raise TypeError(
                f"{self.name}: upstream has dtype {upstream.dtype}, expected a floating dtype: pass its real part"
            )
        shape, expected = shape_of(upstream), self.value_shape(shape_of(logits))
        if shape != expected:
            raise ValueError(f"{self.name}: upstream has shape {shape}, expected {expected}, the shape of the value")
        return upstream

    def split_logits(self, logits: Any) -> tuple[Array, dict[str, Array]]:
        """The logits that the gradient is for, and further arrays that came with them."""
        if isinstance(logits, tuple | list):
            raise TypeError(
                f"{self.name}: logits must be one array of shape (N, C, *S) (got a {type(logits).__name__} of {len(logits)})"
            )
        return logits, {}

    def _taken_apart(self, logits: Any) -> tuple[Array, dict[str, Array], Backend]:
        """The logits, what came with them, and whose they are."""
        logits, further = self.split_logits(logits)
        try:
            return logits, further, backend_of(logits)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None

    def _check(
        self,
        backend: Backend,
        logits: Array,
        further: dict[str, Array],
        labels: Array,
        validate: bool | None,
        inputs: dict[str, Array],
    ) -> Call:
        """What comes in, checked; in `full_precision`, which also keeps the digits of an array that is only reshaped."""
        for unknown in inputs:
            if unknown not in self.call_inputs:
                known = ", ".join(("validate", *self.call_inputs))
                raise TypeError(f"{self.name}: unexpected input {unknown!r}: a call takes logits, labels and {known}")
        _inputs.check_logits(self.name, backend, logits, self.least_rank)
        _inputs.same_place(self.name, backend, logits, "labels", labels)
        self.check_channels(int(logits.shape[1]) if len(logits.shape) > 1 else 1)
        ready = self.check_labels(backend, logits, labels)
        extras = self._further(backend, logits, ready, further, inputs) if self.call_inputs or further else {}
        # Under a transform of the labels alone there are no values either.
        symbolic = backend.traced(ready) or any(map(backend.traced, extras.values()))
        kernel = None if symbolic else backend.kernel(logits)
        # Also of a loss whose labels are in no range that could be checked.
        wanted = self.validate if validate is None else _errors.flag(self.name, "validate", validate)
        if self.class_labels:
            checked = _inputs.check_range(self, kernel or backend, backend, logits, ready, wanted)
        else:
            checked = _inputs.Checked(ready)
        return Call(self, backend, kernel, checked, extras)

    def _further(
        self, backend: Backend, logits: Array, labels: Array, further: dict[str, Array], inputs: dict[str, Array]
    ) -> dict[str, Array]:
        extras = {}
        for name, value in {**further, **inputs}.items():
            # An optional input may be None; one that comes with the logits may not.
            if value is not None or name in further:
                _inputs.same_place(self.name, backend, logits, name, value)
                extras[name] = self.check_input(backend, name, logits, labels, value)
        extras.update(self.drawn_inputs(backend, logits, extras))
        return extras


def value_and_grad(loss: Loss) -> Callable[..., tuple[Any, Array]]:
    """A function that returns a loss's value and its gradient with respect to the logits.

    On PyTorch and PaddlePaddle the framework's autograd does it; on NumPy and array-api-strict the closed form, which
    every loss of this package has.

    Parameters
    ----------
    loss
        Any loss of this package, or one of your own.

    Returns
    -------
    A function of the loss's own arguments, and `upstream`: the gradient fed into the value (its shape; ones if None).
    It returns the value and the gradient (the logits' shape and dtype). For a loss of `(seg_logits, edge_logits)` the
    gradient is that of the seg logits; for a MixedLoss it is that of the sum.

    Raises
    ------
    TypeError
        Where `loss` is no Loss. From the function: where a backend has no autograd, and the loss no closed form or the call
        stands inside `plain_formula()`; and where a MixedLoss holds something that is no Loss.
    ValueError, TypeError
        From the function: where `upstream` is no array of real numbers in the value's shape (frameworks that differentiate
        have errors of their own for that), and what the loss raises.

    Examples
    --------
    >>> import numpy as np, unilossseg
    >>> logits, labels = np.zeros((1, 2, 3)), np.array([[0, 1, 255]])
    >>> value, gradient = unilossseg.value_and_grad(unilossseg.CrossEntropyLoss())(logits, labels)
    >>> round(float(value), 6)
    0.693147
    >>> gradient.round(6).tolist()
    [[[-0.25, 0.25, 0.0], [0.25, -0.25, 0.0]]]
    """
    if not isinstance(loss, Loss):
        raise TypeError(f"value_and_grad: loss must be a unilossseg.Loss (got a {type(loss).__name__})")
    return loss.value_and_grad
