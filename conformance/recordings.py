"""The recorded cases: inputs, values and gradients of another implementation, kept as plain arrays in this package."""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

import numpy as np

from unilossseg.conformance.cases import Array, Case, Recording

SOURCE = "PaddleSeg"
_INPUTS = ("logits", "labels", "upstream", "edge_logits", "noise")
#: One of each loss's recordings goes into a quick run.
_QUICK = ("random", "b_random", "r_plain")


@functools.cache
def _recordings() -> tuple[list[dict[str, Any]], dict[str, dict[str, Array]]]:
    """The manifest's cases, and their arrays by case and name."""
    folder = resources.files("unilossseg.conformance") / "recorded"
    manifest = json.loads((folder / "paddleseg.json").read_text(encoding="utf-8"))
    arrays: dict[str, dict[str, Array]] = {}
    with (folder / "paddleseg.npz").open("rb") as file, np.load(file, allow_pickle=False) as stored:
        for key in stored.files:
            case, name = key.split("/")
            arrays.setdefault(case, {})[name] = stored[key]
    return manifest["cases"], arrays


def cases(loss: str) -> list[Case]:
    """The recorded cases of a loss."""
    entries, arrays = _recordings()
    return [_case(entry, arrays[entry["id"]]) for entry in entries if entry["loss"] == loss]


def _case(entry: dict[str, Any], arrays: dict[str, Array]) -> Case:
    name = entry["id"].removeprefix(entry["loss"] + "-")
    return Case(
        id=f"{entry['loss']}/recorded/{name}",
        loss=entry["loss"],
        parameters=entry["kwargs"],
        dtype="float32",
        condition=f"recorded from {SOURCE}: {entry['case'].replace('_', ' ')}",
        arrays={key: arrays[key] for key in _INPUTS if key in arrays},
        recorded=Recording(SOURCE, arrays["value"], arrays["grad"], entry.get("reference_clips", False)),
        quick=entry["case"] in _QUICK,
    )
