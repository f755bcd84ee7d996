"""What the pytest plugin collects where it is asked to: an item for each case on each backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unilossseg import LOSSES
from unilossseg.backends import KNOWN, installed_backends, is_installed
from unilossseg.conformance import capabilities, own_loss
from unilossseg.conformance.cases import Case, generator, selected
from unilossseg.conformance.known import Known
from unilossseg.conformance.own_loss import Facts, Truth
from unilossseg.conformance.pool import LONGEST_WAIT, SHORTEST_WAIT, WorkerError
from unilossseg.conformance.protocol import PLAIN_FORMULA, Outcome
from unilossseg.conformance.pytest_sessions import Sessions, by_id
from unilossseg.conformance.run import NoRoomError
from unilossseg.conformance.verdict import CONFORM, EXPECTED, UNSUPPORTED, Verdict

#: The frameworks whose autograd through a plain formula is compared with each other's.
_DIFFERENTIATE = ("torch", "paddle")
_EXPIRY = "exceptions-have-not-expired"


class FailedError(Exception):
    """A case does not conform; the message is all that pytest shows."""


class Suite:
    """The plugin proper: collects, runs, ends the workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.backends = list(dict.fromkeys(config.getoption("--unilossseg-backend")))
        losses = dict.fromkeys(config.getoption("--unilossseg-loss"))
        self.losses = [name for name in losses if ":" in name]
        self.builtin = [name for name in losses if ":" not in name]
        self.quick = bool(config.getoption("--unilossseg-quick"))
        self.sessions = Sessions(_timeout(config.getoption("--unilossseg-timeout")))
        for name in self.backends:
            _check_backend(name)
        for name in losses:
            _check_loss(name)
        if config.args_source is not pytest.Config.ArgsSource.ARGS:
            # Nobody named a file: these cases are all that is asked for.
            config.args = []
        self.ran = self.checked = False

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Adds the items, before -k and its kin choose among them."""
        names = self.backends or installed_backends()
        collectors = [Collector.own(session, self, name, loss) for loss in self.losses for name in names]
        if set(_DIFFERENTIATE) <= set(names):
            collectors += [Collector.agreement(session, self, loss) for loss in self.losses]
        if self.builtin or not self.losses:
            collectors += [Collector.builtin(session, self, name) for name in names]
        for collector in collectors:
            items.extend(collector.collect())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Notices whether any of these items ran, and whether anything was checked at all."""
        if report.nodeid.startswith("unilossseg["):
            self.ran = True
            tried = report.when == "call" and (report.outcome != "skipped" or hasattr(report, "wasxfail"))
            self.checked = self.checked or (tried and not report.nodeid.endswith(_EXPIRY))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Ends the workers; a session that skipped all of these items is no success, one that has deselected them may be."""
        self.sessions.close()
        if session.exitstatus == pytest.ExitCode.OK and self.ran and not self.checked:
            session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED

    def pytest_unconfigure(self) -> None:
        """However pytest ends."""
        self.sessions.close()


def _timeout(seconds: float) -> float:
    if not SHORTEST_WAIT <= seconds <= LONGEST_WAIT:  # NaN is within no limits
        limits = f"from {SHORTEST_WAIT:g} to {LONGEST_WAIT:.0f} seconds"
        raise pytest.UsageError(f"--unilossseg-timeout must be {limits} (got {seconds:g})")
    return seconds


def _check_backend(name: str) -> None:
    """An absent backend is a usage error: it must never look like a pass."""
    if ":" in name:
        return _check_spec("--unilossseg-backend", name)
    if name not in KNOWN:
        known = ", ".join(KNOWN)
        raise pytest.UsageError(f"--unilossseg-backend must be one of {known}, or package.module:BACKEND (got {name!r})")
    if not is_installed(name):
        module, remedy = KNOWN[name]
        raise pytest.UsageError(f"--unilossseg-backend={name} needs {module}, which is not installed: {remedy}")
    return None


def _check_loss(name: str) -> None:
    if ":" in name:
        return _check_spec("--unilossseg-loss", name)
    if name not in LOSSES:
        known = ", ".join(LOSSES)
        raise pytest.UsageError(f"--unilossseg-loss must be one of {known}, or package.module:Loss (got {name!r})")
    return None


def _check_spec(option: str, name: str) -> None:
    module, _, attribute = name.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise pytest.UsageError(f"{option} must be package.module:NAME (got {name!r})")


class Collector(pytest.Collector):
    """The items of a backend."""

    items: Iterator[tuple[type[_Item], dict[str, Any]]]
    suite: Suite
    backend: str

    @classmethod
    def _made(cls, session: pytest.Session, suite: Suite, name: str, backend: str) -> Collector:
        made: Collector = cls.from_parent(session, name=name, nodeid=name, path=Path(session.config.rootpath))
        made.suite, made.backend = suite, backend
        return made

    @classmethod
    def builtin(cls, session: pytest.Session, suite: Suite, backend: str) -> Collector:
        """Every loss of the package."""
        made = cls._made(session, suite, f"unilossseg[{backend}]", backend)
        cases = ((CaseItem, {"name": case.id, "case": case}) for case in selected(suite.builtin or None, quick=suite.quick))
        made.items = iter([(ExpiryItem, {"name": _EXPIRY}), *cases])
        return made

    @classmethod
    def own(cls, session: pytest.Session, suite: Suite, backend: str, loss: str) -> Collector:
        """A loss of somebody else's on one backend."""
        made = cls._made(session, suite, f"unilossseg[{backend}]", backend)
        made.items = (
            (LossItem, {"name": f"{loss}/{name}", "spec": loss, "short": name, "condition": condition, "dtype": dtype})
            for name, condition, dtype in own_loss.names()
        )
        return made

    @classmethod
    def agreement(cls, session: pytest.Session, suite: Suite, loss: str) -> Collector:
        """The same loss on the two frameworks that differentiate."""
        made = cls._made(session, suite, "unilossseg[torch, paddle]", "torch, paddle")
        name, condition, dtype = next(entry for entry in own_loss.names() if entry[2] == "float64")
        arguments = {"spec": loss, "short": name, "condition": condition, "dtype": dtype}
        made.items = iter([(AgreementItem, {"name": f"{loss}/the-same-autograd/{dtype}", **arguments})])
        return made

    def collect(self) -> Iterator[pytest.Item]:
        """The items."""
        for kind, arguments in self.items:
            yield kind.from_parent(self, **arguments)


