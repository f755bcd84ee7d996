"""The command line: `python -m benchmarks run`, `check` and `page`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from benchmarks import chart, device_table, gate, plan, results, table
from benchmarks.frameworks import BACKENDS, DEVICES
from benchmarks.names import OURS
from benchmarks.rows import GATE, ROWS, TARGET
from benchmarks.run import Run
from benchmarks.standing import standings
from benchmarks.workers import ROOT, Worker, WorkerError
from unilossseg.conformance.command_line import Guarded

FINE, SLOWER, CANNOT_RUN = 0, 1, 2
#: What the pages are measured with.
ROUNDS, SECONDS = 31, 0.4
PAGE = ROOT / "docs" / "benchmarks.md"
DEVICE_PAGE = ROOT / "docs" / "benchmarks_gpu.md"
CHART = ROOT / "docs" / "benchmarks.svg"
RESULTS = Path(__file__).with_name("results")

app = typer.Typer(
    # Python's own exit code of an unforeseen error is that of a regression.
    cls=Guarded,
    help="Measures every loss against the libraries that offer it too.",
    no_args_is_help=True,
    add_completion=False,
)
# No markup: what workers say, and paths, may have brackets.
console = Console(highlight=False, soft_wrap=True, markup=False)

Backends = Annotated[list[str] | None, typer.Option("--backend", metavar="NAME", help="torch or paddle; repeat for both.")]
Losses = Annotated[list[str] | None, typer.Option("--loss", metavar="NAME", help="A loss; repeat for several.")]
Device = Annotated[str, typer.Option(metavar="cpu|cuda", help="Where the tensors live.")]
TorchPython = Annotated[Path, typer.Option(help="The interpreter of the environment with torch and its peers.")]
PaddlePython = Annotated[Path, typer.Option(help="The interpreter of the environment with Paddle and PaddleSeg.")]
_TORCH = ROOT / ".venv-bench-torch" / "bin" / "python"
_PADDLE = ROOT / ".venv-bench-paddle" / "bin" / "python"


@app.command()
def run(
    quick: Annotated[bool, typer.Option("--quick", help="The target's configuration only; half an hour.")] = False,
    full: Annotated[bool, typer.Option("--full", help="Every size, batch, number of classes and dtype; hours.")] = False,
    loss: Losses = None,
    size: Annotated[list[int] | None, typer.Option(min=16, help="Edge length of an image; repeat for several.")] = None,
    batch: Annotated[list[int] | None, typer.Option(min=1, help="Images; repeat for several.")] = None,
    classes: Annotated[list[int] | None, typer.Option(min=2, help="Classes; repeat for several.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(metavar="NAME", help="float32, bfloat16, ...")] = None,
    backend: Backends = None,
    device: Device = "cpu",
    rounds: Annotated[int, typer.Option(min=1, help="Rounds at most.")] = ROUNDS,
    seconds: Annotated[
        float, typer.Option(min=0.0, help="Seconds of one contestant at one configuration, beyond the least rounds.")
    ] = SECONDS,
    slow: Annotated[
        bool, typer.Option("--slow", help="Peers that take minutes a call, or days: PaddleSeg's DualTaskLoss.")
    ] = False,
    fresh: Annotated[
        bool,
        typer.Option(help="Measure memory and first calls, in fresh processes; the CPU only."),
    ] = True,
    out: Annotated[Path | None, typer.Option(help="The results' file; default: benchmarks/results/.")] = None,
    page: Annotated[
        bool | None, typer.Option("--page/--no-page", help="Renew the device's page in docs/; default: after a whole run.")
    ] = None,
    torch_python: TorchPython = _TORCH,
    paddle_python: PaddlePython = _PADDLE,
) -> None:
    """Measures, writes the results, and renews the page after a whole run.

    Without options: the target's configuration and others around it, an hour.
    """
    pythons = _pythons(backend, device, torch_python, paddle_python)
    rows = _rows(loss)
    try:
        shapes, large = plan.selected(quick, full, size, batch, classes, dtype, device)
    except ValueError as error:
        _refuse(str(error))
    whole = not (quick or size or batch or classes or dtype or loss or backend) and fresh
    # Fewer would say less than the page that they replaced.
    whole = whole and rounds >= ROUNDS and seconds >= SECONDS
    fresh = fresh and device == "cpu"
    wanted = plan.Plan(rows, shapes, large, tuple(pythons), rounds, seconds, slow, fresh)
    if not wanted.measures_something:
        _refuse("nothing would be measured: none of these losses is measured in these dtypes")
    path = out or RESULTS / (f"{device}.json" if whole else "partial.json")
    try:
        results.prepare(path)
    except OSError as error:
        _refuse(f"{path} cannot be written ({error.strerror}): give another --out")
    one = Run(wanted, pythons, device, _command(), console.print)
    try:
        measured = one.carry_out()
        results.write(measured, path)
    except BaseException as error:
        # An hour of measuring, whatever ends it.
        if one.results.timings:
            results.write(one.results, RESULTS / "partial.json")
            console.print(f"What was measured until then: {RESULTS / 'partial.json'}")
        if isinstance(error, WorkerError | KeyboardInterrupt | OSError):
            _refuse(str(error) or "interrupted")
        raise
    # With the digits that the file has: the page can be made from it again.
    measured = results.read(path)
    console.print(f"Results: {path}")
    if device == "cpu":
        _show(measured)
    if whole if page is None else page:
        try:
            _renew(measured)
        except ValueError as error:
            _refuse(str(error))


@app.command()
def page(
    file: Annotated[Path, typer.Argument(help="A run's results.")] = RESULTS / "cpu.json",
) -> None:
    """Renews the tables and the chart of docs/benchmarks.md, or docs/benchmarks_gpu.md, from a run's results."""
    try:
        _renew(results.read(file))
    except (results.ResultsError, ValueError) as error:
        _refuse(str(error))


