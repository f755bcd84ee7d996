"""The conformance run: what it reports, what it refuses, and that it notices what it is there to notice."""

import errno
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from checks.conformance_cli import unilossseg
from typer.testing import CliRunner

from unilossseg import __main__, __version__
from unilossseg.backends import KNOWN
from unilossseg.conformance import cases, cli, results, worker
from unilossseg.conformance import run as running
from unilossseg.conformance.frameworks import FRAMEWORKS
from unilossseg.conformance.pool import WorkerError
from unilossseg.conformance.reports import files, page, reader
from unilossseg.conformance.run import NoRoomError, Prepared, outcomes_of, run
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, UNSUPPORTED

# As few cases as the question allows: each run starts at least one process.
ONE = ["--loss", "L1Loss", "-k", "plain/float32"]


def command(out, *arguments):
    return unilossseg("conformance", "run", "--out", out, *arguments)


def rows_of(out):
    header, *rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert header["type"] == "header"
    return [row for row in rows if row["type"] == "result"]


@pytest.fixture
def worker_with(tmp_path, monkeypatch):
    """Runs some code at the start of every worker of a backend, and of no other process."""

    def install(code, backend="numpy"):
        folder = tmp_path / "site"
        folder.mkdir()
        condition = f"if {{'unilossseg.conformance.worker', {backend!r}}} <= set(sys.orig_argv):\n"
        (folder / "sitecustomize.py").write_text(
            "import os, sys\n" + condition + textwrap.indent(textwrap.dedent(code), "    ")
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")])))

    return install


# --- a run that conforms ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def conforming(tmp_path_factory):
    out = tmp_path_factory.mktemp("conforming")
    arguments = ["--backend", "numpy", "--backend", "strict", "--loss", "DiceLoss", "--loss", "MSELoss", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "unilossseg", "conformance", "run", *arguments], capture_output=True, text=True, timeout=120
    )
    return done, out


def test_a_run_exits_with_0_and_sums_up(conforming):
    done, _ = conforming
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 differs, 0 errored" in done.stdout
    assert done.stderr == ""  # no progress bar where there is no terminal


def test_the_record_has_a_header_and_a_row_for_each_case_backend_and_mode(conforming):
    _, out = conforming
    header = json.loads((out / "results.jsonl").read_text().splitlines()[0])
    rows = rows_of(out)
    chosen = cases.selected(["DiceLoss", "MSELoss"])
    assert (header["schema"], header["unilossseg"], header["cases"]) == (results.SCHEMA, __version__, len(chosen))
    assert header["backends"]["strict"]["framework"] == "array_api_strict"
    assert header["backends"]["numpy"]["version"] == np.__version__
    assert {(row["case"], row["backend"], row["mode"]) for row in rows} == {
        (case.id, backend, mode)
        for case in chosen
        for backend in ("numpy", "strict")
        for mode in ("closed form", "plain formula")
    }
    assert len(rows) == len(chosen) * 4 == sum(header["counts"].values())
    for row in rows:
        assert row["status"] in (CONFORM, UNSUPPORTED)
        if row["status"] == CONFORM:
            assert 0 <= row["value"]["error"] <= row["value"]["bound"]
            assert (row["gradient"] is None) == (row["mode"] == "plain formula")


def test_what_a_backend_cannot_do_is_no_pass(conforming):
    _, out = conforming
    rows = rows_of(out)
    lacking = {(row["backend"], row["dtype"]) for row in rows if row["status"] == UNSUPPORTED}
    assert lacking == {("numpy", "bfloat16"), ("strict", "bfloat16"), ("strict", "float16")}
    assert all(row["message"] for row in rows if row["status"] == UNSUPPORTED)


