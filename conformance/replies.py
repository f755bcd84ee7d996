"""A worker's end of the line to its parent: JSON lines that nothing else that is printed can get between."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, TextIO


def own_stdout() -> TextIO:
    """The real stdout for replies alone; whatever a framework prints, from Python or from C, goes to stderr."""
    kept = os.dup(1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return os.fdopen(kept, "w", encoding="utf-8")


def say(replies: TextIO, message: dict[str, Any]) -> None:
    """Sends a message, at once."""
    replies.write(json.dumps(message) + "\n")
    replies.flush()
