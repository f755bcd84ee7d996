"""What all commands share: no error looks like a verdict, any terminal takes what is said, time limits have limits."""

import errno
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from checks.conformance_cli import unilossseg
from checks.stored_runs import made, plain_cases, result, stored
from rich.console import Console
from typer.testing import CliRunner

from unilossseg.backends import KNOWN
from unilossseg.conformance import cli, run
from unilossseg.conformance.command_line import Guarded, number
from unilossseg.conformance.parity import commands as parity
from unilossseg.conformance.pool import LONGEST_WAIT, RefusedError
from unilossseg.conformance.reports import summary
from unilossseg.conformance.run import NoRoomError
from unilossseg.conformance.verdict import DIFFERS, EXPECTED, UNSUPPORTED, Verdict

ONE = ("--loss", "L1Loss", "-k", "plain/float32", "--backend", "numpy")


def apart(folder, *arguments, **environment):
    """The command line in a process of its own, as bytes."""
    command = [sys.executable, "-m", "unilossseg", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, timeout=120)


@pytest.fixture
def records(tmp_path):
    """Two runs of a backend whose name no code page has."""
    results = [result(case, "numpy ✓") for case in plain_cases()]
    for name, found in (("a", results), ("b", results[1:])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.jsonl").write_text(made(found).record(), encoding="utf-8")
    return tmp_path


# --- an unforeseen error ----------------------------------------------------------------------------------------------


def test_an_unforeseen_error_is_2_with_its_traceback(tmp_path, monkeypatch):
    def broken(*arguments, **options):
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(cli, "run_cases", broken)
    done = unilossseg("conformance", "run", *ONE, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "ZeroDivisionError: planted" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("unilossseg: ended by an unforeseen ZeroDivisionError")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [0, 1, 2])
def test_exit_codes_pass_the_guard(code):
    app = typer.Typer(cls=Guarded)

    @app.command()
    def one():
        raise typer.Exit(code)

    @app.command()
    def other():
        raise KeyboardInterrupt

    assert CliRunner().invoke(app, ["one"]).exit_code == code
    assert CliRunner().invoke(app, ["other"]).exit_code == 130


# --- a reader that leaves ---------------------------------------------------------------------------------------------


def left(folder, *arguments, lines=0, error=False):
    """The command line, whose reader leaves after some lines: the exit code, and what else it says."""
    process = subprocess.Popen(
        [sys.executable, "-m", "unilossseg", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": ""},
    )
    pipe, other = (process.stderr, process.stdout) if error else (process.stdout, process.stderr)
    try:
        # After no line the reader has left long before the command says anything.
        for _ in range(lines):
            pipe.readline()
        pipe.close()
        return process.wait(120), other.read()
    finally:
        process.kill()
        other.close()


@pytest.fixture
def same(tmp_path):
    """A loss's record."""
    loss = ("unilossseg:DiceLoss", "--framework", "numpy", "--shape", "2,3,4,5")
    assert unilossseg("record", *loss, "--out", tmp_path / "a.uls").exit_code == 0
    return tmp_path


def test_records_agree_whoever_reads_it(same):
    assert apart(same, "compare", "a.uls", "a.uls").returncode == 0
    assert left(same, "compare", "a.uls", "a.uls", "--html", "page.html") == (0, b"")
    # What comes after the output is done as well.
    assert "values and gradients agree" in (same / "page.html").read_text(encoding="utf-8")
    assert left(same, "compare", "a.uls", "a.uls", lines=1) == (0, b"")
    assert left(same, "compare", "a.uls", "missing.uls", error=True) == (2, b"")


@pytest.mark.parametrize("command", [("diff", "a", "b"), ("diff", "--json", "a", "b"), ("trend", "a", "b")])
def test_tables_and_json_that_nobody_reads_change_no_exit_code(records, command):
    assert left(records, "conformance", *command) == (0, b"")


@pytest.mark.parametrize("options", [(), ("--json",)])
@pytest.mark.parametrize("code", [0, 1])
def test_a_reader_that_leaves_after_one_line(tmp_path, options, code):
    """More results than a pipe holds, so that the command still writes when its reader leaves."""
    case = plain_cases()[0]
    first = result(case)
    many = [replace(first, case=replace(case, id=f"{case.id}-{number}")) for number in range(400)]
    bad = [replace(one, verdict=Verdict(DIFFERS, "planted " * 100)) for one in many]
    for name, found in (("a", many if code else []), ("b", bad if code else many)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(made([first, *found]).record(), encoding="utf-8")
    assert left(tmp_path, "conformance", "diff", *options, "a.jsonl", "b.jsonl", lines=1) == (code, b"")


def test_a_run_that_nobody_reads_writes_its_files(tmp_path):
    assert left(tmp_path, "conformance", "run", *ONE, "--out", "out") == (0, b"")
    assert (tmp_path / "out" / "results.jsonl").exists()


# --- what a terminal lacks --------------------------------------------------------------------------------------------


# The last is what Python chooses in the locale C.
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "ascii:surrogateescape"])
@pytest.mark.parametrize("command", ["diff", "trend"])
def test_what_an_encoding_lacks_is_replaced(records, encoding, command):
    done = apart(records, "conformance", command, "a", "b", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"numpy " in done.stdout
    assert "✓".encode() not in done.stdout


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_json_is_whole_in_any_encoding(records, encoding):
    said = json.loads(apart(records, "conformance", "diff", "--json", "a", "b", PYTHONIOENCODING=encoding).stdout)
    assert said["removed"][0]["backend"] == "numpy ✓"
    said = json.loads(apart(records, "conformance", "trend", "--json", "a", PYTHONIOENCODING=encoding).stdout)
    assert list(said["runs"][0]["backends"]) == ["numpy ✓"]


def test_a_run_conforms_on_such_a_terminal(tmp_path):
    done = apart(tmp_path, "conformance", "run", *ONE, "--out", "out", PYTHONIOENCODING="cp1252")
    assert (done.returncode, done.stderr) == (0, b"")
    assert "✓" not in done.stdout.decode("cp1252")


def test_an_encoding_with_a_way_out_keeps_it(monkeypatch):
    chosen = io.TextIOWrapper(io.BytesIO(), "ascii", errors="xmlcharrefreplace")
    monkeypatch.setattr(sys, "stdout", chosen)
    app = typer.Typer(cls=Guarded)

    @app.command()
    def one():
        sys.stdout.write("✓")

    @app.command()
    def other():
        """Makes it a group."""

    with pytest.raises(SystemExit):
        app(["one"])
    chosen.seek(0)
    assert chosen.read() == "&#10003;"


@pytest.mark.parametrize("end", ["\n", "\u2028"])
def test_no_name_in_a_record_begins_a_line(tmp_path, end):
    name = f"numpy{end}Nothing is worse."
    results = [result(case, name) for case in plain_cases()]
    bad = [replace(one, verdict=Verdict(DIFFERS, f"first{end}Nothing is worse.")) for one in results]
    for file, found in (("a", results), ("b", bad)):
        (tmp_path / file).write_text(made(found).record(), encoding="utf-8")
    done = unilossseg("conformance", "diff", tmp_path / "a", tmp_path / "b")
    assert done.exit_code == 1
    assert done.stdout.count("on numpy Nothing is worse. (closed form): differs: first") == len(results)
    assert [line for line in done.stdout.splitlines() if line.startswith("Nothing")] == []


def test_no_message_in_a_run_begins_a_line(tmp_path, monkeypatch):
    done = of_a_run(tmp_path, monkeypatch, Verdict(DIFFERS, "first\n1 cases in 0 s: 1 conform"))
    assert f"{plain_cases()[0].id} (mode 0): first 1 cases in 0 s: 1 conform" in " ".join(done.stdout.split())
    assert sum(line.startswith("1 cases") for line in done.stdout.splitlines()) == 1


# --- no room ----------------------------------------------------------------------------------------------------------

FULL = Path("/dev/full")
NEEDS_FULL = pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")


def without_room(folder, stream, *arguments):
    """A command, one of whose outputs lies on a full disk: its exit code, and what it says on the other."""
    with FULL.open("wb") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: full}
        command = [sys.executable, "-m", "unilossseg", *map(str, arguments)]
        done = subprocess.run(command, cwd=folder, **streams, timeout=120)
    return done.returncode, done.stdout if stream == "stderr" else done.stderr


@NEEDS_FULL
@pytest.mark.parametrize("arguments", [("missing.uls", "missing.uls"), ("--no-such-option",)])
def test_a_refusal_without_room_for_its_words_is_no_verdict(tmp_path, arguments):
    assert without_room(tmp_path, "stderr", "compare", *arguments) == (2, b"")


@pytest.mark.parametrize("error", [ZeroDivisionError, RefusedError])
def test_nor_is_an_error_without_room(tmp_path, monkeypatch, error):
    def broken(*arguments, **options):
        raise error("planted")

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cli, "run_cases", broken)
    monkeypatch.setattr("unilossseg.conformance.exit_codes.typer.echo", full)
    assert unilossseg("conformance", "run", *ONE, "--out", tmp_path / "out").exit_code == 2


