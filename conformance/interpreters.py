"""Workers in other environments: finds out before a run whether an interpreter can be a backend's worker."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from unilossseg import __version__
from unilossseg.backends import KNOWN
from unilossseg.conformance.environment import NO_LOOPS, loop_sources, sources

LEAST_PYTHON = (3, 11)
#: An interpreter on a cold disk takes its time to start.
_SECONDS = 60.0
#: Asked of an interpreter that may have neither this package nor a new Python: nothing but its standard library.
_QUESTION = """
import json, sys
try:
    from importlib.metadata import version
    from importlib.util import find_spec
    found = version("unilossseg") if find_spec("unilossseg") else None
except Exception as error:
    found = None
said = {"python": list(sys.version_info[:3]), "unilossseg": found, "framework": bool(find_spec(sys.argv[1]))}
print("\\n" + json.dumps(said))
"""
#: The remedy where a worker of this environment has another package: `python -m` looks into the current folder first and a
#: worker does not look there, or a file has been changed in between.
_ONE_PACKAGE = (
    "start the command where no other unilossseg lies in the current folder or on PYTHONPATH, and once more if files were "
    "changed meanwhile"
)


class InterpreterError(Exception):
    """An interpreter cannot be a worker, and what to do about it."""


def chosen(given: Sequence[str]) -> dict[str, str]:
    """The interpreter of each backend from NAME=PYTHON; raises InterpreterError where one of them cannot be a worker."""
    found = programs(given, KNOWN)
    for name, python in found.items():
        _ask(name, python)
    return found


def programs(given: Sequence[str], names: Collection[str]) -> dict[str, str]:
    """The program of each name from NAME=PYTHON, unasked; raises InterpreterError where one of them is none."""
    found: dict[str, str] = {}
    for text in given:
        name, _, python = text.partition("=")
        if name not in names or not python:
            raise InterpreterError(f"--worker must be NAME=PYTHON with a NAME of {', '.join(names)} (got {text!r})")
        if name in found:
            raise InterpreterError(f"--worker names {name} twice")
        found[name] = _program(name, python)
    return found


def environment_of_workers(python: str | None) -> dict[str, str]:
    """The variables of workers; with the Python of another environment, nothing of this one's packages and folder."""
    if python is None:
        return dict(os.environ)
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    return {**kept, "PYTHONSAFEPATH": "1"}


def disagreement(greeting: Mapping[str, Any], python: str | None) -> str:
    """Why the package of a worker is not this one; empty: it is. Without a `python` the worker is of this environment."""
    theirs, remedy = str(greeting.get("unilossseg", "")), _remedy(python, "") if python else _ONE_PACKAGE
    whose = python or f"a worker of {sys.executable}"
    if theirs != __version__:
        return f"{whose} has unilossseg {theirs or 'of no version'} and this is {__version__}: {remedy}"
    what = "files of" if greeting.get("sources") != sources() else "compiled loops in" if _other_loops(greeting) else ""
    if what:
        return (
            f"{whose} has other {what} unilossseg {theirs} than this: a run would judge two packages as one. "
            f"{remedy[0].upper()}{remedy[1:]}"
        )
    return ""


def _other_loops(greeting: Mapping[str, Any]) -> bool:
    """Whether a worker's loops were compiled from other sources; where one side has none, it computes what NumPy does."""
    both = {str(greeting.get("loop_sources", NO_LOOPS)), loop_sources()}
    return NO_LOOPS not in both and len(both) > 1


def _program(name: str, python: str) -> str:
    # Not resolved: a virtual environment's interpreter is a link whose place tells which environment it is.
    found = shutil.which(os.path.expanduser(python))
    if found is None:
        raise InterpreterError(f"--worker {name}: {python} is not a program that can be run")
    return str(Path(found).absolute())


def _ask(name: str, python: str) -> None:
    said = _answer(name, python)
    version = ".".join(map(str, said["python"]))
    if tuple(said["python"]) < LEAST_PYTHON:
        raise InterpreterError(f"--worker {name}: {python} is Python {version}, expected 3.11 or newer")
    if said["unilossseg"] is None:
        raise InterpreterError(f"--worker {name}: {python} has no unilossseg: {_remedy(python, name)}")
    if said["unilossseg"] != __version__:
        raise InterpreterError(
            f"--worker {name}: {python} has unilossseg {said['unilossseg']} and this is {__version__}: "
            + _remedy(python, name)
        )
    if not said["framework"]:
        module, remedy = KNOWN[name]
        raise InterpreterError(
            f"--worker {name}: {python} has no {module}: {remedy.replace('pip install', f'{python} -m pip install')}"
        )


def _answer(name: str, python: str) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [python, "-c", _QUESTION, KNOWN[name][0]],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            env=environment_of_workers(python),
            check=False,
        )
        # Whatever an environment prints at its start comes before the answer.
        said = json.loads(done.stdout.strip().rpartition("\n")[2])
        if done.returncode == 0 and {"python", "unilossseg", "framework"} <= set(said):
            return dict(said)
        problem = f"answered {done.stdout.strip()[-200:]!r}"
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = f"could not be asked: {error}"
    except (ValueError, TypeError):
        problem = f"is no Python, or a broken one: {(done.stderr or done.stdout).strip().rpartition(chr(10))[2]!r}"
    raise InterpreterError(f"--worker {name}: {python} {problem}")


def _remedy(python: str, backend: str) -> str:
    extra = f"[{backend}]" if backend in ("torch", "paddle") else ""
    return (
        f"install the same version there: {python} -m pip install 'unilossseg{extra}=={__version__}', "
        "or this checkout with --editable"
    )
