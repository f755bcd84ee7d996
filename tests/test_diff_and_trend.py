"""What changed between two runs, and how many runs fared."""

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from checks.conformance_cli import unilossseg
from checks.stored_runs import made, plain_cases, result, stored

from unilossseg.conformance.reports import diff, trend
from unilossseg.conformance.verdict import DIFFERS, EXPECTED, UNSUPPORTED, Verdict


def conformance(*arguments):
    return unilossseg("conformance", *arguments)


@pytest.fixture(scope="module")
def good():
    """Two losses on two backends, all of which conform."""
    return [result(case, backend) for backend in ("numpy", "torch") for case in plain_cases("DiceLoss", "L1Loss")]


@pytest.fixture
def write(tmp_path):
    """Writes a run and returns its place."""

    def place(name, results, **changes):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(made(results, **changes).record(), encoding="utf-8")
        return path

    return place


def spoiled(results, at, verdict):
    return [*results[:at], replace(results[at], verdict=verdict), *results[at + 1 :]]


def gradient_at(results, at, share):
    """The gradient's error takes up a share of its bound."""
    part = results[at].verdict.gradient
    return spoiled(results, at, replace(results[at].verdict, gradient=replace(part, error=part.bound * share)))


def infinite(results):
    """A gradient that is infinitely far off."""
    found = gradient_at(results, 0, math.inf)
    return spoiled(found, 0, replace(found[0].verdict, status=DIFFERS, message="gradient is inf"))


# --- the difference of two runs ---------------------------------------------------------------------------------------


def test_a_run_is_no_worse_than_itself(good, write):
    path = write("a", good)
    done = conformance("diff", path, path)
    assert done.exit_code == 0
    assert "Nothing is worse." in done.stdout
    assert "in both runs" in done.stdout


BAD = Verdict(DIFFERS, "gradient is off")


@pytest.mark.parametrize(
    ("member", "before", "after", "code"),
    [
        ("new_failures", None, BAD, 1),
        ("new_failures", Verdict(UNSUPPORTED, "no"), BAD, 1),
        ("fixed", BAD, None, 0),
        ("still_failing", BAD, BAD, 0),
        ("no_longer_supported", None, Verdict(UNSUPPORTED, "no"), 1),
        ("no_longer_supported", BAD, Verdict(UNSUPPORTED, "no"), 1),
        ("fails_as_declared", None, Verdict(EXPECTED, "known"), 1),
        ("still_failing", BAD, Verdict(EXPECTED, "known"), 0),
        ("new_failures", Verdict(EXPECTED, "known"), BAD, 1),
        ("fixed", Verdict(EXPECTED, "known"), None, 0),
    ],
)
def test_what_became_of_a_result(good, write, member, before, after, code):
    one = write("a", spoiled(good, 1, before) if before else good)
    two = write("b", spoiled(good, 1, after) if after else good)
    done = conformance("diff", one, two, "--json")
    assert done.exit_code == code
    said = json.loads(done.stdout)
    assert said["regression"] is bool(code)
    lists = ("new_failures", "fixed", "still_failing", "no_longer_supported", "fails_as_declared", "grown")
    lists += ("added", "removed")
    assert [name for name in lists if said[name]] == [member]
    assert said[member][0]["case"] == good[1].case.id
    assert said[member][0]["repeat"].endswith("--backend numpy")
    table = conformance("diff", one, two)
    assert table.exit_code == code
    assert good[1].case.id in table.stdout
    assert ("A regression." in table.stdout) is bool(code)


def test_what_fails_as_declared_now_is_worse_and_says_why(good, write):
    one, two = write("a", good), write("b", spoiled(good, 0, Verdict(EXPECTED, "known: value is off")))
    done = conformance("diff", one, two)
    assert done.exit_code == 1
    shown = " ".join(done.stdout.split())
    assert "✗ fail as declared now" in shown
    assert f"{good[0].case.id} on numpy (closed form): xfailed: known: value is off" in shown
    assert conformance("diff", two, two).exit_code == 0


