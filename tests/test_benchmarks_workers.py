"""The benchmarks' command line and workers: nothing is timed, and no framework is imported."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import cli, workers
from benchmarks.names import OURS

ROOT = Path(__file__).parents[1]


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
        (("page", str(ROOT)), f"{ROOT} cannot be read (Is a directory)"),
        (("check", "--backend", "torch", "--torch-python", str(ROOT / "README.md")), "the torch worker cannot be started"),
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


@pytest.mark.parametrize("further", [(), ("--write",)])
def test_a_framework_that_cannot_start_is_no_regression(monkeypatch, further):
    def told(self, question, limit=0.0):
        assert question == {"do": "describe"}
        return {"error": "ModuleNotFoundError: No module named 'torch'"}

    monkeypatch.setattr(workers.Worker, "ask", told)
    done = command("check", "--backend", "torch", *further, *ELSEWHERE)
    assert done.exit_code == cli.CANNOT_RUN
    assert "the torch worker cannot start: ModuleNotFoundError: No module named 'torch'" in done.stderr


def test_an_interruption_is_no_regression(monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr(workers.Worker, "describe", interrupted)
    assert command("check", *ELSEWHERE).exit_code == cli.CANNOT_RUN


def test_limits_that_cannot_be_read_are_refused_before_others_are_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(cli.gate.committed, "__defaults__", (tmp_path / "limits.json",))
    (tmp_path / "limits.json").write_text("[", encoding="utf-8")
    done = command("check", "--write", *ELSEWHERE)
    assert done.exit_code == cli.CANNOT_RUN
    assert "take the file away" in done.stderr


def test_no_speed_is_committed_of_a_loss_that_fails(monkeypatch):
    monkeypatch.setattr(workers.Worker, "describe", lambda self: {})
    monkeypatch.setattr(workers.Worker, "ask", lambda *_: {"times": {}, "failures": {OURS: "a made-up reason"}})
    done = command("check", "--write", "--loss", "DiceLoss", *ELSEWHERE)
    assert done.exit_code == cli.CANNOT_RUN
    assert f"torch DiceLoss: {OURS}: a made-up reason" in done.stderr


def test_sigterm_ends_the_worker_too(tmp_path):
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/number\nexec sleep 60\n", encoding="utf-8")
    script.chmod(0o755)
    command = [sys.executable, "-m", "benchmarks", "run", "--backend", "torch", "--torch-python", str(script)]
    with subprocess.Popen([*command, "--out", str(tmp_path / "out.json")], cwd=ROOT, stderr=subprocess.PIPE) as run:
        number = tmp_path / "number"
        while not (number.exists() and number.read_text(encoding="utf-8").strip()):
            assert run.poll() is None
            time.sleep(0.02)
        run.terminate()
        _, said = run.communicate(timeout=60)
    assert (run.returncode, b"interrupted" in said) == (cli.CANNOT_RUN, True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text(encoding="utf-8")), 0)


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


@pytest.mark.parametrize("said", ["loading ...", "3", "[1]", "\\377"])
def test_a_worker_that_says_no_answer_is_ended(tmp_path, said):
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nprintf '{said}\\n'\nexec sleep 60\n", encoding="utf-8")
    script.chmod(0o755)
    with workers.Worker("torch", script, "cpu") as worker:
        with pytest.raises(workers.WorkerError, match=r"the torch worker said '.*' in place of an answer"):
            worker.ask({"do": "describe"})
        assert worker._process is None
    done = command("check", "--backend", "torch", "--torch-python", str(script))
    assert done.exit_code == cli.CANNOT_RUN
    assert "in place of an answer: does something print when its Python starts?" in done.stderr


def test_the_command_imports_no_framework():
    code = "import sys, benchmarks.cli; print(sorted({'torch', 'paddle'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
