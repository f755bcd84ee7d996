"""Each known cause is planted, in plain NumPy, and has to be named: lists of losses, and terms of a sum."""

from dataclasses import replace

import numpy as np
import pytest
from checks.diagnosis import CASES, check, explained, of, recorded

from unilossseg import CrossEntropyLoss, DiceLoss
from unilossseg.conformance.records import causes_lists
from unilossseg.conformance.records.comparison import compare
from unilossseg.conformance.records.evidence import Evidence
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
    size = "larger" if theirs > mine else "smaller"
    check(reference, candidate, "another smooth", f"in the candidate behaves like one with a {size} smooth")
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


@pytest.mark.parametrize("made", [listed, added])
def test_a_smooth_of_which_only_the_direction_is_known(made):
    """What 1 and 100 differ by is nearly a multiple of what 0 and 1 differ by: no number of them is told."""
    cases = generated(Recipe((1, 4, 64, 64)), ["plain", "ignored"])
    reference, candidate = (made(0.8, 0.2, smooth=smooth, cases=cases) for smooth in (1.0, 100.0))
    words = "candidate behaves like one with a larger smooth than in the reference"
    best = check(reference, candidate, "another smooth", words, "times a constant")
    assert "smooth=" not in best.title


# ------------------------------------------------------------------------------------------------ the gradient of a list
def test_coefficients_of_losses_that_are_not_known_only_play_a_part():
    """The gradient is that of the sum: what it should be is known of losses of this package alone."""
    check(listed(1.0, 0.4, 0.7), listed(1.0, 1.0, 0.7), "coefficients of a list", "times 1, 2.5, 1")
    check(listed(1.0, 0.4, 0.7), listed(1.0, 0.4, 1.4), "coefficients of a list", "times 1, 1, 2", convincing=False)


def test_coefficients_need_no_gradient_where_neither_has_one():
    reference, candidate = (
        replace(made, cases=tuple(replace(case, gradient=None) for case in made.cases))
        for made in (listed(1.0, 0.4), listed(1.0, 1.0))
    )
    check(reference, candidate, "coefficients of a list")


def unmasked(logits, labels):
    return sum(slope for _, slope in parts(logits, np.where(labels == 255, 0, labels), (1.0, 1.0)))


def slopes(logits, labels):
    return sum(slope for _, slope in parts(logits, labels, (1.0, 1.0)))


WRONG = {
    "missing": (lambda z, y: None, "detached gradient"),
    "of ignored pixels": (unmasked, "ignored pixels not masked"),
    "random": (lambda z, y: np.random.default_rng(0).normal(size=z.shape), "gradient of single classes"),
    "twice as large": (lambda z, y: 2 * slopes(z, y), None),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_coefficients_do_not_explain_a_wrong_gradient(wrong):
    gradient, cause = WRONG[wrong]
    made = recorded(lambda z, y: (np.stack([value for value, _ in parts(z, y, (1.0, 1.0))]), gradient(z, y)))
    candidate = replace(made, cases=tuple(replace(case, listed=True) for case in made.cases))
    found = {one.cause: one.certainty for one in explained(listed(1.0, 0.4), candidate)}
    assert found["coefficients of a list"] == "may play a part"
    assert cause is None or cause in found


# ------------------------------------------------------------------------------------------------ lists of other lengths
def for_each_image(backwards=False):
    """The record of a list of one loss per image, which is one for a batch of one."""

    def function(logits, labels):
        found = [of(CrossEntropyLoss())(logits[one : one + 1], labels[one : one + 1]) for one in range(len(logits))]
        values = [value for value, _ in found]
        return np.stack(values[::-1] if backwards else values), np.concatenate([slope for _, slope in found])

    made = recorded(function)
    return replace(made, cases=tuple(replace(case, listed=True) for case in made.cases))


def test_lists_whose_length_is_another_where_they_agree():
    best = check(for_each_image(), for_each_image(backwards=True), "losses of a list in another order", "(1, 0)")
    assert set(best.cases) == set(CASES) - {"single"}


@pytest.mark.parametrize(
    ("coefficients", "order", "cause"),
    [((1.0, 0.4), (1, 0), "losses of a list in another order"), ((1.0, 1.0), None, "coefficients of a list")],
)
def test_lists_that_are_one_number_where_they_agree(coefficients, order, cause):
    sums = {case.name: case for case in added(1.0, 0.4).cases}
    reference, candidate = (
        replace(made, cases=tuple(sums[case.name] if case.name == "single" else case for case in made.cases))
        for made in (listed(1.0, 0.4), listed(*coefficients, order=order))
    )
    best = check(reference, candidate, cause)
    assert set(best.cases) == set(CASES) - {"single"}


def test_coefficients_that_are_small_and_not_the_same():
    evidence = [Evidence.of(verdict, 255) for verdict in compare(listed(1.0, 1.0), listed(1e-5, 2e-5))]
    (found,) = [one for one in causes_lists.hypotheses(evidence) if one.cause == "coefficients of a list"]
    assert found.title.endswith("times 1e-05, 2e-05")
