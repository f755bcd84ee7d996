"""JSON as the standard has it, out of files that anybody may have made."""

from __future__ import annotations

import json
import math
from typing import Any


def parse(text: str) -> Any:
    """What a text says: no NaN, no infinities, no key twice, no number that overflows.

    Raises ValueError for anything else, an integer of thousands of digits too, and RecursionError for thousands of brackets.
    """
    return json.loads(text, parse_constant=_refused, parse_float=_finite, object_pairs_hook=_without_repeats)


def _refused(word: str) -> Any:
    raise ValueError(f"{word} is not a number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} overflows")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of two values of one key Python takes the last, and who reads the file may take the first for what it says."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found
