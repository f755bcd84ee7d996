"""The benchmarks' command line and workers: nothing is timed, and no framework is imported."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import cli, workers

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
