"""Which framework a loss is written in, and whether a module of that name is really that framework."""

from __future__ import annotations

import importlib
import platform
import sys
from types import ModuleType

import numpy as np

import unilossseg
from unilossseg.backends import is_installed
from unilossseg.conformance import modules
from unilossseg.conformance.records.errors import RecordError, reason
from unilossseg.conformance.records.targets import Target

FRAMEWORKS = ("torch", "paddle", "numpy")
_AUTOGRAD = ("torch", "paddle")
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
    """The framework's module, after a look at what it really is: a record may not say torch and hold Paddle's numbers."""
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        remedy = f"pip install 'unilossseg[{name}]', or run this in the environment that has it."
        raise RecordError(f"framework {name}", f"importing it failed with {reason(error)}", f"{name}", remedy) from error
    found = modules.mistaken(name, module)
    if found:
        remedy = "Do not call paddle.enable_compat() where torch is meant; a folder of that name in the way must be renamed."
        raise RecordError(f"framework {name}", f"`import {name}` gave {found}", f"the real {name}", remedy)
    return module


def describe(name: str, module: ModuleType, device: str) -> dict[str, str]:
    """What goes into the record: all of it text, nothing that names a person or a machine."""
    threads = modules.threads(name, module)
    others = [other for other in _AUTOGRAD if other != name and other in sys.modules]
    return {
        "framework": name,
        "version": str(getattr(module, "__version__", "")),
        "distribution": modules.distribution(name),
        "file": modules.file(module),
        "revision": modules.revision(module),
        "device": device,
        "also_imported": ", ".join(others),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "unilossseg": unilossseg.__version__,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "threads": "" if threads is None else str(threads),
    }
