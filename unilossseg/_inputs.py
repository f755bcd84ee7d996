"""Checks of a call's arrays: ranks, shapes, dtypes, places, and that labels name a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unilossseg import _errors
from unilossseg._pixels import differs, shape_of
from unilossseg.backends import Array, Backend, backend_of

if TYPE_CHECKING:
    from unilossseg._loss import Loss


def check_logits(owner: str, backend: Backend, logits: Array, least_rank: int) -> None:
    """Floating, (N, C, *S), not empty."""
    check_layout(owner, backend, "logits", logits)
    if not backend.is_dtype(logits, "real floating"):
        raise TypeError(
            f"{owner}: logits have dtype {logits.dtype}, expected float16, bfloat16, float32 or float64: "
            "pass the network's raw output, before argmax"
        )
    shape = shape_of(logits)
    if len(shape) < least_rank:
        expected = "(N, C, *S): batch first, then channels" if least_rank > 1 else "(N, *)"
        raise ValueError(f"{owner}: logits have shape {shape}, expected {expected}")
    least = min(shape)
    if least < 0:
        raise ValueError(
            f"{owner}: logits have shape {shape} with lengths that are not known yet: trace with fixed lengths (in an "
            "InputSpec too), or keep the loss outside the traced function"
        )
    if least == 0:
        raise ValueError(f"{owner}: logits have shape {shape} and hold no pixel, expected at least one")


def same_place(owner: str, backend: Backend, logits: Array, name: str, value: Any) -> None:
    """An array of the same framework and device as the logits."""
    try:
        # Most are of the logits' type.
        other = backend if type(value) is type(logits) else backend_of(value, name)
    except TypeError as error:
        raise TypeError(f"{owner}: {error}") from None
    if other is not backend:
        raise TypeError(
            f"{owner}: {name} are {other.describe(value)} and logits {backend.describe(logits)}: "
            f"convert {name} to an array of the {backend.name} backend"
        )
    check_layout(owner, backend, name, value)
    if not backend.are_together(logits, value):
        here, there = backend.device(logits), backend.device(value)
        raise ValueError(f"{owner}: {name} are on device {there} and logits on {here}: move them to {here}")


def check_layout(owner: str, backend: Backend, name: str, value: Array) -> None:
    """Numbers side by side, or strides apart."""
    layout = backend.layout(value)
    if layout:
        remedy = "pass each process's local part" if layout == "distributed" else "convert them first"
        raise TypeError(f"{owner}: {name} have layout {layout}, expected a dense array: {remedy}")


def class_labels(owner: str, backend: Backend, logits: Array, labels: Array) -> Array:
    """Integers (N, *S) or (N, 1, *S), as (N, *S)."""
    if not backend.is_dtype(labels, ("integral", "bool")):
        raise TypeError(f"{owner}: labels have dtype {labels.dtype}, expected integers: cast them to int64")
    return without_channel(owner, backend, "labels", logits, labels)


def number_labels(owner: str, backend: Backend, logits: Array, labels: Array) -> Array:
    """Real numbers in the logits' shape."""
    if not backend.is_dtype(labels, ("integral", "real floating")):
        raise TypeError(
            f"{owner}: labels have dtype {labels.dtype}, expected a floating or integer dtype: cast them to float32"
        )
    shape, full = shape_of(labels), shape_of(logits)
    if shape != full:
        raise ValueError(f"{owner}: labels have shape {shape}, expected {full}, the shape of the logits")
    return labels


def without_channel(owner: str, backend: Backend, name: str, logits: Array, value: Array) -> Array:
    """An array of one number per pixel, (N, *S) or (N, 1, *S), as (N, *S)."""
    shape, full = shape_of(value), shape_of(logits)
    flat, single = (full[0], *full[2:]), (full[0], 1, *full[2:])
    if shape == flat:
        return value
    if shape == single:
        return backend.reshape(value, flat)
    # One image without a batch around it: its first axis, the classes, was taken for the batch.
    unbatched = ": logits must be (N, C, *S): is the batch axis missing?" if shape == full[1:] else ""
    raise ValueError(f"{owner}: {name} have shape {shape}, expected {flat} or {single} to match logits {full}{unbatched}")


def per_pixel(owner: str, backend: Backend, name: str, logits: Array, value: Array) -> Array:
    """Floating numbers (N, *S) or (N, 1, *S), as (N, *S)."""
    if not backend.is_dtype(value, "real floating"):
        raise TypeError(f"{owner}: {name} have dtype {value.dtype}, expected a floating dtype: cast them to float32")
    return without_channel(owner, backend, name, logits, value)


def weight_length(owner: str, weight: Any, channels: int) -> None:
    """One class weight per channel, in a sequence or an array of one axis; anything else is no list of class weights."""
    if weight is None:
        return
    shape: Any = (len(weight),) if _errors.is_list(weight) else getattr(weight, "shape", ())
    if len(shape) == 1 and shape[0] != channels:
        raise ValueError(
            f"{owner}: weight has {int(shape[0])} entries and logits have {channels} channels: expected one weight per class"
        )


