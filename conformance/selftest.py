"""Whether the suite sees: defects are planted in a worker one by one, and the verdict on the cases must change.

A suite that always says "conform" would pass every other test of a library that is right. Here the library is made
wrong on purpose, and every loss that a defect concerns must show it.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unilossseg.conformance.cases import Case
from unilossseg.conformance.defects import Defect
from unilossseg.conformance.known import Known
from unilossseg.conformance.pool import Worker, WorkerError
from unilossseg.conformance.protocol import Outcome
from unilossseg.conformance.results import Result
from unilossseg.conformance.run import AHEAD, Prepared, judged, outcomes_of
from unilossseg.conformance.verdict import DIFFERS, ERRORED, UNSUPPORTED, is_bad

MODULE = "unilossseg.conformance.defects.worker"


class SelfTestError(Exception):
    """The self-test could not be made, and why."""


@dataclass(frozen=True)
class Trial:
    """One defect in one loss: how many of the results differed or errored, and the first of them in words; and how many of
    the errors are those that the defect announces.
    """

    loss: str
    results: int = 0
    differing: int = 0
    errored: int = 0
    announced: int = 0
    first: str = ""

    @property
    def showing(self) -> int:
        """How many of the results show the defect."""
        return self.differing + self.announced

    @property
    def seen(self) -> bool:
        """Whether the suite noticed."""
        return self.showing > 0


@dataclass(frozen=True)
class Finding:
    """What became of one defect."""

    defect: Defect
    trials: tuple[Trial, ...]

    @property
    def unseen(self) -> tuple[Trial, ...]:
        """The losses that did not show it."""
        return tuple(trial for trial in self.trials if not trial.seen)

    @property
    def caught(self) -> bool:
        """Whether every loss that it concerns showed it."""
        return not self.unseen


@dataclass(frozen=True)
class SelfTest:
    """All findings, and the results that were bad with no defect planted."""

    findings: list[Finding]
    false_alarms: list[Result]
    seconds: float

    @property
    def caught(self) -> int:
        """Defects that every loss they concern showed."""
        return sum(finding.caught for finding in self.findings)

    @property
    def passed(self) -> bool:
        """Every defect was seen, and nothing else."""
        return self.caught == len(self.findings) and not self.false_alarms


def selftest(
    defects: Sequence[Defect],
    cases: Sequence[Case],
    *,
    first_only: bool = False,
    timeout: float = 60.0,
    report: Callable[[], None] | None = None,
) -> SelfTest:
    """Plants the defects, each on its backend, and judges the cases of the losses that they concern.

    Parameters
    ----------
    defects, cases
        What to plant, and what is to show it.
    first_only
        Whether a loss's first bad result is enough; else all its cases are judged, and the share that shows the defect is
        known.
    timeout
        Seconds that one case may take.
    report
        Called after each defect, from several threads.

    Raises
    ------
    SelfTestError
        Where a defect does not fit the code any more, no case is there for its loss, or a worker does not start.
    NoRoomError
        Where inputs cannot be written into temporary files.
    """
    clock = time.monotonic()
    backends = list(dict.fromkeys(defect.backend for defect in defects))
    with tempfile.TemporaryDirectory(prefix="unilossseg-") as place:
        prepared = [Prepared(number, case, Path(place)) for number, case in enumerate(cases)]
        sittings = [
            _Sitting(
                name,
                [defect for defect in defects if defect.backend == name],
                prepared,
                Path(place),
                _Settings(first_only, timeout, report or (lambda: None)),
            )
            for name in backends
        ]
        with ThreadPoolExecutor(max_workers=2) as pool:
            running = [pool.submit(sitting.run) for sitting in sittings]
            try:
                for future in running:
                    future.result()
            except BaseException:
                for sitting in sittings:
                    sitting.stop()
                raise
    found = {finding.defect.name: finding for sitting in sittings for finding in sitting.findings}
    return SelfTest(
        findings=[found[defect.name] for defect in defects],
        false_alarms=[result for sitting in sittings for result in sitting.false_alarms],
        seconds=time.monotonic() - clock,
    )


@dataclass(frozen=True)
class _Settings:
    first_only: bool
    timeout: float
    report: Callable[[], None]


@dataclass
class _Sitting:
    """One backend's part: a worker that lives as long as the defects let it."""

    backend: str
    defects: list[Defect]
    prepared: list[Prepared]
    folder: Path
    settings: _Settings
    findings: list[Finding] = field(default_factory=list)
    false_alarms: list[Result] = field(default_factory=list)
    _worker: Worker | None = None
    _known: Known = field(default_factory=lambda: Known(""))
    _stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Ends it from another thread."""
        self._stopped.set()
        worker = self._worker
        if worker is not None:
            worker.kill()

    def run(self) -> None:
        """Every defect; before and after them no defect, when nothing must be found."""
        try:
            self._control(quick=False)
            for defect in self.defects:
                if self._stopped.is_set():
                    return
                self.findings.append(Finding(defect, tuple(self._try(defect, loss) for loss in defect.losses)))
                self.settings.report()
            self._control(quick=True)
        finally:
            if self._worker is not None:
                self._worker.end()

    def _started(self) -> Worker:
        if self._worker is None:
            # A worker that was killed to end all looks like one that a defect took: no other takes its place.
            self._check_wanted()
            self._worker = Worker(self.backend, self.folder, module=MODULE)
            # While it was started nobody could kill it.
            self._check_wanted()
            self._known = Known.of(self.backend, self._worker.greeting())
        return self._worker

    def _check_wanted(self) -> None:
        if self._stopped.is_set():
            raise SelfTestError("it was ended from outside")

    def _control(self, quick: bool) -> None:
        """What is bad without a defect: a suite that cries wolf sees as little as one that always says yes."""
        losses = {loss for defect in self.defects for loss in defect.losses}
        items = [item for item in self.prepared if item.case.loss in losses and (item.case.quick or not quick)]
        try:
            results = list(self._results(items, None))
        except WorkerError as error:
            raise SelfTestError(f"without a defect: {error}") from None
        self.false_alarms += [result for result in results if is_bad(result.verdict.status)]

    def _try(self, defect: Defect, loss: str) -> Trial:
        """The cases of one loss with the defect in the code."""
        items = [item for item in self.prepared if item.case.loss == loss]
        seen: list[Result] = []
        try:
            with contextlib.closing(self._results(items, defect)) as results:
                for result in results:
                    seen.append(result)
                    if self.settings.first_only and _trial(loss, seen, defect).seen:
                        break
        except WorkerError as error:
            # A defect may take the worker with it; the next one gets a new worker.
            self._worker = None
            told = _trial(loss, seen, defect)
            return replace(told, results=len(seen) + 1, errored=told.errored + 1, first=str(error))
        if not seen:
            raise SelfTestError(f"{defect.name}: no case of {loss} can be computed on {self.backend}")
        return _trial(loss, seen, defect)

    def _results(self, items: Sequence[Prepared], defect: Defect | None) -> Generator[Result, None, None]:
        """The verdicts on the cases; what was asked for is read to the end, even if the caller has seen enough."""
        worker = self._started()
        ahead, asked = iter([item for item in items if self._known.tries(item.case)]), []
        for item in itertools.islice(ahead, AHEAD):
            worker.ask(self._request(item, defect))
            asked.append(item)
        try:
            while asked:
                item = asked.pop(0)
                outcomes = self._outcomes(worker, item)
                for following in itertools.islice(ahead, 1):
                    worker.ask(self._request(following, defect))
                    asked.append(following)
                for mode, verdict, seconds in judged(item, self._known, outcomes):
                    if verdict.status != UNSUPPORTED:
                        yield Result(item.case, self.backend, mode, verdict, seconds)
        except GeneratorExit:
            for item in asked:
                worker.reply(item.number, self.settings.timeout)
                item.output(self.backend).unlink(missing_ok=True)
            raise

    def _request(self, item: Prepared, defect: Defect | None) -> dict[str, Any]:
        return {**item.request(self.backend), "defect": None if defect is None else defect.name}

    def _outcomes(self, worker: Worker, item: Prepared) -> dict[str, Outcome]:
        reply = worker.reply(item.number, self.settings.timeout)
        if "planting" in reply:
            raise SelfTestError(f"a defect does not fit the code any more: {reply['planting']}")
        return outcomes_of(item.output(self.backend), reply, self._known.modes)


def _trial(loss: str, results: Sequence[Result], defect: Defect) -> Trial:
    bad = [result for result in results if is_bad(result.verdict.status)]
    errored = [result.verdict.message for result in bad if result.verdict.status == ERRORED]
    return Trial(
        loss=loss,
        results=len(results),
        differing=sum(result.verdict.status == DIFFERS for result in bad),
        errored=len(errored),
        announced=sum(bool(defect.crashes) and defect.crashes in message for message in errored),
        first=f"{bad[0].case.id}, {bad[0].mode}: {bad[0].verdict.message.splitlines()[0]}" if bad else "",
    )
