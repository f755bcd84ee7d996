"""What a worker measures, with NumPy as its framework, made-up peers and a clock that they turn.

Who is called how often and with what freed before, who is left out, and whose numbers are called wrong.
"""

import types

import numpy as np
import pytest
from checks.numpy_framework import Faces, Here, Value

import unilossseg
from benchmarks import contestants, floor, marks, memory, timing, worker
from benchmarks.names import FLOOR, FLOORS, OURS, WARM_FLOOR
from benchmarks.peers import Peer
from benchmarks.rows import Shape, row

ROW, SHAPE = row("DiceLoss"), Shape(2, 3, 16)


def scaled(value=1.0, gradient=1.0):
    """A peer that is off by factors."""

    def build(row, shape, inputs):
        right = unilossseg.value_and_grad(unilossseg.DiceLoss())

        def call(logits):
            found, slope = right(logits.numbers, inputs["labels"])
            return Value(logits, value * found, gradient * slope)

        return call

    return build


def raising(row, shape, inputs):
    raise RuntimeError("a made-up failure")


@pytest.fixture
def session(monkeypatch):
    """A worker's session over such peers, and its framework."""
    monkeypatch.setattr(timing, "time", types.SimpleNamespace(sleep=lambda _: None))

    def make(*peers):
        framework = Here()
        monkeypatch.setattr(worker, "load", lambda backend, device: (framework, Faces(), {ROW.name: peers}, ()))
        return worker.Session("numpy", "cpu", single=False), framework

    return make


def question(**further):
    return {"do": "time", "row": ROW.name, "shape": SHAPE.as_json(), "rounds": 4, "seconds": 100.0, **further}


# --- times --------------------------------------------------------------------------------------------------------------


class Watched:
    """A contestant of a second: each call notes whether an earlier gradient was there, and freeing one takes ten."""

    def __init__(self):
        self.now, self.held = 0.0, []

    def clock(self):
        return self.now

    def build(self, row, shape, inputs):
        def call(logits):
            self.held.append(logits.grad is not None)
            self.now += 11.0 if logits.grad is not None else 1.0
            return Value(logits, 0.0, np.zeros(1))

        return call


@pytest.fixture
def watched(monkeypatch):
    found = Watched()
    monkeypatch.setattr(worker, "time", types.SimpleNamespace(perf_counter=found.clock, process_time=found.clock))
    return found


def test_a_time_is_of_one_call_without_the_last_gradient(session, watched):
    asked, _ = session(Peer("watched", watched.build))
    answer = asked.time(question())
    assert answer["failures"] == {}
    assert list(answer["times"]) == [OURS, "watched", *FLOORS]
    assert answer["times"]["watched"] == [1.0] * 4
    # A first call, a warm one, four that are timed; only before the first may ours have left a gradient.
    assert len(watched.held) == 6
    assert watched.held[1:] == [False] * 5


def test_nothing_is_held_when_the_rounds_begin(session, monkeypatch):
    held = []
    interleave = worker.interleave

    def noted(steps, **options):
        held.append(logits[0].grad is not None)
        return interleave(steps, **options)

    def keeping(row, shape, inputs):
        logits.append(inputs["logits"])
        return scaled()(row, shape, inputs)

    logits = []
    monkeypatch.setattr(worker, "interleave", noted)
    asked, _ = session(Peer("keeping", keeping))
    asked.time(question(contestants=["keeping"]))
    assert held == [False]


def test_a_step_drops_the_gradient_outside_its_time(watched):
    framework = Here()
    field = contestants.Field(framework, Faces(), {ROW.name: (Peer("watched", watched.build),)})
    inputs = field.inputs(ROW, SHAPE)
    step = field.timed(field.step("watched", ROW, SHAPE, inputs), inputs, watched.clock)
    assert [step(), step(), step()] == [1.0, 1.0, 1.0]
    assert framework.dropped == 3


def test_a_slow_peer_is_called_once_and_only_where_it_is_asked_for(session, watched):
    asked, _ = session(Peer("slow", watched.build, largest=SHAPE.pixels * SHAPE.classes - 1))
    answer = asked.time(question())
    assert "--slow" in answer["failures"]["slow"]
    assert (list(answer["times"]), watched.held) == ([OURS, *FLOORS], [])
    answer = asked.time(question(slow=True))
    assert answer["times"]["slow"] == [1.0]
    assert len(answer["times"][OURS]) == 1
    assert len(watched.held) == 1


