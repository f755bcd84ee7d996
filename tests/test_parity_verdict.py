"""When two trainings have taken the same path: errors, bounds, and numbers that are not finite."""

import numpy as np
import pytest

from unilossseg.conformance.parity import compare
from unilossseg.conformance.parity.training import Trained


def training(losses, gradient=1.0, parameter=1.0):
    return Trained(np.asarray(losses, float), {"w": np.full(2, gradient)}, {"w": np.full(2, parameter)})


def verdicts(a, b, dtype="float64"):
    start = {"w": np.zeros(2)}
    return {item.quantity: item for item in compare.compare({"a": {dtype: a}, "b": {dtype: b}}, "a", "b", start)}


def test_errors_are_shares_of_the_largest_number():
    found = verdicts(training([2.0, 1.0], 4.0, 8.0), training([2.0, 1.5], 4.4, 8.8))
    errors = [found[quantity].error for quantity in compare.QUANTITIES]
    np.testing.assert_allclose(errors, [0.25, 0.1, 0.1])
    assert found[compare.CURVE].where == "step 2"
    assert not any(item.same for item in found.values())


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_never_the_same(number):
    gone = training([1.0, number], number, number)
    assert not any(item.same for item in verdicts(gone, gone).values())


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_curve_that_diverges_says_where(number):
    a, b = training([1.7, 2.0, number, np.nan]), training([1.7, 2.5, number, np.nan])
    curve = verdicts(a, b)[compare.CURVE]
    assert (curve.parts["step 1"], curve.parts["step 2"]) == (0.0, 0.25)
    assert curve.where == "step 3"
    assert not np.isfinite(curve.error)
    assert not verdicts(training([np.nan]), training([np.nan]))[compare.CURVE].same


def test_zero_must_be_zero_in_both():
    nothing = training([0.0], 0.0, 0.0)
    assert all(item.same for item in verdicts(nothing, nothing).values())
    assert not any(item.same for item in verdicts(nothing, training([1e-12], 1e-12, 1e-12)).values())


def test_rounding_of_both_sides_widens_a_bound_and_that_of_one_does_not():
    exact = {"float64": training([1.0], 1.0, 1.0)}
    off, more = {"float32": training([1.003]), **exact}, {"float32": training([1.007]), **exact}
    start = {"w": np.zeros(2)}
    assert next(iter(compare.compare({"a": off, "b": more}, "a", "b", start))).same
    faithful = {"float32": training([1.0]), **exact}
    assert not next(iter(compare.compare({"a": faithful, "b": more}, "a", "b", start))).same


def test_bounds_grow_with_the_steps_up_to_a_limit():
    for (dtype, _), bound in compare.BOUNDS.items():
        assert bound.at(1) <= bound.at(100) <= bound.limit < 1
        assert dtype != "float64" or bound.limit <= 1e-9
        assert bound.reason
