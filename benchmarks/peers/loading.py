"""Imports one part of an installed package without what the whole package needs."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from pathlib import Path


def part_of(package: str, hollow: tuple[str, ...], module: str) -> types.ModuleType:
    """A submodule of an installed package, with the `__init__` of some of its packages left out.

    Packages of networks import every dependency of every network in theirs (OpenCV, torchvision); the losses need none of
    that. The code that runs is the installed one.

    Parameters
    ----------
    package
        The top-level package.
    hollow
        Packages whose `__init__` is not run, by their full names.
    module
        What to import.
    """
    spec = importlib.util.find_spec(package) if package not in sys.modules else sys.modules[package].__spec__
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"{package} is not installed in {sys.prefix}: make bench installs it", name=package)
    root = Path(next(iter(spec.submodule_search_locations)))
    for name in hollow:
        if name not in sys.modules:
            stand_in = types.ModuleType(name)
            stand_in.__path__ = [str(root.joinpath(*name.split(".")[1:]))]
            if name == package:
                stand_in.__spec__ = spec
            sys.modules[name] = stand_in
    return importlib.import_module(module)
