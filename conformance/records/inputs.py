"""What a loss is called with: a user's own batches, or cases drawn from a seed."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unilossseg.conformance.cases import bfloat16_bits, generator
from unilossseg.conformance.records.errors import RecordError, reason
from unilossseg.conformance.records.record import (
    BFLOAT16,
    CASE_NAME,
    CASE_NAME_IN_WORDS,
    DTYPES,
    FLOATS,
    INPUTS,
    MOST_AXES,
    Array,
    Stored,
)

Inputs = dict[str, Stored]
GENERATED = ("plain", "ignored", "absent", "confident", "single")
#: Made only when they are asked for: frameworks themselves disagree about losses beyond 64.
ON_REQUEST = ("extreme",)
#: Of generated logits: 8 GiB in float64, in which they are drawn.
_MOST_NUMBERS = 2**30
_KEYS = "logits, labels, and perhaps edge_logits and noise, or several cases as name/logits, name/labels, ..."


# ------------------------------------------------------------------------------------------------ a user's own
def from_npz(path: Path, dtype: str | None = None) -> dict[str, Inputs]:
    """The cases in an .npz file, the logits in another dtype if one is given."""
    subject = str(path)
    cases: dict[str, Inputs] = defaultdict(dict)
    for key, array in _arrays(subject, path).items():
        case, _, name = key.rpartition("/")
        case = case or "batch"
        if name not in INPUTS:
            raise RecordError(subject, f"it has an array {key!r}", _KEYS, "Rename it or leave it out.")
        if not CASE_NAME.fullmatch(case):
            received = f"it has an array {key!r}, which names a case {case!r}"
            raise RecordError(subject, received, f"a case's name of {CASE_NAME_IN_WORDS}", "Rename it or leave it out.")
        if array.dtype.name not in DTYPES:
            expected = f"one of {', '.join(DTYPES)}"
            raise RecordError(f"{subject}, {key}", f"its dtype is {array.dtype}", expected, "Convert it with astype.")
        if name in cases[case]:
            received = f"it has {name} of case {case!r} twice, as {name!r} and as {case + '/' + name!r}"
            raise RecordError(
                subject, received, "each array once", "Rename one: arrays without a name are the case 'batch'."
            )
        cases[case][name] = Stored.of(array)
    for case, inputs in cases.items():
        _check(f"{subject}, case {case!r}", inputs)
        if dtype is not None:
            cases[case] = {name: _converted(name, array, dtype) for name, array in inputs.items()}
    if not cases:
        raise RecordError(subject, "it is empty", f"arrays named {_KEYS}", "Save them with numpy.savez.")
    return dict(cases)


def _arrays(subject: str, path: Path) -> dict[str, Array]:
    try:
        # Opened here, as NumPy leaves a damaged one open. No pickles: what comes from elsewhere must not run anything.
        with path.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            if isinstance(file, np.ndarray):
                raise ValueError("it is an .npy file of one array")
            with file:
                arrays = {key: file[key] for key in file.files}
        for key, array in arrays.items():
            # A member of the archive that does not begin as an array's file comes as its bytes.
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{key!r} in it is no array")
        return arrays
    # All that is called here is NumPy, which passes on what zipfile, zlib and Python's own parser raise about damaged bytes:
    # some ten kinds of errors, and none of the four says which.
    except Exception as error:
        remedy = "Save it with numpy.savez; arrays of Python objects are not read."
        raise RecordError(subject, f"it cannot be read ({reason(error)})", f"an .npz file of {_KEYS}", remedy) from None


def _check(subject: str, inputs: Inputs) -> None:
    """Checks what any loss needs; the rest is the loss's own business."""
    missing = [name for name in ("logits", "labels") if name not in inputs]
    if missing:
        raise RecordError(subject, f"it has no {missing[0]}", _KEYS, "Add it.")
    for name in INPUTS:
        if name in inputs and name != "labels" and inputs[name].dtype not in FLOATS:
            received = f"{name} are {inputs[name].dtype}"
            raise RecordError(subject, received, "floating point", f"Save {name} with astype('float32').")
    if min((*inputs["logits"].shape, 1)) == 0:
        raise RecordError(subject, f"logits have shape {inputs['logits'].shape}", "at least one number", "Save a batch.")


# ------------------------------------------------------------------------------------------------ generated
@dataclass(frozen=True)
class Recipe:
    """What generated cases look like; the same recipe gives the same numbers on every machine."""

    shape: tuple[int, ...] = (2, 5, 16, 20)
    seed: int = 0
    ignore_index: int = 255
    dtype: str = "float32"
    #: Further inputs: edge_logits, noise.
    extras: tuple[str, ...] = ()