def test_added_and_removed_results(good, write):
    fewer, more = write("a", good[:3]), write("b", good)
    done = conformance("diff", fewer, more, "--json")
    assert (done.exit_code, len(json.loads(done.stdout)["added"])) == (0, len(good) - 3)
    done = conformance("diff", more, fewer, "--json")
    assert (done.exit_code, len(json.loads(done.stdout)["removed"])) == (0, len(good) - 3)
    assert "removed results" in conformance("diff", more, fewer).stdout
    # A new case that fails is a failure like any other.
    worse = write("c", spoiled(good, len(good) - 1, BAD))
    done = conformance("diff", fewer, worse, "--json")
    assert (done.exit_code, len(json.loads(done.stdout)["new_failures"])) == (1, 1)


def test_errors_that_grew(good, write):
    one, two = (write(name, gradient_at(good, 0, share)) for name, share in (("a", 0.3), ("b", 0.9)))
    done = conformance("diff", one, two, "--json")
    assert done.exit_code == 1
    (found,) = json.loads(done.stdout)["grown"]
    assert (found["quantity"], found["factor"]) == ("gradient", pytest.approx(3, rel=1e-3))
    assert "gradient's error from 0.3 to 0.9 of what is allowed" in " ".join(conformance("diff", one, two).stdout.split())
    assert conformance("diff", one, two, "--factor", "4").exit_code == 0
    assert conformance("diff", one, two, "--floor", "0.95").exit_code == 0
    assert conformance("diff", two, one).exit_code == 0


def test_growth_far_below_the_bound_and_from_nothing(good):
    tiny, small, zero, large = (stored(gradient_at(good, 0, share)) for share in (1e-4, 1e-2, 0.0, 0.8))
    assert not diff.compare(tiny, small).regressed
    found = diff.compare(zero, large)
    assert math.isinf(found.grown[0].factor)
    assert json.loads(diff.to_json(found, ("a", "b")))["grown"][0]["factor"] is None


def test_new_troubles_and_the_environment(good, write):
    one = write("a", good)
    after = made(good)
    after.backends["torch"]["version"] = "9.9"
    after.backends["paddle"] = None
    two = write("b", [])
    two.write_text(after.record(), encoding="utf-8")
    done = conformance("diff", one, two, "--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert said["new_troubles"] == ["no result conforms on paddle"]
    assert said["environment"] == [{"what": "torch: version", "before": "2.0", "after": "9.9"}]
    text = conformance("diff", one, two).stdout
    assert "no result conforms on paddle" in text
    assert "environment: torch: version: 2.0 -> 9.9" in text
    assert conformance("diff", two, two).exit_code == 0


@pytest.mark.parametrize("option", [["--factor", "0.5"], ["--factor", "nan"], ["--floor", "2"], ["--floor", "nan"]])
def test_senseless_options_are_refused(good, write, option):
    path = write("a", good)
    assert conformance("diff", path, path, *option).exit_code == 2


def test_what_cannot_be_compared(good, write, tmp_path):
    one = write("a", good[:1])
    done = conformance("diff", one, write("b", good[1:2]))
    assert done.exit_code == 2
    assert "no result in common" in done.stderr
    assert conformance("diff", one, tmp_path / "missing").exit_code == 2
    assert conformance("diff", one).exit_code == 2


def test_long_lists_are_cut_on_the_terminal_and_whole_in_json(good, write):
    case = plain_cases("DiceLoss")[0]
    many = [replace(good[0], case=replace(case, id=f"{case.id}-{number}")) for number in range(60)]
    one, two = write("a", many), write("b", [replace(item, verdict=BAD) for item in many])
    done = conformance("diff", one, two)
    assert "... and 40 more: see --json" in done.stdout
    assert len(json.loads(conformance("diff", one, two, "--json").stdout)["new_failures"]) == 60


# --- the trend of many ------------------------------------------------------------------------------------------------


def test_a_table_of_runs(good, write):
    worse = [replace(item, verdict=BAD) if item.backend == "torch" else item for item in good]
    paths = [write("a", good), write("b", worse), write("c", [item for item in good if item.backend == "numpy"])]
    done = conformance("trend", *paths)
    assert done.exit_code == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in done.stdout.split("\n") if line.startswith("│")]
    half = len(good) // 2
    assert [row[2:4] for row in rows] == [[str(len(good)), "0"], [str(half), str(half)], [str(half), "0"]]
    assert rows[1][6] == "0"
    assert rows[2][6] == ""
    assert rows[0][5].startswith(f"{half} · 0.")


