"""What all commands share: unforeseen errors that are no verdict, output that any terminal takes, limits, output folders."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from unilossseg.conformance.exit_codes import CANNOT, TERMINATED, complain, refuse
from unilossseg.conformance.pool import LONGEST_WAIT, SHORTEST_WAIT
from unilossseg.conformance.results import check_writable, taken_back_on_failure


class Guarded(TyperGroup):
    """The group of all commands."""

    def main(self, *arguments: Any, **options: Any) -> Any:
        """Runs a command; an unforeseen error ends it with a traceback, a line, and the exit code of a refusal."""
        _replace_what_stdout_cannot_hold()
        with _taking_back_when_terminated(), _readers_may_leave():
            try:
                return super().main(*arguments, **options)
            except _UnsaidError as error:
                complain(f"unilossseg: what it says cannot be written ({error.strerror}): files that it had written stay")
                raise SystemExit(CANNOT) from None
            except Exception as error:
                # Python's own exit code would be 1: "different", "does not conform".
                complain(traceback.format_exc().rstrip())
                complain(f"unilossseg: ended by an unforeseen {type(error).__name__}: the command says nothing")
                raise SystemExit(CANNOT) from None


class _Terminated(BaseException):
    """SIGTERM has come. No SystemExit: `record` takes that from a loss that would end the process, and goes on."""


@contextlib.contextmanager
def _taking_back_when_terminated() -> Iterator[None]:
    """SIGTERM ends a command as an interruption does: temporary files and folders made for nothing go, and workers end."""
    # A signal that is ignored, or that a program around this one handles, stays so. Threads cannot set any.
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    told: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        told.append(number)
        if len(told) == 1:
            raise _Terminated
        # A second one must not end the taking back; who sends a third wants the process to end, whatever holds it up.
        if len(told) > 2:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        raise SystemExit(TERMINATED) from None
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _replace_what_stdout_cannot_hold() -> None:
    """A mark such as ✓ must not end a command on a terminal, or in a file, whose encoding lacks it.

    Python chooses "strict", or in the locale C "surrogateescape", which has a way out for bytes of file names alone.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors in ("strict", "surrogateescape"):
        sys.stdout.reconfigure(errors="replace")


class _UnsaidError(OSError):
    """The output takes no more, on a full disk say: that is no error of what the command does."""


class _Pipe(io.FileIO):
    """What a reader may close before all is said, as `head` does: the rest goes nowhere, and the command goes on."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            # The descriptor too: what is still in a buffer when Python exits must not fail there.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return super().write(data)
        except OSError as error:
            raise _UnsaidError(error.errno, error.strerror) from error


@contextlib.contextmanager
def _readers_may_leave() -> Iterator[None]:
    """Without it typer and rich end a command whose reader has gone with exit code 1: "different", "does not conform"."""
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_of_a_pipe, kept)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                # What a full disk did not take has been an error when it was said.
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
        sys.stdout, sys.stderr = kept


def _of_a_pipe(stream: Any) -> Any:
    """The same stream on a `_Pipe`; as it is where it is a terminal, or no file of the system."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    try:
        # A terminal has no reader who leaves, and that of Windows is no file.
        if stream.isatty():
            return stream
        stream.flush()
        raw = _Pipe(stream.fileno(), "wb", closefd=False)
    except (OSError, ValueError):
        return stream
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, stream.encoding, stream.errors, line_buffering=stream.line_buffering)


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
