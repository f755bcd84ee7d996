"""The pytest plugin's end of the workers: one for each backend, started when its first item runs."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from unilossseg.conformance.cases import Case
from unilossseg.conformance.known import Known
from unilossseg.conformance.own_loss import Facts, Truth
from unilossseg.conformance.pool import Worker, WorkerError
from unilossseg.conformance.protocol import PLAIN_FORMULA, Outcome, read_arrays
from unilossseg.conformance.run import NoRoomError, Prepared, judged, outcomes_of
from unilossseg.conformance.verdict import Verdict


class Session:
    """A backend's worker; a new one takes the place of one that crashed."""

    def __init__(self, backend: str, timeout: float) -> None:
        self.backend, self.timeout = backend, timeout
        self._place = tempfile.TemporaryDirectory(prefix="unilossseg-")
        self.folder = Path(self._place.name)
        self._worker: Worker | None = None
        self._known: Known | None = None
        self._broken: WorkerError | None = None
        self._numbers = itertools.count()

    def known(self) -> Known:
        """The backend as its worker greeted; raises WorkerError, every time, where it does not start."""
        if self._broken is not None:
            raise self._broken
        if self._worker is None:
            try:
                with _path_of_this_process():
                    self._worker = Worker(self.backend, self.folder)
                self._known = Known.of(self.backend, self._worker.greeting())
            except BaseException as error:
                self._broken = error if isinstance(error, WorkerError) else None
                self.close()
                raise
        assert self._known is not None
        return self._known

    def verdicts(self, case: Case) -> list[tuple[str, Verdict]]:
        """A verdict in each mode of a case that has a reference."""
        item = Prepared(next(self._numbers), case, self.folder)
        known = self.known()
        outcomes = self.outcomes(case, item) if known.tries(case) else {}
        return [(mode, verdict) for mode, verdict, _ in judged(item, known, outcomes)]

    def outcomes(self, case: Case, item: Prepared | None = None, **further: str) -> dict[str, Outcome]:
        """What the backend computes, mode by mode."""
        item = item or Prepared(next(self._numbers), case, self.folder)
        request = {**item.request(self.backend), **further}
        modes = (PLAIN_FORMULA,) if "differences" in further else self.known().modes
        found = outcomes_of(Path(request["output"]), self._asked(request), modes)
        Path(request["input"]).unlink(missing_ok=True)
        return found

    def facts(self, spec: str) -> Facts:
        """What the checks must know of a loss of somebody else's."""
        output = self.folder / "facts.npz"
        said = self._asked({"number": next(self._numbers), "facts": spec, "output": str(output)})["facts"]
        inputs = read_arrays(output, {}) if said.pop("inputs") else {}
        return Facts(**{**said, "call_inputs": tuple(said["call_inputs"])}, inputs=inputs)

    def truth(self, case: Case) -> Truth:
        """The plain formula of such a loss in NumPy, and its central differences; raises WorkerError where there is none."""
        outcome = self.outcomes(case, differences=case.loss)[PLAIN_FORMULA]
        if outcome.value is None or outcome.gradient is None:
            raise WorkerError(outcome.error or "the NumPy worker sent no value")
        return Truth(outcome.value, outcome.gradient)

    def _asked(self, request: dict[str, Any]) -> dict[str, Any]:
        self.known()
        assert self._worker is not None
        try:
            self._worker.ask(request)
            said = self._worker.reply(request["number"], self.timeout)
        except BaseException:
            # Whatever it is (another plugin's time limit, say): the next item would take the reply to come for its own.
            self.close()
            raise
        if "refused" in said:
            raise WorkerError(str(said["refused"]))
        if "no_room" in said:
            raise NoRoomError(self.folder, said["no_room"])
        return said

    def close(self) -> None:
        """Ends the worker."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()


class Sessions:
    """The workers of a pytest session."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._open: dict[str, Session] = {}
        self.facts = cache(self._facts)
        self.truth = cache(self._truth)

    def of(self, backend: str) -> Session:
        """A backend's."""
        if backend not in self._open:
            self._open[backend] = Session(backend, self._timeout)
        return self._open[backend]

    def _facts(self, spec: str) -> Facts:
        return self.of("numpy").facts(spec)

    def _truth(self, made: _ById) -> Truth:
        return self.of("numpy").truth(made.case)

    def close(self) -> None:
        """Ends them all."""
        for session in self._open.values():
            session.close()
            session._place.cleanup()
        self._open.clear()


class _ById:
    """A case that equals another of the same id: its arrays cannot be compared, and need not be."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and other.case.id == self.case.id

    def __hash__(self) -> int:
        return hash(self.case.id)


by_id = _ById


@contextlib.contextmanager
def _path_of_this_process() -> Iterator[None]:
    """Workers that start inside it import from where this process does: pytest's `pythonpath`, conftest folders, and all."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path or os.getcwd() for path in sys.path))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
