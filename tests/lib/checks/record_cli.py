"""The commands record, replay and compare as a command line of their own."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import typer
from typer.testing import CliRunner

from unilossseg.conformance.records import commands

#: Options for inputs that are quickly recorded.
SMALL = ("--shape", "2,3,4,5")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
for name, epilog in commands.EPILOGS.items():
    app.command(epilog=epilog)(getattr(commands, name))


def run(*arguments, expect=0):
    """Runs a command and checks its exit code; its output and errors."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == expect, result.output
    return result.output


def write_module(folder, name, source):
    """A module of a user, in a folder."""
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    return name


def run_apart(folder, *arguments, expect=0):
    """Runs a command in a process of its own, where another framework may be imported."""
    done = subprocess.run(
        [sys.executable, "-c", "from checks.record_cli import app\napp()", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        timeout=300,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr
