"""Losses of one's own, as type checkers see them: each names the inputs that it takes, or none."""

from dataclasses import dataclass
from typing import ClassVar

from unilossseg import Loss
from unilossseg.backends import Array, Backend


@dataclass(eq=False)
class Plain(Loss):
    """Takes none."""

    gamma: float = 2.0

    def compute(self, ops: Backend, logits: Array, labels: Array) -> Array:
        """A formula."""
        return ops.xp.mean(logits) * self.gamma

    def closed_form(
        self, ops: Backend, logits: Array, labels: Array, *, gradient: bool, upstream: Array | None
    ) -> tuple[Array, Array | None]:
        """With its gradient."""
        return self.compute(ops, logits, labels), ops.xp.ones_like(logits) if gradient else None


@dataclass(eq=False)
class Noisy(Loss):
    """Takes one."""

    call_inputs: ClassVar[tuple[str, ...]] = ("noise",)

    def compute(self, ops: Backend, logits: Array, labels: Array, noise: Array) -> Array:
        """A formula."""
        return ops.xp.mean(logits + noise)


@dataclass(eq=False)
class AnyInputs(Loss):
    """Takes whatever comes, as the losses of the package do."""

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """A formula."""
        return ops.xp.mean(logits)


LOSSES: list[Loss] = [Plain(gamma=1.0), Noisy(), AnyInputs(validate=True)]
