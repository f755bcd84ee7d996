"""Whether two trainings are the same: three errors, and the table of what each may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unilossseg.conformance.cases import Array
from unilossseg.conformance.parity.training import Trained

CURVE, GRADIENTS, DRIFT = "loss curve", "gradients of step 1", "parameters after the last step"
QUANTITIES = (CURVE, GRADIENTS, DRIFT)


@dataclass(frozen=True)
class Bound:
    """What an error may be: `start + growth * steps ** 3`, but no more than `limit`."""

    start: float
    growth: float
    limit: float
    reason: str

    def at(self, steps: int) -> float:
        """The bound for a training of so many steps."""
        return min(self.start + self.growth * steps**3, self.limit)


_DOUBLE = "float64 rounding; measured over all losses: at most {}"
_KINKS = (
    "rounding to float32 (1e-7) puts one of a million activations on the other side of its ReLU every few steps, or a pixel "
    "on the other side of a loss's threshold; the following steps amplify that. Measured over all losses and three seeds: "
)
#: The errors are shares of the largest number: of the curve, of each parameter's gradient, of each parameter's whole way.
BOUNDS: dict[tuple[str, str], Bound] = {
    ("float64", CURVE): Bound(1e-9, 0.0, 1e-9, _DOUBLE.format("8e-15")),
    ("float64", GRADIENTS): Bound(1e-9, 0.0, 1e-9, _DOUBLE.format("3e-13")),
    ("float64", DRIFT): Bound(1e-9, 0.0, 1e-9, _DOUBLE.format("2e-13")),
    ("float32", CURVE): Bound(1e-4, 2e-8, 0.05, _KINKS + "at most 5e-5 after 30 steps and 6e-3 after 100"),
    ("float32", GRADIENTS): Bound(
        5e-4, 0.0, 5e-4, "float32 rounding; an L1 error of one pixel that changes its sign is 1e-4. Measured: at most 1.5e-4"
    ),
    ("float32", DRIFT): Bound(1e-3, 5e-8, 0.1, _KINKS + "at most 1e-3 after 30 steps and 2e-2 after 100"),
}
#: A training that amplifies more than those that the table was measured with: how far two frameworks may be apart, in
#: multiples of the distance of each from its own float64 training (of the smaller one: a fault of one side earns nothing).
OWN_FACTOR = 4.0


@dataclass(frozen=True)
class Comparison:
    """One error of two trainings and its bound."""

    quantity: str
    dtype: str
    error: float
    bound: float
    #: The smaller of the distances from the own float64 trainings; None in float64.
    own: float | None
    reason: str
    #: The error of each parameter, or of each step.
    parts: dict[str, float]

    @property
    def same(self) -> bool:
        """Whether the error keeps its bound; NaN does not."""
        return self.error <= self.bound

    @property
    def where(self) -> str:
        """The parameter or step of the largest error; the first whose error is not finite, if any is."""
        return max(self.parts, key=lambda part: (not math.isfinite(self.parts[part]), self.parts[part]))


def compare(
    trained: Mapping[str, Mapping[str, Trained]], first: str, second: str, start: Mapping[str, Array]
) -> list[Comparison]:
    """Compares two backends in every dtype that they trained in.

    Parameters
    ----------
    trained
        By backend and dtype.
    first, second
        The backends; errors are shares of the first one's numbers.
    start
        The initial weights.
    """
    found = []
    both = trained[first], trained[second]
    for dtype in trained[first]:
        a, b = trained[first][dtype], trained[second][dtype]
        for quantity in QUANTITIES:
            parts = errors(quantity, a, b, start)
            bound = BOUNDS[dtype, quantity]
            allowed, reason, own = bound.at(len(a.losses)), bound.reason, None
            if dtype != "float64" and "float64" in trained[first]:
                own = min(worst(errors(quantity, side["float64"], side[dtype], start)) for side in both)
                if allowed < (widened := min(OWN_FACTOR * own, bound.limit)):
                    allowed = widened
                    reason = f"{OWN_FACTOR:g} times the distance of either backend from its own float64 training"
            found.append(Comparison(quantity, dtype, worst(parts), allowed, own, reason, parts))
    return found


def errors(quantity: str, a: Trained, b: Trained, start: Mapping[str, Array]) -> dict[str, float]:
    """The parts of an error, as shares of the numbers of `a`; NaN where a training diverged."""
    with np.errstate(invalid="ignore"):
        return _errors(quantity, a, b, start)


def _errors(quantity: str, a: Trained, b: Trained, start: Mapping[str, Array]) -> dict[str, float]:
    if quantity == CURVE:
        # A curve that diverges was right until then, and the record is to show where it was not.
        scale = float(np.max(np.abs(a.losses[np.isfinite(a.losses)]), initial=0.0))
        return {f"step {at + 1}": _share(gap, scale) for at, gap in enumerate(np.abs(a.losses - b.losses))}
    if quantity == GRADIENTS:
        return {name: _distance(a.gradients[name], b.gradients[name], 0 * a.gradients[name]) for name in a.gradients}
    return {name: _distance(a.parameters[name], b.parameters[name], start[name]) for name in a.parameters}


def worst(parts: Mapping[str, float]) -> float:
    """The largest error; NaN if any is."""
    return float(np.max(list(parts.values())))


def _distance(a: Array, b: Array, origin: Array) -> float:
    """How far b is from a, as a share of how far a is from the origin."""
    return _share(float(np.max(np.abs(a - b))), float(np.max(np.abs(a - origin))))


def _share(gap: float, scale: float) -> float:
    # A number that is 0 in one framework must be 0 in the other.
    if scale == 0:
        return 0.0 if gap == 0 else math.inf
    return float(gap) / scale
