"""The command `unilossseg capabilities`."""

from __future__ import annotations

from typing import Annotated

import typer

from unilossseg.backends import KNOWN, installed_backends, is_installed
from unilossseg.conformance import capability_table, environment, probes
from unilossseg.conformance.exit_codes import refuse


def capabilities(
    markdown: Annotated[bool, typer.Option("--markdown", help="As the README shows it.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Try it, from autograd on, where installed; exit code 1 where the table is wrong."),
    ] = False,
    backend: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="With --check: a backend to try; repeat for several.")
    ] = None,
) -> None:
    """What works where: dtypes, modes and features on every backend, each exception with its reason."""
    if not check:
        if backend:
            refuse("--backend is of no use without --check: the table has a column for every backend")
        typer.echo(capability_table.markdown() if markdown else capability_table.text(), nl=False)
        return
    for name in backend or ():
        if name not in KNOWN or not is_installed(name):
            refuse(f"--backend must be one of {', '.join(installed_backends())} (got {name!r})")
    names = list(dict.fromkeys(backend or installed_backends()))
    surprises = [line for name in names for line in probes.check(name)]
    for line in surprises:
        typer.echo(line)
    absent = [name for name in KNOWN if not is_installed(name)]
    typer.echo(f"tried: {', '.join(names)}" + (f"; not installed, and so not tried: {', '.join(absent)}" if absent else ""))
    loops = environment.loops()
    typer.echo(f"loops on the CPU: {loops}" + (", which means none that are compiled" if loops == "numpy" else ""))
    raise typer.Exit(1 if surprises else 0)
