"""Where a worker runs: whether the framework is the one that its name says, and every setting that changes its numbers."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from unilossseg.backends import KNOWN, num_threads
from unilossseg.conformance import modules

#: Variables that change how many threads there are, or how many digits.
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NVIDIA_TF32_OVERRIDE", "CUBLAS_WORKSPACE_CONFIG")
#: The packages whose code computes what a worker sends.
_SOURCES = (
    "unilossseg",
    "unilossseg.losses",
    "unilossseg.backends",
    "unilossseg.conformance",
    "unilossseg.conformance.parity",
)

#: What an installation without compiled loops says of their sources.
NO_LOOPS = "none"

#: What a worker or a record says about itself, and how a page names it.
TITLES = {
    "framework": "framework",
    "version": "version",
    "distribution": "distribution",
    "revision": "built from",
    "file": "imported from",
    "also_imported": "imported beside it",
    "device": "device",
    "device_name": "model of the device",
    "threads": "threads",
    "flags": "settings",
    "environment": "environment",
    "frameworks": "frameworks in it",
    "dtypes": "dtypes",
    "modes": "modes",
    "implementation": "interpreter",
    "python": "Python",
    "numpy": "NumPy",
    "array_api_compat": "array-api-compat",
    "unilossseg": "UniLossSeg",
    "platform": "platform",
    "sources": "digest of its sources",
    "loop_sources": "digest of its loops' sources",
}


def impostor(backend: str) -> str:
    """What is wrong with the framework that a backend's name imports; empty: it is the real one."""
    if backend not in KNOWN:
        return ""  # somebody else's backend: whatever its name imports is what was asked for
    name, remedy = KNOWN[backend]
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return f"backend {backend!r} needs {name}, which is not installed in {Path(sys.prefix).name}: {remedy}"
    found = modules.mistaken(name, module)
    if not found:
        return ""
    return (
        f"`import {name}` gives {found}, not {name}: a run would compare a framework with itself. Does "
        "something in this environment call paddle.enable_compat(), or is a folder of that name on PYTHONPATH?"
    )


@functools.cache
def sources() -> str:
    """A digest of the losses, adapters and this suite: two workers that compute the same formulas have the same."""
    digest = hashlib.sha256()
    for package in _SOURCES:
        module = importlib.import_module(package)
        for path in sorted(Path(str(module.__file__)).parent.glob("*.py")):
            digest.update(f"{package}/{path.name}\0".encode() + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:16]


def loop_sources() -> str:
    """A digest of what this installation's loops were compiled from, in use or not; 'unknown' and 'none' are words too.

    A digest of the module would tell apart what two compilers have made of the same files.
    """
    try:
        found = importlib.import_module("unilossseg.backends._loops")
    except ImportError:
        return NO_LOOPS
    # setup.py tells the compiler; loops from before it did, or that somebody has compiled by hand, do not know.
    return str(getattr(found, "SOURCES", "unknown"))


def package() -> dict[str, str]:
    """The digests by which two workers have the same package."""
    return {"sources": sources(), "loop_sources": loop_sources()}


def described(backend: str) -> dict[str, Any]:
    """What a worker says about its environment, beside its framework's versions."""
    flags = _FLAGS.get(backend)
    return {
        "environment": Path(sys.prefix).name,
        "implementation": f"{sys.implementation.name} {sys.version.split()[0]}",
        # In isolated environments a framework sees no other.
        "frameworks": [name for name in ("torch", "paddle") if name in sys.modules or importlib.util.find_spec(name)],
        "flags": [
            *(flags(importlib.import_module(KNOWN[backend][0])) if flags else ()),
            f"kernel_threads={num_threads(backend)}",
            f"kernel_loops={loops()}",
            *_variables(),
        ],
        **package(),
    }


def loops() -> str:
    """What the loops on the CPU are compiled for; 'numpy' for none. Asked for late: the backend warns where it has none."""
    return str(importlib.import_module("unilossseg.backends.numpy").LOOPS)


def _variables() -> list[str]:
    return [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]


def _torch_flags(torch: Any) -> list[str]:
    """TF32, determinism, and what the kernels were built for."""
    asked: dict[str, Callable[[], Any]] = {
        "float32_matmul_precision": torch.get_float32_matmul_precision,
        "matmul.allow_tf32": lambda: torch.backends.cuda.matmul.allow_tf32,
        "cudnn.allow_tf32": lambda: torch.backends.cudnn.allow_tf32,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled,
        "cudnn.deterministic": lambda: torch.backends.cudnn.deterministic,
        "cudnn.benchmark": lambda: torch.backends.cudnn.benchmark,
        "interop_threads": torch.get_num_interop_threads,
        "cuda": lambda: torch.version.cuda,
    }
    if torch.cuda.is_available():
        asked["gpu_loops"] = importlib.import_module("unilossseg.backends._torch_gpu").gpu_loops
    return _answered(asked)


def _paddle_flags(paddle: Any) -> list[str]:
    """Those of its flags that a build has: a CPU build knows none of cuDNN's."""
    names = (
        "FLAGS_cudnn_deterministic",
        "FLAGS_embedding_deterministic",
        "FLAGS_cudnn_exhaustive_search",
        "FLAGS_use_autotune",
        "FLAGS_benchmark",
    )
    asked = {name: functools.partial(lambda key: paddle.get_flags(key)[key], name) for name in names}
    return _answered({**asked, "cuda": lambda: paddle.version.cuda()})


def _answered(asked: dict[str, Callable[[], Any]]) -> list[str]:
    """The settings that this release knows."""
    found = []
    for name, ask in asked.items():
        with contextlib.suppress(AttributeError, KeyError, RuntimeError, ValueError):
            found.append(f"{name}={ask()}")
    return found


_FLAGS: dict[str, Callable[[Any], list[str]]] = {"torch": _torch_flags, "paddle": _paddle_flags}
