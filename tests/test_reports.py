"""The record of a run and the files made from it: right, whole, and harmless whatever a record says."""

import errno
import itertools
import json
import math
import os
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from importlib.resources import files as resources

import jsonschema
import numpy as np
import pytest
from checks.stored_runs import exact, made, plain_cases, result, scaled, stored
from typer.testing import CliRunner

from unilossseg.conformance import cases, cli, errormaps, measures, results
from unilossseg.conformance.capabilities import DTYPES
from unilossseg.conformance.reports import badge, files, junit, markdown, page, page_data, reader
from unilossseg.conformance.results import RESULTS, write_together
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, EXPECTED, UNSUPPORTED, Verdict, judge

ALL = sorted([*files.FILES, RESULTS])


def unilossseg(*arguments):
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


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
    """Results of every status."""
    dice, other = plain_cases("DiceLoss")
    return [
        result(dice),
        result(dice, mode="plain formula", spoil=scaled(1.001)),
        result(dice, "torch", spoil=lambda outcome: replace(outcome, error="ValueError: first\nsecond")),
        result(other, spoil=lambda outcome: Verdict(UNSUPPORTED, "has none", link="https://example.org/why")),
        result(other, "torch", spoil=lambda outcome: Verdict(EXPECTED, "known: off", link="docs/precision.md")),
        result(other, "torch", "face", spoil=lambda outcome: replace(outcome, value=outcome.value * np.float32("nan"))),
    ]


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
    assert read.conforms is run.conforms is False
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
    assert results.repeat(case, "a b") == f"unilossseg conformance run --loss {case.loss} -k {case.id} --backend 'a b'"


