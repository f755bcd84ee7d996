"""Tensors, clocks and memory of Paddle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import paddle

from benchmarks import memory
from benchmarks.timing import by_events
from unilossseg.backends import num_threads


class Here:
    """Paddle on one device."""

    name = "paddle"

    def __init__(self, device: str) -> None:
        if device == "cuda" and not (paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count()):
            raise RuntimeError(
                f"Paddle {paddle.__version__} sees no GPU: run with --device cpu, or install a GPU build in the "
                "environment that --paddle-python names"
            )
        cuda = paddle.device.cuda
        if device == "cuda" and not (hasattr(cuda, "reset_max_memory_allocated") and hasattr(cuda.Event, "elapsed_time")):
            raise RuntimeError(
                f"Paddle {paddle.__version__} cannot measure a GPU's time and memory: run with --device cpu, or install "
                "Paddle 3 in the environment that --paddle-python names"
            )
        self.device = device
        paddle.set_device("gpu" if device == "cuda" else "cpu")

    def tensors(self, arrays: Mapping[str, Any], dtype: str) -> dict[str, Any]:
        """Tensors on the device."""
        made = {}
        for name, array in arrays.items():
            tensor = paddle.to_tensor(array)
            made[name] = tensor.astype(dtype) if tensor.is_floating_point() else tensor
        made["logits"].stop_gradient = False
        return made

    def drop_gradient(self, logits: Any) -> None:
        """Frees the last call's gradient, so that the next call makes a fresh one."""
        logits.clear_gradient(False)

    def on_device(self, step: Callable[[], Any]) -> Callable[[], float]:
        """By events on the GPU."""
        return by_events(step, paddle.device.cuda)

    def numbers(self, tensor: Any) -> Any:
        """A tensor as float64."""
        return tensor.detach().astype("float64").cpu().numpy()

    def peak_extra(self, step: Callable[[], Any]) -> int:
        """The allocator's peak on a GPU, the process's on the CPU."""
        if self.device == "cpu":
            return memory.peak_extra(step)
        cuda = paddle.device.cuda
        cuda.synchronize()
        cuda.empty_cache()
        cuda.reset_max_memory_allocated()
        before = cuda.memory_allocated()
        step()
        cuda.synchronize()
        return int(cuda.max_memory_allocated() - before)

    def without_waiting(self, step: Callable[[], Any]) -> str:
        """Paddle has no mode that makes waiting an error."""
        return ""

    def captured(self, step: Callable[[], Any], before: Callable[[], Any]) -> Callable[[], Any]:
        """Paddle's graphs are of static programs."""
        raise RuntimeError("Paddle captures no step of eager code")

    def device_name(self) -> str:
        """As the driver calls it."""
        return "" if self.device == "cpu" else str(paddle.device.cuda.get_device_name())

    def threads(self) -> dict[str, int]:
        """Paddle does not say how many threads an operation takes: FLAGS_paddle_num_threads is its setting."""
        flag = "FLAGS_paddle_num_threads"
        return {"framework": int(paddle.get_flags(flag)[flag]), "kernels": num_threads()}
