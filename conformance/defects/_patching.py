"""Planting a defect and taking it out again."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

_MISSING = object()


class Patches:
    """Replaced attributes of modules and classes, all of which `undo` puts back."""

    def __init__(self) -> None:
        #: The attribute as it was before the first of its replacements.
        self._kept: dict[tuple[int, str], tuple[Any, Any]] = {}

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Another value for an attribute; raises AttributeError where there is none, since nothing would be changed."""
        getattr(owner, name)
        # From the class's own dictionary: static methods as they stand there, and inherited ones not at all.
        self._kept.setdefault((id(owner), name), (owner, vars(owner).get(name, _MISSING)))
        setattr(owner, name, value)

    def wrap(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """A value made from the one that is there."""
        self.replace(owner, name, make(getattr(owner, name)))

    def everywhere(self, module: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Wraps a function in its module and in every module of the losses that has imported it by name."""
        original = getattr(module, name)
        changed = make(original)
        for key, place in list(sys.modules.items()):
            if key.startswith("unilossseg.") and not key.startswith("unilossseg.conformance"):
                for held, value in list(vars(place).items()):
                    if value is original:
                        self.replace(place, held, changed)

    def undo(self) -> None:
        """Puts everything back; raises RuntimeError where something is then not what it was."""
        for (_, name), (owner, value) in self._kept.items():
            if value is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
        left = [name for (_, name), (owner, value) in self._kept.items() if vars(owner).get(name, _MISSING) is not value]
        self._kept.clear()
        if left:
            raise RuntimeError(f"a defect could not be taken out again: {', '.join(left)}")


Plant = Callable[[Patches], None]


@dataclass(frozen=True)
class Defect:
    """One thing that could be wrong with a loss or an adapter.

    Parameters
    ----------
    name, description
        What the report calls it, and what it does.
    losses
        The losses that it concerns: one of their cases must show it.
    plant
        Replaces what is right by what is wrong.
    backend
        The backend on which it is tried: NumPy, unless the adapter of a framework is what is wrong.
    crashes
        Words of the exception by which it shows, where it does so by one. Any other counts for nothing: the defect itself
        may be stale.
    """

    name: str
    description: str
    losses: tuple[str, ...]
    plant: Plant
    backend: str = "numpy"
    crashes: str = ""


_found: dict[str, Defect] = {}


def defect(*losses: str, backend: str = "numpy", crashes: str = "") -> Callable[[Plant], Plant]:
    """Registers a function as a defect of its name; its docstring is the description."""

    def register(plant: Plant) -> Plant:
        name = plant.__name__.strip("_").replace("_", "-")
        if name in _found:
            raise ValueError(f"two defects are named {name}")
        _found[name] = Defect(name, (plant.__doc__ or "").strip().rstrip("."), losses, plant, backend, crashes)
        return plant

    return register


def registered() -> dict[str, Defect]:
    """All defects by name, in the order in which they were registered."""
    return dict(_found)


@contextlib.contextmanager
def planted(defect: Defect) -> Iterator[None]:
    """Inside it, the defect is there; raises PlantingError where it does not fit the code any more."""
    patches = Patches()
    try:
        try:
            defect.plant(patches)
        except Exception as error:
            raise PlantingError(f"{defect.name}: {type(error).__name__}: {error}") from error
        yield
    finally:
        patches.undo()


class PlantingError(Exception):
    """A defect does not fit the code that it is for."""
