"""The worker: computes cases on one backend in a process of its own, so that two frameworks never meet.

Run as `python -m unilossseg.conformance.worker --backend torch`. The runner's process imports
none of them.
"""

from __future__ import annotations

import argparse
import errno
import json
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from unilossseg.conformance.replies import own_stdout, say

Answer = Callable[[Any, dict[str, Any]], dict[str, Any]]

#: A disk is full, or one's share of it is.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def main(answer: Answer | None = None) -> int:
    """Greets, then answers every request from stdin until it ends."""
    parser = argparse.ArgumentParser(description="computes conformance cases for the runner")
    parser.add_argument("--backend", required=True)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    name = arguments.backend
    with own_stdout() as replies:
        # Only now: what a framework prints while it is imported goes to stderr already.
        from unilossseg.conformance.environment import impostor
        from unilossseg.conformance.protocol import VERSION

        greeting = {"protocol": VERSION, "backend": name}
        refused = "" if ":" in name else impostor(name)
        if refused:
            say(replies, {**greeting, "refused": refused})
            return 2
        from unilossseg.conformance.frameworks import framework_of
        from unilossseg.conformance.records.errors import RecordError

        try:
            framework = framework_of(name, arguments.device)
        except RecordError as error:
            # A backend of somebody else's is named to be checked alone.
            further = "" if ":" in name else f" Or leave {name} out: --backend says what to check."
            say(replies, {**greeting, "refused": f"{error}{further}"})
            return 2
        say(replies, _greeting(name, framework))
        for line in sys.stdin:
            say(replies, (answer or _answer)(framework, json.loads(line)))
    return 0


def _greeting(name: str, framework: Any) -> dict[str, Any]:
    import array_api_compat

    import unilossseg
    from unilossseg.conformance import environment
    from unilossseg.conformance.protocol import VERSION

    return {
        "protocol": VERSION,
        "backend": name,
        **framework.describe(),
        **(environment.package() if ":" in name else environment.described(name)),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "array_api_compat": array_api_compat.__version__,
        "unilossseg": unilossseg.__version__,
    }


def _answer(framework: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The reply; where results find no room, that alone: it says nothing about the backend, and ends the run."""
    try:
        return _computed(framework, request)
    except OSError as error:
        # Not what a loss raises, which is an outcome.
        if error.errno not in _NO_ROOM:
            raise
        Path(request["output"]).unlink(missing_ok=True)
        return {"number": request["number"], "outcomes": {}, "no_room": error.strerror}


def _computed(framework: Any, request: dict[str, Any]) -> dict[str, Any]:
    from unilossseg.conformance.protocol import read_arrays, write_outcomes

    if "facts" in request or "differences" in request:
        return _of_own_loss(request)
    outcomes = framework.run(request, read_arrays(Path(request["input"]), request["arrays"]))
    return {"number": request["number"], "outcomes": write_outcomes(Path(request["output"]), outcomes)}


def _of_own_loss(request: dict[str, Any]) -> dict[str, Any]:
    """What the checks of a user's loss begin with; a loss that is wrong is `refused`, and the worker goes on."""
    from unilossseg.conformance import thirdparty
    from unilossseg.conformance.protocol import PLAIN_FORMULA, read_arrays, write_outcomes
    from unilossseg.conformance.records.errors import RecordError

    reply = {"number": request["number"], "outcomes": {}}
    try:
        if "facts" in request:
            return {**reply, "facts": thirdparty.facts(request)}
        outcome = thirdparty.differences(request, read_arrays(Path(request["input"]), request["arrays"]))
    except RecordError as error:
        return {**reply, "refused": str(error)}
    return {**reply, "outcomes": write_outcomes(Path(request["output"]), {PLAIN_FORMULA: outcome})}


if __name__ == "__main__":
    sys.exit(main())
