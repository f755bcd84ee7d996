"""Cases that are different although their numbers agree are explained too."""

import json

import numpy as np
import pytest
from checks.diagnosis import CASES, drawn, explained, of, recorded
from checks.record_cli import run

from unilossseg import CrossEntropyLoss, DiceLoss
from unilossseg.conformance.records import file
from unilossseg.conformance.records.comparison import compare
from unilossseg.conformance.records.diagnosis import UNKNOWN, diagnose
from unilossseg.conformance.records.thresholds import Allowance


@pytest.mark.parametrize("loss", [CrossEntropyLoss(), DiceLoss()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_value_of_another_dtype_alone(loss, dtype):
    cases = drawn(dtype)
    reference = recorded(of(loss), cases, dtype=dtype)
    candidate = recorded(of(loss), cases, dtype=("float32", dtype))
    (found,) = explained(reference, candidate)
    assert found.title == (f"the numbers agree, but the value has dtype {dtype} in the reference, float32 in the candidate")
    assert (found.certainty, set(found.cases)) == ("explains the difference", set(CASES))
    value = candidate.cases[0].value.wide()
    assert f", {value:.7g} in the candidate; at most " in found.evidence
    assert "(plain)" in found.evidence
    assert ".float()" in found.remedy


def test_a_value_of_another_dtype_is_told_on_the_terminal_and_in_json(project):
    cases = drawn("float16")
    for name, dtype in (("ref.uls", "float16"), ("cand.uls", ("float32", "float16"))):
        file.write(project / name, recorded(of(CrossEntropyLoss()), cases, dtype=dtype))
    said = run("compare", "ref.uls", "cand.uls", "--json", "page.json", expect=1)
    assert "explains the difference (100%): the numbers agree, but the value has dtype float16 in the reference" in said
    (found,) = json.loads((project / "page.json").read_text())["explanations"]
    assert found["cause"] == "dtype alone"


def test_a_dtype_does_not_hide_what_differs_in_other_cases():
    cases = drawn("float16")

    def unmasked(logits, labels):
        return of(CrossEntropyLoss())(logits, np.where(labels == 255, 0, labels))

    reference = recorded(of(CrossEntropyLoss()), cases, dtype="float16")
    first, *_, last = explained(reference, recorded(unmasked, cases, dtype=("float32", "float16")))
    assert (first.cause, set(first.cases)) == ("ignored pixels not masked", {"ignored", "absent", "single"})
    assert (last.cause, set(last.cases)) == ("dtype alone", {"plain", "confident"})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_of_another_dtype(dtype):
    reference, candidate = (recorded(of(DiceLoss()), dtype=dtypes) for dtypes in ("float32", (dtype, "float64")))
    (found,) = explained(reference, candidate)
    words = "dtype float32 in the reference, float64 in the candidate"
    value = f"value has {words} and the " if dtype == "float64" else ""
    assert found.title == f"the numbers agree, but the {value}gradient has {words}"


def test_a_tolerance_that_is_narrower_than_rounding():
    def near(logits, labels):
        value, gradient = of(CrossEntropyLoss())(logits, labels)
        return value * (1 + 1e-6), gradient

    reference, candidate = recorded(of(CrossEntropyLoss())), recorded(near)
    assert diagnose(reference, candidate, compare(reference, candidate)) == []
    (found,) = diagnose(reference, candidate, compare(reference, candidate, Allowance(value=1e-8)))
    assert (found.cause, set(found.cases)) == ("tolerance", set(CASES))
    assert "value error" in found.evidence
    assert "of 1.00e-08 allowed (plain)" in found.evidence


@pytest.mark.parametrize("number", [-np.inf, np.nan, 1.0])
def test_infinities_of_another_sign_do_not_agree(number):
    reference, candidate = (recorded(lambda z, y, n=n: (n, z)) for n in (np.inf, number))
    (found,) = explained(reference, candidate)
    assert found.cause == UNKNOWN
