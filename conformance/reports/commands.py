"""The commands `report`, `conformance diff` and `conformance trend`: plain functions that the command line registers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unilossseg.conformance.command_line import writing_to
from unilossseg.conformance.exit_codes import refuse
from unilossseg.conformance.reports import diff as differences
from unilossseg.conformance.reports import files
from unilossseg.conformance.reports import trend as trends
from unilossseg.conformance.reports.model import StoredRun
from unilossseg.conformance.reports.reader import RecordError, place_of, read
from unilossseg.conformance.reports.summary import short
from unilossseg.conformance.results import RESULTS, write_whole

SAME, REGRESSED = 0, 1
#: No more lines of a section than this on the terminal; `--json` has them all.
MOST_LINES = 20
_METAVAR = RESULTS
_HELP = "A run's record, or the folder that holds it."


def report(
    record: Annotated[Path, typer.Argument(metavar=_METAVAR, help=_HELP, show_default=False)],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the files go. Beside the record.", show_default=False)
    ] = None,
) -> None:
    """Makes the page, the JUnit XML, the Markdown summary and the badge from a run's record alone."""
    run = _read(record)
    folder = out or (record if record.is_dir() else record.parent)
    with writing_to(folder):
        files.write(run, folder)
    typer.echo(f"{'conforms' if run.conforms else 'does not conform'}: {', '.join(files.FILES)} in {folder}")


def diff(
    before: Annotated[Path, typer.Argument(metavar="A", help=_HELP, show_default=False)],
    after: Annotated[Path, typer.Argument(metavar="B", help="A later run.", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")] = False,
    factor: Annotated[
        float, typer.Option(min=1.0, metavar="X", help="An error has grown if it is more than X times as large,")
    ] = 2.0,
    floor: Annotated[
        float, typer.Option(min=0.0, max=1.0, metavar="SHARE", help="and takes up more than this share of what both allow.")
    ] = 0.5,
) -> None:
    """Says what changed from run A to run B: new failures, what is fixed, added, removed, checked less, errors that grew."""
    if factor != factor or floor != floor:  # NaN is below nothing
        refuse("--factor and --floor must be numbers")
    one, other = _read(before), _read(after)
    found = differences.compare(one, other, factor, floor)
    if not found.common:
        refuse(f"{before} and {after} cannot be compared: they have no result in common")
    if json:
        typer.echo(differences.to_json(found, (str(before), str(after))))
    else:
        _show(found)
    raise typer.Exit(REGRESSED if found.regressed else SAME)


def trend(
    records: Annotated[
        list[Path], typer.Argument(metavar="A B C ...", help=f"{_HELP} In the order of the table.", show_default=False)
    ],
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a chart as well.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON in place of a table.")] = False,
) -> None:
    """Shows how many results conformed in each of several runs, and the worst error as a share of what is allowed."""
    runs = [_read(path) for path in records]
    if svg is not None:
        try:
            if svg.exists() and any(svg.samefile(place_of(path)) for path in records):
                refuse(f"--svg {svg} is one of the records")
            write_whole(svg, trends.chart(runs))
        except OSError as error:
            refuse(f"cannot write {svg}: {error.strerror or error}")
    if json:
        typer.echo(trends.to_json(runs, [str(path) for path in records]))
        return
    _print(_trend_table(runs))
    if svg is not None:
        typer.echo(f"The chart: {svg}")


def _read(path: Path) -> StoredRun:
    try:
        return read(path)
    except RecordError as error:
        refuse(str(error))


def _print(what: Any) -> None:
    Console(width=None if sys.stdout.isatty() else 120).print(what, highlight=False)


def _show(found: differences.Difference) -> None:
    table = Table(title="From A to B", show_header=True)
    for head in ("", "results"):
        table.add_column(head, justify="right" if head else "left")
    for title, member, _ in differences.SECTIONS:
        table.add_row(title, str(len(getattr(found, member))))
    table.add_row("in both runs", str(found.common))
    _print(table)
    for title, member, worse in differences.SECTIONS:
        items = getattr(found, member)
        if items:
            _print(Text(f"\n{'✗' if worse else '·'} {title}", style="bold"))
        for item in items[:MOST_LINES]:
            _print(Text(f"  {differences.line(item)}"))
        if len(items) > MOST_LINES:
            _print(Text(f"  ... and {len(items) - MOST_LINES} more: see --json"))
    for what, one, other in found.versions():
        _print(Text(" ".join(f"environment: {what}: {one or 'none'} -> {other or 'none'}".split())))
    _print(Text("\nA regression." if found.regressed else "\nNothing is worse."))


def _trend_table(runs: list[StoredRun]) -> Table:
    table = Table(title="Results that conform, and the worst error as a share of its bound")
    names = trends.backends_of(runs)
    for head in ("run", "UniLossSeg", "conform", "fail", "worst", *names):
        table.add_column(Text(head))
    for run in runs:
        found = trends.points(run)
        whole = found[""]
        cells = [
            f"{run.header.started:%Y-%m-%d %H:%M}",
            run.header.version,
            str(whole.conforming),
            str(whole.bad),
            short(whole.ratio),
        ]
        for name in names:
            point = found.get(name)
            cells.append("" if point is None else " · ".join(filter(None, (str(point.conforming), short(point.ratio)))))
        table.add_row(*map(Text, cells))
    return table
