"""What a record holds: arrays as they came, and the cases they belong to."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.cases import from_bfloat16_bits

Array = npt.NDArray[Any]

BFLOAT16 = "bfloat16"
FLOATS = ("float16", BFLOAT16, "float32", "float64")
#: What a record may hold: what NumPy, torch and Paddle all have, and bfloat16.
DTYPES = (*FLOATS, "int8", "int16", "int32", "int64", "uint8", "bool")
#: Of an array; NumPy itself stops at 32 or 64.
MOST_AXES = 16
#: What a loss is called with; all but the labels in floating point.
INPUTS = ("logits", "labels", "edge_logits", "noise")
ROLES = (*INPUTS, "upstream", "value", "gradient")
#: Numbers that a label may be: they are int64.
LABELS, LABELS_IN_WORDS = range(-(2**63), 2**63), "a label, from -2**63 up to 2**63 - 1"
#: Names of cases are shown, and stand before a slash in the names of arrays; they are never a path.
CASE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")
CASE_NAME_IN_WORDS = "at most 80 letters (A-Z, a-z), digits, '_', '.' and '-', the first a letter or digit"


@dataclass(frozen=True)
class Stored:
    """An array of any framework as raw numbers: bfloat16, which NumPy lacks, as the uint16 of its bits."""

    data: Array
    dtype: str

    @classmethod
    def of(cls, array: Array) -> Stored:
        """A copy of a NumPy array, in one piece and in this machine's byte order."""
        return cls(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"), array.dtype.name)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self.data.shape

    @property
    def sha256(self) -> str:
        """Of the numbers' bytes, the lowest first."""
        little = self.data.astype(self.data.dtype.newbyteorder("<"), copy=False)
        return hashlib.sha256(np.ascontiguousarray(little).tobytes()).hexdigest()

    def numbers(self) -> Array:
        """In NumPy's own dtype; bfloat16 in float32, which holds it exactly."""
        return from_bfloat16_bits(self.data) if self.dtype == BFLOAT16 else self.data

    def wide(self) -> npt.NDArray[np.float64]:
        """In float64."""
        return self.numbers().astype(np.float64)

    def same_bits(self, other: Stored) -> bool:
        """Whether both are the same to the last bit, also in NaN."""
        return (self.dtype, self.shape) == (other.dtype, other.shape) and self.data.tobytes() == other.data.tobytes()


@dataclass(frozen=True)
class RecordedCase:
    """One call of the loss."""

    name: str
    inputs: Mapping[str, Stored]
    value: Stored
    #: None: the value does not depend on the logits, as far as autograd knows.
    gradient: Stored | None
    #: What was fed into a value of several numbers; None: ones.
    upstream: Stored | None = None
    #: The value is a list of losses (as of PaddleSeg's MixedLoss), stacked; the gradient is that of their sum.
    listed: bool = False
    #: A second call gave the same bits.
    repeatable: bool = True
    #: Inputs that the loss wrote into (PaddleSeg's DiceLoss does into its labels).
    changed: tuple[str, ...] = ()
    #: Inputs that the loss has no parameter for.
    unused: tuple[str, ...] = ()

    def arrays(self) -> Iterator[tuple[str, Stored]]:
        """Every array with its role."""
        yield from self.inputs.items()
        for role, array in (("upstream", self.upstream), ("value", self.value), ("gradient", self.gradient)):
            if array is not None:
                yield role, array


@dataclass(frozen=True)
class Record:
    """A loss, where it was called, and what it gave."""

    target: str
    kwargs: Mapping[str, Any]
    ignore_index: int
    seed: int
    environment: Mapping[str, str]
    cases: tuple[RecordedCase, ...]
    #: Where it was read from; for messages.
    source: str = field(default="", compare=False)

    @property
    def computed_by(self) -> str:
        """The framework, its version and the device."""
        known = self.environment
        return f"{known.get('framework', '?')} {known.get('version', '')} on {known.get('device', '?')}".replace("  ", " ")
