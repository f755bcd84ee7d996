"""Who a framework's module is: whether it is what its name says, and what a run and a record tell of it; imports none."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

#: Distributions that are not called as the backend is, in the order in which they are looked for.
_DISTRIBUTIONS = {"strict": ("array-api-strict",), "paddle": ("paddlepaddle", "paddlepaddle-gpu")}
#: The class of a framework's arrays, which says where it comes from.
_ARRAYS = {"numpy": "ndarray", "torch": "Tensor", "paddle": "Tensor"}


def mistaken(name: str, module: ModuleType) -> str:
    """What `import name` gave where it is not that framework; empty: it is the real one.

    `paddle.enable_compat()` makes `import torch` return Paddle, and with PYTHONPATH any folder can be called torch.
    """
    folder = Path(str(getattr(module, "__file__", None) or "")).parent.name
    if type(module) is ModuleType and folder == name and _has_its_arrays(name, module):
        return ""
    real = str(getattr(getattr(module, "_original_module", None), "__name__", "") or folder)
    if real in ("", module.__name__):
        return f"something else of that name, from {getattr(module, '__file__', None)}"
    return f"{real} {getattr(module, '__version__', '')}".strip()


def _has_its_arrays(name: str, module: ModuleType) -> bool:
    if name not in _ARRAYS:
        return True
    kind = getattr(module, _ARRAYS[name], None)
    return str(getattr(kind, "__module__", "")).partition(".")[0] == name


def distribution(backend: str) -> str:
    """The installed distribution that a backend's framework comes in, with its version."""
    for name in _DISTRIBUTIONS.get(backend, (backend,)):
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return "not installed as a distribution"


def file(module: ModuleType) -> str:
    """The module's file from the environment's folder on; of one that lies elsewhere the name alone.

    Reports and records can be published: the whole path may name a person, as that of a home folder does.
    """
    path = Path(str(getattr(module, "__file__", None) or ""))
    return str(path.relative_to(sys.prefix)) if path.is_relative_to(sys.prefix) else path.name


def revision(module: ModuleType) -> str:
    """The commit that a framework was built from; empty where it does not tell."""
    version = getattr(module, "version", None)
    return str(getattr(version, "git_version", None) or getattr(version, "commit", None) or "")


def threads(name: str, module: Any) -> int | None:
    """How many threads one operation uses; of Paddle, which does not tell, what its OpenMP is told; None: unknown."""
    if name == "torch":
        return int(module.get_num_threads())
    told = os.environ.get("OMP_NUM_THREADS", "") if name == "paddle" else ""
    return int(told) if told.isdecimal() else None
