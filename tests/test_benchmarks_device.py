"""Runs on a GPU, with a worker that answers made-up numbers: what is asked, what is kept, and the page's tables."""

import importlib
import sys
import types

import pytest
from checks.made_up_worker import made_up

from benchmarks import device_table, marks, plan, results, run
from benchmarks.names import FLOOR, OURS
from benchmarks.rows import TARGET, Shape
from benchmarks.workers import WorkerError

SMP, MONAI = "smp DiceLoss", "MONAI DiceLoss"


def check(name):
    numbers = {"value_error": 1e-7, "gradient_error": 1e-7, "note": ""}
    return {"contestant": name, "mark": marks.SAME, "reason": "", **numbers}


#: Ours takes 2 ms a call and 1 on the device; one peer 3 and 4; another waits for the device, and takes 10.
ANSWERS = {
    "describe": {"versions": {"torch": "1"}, "threads": {"framework": 2, "kernels": 2}, "accelerator": "GPU"},
    "check": {"checks": [check(name) for name in (OURS, MONAI, SMP)]},
    "time": {"times": {OURS: [0.002] * 3, MONAI: [0.003] * 3, SMP: [0.01] * 3}, "failures": {}},
    "replays": {
        "times": {OURS: [0.001] * 3, MONAI: [0.004] * 3, FLOOR: [0.0005] * 3},
        "failures": {SMP: "it waits"},
    },
    "memory": {"extra": 4_000_000, "logits": 1},
}


def carried_out():
    wanted = plan.Plan(plan.rows(("DiceLoss",)), *plan.star(quick=True, device="cuda"), ("torch",), 3, 1.0, fresh=False)
    return run.Run(wanted, {"torch": None}, "cuda", "python -m benchmarks run", lambda _: None).carry_out()


@pytest.fixture
def paddle_of(monkeypatch):
    """The worker's view of a GPU build of Paddle with such functions; what it was set to."""

    def make(version, event, *functions):
        cuda = types.SimpleNamespace(device_count=lambda: 1, Event=event, **dict.fromkeys(functions))
        devices = []
        module = types.ModuleType("paddle")
        module.__version__, module.device = version, types.SimpleNamespace(cuda=cuda)
        module.is_compiled_with_cuda, module.set_device = (lambda: True), devices.append
        monkeypatch.setitem(sys.modules, "paddle", module)
        here = importlib.import_module("benchmarks.frameworks.paddle").Here
        del sys.modules["benchmarks.frameworks.paddle"]
        return here, devices

    return make


class OldEvent:
    """Has no time."""


class Event(OldEvent):
    """Has one."""

    elapsed_time = None


@pytest.mark.parametrize(("event", "functions"), [(OldEvent, ["reset_max_memory_allocated"]), (Event, [])])
def test_a_paddle_that_measures_nothing_on_a_gpu_is_refused(paddle_of, event, functions):
    here, devices = paddle_of("2.6.2", event, *functions)
    with pytest.raises(
        RuntimeError, match=r"Paddle 2\.6\.2 cannot measure a GPU's time and memory: .* or install Paddle 3 in"
    ):
        here("cuda")
    assert devices == []
    here("cpu")
    assert devices == ["cpu"]


def test_a_paddle_that_measures_is_taken(paddle_of):
    here, devices = paddle_of("3.3.1", Event, "reset_max_memory_allocated")
    assert here("cuda").device == "cuda"
    assert devices == ["gpu"]


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr(run, "Worker", made_up(ANSWERS, "cuda"))
    return carried_out()


def test_each_configuration_is_timed_replayed_and_weighed(monkeypatch):
    asked = []
    monkeypatch.setattr(run, "Worker", made_up(ANSWERS, "cuda", asked))
    measured = carried_out()
    assert asked == ["describe", "check", "time", "replays", "memory", "memory", "memory"]
    assert measured.replay("torch", "DiceLoss", TARGET).times[OURS] == [0.001] * 3
    assert {entry.contestant for entry in measured.memory} == {OURS, MONAI, SMP}


def test_a_peer_that_cannot_be_captured_is_no_gap(measured):
    assert measured.gaps == []


def test_the_tables_compare_calls_and_the_device(measured):
    page = device_table.markdown(measured)
    line = next(line for line in page.splitlines() if line.startswith("| DiceLoss"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert [cell.partition(" [")[0] for cell in cells] == [
        "DiceLoss",
        "2.00",
        f"{MONAI}: 3.00",
        "1.50",
        "1.00",
        f"{MONAI}: 4.00",
        "4.00",
        "0.100; 0.100",
    ]
    assert f"### PyTorch on GPU, {TARGET}" in page
    assert f"- PyTorch DiceLoss: {SMP}: it waits" in page


def test_a_worker_that_dies_over_its_memory_is_a_gap(monkeypatch):
    monkeypatch.setattr(run, "Worker", made_up({**ANSWERS, "memory": WorkerError("the torch worker died")}, "cuda"))
    found = carried_out()
    assert [entry.extra for entry in found.memory] == [None] * 3
    assert len(found.gaps) == 3
    assert all("the torch worker died" in gap for gap in found.gaps)


def test_replays_survive_a_file(measured, tmp_path):
    results.write(measured, tmp_path / "cuda.json")
    assert results.read(tmp_path / "cuda.json").replays == measured.replays


def test_a_gpu_has_configurations_of_its_own():
    shapes, large = plan.selected(False, False, None, None, None, None, "cuda")
    assert TARGET in shapes
    assert Shape(2, 19, 1024) in shapes
    assert large == ()
