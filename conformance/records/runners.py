"""Calls a loss in its own framework and differentiates it with that framework's autograd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

import unilossseg
from unilossseg.conformance import devices
from unilossseg.conformance.records.errors import RecordError
from unilossseg.conformance.records.identity import genuine
from unilossseg.conformance.records.record import BFLOAT16, FLOATS, Stored
from unilossseg.conformance.records.targets import Target

#: Gives the upstream gradient for a value of that shape and dtype.
Upstream = Callable[[tuple[int, ...], str], Stored]


@dataclass(frozen=True)
class Outcome:
    """What one call gave."""

    value: Stored
    gradient: Stored | None
    upstream: Stored | None
    listed: bool
    changed: tuple[str, ...]
    unused: tuple[str, ...]


class Runner:
    """A framework on a device."""

    def __init__(self, name: str, device: str = devices.CPU) -> None:
        self.name = name
        self.device = device
        self.module: ModuleType = genuine(name)
        devices.place(name, self.module, device)

    def run(self, target: Target, inputs: Mapping[str, Stored], upstream: Upstream) -> Outcome:
        """One call of the target with fresh arrays."""
        arrays = {name: self.array(stored) for name, stored in inputs.items()}
        leaf, labels = self.leaf(arrays["logits"]), arrays["labels"]
        logits = (leaf, arrays["edge_logits"]) if "edge_logits" in arrays else leaf
        keywords = {name: arrays[name] for name in ("noise",) if name in arrays and target.accepts(name)}
        unused = tuple(name for name in ("noise",) if name in arrays and name not in keywords)
        returned = target.call(logits, labels, **keywords)
        values = self.values(target, returned)
        listed = isinstance(returned, list | tuple)
        value = _stacked([self.stored(value) for value in values]) if listed else self.stored(values[0])
        if value.dtype not in FLOATS:
            raise RecordError(f"target {target.name!r}", f"its value is {value.dtype}", "floating point", "Return the loss.")
        if not value.data.size:
            received = f"its value has shape {value.shape}, without a number"
            raise RecordError(f"target {target.name!r}", received, "at least one number", "Return the loss.")
        drawn = upstream(value.shape, value.dtype) if not listed and value.data.size > 1 else None
        gradient = self.gradient(target, (logits, labels, keywords), values, drawn, leaf)
        changed = tuple(name for name, stored in inputs.items() if not self.stored(arrays[name]).same_bits(stored))
        return Outcome(value, gradient, drawn, listed, changed, unused)

    def values(self, target: Target, returned: Any) -> list[Any]:
        """The one value, or the leaves of a list of losses."""
        values = _flattened(returned) if isinstance(returned, list | tuple) else [returned]
        for value in values:
            if not self.is_array(value):
                received = f"it returned a {type(value).__module__}.{type(value).__qualname__}"
                remedy = "Check --framework, and that the target returns the loss itself."
                if target.as_named and callable(value):
                    remedy = f"If it is a factory, name it with parentheses: {target.name}()."
                raise RecordError(f"target {target.name!r}", received, f"an array of {self.name}, or a list of them", remedy)
        if not values:
            raise RecordError(f"target {target.name!r}", "it returned an empty list", "losses", "Return at least one.")
        if isinstance(returned, list | tuple) and any(self.stored(value).data.size != 1 for value in values):
            received = "it returned a list whose members have several numbers"
            raise RecordError(f"target {target.name!r}", received, "a list of single losses", "Reduce them, or record one.")
        return values

    # ------------------------------------------------------------------------------------------------ per framework
    def place(self, target: Target) -> None:
        """Moves what the target holds to the device."""

    def array(self, stored: Stored) -> Any:
        """A fresh array of the framework."""
        raise NotImplementedError

    def stored(self, array: Any) -> Stored:
        """An array's numbers, bit by bit."""
        raise NotImplementedError

    def is_array(self, x: Any) -> bool:
        """Whether it is an array of the framework."""
        raise NotImplementedError

    def leaf(self, logits: Any) -> Any:
        """The logits, to be differentiated by."""
        return logits

    def gradient(
        self,
        target: Target,
        call: tuple[Any, Any, dict[str, Any]],
        values: Sequence[Any],
        upstream: Stored | None,
        leaf: Any,
    ) -> Stored | None:
        """Of the (weighted) sum of the values; None where they do not depend on the logits."""
        raise NotImplementedError