@NEEDS_FULL
def test_a_file_stays_though_nothing_can_be_said_of_it(same):
    code, said = without_room(
        same, "stdout", "replay", "a.uls", "unilossseg:DiceLoss", "--framework", "numpy", "--out", "b.uls"
    )
    line = f"unilossseg: what it says cannot be written ({os.strerror(errno.ENOSPC)}): files that it had written stay\n"
    assert (code, said.decode()) == (2, line)
    assert apart(same, "compare", "a.uls", "b.uls").returncode == 0


@pytest.mark.parametrize(
    "command", [("conformance", "run", *ONE, "--out", "out"), ("conformance", "selftest", "--quick", "-k", "l1-sign")]
)
def test_no_room_for_temporary_files_is_refused(tmp_path, monkeypatch, command):
    def full(path, arrays, dtypes):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "write_arrays", full)
    done = unilossseg(*command)
    assert done.exit_code == 2
    assert done.stderr.startswith("unilossseg: temporary files: cannot be written to ")
    assert "(No space left on device), expected a folder with room: make some there, or name another" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_half_an_input_is_read_by_nobody(tmp_path, monkeypatch):
    def full(path, arrays, dtypes):
        path.write_bytes(b"half of it")
        raise OSError("full")

    monkeypatch.setattr(run, "write_arrays", full)
    with pytest.raises(NoRoomError, match="full"):
        run.Prepared(0, plain_cases("L1Loss")[0], tmp_path).request("numpy")
    assert list(tmp_path.iterdir()) == []


