"""What the checks of a user's own loss make of outcomes: a gradient that is due and missing is a finding."""

from dataclasses import replace

import numpy as np
import pytest

from unilossseg.conformance import own_loss
from unilossseg.conformance.own_loss import FORMULAS, IN_FLOAT32, Facts, Truth, disagreements, needless, verdicts
from unilossseg.conformance.protocol import CLOSED_FORM, FACE, MODES, PLAIN_FORMULA, Outcome
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED

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
    judged = verdicts(case, SQUARES, outcomes, Truth(right.value, right.gradient), True, due)
    assert list(judged) == list(MODES)
    assert all((verdict.status == CONFORM) == (not verdict.message) for verdict in judged.values())
    return [f"{mode}: {verdict.status}: {verdict.message}" for mode, verdict in judged.items() if verdict.message]


def test_right_outcomes_have_no_failures(case, right):
    assert found(case, right) == []


@pytest.mark.parametrize("mode", MODES)
def test_a_gradient_that_is_due_and_missing(case, right, mode):
    assert found(case, right, **{mode.partition(" ")[0]: without(right, "gradient")}) == [
        f"{mode}: {DIFFERS}: there is no gradient"
    ]


def test_a_plain_formula_owes_none_without_an_autograd(case, right):
    value = without(right, "gradient")
    assert found(case, right, due={CLOSED_FORM, FACE}, plain=value) == []
    assert found(case, right, due={CLOSED_FORM, FACE}, plain=value, closed=value) == [
        f"closed form: {DIFFERS}: there is no gradient"
    ]
    off = replace(value, value=value.value * (1 + 1e-9))
    (line,) = found(case, right, due={CLOSED_FORM, FACE}, plain=off)
    assert line.startswith(f"plain formula: {DIFFERS}: value is off by")


def test_what_raises_has_errored(case, right):
    failed = Outcome(error="KeyError: 'road'")
    assert found(case, right, face=failed) == [f"face: {ERRORED}: KeyError: 'road'"]


def test_a_closed_form_that_differs_from_the_formula_alone(case, right):
    """Within what central differences can tell of a gradient, and beyond what two formulas may differ by."""
    off = replace(right, gradient=right.gradient * (1 + 1e-8))
    (line,) = found(case, right, closed=off)
    assert line.startswith(f"closed form: {DIFFERS}: closed form's gradient is off by 1e-08 of its scale")
    assert "from plain formula's, allowed are 1e-10" in line


@pytest.mark.parametrize("part", ["value", "gradient"])
def test_what_one_of_two_lacks_is_a_disagreement(right, part):
    lacking = without(right, part)
    assert disagreements("torch", right, "paddle", right, FORMULAS) == []
    assert disagreements("torch", right, "paddle", lacking, FORMULAS) == [f"paddle: there is no {part}"]
    assert disagreements("torch", lacking, "paddle", right, FORMULAS) == [f"torch: there is no {part}"]
    both = [f"torch: there is no {part}", f"paddle: there is no {part}"]
    assert disagreements("torch", lacking, "paddle", lacking, FORMULAS) == both


