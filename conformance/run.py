"""A conformance run: a worker for each backend, the reference computed once for each case, a verdict for each result."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unilossseg.backends import KNOWN, is_installed
from unilossseg.conformance.cases import Case
from unilossseg.conformance.pool import Worker, WorkerError
from unilossseg.conformance.protocol import MODES, Outcome, read_outcomes, write_arrays
from unilossseg.conformance.reference import value_and_gradient
from unilossseg.conformance.results import Result, Run, now
from unilossseg.conformance.verdict import ERRORED, UNSUPPORTED, Reference, Verdict, judge

#: Requests that a worker has before it while its replies are judged. More of them would not fit into a pipe.
AHEAD = 6
#: The slowest to start begins first.
_ORDER = ("paddle", "torch", "strict", "numpy")

Report = Callable[[Result], None]


@dataclass
class Prepared:
    """A case, its inputs in a file and its reference, made for the first backend that needs them."""

    number: int
    case: Case
    folder: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _reference: Reference | None = None

    def request(self, backend: str) -> dict[str, Any]:
        """What a worker is asked."""
        path = self.folder / f"{self.number}.npz"
        dtypes = {name: self.case.dtype_of(name) for name in self.case.arrays}
        with self._lock:
            if not path.exists():
                write_arrays(path, self.case.arrays, dtypes)
        return {
            "number": self.number,
            "case": self.case.id,
            "loss": self.case.loss,
            "parameters": dict(self.case.parameters),
            "layout": self.case.layout,
            "arrays": dtypes,
            "input": str(path),
            "output": str(self.output(backend)),
        }

    def output(self, backend: str) -> Path:
        """Where a worker writes its results."""
        return self.folder / f"{self.number}-{backend}.npz"

    def reference(self) -> Reference:
        """The float64 value and gradient on the rounded inputs."""
        with self._lock:
            if self._reference is None:
                arrays = dict(self.case.arrays)
                logits, labels = arrays.pop("logits"), arrays.pop("labels")
                self._reference = Reference(
                    *value_and_gradient(self.case.loss, self.case.parameters, logits, labels, **arrays)
                )
            return self._reference


def run(
    cases: Sequence[Case], backends: Sequence[str], *, jobs: int = 2, timeout: float = 60.0, report: Report | None = None
) -> Run:
    """Checks the cases on the backends, `jobs` of them at a time.

    Parameters
    ----------
    cases, backends
        What to check where. A backend must be installed.
    timeout
        Seconds that one case may take on one backend.
    report
        Called with every result as it comes, from several threads.

    Returns
    -------
    One result for each case, backend and mode: also for those that a worker did not live to compute.
    """
    started, clock = now(), time.monotonic()
    absent = {name: remedy for name, (_, remedy) in KNOWN.items() if not is_installed(name) and name not in backends}
    with tempfile.TemporaryDirectory(prefix="unilossseg-") as place:
        folder = Path(place)
        prepared = [Prepared(number, case, folder) for number, case in enumerate(cases)]
        sessions = {name: _Session(name, prepared, folder, timeout, report or (lambda result: None)) for name in backends}
        ordered = sorted(backends, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
        with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
            running = [pool.submit(sessions[name].run) for name in ordered]
            try:
                for future in running:
                    future.result()
            except BaseException:
                for session in sessions.values():
                    session.stop()
                raise
    return Run(
        results=[result for name in backends for result in sessions[name].results],
        backends={name: sessions[name].greeting for name in backends},
        absent=absent,
        cases=len(cases),
        seconds=time.monotonic() - clock,
        started=started,
    )


class _Session:
    """One backend's part of a run."""

    def __init__(self, backend: str, prepared: Sequence[Prepared], folder: Path, timeout: float, report: Report) -> None:
        self.backend, self.prepared, self.folder, self.timeout = backend, prepared, folder, timeout
        self.report = report
        self.greeting: dict[str, Any] | None = None
        self.results: list[Result] = []
        self.worker: Worker | None = None
        self.stopped = False

    def stop(self) -> None:
        """Ends it from another thread."""
        self.stopped = True
        if self.worker is not None:
            self.worker.process.kill()

    def run(self) -> None:
        """Asks the worker for every case; where it fails, what is left is errored."""
        if self.stopped:
            return
        done: set[int] = set()
        try:
            with Worker(self.backend, self.folder) as self.worker:
                self.greeting = self.worker.greeting()
                self._run(self.worker, self.greeting, done)
        except WorkerError as error:
            modes = self.greeting["modes"] if self.greeting else MODES[:1]
            for item in self.prepared:
                if item.number not in done:
                    for mode in modes:
                        self._add(item.case, mode, Verdict(ERRORED, str(error)))

    def _run(self, worker: Worker, greeting: dict[str, Any], done: set[int]) -> None:
        wanted = [item for item in self.prepared if item.case.dtype in greeting["dtypes"]]
        ahead = iter(wanted)
        for item in itertools.islice(ahead, AHEAD):
            worker.ask(item.request(self.backend))
        for item in self.prepared:
            if item.case.dtype in greeting["dtypes"]:
                reply = worker.reply(item.number, self.timeout)
                for following in itertools.islice(ahead, 1):
                    worker.ask(following.request(self.backend))
                self._judge(item, reply, greeting["modes"])
            else:
                reason = Verdict(UNSUPPORTED, f"{greeting['framework']} has no {item.case.dtype}")
                for mode in greeting["modes"]:
                    self._add(item.case, mode, reason)
            done.add(item.number)

    def _judge(self, item: Prepared, reply: dict[str, Any], modes: Sequence[str]) -> None:
        path = item.output(self.backend)
        try:
            outcomes = read_outcomes(path, reply["outcomes"])
        except Exception as error:  # whatever a broken worker may have written
            outcomes = {mode: Outcome(error=f"the result cannot be read: {type(error).__name__}: {error}") for mode in modes}
        path.unlink(missing_ok=True)
        reference = item.reference()
        for mode in modes:
            outcome = outcomes.get(mode, Outcome(error="the worker left this mode out"))
            self._add(item.case, mode, judge(item.case, outcome, reference), outcome.seconds)

    def _add(self, case: Case, mode: str, verdict: Verdict, seconds: float = 0.0) -> None:
        result = Result(case, self.backend, mode, verdict, seconds)
        self.results.append(result)
        self.report(result)
