"""What each command's exit codes mean; each `--help` ends with them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import NoReturn

import typer

#: A command could not do what it was asked to.
CANNOT = 2
#: What is the same for all commands.
INTERRUPTED = 130
#: By SIGTERM, as a shell tells it of any process.
TERMINATED = 143
_USAGE = (
    "or a wrong option, or an error that was not foreseen, or no room for what it says on its output, where files may have "
    "been written all the same"
)

EXIT_CODES: Mapping[str, Mapping[int, str]] = {
    "conformance run": {
        0: "every result conforms, with or without a warning",
        1: "something differs or errored (so does a worker that crashed or hung), or nothing conforms on a backend",
        2: "it could not run: an unknown name, a backend that is not installed, a worker that is refused, a device that a "
        "framework cannot use, nothing selected, nothing that any chosen backend supports, no place to write, no room for "
        "temporary files",
    },
    "conformance selftest": {
        0: "every defect was seen",
        1: "one was not, or something differs with no defect planted",
        2: "it could not run: an unknown name, a backend that is not installed, nothing selected, a defect that "
        "does not fit the code any more, no room for temporary files",
    },
    "conformance diff": {
        0: "nothing is worse",
        1: "a regression: a new failure, something no longer supported, something that conformed and fails as declared now, "
        "an error that grew, less that is checked (a larger bound, a gradient or native errors not compared now, "
        "another case of the same name), or a new trouble of the run as a whole; a result that is gone is named and is none",
        2: "the two could not be compared: a record is missing, damaged, cut off or of another schema, or they have "
        "no result in common",
    },
    "conformance trend": {
        0: "the table or the JSON was printed and the chart, if any, written",
        2: "a record is missing, damaged, cut off or of another schema, or the chart could not be written",
    },
    "report": {
        0: "the files were written, whatever they say",
        2: "they were not, and nothing was changed: the record is missing, damaged, cut off or of another schema, or "
        "there is no place to write",
    },
    "record": {
        0: "the record was written",
        2: "it was not, and nothing was changed: the target cannot be imported, constructed or called, it raises or returns "
        "no numbers, the inputs do not fit, the framework or device is not there, or there "
        "is no place to write",
    },
    "replay": {
        0: "the record was written, whatever it says",
        2: "it was not, and nothing was changed: the record is missing or damaged, the target cannot be imported, "
        "constructed or called, it raises or returns no numbers, the framework or device is not there, or there "
        "is no place to write",
    },
    "compare": {
        0: "nothing changed",
        1: "something is different",
        2: "the two could not be compared: a record is missing or damaged, they were not made from the same inputs, or "
        "there is no place to write",
    },
    "train-parity": {
        0: "the same within the bounds",
        1: "different",
        2: "it could not run: an unknown name, a backend that is not installed, a configuration that does not fit, a worker "
        "that crashed or hung, no place to write",
    },
    "capabilities": {
        0: "the table was printed, or with --check is right",
        1: "with --check: the table is wrong, or an exception has expired",
        2: "an unknown name, a backend that is not installed, or --backend without --check",
    },
}


def refuse(message: object) -> NoReturn:
    """Ends a command that cannot do what it was asked to: its words on stderr, and exit code 2."""
    complain(f"unilossseg: {message}")
    raise typer.Exit(CANNOT)


def complain(text: str) -> None:
    """Says something on stderr that may quote a file: nothing in it moves a cursor, or changes a terminal's title.

    Where stderr takes nothing, on a full disk say, the exit code has to tell it alone: an error here would change that to
    Python's own, 1, which is "different", "does not conform".
    """
    shown = "".join(character if character.isprintable() or character in "\n\t" else "\ufffd" for character in text)
    with contextlib.suppress(OSError, ValueError):
        typer.echo(shown, err=True)


def epilog(command: str) -> str:
    """For `app.command(epilog=...)`."""
    codes = EXIT_CODES[command]
    told = [f"{code}, {meaning}" + (f", {_USAGE}" if code == 2 else "") for code, meaning in codes.items()]
    return f"Exit codes: {'; '.join(told)}; {INTERRUPTED}, interrupted; {TERMINATED}, ended by SIGTERM."
