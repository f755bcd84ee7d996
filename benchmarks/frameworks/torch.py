"""Tensors, clocks and memory of torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from benchmarks import memory
from benchmarks.timing import by_events

#: Steps before a graph is captured: what is set up in a first call must not be in it.
WARM_STEPS = 3


class Here:
    """torch on one device."""

    name = "torch"

    def __init__(self, device: str) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                f"torch {torch.__version__} sees no GPU: run with --device cpu, or install a CUDA build of torch in "
                "the environment that --torch-python names"
            )
        self.device = device

    def tensors(self, arrays: Mapping[str, Any], dtype: str) -> dict[str, Any]:
        """Tensors on the device."""
        made = {}
        for name, array in arrays.items():
            tensor = torch.from_numpy(array)
            if tensor.is_floating_point():
                tensor = tensor.to(getattr(torch, dtype))
            made[name] = tensor.to(self.device)
        made["logits"].requires_grad_()
        return made

    def drop_gradient(self, logits: Any) -> None:
        """Frees the last call's gradient, so that the next call makes a fresh one."""
        logits.grad = None

    def on_device(self, step: Callable[[], Any]) -> Callable[[], float]:
        """By events on the GPU."""
        return by_events(step, torch.cuda)

    def numbers(self, tensor: Any) -> Any:
        """A tensor as float64."""
        return tensor.detach().double().cpu().numpy()

    def peak_extra(self, step: Callable[[], Any]) -> int:
        """The allocator's peak on a GPU, the process's on the CPU."""
        if self.device == "cpu":
            return memory.peak_extra(step)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return int(torch.cuda.max_memory_allocated() - before)

    def without_waiting(self, step: Callable[[], Any]) -> str:
        """A warm call under torch's sync debug mode."""
        if self.device == "cpu":
            return ""
        mode = torch.cuda.get_sync_debug_mode()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        except RuntimeError as error:
            return str(error).strip()
        finally:
            torch.cuda.set_sync_debug_mode(mode)
        return ""

    def captured(self, step: Callable[[], Any], before: Callable[[], Any]) -> Callable[[], Any]:
        """A CUDA graph, after some steps on a stream of their own, as torch's guide asks."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_STEPS):
                before()
                step()
        torch.cuda.current_stream().wait_stream(stream)
        before()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                step()
        finally:
            before()
        return graph.replay

    def device_name(self) -> str:
        """As the driver calls it."""
        return "" if self.device == "cpu" else torch.cuda.get_device_name()

    def threads(self) -> dict[str, int]:
        """Both follow torch's setting."""
        return {"framework": torch.get_num_threads(), "kernels": torch.get_num_threads()}