@dataclass(slots=True)
class Range:
    """The labels of a call, and where they must lie: for a closed form that counts them while it computes."""

    owner: str
    kernel: Backend
    backend: Backend
    values: Array
    limit: int
    ignore_index: int | None

    def tally(self) -> Array:
        """What `tally` counts in them; raises where one lies outside."""
        with self.kernel.computing(self.backend.threads()):
            counted = self.kernel.tally(self.values, self.ignore_index, self.limit - 1)
        self.confirm(counted)
        return counted

    def confirm(self, tally: Array) -> None:
        """Raises where by this tally a label lies outside."""
        outside = tally[3]
        if (outside if isinstance(outside, int) else int(self.kernel.read(outside))) > 0:
            _raise_out_of_range(self.owner, self.kernel, self.values, self.limit, self.ignore_index)


@dataclass(slots=True)
class Checked:
    """Labels in the range of the classes."""

    #: None where a call has handed them over.
    labels: Array | None
    #: What `tally` counted in them, where they were looked at.
    tally: Array | None = None
    #: The labels as an array of the kernel's, likewise.
    seen: Array | None = None
    #: A number of the backend, NaN where a label was out of range and nobody may raise; None: none was.
    poison: Array | None = None
    #: Where nobody has looked at them yet: the closed form does, or whoever calls the formula.
    pending: Range | None = None


def check_range(
    loss: Loss, kernel: Backend, backend: Backend, logits: Array, labels: Array, validate: bool | None
) -> Checked:
    """Raises where a label names no class, if values may be read.

    Else such labels become class 0, so that nothing is read out of bounds, and a number comes along that is NaN if there
    was one: it goes into value and gradient.
    """
    dense = len(labels.shape) == len(logits.shape)
    limit = loss.class_limit(shape_of(logits)[1], dense)
    ignore_index = getattr(loss, "ignore_index", None)
    if validate and backend.traced(labels):
        raise ValueError(
            f"{loss.name}: validate is True, and the labels of a traced or transformed call cannot be looked at, expected "
            "None or False: a label out of range then makes the loss NaN"
        )
    values = labels if kernel is backend else backend.to_kernel(labels)
    readable = kernel.readable(values)
    if readable if validate is None else validate:
        where = Range(loss.name, kernel, backend, values, limit, ignore_index)
        late = loss.counts_labels and readable
        return Checked(labels, seen=values, pending=where) if late else Checked(labels, where.tally(), values)
    found = kernel.checked_labels(values, ignore_index, limit, dense)
    if found is not None:
        safe, *others = found
        # The kernel's are detached. Those that want a gradient are numbers, with which nothing is looked up.
        return Checked(labels if backend.wants_gradient(labels) else safe, *others)
    xp, ignored = backend.xp, ignore_index
    if ignored is not None and ignored < 0 and backend.is_dtype(labels, "unsigned integer"):
        # No label is it, and none may look like it once it is cast: the largest uint64 becomes -1.
        ignored = None
    labels = as_int64(backend, labels, ignored)
    wrong = _out_of_range(backend, labels, limit, ignored)
    safe = xp.where(wrong, xp.zeros_like(labels), labels)
    return Checked(safe, poison=backend.nan_if(xp.any(wrong)))


def as_int64(ops: Backend, labels: Array, ignore_index: int | None) -> Array:
    """Whole numbers as int64, but where one is ignored that only a uint64 holds; floats as they are."""
    if ops.is_dtype(labels, ("integral", "bool")) and (ignore_index is None or ignore_index < 2**63):
        return ops.cast(labels, ops.xp.int64)
    return labels


def _out_of_range(ops: Backend, values: Array, limit: int, ignore_index: int | None) -> Array:
    given = values
    if ops.is_dtype(values, ("integral", "bool")):
        # Narrow ones wrap around in some frameworks' comparisons with larger numbers, wide unsigned ones know none.
        values = ops.xp.astype(values, ops.xp.int64, copy=False)
    # Not `>= limit`: soft labels are floats up to 1.
    wrong = (values < 0) | (values > limit - 1)
    if ops.is_dtype(values, "real floating"):
        wrong = wrong | ops.xp.isnan(values)
    if ignore_index is not None and not 0 <= ignore_index < limit:
        # Not the cast ones, where the largest uint64 is -1.
        wrong = wrong & differs(ops, given, ignore_index)
    return wrong


def _raise_out_of_range(owner: str, kernel: Backend, values: Array, limit: int, ignore_index: int | None) -> None:
    xp, wrong = kernel.xp, _out_of_range(kernel, values, limit, ignore_index)
    first = int(kernel.read(xp.argmax(xp.reshape(xp.astype(wrong, xp.int32), (-1,)))))
    soft = kernel.is_dtype(values, "real floating")
    number = (float if soft else int)(kernel.read(xp.reshape(values, (-1,))[first]))
    place: list[int] = []
    for length in reversed(shape_of(values)):
        first, rest = divmod(first, length)
        place.insert(0, rest)
    expected = f"a number in [0, {limit - 1}]" if soft else f"a class in [0, {limit})"
    raise ValueError(
        f"{owner}: labels hold {number} at {tuple(place)}, expected {expected} or ignore_index {ignore_index}: "
        "check the masks, or the number of channels"
    )
