"""The other libraries' losses. A module here imports its framework: only a worker imports it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.rows import Row, Shape

#: From a row, its configuration and the tensors of `rows.arrays`: the value as a function of the logits. What is prepared
#: in it (labels of another dtype) is not timed.
Build = Callable[[Row, Shape, Mapping[str, Any]], Callable[[Any], Any]]


@dataclass(frozen=True)
class Peer:
    """A loss of another library."""

    name: str
    build: Build
    #: How its definition differs from ours, on purpose; empty: it means to compute the same.
    differs: str = ""
    #: The definition that it does mean, as `checks.DEFINITIONS` names it; empty: that cannot be computed here.
    definition: str = "ours"
    #: What its number of elements of logits must not exceed, unless slow peers are asked for: it would take minutes.
    largest: int | None = None
    #: What was done to make it run here.
    note: str = ""


def of_labels(loss: Callable[[Any, Any], Any]) -> Build:
    """A loss that takes the logits and the labels as they are."""

    def build(row: Row, shape: Shape, inputs: Mapping[str, Any]) -> Callable[[Any], Any]:
        labels = inputs["labels"]
        return lambda logits: loss(logits, labels)

    return build
