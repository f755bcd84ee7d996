"""The benchmarks' own logic, with made-up numbers: nothing here is timed, and no framework is imported."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import chart, cli, gate, marks, memory, plan, results, standing, stats, table, targets, timing, workers
from benchmarks.names import FLOOR, OURS, WARM_FLOOR
from benchmarks.rows import ROWS, TARGET, Shape, arrays, row

ROOT = Path(__file__).parents[1]


# --- statistics and rounds ----------------------------------------------------------------------------------------------
def test_spread_is_the_median_with_its_quartiles():
    found = stats.spread([4.0, 1.0, 2.0, 3.0, 100.0])
    assert (found.low, found.median, found.high, found.count) == (2.0, 3.0, 4.0, 5)


def test_ratios_are_of_rounds_that_both_took_part_in():
    assert stats.ratios([2.0, None, 9.0, 8.0], [1.0, 5.0, None, 2.0]) == [2.0, 4.0]


def test_a_slow_moment_that_hits_both_leaves_the_ratio():
    ours, peer = [1.0, 10.0, 1.0], [3.0, 30.0, 3.0]
    assert stats.spread(stats.ratios(peer, ours)) == stats.Spread(3.0, 3.0, 3.0, 3)


def test_the_interval_holds_the_median_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        low, high = stats.median_interval(list(rng.exponential(size=11)))
        held += low <= np.log(2) <= high
    assert held / 400 > 0.93


def test_the_interval_of_few_values_is_their_range():
    assert stats.median_interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_no_values_have_no_interval():
    with pytest.raises(ValueError, match="at least one value"):
        stats.median_interval([])


class Steps:
    """Contestants that take seconds which are made up, and write down when they were called."""

    def __init__(self, **seconds):
        self.calls = []
        self.steps = {name: lambda name=name: (self.calls.append(name), seconds[name])[1] for name in seconds}


def test_everyone_is_called_once_a_round_in_rotated_order():
    made = Steps(a=0.0, b=0.0, c=0.0)
    times = timing.interleave(made.steps, anchor="a", rounds=3, seconds=1.0, rest=0.0)
    assert made.calls == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert times == {"a": [0.0] * 3, "b": [0.0] * 3, "c": [0.0] * 3}


def test_a_slow_contestant_sits_out_and_the_anchor_stays():
    made = Steps(ours=1.0, slow=5.0, quick=0.1)
    times = timing.interleave(made.steps, anchor="ours", rounds=10, seconds=2.0, rest=0.0)
    assert times["slow"] == [5.0] * 3 + [None] * 7
    assert times["ours"] == [1.0] * 10
    assert times["quick"] == [0.1] * 10


def test_rounds_end_when_nobody_has_time_left():
    made = Steps(ours=1.0, slow=5.0)
    assert len(timing.interleave(made.steps, anchor="ours", rounds=100, seconds=2.0, rest=0.0)["ours"]) == 3


@pytest.mark.parametrize("changes", [{"anchor": "nobody"}, {"rounds": 0}])
def test_bad_rounds_are_refused(changes):
    with pytest.raises(ValueError, match="must be"):
        timing.interleave(Steps(a=1.0).steps, **{"anchor": "a", "rounds": 1, "seconds": 1.0, **changes})


# --- memory -------------------------------------------------------------------------------------------------------------
def test_the_peak_shows_an_allocation_that_is_gone_again():
    try:
        extra = memory.peak_extra(lambda: np.ones(64 << 20, np.uint8).sum())
    except memory.PeakUnavailableError as error:
        pytest.skip(str(error))
    assert 60 << 20 <= extra <= 200 << 20


def test_a_machine_that_forbids_it_is_told_so(monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "no" / "clear_refs")
    with pytest.raises(memory.PeakUnavailableError, match="cannot be reset"):
        memory.peak_extra(lambda: None)


# --- rows, plans, targets -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ROWS)
def test_inputs_have_the_configuration_and_no_ignored_pixel(name):
    shape = Shape(2, 5, 32)
    found = arrays(row(name), shape)
    channels = row(name).channels(shape)
    assert found["logits"].shape == (2, channels, 32, 32)
    if row(name).kind != "values":
        assert found["labels"].min() >= 0
        assert found["labels"].max() < max(channels, 2)
    assert all(np.array_equal(a, b) for a, b in zip(found.values(), arrays(row(name), shape).values(), strict=True))


def test_every_row_has_a_target_and_every_reason_a_row():
    assert list(targets.TARGETS) == list(ROWS)
    for name, backend, what in targets.REASONS:
        assert name in ROWS
        assert backend in ("torch", "paddle")
        assert what in ("speed", "memory", "first call", "floor", "small", "linear")


def test_met_or_short():
    assert targets.at_least(2.5, 2.5) is True
    assert targets.at_least(2.4, 2.5) is False
    assert targets.at_least(2.4, None) is None
    assert targets.at_most(None, 1.3) is None
    assert targets.at_most(1.31, 1.3) is False


def test_a_plan_has_each_cell_once():
    wanted = plan.Plan(plan.rows(()), *plan.star(quick=False), ("torch", "paddle"), 1, 1.0)
    cells = [(backend, one.name, one.channels(s), s.batch, s.size, s.dtype) for backend, one, s, _ in wanted.cells()]
    assert len(cells) == len(set(cells))
    assert not [cell for cell in cells if cell[-1] == "bfloat16" and not ROWS[cell[1]].half]


def test_a_quick_plan_still_measures_the_slow_reference_at_a_small_size():
    wanted = plan.Plan(plan.rows(("DualTaskLoss",)), *plan.star(quick=True), ("torch", "paddle"), 1, 1.0)
    assert [(backend, shape.size) for backend, _, shape, _ in wanted.cells()] == [
        ("torch", 512),
        ("paddle", 512),
        ("paddle", 32),
    ]


def test_the_full_matrix_has_every_combination():
    shapes, _ = plan.selected(False, True, None, None, None, None)
    assert len(shapes) == 4 * 3 * 3 * 2


def test_a_class_name_means_all_its_rows():
    assert [one.name for one in plan.rows(("BCELoss",))] == ["BCELoss", "BCELoss dynamic"]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (("", 1e-7, 1e-7), marks.SAME),
        (("", 1e-1, 1e-7), marks.WRONG),
        (("", 1e-7, 1e-1), marks.WRONG),
        (("", float("nan"), 1e-7), marks.WRONG),
        (("per image", 1e-7, 1e-7), marks.ANOTHER),
        (("per image", 1e-1, 1e-7), marks.WRONG),
        (("draws noise", None, None), marks.UNCHECKED),
    ],
)
def test_marks(errors, expected):
    assert marks.mark(*errors)[0] == expected


# --- results, tables, chart ---------------------------------------------------------------------------------------------
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
    found.gaps.append("torch DiceLoss: smp DiceLoss: not installed")
    return found


def machine():
    return {"processor": "an example", "cores": 2, "memory_gib": 8.0, "system": "Linux 6", "load_before": 0.1}


def test_results_survive_a_file(tmp_path):
    path = tmp_path / "new" / "cpu.json"
    results.write(made_results(), path)
    assert results.read(path) == made_results()
    assert [found.name for found in path.parent.iterdir()] == ["cpu.json"]


def test_results_that_cannot_be_written_leave_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "cpu.json"
    path.write_text("old", encoding="utf-8")

    def full(*_arguments, **_keywords):
        raise OSError("no space left")

    monkeypatch.setattr(results.json, "dump", full)
    with pytest.raises(OSError, match="no space"):
        results.write(made_results(), path)
    assert [found.read_text(encoding="utf-8") for found in tmp_path.iterdir()] == ["old"]


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
    assert standing.growth(found, "torch", "DiceLoss", Shape(2, 19, 2048)) == pytest.approx(2.0)


def test_the_tables_show_targets_shortfalls_and_reasons(monkeypatch):
    monkeypatch.setitem(targets.REASONS, ("DiceLoss", "torch", "speed"), "a made-up reason")
    text = table.markdown(made_results())
    assert "| CrossEntropyLoss | 20.0 [20.0–20.0] | torch cross_entropy | 120 [120–120] | 6.00 [6.00–6.00] (≥2.5) ✓" in text
    assert "| DiceLoss | 50.0 [50.0–50.0] | MONAI DiceLoss † |" in text
    assert "2.00 (≤1.5) **short** | 4.00 |" in text
    assert "- DiceLoss, speed (1.00 instead of 2): a made-up reason." in text
    assert f"- DiceLoss, memory (2.00 instead of 1.5): {targets.NO_REASON}." in text
    assert "- torch DiceLoss: smp DiceLoss: not installed" in text
    assert "an example, 2 cores" in text
    widths = {}
    for line in text.splitlines():
        if line.startswith("|"):
            widths.setdefault(line.count("|"), 0)
    assert widths


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (12345.6, "12346")]
)
def test_numbers(value, text):
    assert table.number(value) == text


def test_a_page_keeps_what_is_outside_its_markers():
    page = f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    assert table.replaced(page, "new") == f"before\n{table.BEGIN}\nnew\n{table.END}\nafter\n"
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


# --- the gate -----------------------------------------------------------------------------------------------------------
LIMIT = gate.Limit("torch", "DiceLoss", "MONAI DiceLoss", 2.0)


def answers(*speeds):
    """A measurement after the other, in each of which ours is so many times as fast as the peer, with some noise."""
    left = list(speeds)

    def measure(limit):
        speed = left.pop(0)
        noise = [0.9, 1.0, 1.1, 0.95, 1.05, 1.0, 0.97, 1.03]
        return {"times": {OURS: [1.0] * len(noise), limit.peer: [speed * n for n in noise]}, "failures": {}}

    return measure


def test_the_gate_passes_what_is_as_fast_as_committed():
    outcome = gate.judge(LIMIT, answers(2.0))
    assert (outcome.passed, outcome.attempts) == (True, 1)


def test_the_gate_fails_what_became_twice_as_slow():
    outcome = gate.judge(LIMIT, answers(1.0, 1.0, 1.0))
    assert (outcome.passed, outcome.attempts) == (False, 3)


def test_the_gate_measures_again_before_it_fails():
    outcome = gate.judge(LIMIT, answers(1.0, 1.0, 1.9))
    assert (outcome.passed, outcome.attempts) == (True, 3)


def test_the_gate_passes_what_the_margin_allows():
    assert gate.judge(LIMIT, answers(1.45)).passed


@pytest.mark.parametrize("answer", [{"error": "died"}, {"times": {OURS: [1.0]}, "failures": {LIMIT.peer: "not installed"}}])
def test_the_gate_fails_what_cannot_be_measured(answer):
    outcome = gate.judge(LIMIT, lambda limit: answer)
    assert not outcome.passed
    assert outcome.failure


def test_limits_are_of_the_fastest_peer_that_is_not_slow():
    times = {OURS: [0.01] * 3, "slow": [1.0] * 3, "quick": [0.03] * 3, WARM_FLOOR: [0.001] * 3}
    assert gate.chosen("torch", "DiceLoss", times) == gate.Limit("torch", "DiceLoss", "quick", pytest.approx(3.0))
    del times["quick"]
    assert gate.chosen("torch", "DiceLoss", times).peer == WARM_FLOOR


def test_a_limit_is_the_middle_of_several_measurements():
    measured = [{OURS: [1.0] * 3, "peer": [speed] * 3} for speed in (0.2, 0.3, 0.1)]
    assert gate.agreed("torch", "DiceLoss", measured) == gate.Limit("torch", "DiceLoss", "peer", 0.2)


def test_limits_survive_a_file_and_keep_the_others(tmp_path):
    path = tmp_path / "limits.json"
    gate.write([LIMIT], path)
    other = gate.Limit("paddle", "L1Loss", "PaddleSeg", 1.5)
    gate.write([other], path)
    assert gate.read(path) == [other, LIMIT]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"torch": {"DiceLoss": {"peer": "x"}}}', '{"torch": {"NoLoss": {"peer": "x", "speed": 1}}}']
)
def test_limits_that_are_none_are_refused(tmp_path, text):
    path = tmp_path / "limits.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(results.ResultsError, match=r"limits\.json"):
        gate.read(path)


def test_a_limit_is_committed_for_every_loss_on_both_frameworks():
    found = {(limit.backend, limit.row) for limit in gate.read()}
    assert found == {(backend, name) for backend in ("torch", "paddle") for name in ROWS}


# --- the command line and workers ---------------------------------------------------------------------------------------
def command(*arguments):
    return CliRunner().invoke(cli.app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--backend", "jax"), "--backend must be one of torch, paddle (got 'jax')"),
        (("run", "--device", "tpu"), "--device must be one of cpu, cuda (got 'tpu')"),
        (("run", "--torch-python", "/nowhere/python"), "/nowhere/python does not exist"),
        (("check", "--paddle-python", "/nowhere/python"), "/nowhere/python does not exist"),
        (("page", "/nowhere/cpu.json"), "/nowhere/cpu.json does not exist"),
    ],
)
def test_bad_options_are_refused(arguments, message, monkeypatch):
    if "--paddle-python" in arguments or "--backend" not in arguments:
        # As if torch's environment were there.
        arguments = (*arguments, "--torch-python", sys.executable) if "check" in arguments else arguments
    done = command(*arguments)
    assert done.exit_code == cli.CANNOT_RUN
    assert message in done.stderr


ELSEWHERE = ("--torch-python", sys.executable, "--paddle-python", sys.executable)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--loss", "NoLoss"), "loss 'NoLoss' is not measured"),
        (("--quick", "--full"), "--quick and --full exclude each other"),
        (("--quick", "--size", "64"), "--quick measures the target's configuration"),
        (("--dtype", "int8"), "--dtype must be one of"),
    ],
)
def test_bad_selections_are_refused(arguments, message):
    done = command("run", *arguments, *ELSEWHERE)
    assert done.exit_code == cli.CANNOT_RUN
    assert message in done.stderr


def test_a_worker_that_dies_is_told_and_started_again(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho a made-up complaint >&2\nexit 3\n", encoding="utf-8")
    script.chmod(0o755)
    worker = workers.Worker("torch", script, "cpu")
    for _ in range(2):
        with worker, pytest.raises(workers.WorkerError, match=r"the torch worker died .*: a made-up complaint"):
            worker.ask({"do": "describe"})


def test_a_worker_that_is_late_is_ended(tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 60\n", encoding="utf-8")
    script.chmod(0o755)
    with workers.Worker("torch", script, "cpu") as worker, pytest.raises(workers.WorkerError, match="gave no answer in 0 s"):
        worker.ask({"do": "describe"}, limit=0.2)


def test_the_command_imports_no_framework():
    code = "import sys, benchmarks.cli; print(sorted({'torch', 'paddle'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
