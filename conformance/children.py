"""A worker's process: it ends with all that it has started, and nobody waits for ever for what does not end with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

#: How long what a worker has said may take to be read once it has ended.
LAST_WORDS_SECONDS = 1.0
_HAS_GROUPS = hasattr(os, "killpg")


def start(command: Sequence[str], stdin: int, errors: Path, variables: Mapping[str, str]) -> subprocess.Popen[str]:
    """Starts it in a group of its own, where the system has groups, with its stderr in a file."""
    with errors.open("wb") as stderr:
        return subprocess.Popen(
            command,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=variables,
            text=True,
            encoding="utf-8",
            errors="replace",
            # A loss may have processes of its own, and what stands for a Python may be a script that starts one.
            process_group=0 if _HAS_GROUPS else None,
        )


def kill(process: subprocess.Popen[str]) -> None:
    """Kills it and all of its group."""
    if not _HAS_GROUPS:
        process.kill()
        return
    # Nobody of the group is left, or, as some systems say it, nobody who could be killed.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def hang_up(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    """Waits for its end and closes its stdout, of which a thread reads; neither kept open by others can hold this up."""
    process.wait()
    reader.join(LAST_WORDS_SECONDS)
    if reader.is_alive():
        # Something that it has started holds its stdout. The group lives on in that: its number is nobody else's yet.
        kill(process)
        reader.join(LAST_WORDS_SECONDS)
    # What has left the group too keeps its end, and ours: to close what a thread reads would wait for that thread.
    if not reader.is_alive() and process.stdout is not None:
        process.stdout.close()
