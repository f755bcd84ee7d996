"""The runner's end of a worker: starts it, asks it, and ends it when it crashes, hangs or talks nonsense."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from unilossseg.conformance import children
from unilossseg.conformance.devices import CPU
from unilossseg.conformance.interpreters import disagreement, environment_of_workers
from unilossseg.conformance.protocol import VERSION
from unilossseg.conformance.replies import Heard

#: A framework on a cold and busy machine takes its time to be imported.
STARTUP_SECONDS = 180.0
#: How much of a worker's stderr goes into a message.
_TAIL = 1500
#: What a time limit may be, in seconds: every platform's locks wait for so long.
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 1e6


class WorkerError(Exception):
    """A worker is of no further use, and why."""


class RefusedError(WorkerError):
    """A worker must not be used: it is not what its name says. A run without it would tell nothing either."""


def last_words(heard: Heard, errors: Path) -> str:
    """What a failed worker left behind, for the message of its failure."""
    printed = f"; it printed {heard.printed[:200]!r}" if heard.printed else ""
    words = errors.read_text(encoding="utf-8", errors="replace").strip()[-_TAIL:]
    return printed + (f"; its stderr ends:\n{words}" if words else "")


class Worker:
    """A process that computes cases on one backend, here or with the interpreter of another environment."""

    def __init__(
        self,
        backend: str,
        folder: Path,
        python: str | None = None,
        module: str = "unilossseg.conformance.worker",
        device: str = CPU,
    ) -> None:
        self.backend, self.python = backend, python
        self._errors = folder / f"{backend}.stderr"
        self._said: queue.Queue[dict[str, Any] | str | None] = queue.Queue()
        where = [] if device == CPU else ["--device", device]
        # -P: another unilossseg, or a folder called torch, where the command is run must not be taken for the installed one.
        command = [python or sys.executable, "-P", "-m", module, "--backend", backend, *where]
        self.process = children.start(command, subprocess.PIPE, self._errors, environment_of_workers(python))
        self._heard = Heard(self.process.stdout, ("protocol",))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def _read(self) -> None:
        for said in self._heard:
            self._said.put(said)
        self._said.put(None)

    def greeting(self) -> dict[str, Any]:
        """What it says when it is ready; raises WorkerError where it is not the worker that was meant.

        RefusedError, where its framework is another than its name says or lacks the device, or its package is another than
        this.
        """
        said = self._message(STARTUP_SECONDS, "did not start")
        if said.get("protocol") != VERSION or said.get("backend") != self.backend:
            raise self._failure(f"greeted with {json.dumps(said)[:200]}")
        refused = said.get("refused") or disagreement(said, self.python)
        if refused:
            self.end()
            raise RefusedError(f"the {self.backend} worker is refused: {refused}")
        return said

    def ask(self, request: dict[str, Any]) -> None:
        """Sends a request. Whether anybody took it `reply` tells, after all that a worker which has ended had answered."""
        assert self.process.stdin is not None
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def reply(self, number: int, seconds: float) -> dict[str, Any]:
        """The reply to a request, which must come within so many seconds."""
        said = self._message(seconds, "gave no answer")
        if said.get("number") != number or not isinstance(said.get("outcomes"), dict):
            raise self._failure(f"was asked for case {number} and answered {json.dumps(said)[:200]}")
        return said

    def _message(self, seconds: float, late: str) -> dict[str, Any]:
        try:
            said = self._said.get(timeout=seconds)
        except queue.Empty:
            raise self._failure(f"{late} within {seconds:g} s") from None
        if said is None:
            raise self._failure("ended")
        if isinstance(said, str):
            raise self._failure(f"said {said[:200]!r}, which is no JSON object")
        return said

    def _failure(self, what: str) -> WorkerError:
        """Ends the worker, so that its exit status and its last words are known."""
        running = self.process.poll() is None and what != "ended"
        self.end()
        if not running:
            what += f" with exit status {self.process.returncode}"
        return WorkerError(f"the {self.backend} worker {what}{last_words(self._heard, self._errors)}")

    def end(self) -> None:
        """Lets it finish, and kills it if it does not."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        if self.process.poll() is None and not self._exits_within(0.5 if self._said.empty() else 0.0):
            self.kill()
        children.hang_up(self.process, self._reader)

    def kill(self) -> None:
        """Kills it and all that it has started, from any thread."""
        if self.process.poll() is None:
            children.kill(self.process)

    def _exits_within(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return True
            time.sleep(0.01)
        return False
