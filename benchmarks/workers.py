"""Starts workers in the frameworks' environments and asks them."""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any

ROOT = Path(__file__).parents[1]
#: Nothing may be fetched while something is measured.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "NO_ALBUMENTATIONS_UPDATE": "1"}
_SINGLE = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # glibc keeps what is freed: whether a buffer comes from fresh pages would otherwise depend on what was freed before.
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 34),
    "MALLOC_ARENA_MAX": "1",
}


#: Seconds that a worker may take for an answer.
LIMIT = 900.0


class WorkerError(RuntimeError):
    """A worker died, took too long, or said something else."""


class Worker:
    """A process of one framework; started at the first question, and again after it died."""

    def __init__(self, backend: str, python: Path, device: str, single: bool = False) -> None:
        """`single`: one thread, and times are those of the processor, which other programs do not lengthen."""
        self.backend = backend
        self._single = single
        self._python = python
        self._device = device
        self._complaints: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def ask(self, question: dict[str, Any], limit: float = LIMIT) -> dict[str, Any]:
        """The answer to a question; a worker that dies, is late or says what is none raises, and the next starts another."""
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write((json.dumps(question) + "\n").encode())
            process.stdin.flush()
        except BrokenPipeError:
            raise self._dead("died before it was asked") from None
        if not select.select([process.stdout], [], [], limit)[0]:
            raise self._dead(f"gave no answer in {limit:.0f} s and was ended")
        line = process.stdout.readline()
        if not line:
            raise self._dead("died")
        answer = _object(line)
        if answer is None:
            said = line[:200].decode(errors="replace").strip()
            raise self._dead(f"said {said!r} in place of an answer: does something print when its Python starts?")
        return answer

    def describe(self) -> dict[str, Any]:
        """What it runs with; raises where it cannot run at all."""
        answer = self.ask({"do": "describe"})
        if "error" in answer:
            raise WorkerError(f"the {self.backend} worker cannot start: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
        if self._complaints is not None:
            self._complaints.close()
            self._complaints = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            # What frameworks say about themselves: looked at only if the process dies.
            self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
            environment = {**os.environ, **_OFFLINE, **(_SINGLE if self._single else {})}
            # Not resolved: a virtual environment's interpreter is a link, and knows by it where it belongs.
            python = str(self._python.absolute())
            try:
                self._process = subprocess.Popen(
                    [python, "-m", "benchmarks.worker", self.backend, self._device, "1" if self._single else "all"],
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._complaints,
                )
            except OSError as error:
                self.close()
                raise WorkerError(f"the {self.backend} worker cannot be started: {error}") from None
        return self._process

    def _dead(self, how: str) -> WorkerError:
        process = self._process
        assert process is not None
        process.kill()
        process.wait()
        complaints = self._last_words()
        self.close()
        return WorkerError(f"the {self.backend} worker {how} (exit status {process.returncode}){complaints}")

    def _last_words(self) -> str:
        if self._complaints is None:
            return ""
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        said = [line.strip() for line in lines if line.strip()]
        return f": {said[-1][:300]}" if said else ""


def _object(line: bytes) -> dict[str, Any] | None:
    """The JSON object that a line is; None where it is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def ask_fresh(backend: str, python: Path, device: str, question: dict[str, Any], limit: float = LIMIT) -> dict[str, Any]:
    """The answer of a process that did nothing before."""
    with Worker(backend, python, device) as worker:
        return worker.ask(question, limit)
