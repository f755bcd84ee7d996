"""A run as its record tells it: all that a report knows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from unilossseg.conformance.errormaps import ErrorMap
from unilossseg.conformance.verdict import CONFORM, Comparison, is_bad


class Part(Comparison):
    """How far a value or a gradient is from the reference, as a record tells it."""

    @property
    def ratio(self) -> float:
        """The error as a share of its bound; above 1: out of bounds. NaN: there is no bound."""
        return 0.0 if self.error == 0 else self.error / self.bound if self.bound else float("inf")


@dataclass(frozen=True)
class CaseLine:
    """A case: what was computed."""

    id: str
    loss: str
    variant: str
    dtype: str
    condition: str
    origin: str
    layout: str
    chunk: int
    parameters: Mapping[str, Any]
    #: The dtype and the shape of each input.
    inputs: Mapping[str, tuple[str, tuple[int, ...]]]

    @property
    def inputs_in_words(self) -> str:
        """Their names, dtypes and shapes."""
        return "; ".join(f"{name} {dtype} {shape}" for name, (dtype, shape) in self.inputs.items())


@dataclass(frozen=True)
class ResultLine:
    """A result: a case on a backend in a mode, and what became of it."""

    case: CaseLine
    backend: str
    mode: str
    status: str
    message: str
    link: str
    value: Part | None
    gradient: Part | None
    seconds: float
    repeat: str
    #: The native implementation that its errors were compared with, and what is conspicuous about them yet no failure.
    native: str = ""
    warning: str = ""
    #: Where the errors lie, of what differs.
    errors: Mapping[str, ErrorMap] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """What it is the result of."""
        return self.case.id, self.backend, self.mode

    @property
    def title(self) -> str:
        """The same in words."""
        return f"{self.case.id} on {self.backend} ({self.mode})"

    @property
    def is_bad(self) -> bool:
        """Neither conforms nor is declared to be impossible, or to fail."""
        return is_bad(self.status)

    @property
    def parts(self) -> list[tuple[str, Part]]:
        """What was compared."""
        return [(name, part) for name, part in self.quantities if part is not None]

    @property
    def quantities(self) -> tuple[tuple[str, Part | None], ...]:
        """The same, with None for what was not."""
        return ("value", self.value), ("gradient", self.gradient)

    @property
    def ratio(self) -> float | None:
        """The larger share of its bound that an error took up."""
        return _largest(part.ratio for _, part in self.parts)

    @property
    def standing(self) -> float | None:
        """Its errors as a multiple of the native ones and a few eps; None: they were not compared."""
        return _largest(part.native.standing for _, part in self.parts if part.native is not None)

    @property
    def first_line(self) -> str:
        """Of its message."""
        return self.message.partition("\n")[0]


@dataclass(frozen=True)
class Header:
    """When and where a run was."""

    version: str
    started: datetime
    seconds: float
    python: str
    numpy: str
    platform: str
    machine: str
    cpus: int | None
    #: What each worker said about itself; None where it never got that far.
    backends: Mapping[str, Mapping[str, Any] | None]
    #: Backends that are not installed, with how to install them.
    not_installed: Mapping[str, str]
    expired: tuple[str, ...]


@dataclass(frozen=True)
class StoredRun:
    """A run."""

    header: Header
    cases: tuple[CaseLine, ...]
    results: tuple[ResultLine, ...]

    @property
    def backends(self) -> list[str]:
        """Their names."""
        return list(self.header.backends)

    @cached_property
    def losses(self) -> list[str]:
        """Their names, in the order of the cases."""
        return list(dict.fromkeys(case.loss for case in self.cases))

    def count(self, status: str) -> int:
        """Results of one status."""
        return sum(result.status == status for result in self.results)

    @cached_property
    def bad(self) -> list[ResultLine]:
        """What does not conform."""
        return [result for result in self.results if result.is_bad]

    @cached_property
    def warned(self) -> list[ResultLine]:
        """What conforms, with errors that are larger than the native ones."""
        return [result for result in self.results if result.warning and result.status == CONFORM]

    @cached_property
    def troubles(self) -> list[str]:
        """Why a run does not conform although no result differs: backends without a pass, or no backend at all."""
        if not self.backends:
            return ["no result conforms: there is no backend"]
        passed = {result.backend for result in self.results if result.status == CONFORM}
        return [f"no result conforms on {name}" for name in self.backends if name not in passed]

    @property
    def conforms(self) -> bool:
        """Everything that ran conforms, and something did on every backend."""
        return not self.bad and not self.troubles


def worst(results: Iterable[ResultLine]) -> float | None:
    """The largest share of its bound that any error took up."""
    return _largest(ratio for result in results if (ratio := result.ratio) is not None)


def _largest(ratios: Iterable[float]) -> float | None:
    """NaN, which is larger than nothing and smaller than nothing, is left out."""
    return max((ratio for ratio in ratios if not math.isnan(ratio)), default=None)
