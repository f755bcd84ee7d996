"""When two records are the same: errors, units in the last place, structure and tolerances."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from checks.diagnosis import recorded
from checks.record_cli import SMALL, run

from unilossseg.conformance.records import comparison, file
from unilossseg.conformance.records.record import Stored
from unilossseg.conformance.records.thresholds import Allowance


def stored(numbers, dtype="float32"):
    return Stored.of(np.asarray(numbers, dtype=dtype))


def part(reference, candidate, quantity="gradient"):
    return comparison.compared(quantity, reference, candidate)


def test_errors_are_shares_of_the_references_largest_entry():
    found = part(stored([4.0, 1.0, 0.0]), stored([4.0, 1.0, 1e-6]))
    assert found.error == pytest.approx(2.5e-7)
    assert (found.scale, found.index, found.candidate) == (4.0, (2,), pytest.approx(1e-6))
    assert found.rtol == np.inf
    assert found.atol == pytest.approx(1e-6)
    assert found.same
    assert not part(stored([4.0, 1.0, 0.0]), stored([4.0, 1.0, 1e-4])).same


def test_a_gradient_that_must_be_zero_is_zero():
    assert part(stored([0.0, 0.0]), stored([0.0, -0.0])).same
    assert not part(stored([0.0, 0.0]), stored([0.0, 1e-30])).same


@pytest.mark.parametrize(
    ("dtype", "steps"),
    [("float16", 3), ("float32", 5), ("float64", 7)],
)
def test_ulp_counts_representable_numbers(dtype, steps):
    start = np.asarray(1.0, dtype)
    end = start
    for _ in range(steps):
        end = np.nextafter(end, np.asarray(2.0, dtype))
    assert part(stored(start, dtype), stored(end, dtype)).ulp == steps
    # Over zero as well, and from one end to the other.
    small = np.nextafter(np.asarray(0, dtype), np.asarray(1, dtype))
    assert part(stored(-small, dtype), stored(small, dtype)).ulp == 2
    most = np.finfo(dtype).max
    assert part(stored([-most], dtype), stored([most], dtype)).ulp > 2 ** (8 * np.dtype(dtype).itemsize - 2)


def test_ulp_of_bfloat16():
    one, next_one = (Stored(np.array([bits], np.uint16), "bfloat16") for bits in (0x3F80, 0x3F81))
    found = part(one, next_one)
    assert (found.ulp, found.error) == (1, 2.0**-7)
    assert found.same
    assert not part(one, Stored(np.array([0x3F82], np.uint16), "bfloat16")).same


@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        (stored([1.0, 2.0]), stored([1.0, 2.0], "float64"), "dtype float32 in the reference, float64"),
        (stored([1.0, 2.0]), stored([[1.0, 2.0]]), r"shape \(2,\) in the reference, \(1, 2\)"),
        (stored([1.0, 2.0]), stored([1.0, np.nan]), r"NaN in other places: 1 of 2, the first at \(1,\), 2 in .*, nan in"),
        (stored([np.inf, 2.0]), stored([-np.inf, 2.0]), "inf in other places"),
        (stored([np.inf, 2.0]), stored([1.0, 2.0]), "inf in other places"),
    ],
)
def test_structure_comes_first(reference, candidate, said):
    found = part(reference, candidate)
    assert re.search(said, found.structure)
    assert not found.same


def test_nan_and_infinity_at_the_same_places_agree():
    numbers = stored([np.nan, np.inf, -np.inf, 1.0])
    assert part(numbers, numbers).same
    assert not part(numbers, stored([np.nan, np.inf, -np.inf, 1.1])).same


def test_one_number_is_one_number():
    assert part(stored(1.5), stored([1.5]), "value").same


def test_a_small_loss_is_a_difference_of_numbers_of_order_one():
    assert part(stored(1e-6), stored(1e-6 + 2e-7), "value").same
    assert not part(stored(1e-6), stored(1e-6 + 2e-7), "gradient").same


@pytest.mark.parametrize(("dtype", "step"), [("float32", 1e-6), ("float64", 1e-11), ("float16", 1e-3)])
def test_each_loss_of_a_list_has_its_own_scale(dtype, step):
    small = 20 * step
    reference, wrong, near = (stored([1.0 / step, 1.0, x], dtype) for x in (small, 2 * small, small * (1 + step / 10)))
    # As one array they have one scale, on which the last is nothing.
    assert part(reference, wrong, "value").same
    found = comparison.compared_lists("value", reference, wrong)
    assert not found.same
    assert (found.index, found.scale) == ((2,), pytest.approx(small, rel=1e-3))
    assert found.error == pytest.approx(1.0, rel=1e-3)
    assert comparison.compared_lists("value", reference, near).same
    assert "dtype" in comparison.compared_lists("value", reference, stored([1, 1, 1], "int64")).structure


def test_what_other_measures_need_for_a_list_is_what_all_its_losses_need():
    """The first loss is off by most of its bound, the second by most of itself."""
    reference, candidate = stored([1000.0, 1e-3]), stored([1000.003, 1.0005e-3])
    found, whole = (function("value", reference, candidate) for function in (comparison.compared_lists, comparison.compared))
    assert found.index == (0,)
    assert (found.rtol, found.atol, found.ulp) == (whole.rtol, whole.atol, whole.ulp)
    assert found.rtol == pytest.approx(5e-4, rel=1e-3)
    assert np.allclose(candidate.data, reference.data, rtol=1.001 * found.rtol, atol=0)


@pytest.mark.parametrize(("share", "same"), [(None, True), (1e-3, True), (0.0, False), (1e-12, False)])
def test_a_tolerance_of_ones_own_is_a_share_of_the_largest_loss_of_a_list(share, same):
    found = comparison.compared_lists("value", stored([3.0, 0.0]), stored([3.0, 1e-9]), Allowance(value=share))
    assert found.same == same
    # One for gradients leaves each loss its own scale.
    assert not comparison.compared_lists("value", stored([3.0, 0.0]), stored([3.0, 2e-6]), Allowance(gradient=0.5)).same


def test_a_list_of_losses_without_a_finite_number():
    numbers = stored([np.nan, np.inf])
    found = comparison.compared_lists("value", numbers, numbers)
    assert found.same
    assert not found.compared
    assert comparison.compared_lists("value", stored([np.nan, 2.0]), stored([np.nan, 2.0])).compared


def test_records_of_other_inputs_are_not_compared(project):
    for name, seed in (("one.uls", 1), ("two.uls", 2)):
        run("record", "unilossseg:DiceLoss", "--seed", seed, "--out", name, *SMALL)
    assert "case 'plain' has other logits" in run("compare", "one.uls", "two.uls", expect=2)
    run("record", "unilossseg:DiceLoss", "--case", "plain", "--out", "three.uls", *SMALL)
    assert "in one of the two records only" in run("compare", "one.uls", "three.uls", expect=2)


def two_losses(*, listed):
    """A loss that returns two, as a list or as one array, whose gradient is that of an upstream gradient then."""
    upstream = None if listed else stored([0.5, -2.0])
    weight = 2.0 if upstream is None else upstream.wide().sum()
    made = recorded(lambda z, y: (np.array([1.0, 2.0]), weight * z))
    return replace(made, cases=tuple(replace(case, listed=listed, upstream=upstream) for case in made.cases))


@pytest.mark.parametrize("listed_first", [True, False])
def test_a_list_of_losses_and_one_array_of_them_are_different(project, listed_first):
    file.write(project / "ref.uls", two_losses(listed=listed_first))
    file.write(project / "cand.uls", two_losses(listed=not listed_first))
    said = run("compare", "ref.uls", "cand.uls", "--json", "page.json", expect=1)
    assert "value     one is a list of losses, the other a single array" in said
    assert "gradient  the two come from different upstream gradients" in said
    for case in json.loads((project / "page.json").read_text())["cases"]:
        assert {"structure", "same"} == set(case["value"]) == set(case["gradient"])
    (found,) = json.loads((project / "page.json").read_text())["explanations"]
    who = ("reference", "candidate") if listed_first else ("candidate", "reference")
    assert found["title"] == "the {} returns a list of losses, the {} the same losses in one array".format(*who)


def test_two_arrays_of_other_upstream_gradients_are_no_replay(project):
    made = two_losses(listed=False)
    other = [replace(case, upstream=stored(case.upstream.data + 1)) for case in made.cases]
    file.write(project / "ref.uls", made)
    file.write(project / "cand.uls", replace(made, cases=tuple(other)))
    assert "has another upstream gradient in the two records" in run("compare", "ref.uls", "cand.uls", expect=2)


def test_a_tolerance_of_ones_own_is_shown(project):
    run("record", "unilossseg:DiceLoss", "--out", "ref.uls", *SMALL)
    run("replay", "ref.uls", "unilossseg:DiceLoss", "--kwargs", '{"smooth": 1e-4}', "--out", "cand.uls")
    run("compare", "ref.uls", "cand.uls", expect=1)
    loose = ("--value-tolerance", "1e-3", "--gradient-tolerance", "1e-3")
    said = run("compare", "ref.uls", "cand.uls", *loose, "--html", "page.html", "--json", "page.json")
    assert "allowed by the user for gradients: 0.001 of the scale" in said
    assert "was allowed for gradients by the user" in (project / "page.html").read_text()
    assert json.loads((project / "page.json").read_text())["allowed_by_the_user"] == {"value": 1e-3, "gradient": 1e-3}
    for bad in ("nan", "inf", "-1", "1"):
        assert "a share of the scale" in run("compare", "ref.uls", "cand.uls", "--value-tolerance", bad, expect=2)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("quantity", ["value", "gradient"])
def test_a_tolerance_of_ones_own_is_a_share_of_the_scale_and_nothing_else(dtype, quantity):
    def same(numbers, share):
        allowed = Allowance(**{quantity: share})
        return comparison.compared(quantity, stored(1e-6, dtype), stored(numbers, dtype), allowed).same

    assert not same(5e-7, 0.0)
    assert not same(5e-7, 0.4)
    assert same(5e-7, 0.6)
    assert same(1e-6, 0.0)


def test_a_tolerance_of_ones_own_leaves_the_other_quantity_as_it_is():
    small = stored(1e-6), stored(1e-6 + 2e-7)
    assert comparison.compared("value", *small, Allowance(gradient=0.0)).same
    assert not comparison.compared("value", *small, Allowance(value=0.0)).same


@pytest.mark.parametrize(
    ("value", "gradient", "noted"),
    [
        (np.nan, np.nan, ["value", "gradient"]),
        (np.inf, 1.0, ["value"]),
        (1.0, np.nan, ["gradient"]),
        (np.nan, None, ["value"]),
        (1.0, 1.0, []),
    ],
)
def test_where_no_finite_number_was_compared_a_note_says_so(project, value, gradient, noted):
    made = recorded(lambda z, y: (value, None if gradient is None else np.full_like(z, gradient)))
    file.write(project / "ref.uls", made)
    said = run("compare", "ref.uls", "ref.uls")
    for quantity in ("value", "gradient"):
        note = f"note: no finite number of the {quantity} was compared"
        assert (f"{quantity:<9} no finite number" in said) == (quantity in noted)
        assert said.count(note) == (len(made.cases) if quantity in noted else 0)


FINITE = "nothing changed, as far as there were finite numbers to compare"


@pytest.mark.parametrize(
    ("value", "gradient", "summary"),
    [
        (1.0, 1.0, "nothing changed: values and gradients agree in 5 cases"),
        (1.0, None, "nothing changed: values agree in 5 cases; no gradient was compared"),
        (1.0, np.nan, f"{FINITE}: values agree in 5 cases; no gradient was compared"),
        (np.inf, 1.0, f"{FINITE}: no value was compared; gradients agree in 5 cases"),
        (np.nan, np.nan, f"{FINITE}: there were none in 5 cases"),
        (np.nan, None, f"{FINITE}: there were none in 5 cases"),
    ],
)
def test_nobody_says_that_what_was_not_compared_agrees(project, value, gradient, summary):
    made = recorded(lambda z, y: (value, None if gradient is None else np.full_like(z, gradient)))
    file.write(project / "ref.uls", made)
    said = run("compare", "ref.uls", "ref.uls", "--html", "page.html", "--json", "page.json")
    assert said.splitlines()[-1] == summary
    found = json.loads((project / "page.json").read_text())
    assert found["summary"] == summary
    page = (project / "page.html").read_text()
    head, colon, rest = summary.partition(":")
    assert f"<strong>✓ {head.capitalize()}{colon}</strong>{rest}." in page
    assert ("agree" in page) == ("agree" in summary)
    numbers = [("value", value), *([] if gradient is None else [("gradient", gradient)])]
    for quantity, number in numbers:
        finite = bool(np.isfinite(number))
        for case in found["cases"]:
            assert (case[quantity]["compared"], case[quantity]["same"]) == (finite, True)
            assert ({"worst", "error", "bound"} <= set(case[quantity])) == finite
            assert finite or set(case[quantity]) == {"same", "compared"}
    missing = sum(not np.isfinite(number) for _, number in numbers)
    assert page.count("not compared</span>") == page.count(">no finite number</td>") == missing * len(made.cases)


def test_a_summary_counts_the_cases_where_something_was_compared(project):
    made = recorded(lambda z, y: (1.0, np.ones_like(z)))
    some = [replace(case, gradient=None) if place < 2 else case for place, case in enumerate(made.cases)]
    file.write(project / "ref.uls", replace(made, cases=tuple(some)))
    last = "nothing changed: values agree in 5 cases; gradients agree in the 3 of 5 cases where they were compared"
    assert run("compare", "ref.uls", "ref.uls").splitlines()[-1] == last


def test_one_finite_number_is_enough_to_be_compared():
    def some(logits, labels):
        return 1.0, np.where(np.arange(logits.size).reshape(logits.shape) == 3, 1.0, np.nan)

    assert [verdict.notes for verdict in comparison.compare(recorded(some), recorded(some))] == [()] * 5
