"""Numbers on a device that are written down first, and calculated by one kernel where somebody needs them."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from unilossseg.backends import _triton_numbers as kernel
from unilossseg.backends._torch_launch import launch

_SIGNS = {
    kernel.ADD: operator.add,
    kernel.SUBTRACT: operator.sub,
    kernel.MULTIPLY: operator.mul,
    kernel.DIVIDE: operator.truediv,
}


class Number:
    """A number that nobody has read: a tensor's entry or sum, or two numbers and a sign between them.

    It is calculated in float64. Beside an array of more than one entry it becomes a tensor.
    """

    __slots__ = ("kind", "operands")

    def __init__(self, kind: int, *operands: Any) -> None:
        self.kind, self.operands = kind, operands

    @classmethod
    def of(cls, tensor: torch.Tensor, at: int = 0) -> Number:
        """An entry of a tensor without gaps."""
        return cls(kernel.READ, tensor, at)

    @classmethod
    def total(cls, parts: torch.Tensor) -> Number:
        """The sum of a row's entries: a step of the calculation where they are few enough for one program."""
        return cls(kernel.SUM, parts, 0) if parts.numel() <= kernel.MOST_SUMMED else cls.of(torch.sum(parts))

    def tensor(self) -> torch.Tensor:
        """Calculated: float32, of no axes."""
        return calculated([self])[0]

    def _with(self, other: Any, kind: int, turned: bool = False) -> Any:
        if isinstance(other, torch.Tensor):
            if other.ndim:
                sign = _SIGNS[kind]
                return sign(other, self.tensor()) if turned else sign(self.tensor(), other)
            other = Number.of(other)
        return Number(kind, other, self) if turned else Number(kind, self, other)

    def __add__(self, other: Any) -> Any:
        return self._with(other, kernel.ADD)

    def __radd__(self, other: Any) -> Any:
        return self._with(other, kernel.ADD, turned=True)

    def __sub__(self, other: Any) -> Any:
        return self._with(other, kernel.SUBTRACT)

    def __rsub__(self, other: Any) -> Any:
        return self._with(other, kernel.SUBTRACT, turned=True)

    def __mul__(self, other: Any) -> Any:
        return self._with(other, kernel.MULTIPLY)

    def __rmul__(self, other: Any) -> Any:
        return self._with(other, kernel.MULTIPLY, turned=True)

    def __truediv__(self, other: Any) -> Any:
        return self._with(other, kernel.DIVIDE)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with(other, kernel.DIVIDE, turned=True)


def calculated(numbers: Sequence[Number]) -> list[torch.Tensor]:
    """All of them, by one kernel; where it cannot name what they are made of, by torch's operations."""
    program = _Program()
    for place, number in enumerate(numbers):
        program.steps.append((kernel.WRITE, program.step_of(number), place))
    tensors, constants = program.tensors, program.constants
    # Tensors that are summed up have one length in common.
    sizes = {tensors[at].numel() for kind, at, _ in program.steps if kind == kernel.SUM}
    if len(tensors) > kernel.MOST_TENSORS or len(constants) > kernel.MOST_CONSTANTS or len(sizes) > 1:
        found: dict[int, torch.Tensor] = {}
        return [_by_torch(number, found).float() for number in numbers]
    # One alone gets room without axes: a view, which an entry would be, costs the host more time.
    out = torch.empty(() if len(numbers) == 1 else len(numbers), dtype=torch.float32, device=tensors[0].device)
    pairs = [half for number in constants for half in _halves(number)]
    pairs += [0.0] * (2 * kernel.MOST_CONSTANTS - len(pairs))
    size, warps = (sizes.pop(), kernel.SUMMING_WARPS) if sizes else (0, 1)
    tensors += [out] * (kernel.MOST_TENSORS - len(tensors))
    launch(kernel.calculate, (1,), out, *tensors, size, *pairs, tuple(program.steps), num_warps=warps)
    return list(out.unbind()) if out.ndim else [out]


def _by_torch(number: Number, found: dict[int, torch.Tensor]) -> torch.Tensor:
    """In float64, an operation for each sign, each once; `found` are the numbers calculated so far, by their id."""
    if id(number) not in found:
        first, second = number.operands
        if number.kind == kernel.READ:
            found[id(number)] = first.view(-1)[second].double()
        elif number.kind == kernel.SUM:
            found[id(number)] = torch.sum(first, dtype=torch.float64)
        else:
            pair = [_by_torch(one, found) if isinstance(one, Number) else one for one in (first, second)]
            found[id(number)] = _SIGNS[number.kind](*pair)
    return found[id(number)]


@functools.lru_cache(4096)
def _halves(number: float) -> tuple[float, float]:
    """Two float32 that are the number together: Triton takes numbers as float32."""
    high = float(np.float32(number))
    return high, float(np.float32(number - high))


class _Program:
    """The steps of some numbers, each once."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, int]] = []
        self.tensors: list[torch.Tensor] = []
        self.constants: list[float] = []
        self._found: dict[Any, int] = {}

    def step_of(self, number: Any) -> int:
        """Where the number's step stands."""
        key = id(number) if isinstance(number, Number) else float(number)
        if key not in self._found:
            step = self._step(number)
            self._found[key] = len(self.steps)
            self.steps.append(step)
        return self._found[key]

    def _step(self, number: Any) -> tuple[int, int, int]:
        if not isinstance(number, Number):
            self.constants.append(float(number))
            return kernel.CONSTANT, len(self.constants) - 1, 0
        first, second = number.operands
        if number.kind not in (kernel.READ, kernel.SUM):
            return number.kind, self.step_of(first), self.step_of(second)
        for at, tensor in enumerate(self.tensors):
            if tensor is first:
                return number.kind, at, second
        self.tensors.append(first)
        return number.kind, len(self.tensors) - 1, second
