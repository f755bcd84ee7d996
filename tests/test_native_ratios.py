"""The error ratio: errors within their bounds are compared with those of a native implementation."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from checks.stored_runs import exact, made, plain_cases, result, scaled, stored
from typer.testing import CliRunner

from unilossseg import LOSSES
from unilossseg.backends import is_installed
from unilossseg.conformance import cases, cli, pool, ratios, run
from unilossseg.conformance.known import Known
from unilossseg.conformance.protocol import FACE, NATIVE, PLAIN_FORMULA, Outcome
from unilossseg.conformance.ratios import FAIL, PASS, WARNING, native_of, ratio
from unilossseg.conformance.reports import files, junit, markdown, reader
from unilossseg.conformance.run import Prepared, judged
from unilossseg.conformance.thresholds import (
    EPS32,
    GRADIENT32,
    NATIVE_ALLOWANCE,
    VALUE32,
    gradient_tolerance,
    native_allowance,
    native_factor,
)
from unilossseg.conformance.verdict import CONFORM, DIFFERS, judge

NAME = "torch.nn.functional.cross_entropy"


def case_named(name):
    return next(case for case in cases.all_cases([name.partition("/")[0]]) if case.id == name)


@pytest.fixture(scope="module")
def case():
    return case_named("CrossEntropyLoss/paddleseg/plain/float32")


def off(outcome, reference, gradient=0.0, value=0.0):
    """An outcome whose largest gradient, and whose value, are off by so many eps of the scale, held in float64."""
    wrong = reference.gradient.copy()
    largest = np.abs(wrong).max()
    wrong[np.unravel_index(np.abs(wrong).argmax(), wrong.shape)] += gradient * EPS32 * largest
    scale = max(1.0, float(np.abs(reference.value).max()))
    return replace(outcome, gradient=wrong, value=reference.value + value * EPS32 * scale)


# --- the verdict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mine", "native", "level"),
    [
        (0.5, 0.4, PASS),
        (1.9, 0.0, PASS),  # a few eps are luck
        (3.0, 1.5, PASS),
        (5.0, 1.0, WARNING),
        (6.9, 1.0, WARNING),
        (8.0, 1.0, FAIL),
        (15.0, 14.0, PASS),
        (15.0, 0.5, FAIL),
    ],
)
def test_a_ratio_decides_within_the_bounds(case, mine, native, level):
    outcome, reference = exact(case)
    got, other = off(outcome, reference, gradient=mine), off(outcome, reference, gradient=native)
    assert judge(case, got, reference).status == CONFORM  # the absolute bound has nothing against it
    verdict = judge(case, got, reference, (NAME, other))
    assert verdict.gradient.ratio < 1
    assert verdict.gradient.native.level == level
    assert verdict.status == (DIFFERS if level == FAIL else CONFORM)
    assert bool(verdict.warning) == (level == WARNING)
    assert bool(verdict.message) == (level == FAIL)
    assert verdict.native == NAME
    assert verdict.gradient.native.largest_ratio == pytest.approx(mine / native if native else np.inf, rel=1e-6)


def test_the_value_has_a_ratio_too(case):
    outcome, reference = exact(case)
    verdict = judge(case, off(outcome, reference, value=3.5), reference, (NAME, off(outcome, reference, value=0.1)))
    assert verdict.status == DIFFERS
    assert verdict.value.ratio < 1
    assert verdict.message.startswith("value's RMSE is ")
    assert f"times that of {NAME} (allowed are 5 times, and 2.4e-07 of the scale)" in verdict.message


def test_many_small_errors_show_in_the_root_mean_square_alone(case):
    _, reference = exact(case)
    wanted, scale = reference.gradient, np.abs(reference.gradient).max()
    place = np.unravel_index(np.abs(wanted).argmax(), wanted.shape)
    native = wanted.copy()
    native[place] += 6 * EPS32 * scale
    found = ratio("float32", wanted + 4 * EPS32 * scale, native, wanted, scale=scale, allowance=NATIVE_ALLOWANCE)
    assert found.largest_ratio < 1 < found.rmse_ratio
    assert found.level == WARNING
    assert "RMSE" in ratios.in_words("gradient", found, NAME)
    assert "largest" not in ratios.in_words("gradient", found, NAME)


def test_the_factor_depends_on_dtype_and_size():
    assert [native_factor(dtype, 1000) for dtype in ("float32", "float16", "bfloat16")] == [2, 3, 3]
    assert [native_factor(dtype, 999) for dtype in ("float32", "float16", "bfloat16")] == [5, 5, 5]
    wanted, native = np.ones(1000), np.full(1000, 1 + 2 * EPS32)
    got = np.full(1000, 1 + 7 * EPS32)
    levels = {
        dtype: ratio(dtype, got, native, wanted, scale=1.0, allowance=NATIVE_ALLOWANCE).level
        for dtype in ("float32", "float16")
    }
    assert levels == {"float32": FAIL, "float16": WARNING}
    assert ratio("float32", got[:999], native[:999], wanted[:999], scale=1.0, allowance=NATIVE_ALLOWANCE).level == WARNING


def test_it_can_only_bind_below_the_absolute_bound():
    assert NATIVE_ALLOWANCE < VALUE32 < GRADIENT32
    for loss in LOSSES:
        assert native_allowance(loss, "value") == NATIVE_ALLOWANCE
        assert NATIVE_ALLOWANCE <= native_allowance(loss, "gradient") < gradient_tolerance(loss, "float32")


def test_float64_is_not_compared():
    one = case_named("CrossEntropyLoss/paddleseg/plain/float64")
    outcome, reference = exact(one)
    verdict = judge(one, outcome, reference, (NAME, outcome))
    assert (verdict.native, verdict.value.native, verdict.gradient.native) == ("", None, None)


def test_a_native_nan_forgives_everything_and_nothing_is_divided_by_zero(case):
    outcome, reference = exact(case)
    got = off(outcome, reference, gradient=8.0)
    broken = replace(outcome, gradient=np.full_like(outcome.gradient, np.nan))
    found = judge(case, got, reference, (NAME, broken)).gradient.native
    assert (found.level, found.largest_ratio) == (PASS, 0.0)
    same = judge(case, off(outcome, reference), reference, (NAME, off(outcome, reference))).gradient.native
    assert (same.level, same.rmse_ratio, same.largest_ratio) == (PASS, 1.0, 1.0)


def test_entries_that_float32_cannot_decide_are_left_out():
    wanted, got = np.ones((2, 2)), np.ones((2, 2))
    got[0, 0] += 10 * EPS32
    either_way = np.zeros((2, 2), dtype=bool)
    assert ratio("float32", got, wanted, wanted, scale=1.0, allowance=NATIVE_ALLOWANCE, either_way=either_way).level == FAIL
    either_way[0, 0] = True
    assert ratio("float32", got, wanted, wanted, scale=1.0, allowance=NATIVE_ALLOWANCE, either_way=either_way).level == PASS


def test_a_native_result_of_another_shape_is_no_measure():
    assert ratio("float32", np.ones(3), np.ones(1), np.ones(3), scale=1.0, allowance=NATIVE_ALLOWANCE) is None


# --- what is compared with what ---------------------------------------------------------------------------------------


def test_the_functional_comes_first_and_the_formula_is_not_compared_with_itself():
    one, other = Outcome(np.ones(()), name=NAME), Outcome(np.zeros(()))
    assert native_of(FACE, {NATIVE: one, PLAIN_FORMULA: other}) == (NAME, one)
    assert native_of(PLAIN_FORMULA, {NATIVE: one, PLAIN_FORMULA: other}) == (NAME, one)
    assert native_of(FACE, {PLAIN_FORMULA: other}) == (PLAIN_FORMULA, other)
    assert native_of(PLAIN_FORMULA, {PLAIN_FORMULA: other}) is None
    assert native_of(FACE, {PLAIN_FORMULA: Outcome(error="no")}) is None
    assert native_of(FACE, {}) is None


@pytest.mark.parametrize("backend", ["torch", "paddle"])
def test_a_worker_sends_the_functional_and_every_mode_is_compared_with_it(backend, case, tmp_path):
    if not is_installed(backend):
        pytest.skip(f"{backend} is not installed here")
    with pool.Worker(backend, tmp_path) as worker:
        known = Known.of(backend, worker.greeting())
        item = Prepared(0, case, tmp_path)
        worker.ask(item.request(backend))
        outcomes = run.outcomes_of(item.output(backend), worker.reply(0, 60), known.modes)
    name = f"{backend}.nn.functional.cross_entropy"
    assert outcomes[NATIVE].name == name
    verdicts = {mode: verdict for mode, verdict, _ in judged(item, known, outcomes)}
    assert set(verdicts) == {"closed form", PLAIN_FORMULA, FACE}
    for verdict in verdicts.values():
        assert (verdict.status, verdict.native) == (CONFORM, name)
        assert verdict.value.native is not None
        assert verdict.gradient.native is not None


# --- the reports ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def warned():
    """A result that conforms with a warning, one that fails by its ratio alone, and one without."""
    dice, other = plain_cases("DiceLoss")
    eps = 2.0**-23
    return [
        result(dice, "torch", spoil=scaled(1 + 3 * eps), native=lambda outcome: outcome),
        result(dice, "torch", "face", spoil=scaled(1 + 12 * eps), native=lambda outcome: outcome),
        result(other, "torch", native=lambda outcome: outcome),
    ]


def test_a_warning_is_no_failure_and_a_ratio_above_k_is(warned):
    assert [one.verdict.status for one in warned] == [CONFORM, DIFFERS, CONFORM]
    assert stored([warned[0], warned[2]]).conforms
    assert not stored(warned).conforms


def test_ratios_survive_the_record(warned):
    read = stored(warned).results
    for one, two in zip(warned, read, strict=True):
        assert (two.native, two.warning) == (one.verdict.native, one.verdict.warning)
        for name, part in two.parts:
            before = getattr(one.verdict, name).native
            assert (part.native.level, part.native.factor) == (before.level, before.factor)
            assert part.native.rmse_ratio == pytest.approx(before.rmse_ratio, rel=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"level":"warning"', '"level":"fine"', "gradient: native: 'level' must be one of pass, warning, fail (got 'fine')"),
        ('"rmse":', '"rms":', "native: lacks 'rmse'"),
        ('"max_ratio":', '"max_ratio":-1,"x":', "'max_ratio' must not be below 0"),
    ],
)
def test_a_made_up_ratio_is_refused(warned, old, new, said):
    record = made(warned).record()
    assert old in record
    with pytest.raises(reader.RecordError) as caught:
        reader.parse(record.replace(old, new))
    assert said in str(caught.value)


@pytest.mark.parametrize(("size", "standing"), [(0.0, 0.0), (1e-9, np.inf)])
def test_a_record_may_say_that_nothing_is_allowed(warned, size, standing):
    def without(row):
        for part in filter(None, (row.get("value"), row.get("gradient"))):
            part["native"].update(rmse=size, max=size, rmse_ratio=0.0, max_ratio=0.0, allowance=0.0)
        return json.dumps(row)

    lines = made([warned[0], warned[2]]).record().splitlines()
    run_of_zeros = reader.parse("".join(f"{without(json.loads(line))}\n" for line in lines))
    assert [one.standing for one in run_of_zeros.results] == [standing] * 2
    assert files.PAGE in files.rendered(run_of_zeros)


def test_every_report_shows_the_warning(warned):
    run_of_warnings = stored([warned[0], warned[2]])
    said = warned[0].verdict.warning
    texts = files.rendered(run_of_warnings)
    assert "What conforms with a warning" in texts["summary.md"]
    assert "1 conform with a warning" in texts["summary.md"]
    assert markdown.escaped(said) in texts["summary.md"]
    assert "▲ 1" in texts["summary.md"]
    assert "1 with a warning" in texts[files.PAGE]
    assert said.replace("'", "&#39;") in texts[files.PAGE]
    root = ET.fromstring(junit.render(run_of_warnings))
    assert [test.findtext("system-out") for test in root.iter("testcase")] == [f"warning: {said}", None]
    assert root.get("failures") == "0"


def test_the_terminal_shows_the_warning(warned, tmp_path, monkeypatch):
    one = made([warned[0], warned[2]])
    monkeypatch.setattr(cli, "run_cases", lambda *arguments, **options: one)
    done = CliRunner().invoke(cli.app, ["conformance", "run", "--loss", "DiceLoss", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    printed = " ".join(done.stdout.split())
    assert f"warning: torch, {warned[0].case.id} (closed form): {warned[0].verdict.warning}" in printed
    assert "1 conform with a warning" in printed
