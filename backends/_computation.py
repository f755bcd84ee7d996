"""What a loss hands to a framework's autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from unilossseg.backends._backend import Backend

Array = Any


class Computation(Protocol):
    """One call of a loss, as functions of its logits."""

    @property
    def loss(self) -> Any:
        """The loss, by whose `name` errors call it."""

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


def begin(
    ops: Backend, call: Computation, x: Array, half: bool
) -> tuple[Array, Array | None, Callable[[Array], Array] | None, float | None]:
    """What a forward pass computes and keeps: the value, its gradient, what computes one later, and the upstream gradient
    that is in the gradient already. Where that is None there is no gradient yet; `Computation.deferred` says what then.
    """
    # A half-precision gradient is rounded once, after the upstream gradient (a gradient scaler's factor, say) is in it.
    # It comes with the value if that is as it was, and else in the backward pass; always there on a device, which would
    # have to wait for the number that tells.
    expected = None if half else 1.0
    if ops.readable(x):
        expected = call.expected if half else call.factor(x)
    if expected is None:
        value, finish = call.deferred(x)
        return value, None, finish, None
    value, gradient = call.fused(x, True, upstream_of(ops, expected, x))
    return value, gradient, None, expected


def upstream_of(ops: Backend, expected: float, x: Array) -> Array | None:
    """The upstream gradient that is expected, as `Computation.fused` takes it: None for 1."""
    return None if expected == 1 else ops.xp.full((), expected, dtype=ops.work_dtype(x), device=ops.device(x))
