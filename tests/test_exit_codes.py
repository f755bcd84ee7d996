"""Every command's help names its exit codes, and every one of them comes about."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from checks.conformance_cli import unilossseg
from checks.stored_runs import made, plain_cases, result
from typer.testing import CliRunner

from unilossseg.conformance import capability_command, cli
from unilossseg.conformance import selftest as planting
from unilossseg.conformance.exit_codes import EXIT_CODES, INTERRUPTED, TERMINATED, epilog, refuse
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
    assert [int(code) for code in codes] == [*EXIT_CODES[name], INTERRUPTED, TERMINATED]
    assert 2 in EXIT_CODES[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_wrong_option_is_2(name):
    assert exit_code(*name.split(), "--no-such-option") == 2


def test_a_refusal_does_nothing_to_a_terminal(capsys):
    with pytest.raises(typer.Exit):
        refuse("\x1b]0;title\x07 \u202e\u2028 two\n\tlines ✓")
    assert capsys.readouterr().err == "unilossseg: \ufffd]0;title\ufffd \ufffd\ufffd two\n\tlines ✓\n"


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


# --- ended by a signal ------------------------------------------------------------------------------------------------

#: Every worker, which then never greets: its command waits until a signal comes.
WAITING = """
import os, sys, time
from pathlib import Path
if any(word.startswith("unilossseg.conformance.") and word.endswith(".worker") for word in sys.orig_argv):
    Path(os.environ["ASKED"], str(os.getpid())).touch()
    time.sleep(600)
"""
WAITS = {
    "conformance run": [*ONE, "--out", "out"],
    "conformance selftest": ["--backend", "numpy", "-k", "l1-sign"],
    # PYTHONPATH does not go along with the Python of another environment: this one sets it.
    "train-parity": ["--worker", "torch=../site/python", "--worker", "paddle=../site/python", "--out", "out"],
}


def ended(folder, number, name):
    """The exit code of a command that a signal ends while it waits for its workers; none of them is left."""
    site, asked, temporary, place = (folder / name for name in ("site", "asked", "temporary", "place"))
    for made_here in (site, asked, temporary, place):
        made_here.mkdir()
    (site / "sitecustomize.py").write_text(WAITING)
    paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    (site / "python").write_text(f'#!/bin/sh\nPYTHONPATH="{paths}" exec "{sys.executable}" "$@"\n')
    (site / "python").chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "unilossseg", *name.split(), *WAITS[name]],
        cwd=place,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(temporary), "ASKED": str(asked)},
        # A shell's background job ignores the signal, and with it every process that it starts.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    try:
        while not list(asked.iterdir()) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(number)
        process.communicate(timeout=60)
    finally:
        process.kill()
        left = [int(path.name) for path in asked.iterdir() if is_alive(int(path.name))]
        for worker in left:
            os.kill(worker, signal.SIGKILL)
    assert left == []
    assert list(temporary.iterdir()) == []
    assert list(place.iterdir()) == []
    return process.returncode


def is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("name", WAITS)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, TERMINATED)])
def test_a_command_that_a_signal_ends_leaves_nothing(tmp_path, name, number, code):
    assert ended(tmp_path, number, name) == code
    assert TERMINATED == 143


def test_a_second_signal_does_not_end_the_taking_back(stage):
    seen = []

    def terminated(*arguments, **options):
        # Else the signals would end the tests.
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append("all of it")

    stage.patch.setattr(cli, "run_cases", terminated)
    # Whoever started the tests may ignore it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert exit_code("conformance", "run", *ONE, "--out", stage.path / "out") == TERMINATED
    assert seen == ["all of it"]
    assert not (stage.path / "out").exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


#: A run that goes on whatever it is told, and says when it has been told.
STUBBORN = """
import os, signal, time
from unilossseg.conformance import cli

def stubborn(*arguments, **options):
    handle = signal.getsignal(signal.SIGTERM)
    def told(*arguments):
        try:
            handle(*arguments)
        finally:
            os.write(1, b"told\\n")
    signal.signal(signal.SIGTERM, told)
    os.write(1, b"told\\n")
    for attempt in range(600):
        try:
            time.sleep(0.1)
        except BaseException:
            pass

cli.run_cases = stubborn
cli.app(["conformance", "run", "--backend", "numpy"])
"""


def test_a_third_signal_ends_what_does_not_let_go(tmp_path):
    command = [sys.executable, "-c", STUBBORN]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        for _ in range(3):
            # Two signals that come before the first is handled are one.
            assert process.stdout.readline() == "told\n"
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == -signal.SIGTERM


def test_a_signal_that_is_ignored_stays_so(stage):
    def terminated(*arguments, **options):
        os.kill(os.getpid(), signal.SIGTERM)
        return made([result(plain_cases("L1Loss")[0])])

    stage.patch.setattr(cli, "run_cases", terminated)
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert exit_code("conformance", "run", *ONE, "--out", stage.path / "out") == 0
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_self_test_that_is_ended_starts_no_further_worker(monkeypatch):
    monkeypatch.setattr(planting, "Worker", lambda *arguments, **options: pytest.fail("one was started"))
    sitting = planting._Sitting("numpy", [], [], Path(), planting._Settings(True, 1.0, lambda: None))
    sitting.stop()
    with pytest.raises(planting.SelfTestError, match="ended from outside"):
        sitting.run()


def test_the_stage_is_what_it_says(stage):
    lines = [json.loads(line) for line in (stage.bad / "results.jsonl").read_text().splitlines()]
    assert lines[0]["counts"]["differs"] == 1
