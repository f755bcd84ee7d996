"""The parent's end of the workers: starts them side by side, listens to all, and ends them whatever happens."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from unilossseg.conformance import children
from unilossseg.conformance.interpreters import disagreement, environment_of_workers
from unilossseg.conformance.pool import STARTUP_SECONDS, RefusedError, WorkerError, last_words
from unilossseg.conformance.replies import Heard

#: How the threads of several workers are kept from fighting for the same cores.
_THREADS = "OMP_NUM_THREADS"
_FAREWELL_SECONDS = 5.0
#: What a worker may say first, and what at all.
_GREETINGS = ("ready", "absent", "failed")
_MESSAGES = (*_GREETINGS, "loss", "done")
#: Called with a backend's name for every step that it has made.
Report = Callable[[str], None]
#: What a backend's worker said: a message, a line that is none, or nothing any more.
_Queue = queue.Queue[tuple[str, dict[str, Any] | str | None]]


class AbsentError(WorkerError):
    """A worker's Python lacks the framework."""


class _Process:
    def __init__(self, backend: str, python: str | None, folder: Path, heard: _Queue) -> None:
        self.backend, self.python = backend, python
        self.errors = folder / f"{backend}.stderr"
        self.greeting: dict[str, Any] | None = None
        self.done = False
        self.due = time.monotonic() + STARTUP_SECONDS
        threads = max(1, (os.cpu_count() or 1) // 2)
        # -P: a folder called torch where the command is run must not be taken for the framework.
        command = [python or sys.executable, "-P", "-m", "unilossseg.conformance.parity.worker", "--backend", backend]
        variables = {_THREADS: str(threads), **environment_of_workers(python)}
        self.process = children.start([*command, "--folder", str(folder)], subprocess.DEVNULL, self.errors, variables)
        self.said = Heard(self.process.stdout, _GREETINGS)
        self.reader = threading.Thread(target=self._read, args=[heard], daemon=True)
        self.reader.start()

    def _read(self, heard: _Queue) -> None:
        for said in self.said:
            heard.put((self.backend, said))
        heard.put((self.backend, None))

    def failure(self, what: str) -> WorkerError:
        """What happened, with its last words."""
        return WorkerError(f"the {self.backend} worker {what}{last_words(self.said, self.errors)}")

    def end(self, leaves: bool = False) -> None:
        """Kills it if it still runs; one that has done its job, or that leaves, gets a moment to do so by itself."""
        try:
            self.process.wait(timeout=_FAREWELL_SECONDS if self.done or leaves else 0)
        except subprocess.TimeoutExpired:
            children.kill(self.process)
        children.hang_up(self.process, self.reader)


def train(pythons: Mapping[str, str | None], folder: Path, timeout: float, report: Report) -> dict[str, dict[str, Any]]:
    """Lets a worker of each backend do the job in the folder, all at the same time.

    Parameters
    ----------
    pythons
        The Python of another environment that runs each backend; None for this one's.
    timeout
        Seconds that a step may take.

    Returns
    -------
    What each worker said about itself. Raises WorkerError if one crashed, hung or failed, AbsentError if its Python lacks
    the framework, RefusedError if it has another package than this.
    """
    heard: _Queue = queue.Queue()
    running: dict[str, _Process] = {}
    try:
        for backend, python in pythons.items():
            try:
                running[backend] = _Process(backend, python, folder, heard)
            except OSError as error:
                raise WorkerError(
                    f"the {backend} worker did not start: {python or sys.executable}: {error.strerror or error}"
                ) from error
        while not all(process.done for process in running.values()):
            _listen(running, heard, timeout, report)
        return {backend: process.greeting or {} for backend, process in running.items()}
    finally:
        for process in running.values():
            process.end()


def _listen(running: Mapping[str, _Process], heard: _Queue, timeout: float, report: Report) -> None:
    """Takes one message, or finds that one is overdue."""
    next_due = min((process for process in running.values() if not process.done), key=lambda process: process.due)
    try:
        backend, message = heard.get(timeout=max(0.0, next_due.due - time.monotonic()))
    except queue.Empty:
        what = "did not start" if next_due.greeting is None else "made no step"
        limit = STARTUP_SECONDS if next_due.greeting is None else timeout
        raise next_due.failure(f"{what} within {limit:g} s") from None
    process = running[backend]
    if message is None:
        if not process.done:
            process.end(leaves=True)
            raise process.failure(f"ended with exit status {process.process.returncode}")
        return
    process.due = time.monotonic() + timeout
    if isinstance(message, str):
        raise process.failure(f"said {message[:200]!r}, which is no JSON object")
    if not any(key in message for key in _MESSAGES):
        raise process.failure(f"said {json.dumps(message)[:200]}, expected one of {', '.join(_MESSAGES)}")
    if "absent" in message:
        raise AbsentError(str(message["absent"]))
    if "failed" in message:
        raise WorkerError(f"the {backend} worker failed:\n{message['failed']}".rstrip())
    if "ready" in message:
        # Of this environment's workers too: they do not look into the folder that the command may have been started from.
        refused = disagreement(message["ready"], process.python)
        if refused:
            raise RefusedError(f"the {backend} worker is refused: {refused}")
        process.greeting = message["ready"]
    process.done = bool(message.get("done"))
    if "loss" in message:
        report(backend)
