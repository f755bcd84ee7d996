"""Every command's help names its exit codes, and every one of them comes about."""

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import typer
from checks.conformance_cli import unilossseg
from checks.stored_runs import made, plain_cases, result
from typer.testing import CliRunner

from unilossseg.conformance import capability_command, cli
from unilossseg.conformance.exit_codes import EXIT_CODES, INTERRUPTED, epilog
from unilossseg.conformance.parity import commands as parity
from unilossseg.conformance.verdict import DIFFERS, Verdict

ONE = ["--loss", "L1Loss", "-k", "plain/float32", "--backend", "numpy"]


def commands():
    """Every command of the command line by its words."""
    found = {}

    def walk(command, words):
        if hasattr(command, "commands"):
            for name, inner in command.commands.items():
                walk(inner, [*words, name])
        else:
            found[" ".join(words)] = command

    walk(typer.main.get_command(cli.app), [])
    return found


COMMANDS = commands()


def exit_code(*arguments):
    return unilossseg(*arguments).exit_code


def test_every_command_has_exit_codes_and_no_other_has():
    assert set(COMMANDS) == set(EXIT_CODES)


@pytest.mark.parametrize("name", COMMANDS)
def test_its_help_names_them_all(name):
    done = CliRunner().invoke(cli.app, [*name.split(), "--help"], terminal_width=100)
    assert done.exit_code == 0
    shown = " ".join(done.stdout.split())
    assert " ".join(epilog(name).split()) in shown
    codes = re.findall(r"(?:Exit codes: |; )(\d+), ", epilog(name))
    assert [int(code) for code in codes] == [*EXIT_CODES[name], INTERRUPTED]
    assert 2 in EXIT_CODES[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_option_is_2(name):
    assert exit_code(*name.split(), "--no-such-option") == 2


# --- each code of each command ----------------------------------------------------------------------------------------


@pytest.fixture
def stage(tmp_path, monkeypatch):
    """Files and stand-ins for what the commands need."""
    good = [result(case) for case in plain_cases("L1Loss")]
    bad = [replace(good[0], verdict=Verdict(DIFFERS, "planted")), *good[1:]]
    for name, results in (("good", good), ("bad", bad)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.jsonl").write_text(made(results).record(), encoding="utf-8")
    return SimpleNamespace(path=tmp_path, patch=monkeypatch, good=tmp_path / "good", bad=tmp_path / "bad")


LOSS = "unilossseg:DiceLoss"
ON_NUMPY = ["--framework", "numpy"]


def recorded(stage, name):
    out = stage.path / name
    assert exit_code("record", LOSS, "--out", out, *ON_NUMPY) == 0
    return out


def run(stage, code):
    if code == 1:
        bad = made([replace(result(plain_cases("L1Loss")[0]), verdict=Verdict(DIFFERS, "planted"))])
        stage.patch.setattr(cli, "run_cases", lambda *arguments, **options: bad)
    return ["conformance", "run", *(ONE if code != 2 else ["--loss", "NoLoss"]), "--out", stage.path / "out"]


def selftest(stage, code):
    if code == 1:
        stage.patch.setattr("unilossseg.conformance.run.judge", lambda *arguments: Verdict("conform"))
    return ["conformance", "selftest", "--backend", "numpy", "-k", "l1-sign" if code != 2 else "no such defect"]


def diff(stage, code):
    return ["conformance", "diff", stage.good, {0: stage.good, 1: stage.bad, 2: stage.path / "missing"}[code]]


def trend(stage, code):
    return ["conformance", "trend", stage.good, *([stage.path / "missing"] if code else [])]


def report(stage, code):
    return ["report", stage.good if not code else stage.path / "missing"]


def record(stage, code):
    return ["record", LOSS if not code else "unilossseg:Nothing", "--out", stage.path / "x", *ON_NUMPY]


def replay(stage, code):
    first = recorded(stage, "first")
    return ["replay", first if not code else stage.path / "missing", LOSS, "--out", stage.path / "y", *ON_NUMPY]


def compare(stage, code):
    first = recorded(stage, "first")
    kwargs = ["--kwargs", '{"smooth": 1.0}'] if code == 1 else []
    assert exit_code("replay", first, LOSS, *kwargs, "--out", stage.path / "second", *ON_NUMPY) == 0
    return ["compare", first, stage.path / "second" if code != 2 else stage.path / "missing"]


def train_parity(stage, code):
    outcome = SimpleNamespace(same=code == 0, record=lambda: "{}\n")
    stage.patch.setattr(parity, "is_installed", lambda name: code != 2)
    stage.patch.setattr(parity, "_run", lambda *arguments: outcome)
    stage.patch.setattr(parity, "_summarise", lambda *arguments: None)
    stage.patch.setattr("unilossseg.conformance.parity.figure.draw", lambda outcome: "<svg/>")
    return ["train-parity", "--out", stage.path / "parity"]


def capabilities(stage, code):
    stage.patch.setattr(capability_command.probes, "check", lambda name: ["planted"] if code == 1 else [])
    return ["capabilities", "--check", "--backend", "numpy" if code != 2 else "nmupy"]


PRODUCERS = {
    "conformance run": run,
    "conformance selftest": selftest,
    "conformance diff": diff,
    "conformance trend": trend,
    "report": report,
    "record": record,
    "replay": replay,
    "compare": compare,
    "train-parity": train_parity,
    "capabilities": capabilities,
}


@pytest.mark.parametrize(("name", "code"), [(name, code) for name, codes in EXIT_CODES.items() for code in codes])
def test_each_exit_code_comes_about(name, code, stage):
    arguments = PRODUCERS[name](stage, code)
    assert exit_code(*arguments) == code


def test_an_interrupted_run_is_130(tmp_path):
    """A worker that never greets keeps the command waiting until it is interrupted."""
    waiting = tmp_path / "python"
    waiting.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\nexec sleep 600\n")
    waiting.chmod(0o755)
    arguments = ["conformance", "run", *ONE, "--worker", f"numpy={waiting}", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-m", "unilossseg", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A shell's background job ignores the signal, and with it every process that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not (tmp_path / "asked").exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == INTERRUPTED
    assert not (tmp_path / "out" / "results.jsonl").exists()


def test_the_stage_is_what_it_says(stage):
    lines = [json.loads(line) for line in (stage.bad / "results.jsonl").read_text().splitlines()]
    assert lines[0]["counts"]["differs"] == 1