@app.command()
def check(
    write: Annotated[bool, typer.Option("--write", help="Commit to the speeds seen now, instead of checking.")] = False,
    loss: Losses = None,
    backend: Backends = None,
    torch_python: TorchPython = _TORCH,
    paddle_python: PaddlePython = _PADDLE,
) -> None:
    """The regression gate: exit code 1 where a loss became slower relative to a peer in the same rounds."""
    pythons = _pythons(backend, "cpu", torch_python, paddle_python)
    rows = {row.name for row in _rows(loss)}
    try:
        if write:
            _commit(pythons, rows)
            return
        outcomes = _outcomes(pythons, rows)
    except (results.ResultsError, WorkerError, KeyboardInterrupt) as error:
        # An interruption's usual exit code would be that of a regression.
        _refuse(str(error) or "interrupted")
    if not outcomes:
        _refuse("no limit is committed for these losses: `python -m benchmarks check --write` makes them")
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if failed:
        console.print(_regressions(failed))
    elsewhere = gate.from_elsewhere([outcome.limit for outcome in outcomes])
    if elsewhere:
        console.print(elsewhere)
    console.print(f"{len(outcomes) - len(failed)} of {len(outcomes)} losses are as fast as committed, less the margin.")
    raise typer.Exit(SLOWER if failed else FINE)


# ------------------------------------------------------------------------------------------------- parts
def _commit(pythons: dict[str, Path], rows: set[str]) -> None:
    limits: list[gate.Limit] = []
    gate.committed()
    try:
        for backend, python in pythons.items():
            with Worker(backend, python, "cpu", single=True) as worker:
                worker.describe()
                for row in [name for name in ROWS if name in rows]:
                    peer = gate.chosen(backend, row, _times(worker, row, None)).peer
                    # As the check measures: who else is called in between changes times.
                    measured = [_times(worker, row, peer) for _ in range(gate.ATTEMPTS)]
                    limits.append(gate.agreed(backend, row, peer, measured))
                    console.print(f"{backend} {row}: {limits[-1].speed:.3g} times as fast as {limits[-1].peer}")
    finally:
        # Where a late one cannot be measured, the others' limits are right all the same.
        if limits:
            gate.write(limits)
            console.print(f"Limits committed: {len(limits)}, in {gate.LIMITS}")


def _times(worker: Worker, row: str, peer: str | None) -> Any:
    answer = worker.ask(_question(row, peer))
    for name in (OURS, *filter(None, (peer,))):
        if name not in answer.get("times", ()):
            said = answer.get("error") or answer["failures"].get(name, "was not measured")
            _refuse(f"{worker.backend} {row}: {name}: {said}")
    return answer["times"]


def _question(row: str, peer: str | None) -> dict[str, Any]:
    asked = {"do": "time", "row": row, "shape": GATE.as_json(), "rounds": gate.ROUNDS, "seconds": gate.SECONDS}
    asked["least"] = gate.LEAST_ROUNDS
    return asked if peer is None else {**asked, "contestants": [peer]}


