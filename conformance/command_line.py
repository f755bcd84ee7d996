"""What all commands share: unforeseen errors that are no verdict, output that any terminal takes, limits, output folders."""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from unilossseg.conformance.exit_codes import CANNOT, refuse
from unilossseg.conformance.pool import LONGEST_WAIT, SHORTEST_WAIT
from unilossseg.conformance.results import check_writable, taken_back_on_failure


class Guarded(TyperGroup):
    """The group of all commands."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Runs a command; an unforeseen error ends it with a traceback, a line, and the exit code of a refusal."""
        _replace_what_stdout_cannot_hold()
        try:
            return super().main(*arguments, **options)
        except Exception as error:
            # Python's own exit code would be 1: "different", "does not conform".
            traceback.print_exc()
            typer.echo(f"unilossseg: ended by an unforeseen {type(error).__name__}: the command says nothing", err=True)
            raise SystemExit(CANNOT) from None


def _replace_what_stdout_cannot_hold() -> None:
    """A mark such as ✓ must not end a command on a terminal, or in a file, whose encoding lacks it."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="replace")


def number(given: float) -> float:
    """A callback for options: NaN is within any limits."""
    if given != given:
        raise typer.BadParameter("it must be a number (got nan)")
    return given


def seconds(what: str) -> Any:
    """The option of a time limit."""
    return typer.Option(min=SHORTEST_WAIT, max=LONGEST_WAIT, metavar="S", callback=number, help=what)


@contextlib.contextmanager
def output_folder(folder: Path) -> Iterator[None]:
    """Makes it, and refuses now what could not be written after a long run; where that fails, it goes if it is empty."""
    try:
        made = check_writable(folder)
    except OSError as error:
        _refuse_to_write(folder, error)
    with taken_back_on_failure(made):
        yield


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Makes it, if need be once more after a long run, and refuses what cannot be written inside."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        _refuse_to_write(folder, error)


def _refuse_to_write(folder: Path, error: OSError) -> NoReturn:
    refuse(f"cannot write to {folder}: {error.strerror or error}")
