"""A worker ends with all that it has started, and what goes on all the same holds nobody up; what it had said counts."""

import json
import os
import signal
import textwrap
import time

import pytest
from checks.conformance_cli import unilossseg

from unilossseg.conformance import children, pool
from unilossseg.conformance import run as running
from unilossseg.conformance.cases import selected
from unilossseg.conformance.known import Known
from unilossseg.conformance.parity import processes
from unilossseg.conformance.pytest_sessions import Session
from unilossseg.conformance.verdict import CONFORM, ERRORED, UNSUPPORTED

#: A worker that is asked for anything starts a process, as multiprocessing does, and gives no answer.
FORKING = """
import os, sys, time
if 'unilossseg.conformance.worker' in sys.orig_argv:
    from unilossseg.conformance import thirdparty
    def facts(request):
        child = os.fork()
        if child == 0:
            {child}
            with open({folder!r} + "/started", "w") as file:
                file.write(str(os.getpid()))
            os.rename(file.name, {folder!r} + "/child")
            time.sleep(30)
            open({folder!r} + "/survived", "w").close()
            os._exit(0)
        {parent}
    thirdparty.facts = facts
"""


@pytest.fixture
def forking(tmp_path, monkeypatch):
    """What is said of such a worker, and the worker."""

    def make(child="pass", parent="time.sleep(600)"):
        (tmp_path / "sitecustomize.py").write_text(FORKING.format(folder=str(tmp_path), child=child, parent=parent))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))
        with pool.Worker("numpy", tmp_path) as worker:
            worker.greeting()
            worker.ask({"number": 0, "facts": "", "output": ""})
            while not (tmp_path / "child").exists():
                time.sleep(0.01)
            with pytest.raises(pool.WorkerError) as raised:
                worker.reply(0, 0.1)
        return str(raised.value), worker

    return make


@pytest.mark.parametrize("parent", ["time.sleep(600)", "os._exit(7)"], ids=["it waits", "it has ended"])
def test_what_a_worker_has_started_ends_with_it(tmp_path, forking, parent):
    said, worker = forking(parent=parent)
    assert said.startswith("the numpy worker gave no answer within 0.1 s")
    # It held the worker's stdout: with it the thread ends.
    worker._reader.join(10)
    assert not worker._reader.is_alive()
    assert worker.process.stdout.closed
    assert not (tmp_path / "survived").exists()


def test_what_does_not_end_with_a_worker_is_left_alone(tmp_path, forking, monkeypatch):
    monkeypatch.setattr(children, "LAST_WORDS_SECONDS", 0.1)
    _, worker = forking(child="os.setsid()")
    try:
        assert worker.process.returncode == -signal.SIGKILL
        assert worker._reader.is_alive()
        assert not (tmp_path / "survived").exists()
    finally:
        os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    worker._reader.join()
    worker.process.stdout.close()


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("(sleep 30; touch survived) & wait", "did not start within 0.5 s"),
        ("exec >&-; sleep 30; touch survived", "ended with exit status -9"),
    ],
    ids=["a script around a Python", "a stdout that ends before its process"],
)
def test_a_training_does_not_wait_for_what_a_worker_has_started(tmp_path, monkeypatch, script, said):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "STARTUP_SECONDS", 0.5)
    monkeypatch.setattr(processes, "_FAREWELL_SECONDS", 0.1)
    (tmp_path / "python").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(pool.WorkerError, match=said):
        processes.train({"torch": str(tmp_path / "python")}, tmp_path, 60.0, print)
    assert not (tmp_path / "survived").exists()


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def worker_with(tmp_path, monkeypatch):
    """Runs some code at the start of every worker, and of no other process."""

    def install(code):
        (tmp_path / "sitecustomize.py").write_text(
            "import os, sys\nif 'unilossseg.conformance.worker' in sys.orig_argv:\n" + textwrap.indent(code, "    ")
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))

    return install


DIES = """
from unilossseg.conformance import protocol
read = protocol.read_arrays
protocol.read_arrays = lambda path, dtypes: os._exit(3) if path.name == "5.npz" else read(path, dtypes)
"""


def test_what_a_worker_had_answered_before_it_died_counts(worker_with, monkeypatch):
    worker_with(DIES)
    kept = []

    class Kept(pool.Worker):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            kept.append(self)

    monkeypatch.setattr(running, "Worker", Kept)
    cases = selected(["L1Loss"], "/float64")[:9]
    assert len(cases) == 9 > running.AHEAD
    # It has died before its second answer is looked at, and before what follows is asked for.
    outcome = running.run(cases, ["numpy"], report=lambda result: kept[0].process.wait())
    found = {case.id: {r.verdict.status for r in outcome.results if r.case.id == case.id} for case in cases}
    assert list(found.values()) == [{CONFORM}] * 5 + [{ERRORED}] * 4
    assert outcome.results[-1].verdict.message.startswith("the numpy worker ended with exit status 3")


GREETS_IN_PART = """
from unilossseg.conformance import replies
say = replies.say
replies.say = lambda line, message: say(line, {key: value for key, value in message.items() if key != "modes"})
"""


def test_a_greeting_that_lacks_something_is_errored(tmp_path, worker_with):
    worker_with(GREETS_IN_PART)
    out = tmp_path / "report"
    done = unilossseg("conformance", "run", "--backend", "numpy", "--loss", "L1Loss", "-k", "plain/float32", "--out", out)
    assert done.exit_code == 1
    rows = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    told = {(row["status"], row["message"].splitlines()[0]) for row in rows if row["type"] == "result"}
    assert told == {(ERRORED, "the numpy worker's greeting lacks something: KeyError('modes')")}


# --- a worker of several items ----------------------------------------------------------------------------------------


@pytest.fixture
def session():
    session = Session("numpy", 60.0)
    yield session
    session.close()
    session._place.cleanup()


@pytest.mark.parametrize(
    ("owner", "name"), [(pool.Worker, "reply"), (Known, "of")], ids=["before its reply", "before it is known"]
)
def test_an_item_that_is_interrupted_leaves_nothing_to_the_next(session, monkeypatch, owner, name):
    first, second = selected(["L1Loss"], "plain/float")[:2]

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.verdicts(first)
    statuses = {verdict.status for _, verdict in session.verdicts(second)}
    assert CONFORM in statuses
    assert statuses <= {CONFORM, UNSUPPORTED}
