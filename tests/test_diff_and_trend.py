"""What changed between two runs, and how many runs fared."""

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest
from checks.conformance_cli import unilossseg
from checks.stored_runs import made, plain_cases, result, stored

from unilossseg.conformance.ratios import Ratio
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


def changed(results, at, **parts):
    """Parts of the verdict are others."""
    return spoiled(results, at, replace(results[at].verdict, **parts))


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
        ("newly_supported", Verdict(UNSUPPORTED, "no"), None, 0),
        ("newly_supported", Verdict(UNSUPPORTED, "no"), Verdict(EXPECTED, "known"), 0),
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
    lists += ("less_checked", "newly_supported", "added", "removed")
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


# --- less is checked --------------------------------------------------------------------------------------------------


def with_native(result, name, **changes):
    """A result whose errors were compared with native ones."""
    found = Ratio(1e-8, 1e-8, 1.0, 1.0, **{"factor": 2.0, "allowance": 1e-7, "level": "pass", **changes})
    parts = {quantity: replace(getattr(result.verdict, quantity), native=found) for quantity in ("value", "gradient")}
    return replace(result, verdict=replace(result.verdict, native=name, **parts))


def test_a_larger_bound_hides_no_error_that_grew(good, write):
    one = gradient_at(good, 0, 0.3)
    part = one[0].verdict.gradient
    two = changed(one, 0, gradient=replace(part, error=3 * part.error, bound=10 * part.bound))
    done = conformance("diff", write("a", one), write("b", two), "--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    (grown,), (less,) = said["grown"], said["less_checked"]
    assert grown["factor"] == pytest.approx(3, rel=1e-3)
    assert grown["ratio"] == pytest.approx([0.3, 0.09], rel=1e-3)
    assert grown["bound"] == pytest.approx([part.bound, 10 * part.bound], rel=1e-3)
    assert (less["case"], less["what"], less["quantity"]) == (good[0].case.id, "bound", "gradient")
    assert [less["before"], less["after"]] == grown["bound"]
    shown = " ".join(conformance("diff", write("a", one), write("b", two)).stdout.split())
    assert "✗ less is checked" in shown
    assert "gradient's error may be 1.91e-05 of its scale, before 1.91e-06" in shown
    assert "A regression." in shown
    # The bound alone is a regression, and a smaller one is none: the error is what it was.
    found = diff.compare(stored(one), stored(changed(one, 0, gradient=replace(part, bound=10 * part.bound))))
    assert (found.grown, found.regressed) == ([], True)
    found = diff.compare(stored(one), stored(changed(one, 0, gradient=replace(part, bound=0.4 * part.bound))))
    assert not found.regressed


def test_what_is_not_compared_any_more(good):
    found = diff.compare(stored(good), stored(changed(good, 1, gradient=None)))
    assert [(less.what, less.quantity, less.result.case.id) for less in found.less] == [
        ("part", "gradient", good[1].case.id)
    ]
    assert found.regressed
    assert diff.line(found.less[0]).endswith("the gradient is not compared any more")
    assert not diff.compare(stored(changed(good, 1, gradient=None)), stored(good)).regressed
    # What fails in its form has no numbers, and is a failure.
    found = diff.compare(stored(good), stored(spoiled(good, 1, BAD)))
    assert (found.less, len(found.failures)) == ([], 1)


@pytest.mark.parametrize(
    ("before", "after", "worse"),
    [
        ("torch.nn.functional.x", "plain formula", True),
        ("torch.nn.functional.x", "", True),
        ("plain formula", "", True),
        ("plain formula", "torch.nn.functional.x", False),
        ("torch.nn.functional.x", "torch.nn.functional.x", False),
        ("", "plain formula", False),
    ],
)
def test_a_native_comparison_that_is_lost(good, before, after, worse):
    one, two = ([with_native(good[0], name) if name else good[0], *good[1:]] for name in (before, after))
    found = diff.compare(stored(one), stored(two))
    assert found.regressed is worse
    assert [less.quantity for less in found.less] == (["value", "gradient"] if worse else [])
    for less in found.less:
        assert less.words == f"{less.quantity}'s errors are compared with {after or 'nothing native'}, before with {before}"


@pytest.mark.parametrize(("limit", "value"), [("factor", 5.0), ("allowance", 2e-7)])
def test_native_errors_that_may_be_exceeded_by_more(good, limit, value):
    one, two = ([with_native(good[0], "plain formula", **changes), *good[1:]] for changes in ({}, {limit: value}))
    found = diff.compare(stored(one), stored(two))
    assert {less.what for less in found.less} == {f"native {limit}"}
    assert f"{value:.3g}" in found.less[0].words
    assert not diff.compare(stored(two), stored(one)).regressed


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("parameters", {"parameters": {"planted": 1}}),
        ("inputs", {"arrays": {"logits": np.zeros((1, 2), np.float32), "labels": np.zeros((1, 2), np.float32)}}),
        ("layout", {"layout": "non_contiguous"}),
        ("chunk", {"chunk": 7}),
    ],
)
def test_another_case_of_the_same_name(good, write, field, changes):
    name = good[-1].case.id
    two = [replace(one, case=replace(one.case, **changes)) if one.case.id == name else one for one in good]
    done = conformance("diff", write("a", good), write("b", two), "--json")
    assert done.exit_code == 1
    # Once, not for every backend.
    (less,) = json.loads(done.stdout)["less_checked"]
    assert (less["case"], less["what"], less["quantity"]) == (name, "case", field)
    assert less["before"] != less["after"]
    assert diff.line(diff.compare(stored(good), stored(two)).less[0]).startswith(
        f"{name}: another case of that name: {field}"
    )
    # Other words for what it is there for make no other case.
    told = [replace(one, case=replace(one.case, condition="in other words")) for one in good]
    assert not diff.compare(stored(good), stored(told)).regressed


