"""What is checked: a case is a loss, its parameters and its inputs, already rounded to the dtype under test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Layout = Literal["contiguous", "non_contiguous"]

DTYPES = ("float16", "bfloat16", "float32", "float64")
#: Floating inputs that stay in the dtype that the loss computes in, whatever the logits' dtype is.
IN_WORK_DTYPE = ("upstream", "noise", "semantic_weights")


@dataclass(frozen=True)
class Recording:
    """What another implementation computed in float32 for the same inputs."""

    source: str
    value: Array
    gradient: Array
    #: The recorded value is known to be off (see the recordings' manifest): the gradient alone is compared.
    value_is_off: bool = False


@dataclass(frozen=True)
class Case:
    """One loss on one set of inputs.

    Parameters
    ----------
    id
        `loss/variant/condition/dtype`, or `loss/recorded/name`; unique.
    loss, parameters
        The loss's name and its arguments; those of a MixedLoss hold `[name, parameters]` pairs.
    dtype
        The logits' dtype.
    condition
        In words, what the case is there for.
    arrays
        logits and labels, and where they are used upstream, edge_logits, noise and semantic_weights. NumPy has no
        bfloat16: such numbers are held in float32, which represents each of them exactly.
    layout
        Whether a backend gets logits and labels in memory as they are, or as strided views.
    chunk
        Into how small pieces a closed form divides the logits, so that it puts several of them together.
    recorded
        Another implementation's result, if there is one.
    quick
        Whether a quick run has it.
    """

    id: str
    loss: str
    parameters: Mapping[str, Any]
    dtype: str
    condition: str
    arrays: Mapping[str, Array]
    layout: Layout = "contiguous"
    #: Elements of logits that closed forms work on at once; 0: as many as the backend likes, here all of them.
    chunk: int = 0
    recorded: Recording | None = None
    quick: bool = False

    @property
    def variant(self) -> str:
        """'paddleseg' or 'corrected'."""
        return str(self.parameters.get("variant", "paddleseg"))

    def dtype_of(self, name: str) -> str:
        """The dtype in which a backend gets an array."""
        dtype = self.arrays[name].dtype
        if self.dtype == "bfloat16" and name not in IN_WORK_DTYPE and dtype == np.float32:
            return "bfloat16"
        return dtype.name

    def ignored(self) -> Array:
        """The entries of the logits, in their shape, that must have no part in the loss and a gradient of exactly 0."""
        shape = self.arrays["logits"].shape
        channels_last = self.parameters.get("data_format") == "NHWC"
        if channels_last:
            shape = (shape[0], shape[-1], *shape[1:-1])
        out = self.arrays["labels"] == ignore_index_of(self)
        if out.shape != shape:
            out = out.reshape(shape[0], 1, *shape[2:])
        if self.variant == "paddleseg" and self.loss == "MSELoss":
            out = np.zeros_like(out)  # it ignores nothing
        if self.variant == "paddleseg" and self.loss == "RelaxBoundaryLoss":
            out = _everywhere_around(out, int(self.parameters.get("border", 1)))  # it trains ignored pixels beside others
        # To a loss of somebody else's, `package.module:NAME`, an input of that name may mean anything.
        if "edge_logits" in self.arrays and ":" not in self.loss:
            edges = self.arrays["edge_logits"].reshape(shape[0], 1, *shape[2:])
            out = out | (edges <= self.parameters.get("edge_threshold", 0.8))
        out = np.broadcast_to(out, shape)
        return np.moveaxis(out, 1, -1) if channels_last else out


def _everywhere_around(mask: Array, radius: int) -> Array:
    """Where a mask (N, 1, H, W) holds in the whole square around a pixel, as far as it lies in the image."""
    height, width = mask.shape[2:]
    padded = np.pad(mask, [(0, 0), (0, 0), (radius, radius), (radius, radius)], constant_values=True)
    steps = range(2 * radius + 1)
    return np.all([padded[..., y : y + height, x : x + width] for y in steps for x in steps], axis=0)


def ignore_index_of(case: Case) -> int:
    """The label that counts nowhere; all losses of a MixedLoss here have the same."""
    return int(case.parameters.get("ignore_index", 255))


def strided_axis(x: Array) -> int | None:
    """The axis that a strided view has outermost in memory: the last that is longer than one, where one before it is too.

    None: the array is in one piece in whichever order its axes lie.
    """
    long = [axis for axis, size in enumerate(x.shape) if size > 1]
    return long[-1] if len(long) > 1 else None


def generator(name: str) -> np.random.Generator:
    """Random numbers that depend on a name alone: the same on every machine, whichever cases are run."""
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def rounded(x: Array, dtype: str) -> Array:
    """Numbers of a dtype; those of bfloat16 in float32."""
    if dtype != "bfloat16":
        return x.astype(dtype)
    return from_bfloat16_bits(bfloat16_bits(x.astype(np.float32)))


def bfloat16_bits(x: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of finite float32 numbers, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    rounding = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    upper = np.where(np.isfinite(x), bits + rounding, bits) >> np.uint32(16)
    return upper.astype(np.uint16).reshape(x.shape)


def from_bfloat16_bits(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """The float32 numbers whose upper halves these are."""
    wide = np.ascontiguousarray(bits).astype(np.uint32) << np.uint32(16)
    return np.asarray(wide).view(np.float32).reshape(bits.shape)


def all_cases(losses: Sequence[str] | None = None) -> list[Case]:
    """The cases of the named losses, or of all, in a fixed order."""
    from unilossseg.conformance import generated, recordings

    names = list(losses) if losses is not None else list(generated.LOSSES)
    cases = [case for name in names for case in (*generated.cases(name), *recordings.cases(name))]
    return unique(cases)


def unique(cases: Iterable[Case]) -> list[Case]:
    """The cases; raises where two have one id, since their seeds and rows would be confused."""
    found: dict[str, Case] = {}
    for case in cases:
        if case.id in found:
            raise ValueError(f"two conformance cases are named {case.id}")
        found[case.id] = case
    return list(found.values())


def selected(losses: Sequence[str] | None = None, substring: str | None = None, quick: bool = False) -> list[Case]:
    """The cases of a run: those of the named losses, whose id contains the substring, and which a quick run has."""
    chosen = all_cases(losses)
    if substring:
        chosen = [case for case in chosen if substring.lower() in case.id.lower()]
    return [case for case in chosen if case.quick] if quick else chosen