class _Item(pytest.Item):
    """A case on a backend."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        assert isinstance(self.parent, Collector)
        self.backend, self.suite = self.parent.backend, self.parent.suite
        self.sessions = self.suite.sessions

    def runtest(self) -> None:
        """Raises FailedError, or says that it is skipped or failing as expected."""
        try:
            self.check()
        except (WorkerError, NoRoomError) as error:
            self.fail([str(error)])

    def check(self) -> None:
        """What a subclass does."""
        raise NotImplementedError

    def conclude(self, verdicts: Iterable[tuple[str, Verdict]]) -> None:
        """Every mode conforms, or none of them is supported, or what fails is expected to."""
        found = list(verdicts)
        right = {CONFORM, UNSUPPORTED, EXPECTED}
        if self.config.getoption("runxfail", False):
            # Then `pytest.xfail` does nothing, and pytest reports what it would say as the failure that it is.
            right.remove(EXPECTED)
        bad = [(mode, verdict) for mode, verdict in found if verdict.status not in right]
        if bad:
            self.fail([line for mode, verdict in bad for line in _described(mode, verdict)])
        expected = [verdict for _, verdict in found if verdict.status == EXPECTED]
        if expected:
            pytest.xfail(_reason(expected))
        unsupported = [verdict for _, verdict in found if verdict.status == UNSUPPORTED]
        if len(unsupported) == len(found):
            pytest.skip(_reason(unsupported) or f"{self.backend} has no mode to compute it in")

    def fail(self, lines: list[str]) -> None:
        """All that is wrong, and how to see it again."""
        raise FailedError("\n".join([f"{self.backend}: {self.name}", *(f"  {line}" for line in lines), *self.again()]))

    def again(self) -> list[str]:
        """The command that repeats this item alone."""
        return [f"  again: pytest {' '.join(self.options())} -k '{self.name}'"]

    def options(self) -> list[str]:
        """Of the command."""
        return [f"--unilossseg-backend={self.backend}"]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The message alone: a traceback of this file says nothing about the loss."""
        return str(excinfo.value) if isinstance(excinfo.value, FailedError) else super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, None, str]:
        """The name, as pytest shows it."""
        return self.path, None, f"{self.backend}: {self.name}"