def test_bounds_of_other_entries_are_no_larger_bounds():
    case = plain_cases("L1Loss", dtype="bfloat16")[0]
    one = result(case)
    part = replace(one.verdict.gradient, index=(0,), expected=1e-3, error=1.2e-3, bound=4e-3)

    def against(**changes):
        runs = [[replace(one, verdict=replace(one.verdict, gradient=x))] for x in (part, replace(part, **changes))]
        return diff.compare(*map(stored, runs))

    # At a larger entry its rounding may be larger, as much as the entry, and so may its error.
    assert not against(index=(1,), expected=1e-2, error=2e-2, bound=3.9e-2).regressed
    found = against(index=(1,), expected=1e-2, error=2.3e-2, bound=5e-2)
    assert ([less.what for less in found.less], len(found.grown)) == (["bound"], 0)
    found = against(index=(1,), expected=1e-2, error=4.8e-2, bound=5e-2)
    assert found.grown[0].factor == pytest.approx(4)
    # A smaller entry has a smaller bound: the error has come nearer to it.
    assert against(index=(1,), expected=1e-4, error=9e-4, bound=1e-3).grown[0].factor == pytest.approx(3)
    # The same entry has the same bound.
    assert [less.what for less in against(bound=4.1e-3).less] == ["bound"]


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
    exact = stored(gradient_at(changed(good[:1], 0, value=replace(good[0].verdict.value, error=0.0)), 0, 0.0))
    assert trend.points(none)[""].ratio is None
    assert "svg" in trend.chart([none, exact, stored(infinite(good))])
    assert "svg" in trend.chart([none])


def test_a_chart_that_cannot_be_written(good, write, tmp_path):
    path = write("a", good)
    before = path.read_bytes()
    assert conformance("trend", path, "--svg", path).exit_code == 2
    assert path.read_bytes() == before
    # A record can be named by its folder.
    inside = path.rename(tmp_path / "results.jsonl")
    assert conformance("trend", tmp_path, "--svg", inside).exit_code == 2
    assert inside.read_bytes() == before
    path = inside
    done = conformance("trend", path, "--svg", tmp_path / "missing" / "x.svg")
    assert done.exit_code == 2
    assert "cannot write" in done.stderr
    assert conformance("trend").exit_code == 2


def test_growth_needs_a_result_that_conforms_in_both(good):
    bad = spoiled(good, 0, replace(good[0].verdict, status=DIFFERS, message="exactly"))
    assert diff.compare(stored(bad), stored(gradient_at(good, 0, 0.9))).grown == []
