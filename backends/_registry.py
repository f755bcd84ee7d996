"""Finds the backend that an array belongs to, without importing a framework that is not in use."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

from unilossseg.backends._backend import Array, Backend

# name -> (module of the framework, how to install it). The adapter of a name is `unilossseg.backends.<name>`.
KNOWN: dict[str, tuple[str, str]] = {
    "numpy": ("numpy", "pip install numpy"),
    "strict": ("array_api_strict", "pip install array-api-strict"),
    "torch": ("torch", "pip install 'unilossseg[torch]'"),
    "paddle": ("paddle", "pip install 'unilossseg[paddle]'"),
}
_BY_MODULE = {module: name for name, (module, _) in KNOWN.items()}
_backends: dict[str, Backend] = {}
_by_type: dict[type, Backend] = {}


class BackendNotInstalledError(ImportError):
    """A backend was asked for by name and its framework is not installed."""


def register(backend: Backend, *array_types: type) -> Backend:
    """Makes a backend known by its name and by the types of its arrays."""
    _backends[backend.name] = backend
    for array_type in array_types:
        _by_type[array_type] = backend
    return backend


def unregister(name: str) -> None:
    """Forgets a registered backend."""
    _backends.pop(name, None)
    for array_type in [t for t, b in _by_type.items() if b.name == name]:
        del _by_type[array_type]


def get_backend(name: str) -> Backend:
    """The backend of a name; imports its framework.

    Raises
    ------
    ValueError
        Where no backend has the name.
    BackendNotInstalledError
        Where its framework is not installed.

    Examples
    --------
    >>> from unilossseg.backends import get_backend
    >>> get_backend("numpy").xp.__name__
    'array_api_compat.numpy'
    >>> get_backend("tensorflow")
    Traceback (most recent call last):
    ValueError: backend must be one of 'numpy', 'paddle', 'strict', 'torch' (got 'tensorflow')
    """
    if name in _backends:
        return _backends[name]
    if not is_installed(name):
        module, remedy = KNOWN[name]
        raise BackendNotInstalledError(f"backend {name!r} needs {module}, which is not installed: {remedy}")
    adapter = importlib.import_module(f"unilossseg.backends.{name}")
    return register(adapter.BACKEND)


def is_installed(name: str) -> bool:
    """Whether the framework of a known backend can be imported here; raises a ValueError where the name is not known."""
    if name in _backends:
        return True
    if name not in KNOWN:
        names = ", ".join(repr(n) for n in sorted({*KNOWN, *_backends}))
        raise ValueError(f"backend must be one of {names} (got {name!r})")
    module = KNOWN[name][0]
    # Looked up without importing: a framework takes seconds to load, and two in one process can crash each other.
    return module in sys.modules or importlib.util.find_spec(module) is not None


def installed_backends() -> list[str]:
    """Names of the known backends that are installed here."""
    return [name for name in KNOWN if is_installed(name)]


def backend_of(x: Array, subject: str = "logits") -> Backend:
    """The backend of an array, by its type; an unknown type that has an Array API namespace gets a backend of it.

    Raises
    ------
    TypeError
        Where `x`, which the error calls by `subject`, is no array.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg.backends import backend_of
    >>> backend_of(np.zeros(3))
    <backend numpy>
    >>> backend_of([0.0], "weights")
    Traceback (most recent call last):
    TypeError: weights must be an array of NumPy, PyTorch, PaddlePaddle or an Array API namespace (got [0.0] that is a list)
    """
    kind = type(x)
    found = _by_type.get(kind)
    if found is None:
        found = _find(kind, x)
        if found is None:
            raise TypeError(
                f"{subject} must be an array of NumPy, PyTorch, PaddlePaddle or an Array API namespace "
                f"(got {_short(x)} that is a {kind.__name__})"
            )
        _by_type[kind] = found
    return found


def _find(kind: type, x: Any) -> Backend | None:
    for base in kind.__mro__:
        if base in _by_type:
            return _by_type[base]
        # Paddle's eager tensor calls its module `builtins` in some releases: its qualified name tells.
        name = _BY_MODULE.get(base.__module__.partition(".")[0])
        if name is None and base.__name__ == "Tensor" and "paddle" in sys.modules:
            name = "paddle" if issubclass(base, sys.modules["paddle"].Tensor) else None
        if name is not None and (name != "numpy" or base.__name__ == "ndarray"):
            return get_backend(name)
    if hasattr(kind, "__array_namespace__"):
        return _of_namespace(x.__array_namespace__(), kind)
    return None


def _of_namespace(namespace: Any, kind: type) -> Backend:
    """The backend of a namespace, whose arrays may be of several types: those that a compiler looks at, say."""
    for backend in (*_backends.values(), *_by_type.values()):
        if backend.xp is namespace:
            return backend
    name = getattr(namespace, "__name__", kind.__name__)
    # The class of a framework's arrays may lie in another module than its namespace. NumPy's scalars are none of its arrays.
    known = _BY_MODULE.get(name.partition(".")[0], "numpy")
    return Backend(name, namespace) if known == "numpy" else get_backend(known)


def _short(x: Any) -> str:
    text = repr(x)
    return text if len(text) <= 40 else text[:37] + "..."
