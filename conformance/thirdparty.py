"""Backends and losses that are not of this package, as `package.module:NAME`; imported in a worker and nowhere else."""

from __future__ import annotations

import importlib
import math
import os
import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import unilossseg
from unilossseg.backends import Backend, register
from unilossseg.conformance.cases import DTYPES, Array
from unilossseg.conformance.frameworks import Framework
from unilossseg.conformance.protocol import CLOSED_FORM, PLAIN_FORMULA, Outcome, write_arrays
from unilossseg.conformance.records.errors import RecordError, reason

#: Steps of the central differences: the rounding error of the value over a step, and the step's square, are both near 1e-10.
STEP = 1e-4
#: Two steps that disagree by more have a kink between them: such an entry says nothing.
KINK = 1e-5


def named(spec: str) -> Any:
    """What a name stands for; raises RecordError where it stands for nothing."""
    module, _, attribute = spec.partition(":")
    form = "package.module:NAME, a name in a module that can be imported"
    if not (module and attribute):
        raise RecordError(spec, "it is no such name", form, "For example mypackage.losses:FocalLoss.")
    # As `record` does: the code to be tried is the one in the current folder. This package is not looked for there.
    if sys.path[:1] != [os.getcwd()]:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise RecordError(spec, reason(error), form, "Check the name, and the folder that pytest is started in.") from error
    return found


# ---------------------------------------------------------------------------------------------------- a backend
class ThirdParty(Framework):
    """A Backend of somebody else's, with arrays made by its own namespace.

    The backend may have, beside what `Backend` has: `from_numpy(x)` and `to_numpy(x)`, where `xp.asarray` and NumPy's own
    `asarray` and `from_dlpack` do not do it; and `exceptions`, `Exemption`s of its own.
    """

    def __init__(self, spec: str) -> None:
        backend = named(spec)
        if not isinstance(backend, Backend):
            raise TypeError(f"{spec} must be a unilossseg.backends.Backend (got a {type(backend).__name__})")
        self.name, self.backend, self.xp = spec, backend, backend.xp
        self.module = importlib.import_module(spec.partition(":")[0])
        self.version = str(getattr(self.xp, "__version__", getattr(self.module, "__version__", "")))
        self.exceptions = tuple(getattr(backend, "exceptions", ()))
        self.dtypes = tuple(name for name in DTYPES if hasattr(self.xp, name))
        example = self.array(np.zeros((1, 2, 3), np.float32), "float32", False)
        register(backend, type(example))
        self.differentiates = backend.differentiable
        has_gradient = self.differentiates or backend.kernel(example) is not None
        self.modes = (CLOSED_FORM, PLAIN_FORMULA) if has_gradient else (PLAIN_FORMULA,)

    def array(self, x: Array, dtype: str, strided: bool) -> Any:
        """By the backend's `from_numpy`, or by its namespace."""
        x = super().array(x, dtype, strided)
        make = getattr(self.backend, "from_numpy", None)
        made = self.xp.asarray(x) if make is None else make(x)
        return self.xp.astype(made, self.xp.bfloat16) if dtype == "bfloat16" else made

    def to_numpy(self, x: Any) -> Array:
        """By the backend's `to_numpy`, or by what the array offers."""
        if self.dtype_of(x) == "bfloat16":
            x = self.xp.astype(x, self.xp.float32)
        read = getattr(self.backend, "to_numpy", None)
        if read is not None:
            return np.asarray(read(x))
        found = np.asarray(x)
        return np.from_dlpack(x) if found.dtype == object else found

    def _distribution(self) -> str:
        top = self.name.partition(":")[0].partition(".")[0]
        for name in metadata.packages_distributions().get(top, ()):
            return f"{name} {metadata.version(name)}"
        return "not installed as a distribution"


# ---------------------------------------------------------------------------------------------------- a loss
def loss(spec: str) -> unilossseg.Loss:
    """A loss: the name of one, or of its class, or of a function that makes it; raises RecordError where it is none."""
    found = named(spec)
    if isinstance(found, unilossseg.Loss):
        return found
    form = "a unilossseg.Loss, its class or a function that makes one without arguments"
    if not callable(found):
        raise RecordError(spec, f"it is {reprlib.repr(found)}, of type {type(found).__name__}", form, "Name one of these.")
    try:
        made = found()
    except Exception as error:  # whatever the user's own code raises
        remedy = "Name an object, as in FOCAL = FocalLoss(gamma=2.0), or a function that makes it."
        raise RecordError(spec, f"called without arguments it raises {reason(error)}", form, remedy) from error
    if not isinstance(made, unilossseg.Loss):
        received = f"it makes {reprlib.repr(made)}, of type {type(made).__name__}"
        raise RecordError(spec, received, form, "Derive the class from unilossseg.Loss.")
    return made


