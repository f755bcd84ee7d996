"""The training itself, written once: a framework gives the network's value and gradients, NumPy the step.

Stochastic gradient descent with momentum is `v = momentum v + g; w = w - rate v`, in NumPy and in the dtype of the training.
The frameworks' own optimizers say the same and round differently: what is compared here is losses and gradients.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import unilossseg
from unilossseg.conformance.cases import Array
from unilossseg.conformance.frameworks import FRAMEWORKS
from unilossseg.conformance.parity.network import DEPTH


@dataclass(frozen=True)
class Trained:
    """What came of a training; everything in float64, which holds each number exactly."""

    #: The loss before each step.
    losses: Array
    #: The gradients of the first step by parameter.
    gradients: dict[str, Array]
    #: The parameters after the last step.
    parameters: dict[str, Array]


class Trainer:
    """The network in one framework, with its losses as that framework's modules."""

    def __init__(self, backend: str, config: Mapping[str, Any]) -> None:
        self.backend = backend
        self.framework = FRAMEWORKS[backend](backend)
        self.functional = importlib.import_module(f"{self.framework.module.__name__}.nn.functional")
        built = unilossseg.build(config, backend)
        self.losses, self.coef = built["types"], built["coef"]

    def train(
        self, job: Mapping[str, Any], arrays: Mapping[str, Array], dtype: str, report: Callable[[float], None]
    ) -> Trained:
        """Trains from the initial weights; calls `report` with the loss of each step."""
        initial = {name: array for name, array in arrays.items() if name.startswith("weight/")}
        weights = {name.removeprefix("weight/"): array.astype(dtype) for name, array in initial.items()}
        speeds = {name: np.zeros_like(array) for name, array in weights.items()}
        rate, momentum = (np.asarray(job[key], dtype) for key in ("rate", "momentum"))
        batches = int(arrays["images"].shape[0])
        losses: list[float] = []
        first: dict[str, Array] = {}
        for step in range(job["steps"]):
            value, gradients = self._value_and_gradients(weights, job, arrays, step % batches, step)
            losses.append(value)
            first = first or {name: slope.astype(np.float64) for name, slope in gradients.items()}
            for name, slope in gradients.items():
                speeds[name] = momentum * speeds[name] + slope
                weights[name] = weights[name] - rate * speeds[name]
            report(value)
        return Trained(np.asarray(losses), first, {name: array.astype(np.float64) for name, array in weights.items()})

    def _value_and_gradients(
        self, weights: Mapping[str, Array], job: Mapping[str, Any], arrays: Mapping[str, Array], batch: int, step: int
    ) -> tuple[float, dict[str, Array]]:
        parameters = {name: self._learnt(array) for name, array in weights.items()}
        dtype = next(iter(weights.values())).dtype
        # Intensities around 0.5, to numbers around 0 that spread about 1.
        hidden = self._array((arrays["images"][batch].astype(dtype) - dtype.type(0.5)) * dtype.type(4))
        for at in range(DEPTH):
            hidden = self.functional.relu(self._convolved(hidden, parameters, f"conv{at + 1}", padding=1))
        total = None
        for at, (head, loss, coef) in enumerate(zip(job["heads"], self.losses, self.coef, strict=True)):
            logits = self._convolved(hidden, parameters, f"head{at + 1}", padding=0)
            labels = arrays[f"labels{at}"][batch]
            labels = self._array(labels if labels.dtype == np.int64 else labels.astype(dtype))
            inputs = {"noise": self._noise(job["seed"], step, at, head, arrays, dtype)} if head["noise"] else {}
            edges = (logits, self._array(arrays["edges"][batch].astype(dtype))) if head["edges"] else None
            value = _scalar(loss(logits if edges is None else edges, labels, **inputs)) * coef
            total = value if total is None else total + value
        assert total is not None
        total.backward()
        return float(self.framework.to_numpy(total)), {
            # A parameter that no loss depends on has no gradient.
            name: np.zeros_like(weights[name]) if tensor.grad is None else np.array(self.framework.to_numpy(tensor.grad))
            for name, tensor in parameters.items()
        }

    def _convolved(self, x: Any, parameters: Mapping[str, Any], name: str, padding: int) -> Any:
        return self.functional.conv2d(x, parameters[f"{name}.weight"], parameters[f"{name}.bias"], padding=padding)

    def _array(self, x: Array) -> Any:
        return self.framework.array(x, str(x.dtype), strided=False)

    def _learnt(self, x: Array) -> Any:
        tensor = self._array(x)
        if self.backend == "paddle":
            tensor.stop_gradient = False
        else:
            tensor.requires_grad_(True)
        return tensor

    def _noise(self, seed: int, step: int, at: int, head: Mapping[str, Any], arrays: Mapping[str, Array], dtype: Any) -> Any:
        """Uniform numbers of this step and head: RandomState draws the same in every release of NumPy."""
        _, images, _, height, width = arrays["images"].shape
        drawn = np.random.RandomState([seed, step, at]).random_sample((images, head["channels"], height, width))
        return self._array(drawn.astype(np.float32).astype(dtype))


def _scalar(value: Any) -> Any:
    """The sum of a MixedLoss's list, the mean of an unreduced loss."""
    if isinstance(value, list):
        total = _scalar(value[0])
        for inner in value[1:]:
            total = total + _scalar(inner)
        return total
    return value.mean() if len(value.shape) > 0 else value