class ExpiryItem(_Item):
    """The exceptions about a backend of this package."""

    def check(self) -> None:
        """None has expired; whoever has an installed release cannot renew one, so that this is a warning."""
        for line in capabilities.overdue([self.backend]):
            self.warn(pytest.PytestWarning(line))


class CaseItem(_Item):
    """A case that has a reference."""

    def __init__(self, case: Case, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.case = case

    def options(self) -> list[str]:
        """Of the command; the loss is named since one's name can end another's."""
        return [f"--unilossseg-loss={self.case.loss}", *super().options()]

    def check(self) -> None:
        """By its reference."""
        self.conclude(self.sessions.of(self.backend).verdicts(self.case))


def _described(mode: str, verdict: Verdict) -> Iterator[str]:
    """A verdict in words: what is wrong, and the worst entries with their bounds."""
    yield f"{mode}: {verdict.status}: {verdict.message}"
    for name, part in (("value", verdict.value), ("gradient", verdict.gradient)):
        if part is not None:
            yield f"  {name}: error {part.error:.3g}, bound {part.bound:.3g}, of its scale; worst at index {part.index}"


def _reason(verdicts: list[Verdict]) -> str:
    return "; ".join(dict.fromkeys(f"{v.message}" + (f" ({v.link})" if v.link else "") for v in verdicts))


class _OwnItem(_Item):
    """A case of a loss of somebody else's."""

    def __init__(self, spec: str, short: str, condition: Any, dtype: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.spec, self.short, self.condition, self.dtype = spec, short, condition, dtype

    def options(self) -> list[str]:
        """Of the command."""
        names = self.backend.split(", ")
        return [f"--unilossseg-loss={self.spec}", *(f"--unilossseg-backend={name}" for name in names)]

    def prepared(self) -> tuple[Case, Facts, Truth]:
        """The case with its upstream gradient; skips what the loss does not have."""
        facts = self.sessions.facts(self.spec)
        reason = own_loss.needless(self.condition, facts)
        if reason:
            pytest.skip(reason)
        case = own_loss.case(self.spec, self.short, self.condition, self.dtype, facts)
        truth = self.sessions.truth(by_id(case))
        if self.condition.upstream:
            upstream = generator(f"{facts.name}/upstream").normal(size=truth.value.shape)
            case = replace(case, id=f"{case.id}/upstream", arrays={**case.arrays, "upstream": np.asarray(upstream)})
            truth = self.sessions.truth(by_id(case))
        return case, facts, truth


class LossItem(_OwnItem):
    """Such a case on one backend."""

    def check(self) -> None:
        """The formula's value and gradient, by every way that the backend has."""
        session = self.sessions.of(self.backend)
        known = session.known()
        case, facts, truth = self.prepared()
        verdicts = {mode: verdict for mode in known.modes if (verdict := known.unsupported(case, mode)) is not None}
        tried = [mode for mode in known.modes if mode not in verdicts and _computed(mode, known, facts)]
        if tried:
            outcomes = session.outcomes(case)
            wanted = {mode: outcomes[mode] for mode in tried}
            exact = capabilities.supports(self.backend, capabilities.EXACT_SCALARS, known.version)
            due = {mode for mode in wanted if known.owes_gradient(mode)}
            found = own_loss.verdicts(case, facts, wanted, truth, exact, due)
            verdicts |= {mode: known.settled(case, mode, verdict) for mode, verdict in found.items()}
        self.conclude(verdicts.items())


def _computed(mode: str, known: Known, facts: Facts) -> bool:
    """Whether a mode computes anything: without an autograd and without a closed form only the plain formula does."""
    return mode == PLAIN_FORMULA or facts.closed_form or known.differentiates


class AgreementItem(_OwnItem):
    """The plain formula through the autograd of torch and of Paddle."""

    def check(self) -> None:
        """Both give the same value and the same gradient."""
        case, _, _ = self.prepared()
        found: dict[str, Outcome] = {}
        exact = True
        for name in _DIFFERENTIATE:
            session = self.sessions.of(name)
            exact = exact and capabilities.supports(name, capabilities.EXACT_SCALARS, session.known().version)
            found[name] = session.outcomes(case)[PLAIN_FORMULA]
        broken = [f"{name}: {outcome.error}" for name, outcome in found.items() if outcome.error]
        bound = own_loss.FORMULAS if exact else own_loss.ROUNDED_SCALARS
        lines = broken or own_loss.disagreements("torch", found["torch"], "paddle", found["paddle"], bound)
        if lines:
            self.fail(lines)
