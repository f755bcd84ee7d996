"""Launches Triton kernels on the device of their arguments."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import triton

#: The oldest whose kernels were compiled and tried.
OLDEST = (3, 3)
if tuple(int(part) for part in triton.__version__.split(".")[:2]) < OLDEST:
    raise ImportError(f"Triton {triton.__version__} is older than {'.'.join(map(str, OLDEST))}")

_NO_GUARD = nullcontext()


def launch(kernel: Any, grid: tuple[int, ...], *arguments: Any, num_warps: int = 4, fused: bool = True) -> None:
    """Runs a kernel with all its arguments in order, the first of them a tensor.

    `fused`: whether a product and a sum may be rounded once.
    """
    with _on(arguments[0].device):
        kernel[grid](*arguments, num_warps=num_warps, enable_fp_fusion=fused)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Kernels run on the current device, which a tensor need not be on."""
    if device.type != "cuda" or device.index == torch.cuda.current_device():
        return _NO_GUARD
    return torch.cuda.device(device)
