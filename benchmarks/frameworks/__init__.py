"""How a worker handles tensors of its framework. A module here imports its framework: only a worker imports it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from benchmarks.peers import Peer

BACKENDS = ("torch", "paddle")
DEVICES = ("cpu", "cuda")


class Framework(Protocol):
    """What measurements need of a framework."""

    name: str
    device: str

    def tensors(self, arrays: Mapping[str, Any], dtype: str) -> dict[str, Any]:
        """Tensors on the device; logits and numbers in the dtype, and the logits want a gradient."""

    def drop_gradient(self, logits: Any) -> None:
        """Frees the last call's gradient."""

    def on_device(self, step: Callable[[], Any]) -> Callable[[], float]:
        """A step that returns the seconds it took on an accelerator."""

    def numbers(self, tensor: Any) -> Any:
        """A tensor as a NumPy array of float64."""

    def peak_extra(self, step: Callable[[], Any]) -> int:
        """Bytes that a step takes at its peak."""

    def without_waiting(self, step: Callable[[], Any]) -> str:
        """Runs a step where waiting for the device or copying to the host is an error; the error, or nothing."""

    def captured(self, step: Callable[[], Any], before: Callable[[], Any]) -> Callable[[], Any]:
        """A step's work on the device as a graph, to be replayed; raises where the step cannot be captured."""

    def device_name(self) -> str:
        """The accelerator's name; nothing for the CPU."""

    def threads(self) -> dict[str, int]:
        """Thread counts: the framework's, and that of our kernels under it."""


def load(backend: str, device: str) -> tuple[Framework, Any, Mapping[str, tuple[Peer, ...]], tuple[str, ...]]:
    """The framework, our losses' faces, the peers of each row, and the packages whose versions count."""
    framework = importlib.import_module(f"benchmarks.frameworks.{backend}").Here(device)
    faces = importlib.import_module(f"unilossseg.{backend}")
    peers = importlib.import_module(f"benchmarks.peers.{backend}")
    return framework, faces, peers.PEERS, peers.PACKAGES
