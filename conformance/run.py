"""A conformance run: a worker for each backend, the reference computed once for each case, a verdict for each result."""

from __future__ import annotations

import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unilossseg.backends import KNOWN, is_installed
from unilossseg.conformance import capabilities
from unilossseg.conformance.cases import Case
from unilossseg.conformance.devices import CPU
from unilossseg.conformance.known import Known
from unilossseg.conformance.pool import RefusedError, Worker, WorkerError
from unilossseg.conformance.protocol import MODES, Outcome, read_outcomes, write_arrays
from unilossseg.conformance.ratios import native_of
from unilossseg.conformance.reference import value_and_gradient
from unilossseg.conformance.results import Result, Run, now
from unilossseg.conformance.verdict import ERRORED, Reference, Verdict, judge

#: Requests that a worker has before it while its replies are judged. More of them would not fit into a pipe.
AHEAD = 6
#: The slowest to start begins first.
_ORDER = ("paddle", "torch", "strict", "numpy")

Report = Callable[[Result], None]


class NoRoomError(Exception):
    """The inputs of a case, or its results, find no room in temporary files: nothing can be said of it."""

    def __init__(self, folder: Path, reason: object) -> None:
        super().__init__(
            f"temporary files: cannot be written to {folder.parent} ({reason}), expected a folder with "
            "room: make some there, or name another folder in TMPDIR"
        )


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
                try:
                    write_arrays(path, self.case.arrays, dtypes)
                except OSError as error:
                    path.unlink(missing_ok=True)
                    raise NoRoomError(self.folder, error.strerror or error) from None
        return {
            "number": self.number,
            "case": self.case.id,
            "loss": self.case.loss,
            "parameters": dict(self.case.parameters),
            "layout": self.case.layout,
            "chunk": self.case.chunk,
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
    cases: Sequence[Case],
    backends: Sequence[str],
    *,
    jobs: int = 2,
    timeout: float = 60.0,
    report: Report | None = None,
    workers: Mapping[str, str] | None = None,
    device: str = CPU,
) -> Run:
    """Checks the cases on the backends, `jobs` of them at a time.

    Parameters
    ----------
    cases, backends
        What to check where. A backend must be installed, here or where its worker runs.
    timeout
        Seconds that one case may take on one backend.
    report
        Called with every result as it comes, from several threads.
    workers
        The interpreters of other environments that run a backend's worker, by backend; the others run with this one.
    device
        Where torch's and Paddle's tensors live; the other backends are on the CPU.

    Returns
    -------
    One result for each case, backend and mode: also for those that a worker did not live to compute.

    Raises
    ------
    RefusedError
        Where a worker's framework is not what its name says or cannot use the device, or its package is not this one.
    NoRoomError
        Where inputs or results cannot be written into temporary files.
    """
    started, clock = now(), time.monotonic()
    absent = {name: remedy for name, (_, remedy) in KNOWN.items() if not is_installed(name) and name not in backends}
    with tempfile.TemporaryDirectory(prefix="unilossseg-") as place:
        folder = Path(place)
        prepared = [Prepared(number, case, folder) for number, case in enumerate(cases)]
        pythons, told = workers or {}, report or (lambda result: None)
        sessions = {name: _Session(name, prepared, folder, timeout, told, pythons.get(name), device) for name in backends}
        ordered = sorted(backends, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))
        with ThreadPoolExecutor(max_workers=max(1, jobs)) as pool:
            try:
                # A backend without the device is refused before another has computed anything.
                for part in [_Session.run] if device == CPU else [_Session.check, _Session.run]:
                    for future in [pool.submit(part, sessions[name]) for name in ordered]:
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
        overdue=capabilities.overdue(backends),
    )


class _Session:
    """One backend's part of a run."""

    def __init__(
        self,
        backend: str,
        prepared: Sequence[Prepared],
        folder: Path,
        timeout: float,
        report: Report,
        python: str | None = None,
        device: str = CPU,
    ) -> None:
        self.python, self.device = python, device
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
            self.worker.kill()

    def check(self) -> None:
        """Raises RefusedError where the worker is refused; any other failure is left to the run."""
        if self.stopped:
            return
        try:
            with self._started() as self.worker:
                if not self.stopped:
                    self.worker.greeting()
        except RefusedError:
            raise
        except WorkerError:
            pass

    def _started(self) -> Worker:
        return Worker(self.backend, self.folder, self.python, device=self.device)

    def run(self) -> None:
        """Asks the worker for every case; where it fails, what is left is errored."""
        if self.stopped:
            return
        done: set[int] = set()
        # Those of a worker that has not said which it has.
        modes: Sequence[str] = MODES[:1]
        try:
            with self._started() as self.worker:
                # While it was started nobody could kill it.
                if self.stopped:
                    return
                self.greeting = self.worker.greeting()
                known = Known.of(self.backend, self.greeting)
                modes = known.modes
                self._run(self.worker, known, done)
        except RefusedError:
            raise
        except WorkerError as error:
            for item in self.prepared:
                if item.number not in done:
                    for mode in modes:
                        self._add(item.case, mode, Verdict(ERRORED, str(error)))

    def _run(self, worker: Worker, known: Known, done: set[int]) -> None:
        ahead = iter([item for item in self.prepared if known.tries(item.case)])
        for item in itertools.islice(ahead, AHEAD):
            worker.ask(item.request(self.backend))
        for item in self.prepared:
            if known.tries(item.case):
                reply = worker.reply(item.number, self.timeout)
                for following in itertools.islice(ahead, 1):
                    worker.ask(following.request(self.backend))
                outcomes = outcomes_of(item.output(self.backend), reply, known.modes)
            else:
                outcomes = {}
            for mode, verdict, seconds in judged(item, known, outcomes):
                self._add(item.case, mode, verdict, seconds)
            done.add(item.number)

    def _add(self, case: Case, mode: str, verdict: Verdict, seconds: float = 0.0) -> None:
        device = str((self.greeting or {}).get("device", self.device))
        result = Result(case, self.backend, mode, verdict, seconds, device, elsewhere=self.python is not None)
        self.results.append(result)
        self.report(result)


def outcomes_of(path: Path, reply: Mapping[str, Any], modes: Sequence[str]) -> dict[str, Outcome]:
    """What a worker wrote for a case, whose file goes; what cannot be read is an error in every mode.

    Raises NoRoomError where the worker could not write.
    """
    if "no_room" in reply:
        raise NoRoomError(path.parent, reply["no_room"])
    try:
        return read_outcomes(path, reply["outcomes"])
    except Exception as error:  # whatever a broken worker may have written
        return {mode: Outcome(error=f"the result cannot be read: {type(error).__name__}: {error}") for mode in modes}
    finally:
        path.unlink(missing_ok=True)


def judged(item: Prepared, known: Known, outcomes: Mapping[str, Outcome]) -> Iterator[tuple[str, Verdict, float]]:
    """The modes of a backend with their verdicts and their seconds: also those that it was not asked for."""
    for mode in known.modes:
        unsupported = known.unsupported(item.case, mode)
        if unsupported is not None:
            yield mode, unsupported, 0.0
            continue
        outcome = outcomes.get(mode, Outcome(error="the worker left this mode out"))
        verdict = judge(item.case, outcome, item.reference(), native_of(mode, outcomes), known.owes_gradient(mode))
        yield mode, known.settled(item.case, mode, verdict), outcome.seconds
