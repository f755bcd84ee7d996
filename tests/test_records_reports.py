"""The page and the JSON of a comparison."""

import json
import re
import subprocess
import sys

import pytest
from checks import record_cli
from checks.record_cli import SMALL, run

from unilossseg.conformance.records import file, inputs, recording


@pytest.fixture
def different(project):
    run("record", "unilossseg:CrossEntropyLoss", "--out", "ref.uls", *SMALL)
    run("replay", "ref.uls", "unilossseg:DiceLoss", "--out", "cand.uls")
    return project


def test_the_page_needs_no_network(different):
    run("compare", "ref.uls", "cand.uls", "--html", "page.html", expect=1)
    page = (different / "page.html").read_text()
    assert "default-src 'none'" in page
    assert 'name="viewport"' in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page)
    assert "://" not in page
    assert "✗ Different" in page


def test_the_page_tells_both_parts_of_a_bound(different):
    run("compare", "ref.uls", "cand.uls", "--html", "page.html", expect=1)
    page = (different / "page.html").read_text()
    assert "<code>float32</code>: 3.81e-06 of the scale and 9.54e-07 for values; 7.63e-06 of the scale for gradients" in page
    assert "What is added for values is absolute" in page


def test_what_a_record_says_is_text_on_the_page(project):
    arrays = inputs.generated(inputs.Recipe((1, 2, 3)), ["plain"])
    made = recording.record("unilossseg:DiceLoss", {}, arrays)
    hostile = type(made)(**{**made.__dict__, "target": "<script>alert(1)</script>", "kwargs": {"<b>": "{{ 7 * 7 }}"}})
    file.write(project / "ref.uls", hostile)
    run("compare", "ref.uls", "ref.uls", "--html", "page.html")
    page = (project / "page.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page


def test_the_json_has_every_number(different):
    run("compare", "ref.uls", "cand.uls", "--json", "page.json", expect=1)
    found = json.loads((different / "page.json").read_text(), parse_constant=pytest.fail)
    assert found["same"] is False
    assert [case["name"] for case in found["cases"]] == list(inputs.GENERATED)
    gradient = found["cases"][0]["gradient"]
    assert gradient["error"] > gradient["bound"]
    assert len(gradient["worst"]["index"]) == 4
    assert found["explanations"][0]["cause"]
    assert found["reference"]["environment"]["framework"] == "numpy"


def test_reports_do_not_overwrite_records(different):
    before = (different / "ref.uls").read_bytes()
    assert "one of the two records" in run("compare", "ref.uls", "cand.uls", "--html", "ref.uls", expect=2)
    assert "that is to be replayed" in run("replay", "ref.uls", "unilossseg:DiceLoss", "--out", "ref.uls", expect=2)
    assert (different / "ref.uls").read_bytes() == before


def test_comparing_imports_no_framework(different):
    code = (
        "import sys\nfrom checks.record_cli import app\n"
        "try:\n    app(['compare', 'ref.uls', 'cand.uls', '--html', 'p.html'])\n"
        "except SystemExit as end:\n    code = end.code\n"
        "assert code == 1, code\nassert not {'torch', 'paddle'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=different,
        env={"PYTHONPATH": record_cli.__file__.rpartition("/checks/")[0], "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
