"""A whole run with made-up workers: what is asked in which order, and what stays when it cannot go on."""

import sys

import pytest
from checks.made_up_worker import made_up
from typer.testing import CliRunner

from benchmarks import cli, plan, results, run
from benchmarks.names import FLOORS, OURS
from benchmarks.rows import TARGET, Shape
from benchmarks.workers import WorkerError

ANSWERS = {
    "describe": {"versions": {"torch": "2"}, "threads": {"framework": 2, "kernels": 2}},
    "check": {"checks": []},
    "time": {"times": {OURS: [0.01] * 3, "a peer": [0.02] * 3}, "failures": {}},
}


@pytest.fixture
def asked(monkeypatch):
    """What the workers of both frameworks are asked."""
    found = []
    monkeypatch.setattr(run, "Worker", made_up(ANSWERS, "cpu", found))
    return found


def carried_out(wanted):
    return run.Run(wanted, dict.fromkeys(wanted.backends), "cpu", "python -m benchmarks run", lambda _: None).carry_out()


def test_every_framework_is_started_before_anything_is_measured(asked):
    carried_out(plan.Plan(plan.rows(("DiceLoss",)), (Shape(1, 2, 32),), (), ("torch", "paddle"), 3, 1.0, fresh=False))
    assert asked == ["describe", "describe", "check", "time", "check", "time"]


def test_every_loss_has_a_process_of_its_own(monkeypatch):
    found = []

    class Told(made_up(ANSWERS, "cpu")):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.rows = []

        def ask(self, question, limit=0.0):
            self.rows.append(question.get("row"))
            return super().ask(question, limit)

        def __exit__(self, *_):
            found.append(self.rows)

    monkeypatch.setattr(run, "Worker", Told)
    shapes = (Shape(1, 2, 32), Shape(1, 2, 64))
    carried_out(plan.Plan(plan.rows(("DiceLoss", "L1Loss")), shapes, (), ("torch",), 3, 1.0, fresh=False))
    assert found == [[None], ["DiceLoss"] * 3, ["L1Loss"] * 3]


def test_what_the_largest_are_compared_with_is_measured_as_they_are(monkeypatch):
    questions = []

    class Listening(made_up(ANSWERS, "cpu")):
        def ask(self, question, limit=0.0):
            questions.append(question)
            return super().ask(question, limit)

    monkeypatch.setattr(run, "Worker", Listening)
    large = Shape(2, 19, 2048)
    found = carried_out(plan.Plan(plan.rows(("DiceLoss",)), (TARGET,), (large,), ("torch",), 31, 1.0, fresh=False))
    timed = [question for question in questions if question["do"] == "time"]
    assert [(q["shape"]["size"], q.get("contestants"), q.get("least")) for q in timed] == [
        (512, None, run.LEAST_AT_TARGET),
        (512, [OURS, *FLOORS], None),
        (2048, [OURS, *FLOORS], None),
    ]
    assert [timing.shape for timing in found.timings] == [TARGET]
    assert [timing.shape for timing in found.alone] == [TARGET, large]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (WorkerError("the paddle worker died"), cli.CANNOT_RUN),
        (KeyboardInterrupt(), cli.CANNOT_RUN),
        (ZeroDivisionError(), cli.CANNOT_RUN),
    ],
    ids=["dead", "interrupted", "unforeseen"],
)
def test_what_was_measured_stays_where_a_run_ends_early(monkeypatch, tmp_path, error, code):
    made = made_up(ANSWERS, "cpu")

    class Ending(made):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            Ending.started = getattr(Ending, "started", 0) + 1
            if Ending.started == 4:  # each framework was started once before, and torch has been measured
                raise error

    monkeypatch.setattr(run, "Worker", Ending)
    monkeypatch.setattr(cli, "RESULTS", tmp_path)
    elsewhere = ("--torch-python", sys.executable, "--paddle-python", sys.executable)
    done = CliRunner().invoke(cli.app, ["run", "--quick", "--no-fresh", "--loss", "DiceLoss", *elsewhere])
    assert done.exit_code == code
    assert [timing.backend for timing in results.read(tmp_path / "partial.json").timings] == ["torch"]


@pytest.mark.parametrize("options", [("--rounds", "3"), ("--seconds", "0.1"), ("--no-fresh",), ("--loss", "DiceLoss")])
def test_less_than_a_whole_run_leaves_the_page_and_its_results(asked, monkeypatch, tmp_path, options):
    monkeypatch.setattr(cli, "RESULTS", tmp_path)
    monkeypatch.setattr(run, "ask_fresh", lambda *_: {"error": "not in this test"})
    monkeypatch.setattr(cli, "_renew", lambda _: pytest.fail("the page was renewed"))
    elsewhere = ("--torch-python", sys.executable, "--paddle-python", sys.executable)
    done = CliRunner().invoke(cli.app, ["run", *options, *elsewhere])
    assert done.exit_code == cli.FINE, done.output
    assert [file.name for file in tmp_path.iterdir()] == ["partial.json"]


def test_a_place_for_the_results_that_cannot_be_written_is_refused_before_anything_is_measured(asked, tmp_path):
    elsewhere = ("--torch-python", sys.executable, "--paddle-python", sys.executable)
    done = CliRunner().invoke(cli.app, ["run", "--quick", "--no-fresh", "--out", str(tmp_path), *elsewhere])
    assert done.exit_code == cli.CANNOT_RUN
    assert f"{tmp_path} cannot be written (Is a directory)" in done.stderr
    assert asked == []


def test_brackets_in_what_workers_say_are_shown_as_they_are(monkeypatch, tmp_path):
    said = "failed in [/opt/lib/x.so], expected [n, c]"
    answers = {**ANSWERS, "time": {"times": {OURS: [0.01] * 3}, "failures": {"a peer": said}}}
    monkeypatch.setattr(run, "Worker", made_up(answers, "cpu"))
    elsewhere = ("--torch-python", sys.executable, "--paddle-python", sys.executable)
    out = str(tmp_path / "x[/b].json")
    done = CliRunner().invoke(cli.app, ["run", "--quick", "--no-fresh", "--loss", "DiceLoss", "--out", out, *elsewhere])
    assert done.exit_code == cli.FINE, done.output
    assert said in done.output
    assert out in done.output


def test_an_empty_selection_is_refused(asked, tmp_path):
    elsewhere = ("--torch-python", sys.executable, "--paddle-python", sys.executable)
    done = CliRunner().invoke(cli.app, ["run", "--loss", "L1Loss", "--dtype", "bfloat16", *elsewhere])
    assert done.exit_code == cli.CANNOT_RUN
    assert "nothing would be measured" in done.stderr
    assert asked == []