# --- names ------------------------------------------------------------------------------------------------------------

LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("report", LONG),
        ("report", "a", "--out", LONG),
        ("conformance", "diff", "a", LONG),
        ("conformance", "trend", LONG),
        ("conformance", "trend", "a", "--svg", LONG),
        ("conformance", "run", *ONE, "--out", LONG),
        ("compare", LONG, LONG),
        ("train-parity", "--config", LONG),
    ],
)
def test_a_name_that_cannot_be_looked_at_is_refused_with_the_reason(records, monkeypatch, arguments):
    monkeypatch.chdir(records)
    monkeypatch.setattr(parity, "is_installed", lambda name: True)
    before = sorted(records.rglob("*"))
    done = unilossseg(*arguments)
    assert done.exit_code == 2
    assert done.stderr.startswith("unilossseg: ")
    assert LONG in done.stderr
    assert os.strerror(errno.ENAMETOOLONG) in done.stderr
    assert sorted(records.rglob("*")) == before


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [("conformance", "run"), ("conformance", "selftest", "--quick"), ("train-parity",)])
@pytest.mark.parametrize("seconds", ["1e300", "inf", "nan", "0", "-1"])
def test_time_limits_have_limits(tmp_path, monkeypatch, command, seconds):
    monkeypatch.chdir(tmp_path)
    done = unilossseg(*command, "--timeout", seconds)
    assert done.exit_code == 2
    assert "--timeout" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_longest_time_limit_is_waited_for(tmp_path):
    assert unilossseg("conformance", "run", *ONE, "--timeout", LONGEST_WAIT, "--out", tmp_path / "out").exit_code == 0


