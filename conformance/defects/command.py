"""The command line: `unilossseg conformance selftest`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from unilossseg import LOSSES
from unilossseg.backends import KNOWN, is_installed
from unilossseg.conformance.cases import all_cases
from unilossseg.conformance.command_line import seconds
from unilossseg.conformance.defects import DEFECTS, Defect
from unilossseg.conformance.exit_codes import refuse
from unilossseg.conformance.reports.summary import SYMBOLS
from unilossseg.conformance.run import NoRoomError
from unilossseg.conformance.selftest import Finding, SelfTest, SelfTestError, selftest
from unilossseg.conformance.verdict import CONFORM, DIFFERS

SEES, BLIND = 0, 1
#: A defect that no more results show would go unseen if a case or two were dropped.
FEW = 2
_Names = list[str] | None


def selftest_command(
    backend: Annotated[
        _Names, typer.Option(metavar="NAME", help="Defects of this backend; repeat for several. All.")
    ] = None,
    loss: Annotated[_Names, typer.Option(metavar="NAME", help="Defects in this loss; repeat for several. All.")] = None,
    substring: Annotated[
        str | None, typer.Option("-k", metavar="SUBSTRING", help="Only defects whose name contains it.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only defects that show on NumPy: no framework is started.")
    ] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="All cases, not up to the first that shows a defect: how many show it.")
    ] = False,
    timeout: Annotated[float, seconds("Seconds that one case may take.")] = 60.0,
) -> None:
    """Plants defects in the losses and the adapters, one by one, and proves that the suite sees each of them.

    Each is planted in a worker process for the time of one case, and every loss that it concerns must then differ.
    """
    defects, absent = _chosen(["numpy"] if quick and not backend else backend, loss, substring)
    concerned = {name for defect in defects for name in defect.losses}
    cases = all_cases([name for name in LOSSES if name in concerned])
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task = progress.add_task("defects", total=len(defects))
        try:
            outcome = selftest(
                defects, cases, first_only=not thorough, timeout=timeout, report=lambda: progress.advance(task)
            )
        except (SelfTestError, NoRoomError) as error:
            refuse(str(error))
    _print(outcome, absent, thorough)
    raise typer.Exit(SEES if outcome.passed else BLIND)


def _chosen(backends: _Names, losses: _Names, substring: str | None) -> tuple[list[Defect], list[str]]:
    """The defects to plant, and what to say of those that cannot be."""
    with_defects = list(dict.fromkeys(defect.backend for defect in DEFECTS.values()))
    for name in backends or ():
        if name not in with_defects:
            refuse(f"--backend must be one of {', '.join(with_defects)} (got {name!r})")
        if not is_installed(name):
            refuse(f"backend {name!r} needs {KNOWN[name][0]}, which is not installed: {KNOWN[name][1]}")
    for name in losses or ():
        if name not in LOSSES:
            refuse(f"--loss must be one of {', '.join(LOSSES)} (got {name!r})")
    wanted = [
        dataclasses.replace(defect, losses=tuple(name for name in defect.losses if name in (losses or defect.losses)))
        for defect in DEFECTS.values()
        if defect.backend in (backends or with_defects) and (substring or "").lower() in defect.name
    ]
    wanted = [defect for defect in wanted if defect.losses]
    chosen = [defect for defect in wanted if is_installed(defect.backend)]
    if not chosen:
        refuse("no defect is selected" + (f": no name contains {substring!r}" if substring else ""))
    return chosen, _absent(wanted)


def _absent(defects: Sequence[Defect]) -> list[str]:
    missing = [defect.backend for defect in defects if not is_installed(defect.backend)]
    return [
        f"not tried: {missing.count(name)} defects of {name}, which is not installed: {KNOWN[name][1]}"
        for name in dict.fromkeys(missing)
    ]


def _print(outcome: SelfTest, absent: list[str], thorough: bool) -> None:
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(_table(outcome.findings, thorough))
    lines = [
        f"not seen: {finding.defect.name} in {trial.loss}: {finding.defect.description}" + _why(trial.errored, trial.first)
        for finding in outcome.findings
        for trial in finding.unseen
    ]
    lines += [
        f"{result.verdict.status} with no defect planted: {result.backend}, {result.case.id} ({result.mode}): "
        f"{result.verdict.message}"
        for result in outcome.false_alarms[:10]
    ]
    if len(outcome.false_alarms) > 10:
        lines.append(f"... and {len(outcome.false_alarms) - 10} more with no defect planted")
    count = len(outcome.findings)
    lines += [
        *absent,
        f"{outcome.caught} of {count} defects seen in every loss that they concern "
        f"({100 * outcome.caught / count:.1f} %) in {outcome.seconds:.0f} s.",
    ]
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _why(errored: int, first: str) -> str:
    if not errored:
        return "; every result conforms"
    return f"; {errored} results errored, which shows a stale defect more than a seeing suite: {first}"


def _table(findings: Sequence[Finding], thorough: bool) -> Table:
    table = Table(title="Defects planted on purpose")
    table.add_column("", no_wrap=True)
    table.add_column("backend", no_wrap=True)
    table.add_column("defect", overflow="fold")
    table.add_column("what it does", overflow="fold")
    table.add_column("shown by", overflow="fold")
    for finding in findings:
        table.add_row(
            SYMBOLS[CONFORM if finding.caught else DIFFERS],
            finding.defect.backend,
            finding.defect.name,
            finding.defect.description,
            _shown(finding, thorough),
        )
    return table


def _shown(finding: Finding, thorough: bool) -> str:
    """Every loss, and in a thorough run how many of its results show the defect."""
    parts = []
    for trial in finding.trials:
        bad, name = trial.showing, trial.loss.removesuffix("Loss")
        if not trial.seen:
            parts.append(f"{name}: NOT SEEN")
        elif thorough:
            parts.append(f"{name}: {bad} of {trial.results}" + (" (few)" if bad <= FEW else ""))
        else:
            parts.append(name)
    return ", ".join(parts)
