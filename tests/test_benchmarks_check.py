"""The regression gate's command with made-up workers: its exit codes, what it asks, and which limits it commits."""

import json
import sys

import pytest
from checks.made_up_worker import made_up
from typer.testing import CliRunner

from benchmarks import cli, gate
from benchmarks.names import OURS
from benchmarks.workers import WorkerError

ELSEWHERE = ("--torch-python", sys.executable, "--paddle-python", sys.executable)
#: Of the one that is committed against.
PEER = "a peer"


@pytest.fixture
def limits(monkeypatch, tmp_path):
    """The file of limits: Dice and L1 on torch are committed to twice the peer's speed."""
    path = tmp_path / "limits.json"
    for function in (gate.read, gate.write, gate.committed):
        monkeypatch.setattr(function, "__defaults__", (path,))
    gate.write([gate.Limit("torch", name, PEER, 2.0) for name in ("DiceLoss", "L1Loss")])
    return path


@pytest.fixture
def answering(monkeypatch):
    """Has workers answer what times are, by the loss that is asked for; what was asked."""

    def make(answers):
        asked = []

        class Worker(made_up({"describe": {}}, "cpu")):
            def __init__(self, backend, python, device, single):
                assert single
                super().__init__(backend, python, device)

            def ask(self, question, limit=0.0):
                if question["do"] != "time":
                    return super().ask(question, limit)
                asked.append((question["row"], question.get("contestants")))
                answer = answers[question["row"]](question)
                if isinstance(answer, BaseException):
                    raise answer
                return answer

        monkeypatch.setattr(cli, "Worker", Worker)
        return asked

    return make


def as_fast(*speeds):
    """Ours is so many times as fast as the peer, in one measurement after the other; the last stays."""
    left = list(speeds)

    def answer(question):
        speed = left.pop(0) if len(left) > 1 else left[0]
        return {"times": {OURS: [0.01] * 8, PEER: [speed * 0.01] * 8, "a slower peer": [1.0] * 8}, "failures": {}}

    return answer


def check(*arguments):
    return CliRunner().invoke(cli.app, ["check", "--backend", "torch", *arguments, *ELSEWHERE])


def test_what_is_as_fast_as_committed_is_fine(limits, answering):
    asked = answering({"DiceLoss": as_fast(2.0), "L1Loss": as_fast(1.5)})
    done = check()
    assert done.exit_code == 0 == cli.FINE, done.output
    assert "2 of 2 losses are as fast as committed" in done.output
    assert asked == [("DiceLoss", [PEER]), ("L1Loss", [PEER])]


def test_one_that_became_slower_is_a_regression(limits, answering):
    asked = answering({"DiceLoss": as_fast(2.0), "L1Loss": as_fast(1.0)})
    done = check()
    assert done.exit_code == 1 == cli.SLOWER, done.output
    assert "1 of 2 losses are as fast as committed" in done.output
    assert "SLOWER: torch L1Loss: 1 to 1 times as fast as a peer, committed 2" in done.output
    assert asked == [("DiceLoss", [PEER]), *[("L1Loss", [PEER])] * gate.ATTEMPTS]


def test_a_worker_that_dies_over_one_loss_fails_it_alone(limits, answering):
    answering({"DiceLoss": lambda _: WorkerError("it died"), "L1Loss": as_fast(2.0)})
    done = check()
    assert done.exit_code == cli.SLOWER
    assert "SLOWER: torch DiceLoss: it died" in done.output
    assert "1 of 2 losses" in done.output


def test_an_unforeseen_error_is_no_regression(limits, answering):
    answering({"DiceLoss": lambda _: ZeroDivisionError("made up"), "L1Loss": as_fast(2.0)})
    done = check()
    assert done.exit_code == 2 == cli.CANNOT_RUN
    assert "Traceback" in done.stderr
    assert "ZeroDivisionError: made up" in done.stderr


def test_losses_without_a_limit_are_no_success(limits, answering):
    answering({})
    done = check("--loss", "MSELoss")
    assert done.exit_code == cli.CANNOT_RUN
    assert "no limit is committed for these losses" in done.stderr


def committed(limits):
    return {row: (entry["peer"], entry["speed"]) for row, entry in json.loads(limits.read_text())["torch"].items()}


def test_a_limit_is_measured_as_it_is_checked_and_the_middle_counts(limits, answering):
    # With all peers, in one measurement, ours looks much faster.
    asked = answering({"DiceLoss": as_fast(9.0, 4.0, 3.0, 5.0)})
    done = check("--write", "--loss", "DiceLoss")
    assert done.exit_code == cli.FINE, done.output
    assert asked == [("DiceLoss", None), *[("DiceLoss", [PEER])] * gate.ATTEMPTS]
    assert committed(limits) == {"DiceLoss": (PEER, 4.0), "L1Loss": (PEER, 2.0)}


@pytest.mark.parametrize(
    "late", [WorkerError("it died"), KeyboardInterrupt(), ZeroDivisionError()], ids=["dead", "interrupted", "unforeseen"]
)
def test_limits_that_were_measured_are_kept_where_a_later_loss_fails(limits, answering, late):
    answering({"DiceLoss": as_fast(3.0), "L1Loss": lambda _: late})
    done = check("--write", "--loss", "DiceLoss", "--loss", "L1Loss")
    assert done.exit_code == cli.CANNOT_RUN
    assert f"Limits committed: 1, in {gate.LIMITS}" in done.output
    assert committed(limits) == {"DiceLoss": (PEER, 3.0), "L1Loss": (PEER, 2.0)}
