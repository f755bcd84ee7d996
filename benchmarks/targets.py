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

_NEAR_THE_FLOOR = (
    "one pass that takes little more than the floor; what is left is what two threads wait for each other between NumPy's "
    "operations. The peer is faster on this machine than where the target was set"
)
_TWO_PASSES = (
    "a pass over the logits for the losses or sums and one for the gradient, each near what memory allows; and two threads "
    "wait for each other between NumPy's operations"
)
_MANY_PASSES = (
    "little work for each element, which NumPy does in a dozen or two short operations where the peer has one loop each way"
)

_FRESH_MEMORY = (
    "a first call touches fresh memory for the gradient, which later calls use again, and starts the threads; most "
    "processes take 1.5 to 1.8 times a later call for it, some wait for the system to put large pages together"
)

#: (row, backend, what falls short) → why. What: 'speed', 'memory', 'first call', 'floor', 'small' or 'linear'.
REASONS: dict[tuple[str, str, str], str] = {
    ("CrossEntropyLoss", "torch", "speed"): _NEAR_THE_FLOOR,
    ("CrossEntropyLoss", "paddle", "speed"): _NEAR_THE_FLOOR,
    ("CrossEntropyLoss top-k", "torch", "speed"): _TWO_PASSES,
    ("CrossEntropyLoss top-k", "paddle", "speed"): _TWO_PASSES,
    ("DiceLoss", "torch", "speed"): _TWO_PASSES,
    ("DiceLoss", "paddle", "speed"): _TWO_PASSES,
    ("LovaszSoftmaxLoss", "torch", "speed"): (
        "a sort of all pixels for each class, 19 of half a million here; the peer sorts each image for itself, which is "
        "another loss, and two or three times as fast where the system's memory is in good order as where it is not"
    ),
    ("LovaszHingeLoss", "torch", "speed"): "its one sort runs on one thread; the peer sorts each image for itself",
    ("BCELoss", "torch", "speed"): _MANY_PASSES,
    ("BCELoss", "paddle", "speed"): _MANY_PASSES,
    ("BCELoss dynamic", "torch", "speed"): _MANY_PASSES,
    ("BCELoss dynamic", "paddle", "speed"): _MANY_PASSES,
    ("L1Loss", "torch", "speed"): _MANY_PASSES,
    ("MSELoss", "torch", "speed"): _MANY_PASSES,
    ("MSELoss", "paddle", "speed"): _MANY_PASSES,
    **{(row, backend, "first call"): _FRESH_MEMORY for row in TARGETS for backend in ("torch", "paddle")},
    ("RelaxBoundaryLoss", "paddle", "speed"): (
        "two softmaxes, over all classes and over those of the neighbourhood, in some twenty passes of NumPy"
    ),
}
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
