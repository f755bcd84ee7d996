"""Launches Triton kernels, by a shorter way than Triton's own once one has been launched with such arguments."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton

#: Before it, a kernel could not look into a tuple that is known when it is compiled.
OLDEST = (3, 4)
if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST:
    raise ImportError(
        f"Triton {triton.__version__} is older than {'.'.join(map(str, OLDEST))}, which comes with torch 2.8: upgrade torch"
    )

#: Kernels by what they were compiled for; beyond so many (a data set of images of all sizes), all are looked up anew.
MOST_KEPT = 4096
_kept: dict[tuple[Any, ...], Any] = {}
_NO_GUARD = nullcontext()
# Not there in a build for the CPU, on which only the interpreter runs.
_current_device: Any = getattr(torch._C, "_cuda_getDevice", None)
_stream_of: Any = getattr(torch._C, "_cuda_getCurrentRawStream", None)


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, fused: bool = True) -> None:
    """Runs a kernel with all its arguments in order, the first of them a tensor.

    `fused`: whether a product and a sum may be rounded once. The shorter way leaves out Triton's own look at what arguments
    mean to the compiler (their dtypes, whether memory is aligned, and numbers as they are), and what it asks anew at each
    launch: the device, its stream, and of every tensor whether its memory is the device's.
    """
    device = arguments[0].device
    key, ready = [id(kernel), device.index, num_warps, fused], []
    for argument in arguments:
        if isinstance(argument, torch.Tensor):
            address = argument.data_ptr()
            # An address of the host's memory must not reach the device: Triton says so, if asked.
            key += (argument.dtype, address % 16, argument.is_cuda)
            ready.append(address)
        else:
            key.append(argument)
            ready.append(argument)
    found = tuple(key)
    grid = (*grid, *(1,) * (3 - len(grid)))
    with _on(device):
        compiled = _kept.get(found)
        if compiled is not None:
            compiled[grid](*ready, stream=_stream_of(device.index))
            return
        compiled = kernel[grid](*arguments, num_warps=num_warps, enable_fp_fusion=fused)
    # Triton's interpreter compiles nothing. On ROCm a kernel also depends on how much memory a tensor's storage has.
    if compiled is not None and not torch.version.hip:
        if len(_kept) >= MOST_KEPT:
            _kept.clear()
        _kept[found] = compiled


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Kernels run on the current device, which a tensor need not be on."""
    # A tensor on a device has set CUDA up: torch's own function would ask again.
    if device.index is None or device.index == _current_device():
        return _NO_GUARD
    return torch.cuda.device(device)
