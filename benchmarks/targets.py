"""The targets, and why a row falls short of one: the only place where either stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """What a loss should reach at N=2, C=19, 512×512, float32, on two cores; None: no target is set."""

    #: How many times as fast as the fastest torch peer.
    torch: float | None
    #: How many times as fast as PaddleSeg's own class.
    paddle: float | None
    #: Peak extra memory, in multiples of the logits, the gradient included.
    memory: float | None

    def speed(self, backend: str) -> float | None:
        """The target of a backend."""
        return {"torch": self.torch, "paddle": self.paddle}[backend]


TARGETS = {
    "CrossEntropyLoss": Target(2.5, 5, 1.3),
    "CrossEntropyLoss top-k": Target(2.5, 5, 1.4),
    "BootstrappedCrossEntropyLoss": Target(2.5, 5, 1.4),
    "OhemCrossEntropyLoss": Target(2.5, 5, 1.4),
    "EdgeAttentionLoss": Target(None, 4, 1.4),
    "OhemEdgeAttentionLoss": Target(None, 4, 1.4),
    "DiceLoss": Target(2, 20, 1.5),
    "LovaszSoftmaxLoss": Target(3, 6, 3),
    "LovaszHingeLoss": Target(2, 3, 12),
    "BCELoss": Target(1.2, 3, 6),
    "BCELoss dynamic": Target(1.2, 3, 6),
    "L1Loss": Target(1.2, 2, 1.2),
    "MSELoss": Target(1.2, 2, 1.2),
    "RelaxBoundaryLoss": Target(None, 25, 2),
    "DualTaskLoss": Target(None, 200, 6),
    "MixedLoss": Target(None, None, None),
}
#: A first call takes no more than this many times a later one.
FIRST_CALL = 2.0
#: Cross entropy takes no more than this many times the floor.
FLOOR = 3.0
#: At 64×64 no loss takes more than this many times a peer's time.
SMALL = 1.5
#: The cost of an element at the largest sizes is at most this many times that at the target's: linear, but for noise and
#: caches.
LINEAR = 1.5

#: (row, backend, what falls short) → why. What: 'speed', 'memory', 'first call', 'floor', 'small' or 'linear'.
REASONS: dict[tuple[str, str, str], str] = {}
NO_REASON = "not explained yet"


def reason(row: str, backend: str, what: str) -> str:
    """Why a row falls short."""
    return REASONS.get((row, backend, what), NO_REASON)


def at_least(value: float | None, target: float | None) -> bool | None:
    """Whether a ratio reaches its target; None where there is no target or no number."""
    return None if value is None or target is None else value >= target


def at_most(value: float | None, target: float | None) -> bool | None:
    """Whether a cost stays within its target; None where there is no target or no number."""
    return None if value is None or target is None else value <= target
