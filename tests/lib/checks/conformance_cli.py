"""The package's command line, called in this process."""

from __future__ import annotations

from typer.testing import CliRunner

from unilossseg.conformance import cli


def unilossseg(*arguments):
    """Calls a command; what it raises, other than its exit code, is raised here."""
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done