def test_a_peer_that_fails_is_left_out_and_says_why(session):
    asked, _ = session(Peer("failing", raising), Peer("fine", scaled()))
    answer = asked.time(question())
    assert answer["failures"] == {"failing": "RuntimeError: a made-up failure"}
    assert list(answer["times"]) == [OURS, "fine", *FLOORS]


def test_without_our_own_time_there_is_none(session, monkeypatch):
    asked, _ = session(Peer("fine", scaled()))
    monkeypatch.setattr(Faces, "__getattr__", lambda *_: raising(None, None, None))
    assert asked.time(question()) == {"times": {}, "failures": {OURS: "RuntimeError: a made-up failure"}}


def test_those_that_are_asked_for_take_part(session):
    asked, _ = session(Peer("one", scaled()), Peer("other", scaled()))
    assert list(asked.time(question(contestants=["other"]))["times"]) == [OURS, "other"]
    assert list(asked.time(question(contestants=[OURS, *FLOORS]))["times"]) == [OURS, *FLOORS]
    assert list(asked.time(question(contestants=[WARM_FLOOR]))["times"]) == [OURS, WARM_FLOOR]


# --- memory -------------------------------------------------------------------------------------------------------------


def test_peers_that_might_not_fit_are_not_tried(session, monkeypatch):
    called = []
    asked, _ = session(Peer("large", lambda *_: called.append("large")))
    size = ROW.logits_bytes(SHAPE)
    monkeypatch.setattr(memory, "available", lambda: worker.PEER_NEEDS * size - 1)
    answer = asked.time(question())
    assert answer["failures"]["large"].startswith("might need")
    assert (list(answer["times"]), called) == ([OURS, *FLOORS], [])


def test_what_does_not_fit_at_all_is_not_begun(session, monkeypatch):
    asked, framework = session(Peer("fine", scaled()))
    monkeypatch.setattr(memory, "available", lambda: worker.OURS_NEEDS * ROW.logits_bytes(SHAPE) - 1)
    monkeypatch.setattr(framework, "tensors", lambda *_: pytest.fail("tensors were made"))
    with pytest.raises(MemoryError, match=r"N=2 C=3 16² needs about .* MiB free, there are"):
        asked.time(question())


def test_what_just_fits_is_tried(session, monkeypatch):
    asked, _ = session(Peer("fine", scaled()))
    monkeypatch.setattr(memory, "available", lambda: worker.PEER_NEEDS * ROW.logits_bytes(SHAPE))
    assert asked.time(question())["failures"] == {}


# --- the floor ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
def test_the_floor_writes_the_exponential_of_every_logit(monkeypatch, threads):
    monkeypatch.setattr(floor, "PIECE", 7)
    logits = np.linspace(-2, 2, 30, dtype=np.float32).reshape(2, 3, 5)
    made = floor.Floor(logits, threads)
    fresh = []
    monkeypatch.setattr(floor.np, "empty_like", lambda x: fresh.append(np.zeros_like(x)) or fresh[-1])
    steps = made.steps()
    steps[FLOOR]()
    steps[WARM_FLOOR]()
    for written in (*fresh, made._warm):
        np.testing.assert_array_equal(written, np.exp(logits).reshape(-1))
    assert len(fresh) == 1


# --- marks --------------------------------------------------------------------------------------------------------------


def test_each_contestants_value_and_gradient_are_held_against_the_reference(session):
    asked, _ = session(
        Peer("right", scaled()),
        Peer("wrong value", scaled(value=1.01)),
        Peer("wrong gradient", scaled(gradient=1.01)),
        Peer("another", scaled(value=2.0), differs="doubles", definition="", note="was mended"),
        Peer("failing", raising),
    )
    found = {entry["contestant"]: entry for entry in asked.check({"row": ROW.name})["checks"]}
    assert {name: entry["mark"] for name, entry in found.items()} == {
        OURS: marks.SAME,
        "right": marks.SAME,
        "wrong value": marks.WRONG,
        "wrong gradient": marks.WRONG,
        "another": marks.UNCHECKED,
        "failing": marks.FAILED,
    }
    assert found["wrong value"]["value_error"] == pytest.approx(0.01, rel=1e-3)
    assert found["wrong gradient"]["gradient_error"] == pytest.approx(0.01, rel=1e-3)
    assert found["right"]["gradient_error"] < 1e-4
    assert (found["another"]["reason"], found["another"]["note"]) == ("doubles", "was mended")
    assert found["failing"]["reason"] == "RuntimeError: a made-up failure"
