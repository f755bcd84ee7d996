"""First calls: which contestants are asked, which process counts, and what the process does before."""

import itertools

import pytest
from checks.made_up_worker import made_up

from benchmarks import memory, plan, run
from benchmarks.names import OURS, REFERENCE
from benchmarks.rows import TARGET

NATIVE = "paddle cross_entropy"


#: The framework's own function is the fastest, and the reference what ours is judged against.
ANSWERS = {
    "describe": {"versions": {"paddle": "3"}, "threads": {"framework": 1, "kernels": 2}},
    "check": {"checks": []},
    "time": {"times": {OURS: [0.01] * 3, NATIVE: [0.02] * 3, REFERENCE: [0.1] * 3}, "failures": {}},
}


def first_calls(monkeypatch, answers):
    """What a run keeps when fresh processes answer one after the other as given."""
    answers = itertools.cycle(answers)

    def ask_fresh(backend, python, device, question, limit=0.0):
        return {"extra": 1} if question["do"] == "memory" else next(answers)

    monkeypatch.setattr(run, "Worker", made_up(ANSWERS, "cpu"))
    monkeypatch.setattr(run, "ask_fresh", ask_fresh)
    wanted = plan.Plan(plan.rows(("CrossEntropyLoss",))[:1], (TARGET,), (), ("paddle",), 3, 1.0)
    return run.Run(wanted, {"paddle": None}, "cpu", "python -m benchmarks run", lambda _: None).carry_out()


def test_the_middle_process_counts_with_its_own_later_calls(monkeypatch):
    seconds = [0.5, 0.02, 0.03, 0.01, 0.4]
    assert len(seconds) == run.PROCESSES
    found = first_calls(monkeypatch, [{"first": one, "later": [one / 2]} for one in seconds]).first_calls
    assert [(call.contestant, call.first, call.later) for call in found] == [
        (OURS, 0.03, [0.015]),
        (REFERENCE, 0.03, [0.015]),
    ]


def test_one_process_that_dies_does_not_count_and_most_are_a_gap(monkeypatch):
    good, dead = {"first": 0.02, "later": [0.01]}, {"error": "it died"}
    found = first_calls(monkeypatch, [dead, good, good, good, good])
    assert [call.first for call in found.first_calls] == [0.02, 0.02]
    assert found.gaps == []
    found = first_calls(monkeypatch, [dead, good, dead, good, dead])
    assert [call.first for call in found.first_calls] == [None, None]
    assert len(found.gaps) == 2
    assert all("it died" in gap for gap in found.gaps)


def test_without_a_time_of_ours_nothing_is_asked_for(monkeypatch):
    failed = {"times": {REFERENCE: [0.1] * 3}, "failures": {OURS: "it failed"}}
    monkeypatch.setitem(ANSWERS, "time", failed)
    found = first_calls(monkeypatch, [{"first": 0.02, "later": [0.01]}])
    assert [call.contestant for call in found.first_calls] == [OURS]


def test_memory_is_written_to_and_given_back():
    before = memory.read_status("VmRSS")
    try:
        extra = memory.peak_extra(memory.back)
    except memory.PeakUnavailableError as error:
        pytest.skip(str(error))
    assert extra >= 0.9 * (256 << 20)
    assert memory.read_status("VmRSS") - before < 64 << 20
