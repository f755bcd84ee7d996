"""What a loss hands to a framework's autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

Array = Any


class Computation(Protocol):
    """One call of a loss, as functions of its logits."""

    def plain(self, x: Array) -> Array:
        """The value by the formula, differentiable."""

    def fused(self, x: Array, gradient: bool, upstream: Array | None) -> tuple[Array, Array | None]:
        """The value and, if wanted, the gradient of sum(value * upstream) by the closed form."""

    def deferred(self, x: Array) -> tuple[Array, Callable[[Array], Array] | None]:
        """The value, and what computes the gradient of an upstream one, and is called once; None: `fused` does."""

    def hand_over(self) -> tuple[Array, ...]:
        """The call's arrays beside its logits, which it no longer has: a graph keeps them, as long as the framework says."""

    def holding(self, arrays: Sequence[Array]) -> Computation:
        """The same call with them again."""

    def factor(self, x: Array) -> float:
        """The upstream gradient to expect of whoever multiplies the value by numbers that are known before: else 1."""

    @property
    def expected(self) -> float | None:
        """The upstream gradient that the loss got twice running, 1 before the first; None: they were two."""

    def remember(self, upstream: float) -> None:
        """What came; an overflow is no factor to expect."""