def generated(recipe: Recipe, names: Sequence[str] = GENERATED) -> dict[str, Inputs]:
    """The named cases."""
    try:
        return {name: _generated(recipe, name) for name in names}
    except MemoryError:
        received = f"{len(names)} cases of shape {recipe.shape} do not fit into memory"
        raise RecordError(
            "generated inputs", received, "room for them", "Choose a smaller --shape, or one --case."
        ) from None


def shape_of(text: str | None, classes: int | None) -> tuple[int, ...]:
    """The logits' shape from `--shape 2,5,16,20` and `--classes 5`, which must agree."""
    shape = Recipe.shape
    if text is not None:
        parts = [part.strip() for part in text.split(",")]
        # The lengths first: Python makes no number of thousands of digits.
        if not 2 <= len(parts) <= MOST_AXES or not all(
            part.isdecimal() and len(part) <= 7 and 0 < int(part) < 2**20 for part in parts
        ):
            expected = f"2 to {MOST_AXES} numbers from 1 to {2**20 - 1}, for images, classes and the spatial axes"
            raise RecordError("--shape", repr(text), expected, "For example --shape 2,5,16,20.")
        shape = tuple(int(part) for part in parts)
    elif classes is not None:
        shape = (shape[0], classes, *shape[2:])
    if classes is not None and shape[1] != classes:
        received = f"--shape {text} has {shape[1]} classes"
        raise RecordError(
            "--classes", received, f"{classes}, as --classes says", "Give one of the two, or the same in both."
        )
    if math.prod(shape) > _MOST_NUMBERS:
        option, received = ("--classes", str(classes)) if text is None else ("--shape", repr(text))
        received = f"{received} makes {math.prod(shape)} logits a case"
        raise RecordError(option, received, f"at most {_MOST_NUMBERS}", "Choose fewer images or classes, or smaller ones.")
    return shape


def _generated(recipe: Recipe, name: str) -> Inputs:
    draws = generator(f"record/{name}/{recipe.seed}/{recipe.shape}")
    images, channels, *sizes = recipe.shape
    if name == "single":
        images = 1
    # With one channel the labels are 0 and 1.
    classes = max(channels, 2)
    present = classes - 1 if name == "absent" and classes > 2 else classes
    labels = draws.integers(0, present, size=(images, *sizes)).astype(np.int64)
    shape = (images, channels, *sizes)
    logits = 2 * draws.normal(size=shape)
    if name in ("confident", "extreme"):
        logits += _conviction(draws, labels, channels, 40.0 if name == "confident" else 120.0)
    if name in ("ignored", "single", "absent"):
        labels[draws.random(labels.shape) < 0.2] = recipe.ignore_index
    inputs = {"logits": Stored.of(logits), "labels": Stored.of(labels)}
    if "edge_logits" in recipe.extras:
        inputs["edge_logits"] = Stored.of(draws.uniform(0, 2, (images, 1, *sizes)))
    if "noise" in recipe.extras:
        # Away from 0 and 1, where the logarithms of the noise lose float32's digits before any loss is computed.
        inputs["noise"] = Stored.of(draws.uniform(0.02, 0.98, shape))
    return {key: _converted(key, array, recipe.dtype) for key, array in inputs.items()}


def _conviction(draws: np.random.Generator, labels: Array, channels: int, most: float) -> Array:
    """Logits of a network that is sure: mostly of the label, here and there of something else.

    The extreme ones go beyond what implementations clip at: 64 in Paddle's cross entropy, 87 where the exponential of
    float32 underflows, 100 in torch's BCELoss.
    """
    sure = draws.uniform(8, 20, labels.shape)
    sure = np.where(draws.random(labels.shape) < 0.1, draws.uniform(20, most, labels.shape), sure)
    wrong = draws.random(labels.shape) < 0.15
    if channels == 1:
        return np.asarray((sure * np.where((labels == 1) ^ wrong, 1, -1))[:, None])
    of = np.where(wrong, (labels + 1) % channels, labels)
    return np.asarray(sure[:, None] * (of[:, None] == np.arange(channels).reshape(1, -1, *[1] * (labels.ndim - 1))))


def _converted(name: str, array: Stored, dtype: str) -> Stored:
    """An array of floating point in another dtype; labels stay what they are."""
    if array.dtype == dtype or name == "labels":
        return array
    # What is drawn between 0 and 1 keeps float32's digits: half types would round it to 1.
    if name == "noise" and dtype in ("float16", BFLOAT16):
        dtype = "float32"
    numbers = array.numbers()
    if dtype == BFLOAT16:
        return Stored(bfloat16_bits(numbers.astype(np.float32)), BFLOAT16)
    return Stored.of(numbers.astype(dtype))


def upstream_for(case: str, seed: int, shape: tuple[int, ...], dtype: str) -> Stored:
    """A random gradient to feed into a value of several numbers, which ones would not tell apart from its sum."""
    draws = generator(f"record/upstream/{case}/{seed}")
    return _converted("upstream", Stored.of(draws.normal(size=shape)), dtype)
