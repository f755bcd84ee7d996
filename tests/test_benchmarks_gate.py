"""The benchmarks' own logic, with made-up numbers: the regression gate."""

import json
from dataclasses import replace

import pytest

from benchmarks import gate, results
from benchmarks.machine import machine
from benchmarks.names import OURS, WARM_FLOOR
from benchmarks.rows import ROWS

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


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        ({"error": "died"}, "died"),
        ({"times": {OURS: [1.0]}, "failures": {LIMIT.peer: "not installed"}}, f"{LIMIT.peer}: not installed"),
        ({"times": {}, "failures": {OURS: "raises"}}, f"{OURS}: raises"),
        ({"times": {LIMIT.peer: [1.0]}, "failures": {OURS: "raises"}}, f"{OURS}: raises"),
    ],
)
def test_the_gate_fails_what_cannot_be_measured(answer, failure):
    outcome = gate.judge(LIMIT, lambda limit: answer)
    assert not outcome.passed
    assert outcome.failure == failure


def test_limits_are_of_the_fastest_peer_that_is_not_slow():
    times = {OURS: [0.01] * 3, "slow": [1.0] * 3, "quick": [0.03] * 3, WARM_FLOOR: [0.001] * 3}
    assert gate.chosen("torch", "DiceLoss", times) == gate.Limit("torch", "DiceLoss", "quick", pytest.approx(3.0))
    del times["quick"]
    assert gate.chosen("torch", "DiceLoss", times).peer == WARM_FLOOR


def test_a_limit_is_the_middle_of_several_measurements():
    measured = [{OURS: [1.0] * 3, "peer": [speed] * 3} for speed in (0.2, 0.3, 0.1)]
    assert gate.agreed("torch", "DiceLoss", "peer", measured) == gate.Limit("torch", "DiceLoss", "peer", 0.2)


def test_limits_survive_a_file_and_keep_the_others(tmp_path):
    path = tmp_path / "limits.json"
    gate.write([LIMIT], path)
    other = gate.Limit("paddle", "L1Loss", "PaddleSeg", 1.5)
    gate.write([other], path)
    here = machine()["processor"]
    assert gate.read(path) == [replace(other, processor=here), replace(LIMIT, processor=here)]


def test_limits_of_another_processor_say_so(tmp_path, monkeypatch):
    path = tmp_path / "limits.json"
    gate.write([LIMIT], path)
    assert gate.from_elsewhere(gate.read(path)) == ""
    here = machine()["processor"]
    monkeypatch.setattr(gate, "machine", lambda: {"processor": "Another CPU"})
    assert f"measured on {here}, and this is Another CPU" in gate.from_elsewhere(gate.read(path))
    # A limit that is written here later knows its own.
    gate.write([gate.Limit("paddle", "L1Loss", "PaddleSeg", 1.5)], path)
    assert [limit.processor for limit in gate.read(path)] == ["Another CPU", here]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"torch": {"DiceLoss": {"peer": "x"}}}',
        '{"torch": {"NoLoss": {"peer": "x", "speed": 1, "processor": "y"}}}',
    ],
)
def test_limits_that_are_none_are_refused(tmp_path, text):
    path = tmp_path / "limits.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(results.ResultsError, match=r"limits\.json"):
        gate.read(path)


def test_a_limit_is_committed_for_every_loss_on_both_frameworks():
    found = {(limit.backend, limit.row) for limit in gate.read()}
    assert found == {(backend, name) for backend in ("torch", "paddle") for name in ROWS}


@pytest.mark.parametrize(
    ("backend", "row", "speed", "message"),
    [
        ("tortch", "DiceLoss", 2, "limits for 'tortch'"),
        ("torch", "DiceLos", 2, "limits for 'DiceLos'"),
        ("torch", "DiceLoss", 0, "speed must be a number above 0 \\(got 0.0\\)"),
        ("torch", "DiceLoss", -1, "above 0"),
        ("torch", "DiceLoss", float("nan"), "above 0"),
        ("torch", "DiceLoss", float("inf"), "above 0"),
    ],
)
def test_limits_that_always_or_never_hold_are_refused(tmp_path, backend, row, speed, message):
    path = tmp_path / "limits.json"
    path.write_text(json.dumps({backend: {row: {"peer": "a", "speed": speed, "processor": "b"}}}))
    with pytest.raises(results.ResultsError, match=message):
        gate.read(path)
