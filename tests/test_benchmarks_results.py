"""The benchmarks' own logic, with made-up numbers: results, tables and the chart."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import chart, checks, gate, marks, plan, results, standing, table, targets
from benchmarks.names import FLOOR, OURS, WARM_FLOOR
from benchmarks.rows import TARGET, Shape, row

ROOT = Path(__file__).parents[1]


def made_results():
    """A run of two losses on torch and one on Paddle; cross entropy is fine, Dice falls short of everything."""
    found = results.Results("cpu", "2026-01-02T03:04:05+00:00", 60.0, "python -m benchmarks run", machine())
    for backend, peer in (("torch", "torch cross_entropy"), ("paddle", "PaddleSeg")):
        found.backends[backend] = {"versions": {backend: "1.0"}, "threads": {"framework": 2, "kernels": 2}}
        times = {OURS: [0.02] * 5, peer: [0.12] * 5, FLOOR: [0.01] * 5, WARM_FLOOR: [0.005] * 5}
        found.timings.append(results.Timing(backend, "CrossEntropyLoss", TARGET, times, {}))
        found.checks.append(results.Check(backend, "CrossEntropyLoss", peer, marks.SAME, "", 1e-7, 1e-7))
    dice = {OURS: [0.05] * 5, "MONAI DiceLoss": [0.05, 0.06, 0.05, None, None]}
    found.timings.append(results.Timing("torch", "DiceLoss", TARGET, dice, {"smp DiceLoss": "not installed"}))
    found.checks.append(results.Check("torch", "DiceLoss", "MONAI DiceLoss", marks.ANOTHER, "differs", 1e-7, 1e-7))
    small = {OURS: [0.004] * 5, "MONAI DiceLoss": [0.001] * 5}
    found.timings.append(results.Timing("torch", "DiceLoss", plan.SMALL, small, {}))
    size = row("DiceLoss").logits_bytes(TARGET)
    found.memory.append(results.Memory("torch", "DiceLoss", TARGET, OURS, 2 * size, size))
    found.memory.append(results.Memory("torch", "DiceLoss", TARGET, "MONAI DiceLoss", 4 * size, size))
    found.first_calls.append(results.FirstCall("torch", "DiceLoss", TARGET, OURS, 0.3, [0.1] * 5))
    found.first_calls.append(
        results.FirstCall("torch", "DiceLoss", TARGET, "MONAI DiceLoss", 0.5, [0.4, 0.2, 0.1, 0.3, 0.4])
    )
    found.gaps.append("torch DiceLoss: smp DiceLoss: not installed")
    return found


def machine():
    return {"processor": "an example", "cores": 2, "memory_gib": 8.0, "system": "Linux 6", "load_before": 0.1}


def test_results_survive_a_file(tmp_path):
    path = tmp_path / "new" / "cpu.json"
    results.write(made_results(), path)
    assert results.read(path) == made_results()
    assert [found.name for found in path.parent.iterdir()] == ["cpu.json"]


PAGE = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"


@pytest.mark.parametrize(
    ("old", "write"),
    [
        ("old", lambda path: results.write(made_results(), path)),
        ("{}", lambda path: gate.write([gate.Limit("torch", "DiceLoss", "MONAI DiceLoss", 2.0)], path)),
        (PAGE, lambda path: table.update(path, "new")),
        ("old", lambda path: chart.draw(made_results(), path)),
    ],
    ids=["results", "limits", "page", "chart"],
)
def test_what_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch, old, write):
    path = tmp_path / "file"
    path.write_text(old, encoding="utf-8")

    def full(_descriptor):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write(path)
    assert [found.read_text(encoding="utf-8") for found in tmp_path.iterdir()] == [old]


@pytest.mark.parametrize("text", ["", "[]", '{"format": "other/1"}', json.dumps({"format": results.FORMAT, "checks": 3})])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "cpu.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(results.ResultsError, match=r"cpu\.json"):
        results.read(path)


def test_a_row_that_meets_its_targets():
    found = standing.standing(made_results(), "torch", "CrossEntropyLoss")
    assert found.speed.ratio.median == pytest.approx(6)
    assert found.short == []
    assert {verdict.what: verdict.met for verdict in found.verdicts} == {
        "speed": True,
        "memory": None,
        "first call": None,
        "floor": True,
    }


def test_a_row_that_falls_short():
    found = standing.standing(made_results(), "torch", "DiceLoss")
    assert {verdict.what: verdict.value for verdict in found.short} == pytest.approx(
        {"speed": 1.0, "memory": 2.0, "first call": 3.0, "small": 4.0}
    )
    assert found.peer_memory == 4.0


def test_the_slow_reference_is_taken_as_linear_in_pixels():
    found = made_results()
    found.timings.append(results.Timing("paddle", "DualTaskLoss", TARGET, {OURS: [0.5] * 3}, {"PaddleSeg": "minutes"}))
    small = {OURS: [0.01] * 3, "PaddleSeg": [2.0] * 3}
    found.timings.append(results.Timing("paddle", "DualTaskLoss", plan.TINY, small, {}))
    speed = standing.standing(found, "paddle", "DualTaskLoss").speed
    assert speed.theirs.median == pytest.approx(2.0 * 256)
    assert speed.ratio.median == pytest.approx(2.0 * 256 / 0.5)
    assert "N=2 C=19 32² × pixels" in table.markdown(found)


def test_cost_growth():
    found = made_results()
    found.timings.append(results.Timing("torch", "DiceLoss", Shape(2, 19, 2048), {OURS: [1.6]}, {}))
    assert standing.growth(found, "torch", "DiceLoss", Shape(2, 19, 2048)) is None
    # Against our own time without peers, which is that of the largest configurations too.
    found.alone.append(results.Timing("torch", "DiceLoss", TARGET, {OURS: [0.05] * 3, FLOOR: [0.01] * 3}, {}))
    assert standing.growth(found, "torch", "DiceLoss", Shape(2, 19, 2048)) == pytest.approx(2.0)


def with_the_largest():
    """An element costs Dice twice as much at one of them and 1.2 times at the other; with a peer between, still more."""
    found, (pixels, classes) = made_results(), plan.LARGE
    found.timings.append(results.Timing("torch", "DiceLoss", classes, {OURS: [9.0], "MONAI DiceLoss": [9.0]}, {}))
    for shape, seconds in ((TARGET, 0.05), (pixels, 0.05 * 16 * 2), (classes, 0.05 * 150 / 19 * 1.2)):
        found.alone.append(results.Timing("torch", "DiceLoss", shape, {OURS: [seconds] * 3, FLOOR: [0.01] * 3}, {}))
    return found


def test_cost_growth_is_of_times_without_peers_alone():
    found = with_the_largest()
    assert [standing.growth(found, "torch", "DiceLoss", shape) for shape in plan.LARGE] == pytest.approx([2.0, 1.2])
    del found.alone[-1]
    assert standing.growth(found, "torch", "DiceLoss", plan.LARGE[1]) is None


def test_the_largest_cost_growth_is_judged():
    verdicts = {verdict.what: verdict for verdict in standing.standing(with_the_largest(), "torch", "DiceLoss").verdicts}
    assert verdicts["linear"].value == pytest.approx(2.0)
    assert verdicts["linear"].met is False


def test_the_tables_have_the_largest_too():
    text = table.markdown(with_the_largest())
    # Ours at the largest number of pixels, where there is no peer; at the largest number of classes, the times with a peer.
    assert "| DiceLoss | 50.0 (1.00× †) | 4.00 (0.250× †) | 9000 (1.00× †) | 1600 |" in text
    assert "| DiceLoss | 2.00 | 1.20 |" in text


def test_a_peer_whose_check_died_is_not_said_to_have_failed():
    found = made_results()
    found.checks = [check for check in found.checks if check.row != "DiceLoss"]
    assert standing.mark_of(found, "torch", "DiceLoss", "MONAI DiceLoss") == marks.UNKNOWN
    assert "| MONAI DiceLoss (not checked) |" in table.markdown(found)


def test_the_tables_show_targets_shortfalls_and_reasons(monkeypatch):
    monkeypatch.setitem(targets.REASONS, ("DiceLoss", "torch", "speed"), "a made-up reason")
    text = table.markdown(made_results())
    assert "| CrossEntropyLoss | 20.0 [20.0–20.0] | torch cross_entropy | 120 [120–120] | 6.00 [6.00–6.00] (≥2.5) ✓" in text
    assert "| DiceLoss | 50.0 [50.0–50.0] | MONAI DiceLoss † |" in text
    assert "2.00 (≤1.5) **short** | 4.00 |" in text
    assert "| 300 | 3.00 (≤2) **short** | 500 (1.67) |" in text
    assert "- DiceLoss, speed (1.00 instead of 2): a made-up reason." in text
    assert f"- DiceLoss, memory (2.00 instead of 1.5): {targets.NO_REASON}." in text
    assert "- torch DiceLoss: smp DiceLoss: not installed" in text
    assert "an example, 2 cores" in text
    assert uneven(text) == []


def uneven(text):
    """Rows of tables that have not as many cells as their head."""
    found, width = [], None
    for line in text.splitlines():
        if not line.startswith("|"):
            width = None
            continue
        width = width or line.count("|")
        if line.count("|") != width:
            found.append(line)
    return found


def test_what_a_library_said_ends_no_cell_and_is_no_html():
    found = made_results()
    said = "TypeError: int | None\n<img src=x>"
    found = replace(found, checks=[replace(check, reason=said) for check in found.checks], gaps=[said])
    text = table.markdown(found)
    assert "<img" not in text
    assert "- TypeError: int \\| None &lt;img src=x>" in text
    assert uneven(text.replace("\\|", "")) == []


def test_a_row_with_a_cell_too_many_is_seen():
    assert uneven(table.grid(["a", "b"], [["1", "2"]])) == []
    assert uneven(table.grid(["a", "b"], [["1", "2"], ["1", "2", "3"]])) == ["| 1 | 2 | 3 |"]


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12346")]
)
def test_numbers(value, text):
    assert table.number(value) == text


def test_a_page_keeps_what_is_outside_its_markers():
    assert table.replaced(PAGE, "new") == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
    with pytest.raises(ValueError, match="must hold the lines"):
        table.replaced("no markers", "new")


def test_the_page_has_its_markers():
    table.replaced((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8"), "new")


def test_the_same_results_draw_the_same_chart(tmp_path):
    for name in ("a.svg", "b.svg"):
        chart.draw(made_results(), tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first == second
    assert b"<svg" in first


def test_the_bars_that_fall_short_have_a_colour_of_their_own(tmp_path):
    found, colours = made_results(), {}
    for rows in ({"DiceLoss"}, {"CrossEntropyLoss"}):
        some = replace(found, timings=[timing for timing in found.timings if timing.row in rows])
        chart.draw(some, tmp_path / "chart.svg")
        colours[rows.pop()] = (tmp_path / "chart.svg").read_text(encoding="utf-8")
    assert {row: (chart._OURS in text, chart._SHORT in text) for row, text in colours.items()} == {
        "DiceLoss": (False, True),
        "CrossEntropyLoss": (True, False),
    }


def test_the_page_says_whose_own_numbers_were_not_checked():
    found = made_results()
    assert "all agree. **Not** those of paddle CrossEntropyLoss, torch CrossEntropyLoss, torch DiceLoss." in table.markdown(
        found
    )
    for backend, name in (("torch", "CrossEntropyLoss"), ("torch", "DiceLoss"), ("paddle", "CrossEntropyLoss")):
        found.checks.append(results.Check(backend, name, OURS, marks.SAME, "", 1e-7, 1e-7))
    assert "in the same way: all agree.\n" in table.markdown(found)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "CUDA error: not permitted\nSearch for `cudaErrorStreamCaptureUnsupported' in the manual",
            "CUDA error: not permitted",
        ),
        (
            "\n---\nC++ Traceback\n---\n0 phi::f()\n---\nError Message Summary:\n---\nInvalidArgumentError: a shape",
            "InvalidArgumentError: a shape",
        ),
        ("", ""),
    ],
    ids=["cuda", "paddle", "nothing"],
)
def test_an_error_in_one_line_says_what_is_wrong(said, line):
    assert checks.described(RuntimeError(said)) == f"RuntimeError: {line}"
