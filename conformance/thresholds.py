"""Every tolerance of the verdict on the package's losses, with its reason: there is no other place where one stands.

An error is compared with the scale of what it is an error of. For a gradient that is the largest entry of the reference's
gradient. For a value it is the reference's value, or 1 where that is less: losses are put together from numbers of order
one (probabilities, overlaps, logarithms of sums of them), and a small loss is a difference of such numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

EPS32 = 2.0**-23


@dataclass(frozen=True)
class Tolerance:
    """How far a candidate may be from the float64 reference on the same rounded inputs."""

    #: Of the value's scale.
    value: float
    #: Of the gradient's scale.
    gradient: float
    #: Of each entry of the gradient: what rounding it once to the logits' dtype may cost.
    rounding: float = 0.0
    #: Absolute, for each entry: half of the distance of the smallest numbers of the logits' dtype.
    smallest: float = 0.0


#: float32 is off by half an eps in each operation. A value's sums are accumulated in float64, so that some eight operations
#: on numbers of its size remain.
VALUE32 = 4 * EPS32
#: A gradient passes through a softmax, a division and the products of the chain rule, some thirty operations.
GRADIENT32 = 16 * EPS32
#: Further losses whose gradient has a longer way, in place of GRADIENT32.
LONGER_GRADIENTS = {
    # Through two filters of nine taps and a difference, there and back, and a square root near whose zero (1e-3 in the
    # formula) its slope turns rounding of the smoothed image into rounding of the gradient: some hundred operations.
    "DualTaskLoss": 48 * EPS32,
}

TOLERANCES = {
    # Not a rounding error's size (which is 1e-15) but what a wrong epsilon, index or branch never stays under.
    "float64": Tolerance(1e-10, 1e-10),
    "float32": Tolerance(VALUE32, GRADIENT32),
    # Computed in float32, then each entry of the gradient is rounded once: half of the spacing, 2**-11 or 2**-8.
    "float16": Tolerance(VALUE32, GRADIENT32, rounding=2.0**-11, smallest=2.0**-25),
    "bfloat16": Tolerance(VALUE32, GRADIENT32, rounding=2.0**-8, smallest=2.0**-134),
}


def roundings(loss: str, terms: int) -> int:
    """How many times a half-precision gradient is rounded.

    Once. That of a MixedLoss is a sum of gradients that are in half precision already, each with its coef in it.
    """
    return 2 * terms - 1 if loss == "MixedLoss" else 1


def gradient_tolerance(loss: str, dtype: str) -> float:
    """What a gradient may be off by, of its scale, before it is rounded to half precision."""
    return TOLERANCES[dtype].gradient if dtype == "float64" else LONGER_GRADIENTS.get(loss, GRADIENT32)


# The error ratio: beside a native implementation of the same framework, on the same inputs in the same dtype. It binds where
# the bounds above leave more room than that implementation needs.
#: Of the scale. What a correctly rounded result costs (half an eps) and some three roundings more: below that, whose error
#: is larger is a matter of luck. In eps of float32 for half precision too, which is computed in float32: the one rounding of
#: its gradient is the native implementation's as well. In a full run all but a few in a thousand exceed the native by less.
NATIVE_ALLOWANCE = 2 * EPS32
#: How many times the native errors a candidate's may be: another order of the same sums is off by up to twice as much, half
#: precision, with its few digits, by three times as much.
_NATIVE_FACTORS = {"float32": 2.0, "float16": 3.0, "bfloat16": 3.0}
#: Of fewer entries than that one lucky native rounding moves the root mean square and the maximum.
_FEW_ENTRIES, _FACTOR_OF_FEW = 1000, 5.0


def native_allowance(loss: str, part: str) -> float:
    """What an error may exceed the native ones by, of the scale; more where a gradient's way is longer, as in its bound."""
    return NATIVE_ALLOWANCE * (LONGER_GRADIENTS.get(loss, GRADIENT32) / GRADIENT32 if part == "gradient" else 1.0)


def native_factor(dtype: str, entries: int) -> float:
    """How many times the native errors a candidate's may be."""
    return _FACTOR_OF_FEW if entries < _FEW_ENTRIES else _NATIVE_FACTORS[dtype]


# Recordings are float32 results of another implementation, with its own noise: this much they are off by themselves,
# found when they were recorded by comparing them with the formulas in float64.
RECORDED_VALUE = 2e-5
RECORDED_GRADIENT = 1e-4
#: At the pixels of recorded inputs that float32 cannot put in order (`margins.undecided`), where the weight of either of two
#: neighbours in a Lovász sort is right: among the hundreds of pixels of these inputs neighbours weigh almost the same.
#: Generated inputs have no such pixel.
UNDECIDED_GRADIENT = 64 * EPS32
