"""How far two records may be apart: the only place where a tolerance of `unilossseg compare` stands.

Unlike the conformance run, there is no float64 truth here: two implementations are compared, each with rounding of its own,
so that a bound is what two of them may add up to. An error is measured against a scale: the largest entry of the
reference's value or gradient. Of a list of losses each has the scale of its own value.
"""

from __future__ import annotations

from dataclasses import dataclass

EPS32 = 2.0**-23
EPS16 = 2.0**-10
EPS_BFLOAT16 = 2.0**-7


@dataclass(frozen=True)
class Threshold:
    """What is allowed for arrays of one dtype."""

    #: Of the scale of the value.
    value: float
    #: Of the scale of the gradient.
    gradient: float
    #: Absolute, for a value: losses are put together from numbers of order one, and a small one is their difference.
    small_value: float
    #: Absolute, for anything: the distance of the smallest numbers of the dtype.
    smallest: float
    reason: str


THRESHOLDS = {
    # Not a rounding error's size (which is 1e-15) but what a wrong epsilon, index or branch never stays under.
    "float64": Threshold(1e-10, 1e-10, 1e-10, 0.0, "a wrong epsilon, index or branch is never smaller; rounding is 1e-15"),
    # Some ten operations a pixel, sums that add up thousands of pixels in some order of their own; a gradient passes through
    # all of it a second time. Losses with differences of large sums (Lovász as it is usually written) lose more than that;
    # the diagnosis says so, and the user may allow for it.
    "float32": Threshold(32 * EPS32, 64 * EPS32, 8 * EPS32, 0.0, "some tens of roundings in each of the two"),
    # Both compute in float32 or better and round once, so that they are at most one step apart where they are worth
    # anything; a chain of half-precision operations is further off, and is a difference.
    "float16": Threshold(EPS16, EPS16, EPS16, 2.0**-24, "one step: each rounds its float32 result once"),
    "bfloat16": Threshold(
        EPS_BFLOAT16, EPS_BFLOAT16, EPS_BFLOAT16, 2.0**-133, "one step: each rounds its float32 result once"
    ),
}


@dataclass(frozen=True)
class Allowance:
    """What a user allows in place of the table, of the scale; None: the table holds.

    A list's scale is then that of its largest loss: of a loss of 0 no share would allow anything.
    """

    value: float | None = None
    gradient: float | None = None


TABLE = Allowance()


def bound(quantity: str, dtype: str, scale: float, allowance: Allowance = TABLE) -> float:
    """The largest absolute error that is allowed for a value or a gradient of a dtype and scale."""
    known = THRESHOLDS[dtype]
    allowed = allowance.value if quantity == "value" else allowance.gradient
    if allowed is not None:
        # The user's share of the scale is all that is allowed: 0 asks for the same numbers.
        return allowed * scale
    if quantity == "value":
        return known.value * scale + known.small_value + known.smallest
    return known.gradient * scale + known.smallest
