"""The line from a worker to its parent: JSON lines that nothing else that is printed can get between."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any, TextIO

#: A longer line comes in pieces: no worker fills its parent's memory with one.
_LONGEST_LINE = 1 << 20


def own_stdout() -> TextIO:
    """The real stdout for replies alone; whatever a framework prints, from Python or from C, goes to stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    replies = os.fdopen(kept, "w", encoding="utf-8")
    replies.write("\n")  # ends what the environment printed before, which may have no end of line
    return replies


def say(replies: TextIO, message: dict[str, Any]) -> None:
    """Sends a message, at once."""
    replies.write(json.dumps(message) + "\n")
    replies.flush()


class Heard:
    """What a worker says until its stdout ends: messages, and a line that is no JSON object as it is.

    Lines before a message with one of the keys that greet are passed over: an environment prints at its start, and
    `own_stdout` comes after that.
    """

    def __init__(self, stdout: IO[str] | None, greetings: Sequence[str]) -> None:
        assert stdout is not None
        self._stdout, self._greetings = stdout, greetings
        #: The last line that was passed over, until there is a greeting.
        self.printed = ""

    def __iter__(self) -> Iterator[dict[str, Any] | str]:
        greeted = False
        while line := self._stdout.readline(_LONGEST_LINE):
            said = _understood(line)
            greeted = greeted or (isinstance(said, dict) and any(key in said for key in self._greetings))
            self.printed = "" if greeted else line.strip() or self.printed
            if greeted:
                yield said


def _understood(line: str) -> dict[str, Any] | str:
    try:
        said = json.loads(line)
    except (ValueError, RecursionError):
        return line
    return said if isinstance(said, dict) else line