@pytest.mark.parametrize("part", ["value", "gradient"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_one_of_two_has_no_number_for_is_a_disagreement(right, part, number):
    array = getattr(right, part)
    broken, place = replace(right, **{part: np.full_like(array, number)}), (0,) * array.ndim
    lines = {
        name: f"{name}'s {part} is {float(number)!r} at {place}, expected a finite number" for name in ("torch", "paddle")
    }
    assert disagreements("torch", right, "paddle", broken, FORMULAS) == [lines["paddle"]]
    assert disagreements("torch", broken, "paddle", right, FORMULAS) == [lines["torch"]]
    assert disagreements("torch", broken, "paddle", broken, FORMULAS) == list(lines.values())


def test_a_formula_that_is_no_number_is_compared_with_nothing(case, right):
    nan = Truth(np.full_like(right.value, np.nan), np.full_like(right.gradient, np.nan))
    line = "the formula in NumPy is nan at (), expected a finite number: nothing can be compared"
    judged = verdicts(case, SQUARES, dict.fromkeys(MODES, right), nan, True, MODES)
    assert {(verdict.status, verdict.message) for verdict in judged.values()} == {(DIFFERS, line)}


@pytest.mark.parametrize("silent", [0.5, 0.6])
def test_a_gradient_that_central_differences_say_little_of_remains_unchecked(case, right, silent):
    known = right.gradient.copy()
    count = int(np.ceil(silent * known.size))
    known.reshape(-1)[:count] = np.nan
    judged = verdicts(case, SQUARES, {PLAIN_FORMULA: right}, Truth(right.value, known), True, MODES)
    message = judged[PLAIN_FORMULA].message
    assert bool(message) == (silent > 0.5)
    if message:
        assert message.startswith(f"central differences with two steps disagree at {count} of {known.size} logits")
        assert message.endswith("its gradient remains unchecked")


@pytest.mark.parametrize("part", ["value", "gradient"])
@pytest.mark.parametrize("bounds", [0.5, 2.0])
def test_float32_has_a_bound_of_its_own(right, part, bounds):
    made = own_loss.case("own:Squares", "plain/float32", CONDITIONS["plain"], "float32", SQUARES)
    exact, scale = getattr(right, part), max(1.0, float(right.value)) if part == "value" else np.abs(right.gradient).max()
    off = replace(right, value_dtype="float32", gradient_dtype="float32", **{part: exact + bounds * IN_FLOAT32 * scale})
    judged = verdicts(made, SQUARES, {PLAIN_FORMULA: off}, Truth(right.value, right.gradient), True, MODES)
    message = judged[PLAIN_FORMULA].message
    assert bool(message) == (bounds > 1)
    assert message.startswith(f"{part} is off by" if message else "")


def test_a_gradient_that_is_not_due_is_no_disagreement(right):
    assert disagreements(CLOSED_FORM, right, PLAIN_FORMULA, without(right, "gradient"), FORMULAS, due=False) == []


def facts_of(ignore_index, labels, logits=(2, 3, 2)):
    inputs = {"logits": np.zeros(logits), "labels": labels}
    return Facts("Own", closed_form=False, ignore_index=ignore_index, class_labels=True, call_inputs=(), inputs=inputs)


CONDITIONS = {condition.name: condition for condition in own_loss.CONDITIONS}


@pytest.mark.parametrize(
    ("ignore_index", "dtype", "holds"),
    [
        (-100, "uint8", False),
        (255, "uint8", True),
        (255, "int8", False),
        (255, "bool", False),
        (1, "bool", True),
        (-100, "float32", True),
        (2**64 - 1, "int64", False),
        (2**64 - 1, "uint64", True),
    ],
)
def test_a_label_that_the_dtype_cannot_hold_is_nowhere(ignore_index, dtype, holds):
    facts = facts_of(ignore_index, np.zeros((2, 2), dtype))
    reason = needless(CONDITIONS["all ignored"], facts)
    assert reason == ("" if holds else f"Own has labels of {dtype}, which cannot hold its ignore_index, {ignore_index}")
    if holds:
        made = own_loss.case("own:Own", "all-ignored/float64", CONDITIONS["all ignored"], "float64", facts)
        assert np.all(made.arrays["labels"] == ignore_index)


@pytest.mark.parametrize(("ignore_index", "ignored"), [(None, 0), (255, 2), (-100, 2), (2**64 - 1, 0)])
def test_labels_that_are_drawn_are_ignored_where_they_can_be(ignore_index, ignored):
    facts = replace(facts_of(ignore_index, np.zeros(0)), inputs={})
    labels = own_loss.case("own:Own", "plain/float64", CONDITIONS["plain"], "float64", facts).arrays["labels"]
    assert np.sum((labels < 0) | (labels > 2)) == ignored


def drawn(condition, ignore_index):
    facts = replace(facts_of(ignore_index, np.zeros(0)), inputs={})
    return own_loss.case("own:Own", "any/float64", CONDITIONS[condition], "float64", facts).arrays


@pytest.mark.parametrize(("ignore_index", "ignored"), [(None, 0), (255, 2), (-100, 0), (256, 0)])
def test_labels_of_a_byte_are_ignored_where_a_byte_can_say_so(ignore_index, ignored):
    labels = drawn("byte labels", ignore_index)["labels"]
    assert labels.dtype == np.uint8
    assert np.sum(labels > 2) == ignored


def test_confident_pixels_are_right_in_every_second_column():
    arrays = drawn("confident pixels", None)
    powers = np.exp(arrays["logits"] - arrays["logits"].max(axis=1, keepdims=True))
    own = np.take_along_axis(powers / powers.sum(axis=1, keepdims=True), arrays["labels"][:, None], axis=1)
    assert np.all(own[..., ::2] == 1)
    assert np.any(own[..., 1::2] < 1e-6)


@pytest.mark.parametrize("neighbourhood", [False, True])
@pytest.mark.parametrize("every", [False, True])
def test_a_gradient_at_an_ignored_pixel_is_right_beside_a_counted_one_alone(neighbourhood, every):
    facts = replace(facts_of(255, np.zeros(0)), inputs={}, neighbourhood=neighbourhood)
    condition = CONDITIONS["all ignored" if every else "plain"]
    case = own_loss.case("own:Own", "any/float64", condition, "float64", facts)
    lines = list(own_loss._ignored(case, facts, np.full(case.arrays["logits"].shape, 0.5)))
    named = [line.endswith("neighbours says so by `conformance_neighbourhood = True`") for line in lines]
    assert named == ([False] if every else [] if neighbourhood else [True])


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((8, 1), False), ((1, 5), False), ((1, 1, 4), False), ((1, 3, 2), True), ((2, 3, 1), True), ((2, 3), True)],
)
def test_logits_that_are_in_one_piece_in_any_memory(shape, strides):
    reason = needless(CONDITIONS["strided memory"], facts_of(None, np.zeros(shape[:1], np.int64), shape))
    assert (not reason) == strides
    if not strides:
        assert reason == f"Own brings logits of shape {shape}, which are in one piece in whichever order their axes lie"