def test_the_trend_as_json(good, write):
    worse = [replace(item, verdict=BAD) if item.backend == "torch" else item for item in good]
    warned = spoiled(good, 0, replace(good[0].verdict, warning="larger"))
    paths = [write("a", good), write("b", worse), write("c", warned), write("d", infinite(good))]
    done = conformance("trend", *paths, "--json")
    assert done.exit_code == 0
    said = json.loads(done.stdout)
    half = len(good) // 2
    assert said["schema"] == 1
    assert [run["file"] for run in said["runs"]] == [str(path) for path in paths]
    assert [(run["conform"], run["fail"], run["warned"]) for run in said["runs"]] == [
        (2 * half, 0, 0),
        (half, half, 0),
        (2 * half, 0, 1),
        (2 * half - 1, 1, 0),
    ]
    assert [run["conforms"] for run in said["runs"]] == [True, False, True, False]
    assert said["runs"][1]["backends"]["torch"] == {"conform": 0, "fail": half, "warned": 0, "worst": None}
    assert said["runs"][0]["worst"] == pytest.approx(trend.points(stored(good))[""].ratio)
    assert said["runs"][3]["worst"] == "inf"


def test_the_chart_is_repeatable_and_whole(good, write, tmp_path):
    hostile = [replace(item, backend="_$x^2$--><b>&") for item in good if item.backend == "numpy"]
    paths = [write("a", good), write("b", spoiled(good, 0, BAD)), write("c", [*good, *hostile])]
    charts = [tmp_path / "one.svg", tmp_path / "two.svg"]
    for chart in charts:
        done = conformance("trend", *paths, "--svg", chart)
        assert done.exit_code == 0, done.stderr
    assert charts[0].read_bytes() == charts[1].read_bytes()
    root = ET.fromstring(charts[0].read_text(encoding="utf-8"))
    assert root.tag.endswith("svg")
    comments = charts[0].read_text(encoding="utf-8")
    for name in ("numpy", "torch", "_$x^2$"):
        assert name in comments
    assert "<b>" not in comments


def test_ratios_without_a_place_on_the_chart(good):
    none = stored([replace(good[0], verdict=Verdict(UNSUPPORTED, "no"))])
    exact = stored(gradient_at([replace(good[0], verdict=replace(good[0].verdict, value=None))], 0, 0.0))
    assert trend.points(none)[""].ratio is None
    assert "svg" in trend.chart([none, exact, stored(infinite(good))])
    assert "svg" in trend.chart([none])


def test_a_chart_that_cannot_be_written(good, write, tmp_path):
    path = write("a", good)
    before = path.read_bytes()
    assert conformance("trend", path, "--svg", path).exit_code == 2
    assert path.read_bytes() == before
    done = conformance("trend", path, "--svg", tmp_path / "missing" / "x.svg")
    assert done.exit_code == 2
    assert "cannot write" in done.stderr
    assert conformance("trend").exit_code == 2


def test_growth_needs_a_result_that_conforms_in_both(good):
    bad = spoiled(good, 0, replace(good[0].verdict, status=DIFFERS, message="exactly"))
    assert diff.compare(stored(bad), stored(gradient_at(good, 0, 0.9))).grown == []
