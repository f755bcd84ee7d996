"""What the checks of a user's own loss make of outcomes: a gradient that is due and missing is a finding."""

from dataclasses import replace

import numpy as np
import pytest

from unilossseg.conformance import own_loss
from unilossseg.conformance.own_loss import FORMULAS, Facts, Truth, disagreements, failures
from unilossseg.conformance.protocol import CLOSED_FORM, FACE, MODES, PLAIN_FORMULA, Outcome

SQUARES = Facts("Squares", closed_form=True, ignore_index=None, class_labels=False, call_inputs=(), inputs={})


@pytest.fixture
def case():
    name, condition, dtype = next(entry for entry in own_loss.names() if entry[2] == "float64")
    return own_loss.case("own:Squares", name, condition, dtype, SQUARES)


@pytest.fixture
def right(case):
    off = case.arrays["logits"] - case.arrays["labels"]
    return Outcome(np.asarray(np.mean(off**2)), "float64", 2 * off / off.size, "float64")


def without(outcome, part):
    return replace(outcome, **{part: None, f"{part}_dtype": ""})


def found(case, right, due=MODES, **changed):
    outcomes = {mode: changed.get(mode.partition(" ")[0], right) for mode in MODES}
    return failures(case, SQUARES, outcomes, Truth(right.value, right.gradient), True, due)


def test_right_outcomes_have_no_failures(case, right):
    assert found(case, right) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_gradient_that_is_due_and_missing(case, right, mode):
    assert found(case, right, **{mode.partition(" ")[0]: without(right, "gradient")}) == [f"{mode}: there is no gradient"]


def test_a_plain_formula_owes_none_without_an_autograd(case, right):
    value = without(right, "gradient")
    assert found(case, right, due={CLOSED_FORM, FACE}, plain=value) == []
    assert found(case, right, due={CLOSED_FORM, FACE}, plain=value, closed=value) == ["closed form: there is no gradient"]
    off = replace(value, value=value.value * (1 + 1e-9))
    (line,) = found(case, right, due={CLOSED_FORM, FACE}, plain=off)
    assert line.startswith("plain formula: value is off by")


@pytest.mark.parametrize("part", ["value", "gradient"])
def test_what_one_of_two_lacks_is_a_disagreement(right, part):
    lacking = without(right, part)
    assert disagreements("torch", right, "paddle", right, FORMULAS) == []
    assert disagreements("torch", right, "paddle", lacking, FORMULAS) == [f"paddle: there is no {part}"]
    assert disagreements("torch", lacking, "paddle", right, FORMULAS) == [f"torch: there is no {part}"]
    both = [f"torch: there is no {part}", f"paddle: there is no {part}"]
    assert disagreements("torch", lacking, "paddle", lacking, FORMULAS) == both


def test_a_gradient_that_is_not_due_is_no_disagreement(right):
    assert disagreements(CLOSED_FORM, right, PLAIN_FORMULA, without(right, "gradient"), FORMULAS, due=False) == []