def test_the_page_is_complete_and_asks_nothing_of_the_network(conforming):
    _, out = conforming
    text = (out / "index.html").read_text()
    assert "Every result conforms." in text
    assert text.rstrip().endswith("</html>")
    # Links of what is unsupported stand in its data, and are followed by who clicks on them.
    markup = re.sub(r'(<script type="application/json" id="data">).*?(</script>)', r"\1\2", text, flags=re.DOTALL)
    assert len(markup) < len(text)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|\ssrc=", markup)
    for case in cases.selected(["DiceLoss", "MSELoss"]):
        assert case.id.partition("/")[2] in text
    assert sorted(path.name for path in out.iterdir()) == sorted(["results.jsonl", *files.FILES])


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "jax"], "--backend must be one of numpy, strict, torch, paddle (got 'jax')"),
        (["--loss", "FocalLoss"], "(got 'FocalLoss')"),
        (["-k", "no such case"], "no id contains 'no such case'"),
        (["--jobs", "0"], "jobs"),
    ],
)
def test_it_exits_with_2_where_it_cannot_run(tmp_path, arguments, said):
    done = command(tmp_path, *arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_asked_for_backend_that_is_not_installed_comes_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(cli, "is_installed", lambda name: name != "paddle")
    done = command(tmp_path, "--backend", "numpy", "--backend", "paddle")
    assert done.exit_code == 2
    assert "'paddle' needs paddle, which is not installed: pip install 'unilossseg[paddle]'" in done.stderr


def test_a_place_that_cannot_be_written_is_found_out_before_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    done = command(tmp_path / "file", *ONE)
    assert done.exit_code == 2
    assert "cannot write to" in done.stderr


def test_a_run_in_which_nothing_could_be_checked_is_no_success(tmp_path):
    done = command(tmp_path, "--backend", "numpy", "--loss", "L1Loss", "-k", "plain/bfloat16")
    assert done.exit_code == 2
    assert "nothing could be checked" in done.stderr


def test_without_the_packages_of_the_command_line_it_says_how_to_get_them(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delitem(sys.modules, "unilossseg.conformance.cli")
    with pytest.raises(SystemExit) as left:
        __main__.main()
    assert left.value.code == 2
    assert "needs typer: pip install 'unilossseg[report]'" in capsys.readouterr().err


def test_version_and_exit_codes_are_told():
    assert CliRunner().invoke(cli.app, ["--version"]).stdout.strip() == f"unilossseg {__version__}"
    assert "Exit codes" in CliRunner().invoke(cli.app, ["conformance", "run", "--help"]).stdout


def test_the_runner_imports_no_framework():
    code = "import sys, unilossseg.conformance.cli; print({'torch', 'paddle'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_backends_that_are_not_installed_are_named_and_never_counted(monkeypatch):
    monkeypatch.setattr("unilossseg.conformance.run.is_installed", lambda name: name == "numpy")
    outcome = run(cases.selected(["L1Loss"], "plain/float32"), ["numpy"])
    stored = reader.parse(outcome.record())
    assert stored.conforms
    assert outcome.header()["not_installed"] == {name: remedy for name, (_, remedy) in KNOWN.items() if name != "numpy"}
    text = page.render(stored)
    assert "pip install &#39;unilossseg[paddle]&#39;" in text
    assert {result.backend for result in outcome.results} == {"numpy"}


# --- that it notices --------------------------------------------------------------------------------------------------

SIGN = """
    import unilossseg
    right = unilossseg.DiceLoss.closed_form
    def wrong(self, *args, **kwargs):
        value, gradient = right(self, *args, **kwargs)
        return value, None if gradient is None else -gradient
    unilossseg.DiceLoss.closed_form = wrong
"""


def test_a_wrong_sign_differs(tmp_path, worker_with):
    worker_with(SIGN)
    losses = ["--loss", "DiceLoss", "--loss", "L1Loss"]
    done = command(tmp_path, "--backend", "numpy", "--backend", "strict", *losses, "-k", "plain/float32")
    assert done.exit_code == 1
    status = {(row["loss"], row["backend"], row["mode"], row["variant"]): row["status"] for row in rows_of(tmp_path)}
    wrong = {key for key, value in status.items() if value == DIFFERS}
    assert wrong == {("DiceLoss", "numpy", "closed form", variant) for variant in ("paddleseg", "corrected")}
    assert CONFORM in {status["L1Loss", "numpy", "closed form", "paddleseg"]}
    assert "Not every result conforms." in (tmp_path / "index.html").read_text()


def errored(out, loss, backend="numpy"):
    rows = [row for row in rows_of(out) if (row["loss"], row["backend"]) == (loss, backend)]
    assert rows
    assert {row["status"] for row in rows} == {ERRORED}
    return rows[0]["message"]


def patched(body):
    return f"""
    import time, unilossseg
    def broken(self, *args, **kwargs):
        {body}
    unilossseg.MSELoss.closed_form = broken
    """


BROKEN = ["--backend", "numpy", "--backend", "strict", "--loss", "L1Loss", "--loss", "MSELoss", "--loss", "DiceLoss"]


def check_that_the_run_went_on(out):
    """L1Loss came before the failure; of the other backend everything conforms."""
    for row in rows_of(out):
        if row["backend"] == "strict" or row["loss"] == "L1Loss":
            assert row["status"] == CONFORM


def test_a_worker_that_crashes_is_errored_and_the_run_goes_on(tmp_path, worker_with):
    worker_with(patched("os.write(2, b'last words'); os._exit(7)"))
    done = command(tmp_path, *BROKEN, "-k", "plain/float32")
    assert done.exit_code == 1
    check_that_the_run_went_on(tmp_path)
    message = errored(tmp_path, "MSELoss")
    assert "ended with exit status 7" in message
    assert "last words" in message
    assert errored(tmp_path, "DiceLoss") == message


@pytest.mark.parametrize("part", ["check", "run"])
def test_a_worker_that_starts_while_the_run_is_ended_computes_nothing(tmp_path, monkeypatch, part):
    """Nobody could kill it: it was not there yet."""
    session = running._Session("numpy", [], tmp_path, 1.0, lambda result: None)
    done = []

    class Starting:
        def __init__(self, *arguments, **options):
            self.process = SimpleNamespace(kill=lambda: done.append("killed"))
            session.stop()

        def __enter__(self):
            return self

        def __exit__(self, *error):
            done.append("ended")

        def greeting(self):
            done.append("waited for")
            raise WorkerError("it was")

    monkeypatch.setattr(running, "Worker", Starting)
    getattr(session, part)()
    assert done == ["ended"]


def test_a_worker_that_hangs_is_ended(tmp_path, worker_with):
    worker_with(patched("time.sleep(600)"))
    done = command(tmp_path, *BROKEN, "-k", "plain/float32", "--timeout", "1.5")
    assert done.exit_code == 1
    check_that_the_run_went_on(tmp_path)
    assert "gave no answer within 1.5 s" in errored(tmp_path, "MSELoss")


@pytest.mark.parametrize("rubbish", ["Hello, I am a framework!", '["a list"]', '{"protocol": 1, "backend": "torch"}'])
def test_a_worker_that_talks_nonsense_is_errored(tmp_path, worker_with, rubbish):
    # Not at its start, when an environment may print what it likes, but after its greeting.
    worker_with(f"""
        from unilossseg.conformance import replies
        say = replies.say
        def planted(line, message):
            say(line, message)
            line.write({rubbish!r} + "\\n")
        replies.say = planted
    """)
    done = command(tmp_path, "--backend", "numpy", *ONE)
    assert done.exit_code == 1
    errored(tmp_path, "L1Loss")


def test_a_worker_that_greets_as_another_is_errored(tmp_path, worker_with):
    worker_with("""os.write(1, b'{"protocol": 1, "backend": "torch"}\\n')""")
    done = command(tmp_path, "--backend", "numpy", *ONE)
    assert done.exit_code == 1
    assert "greeted with" in errored(tmp_path, "L1Loss")


def test_a_disk_that_is_full_for_a_worker_ends_the_run(tmp_path, worker_with):
    worker_with("""
        import errno
        from unilossseg.conformance import protocol
        def full(path, outcomes):
            path.write_bytes(b"half of it")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        protocol.write_outcomes = full
    """)
    done = command(tmp_path / "out", "--backend", "numpy", "--backend", "strict", *ONE)
    assert done.exit_code == 2, done.output
    assert done.stderr.startswith("unilossseg: temporary files: cannot be written to ")
    assert f"({os.strerror(errno.ENOSPC)}), expected a folder with room: make some there" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_worker_tells_that_its_disk_is_full_and_leaves_no_half_of_a_result(tmp_path):
    item = Prepared(0, cases.selected(["L1Loss"], "plain/float32")[0], tmp_path)
    request, output = item.request("numpy"), item.output("numpy")
    output.symlink_to("/dev/full")
    reply = worker._answer(FRAMEWORKS["numpy"]("numpy"), request)
    assert reply == {"number": 0, "outcomes": {}, "no_room": os.strerror(errno.ENOSPC)}
    assert not os.path.lexists(output)
    assert Path("/dev/full").exists()
    with pytest.raises(NoRoomError, match="cannot be written to"):
        outcomes_of(output, reply, ["closed form"])


def test_another_error_of_a_file_is_no_full_disk(tmp_path):
    item = Prepared(0, cases.selected(["L1Loss"], "plain/float32")[0], tmp_path)
    request = {**item.request("numpy"), "output": str(tmp_path / "no such folder" / "0.npz")}
    with pytest.raises(FileNotFoundError):
        worker._answer(FRAMEWORKS["numpy"]("numpy"), request)


def test_a_worker_that_answers_another_question_is_errored(tmp_path, worker_with):
    worker_with("""
        from unilossseg.conformance import worker
        answer = worker._answer
        worker._answer = lambda framework, request: {**answer(framework, request), "number": 99}
        import runpy
        worker.sys.argv = ["worker", "--backend", "numpy"]
        os._exit(worker.main())
    """)
    assert command(tmp_path, "--backend", "numpy", *ONE).exit_code == 1
    assert "was asked for case 0 and answered" in errored(tmp_path, "L1Loss")


def test_chatter_of_a_framework_does_no_harm(tmp_path, worker_with):
    worker_with("""
        import unilossseg
        right = unilossseg.L1Loss.closed_form
        def chatty(self, *args, **kwargs):
            print("from Python")
            os.write(1, b"from C\\n")
            return right(self, *args, **kwargs)
        unilossseg.L1Loss.closed_form = chatty
    """)
    assert command(tmp_path, "--backend", "numpy", *ONE).exit_code == 0


def test_an_exception_is_errored_and_its_message_is_escaped(tmp_path, worker_with):
    worker_with(patched("raise ValueError('<script>alert(1)</script>\"><img src=x>')"))
    done = command(tmp_path, "--backend", "numpy", "--loss", "MSELoss", "-k", "plain/float32")
    assert done.exit_code == 1
    by_mode = {row["mode"]: row for row in rows_of(tmp_path)}
    assert by_mode["plain formula"]["status"] == CONFORM
    assert by_mode["closed form"]["status"] == ERRORED
    assert "<script>alert(1)" in by_mode["closed form"]["message"]
    text = (tmp_path / "index.html").read_text()
    assert "<script>alert" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_files_are_whole_or_absent(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        results.write_whole(tmp_path / "index.html", "half of it")
    assert list(tmp_path.iterdir()) == []