def face(made: unilossseg.Loss, base: type[unilossseg.Loss]) -> Any:
    """The loss as a layer of a framework, whose base is `TorchLoss` or `PaddleLoss`.

    What the loss holds is copied, and its constructor is not called again: where that takes an `InitVar`, or is the user's
    own, nothing tells what it was called with.
    """
    if isinstance(made, base):
        return made
    kind = type(made)
    layer: Any = base.__new__(type(kind.__name__, (kind, base), {}))
    # Fields with slots are in no `vars`.
    slots = [field.name for field in fields(made) if hasattr(made, field.name)]
    for name in dict.fromkeys((*slots, *vars(made))):
        setattr(layer, name, getattr(made, name))
    return layer


def facts(request: Mapping[str, Any]) -> dict[str, Any]:
    """What the checks must know of a loss; its `conformance_inputs`, if it has them, go into the request's output.

    Raises RecordError where it is no loss, or brings inputs that are none.
    """
    made = loss(request["facts"])
    ignore_index = getattr(made, "ignore_index", None)
    inputs = getattr(made, "conformance_inputs", None)
    if inputs is not None:
        write_arrays(Path(request["output"]), _brought(request["facts"], made, inputs), {})
    return {
        "name": made.name,
        "closed_form": made.closed_form is not None,
        "ignore_index": None if ignore_index is None else int(ignore_index),
        "class_labels": bool(made.class_labels),
        "call_inputs": list(made.call_inputs),
        "neighbourhood": bool(getattr(made, "conformance_neighbourhood", False)),
        "inputs": inputs is not None,
    }


def _brought(spec: str, made: unilossseg.Loss, inputs: Any) -> dict[str, Array]:
    """The inputs that a loss brings, which must be those that it is called with."""
    subject = f"{spec}, its conformance_inputs"
    known = ("logits", "labels", *made.call_inputs)
    form = f"a method of a numpy.random.Generator that returns a dict of arrays of numbers: {', '.join(known)}"
    remedy = "docs/pytest.md has an example."
    try:
        found = inputs(np.random.default_rng(0))
    except Exception as error:  # whatever the user's own code raises
        raise RecordError(subject, f"it raises {reason(error)}", form, remedy) from error
    if not isinstance(found, Mapping):
        raise RecordError(subject, f"it returns {reprlib.repr(found)}", form, remedy)
    # Of `call_inputs` a loss may draw some itself.
    astray = [f"no {name!r}" for name in known[:2] if name not in found]
    astray += [f"{name!r} as well" for name in found if name not in known]
    if astray:
        raise RecordError(subject, f"it returns {astray[0]}", form, remedy)
    try:
        arrays = {name: np.asarray(array) for name, array in found.items()}
    except Exception as error:  # rows of several lengths, tensors that live elsewhere
        raise RecordError(subject, f"what it returns is no array: {reason(error)}", form, remedy) from error
    for name, array in arrays.items():
        if array.dtype.kind not in ("f" if name == "logits" else "fiub") or array.ndim == 0:
            received = f"its {name} are of dtype {array.dtype} and shape {array.shape}"
            raise RecordError(subject, received, f"{form}; floating-point logits, and an axis or more", remedy)
    return arrays


def differences(request: Mapping[str, Any], arrays: Mapping[str, Array]) -> Outcome:
    """The plain formula's value in NumPy and float64, and its gradient by central differences; NaN beside a kink.

    Raises RecordError where the formula gives no numbers to form them of.
    """
    made = loss(request["differences"])
    inputs: dict[str, Any] = {name: x.astype(np.float64) if x.dtype.kind == "f" else x for name, x in arrays.items()}
    logits, labels, upstream = inputs.pop("logits"), inputs.pop("labels"), inputs.pop("upstream", None)

    def value_at(z: Array) -> Array:
        with unilossseg.plain_formula():
            return np.asarray(made(z, labels, **inputs))

    def slope(place: tuple[int, ...], step: float) -> float:
        shift = np.zeros(logits.shape)
        shift[place] = step
        change = (value_at(logits + shift) - value_at(logits - shift)) * (1.0 if upstream is None else upstream)
        return float(change.sum()) / (2 * step)

    value = _first_value(request["differences"], lambda: value_at(logits))
    gradient = np.empty(logits.shape)
    for place in np.ndindex(logits.shape):
        wide, narrow = slope(place, 2 * STEP), slope(place, STEP)
        smooth = math.isclose(wide, narrow, rel_tol=KINK, abs_tol=KINK)
        # The error of a central difference falls with the square of the step: this takes it out.
        gradient[place] = (4 * narrow - wide) / 3 if smooth else math.nan
    return Outcome(value, str(value.dtype), gradient, "float64")


def _first_value(spec: str, compute: Callable[[], Array]) -> Array:
    subject, form = f"{spec}, its formula in NumPy", "numbers in float64"
    try:
        value = compute()
    except Exception as error:  # whatever the user's own code raises
        remedy = "Call the loss with NumPy's arrays to see where."
        raise RecordError(subject, f"it raises {reason(error)}", form, remedy) from error
    if value.dtype.kind not in "fiu":
        raise RecordError(subject, f"it returns {reprlib.repr(value)}", form, "See what `compute` returns.")
    return value
