"""Which framework a loss is written in, and whether a module of that name is really that framework."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import unilossseg
from unilossseg.backends import is_installed
from unilossseg.conformance.records.errors import RecordError, reason
from unilossseg.conformance.records.targets import Target

FRAMEWORKS = ("torch", "paddle", "numpy")
_AUTOGRAD = ("torch", "paddle")
_DISTRIBUTIONS = {"torch": ("torch",), "paddle": ("paddlepaddle", "paddlepaddle-gpu"), "numpy": ("numpy",)}
_CHOOSE = "Say which with --framework torch or --framework paddle."


def framework_of(target: Target, asked: str | None) -> str:
    """The framework that a target is written in; raises where nothing tells."""
    if asked is not None:
        if asked not in FRAMEWORKS:
            raise RecordError("--framework", repr(asked), " or ".join(FRAMEWORKS), "Choose one of them.")
        return asked
    # A Module or Layer says so itself, wherever its class comes from.
    bases = {base.__module__.partition(".")[0] for base in type(target.call).__mro__}
    known = [name for name in _AUTOGRAD if name in bases]
    if len(known) == 1:
        return known[0]
    if isinstance(target.call, unilossseg.Loss):
        # It computes everywhere; its gradient needs no framework.
        return "numpy"
    loaded = [name for name in _AUTOGRAD if name in target.loaded]
    if len(loaded) == 1:
        return loaded[0]
    if loaded:
        raise RecordError(f"target {target.name!r}", "its module imports both torch and paddle", "one framework", _CHOOSE)
    installed = [name for name in _AUTOGRAD if is_installed(name)]
    if len(installed) == 1:
        return installed[0]
    if installed:
        received = "its module imports neither torch nor paddle, and both are installed"
        raise RecordError(f"target {target.name!r}", received, "a hint at one framework", _CHOOSE)
    return "numpy"


def genuine(name: str) -> ModuleType:
    """The framework's module, after a look at what it really is.

    `paddle.enable_compat()` makes `import torch` return Paddle: a record of that would say torch and hold Paddle's numbers.
    """
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        remedy = f"pip install 'unilossseg[{name}]', or run this in the environment that has it."
        raise RecordError(f"framework {name}", f"importing it failed with {reason(error)}", f"{name}", remedy) from error
    impostor = _impostor(name, module)
    if impostor:
        remedy = "Do not call paddle.enable_compat() where torch is meant; a folder of that name in the way must be renamed."
        raise RecordError(f"framework {name}", impostor, f"the real {name}", remedy)
    return module


def _impostor(name: str, module: ModuleType) -> str:
    """What gives a module away that is not the framework it is called after; empty if nothing does."""
    file = str(getattr(module, "__file__", None) or "")
    if Path(file).parent.name != name:
        return f"`import {name}` gave {file or 'a module without a file'}"
    kind = getattr(module, "ndarray" if name == "numpy" else "Tensor", None)
    origin = str(getattr(kind, "__module__", "nowhere")).partition(".")[0]
    return "" if origin == name else f"`import {name}` gave a module whose arrays are of {origin}"


def describe(name: str, module: ModuleType, device: str) -> dict[str, str]:
    """What goes into the record: all of it text, nothing that names a person or a machine."""
    others = [other for other in _AUTOGRAD if other != name and other in sys.modules]
    return {
        "framework": name,
        "version": str(getattr(module, "__version__", "")),
        "distribution": _distribution(name),
        "file": _below_prefix(module),
        "revision": _revision(module),
        "device": device,
        "also_imported": ", ".join(others),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "unilossseg": unilossseg.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }


def _distribution(name: str) -> str:
    for distribution in _DISTRIBUTIONS[name]:
        try:
            return f"{distribution} {metadata.version(distribution)}"
        except metadata.PackageNotFoundError:
            continue
    return "not installed as a distribution"


def _revision(module: Any) -> str:
    version = getattr(module, "version", None)
    return str(getattr(version, "git_version", None) or getattr(version, "commit", None) or "")


def _below_prefix(module: ModuleType) -> str:
    """The module's file, from the environment's folder on where it lies there."""
    file = Path(str(getattr(module, "__file__", "")))
    return str(file.relative_to(sys.prefix)) if file.is_relative_to(sys.prefix) else file.name
