"""The command line of the suite: `unilossseg conformance`, `record`, `report` and the others."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from unilossseg import LOSSES, __version__
from unilossseg.backends import KNOWN, BackendNotInstalledError, installed_backends, is_installed
from unilossseg.conformance import interpreters
from unilossseg.conformance.capability_command import capabilities
from unilossseg.conformance.cases import Case, selected
from unilossseg.conformance.command_line import Guarded, output_folder, seconds, writing_to
from unilossseg.conformance.defects.command import selftest_command
from unilossseg.conformance.devices import CPU
from unilossseg.conformance.exit_codes import epilog, refuse
from unilossseg.conformance.parity.commands import train_parity
from unilossseg.conformance.pool import RefusedError
from unilossseg.conformance.records.commands import EPILOGS, compare, record, replay
from unilossseg.conformance.reports import commands, files, reader, summary
from unilossseg.conformance.reports.model import StoredRun
from unilossseg.conformance.results import RESULTS, Result, Run
from unilossseg.conformance.run import NoRoomError
from unilossseg.conformance.run import run as run_cases
from unilossseg.conformance.verdict import STATUSES, UNSUPPORTED

CONFORMS, FAILS = 0, 1
#: No more failures, and no more warnings, than this are spelled out on the terminal.
MOST_FAILURES = 10

app = typer.Typer(
    cls=Guarded, help="Image-segmentation losses, the same on every framework.", no_args_is_help=True, add_completion=False
)
conformance = typer.Typer(
    help="Proves that every loss gives the same values and gradients everywhere.", no_args_is_help=True
)
app.add_typer(conformance, name="conformance")
conformance.command("selftest", epilog=epilog("conformance selftest"))(selftest_command)
for command in (record, replay, compare):
    app.command(epilog=EPILOGS[command.__name__])(command)
app.command("train-parity", epilog=epilog("train-parity"))(train_parity)
app.command(epilog=f"{epilog('report')} Files: {', '.join(files.FILES)}.")(commands.report)
conformance.command(epilog=epilog("conformance diff"))(commands.diff)
conformance.command(epilog=epilog("conformance trend"))(commands.trend)
app.command(epilog=epilog("capabilities"))(capabilities)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unilossseg {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Image-segmentation losses, the same on every framework."""


@conformance.command(epilog=epilog("conformance run"))
def run(
    backend: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A backend to check; repeat for several. All installed ones.")
    ] = None,
    loss: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A loss to check; repeat for several. All of them.")
    ] = None,
    substring: Annotated[
        str | None, typer.Option("-k", metavar="SUBSTRING", help="Only cases whose id contains it.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the most telling cases.")] = False,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Backends that are checked at the same time.")] = 2,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results.jsonl and the files made from it go.")] = Path(
        "conformance-report"
    ),
    timeout: Annotated[float, seconds("Seconds that one case may take.")] = 60.0,
    worker: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PYTHON", help="A Python of another environment that runs a backend; repeat for several."),
    ] = None,
    device: Annotated[
        str, typer.Option(metavar="NAME", help="Where torch's and Paddle's tensors live: cpu, cuda, cuda:1, ...")
    ] = CPU,
) -> None:
    """Checks every loss on every backend against the float64 reference, and writes a report."""
    workers = _workers(worker)
    backends = _backends(backend, workers)
    cases = _cases(loss, substring, quick)
    with output_folder(out):
        try:
            outcome = _run(cases, backends, jobs, timeout, workers, device)
        except (RefusedError, NoRoomError) as error:
            refuse(str(error))
        if all(result.verdict.status == UNSUPPORTED for result in outcome.results):
            refuse("nothing could be checked: no chosen backend supports any of the chosen cases")
    # The files tell what the record tells, and nothing that the run knew beside it.
    record = outcome.record()
    stored = reader.parse(record)
    with writing_to(out):
        files.write(stored, out, {RESULTS: record})
    _summarise(stored, out)
    raise typer.Exit(CONFORMS if stored.conforms else FAILS)


