"""A conformance run on a device: which backends compute there, what is refused, and what is told of it."""

import json
from types import SimpleNamespace

import pytest
from checks.conformance_cli import unilossseg
from checks.stored_runs import GREETING, made, plain_cases, result, stored

from unilossseg.backends import is_installed
from unilossseg.conformance import cases, devices, results
from unilossseg.conformance.pool import RefusedError
from unilossseg.conformance.records.errors import RecordError
from unilossseg.conformance.reports import diff, summary
from unilossseg.conformance.run import _Session, run

ONE = ["--loss", "L1Loss", "-k", "plain/float32"]
GPU = {**GREETING, "device": "cuda:0", "device_name": "NVIDIA H100"}
each_framework = pytest.mark.parametrize(
    "framework",
    [
        pytest.param(name, marks=pytest.mark.skipif(not is_installed(name), reason=f"{name} is not installed"))
        for name in ("torch", "paddle")
    ],
)


def command(out, *arguments):
    return unilossseg("conformance", "run", "--out", out, *ONE, *arguments)


def lines_of(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


# --- a run ------------------------------------------------------------------------------------------------------------


@each_framework
def test_the_cpu_can_be_named(tmp_path, framework):
    done = command(tmp_path, "--backend", framework, "--device", "cpu")
    assert done.exit_code == 0, done.stdout + done.stderr
    header, *lines = lines_of(tmp_path)
    assert header["backends"][framework]["device"] == "cpu"
    assert "device_name" not in header["backends"][framework]
    assert not [line for line in lines if "--device" in line.get("repeat", "")]


@each_framework
@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_a_framework_cannot_use_is_refused(tmp_path, framework, device):
    done = command(tmp_path, "--backend", "numpy", "--backend", framework, "--device", device)
    assert done.exit_code == 2
    assert f"the {framework} worker is refused: --device {device}: {framework} fails with " in done.stderr
    assert "; expected a device that the framework has here. Name another. " in done.stderr
    assert f"Or leave {framework} out: --backend says what to check." in done.stderr
    assert not (tmp_path / "results.jsonl").exists()


@each_framework
def test_it_is_refused_before_another_backend_computes(monkeypatch, framework):
    ran = []
    monkeypatch.setattr(_Session, "run", lambda session: ran.append(session.backend))
    with pytest.raises(RefusedError, match="--device nonsense"):
        run(cases.selected(["L1Loss"], "plain/float32"), ["numpy", framework], device="nonsense")
    assert ran == []


def test_numpy_stays_on_the_cpu(tmp_path):
    done = command(tmp_path, "--backend", "numpy", "--backend", "strict", "--device", "cuda")
    assert done.exit_code == 0, done.stdout + done.stderr
    header, *lines = lines_of(tmp_path)
    assert {worker["device"] for worker in header["backends"].values()} == {"cpu"}
    assert not [line for line in lines if "--device" in line.get("repeat", "")]


def test_a_worker_that_does_not_start_is_errored_as_ever(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text("import os, sys\nif '--device' in sys.orig_argv:\n    os._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = command(tmp_path, "--backend", "numpy", "--device", "cuda")
    assert done.exit_code == 1
    (found,) = {line["message"] for line in lines_of(tmp_path) if line["type"] == "result"}
    assert "ended with exit status 7" in found


# --- what is told of it -----------------------------------------------------------------------------------------------


def test_a_result_is_repeated_on_its_device():
    (case, *_) = plain_cases("L1Loss")
    told = results.repeat(case, "torch", "cuda:0")
    assert told.startswith(f"unilossseg conformance run --loss {case.loss} -k {case.id} --out ")
    assert told.endswith(" --backend torch --device cuda:0")


def test_reports_name_the_device():
    one = [result(plain_cases("L1Loss")[0], "torch")]
    there, here = stored(one, backends={"torch": GPU}), stored(one, backends={"torch": {**GREETING, "device": "cpu"}})
    rows = dict(summary.environment_of(there))
    assert rows["device"] == ["cuda:0"]
    assert rows["model of the device"] == ["NVIDIA H100"]
    assert "model of the device" not in dict(summary.environment_of(here))
    assert diff.compare(here, there).versions() == [
        ("torch: device", "cpu", "cuda:0"),
        ("torch: device_name", "", "NVIDIA H100"),
    ]


def test_the_schema_knows_them():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((results.Path(results.__file__).parent / "schema" / "results.schema.json").read_text())
    header = made([result(plain_cases("L1Loss")[0], "torch")], backends={"torch": GPU}).header()
    jsonschema.validate(header, schema)
    assert {"device", "device_name"} <= set(schema["$defs"]["worker"]["properties"])


# --- where a framework is placed --------------------------------------------------------------------------------------


def paddle_with(gpus):
    """What is asked of a Paddle that was built for CUDA."""
    chosen = []
    return SimpleNamespace(
        is_compiled_with_cuda=lambda: True,
        device=SimpleNamespace(
            cuda=SimpleNamespace(device_count=lambda: gpus, get_device_name=lambda number: f"GPU {number}")
        ),
        set_device=chosen.append,
        get_device=lambda: chosen[-1],
    )


def test_paddle_calls_cuda_gpu():
    paddle = paddle_with(2)
    assert devices.place("paddle", paddle, "cuda:1") == "cuda:1"
    assert paddle.get_device() == "gpu:1"
    assert devices.model("paddle", paddle, "cuda:1") == "GPU 1"
    assert devices.place("paddle", paddle, "cpu") == "cpu"
    assert devices.model("paddle", paddle, "cpu") == ""


@pytest.mark.parametrize(("gpus", "device"), [(0, "cuda"), (0, "cuda:0"), (1, "cuda:1")])
def test_paddle_is_not_asked_for_a_gpu_that_would_end_the_process(gpus, device):
    with pytest.raises(RecordError, match=f"--device {device}: paddle fails with ValueError: it sees {gpus} GPUs; expected"):
        devices.place("paddle", paddle_with(gpus), device)


def test_what_has_no_devices_stays_on_the_cpu():
    assert devices.place("numpy", None, "cuda") == "cpu"