def _outcomes(pythons: dict[str, Path], rows: set[str]) -> list[gate.Outcome]:
    limits = [limit for limit in gate.read() if limit.backend in pythons and limit.row in rows]
    found = []
    for backend, python in pythons.items():
        with Worker(backend, python, "cpu", single=True) as worker:
            # A framework that cannot start is no regression.
            worker.describe()
            for limit in [limit for limit in limits if limit.backend == backend]:
                outcome = gate.judge(limit, lambda one: _asked(worker, one))
                found.append(outcome)
                console.print(_line(outcome))
    return found


def _asked(worker: Worker, limit: gate.Limit) -> dict[str, Any]:
    """A worker that dies fails one loss, and the others have a new one."""
    try:
        return worker.ask(_question(limit.row, limit.peer))
    except WorkerError as error:
        return {"error": str(error)}


def _line(outcome: gate.Outcome) -> str:
    limit = outcome.limit
    word = "ok" if outcome.passed else "SLOWER"
    seen = outcome.failure if outcome.interval is None else f"{outcome.interval[0]:.3g} to {outcome.interval[1]:.3g}"
    return f"{word}: {limit.backend} {limit.row}: {seen} times as fast as {limit.peer}, committed {limit.speed:.3g}"


def _regressions(failed: list[gate.Outcome]) -> Table:
    shown = Table(title="Slower than committed")
    for head in ("framework", "loss", "peer", "committed", "fails below", "seen", "measured"):
        shown.add_column(head)
    for outcome in failed:
        limit = outcome.limit
        seen = outcome.failure if outcome.interval is None else f"{outcome.interval[0]:.3g}–{outcome.interval[1]:.3g}"
        numbers = (f"{limit.speed:.3g}", f"{gate.MARGIN * limit.speed:.3g}", seen, f"{outcome.attempts}×")
        shown.add_row(limit.backend, limit.row, limit.peer, *numbers)
    return shown


def _show(measured: results.Results) -> None:
    """The targets on the terminal."""
    shown = Table(title=f"{TARGET}, float32: number (target)")
    for head in ("framework", "loss", "ms", "times as fast", "memory × logits", "first call ÷ later", "short of"):
        shown.add_column(head)
    for backend in measured.backends:
        for one in standings(measured, backend):
            found = {verdict.what: verdict for verdict in one.verdicts}
            cells = [_cell(found[what].value, found[what].target) for what in ("speed", "memory", "first call")]
            ours = "–" if one.ours is None else table.number(1000 * one.ours.median)
            shown.add_row(backend, one.row, ours, *cells, ", ".join(v.what for v in one.short))
    if shown.row_count:
        console.print(shown)


def _cell(value: float | None, target: float | None) -> str:
    return ("–" if value is None else table.number(value)) + ("" if target is None else f" ({target:g})")


def _renew(measured: results.Results) -> None:
    if measured.device != "cpu":
        table.update(DEVICE_PAGE, device_table.markdown(measured))
        console.print(f"Renewed {DEVICE_PAGE}")
        return
    # Where one of them cannot be made, both stay as they were.
    content = table.markdown(measured)
    chart.draw(measured, CHART)
    table.update(PAGE, content)
    console.print(f"Renewed {PAGE} and {CHART}")


def _rows(names: list[str] | None) -> tuple[Any, ...]:
    try:
        return plan.rows(tuple(names or ()))
    except ValueError as error:
        _refuse(str(error))


def _pythons(backends: list[str] | None, device: str, torch_python: Path, paddle_python: Path) -> dict[str, Path]:
    known = dict(zip(BACKENDS, (torch_python, paddle_python), strict=True))
    if device not in DEVICES:
        _refuse(f"--device must be one of {', '.join(DEVICES)} (got {device!r})")
    for name in backends or ():
        if name not in known:
            _refuse(f"--backend must be one of {', '.join(known)} (got {name!r})")
    chosen = {name: python for name, python in known.items() if not backends or name in backends}
    for name, python in chosen.items():
        if not python.is_file():
            _refuse(f"{python} does not exist: `make bench` makes it, or name another with --{name}-python")
    return chosen


def _command() -> str:
    return shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])


def _refuse(message: str) -> NoReturn:
    typer.echo(f"benchmarks: {message}", err=True)
    raise typer.Exit(CANNOT_RUN)
