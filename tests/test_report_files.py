"""The files made from a record: right, and harmless whatever a record says."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from checks.conformance_cli import unilossseg
from checks.stored_runs import made, of_every_status, stored

from unilossseg.conformance import results
from unilossseg.conformance.reports import badge, files, junit, markdown, page, page_data, reader
from unilossseg.conformance.verdict import DIFFERS, ERRORED, Verdict


@pytest.fixture(scope="module")
def mixed():
    return of_every_status()


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
