"""Cases that are different although their numbers agree are explained too."""

import json
from dataclasses import replace

import numpy as np
import pytest
from checks.diagnosis import CASES, IGNORED, drawn, explained, kept, of, one_hot, recorded, softmax
from checks.record_cli import run

from unilossseg import CrossEntropyLoss, DiceLoss
from unilossseg.conformance.records import file
from unilossseg.conformance.records.comparison import compare
from unilossseg.conformance.records.diagnosis import UNKNOWN, diagnose
from unilossseg.conformance.records.inputs import upstream_for
from unilossseg.conformance.records.record import Record
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


def pixels(logits, labels):
    """Cross entropy of each pixel, with a gradient for ones."""
    p, valid = softmax(logits), (labels != IGNORED)[:, None]
    hot = one_hot(labels, logits.shape[1])
    return -(np.log(p) * hot).sum(axis=1), p * valid - hot


def test_a_value_of_another_dtype_with_an_upstream_gradient_of_its_own():
    def made(dtype):
        cases = []
        for case in recorded(pixels, drawn("float16")).cases:
            upstream = upstream_for(case.name, 0, case.value.shape, dtype)
            gradient = kept(case.gradient.wide() * upstream.wide()[:, None], "float16")
            cases.append(replace(case, value=kept(case.value.wide(), dtype), gradient=gradient, upstream=upstream))
        return Record("my:criterion", {}, IGNORED, 0, {}, tuple(cases))

    (found,) = explained(made("float16"), made("float32"))
    words = "has dtype float16 in the reference, float32 in the candidate"
    assert found.title == f"the numbers agree, but the value {words} and the upstream gradient {words}"


def as_list(record):
    """A record whose value is a list of one loss."""
    cases = [replace(case, listed=True, value=replace(case.value, data=case.value.data.reshape(1))) for case in record.cases]
    return replace(record, cases=tuple(cases))


@pytest.mark.parametrize("target", ["my:criterion", "unilossseg:CrossEntropyLoss"])
def test_a_list_of_one_loss(target):
    number = recorded(of(CrossEntropyLoss()), target=target)
    for pair, title in (
        ((number, as_list(number)), "the candidate returns a list of one loss, the reference the loss itself"),
        ((as_list(number), number), "the reference returns a list of one loss, the candidate the loss itself"),
    ):
        assert not any(verdict.same for verdict in compare(*pair))
        (found,) = explained(*pair)
        assert (found.cause, found.title) == ("list alone", f"the numbers agree, but {title}")
        assert set(found.cases) == set(CASES)
        assert "losses[0]" in found.remedy


def test_a_list_of_one_loss_of_another_dtype():
    number, other = (recorded(of(CrossEntropyLoss()), dtype=(dtype, "float32")) for dtype in ("float32", "float64"))
    assert [found.cause for found in explained(number, as_list(other))] == ["dtype alone", "list alone"]


def test_a_list_of_another_loss_is_explained_by_its_numbers():
    def twice(logits, labels):
        return tuple(2 * number for number in of(CrossEntropyLoss())(logits, labels))

    (found,) = explained(recorded(of(CrossEntropyLoss())), as_list(recorded(twice)))
    assert (found.cause, found.score) == ("constant factor", pytest.approx(1.0))


@pytest.mark.parametrize("number", [-np.inf, np.nan, 1.0])
def test_infinities_of_another_sign_do_not_agree(number):
    reference, candidate = (recorded(lambda z, y, n=n: (n, z)) for n in (np.inf, number))
    (found,) = explained(reference, candidate)
    assert found.cause == UNKNOWN
