"""Has a framework compute on a device, or says why it cannot; the conformance run and the records ask here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unilossseg.conformance.records.errors import RecordError, reason

CPU = "cpu"


def place(framework: str, module: Any, device: str) -> str:
    """Has a framework compute on a device.

    Parameters
    ----------
    framework, module
        Its name and its module. What has no devices, as NumPy, stays on the CPU whatever is asked for.
    device
        cpu, cuda, cuda:1 or what else the framework knows.

    Returns
    -------
    The device in full: cuda:0 for cuda. Raises RecordError where the framework cannot use it.
    """
    if framework not in _PLACED:
        return CPU
    try:
        return _PLACED[framework](module, device)
    except Exception as error:
        raise refusal(framework, device, error) from error


def refusal(framework: str, device: str, error: Exception) -> RecordError:
    """What is said where a framework fails on a device."""
    expected = "a device that the framework has here"
    return RecordError(f"--device {device}", f"{framework} fails with {reason(error)}", expected, "Name another.")


def model(framework: str, module: Any, device: str) -> str:
    """The name of a GPU, as 'NVIDIA H100 80GB HBM3'; empty for any other device."""
    if not device.startswith("cuda"):
        return ""
    cuda = module.cuda if framework == "torch" else module.device.cuda
    return str(cuda.get_device_name(_number(device)))


def _torch(torch: Any, device: str) -> str:
    # There and back: the device must exist, and hold values that can be read.
    tensor = torch.zeros(1, device=device)
    tensor.cpu()
    return str(tensor.device)


def _paddle(paddle: Any, device: str) -> str:
    name = device.replace("cuda", "gpu")
    if name.startswith("gpu") and paddle.is_compiled_with_cuda():
        # Asked for a GPU that is not there, Paddle ends the process.
        count = paddle.device.cuda.device_count()
        if _number(name) >= count:
            raise ValueError(f"it sees {count} GPUs")
    paddle.set_device(name)
    return str(paddle.get_device()).replace("gpu", "cuda")


def _number(device: str) -> int:
    """That of cuda:1; 0 where none is named."""
    return int(device.partition(":")[2] or 0)


_PLACED: dict[str, Callable[[Any, str], str]] = {"torch": _torch, "paddle": _paddle}
