"""Each known cause is planted, in plain NumPy, and has to be named: lists of losses, and terms of a sum."""

from dataclasses import replace

import numpy as np
import pytest
from checks.diagnosis import CASES, check, explained, of, recorded

from unilossseg import CrossEntropyLoss, DiceLoss
from unilossseg.conformance.records.inputs import Recipe, generated

LARGER = generated(Recipe())


def parts(logits, labels, coefficients, smooth=0.0):
    """The values and gradients of cross entropy, Dice and cross entropy of other logits, times coefficients."""
    found = [of(loss)(logits, labels) for loss in (CrossEntropyLoss(), DiceLoss(smooth=smooth))]
    value, slope = of(CrossEntropyLoss())(logits / 2, labels)
    found.append((value, slope / 2))
    return [(factor * value, factor * slope) for factor, (value, slope) in zip(coefficients, found, strict=False)]


def listed(*coefficients, order=None, smooth=0.0, cases=CASES):
    """The record of a list of losses."""

    def function(logits, labels):
        found = parts(logits, labels, coefficients, smooth)
        values = [value for value, _ in found]
        return np.stack([values[place] for place in order or range(len(found))]), sum(slope for _, slope in found)

    made = recorded(function, cases)
    return replace(made, cases=tuple(replace(case, listed=True) for case in made.cases))


def added(*coefficients, smooth=0.0, cases=CASES):
    """The record of their sum."""

    def function(logits, labels):
        found = parts(logits, labels, coefficients, smooth)
        return sum(value for value, _ in found), sum(slope for _, slope in found)

    return recorded(function, cases)


@pytest.mark.parametrize("order", [(1, 0), (0, 2, 1), (1, 2, 0)])
def test_losses_in_another_order(order):
    coefficients = (1.0, 0.4, 0.7)[: len(order)]
    cause = "losses of a list in another order"
    best = check(listed(*coefficients), listed(*coefficients, order=order), cause, "in the order")
    assert str(order) in best.title


def test_a_coefficient_of_a_list():
    best = check(listed(1.0, 0.4), listed(1.0, 1.0), "coefficients of a list", "a coefficient that only one of the two has")
    assert best.title.endswith("in order, times 1, 2.5")
    # In one case any two lists are multiples of each other.
    plain = {"plain": CASES["plain"]}
    found = explained(listed(1.0, 0.4, cases=plain), listed(1.0, 1.0, cases=plain))
    assert "coefficients of a list" not in [one.cause for one in found]


def test_a_coefficient_of_a_small_loss_is_seen_beside_a_large_one():
    """The last is a hundred thousandth of the first, and twice what it should be."""
    best, *_ = explained(listed(1.0, 1e-5), listed(1.0, 2e-5))
    assert (best.cause, set(best.cases)) == ("coefficients of a list", set(CASES))
    assert best.title.endswith("times 1, 2")


@pytest.mark.parametrize("cases", [CASES, LARGER], ids=["small", "larger"])
@pytest.mark.parametrize(("mine", "theirs"), [(1.0, 0.0), (0.0, 1.0), (1.0, 1e-5)])
@pytest.mark.parametrize("made", [listed, added])
def test_another_smooth_in_a_term(made, mine, theirs, cases):
    reference, candidate = (made(0.8, 0.2, smooth=smooth, cases=cases) for smooth in (mine, theirs))
    words = f"in the candidate behaves like smooth={round(theirs):.1f}", "and 0.2 times what DiceLoss"
    check(reference, candidate, "another smooth", *words)
    assert "half" not in " ".join(one.title for one in explained(reference, candidate))


@pytest.mark.parametrize("cases", [CASES, LARGER], ids=["small", "larger"])
def test_a_term_of_another_formula_is_not_of_half_precision(cases):
    """Errors of half precision's size and of both signs, but of one for each class at the pixels of each label."""

    def powers(smooth):
        def function(logits, labels):
            value, slope = of(CrossEntropyLoss())(logits, labels)
            other, its_slope = of(DiceLoss(smooth=smooth))(logits, labels)
            return 0.8 * value + 0.2 * other**2, 0.8 * slope + 0.4 * other * its_slope

        return function

    found = explained(recorded(powers(1.0), cases), recorded(powers(0.0), cases))
    assert "half" not in " ".join(one.title for one in found)


def test_a_term_that_differs_otherwise_has_no_other_smooth():
    def odd(logits, labels):
        value, slope = of(CrossEntropyLoss())(logits, labels)
        return value + np.sin(9 * logits).mean(), slope + 9 * np.cos(9 * logits) / logits.size

    found = explained(recorded(of(CrossEntropyLoss())), recorded(odd))
    assert "another smooth" not in [one.cause for one in found]