def test_nan_is_no_number():
    assert number(0.5) == 0.5
    with pytest.raises(typer.BadParameter, match=r"it must be a number \(got nan\)"):
        number(float("nan"))


def test_a_refused_run_leaves_no_folder(tmp_path, monkeypatch):
    def refused(*arguments, **options):
        raise RefusedError("planted")

    monkeypatch.setattr(cli, "run_cases", refused)
    done = unilossseg("conformance", "run", *ONE, "--out", tmp_path / "deep" / "out")
    assert (done.exit_code, done.stderr) == (2, "unilossseg: planted\n")
    assert list(tmp_path.iterdir()) == []


def of_a_run(tmp_path, monkeypatch, *verdicts):
    """A run with these verdicts into a folder that holds a report."""
    first = result(plain_cases()[0])
    results = [replace(first, mode=f"mode {n}", verdict=verdict) for n, verdict in enumerate(verdicts)]
    monkeypatch.setattr(cli, "run_cases", lambda *arguments, **options: made(results))
    (tmp_path / "results.jsonl").write_text("as it was")
    return unilossseg("conformance", "run", *ONE, "--out", tmp_path)


def test_a_run_in_which_nothing_is_supported_leaves_the_report_as_it_was(tmp_path, monkeypatch):
    done = of_a_run(tmp_path, monkeypatch, Verdict(UNSUPPORTED, "no"), Verdict(UNSUPPORTED, "no"))
    said = "unilossseg: nothing could be checked: no chosen backend supports any of the chosen cases\n"
    assert (done.exit_code, done.stderr, done.stdout) == (2, said, "")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["as it was"]


def test_a_run_in_which_all_fails_as_declared_has_a_report(tmp_path, monkeypatch):
    """It was tried, unlike what is unsupported: nothing conforms on the backend, which is a verdict."""
    done = of_a_run(tmp_path, monkeypatch, Verdict(UNSUPPORTED, "no"), Verdict(EXPECTED, "known"))
    assert (done.exit_code, done.stderr) == (1, "")
    assert "does not conform: no result conforms on numpy" in done.stdout
    assert '"xfailed":1' in (tmp_path / "results.jsonl").read_text()


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_summary_hides_no_number(monkeypatch, capsys, columns):
    many = [replace(case, id=f"{case.id}-{n}") for case in plain_cases("BootstrappedCrossEntropyLoss") for n in range(50)]
    warned = [replace(result(case), verdict=replace(result(case).verdict, warning="larger")) for case in many]
    results = [replace(one, backend=name) for one in warned for name in KNOWN]
    monkeypatch.setattr(cli, "Console", lambda width: Console(width=columns))
    cli._summarise(stored(results), Path("out"))
    table = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("│")]
    shown = [" ".join(" ".join(parts).split()) for parts in zip(*table, strict=True)]
    cell = summary.cell(stored(results[:: len(KNOWN)]).results)
    assert shown == ["BootstrappedCrossEntropyLoss", *[f"{cell.symbol} {cell.words}"] * len(KNOWN)]
    assert len(cell.words) > 15


def test_a_refused_training_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(parity, "is_installed", lambda name: True)
    monkeypatch.setattr(parity, "_photographs", lambda: parity.refuse("planted"))
    assert unilossseg("train-parity", "--out", tmp_path / "deep" / "out").exit_code == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [(), ("--markdown",)])
def test_a_backend_for_the_table_alone_is_refused(options):
    done = unilossseg("capabilities", *options, "--backend", "numpy")
    assert done.exit_code == 2
    assert done.stdout == ""
    assert "--backend is of no use without --check: the table has a column for every backend" in done.stderr
