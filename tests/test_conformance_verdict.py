"""The conformance suite's verdict and its cases: what counts as wrong, and on what inputs."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from unilossseg import LOSSES
from unilossseg.conformance import cases, generated, margins, recordings, verdict
from unilossseg.conformance.known import Known
from unilossseg.conformance.protocol import MODES, Outcome, read_outcomes, write_outcomes
from unilossseg.conformance.reference import value_and_gradient
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, Reference, judge

GOLDEN = Path(__file__).parent / "golden" / "paddleseg"


# --- the verdict ------------------------------------------------------------------------------------------------------


def exact(case):
    """The reference as a backend would return it, and the reference."""
    arrays = dict(case.arrays)
    reference = Reference(
        *value_and_gradient(case.loss, case.parameters, arrays.pop("logits"), arrays.pop("labels"), **arrays)
    )
    value = reference.value.astype(np.float64 if case.dtype == "float64" else np.float32)
    outcome = Outcome(value, value.dtype.name, cases.rounded(reference.gradient, case.dtype), case.dtype)
    return outcome, reference


def case_named(name):
    return next(case for case in cases.all_cases([name.partition("/")[0]]) if case.id == name)


@pytest.fixture
def case():
    return case_named("CrossEntropyLoss/paddleseg/plain/float32")


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_the_rounded_reference_conforms(dtype):
    for loss in LOSSES:
        case = next(case for case in cases.all_cases([loss]) if case.id.endswith(f"/plain/{dtype}"))
        assert judge(case, *exact(case)).status == CONFORM


def spoil(case, outcome, what):
    gradient, ignored = outcome.gradient.copy(), case.ignored()
    worst = np.unravel_index(np.argmax(np.abs(gradient)), gradient.shape)
    if what == "one last digit too many":
        gradient[worst] *= 1 + 3e-6
    elif what == "ignored":
        gradient[tuple(np.argwhere(ignored)[0])] = 1e-30
    elif what == "nan":
        gradient[worst] = np.nan
    elif what == "inf":
        return replace(outcome, value=np.asarray(np.float32(np.inf)))
    elif what == "no gradient":
        return replace(outcome, gradient=None, gradient_dtype="")
    elif what == "value":
        return replace(outcome, value=outcome.value * np.float32(1 + 2e-6))
    elif what == "value shape":
        return replace(outcome, value=outcome.value[None])
    elif what == "value dtype":
        return replace(outcome, value_dtype="float64")
    elif what == "gradient shape":
        return replace(outcome, gradient=gradient[:1])
    elif what == "gradient dtype":
        return replace(outcome, gradient_dtype="float16")
    return replace(outcome, gradient=gradient)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("one last digit too many", "gradient is off by"),
        ("ignored", "expected exactly 0"),
        ("nan", "NaN in one alone"),
        ("inf", "+Inf in one alone"),
        ("no gradient", "there is no gradient"),
        ("value", "value is off by"),
        ("value shape", "value has shape (1,), expected ()"),
        ("value dtype", "value has dtype float64, expected float32"),
        ("gradient shape", "gradient has shape"),
        ("gradient dtype", "gradient has dtype float16, expected float32"),
    ],
)
def test_what_is_wrong_differs(case, what, said):
    outcome, reference = exact(case)
    found = judge(case, spoil(case, outcome, what), reference)
    assert found.status == DIFFERS
    assert said in found.message


def test_a_gradient_that_is_not_due_may_be_missing(case):
    outcome, reference = exact(case)
    found = judge(case, spoil(case, outcome, "no gradient"), reference, due=False)
    assert (found.status, found.gradient) == (CONFORM, None)
    off = spoil(case, spoil(case, outcome, "value"), "no gradient")
    assert judge(case, off, reference, due=False).status == DIFFERS


@pytest.mark.parametrize("differentiates", [True, False])
def test_a_gradient_is_due_but_of_plain_formulas_without_an_autograd(differentiates):
    known = Known("numpy", differentiates=differentiates)
    assert [known.owes_gradient(mode) for mode in MODES] == [True, differentiates, True]


def test_a_nan_of_the_reference_excuses_no_other_entry():
    """A NaN in the bounds would let every entry pass."""
    case = case_named("CrossEntropyLoss/paddleseg/NaN-at-a-pixel/float64")
    outcome, reference = exact(case)
    assert np.isnan(reference.gradient).any()
    assert judge(case, outcome, reference).status == CONFORM
    gradient = outcome.gradient.copy()
    gradient[np.unravel_index(np.nanargmax(np.abs(gradient)), gradient.shape)] *= 1.08
    verdict = judge(case, replace(outcome, gradient=gradient), reference)
    assert verdict.status == DIFFERS
    assert "gradient is off by" in verdict.message


def test_float64_must_agree_to_ten_digits():
    case = case_named("DiceLoss/corrected/plain/float64")
    outcome, reference = exact(case)
    assert judge(case, replace(outcome, value=outcome.value * (1 + 1e-9)), reference).status == DIFFERS


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_gradients_may_be_rounded_once(dtype):
    case = case_named(f"CrossEntropyLoss/paddleseg/plain/{dtype}")
    outcome, reference = exact(case)
    worst = np.unravel_index(np.argmax(np.abs(outcome.gradient)), outcome.gradient.shape)
    gradient = outcome.gradient.astype(np.float32)
    gradient[worst] *= 1 + 2 * {"float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]
    assert judge(case, replace(outcome, gradient=gradient), reference).status == DIFFERS


def test_an_all_ignored_batch_must_be_exactly_0():
    for loss in LOSSES:
        case = next(case for case in cases.all_cases([loss]) if case.id.endswith("/all-ignored/float32"))
        outcome, reference = exact(case)
        if case.id.startswith("MSELoss/paddleseg"):
            assert reference.value > 0  # it ignores nothing
            continue
        assert judge(case, outcome, reference).status == CONFORM
        nearly = replace(outcome, value=np.full_like(outcome.value, 1e-20))
        assert "where all pixels are ignored" in judge(case, nearly, reference).message
        alone = replace(nearly, gradient=None, gradient_dtype="")
        assert "where all pixels are ignored" in judge(case, alone, reference, due=False).message


def test_a_recording_is_compared_with_too():
    case = recordings.cases("DiceLoss")[0]
    outcome, reference = exact(case)
    assert judge(case, outcome, reference).status == CONFORM
    other = replace(case, recorded=replace(case.recorded, value=case.recorded.value * np.float32(1 + 1e-4)))
    assert "from PaddleSeg's" in judge(other, outcome, reference).message


def test_a_worker_without_a_result_is_errored(case):
    assert judge(case, Outcome(), exact(case)[1]).status == ERRORED
    assert judge(case, Outcome(error="KeyError: 1"), exact(case)[1]) == verdict.Verdict(ERRORED, "KeyError: 1")


# --- the cases --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything():
    return cases.all_cases()


def test_every_loss_has_cases_in_every_dtype_and_variant(everything):
    assert tuple(generated.LOSSES) == tuple(LOSSES)
    for loss in LOSSES:
        mine = [case for case in everything if case.loss == loss]
        assert {case.dtype for case in mine} == set(cases.DTYPES)
        assert any(case.quick for case in mine)
        assert any(case.layout == "non_contiguous" for case in mine)
        if "variant" in {field.name for field in fields(LOSSES[loss])}:
            assert {case.variant for case in mine} == {"paddleseg", "corrected"}


def test_every_parameter_of_every_loss_is_tried(everything):
    for loss, kind in LOSSES.items():
        tried = {name for case in everything if case.loss == loss for name in case.parameters}
        assert tried == {field.name for field in fields(kind)} - {"validate"}


def test_cases_are_the_same_each_time(everything):
    for case, again in zip(everything, cases.all_cases(), strict=True):
        assert case.id == again.id
        assert case.parameters == again.parameters
        for name, array in case.arrays.items():
            assert array.dtype == again.arrays[name].dtype
            np.testing.assert_array_equal(array, again.arrays[name])


def test_generated_inputs_keep_clear_of_jumps_and_are_rounded(everything):
    for case in everything:
        if case.recorded is None:
            assert margins.is_clear(case.loss, case.parameters, case.arrays)
            assert margins.undecided(case) is None
        np.testing.assert_array_equal(cases.rounded(case.arrays["logits"], case.dtype), case.arrays["logits"])


def test_a_near_tie_is_not_clear():
    logits = np.array([[[1.0, 1.0 + 1e-7, 5.0], [0.0, 0.0, 0.0]]])
    arrays = {"logits": logits, "labels": np.array([[1, 1, 0]])}
    assert not margins.is_clear("CrossEntropyLoss", {}, arrays)
    assert margins.is_clear("CrossEntropyLoss", {}, {**arrays, "logits": np.round(logits)})
    near = cases.Case("x", "LovaszSoftmaxLoss", {}, "float32", "", arrays)
    np.testing.assert_array_equal(margins.undecided(near), [[[True, True, False]] * 2])


def test_the_recordings_in_the_package_are_the_golden_ones():
    entries = json.loads((GOLDEN / "manifest.json").read_text())["cases"]
    mine = {case.id: case for loss in LOSSES for case in recordings.cases(loss)}
    assert len(mine) == len(entries)
    for entry in entries:
        case = mine[f"{entry['loss']}/recorded/{entry['id'].removeprefix(entry['loss'] + '-')}"]
        assert case.parameters == entry["kwargs"]
        with np.load(GOLDEN / f"{entry['id']}.npz", allow_pickle=False) as golden:
            arrays = {**case.arrays, "value": case.recorded.value, "grad": case.recorded.gradient}
            assert set(arrays) == set(golden.files)
            for name in golden.files:
                np.testing.assert_array_equal(arrays[name], golden[name])


def test_two_cases_of_one_name_are_refused(case):
    with pytest.raises(ValueError, match=re.escape(f"two conformance cases are named {case.id}")):
        cases.unique([case, case])


def test_results_travel_through_files_unchanged(tmp_path):
    gradient = cases.rounded(np.array([[1.0, -3.14159, 1e-40, 65504.0]]), "bfloat16")
    sent = {
        "closed form": Outcome(np.asarray(np.float32(1.5)), "float32", gradient, "bfloat16", 0.25),
        "face": Outcome(error="broken"),
    }
    got = read_outcomes(tmp_path / "x.npz", json.loads(json.dumps(write_outcomes(tmp_path / "x.npz", sent))))
    assert got["face"] == sent["face"]
    assert (got["closed form"].gradient_dtype, got["closed form"].seconds) == ("bfloat16", 0.25)
    np.testing.assert_array_equal(got["closed form"].gradient, gradient)
    assert got["closed form"].value.shape == ()


def test_bfloat16_rounds_to_even():
    x = np.array([1.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, -(1 + 2.0**-8), np.inf], dtype=np.float32)
    np.testing.assert_array_equal(cases.rounded(x, "bfloat16"), [1.0, 1.0, 1 + 2.0**-6, -1.0, np.inf])
