"""What the runner and a worker say to each other: JSON lines, and arrays in files beside them.

The runner sends one request a line, the worker first a greeting and then one reply for each request, in order. Arrays
travel as `.npz` files, read with `allow_pickle=False`, bfloat16 as the bits of uint16: nothing that a worker sends is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unilossseg.conformance.cases import Array, bfloat16_bits, from_bfloat16_bits

VERSION = 2

CLOSED_FORM = "closed form"
PLAIN_FORMULA = "plain formula"
FACE = "face"
MODES = (CLOSED_FORM, PLAIN_FORMULA, FACE)
#: No mode that is judged: the framework's own functional, whose errors the modes' are compared with.
NATIVE = "native"
_KINDS = (*MODES, NATIVE)


@dataclass(frozen=True)
class Outcome:
    """What one backend computed for one case in one mode; numbers of bfloat16 are held in float32."""

    value: Array | None = None
    value_dtype: str = ""
    gradient: Array | None = None
    gradient_dtype: str = ""
    seconds: float = 0.0
    error: str = ""
    #: Of the native functional: its name.
    name: str = ""


def write_arrays(path: Path, arrays: Mapping[str, Array], dtypes: Mapping[str, str]) -> None:
    """Arrays into a file; `dtypes` names those that are to travel as bfloat16."""
    stored = {
        name: bfloat16_bits(array.astype(np.float32)) if dtypes.get(name) == "bfloat16" else array
        for name, array in arrays.items()
    }
    with path.open("wb") as file:
        np.savez(file, **stored)  # type: ignore[arg-type]


def read_arrays(path: Path, dtypes: Mapping[str, str]) -> dict[str, Array]:
    """Arrays from a file; those of bfloat16 come as float32."""
    with np.load(path, allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    return {name: from_bfloat16_bits(array) if dtypes.get(name) == "bfloat16" else array for name, array in stored.items()}


def write_outcomes(path: Path, outcomes: Mapping[str, Outcome]) -> dict[str, dict[str, Any]]:
    """Outcomes by mode: arrays into a file, the rest as JSON."""
    arrays, dtypes, described = {}, {}, {}
    for mode, outcome in outcomes.items():
        described[mode] = {"seconds": outcome.seconds, "error": outcome.error, "name": outcome.name}
        for part, array, dtype in (
            ("value", outcome.value, outcome.value_dtype),
            ("gradient", outcome.gradient, outcome.gradient_dtype),
        ):
            if array is not None:
                key = f"{_KINDS.index(mode)}.{part}"
                arrays[key], dtypes[key] = array, dtype
                described[mode][part] = dtype
    write_arrays(path, arrays, dtypes)
    return described


def read_outcomes(path: Path, described: Mapping[str, Mapping[str, Any]]) -> dict[str, Outcome]:
    """The outcomes again; raises KeyError, TypeError or ValueError on anything else."""
    dtypes = {
        f"{_KINDS.index(mode)}.{part}": str(entry[part])
        for mode, entry in described.items()
        for part in ("value", "gradient")
        if part in entry
    }
    arrays = read_arrays(path, dtypes)
    outcomes = {}
    for mode, entry in described.items():
        number = _KINDS.index(mode)
        outcomes[mode] = Outcome(
            value=arrays[f"{number}.value"] if "value" in entry else None,
            value_dtype=str(entry.get("value", "")),
            gradient=arrays[f"{number}.gradient"] if "gradient" in entry else None,
            gradient_dtype=str(entry.get("gradient", "")),
            seconds=float(entry["seconds"]),
            error=str(entry["error"]),
            name=str(entry.get("name", "")),
        )
    return outcomes
