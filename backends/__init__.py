"""One small adapter per framework.

>>> from unilossseg.backends import get_backend
>>> get_backend("numpy")
<backend numpy>
"""

from unilossseg.backends._backend import Array as Array
from unilossseg.backends._backend import Backend as Backend
from unilossseg.backends._buffers import release_memory as release_memory
from unilossseg.backends._registry import KNOWN as KNOWN
from unilossseg.backends._registry import BackendNotInstalledError as BackendNotInstalledError
from unilossseg.backends._registry import backend_of as backend_of
from unilossseg.backends._registry import get_backend as get_backend
from unilossseg.backends._registry import installed_backends as installed_backends
from unilossseg.backends._registry import is_installed as is_installed
from unilossseg.backends._registry import register as register
from unilossseg.backends._registry import unregister as unregister
from unilossseg.backends._threads import num_threads as num_threads
from unilossseg.backends._threads import set_num_threads as set_num_threads

__all__ = [
    "KNOWN",
    "Array",
    "Backend",
    "BackendNotInstalledError",
    "backend_of",
    "get_backend",
    "installed_backends",
    "is_installed",
    "num_threads",
    "register",
    "release_memory",
    "set_num_threads",
    "unregister",
]