def _workers(given: list[str] | None) -> dict[str, str]:
    try:
        return interpreters.chosen(given or [])
    except interpreters.InterpreterError as error:
        refuse(str(error))


def _backends(names: list[str] | None, workers: dict[str, str]) -> list[str]:
    if not names:
        here = installed_backends()
        return [name for name in KNOWN if name in here or name in workers]
    for name in names:
        if name not in KNOWN:
            refuse(f"--backend must be one of {', '.join(KNOWN)} (got {name!r})")
        if name not in workers and not is_installed(name):
            module, remedy = KNOWN[name]
            refuse(str(BackendNotInstalledError(f"backend {name!r} needs {module}, which is not installed: {remedy}")))
    unused = [name for name in workers if name not in names]
    if unused:
        refuse(f"--worker {unused[0]} is of no use without --backend {unused[0]}")
    return list(dict.fromkeys(names))


def _cases(losses: list[str] | None, substring: str | None, quick: bool) -> list[Case]:
    for name in losses or ():
        if name not in LOSSES:
            refuse(f"--loss must be one of {', '.join(LOSSES)} (got {name!r})")
    cases = selected(list(dict.fromkeys(losses)) if losses else None, substring, quick)
    if not cases:
        refuse("no case is selected" + (f": no id contains {substring!r}" if substring else ""))
    return cases


def _run(cases: list[Case], backends: list[str], jobs: int, timeout: float, workers: dict[str, str], device: str) -> Run:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        tasks = {name: progress.add_task(name, total=len(cases)) for name in backends}
        last: dict[str, str] = {}
        lock = threading.Lock()

        def advance(result: Result) -> None:
            # A case gives several results, one after the other.
            with lock:
                if last.get(result.backend) != result.case.id:
                    last[result.backend] = result.case.id
                    progress.advance(tasks[result.backend])

        return run_cases(cases, backends, jobs=jobs, timeout=timeout, report=advance, workers=workers, device=device)


def _summarise(run: StoredRun, out: Path) -> None:
    console = Console(width=None if sys.stdout.isatty() else 120)
    table = Table(title=f"Results that conform, the worst error as a share of its bound, {summary.WARNED} warnings")
    table.add_column("loss", no_wrap=True)
    for name in run.backends:
        # A narrow terminal breaks the numbers into lines: an ellipsis would hide them.
        table.add_column(name, overflow="fold")
    by_place = summary.grouped(run.results, "loss", "backend")
    for loss in run.losses:
        cells = [summary.cell(by_place.get((loss, name), [])) for name in run.backends]
        table.add_row(loss, *(f"{cell.symbol} {cell.words}" for cell in cells))
    console.print(table)
    for kind, found in (("failures", summary.failures_of(run)), ("warnings", summary.warnings_of(run))):
        for one in found[:MOST_FAILURES]:
            # On one line: no message of a worker can begin another.
            line = " ".join(f"{one.status}: {one.backend}, {one.title}: {one.message}".split())
            console.print(line, markup=False, highlight=False)
        if len(found) > MOST_FAILURES:
            line = f"... and {len(found) - MOST_FAILURES} more {kind}, in the report"
            console.print(line, markup=False, highlight=False)
    for line in run.troubles:
        console.print(f"does not conform: {line}", markup=False, highlight=False)
    if natives := summary.natives_of(run):
        console.print(natives, markup=False, highlight=False)
    for line in run.header.expired:
        console.print(f"warning: {line}", markup=False, highlight=False)
    for name, remedy in run.header.not_installed.items():
        console.print(f"not run: {name}, which is not installed: {remedy}", markup=False, highlight=False)
    counts = ", ".join(f"{run.count(status)} {status}" for status in STATUSES)
    console.print(
        f"{len(run.cases)} cases in {run.header.seconds:.0f} s: {counts}. Report: {out / files.PAGE}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
