"""The command line: `unilossseg train-parity`."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from unilossseg import LOSSES
from unilossseg.backends import KNOWN, BackendNotInstalledError, is_installed
from unilossseg.conformance.command_line import number, output_folder, seconds, writing_to
from unilossseg.conformance.exit_codes import refuse
from unilossseg.conformance.interpreters import InterpreterError, programs
from unilossseg.conformance.pool import WorkerError
from unilossseg.conformance.results import write_together

if TYPE_CHECKING:
    from unilossseg.conformance.parity.photographs import Photographs
    from unilossseg.conformance.parity.plan import Head
    from unilossseg.conformance.parity.run import Parity, Settings

#: The frameworks that train; the first is what errors are shares of.
TRAINERS = ("torch", "paddle")
RECORD, FIGURE = "parity.json", "curves.svg"
SAME, DIFFERENT = 0, 1


def train_parity(
    backend: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="The two frameworks to compare: torch and paddle, the default.")
    ] = None,
    loss: Annotated[
        str | None, typer.Option(metavar="NAME", help="A loss, with arguments where it needs some. CrossEntropyLoss.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Losses as a PaddleSeg configuration, YAML or JSON, instead.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps of the optimizer.")] = 30,
    dtype: Annotated[Literal["float32", "float64"], typer.Option(help="The dtype of the training.")] = "float32",
    rate: Annotated[float, typer.Option(min=0, metavar="X", callback=number, help="The learning rate.")] = 0.01,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, metavar="N", help="Of the initial weights and noise.")] = 0,
    out: Annotated[Path, typer.Option(metavar="DIR", help=f"Where {RECORD} and {FIGURE} go.")] = Path("parity-report"),
    worker: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PYTHON", help="A Python of another environment that runs a framework; repeatable."),
    ] = None,
    timeout: Annotated[float, seconds("Seconds that one step may take.")] = 120.0,
) -> None:
    """Trains the same small network in two frameworks and shows that they take the same path.

    Same initial weights, same photographs with masks, same noise, and SGD with momentum written once in NumPy. Compared are
    the loss curves, the gradients of the first step and the parameters after the last one. A float32 training is repeated
    in float64, which tells rounding from a difference of the losses.
    """
    pythons = _pythons(backend, worker)
    chosen = _config(loss, config)
    with output_folder(out):
        photographs = _photographs()
        heads = _heads(chosen, photographs)
        from unilossseg.conformance.parity.run import Settings

        settings = Settings(steps=steps, dtype=dtype, rate=rate, seed=seed)
        outcome = _run(chosen, heads, pythons, photographs, settings, timeout)
    from unilossseg.conformance.parity.figure import draw

    # Drawn before anything is written; a figure of an earlier run must not stand beside the record of this one.
    texts = {RECORD: outcome.record(), FIGURE: draw(outcome)}
    with writing_to(out):
        write_together(out, texts)
    _summarise(outcome, out)
    raise typer.Exit(SAME if outcome.same else DIFFERENT)


def _pythons(names: list[str] | None, workers: list[str] | None) -> dict[str, str | None]:
    """The Python of another environment that runs each backend; None for this one's."""
    chosen = list(dict.fromkeys(names or TRAINERS))
    for name in chosen:
        if name not in TRAINERS:
            refuse(f"--backend must be one of {', '.join(TRAINERS)}, which train (got {name!r})")
    if len(chosen) != 2:
        refuse(f"--backend must name two frameworks to compare, {' and '.join(TRAINERS)} (got {chosen[0]!r} alone)")
    try:
        others = programs(workers or (), chosen)
    except InterpreterError as error:
        refuse(str(error))
    for name in chosen:
        # Another environment is asked by its own worker.
        if name not in others and not is_installed(name):
            module, remedy = KNOWN[name]
            refuse(str(BackendNotInstalledError(f"backend {name!r} needs {module}, which is not installed: {remedy}")))
    return {name: others.get(name) for name in chosen}


