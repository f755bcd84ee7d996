"""NumPy as a framework of the benchmarks: our losses and made-up peers can be measured where no other is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import unilossseg


class Logits:
    """A tensor that wants a gradient, and adds up what it is given."""

    def __init__(self, numbers: Any) -> None:
        self.numbers = numbers
        self.grad: Any = None


class Value:
    """What a loss returns: a number, and a gradient that goes to the logits when it is asked for."""

    def __init__(self, logits: Logits, value: Any, gradient: Any) -> None:
        self._logits, self._value, self._gradient = logits, value, gradient

    def backward(self) -> None:
        """As a framework's: it adds to the gradient that is there."""
        held = self._logits.grad
        self._logits.grad = self._gradient if held is None else held + self._gradient

    def __float__(self) -> float:
        return float(self._value)


def ours(loss: unilossseg.Loss) -> Callable[..., Value]:
    """A loss of this package as a Module would be."""

    def call(logits: Logits, labels: Any) -> Value:
        return Value(logits, *unilossseg.value_and_grad(loss)(logits.numbers, labels))

    return call


class Faces:
    """What stands for `unilossseg.torch`."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda **arguments: ours(unilossseg.LOSSES[name](**arguments))


class Here:
    """The framework; `dropped` counts how often it was told to free a gradient."""

    name, device = "numpy", "cpu"

    def __init__(self) -> None:
        self.dropped = 0

    def tensors(self, arrays: Mapping[str, Any], dtype: str) -> dict[str, Any]:
        """The arrays, and the logits with a place for their gradient."""
        return {**arrays, "logits": Logits(arrays["logits"])}

    def drop_gradient(self, logits: Logits) -> None:
        """Counts."""
        self.dropped += 1
        logits.grad = None

    def numbers(self, tensor: Any) -> Any:
        """A gradient is one already."""
        return tensor

    def without_waiting(self, step: Callable[[], Any]) -> str:
        """There is no device."""
        return ""

    def threads(self) -> dict[str, int]:
        """Of the floor."""
        return {"framework": 1, "kernels": 1}
