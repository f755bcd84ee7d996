"""What is known about a worker's backend, and what that makes of a verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from unilossseg.conformance import capabilities
from unilossseg.conformance.capabilities import Exemption
from unilossseg.conformance.cases import Case
from unilossseg.conformance.pool import WorkerError
from unilossseg.conformance.protocol import PLAIN_FORMULA
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, EXPECTED, UNSUPPORTED, Verdict


@dataclass(frozen=True)
class Known:
    """A backend as its worker greeted: its version, and the exceptions that it brings beside those of the table."""

    backend: str
    framework: str = ""
    version: str = ""
    dtypes: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()
    further: tuple[Exemption, ...] = ()
    #: Whether its framework has an autograd.
    differentiates: bool = False

    @classmethod
    def of(cls, backend: str, greeting: Mapping[str, Any]) -> Known:
        """From a greeting; raises WorkerError where it is none."""
        try:
            return cls(
                backend,
                str(greeting["framework"]),
                str(greeting["version"]),
                tuple(greeting["dtypes"]),
                tuple(greeting["modes"]),
                tuple(Exemption.from_json(entry) for entry in greeting.get("exceptions", ())),
                bool(greeting.get("differentiates")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise WorkerError(f"the {backend} worker's greeting lacks something: {error!r}") from None

    def tries(self, case: Case) -> bool:
        """Whether the backend can compute the case in any mode."""
        return any(self.unsupported(case, mode) is None for mode in self.modes)

    def owes_gradient(self, mode: str) -> bool:
        """Whether a mode must give one: without an autograd a plain formula gives a value alone."""
        return mode != PLAIN_FORMULA or self.differentiates

    def unsupported(self, case: Case, mode: str) -> Verdict | None:
        """The verdict on what the backend cannot be asked; None: it can."""
        entry = next(iter(self._found(case, mode, capabilities.UNSUPPORTED)), None)
        if entry is not None:
            overdue = self._overdue(entry)
            return Verdict(*((ERRORED, overdue) if overdue else (UNSUPPORTED, entry.reason)), link=entry.link)
        if case.dtype not in self.dtypes:
            return Verdict(UNSUPPORTED, f"{self.framework} has no {case.dtype}")
        return None

    def settled(self, case: Case, mode: str, verdict: Verdict) -> Verdict:
        """The verdict; a failure that is expected and shows as declared is that, and to conform is then the failure."""
        entries = self._found(case, mode, capabilities.EXPECTED_FAILURE)
        if overdue := next(filter(None, map(self._overdue, entries)), ""):
            return Verdict(ERRORED, overdue)
        if entries and verdict.status == CONFORM:
            reasons = "; ".join(entry.reason for entry in entries)
            message = f"conforms, and was expected to fail ({reasons}): remove the exception from the capability table"
            return replace(verdict, status=DIFFERS, message=message, link=entries[0].link)
        for entry in entries:
            if entry.shows in verdict.message:
                return replace(verdict, status=EXPECTED, message=f"{entry.reason}: {verdict.message}", link=entry.link)
        return verdict

    def _overdue(self, entry: Exemption) -> str:
        """Of an exception that the backend brings itself; those of this package's table only warn in a run."""
        return entry.overdue if entry in self.further else ""

    def _found(self, case: Case, mode: str, kind: capabilities.Kind) -> list[Exemption]:
        return capabilities.find_all(
            self.backend,
            (case.dtype, mode),
            version=self.version,
            loss=case.loss,
            case=case.id,
            kind=kind,
            further=self.further,
        )
