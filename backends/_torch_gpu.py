"""Whether closed forms of CUDA tensors run in Triton's kernels: by an environment variable, and by what is there."""

from __future__ import annotations

import functools
import importlib
import os
import textwrap
import warnings
from typing import TYPE_CHECKING, Any

import torch

from unilossseg.backends import _torch_namespace as xp

if TYPE_CHECKING:
    from unilossseg.backends.torch import TorchBackend

#: 'torch' leaves Triton's kernels aside, 'triton' demands them; unset: they are used where they run.
GPU_VARIABLE = "UNILOSSSEG_GPU_LOOPS"
_chosen: dict[torch.device, TorchBackend | None] = {}


def kernels_on(device: torch.device) -> TorchBackend | None:
    """The backend with Triton's kernels; None where torch's operations do their work on this device.

    It is looked into once for each device, in its first call: Triton may be there without the C compiler that it needs, and
    compiles for no GPU older than Volta.
    """
    if device in _chosen:
        return _chosen[device]
    wanted = os.environ.get(GPU_VARIABLE) or None
    if wanted not in (None, "torch", "triton"):
        raise ValueError(f"{GPU_VARIABLE} is {wanted!r}, expected 'torch' or 'triton', or that it is not set")
    found = None
    if wanted != "torch":
        try:
            kernels = _backend()
            if torch.cuda.is_current_stream_capturing():
                # A launch that fails would break the graph: the first call outside of one decides.
                return kernels  # type: ignore[no-any-return]
            kernels.try_out(device)
            found = kernels
        except torch.cuda.OutOfMemoryError:
            # Says nothing of Triton.
            raise
        except Exception as error:
            _tell(error, device, wanted)
    _chosen[device] = found
    return found


@functools.cache
def _backend() -> Any:
    return importlib.import_module("unilossseg.backends._torch_triton").TritonBackend("torch", xp)


def _tell(error: Exception, device: torch.device, wanted: str | None) -> None:
    """A warning that there are no kernels; an error where they are demanded."""
    reason = f"{type(error).__name__}: {textwrap.shorten(str(error), 400)}"
    if not isinstance(error, ImportError):
        what = f"its kernels do not run on {device}"
        remedy = "Triton needs a C compiler (gcc or clang) and a GPU of compute capability 7.0 or above. "
    else:
        what = "Triton cannot be used"
        # Of one that is too old the error says what to do.
        absent = isinstance(error, ModuleNotFoundError)
        remedy = "Install Triton, which comes with torch's CUDA builds for Linux. " if absent else ""
    if wanted is not None:
        kind: type[Exception] = ImportError if isinstance(error, ImportError) else RuntimeError
        raise kind(f"{GPU_VARIABLE} is {wanted!r} and {what} ({reason}). {remedy}".strip()) from error
    warnings.warn(
        f"UniLossSeg has no kernels for the GPU {device}: {what} ({reason}). torch's own operations do their work, and "
        f"losses take several times as long. {remedy}{GPU_VARIABLE}=torch says that this is meant",
        RuntimeWarning,
        stacklevel=3,
    )


def gpu_loops() -> str:
    """What closed forms on the current CUDA device are computed with: Triton and its version, or torch."""
    kernels = kernels_on(torch.device("cuda", torch.cuda.current_device()))
    return "torch" if kernels is None else f"triton {importlib.import_module('triton').__version__}"