def test_required_tolerances_are_those_of_allclose():
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(4, 5))
    got = (wanted * (1 + 1e-3 * rng.normal(size=wanted.shape))).astype(np.float32)
    rtol, atol = measures.required(got, wanted)
    assert np.allclose(got, wanted, rtol=rtol * 1.0001, atol=0)
    assert not np.allclose(got, wanted, rtol=rtol * 0.999, atol=0)
    assert np.allclose(got, wanted, rtol=0, atol=atol * 1.0001)
    assert not np.allclose(got, wanted, rtol=0, atol=atol * 0.999)
    assert measures.required(np.array([1.0, np.nan]), np.array([0.0, np.nan])) == (math.inf, 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ulps_count_the_numbers_between(dtype):
    wanted = cases.rounded(np.array([1.0, -3.0, 0.0, 1e-3]), dtype).astype(np.float64)
    assert measures.most_ulps(cases.rounded(wanted, dtype), wanted, dtype) == 0
    if dtype == "bfloat16":
        stepped = np.array([1.0 + 2 * 2.0**-7, *wanted[1:]], dtype=np.float32)
    else:
        stepped = wanted.astype(dtype)
        stepped[0] = np.nextafter(np.nextafter(stepped[0], np.asarray(9, dtype)), np.asarray(9, dtype))
    assert measures.most_ulps(stepped, wanted, dtype) == 2
    assert measures.most_ulps(-stepped, -wanted, dtype) == 2


def test_a_map_shows_the_worst_entry_and_counts_all():
    case = next(case for case in cases.all_cases(["DiceLoss"]) if min(case.arrays["logits"].shape[3:], default=0) > 12)
    outcome, reference = exact(case)
    gradient = outcome.gradient.copy()
    place = tuple(np.argwhere(~case.ignored())[-1])
    gradient[place] = 7.0
    found = judge(case, replace(outcome, gradient=gradient), reference).maps["gradient"]
    assert found.index == place
    assert (found.got, found.expected) == (7.0, reference.gradient[place])
    assert sum(found.counts) == gradient.size
    row, column = (found.index[axis] - first for axis, first in zip(found.axes, found.start, strict=True))
    shares = np.array(found.shares)
    assert max(shares.shape) <= errormaps.MOST_ACROSS
    assert shares[row, column] == shares.max() > 1


@pytest.mark.parametrize("kind", ["ignored", "nan"])
def test_what_no_number_may_be_is_infinitely_wrong(kind):
    (case, _) = plain_cases("DiceLoss")
    outcome, reference = exact(case)
    gradient = outcome.gradient.copy()
    place = tuple(np.argwhere(case.ignored() if kind == "ignored" else ~case.ignored())[0])
    gradient[place] = 1e-30 if kind == "ignored" else np.nan
    found = judge(case, replace(outcome, gradient=gradient), reference).maps["gradient"]
    assert found.index == place
    assert math.isinf(max(max(row) for row in found.shares))
    assert found.counts[-1] == 1


@pytest.mark.parametrize("condition", ["channels-last", "no-spatial-axes", "one-spatial-axis", "three-spatial-axes"])
def test_every_layout_has_a_map(condition):
    case = next(c for c in cases.all_cases(["CrossEntropyLoss"]) if f"/{condition}/" in c.id and c.dtype == "float32")
    found = result(case, spoil=scaled(1.1)).verdict.maps["gradient"]
    axes = {"channels-last": (1, 2), "no-spatial-axes": (0, 1), "one-spatial-axis": (-1, 2), "three-spatial-axes": (3, 4)}
    assert found.axes == axes[condition]


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


DAMAGE = {
    "empty": (lambda lines: [], "is empty"),
    "cut in a line": (lambda lines: [*lines[:-1], lines[-1][:50]], "is cut off"),
    "cut between lines": (lambda lines: lines[:-1], "it is cut off"),
    "a case less": (lambda lines: [lines[0], *lines[2:]], "describes case"),
    "no header": (lambda lines: lines[1:], "line 1: is no header"),
    "no JSON": (lambda lines: ["{", *lines[1:]], "line 1: is no JSON"),
    "no object": (lambda lines: [*lines[:-1], "[]"], "is no JSON object"),
    "NaN": (lambda lines: [*lines[:-1], lines[-1].replace('"seconds":0.001', '"seconds":NaN')], "NaN is not JSON"),
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


# --- what comes from outside ------------------------------------------------------------------------------------------

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(1)> | [a](javascript:a()) *b* `c` &amp; $x$ \n# d"
CONTROL = "\x1b[31m\x00\x07\u202e\ud800end"


@pytest.fixture(scope="module")
def hostile(mixed):
    """A run in which every text is an attack."""
    case = replace(mixed[0].case, id=f"X/{HOSTILE}", loss=f"Loss{HOSTILE}", condition=HOSTILE, parameters={HOSTILE: HOSTILE})
    verdict = Verdict(DIFFERS, HOSTILE + CONTROL, link=f"javascript:{HOSTILE}", maps=mixed[1].verdict.maps)
    bad = replace(mixed[1], case=case, backend=f"back{HOSTILE}", verdict=verdict)
    run = made([mixed[0], bad], overdue=[f"late {HOSTILE}{CONTROL}"], absent={HOSTILE: f"pip {HOSTILE}"})
    run.backends[bad.backend].update(version=HOSTILE, flags=[HOSTILE])
    return reader.parse(run.record())


def test_html_is_escaped(hostile):
    text = page.render(hostile)
    assert "<img" not in text
    assert text.count("<script") == text.count("</script") == 2
    embedded = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)[1]
    assert not set("<>&") & set(embedded)
    assert HOSTILE in json.loads(embedded)["messages"][0]
    assert 'href="javascript' not in text


def test_xml_is_escaped(hostile):
    root = ET.fromstring(junit.render(hostile))
    failure = root.find(".//testcase/failure")
    assert HOSTILE in failure.text
    assert root.find(f"testsuite[@name='{junit.WHOLE_RUN}']") is not None
    assert {element.tag for element in root.iter()} <= {
        "testsuites", "testsuite", "testcase", "failure", "error", "skipped", "properties", "property", "system-out",
    }  # fmt: skip


def test_markdown_is_escaped(hostile):
    text = markdown.render(hostile)
    assert "<" not in text
    assert not re.search(r"\]\(|javascript:|`c`|\*b\*|\$x\$|^# d", text, re.MULTILINE)
    # No cell of a table has become two.
    widths = {line.count("|") for line in text.split("\n") if line.startswith("| ")}
    assert widths == {4}
    assert markdown.escaped("www.a.b https://a_b") == "www&#46;a.b https&#58;//a&#95;b"


def test_the_badge_is_xml_and_says_how_it_stands(hostile, mixed):
    for run, words in ((hostile, "1 fail"), (stored(mixed[:1]), "1 conform"), (stored(mixed[3:4]), "does not conform")):
        root = ET.fromstring(badge.render(run))
        assert root.get("aria-label") == f"conformance: {words}"


def test_control_characters_reach_no_file(hostile, mixed):
    assert results.printable(f"a{CONTROL}\n\tb") == "a\ufffd[31m\ufffd\ufffd\ufffd\ufffdend\n\tb"
    record = made([replace(mixed[0], verdict=Verdict(ERRORED, CONTROL))]).record()
    # A record of another writer may hold them as escapes.
    assert reader.parse(record.replace("\ufffdend", "\\u001b\\ud800")).results[0].message.endswith("\ufffd\ufffd")
    for text in (record, *files.rendered(hostile).values()):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", text)


def test_a_terminal_gets_no_escape_sequences(hostile, tmp_path, mixed):
    run = made([replace(mixed[1], verdict=Verdict(DIFFERS, f"{CONTROL} [bold]x[/bold]"))])
    (tmp_path / "b.jsonl").write_text(run.record(), encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(made([replace(mixed[0], mode="plain formula")]).record(), encoding="utf-8")
    done = unilossseg("conformance", "diff", tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert "\x1b[31m" not in done.stdout
    assert "[bold]x[/bold]" in done.stdout


# --- the files --------------------------------------------------------------------------------------------------------


def test_junit_counts_and_names(mixed):
    root = ET.fromstring(junit.render(stored(mixed)))
    assert {key: root.get(key) for key in ("tests", "failures", "errors", "skipped")} == {
        "tests": "7", "failures": "3", "errors": "1", "skipped": "2",
    }  # fmt: skip
    assert [suite.get("name") for suite in root] == ["numpy", "torch", junit.WHOLE_RUN]
    assert root[-1][0].get("name") == "no result conforms on torch"
    error = root.find(".//error")
    assert error.get("message") == "ValueError: first"
    assert "To repeat it: unilossseg conformance run --loss DiceLoss -k DiceLoss/" in error.text
    assert root.find(".//property[@name='version']").get("value") == "2.0"
    assert len(root.findall(".//skipped")) == 2


def test_junit_fails_where_the_run_does(mixed):
    root = ET.fromstring(junit.render(stored(mixed[:1], backends={"numpy": {}, "torch": None})))
    assert (root.get("failures"), root[-1].get("name")) == ("1", junit.WHOLE_RUN)


def test_an_expired_exception_is_a_warning_in_every_report(mixed):
    texts = files.rendered(stored(mixed[:1], overdue=["the exception expired"]))
    root = ET.fromstring(texts["junit.xml"])
    assert (root.get("failures"), root.get("tests"), root[-1].get("name")) == ("0", "2", junit.WHOLE_RUN)
    assert root[-1].findtext("testcase/system-out") == "warning: the exception expired"
    assert "- ▲ warning: the exception expired" in texts["summary.md"]
    assert "warning</span> the exception expired" in texts[files.PAGE]
    assert "conforms" in texts["badge.svg"] or "conform<" in texts["badge.svg"]


def test_the_summary_has_a_matrix_failures_and_the_environment(mixed):
    text = markdown.render(stored(mixed, absent={"paddle": "pip install paddlepaddle"}))
    assert "| DiceLoss | ✗ 1 of 2 · " in text
    assert "- **errored** torch, DiceLoss/paddleseg/plain/float32" in text
    assert "ValueError&#58; first" in text
    assert "second" not in text
    assert "| settings | kernel&#95;threads=2 |" in text
    assert "not run: paddle is not installed" in text


def test_the_page_stays_small_however_much_fails(mixed, monkeypatch):
    monkeypatch.setattr(page_data, "MOST_MAPS", 1)
    monkeypatch.setattr(page_data, "MOST_MESSAGE_CHARACTERS", 10)
    data = json.loads(page_data.embedded(stored(mixed)))
    assert len(data["maps"]) == 1
    assert [row[10] for case in data["cases"] for row in case[-1] if len(row) > 10] == [0, -1]
    assert "(left out of this page: see results.jsonl)" in data["messages"]
    long = replace(mixed[0], verdict=Verdict(ERRORED, "x" * 100_000))
    assert len(page.render(stored([long]))) < 60_000