def _config(loss: str | None, path: Path | None) -> Mapping[str, Any]:
    from unilossseg.conformance.parity import plan

    if path is None:
        if loss is not None and loss not in LOSSES:
            refuse(f"--loss must be one of {', '.join(LOSSES)} (got {loss!r})")
        return plan.config_of(loss or "CrossEntropyLoss")
    if loss is not None:
        refuse("--loss and --config exclude each other: the configuration names its losses")
    try:
        return plan.loss_section(plan.read_config(path))
    except OSError as error:
        refuse(f"cannot read {path}: {error.strerror or error}")
    except ValueError as error:
        refuse(f"cannot read {path}: {error}")
    except RecursionError:
        refuse(f"cannot read {path}: it is nested too deeply to be read, expected a loss configuration")


def _photographs() -> Photographs:
    try:
        import matplotlib  # noqa: F401  needed only at the end, which is late to find out

        from unilossseg.conformance.parity.photographs import photographs

        return photographs()
    except ModuleNotFoundError as error:
        refuse(f"train-parity needs {error.name}, which is not installed: pip install 'unilossseg[parity]'")


def _heads(config: Mapping[str, Any], photographs: Photographs) -> list[Head]:
    from unilossseg.conformance.parity import plan

    try:
        return plan.heads_of(config, photographs)
    except (TypeError, ValueError) as error:
        refuse(str(error))
    except RecursionError:
        refuse("the configuration has losses nested too deeply to be built: put them into fewer MixedLosses")


def _run(
    config: Mapping[str, Any],
    heads: list[Head],
    pythons: Mapping[str, str | None],
    photographs: Photographs,
    settings: Settings,
    timeout: float,
) -> Parity:
    from unilossseg.conformance.parity.run import run

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    failure = ""
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        tasks = {name: progress.add_task(name, total=settings.steps * len(settings.dtypes)) for name in pythons}
        try:
            outcome = run(
                config,
                heads,
                pythons,
                photographs,
                settings,
                timeout=timeout,
                report=lambda name: progress.advance(tasks[name]),
            )
        except WorkerError as error:
            failure = str(error)
    # Only now: the progress bar is gone.
    if failure:
        refuse(failure)
    return outcome


def _summarise(outcome: Parity, out: Path) -> None:
    from unilossseg.conformance.parity import plan

    console = Console(width=None if sys.stdout.isatty() else 120)
    settings = outcome.settings
    names = " and ".join(f"{name} {worker.get('version', '')}" for name, worker in outcome.workers.items())
    table = Table(title=f"{plan.title(outcome.config)}: {settings.steps} steps in {names}", title_justify="left")
    for heading in ("compared", "dtype", "error", "bound", "largest at", "verdict"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("error", "bound") else "left")
    for item in outcome.comparisons:
        verdict = "same" if item.same else "DIFFERENT"
        table.add_row(item.quantity, item.dtype, f"{item.error:.1e}", f"{item.bound:.1e}", item.where, verdict)
    console.print(table)
    say = functools.partial(console.print, markup=False, highlight=False, soft_wrap=True)
    for item in outcome.comparisons:
        if not item.same:
            say(_explained(item, outcome))
    first, second = outcome.curves().values()
    say(f"Loss: {first[0]:.6g} to {first[-1]:.6g} and {second[0]:.6g} to {second[-1]:.6g}.")
    say(f"{'Same' if outcome.same else 'Different'}. Written: {out / RECORD}, {out / FIGURE}")


def _explained(item: Any, outcome: Parity) -> str:
    if not math.isfinite(item.error):
        return f"{item.quantity} ({item.dtype}): not finite, or zero on one side alone, at {item.where}: a smaller --rate?"
    text = f"{item.quantity} ({item.dtype}): {item.error:.1e} is more than {item.bound:.1e} ({item.reason})"
    twins = [other for other in outcome.comparisons if other.dtype == "float64"]
    if item.dtype != "float64" and twins and all(other.same for other in twins):
        text += (
            ". In float64 the two agree: either this training amplifies rounding, which fewer steps or a smaller --rate "
            f"would end, or one side is wrong in {item.dtype} alone"
        )
    return text
