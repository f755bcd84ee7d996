"""The record of a run, and the command that makes a report from it: whole, or nothing."""

import errno
import itertools
import json
import math
import os
import re
import shlex
import shutil
from importlib.resources import files as resources

import jsonschema
import pytest
from checks.conformance_cli import unilossseg
from checks.stored_runs import made, of_every_status, stored

from unilossseg.conformance import cases, results
from unilossseg.conformance.reports import files, reader
from unilossseg.conformance.results import RESULTS, write_together
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, EXPECTED, UNSUPPORTED

ALL = sorted([*files.FILES, RESULTS])


@pytest.fixture(scope="module")
def schema():
    text = (resources("unilossseg.conformance") / "schema" / "results.schema.json").read_text(encoding="utf-8")
    jsonschema.Draft202012Validator.check_schema(json.loads(text))
    return jsonschema.Draft202012Validator(json.loads(text))


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A real run, with a worker."""
    out = tmp_path_factory.mktemp("ran")
    done = unilossseg("conformance", "run", "--backend", "numpy", "--loss", "DiceLoss", "--quick", "--out", out)
    assert done.exit_code == 0, done.output
    return out


@pytest.fixture(scope="module")
def mixed():
    return of_every_status()


# --- the record -------------------------------------------------------------------------------------------------------


def test_every_line_of_a_real_run_is_as_the_schema_says(ran, schema):
    lines = [json.loads(line) for line in (ran / RESULTS).read_text().split("\n")[:-1]]
    assert [line["type"] for line in lines[:2]] == ["header", "case"]
    assert lines[-1]["type"] == "result"
    for line in lines:
        schema.validate(line)


def test_so_is_every_line_of_a_run_that_fails(mixed, schema):
    lines = [json.loads(line) for line in made(mixed, overdue=["expired"], absent={"paddle": "pip"}).record().splitlines()]
    for line in lines:
        schema.validate(line)
    assert {line["status"] for line in lines if line["type"] == "result"} == {
        CONFORM, DIFFERS, ERRORED, UNSUPPORTED, EXPECTED,
    }  # fmt: skip
    assert [sorted(line["errors"]) for line in lines if "errors" in line] == [["gradient", "value"]] * 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda line: line.pop("repeat"),
        lambda line: line.update(status="passed"),
        lambda line: line.update(further=1),
        lambda line: line["value"].update(error=-1.0),
        lambda line: line["value"].update(ulp=1.5),
        lambda line: line.update(gradient={}),
        lambda line: line.update(value=None),
    ],
)
def test_the_schema_refuses_other_lines(mixed, schema, spoil):
    line = json.loads(made(mixed).record().splitlines()[-6])
    assert schema.is_valid(line)
    spoil(line)
    assert not schema.is_valid(line)


def test_what_is_read_is_what_was_written(mixed):
    run = made(mixed)
    read = reader.parse(run.record())
    assert [(one.case.id, one.backend, one.mode, one.status) for one in read.results] == [
        (one.case.id, one.backend, one.mode, one.verdict.status) for one in mixed
    ]
    assert not read.conforms
    assert read.results[1].gradient.ratio == pytest.approx(mixed[1].verdict.gradient.ratio, rel=1e-4)
    assert read.results[1].errors["gradient"].counts == mixed[1].verdict.maps["gradient"].counts
    assert math.isnan(read.results[5].errors["value"].got)
    assert read.cases[0].inputs["logits"] == ("float32", (2, 3, 4, 5))
    assert stored(mixed[:1]).conforms
    assert stored(mixed[:1], overdue=["expired"]).conforms
    assert stored(mixed[:1], backends={"numpy": {}, "torch": None}).troubles == ["no result conforms on torch"]


def test_the_command_that_repeats_a_case_selects_it_and_no_other():
    everything = cases.all_cases()
    for loss, found in itertools.groupby(everything, key=lambda case: case.loss):
        ids = [case.id.lower() for case in found]
        assert [name for name in ids if sum(name in other for other in ids) != 1] == [], loss
    case = everything[0]
    again = f"unilossseg conformance run --loss {case.loss} -k {case.id} --out conformance-repeat --backend 'a b'"
    assert results.repeat(case, "a b") == again
    assert results.repeat(case, "a b", elsewhere=True) == f"{again} --worker 'a b=PYTHON'"


def test_a_case_is_repeated_beside_the_report_and_not_over_it(ran, tmp_path, monkeypatch):
    report = tmp_path / "conformance-report"
    shutil.copytree(ran, report)
    before = {path.name: path.read_bytes() for path in report.iterdir()}
    monkeypatch.chdir(tmp_path)
    last = json.loads((report / RESULTS).read_text().splitlines()[-1])
    done = unilossseg(*shlex.split(last["repeat"])[1:])
    assert done.exit_code == 0, done.output
    assert {path.name: path.read_bytes() for path in report.iterdir()} == before
    assert {result.case.id for result in reader.read(tmp_path / results.REPEATED).results} == {last["case"]}


def test_a_run_of_nothing_does_not_conform():
    run = made([], backends={})
    read = reader.parse(run.record())
    assert (read.conforms, read.troubles) == (False, ["no result conforms: there is no backend"])
    texts = files.rendered(read)
    assert "does not conform" in texts["badge.svg"]
    assert all(read.troubles[0] in texts[name] for name in (files.PAGE, "junit.xml"))
    assert "Every result conforms" not in texts[files.PAGE] + texts["summary.md"]


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_report_is_made_from_the_record_alone(ran, tmp_path):
    assert sorted(path.name for path in ran.iterdir()) == ALL
    (tmp_path / RESULTS).write_bytes((ran / RESULTS).read_bytes())
    for source in (tmp_path / RESULTS, tmp_path):
        assert unilossseg("report", source, "--out", tmp_path / "deep" / "out").exit_code == 0
    assert unilossseg("report", tmp_path).exit_code == 0
    for name in files.FILES:
        made_by_run = (ran / name).read_bytes()
        assert (tmp_path / name).read_bytes() == (tmp_path / "deep" / "out" / name).read_bytes() == made_by_run


def test_a_run_that_fails_has_a_report_too(mixed, tmp_path):
    (tmp_path / RESULTS).write_text(made(mixed).record(), encoding="utf-8")
    done = unilossseg("report", tmp_path / RESULTS)
    assert done.exit_code == 0
    assert done.stdout.startswith("does not conform: index.html")


@pytest.mark.parametrize(("command", "codes"), [("report", "02"), ("conformance diff", "012"), ("conformance trend", "02")])
def test_exit_codes_are_told(command, codes):
    text = " ".join(unilossseg(*command.split(), "--help").stdout.replace("│", " ").split())
    told = text[text.index("Exit codes") :]
    assert re.findall(r"(?:: |; )(\d),", told) == list(codes)


def changed(number, **members):
    def change(lines):
        line = {**json.loads(lines[number]), **members}
        return [*lines[:number], json.dumps(line), *lines[number + 1 or len(lines) :]]

    return change


def conforming(**members):
    part = {"error": 1, "bound": 1, "index": [], "got": 0, "expected": 0, "rtol": 0, "atol": 0, "ulp": 0, "native": None}
    return changed(-1, status=CONFORM, value={**part, **members})


DAMAGE = {
    "empty": (lambda lines: [], "is empty"),
    "cut in a line": (lambda lines: [*lines[:-1], lines[-1][:50]], "is cut off"),
    "cut between lines": (lambda lines: lines[:-1], "it is cut off"),
    "a case less": (lambda lines: [lines[0], *lines[2:]], "describes case"),
    "no header": (lambda lines: lines[1:], "line 1: is no header"),
    "no JSON": (lambda lines: ["{", *lines[1:]], "line 1: is no JSON"),
    "no object": (lambda lines: [*lines[:-1], "[]"], "is no JSON object"),
    "NaN": (lambda lines: [*lines[:-1], lines[-1].replace('"seconds":0.001', '"seconds":NaN')], "NaN is not a number"),
    "a key twice": (
        lambda lines: [*lines[:-1], lines[-1].replace('"status":', '"status":"differs","status":')],
        "is no JSON: a key stands twice",
    ),
    "too large a number": (lambda lines: [*lines[:-1], lines[-1].replace("0.001", "1e999")], "1e999 overflows"),
    "too deep": (lambda lines: ["[" * 100_000, *lines[1:]], "line 1: is no JSON"),
    "newer schema": (changed(0, schema=99), "has schema 99, this unilossseg reads schema 3: update it"),
    "older schema": (changed(0, schema=1), "run it again"),
    "a schema in words": (changed(0, schema="2"), "'schema' must be int"),
    "no time": (changed(0, started="yesterday"), "'started' is no time"),
    "backends": (changed(0, backends={"numpy": 1}), "'backends'"),
    "another kind of line": (changed(-1, type="note"), "(got 'note')"),
    "another status": (changed(-1, status="passed"), "(got 'passed')"),
    "another backend": (changed(-1, backend="jax"), "knows no backend 'jax'"),
    "a part lacks something": (changed(-1, value={"error": 1.0}), "value: lacks 'bound'"),
    "a negative error": (
        changed(
            -1, value={"error": -1, "bound": 1, "index": [], "got": 0, "expected": 0, "rtol": 0, "atol": 0, "ulp": 0}
        ),
        "must not be below 0",
    ),
    "endless": (changed(0, seconds="inf"), "'seconds' must be at most 3e+10 (got inf)"),
    "no time at all": (changed(-1, seconds="nan"), "'seconds' must be at most 3e+10 (got nan)"),
    "conforms with an infinite error": (conforming(error="inf", bound="inf"), "value: 'error' must be finite and within"),
    "conforms with no error": (conforming(error="nan"), "(got nan, 1)"),
    "conforms out of its bound": (conforming(error=2), "within 'bound' where the status is 'conform' (got 2, 1)"),
    "conforms without a bound": (conforming(error=1e-300, bound=0), "(got 1e-300, 0)"),
    "conforms without a value": (changed(-1, status=CONFORM, value=None), "'value' must be no null where the status is"),
    "a number in words": (changed(-1, seconds="long"), "'inf', '-inf' or 'nan'"),
    "a shape": (changed(1, inputs={"logits": {"dtype": "float32", "shape": [-1]}}), "whole numbers"),
    "a map": (changed(-1, errors={"value": {"counts": [], "axes": [], "start": []}}), "must have 10, 2 and 2"),
    "twice": (lambda lines: [*lines, lines[-1]], "is there twice"),
    "a case twice": (lambda lines: [*lines[:2], *lines[1:]], "is there twice"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
@pytest.mark.parametrize("command", ["report", "conformance diff", "conformance trend"])
def test_a_damaged_record_is_refused_and_nothing_is_touched(tmp_path, mixed, name, command):
    damage, said = DAMAGE[name]
    lines = made(mixed[:2]).record().split("\n")[:-1]
    path = tmp_path / RESULTS
    path.write_text("\n".join(damage(lines)) + ("\n" if damage(lines) and name != "cut in a line" else ""))
    (tmp_path / files.PAGE).write_text("as it was")
    more = [path] if command == "conformance diff" else ["--svg", tmp_path / "x.svg"] if "trend" in command else []
    done = unilossseg(*command.split(), path, *more)
    assert done.exit_code == 2
    assert said in done.stderr
    assert str(path) in done.stderr
    assert sorted(found.name for found in tmp_path.iterdir()) == [files.PAGE, RESULTS]
    assert (tmp_path / files.PAGE).read_text() == "as it was"


def test_what_is_no_text_or_not_there_is_refused(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\xfe")
    assert "byte 0 is not UTF-8" in unilossseg("report", tmp_path / "x").stderr
    assert "cannot be read: No such file" in unilossseg("report", tmp_path / "missing.jsonl").stderr
    assert "results.jsonl: cannot be read" in unilossseg("report", tmp_path).stderr


def test_files_come_together_or_not_at_all(tmp_path, monkeypatch, ran):
    (tmp_path / "badge.svg").mkdir()
    (tmp_path / files.PAGE).write_text("as it was")
    done = unilossseg("report", ran, "--out", tmp_path)
    assert done.exit_code == 2
    assert "cannot write to" in done.stderr
    (tmp_path / "badge.svg").rmdir()

    def full(descriptor):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "no space left" in unilossseg("report", ran, "--out", tmp_path).stderr
    assert [path.name for path in tmp_path.iterdir()] == [files.PAGE]
    assert (tmp_path / files.PAGE).read_text() == "as it was"
    with pytest.raises(OSError, match="no space"):
        write_together(tmp_path, {"a": "1", "b": "2"})
    (tmp_path / "file").write_text("")
    assert unilossseg("report", ran, "--out", tmp_path / "file").exit_code == 2
