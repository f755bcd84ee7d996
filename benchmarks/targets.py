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

_ONE_CHANNEL = (
    "the loop, which checks and counts the labels as it goes, takes less time than the peer; a call's 0.1 to 0.2 ms of "
    "Python, several times that when nothing of it is in a cache, come on top of so few elements"
)
_FRESH_MEMORY = (
    "the system clears the memory of the first gradient, page by page, which takes as long as the work itself; later calls "
    "write into the same memory again, where most peers take fresh memory at every call"
)
_FIRST_OF_FEW = (
    "of the 1 to 2 ms that the first call takes longer, half is Python code, ours and the framework's, that runs for the "
    "first time (a call on a tiny image before takes it away), the rest a thread that starts and the gradient's memory; "
    "later calls take half a millisecond; the peer's first call takes longer than ours"
)
_IN_PYTHON = (
    "a call costs 0.1 to 0.2 ms of Python whatever its size, and several times that after the pause between contestants, "
    "when nothing of it is in a cache"
)

_ONE_CHANNEL_ROWS = ("BCELoss", "BCELoss dynamic")

#: (row, backend, what falls short) → why. What: 'speed', 'memory', 'first call', 'floor', 'small' or 'linear'.
REASONS: dict[tuple[str, str, str], str] = {
    ("BCELoss", "torch", "speed"): _ONE_CHANNEL,
    ("BCELoss dynamic", "torch", "speed"): _ONE_CHANNEL,
    **{
        (row, backend, "first call"): _FIRST_OF_FEW if row in _ONE_CHANNEL_ROWS else _FRESH_MEMORY
        for row in TARGETS
        for backend in ("torch", "paddle")
    },
    **{(row, backend, "small"): _IN_PYTHON for row in TARGETS for backend in ("torch", "paddle")},
    **{
        (row, backend, "linear"): (
            "a larger share of more pixels weighs: the smallest error of the foreground, below which the background is not "
            "sorted, gets smaller; and each step of the loss goes to its pixel, which is in no cache any more"
        )
        for row in ("LovaszSoftmaxLoss", "MixedLoss")
        for backend in ("torch", "paddle")
    },
    **{
        ("RelaxBoundaryLoss", backend, "linear"): "its mask of the classes near a pixel no longer fits a cache"
        for backend in ("torch", "paddle")
    },
    **{
        (row, backend, "linear"): (
            "nothing but memory counts at that size, and how fast it is differs from process to process: L1Loss took 31, 54 "
            "and 147 ms in three"
        )
        for row in ("L1Loss", "MSELoss", "DualTaskLoss")
        for backend in ("torch", "paddle")
    },
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