class NumPyRunner(Runner):
    """Losses of unilossseg on NumPy arrays; NumPy has no autograd, so that others would have no gradient."""

    def run(self, target: Target, inputs: Mapping[str, Stored], upstream: Upstream) -> Outcome:
        """As everywhere, after a look at what NumPy cannot do."""
        if not isinstance(target.call, unilossseg.Loss):
            received = f"it is a {type(target.call).__name__}"
            remedy = "Record it with --framework torch or paddle, where autograd differentiates it."
            raise RecordError(f"target {target.name!r} on NumPy", received, "a loss of unilossseg", remedy)
        if any(stored.dtype == BFLOAT16 for stored in inputs.values()):
            raise RecordError(
                "framework numpy", "inputs are bfloat16", "dtypes that NumPy has", "Record it in torch or Paddle."
            )
        return super().run(target, inputs, upstream)

    def array(self, stored: Stored) -> Any:
        """A copy."""
        return stored.data.copy()

    def stored(self, array: Any) -> Stored:
        """A copy; NumPy's scalars are values too."""
        return Stored.of(np.asarray(array))

    def is_array(self, x: Any) -> bool:
        """Arrays and NumPy's scalars."""
        return isinstance(x, np.ndarray | np.generic)

    def gradient(
        self,
        target: Target,
        call: tuple[Any, Any, dict[str, Any]],
        values: Sequence[Any],
        upstream: Stored | None,
        leaf: Any,
    ) -> Stored | None:
        """The closed form's."""
        logits, labels, keywords = call
        weights = None if upstream is None else upstream.data
        assert isinstance(target.call, unilossseg.Loss)  # `run` has looked
        return self.stored(unilossseg.value_and_grad(target.call)(logits, labels, upstream=weights, **keywords)[1])


class TorchRunner(Runner):
    """PyTorch."""

    def place(self, target: Target) -> None:
        """Class weights in buffers move with the Module."""
        if self.device != "cpu" and hasattr(target.call, "to"):
            target.call.to(self.device)

    def array(self, stored: Stored) -> Any:
        """A tensor of its own memory."""
        bits = np.array(stored.data)
        if stored.dtype == BFLOAT16:
            return self.module.from_numpy(bits.view(np.int16)).view(self.module.bfloat16).to(self.device)
        return self.module.from_numpy(bits).to(self.device)

    def stored(self, array: Any) -> Stored:
        """Through an integer's view where NumPy has no such dtype."""
        tensor = array.detach().cpu().contiguous()
        if tensor.dtype == self.module.bfloat16:
            return Stored(tensor.view(self.module.int16).numpy().view(np.uint16).copy(), BFLOAT16)
        return Stored.of(tensor.numpy())

    def is_array(self, x: Any) -> bool:
        """Tensors, parameters too."""
        return isinstance(x, self.module.Tensor)

    def leaf(self, logits: Any) -> Any:
        """It requires a gradient."""
        return logits.requires_grad_(True)

    def gradient(
        self,
        target: Target,
        call: tuple[Any, Any, dict[str, Any]],
        values: Sequence[Any],
        upstream: Stored | None,
        leaf: Any,
    ) -> Stored | None:
        """Autograd's."""
        attached = [value for value in values if value.requires_grad]
        if not attached:
            return None
        weights = [self.module.ones_like(value) if upstream is None else self.array(upstream) for value in attached]
        (gradient,) = self.module.autograd.grad(attached, [leaf], weights, allow_unused=True)
        return None if gradient is None else self.stored(gradient)


class PaddleRunner(Runner):
    """PaddlePaddle."""

    def array(self, stored: Stored) -> Any:
        """A tensor of its own memory; float32 holds bfloat16's numbers exactly on their way."""
        tensor = self.module.to_tensor(np.array(stored.numbers()))
        return tensor.astype("bfloat16") if stored.dtype == BFLOAT16 else tensor

    def stored(self, array: Any) -> Stored:
        """The upper halves of float32 where NumPy has no such dtype."""
        tensor = array.detach()
        if tensor.dtype == self.module.bfloat16:
            bits = np.ascontiguousarray(tensor.astype("float32").numpy()).view(np.uint32)
            return Stored((bits >> np.uint32(16)).astype(np.uint16), BFLOAT16)
        return Stored.of(np.asarray(tensor.numpy()))

    def is_array(self, x: Any) -> bool:
        """Tensors, parameters too."""
        return isinstance(x, self.module.Tensor)

    def leaf(self, logits: Any) -> Any:
        """It does not stop the gradient."""
        logits.stop_gradient = False
        return logits

    def gradient(
        self,
        target: Target,
        call: tuple[Any, Any, dict[str, Any]],
        values: Sequence[Any],
        upstream: Stored | None,
        leaf: Any,
    ) -> Stored | None:
        """By `backward`, as training does it."""
        attached = [value for value in values if not value.stop_gradient]
        if not attached:
            return None
        # `backward` takes no tensor twice: one that is returned twice counts double.
        distinct, times = {id(value): value for value in attached}, Counter(map(id, attached))
        weights = [
            self.module.full_like(value, times[place]) if upstream is None else self.array(upstream)
            for place, value in distinct.items()
        ]
        self.module.autograd.backward(list(distinct.values()), weights)
        return None if leaf.grad is None else self.stored(leaf.grad)


RUNNERS: dict[str, type[Runner]] = {"numpy": NumPyRunner, "torch": TorchRunner, "paddle": PaddleRunner}


def _flattened(values: Sequence[Any]) -> list[Any]:
    return [leaf for value in values for leaf in (_flattened(value) if isinstance(value, list | tuple) else [value])]


def _stacked(values: Sequence[Stored]) -> Stored:
    """Single losses as one array; of several dtypes as float64, which holds all of them."""
    dtypes = {value.dtype for value in values}
    if len(dtypes) > 1:
        return Stored.of(np.stack([value.wide().reshape(()) for value in values]))
    return Stored(np.stack([value.data.reshape(()) for value in values]), dtypes.pop())
