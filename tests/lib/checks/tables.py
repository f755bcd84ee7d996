"""Tables of calls that must fail: `call | error | what the message says | ...`, a row a line."""

from __future__ import annotations

import re
from typing import NamedTuple

import pytest

ERRORS = {"TypeError": TypeError, "ValueError": ValueError}


class Row(NamedTuple):
    """A call, the error that it must raise and pieces of its message."""

    call: str
    error: type[Exception]
    pieces: list[str]


def rows_of(table):
    """The rows of a table; lines that start with # are headings."""
    lines = [line.strip() for line in table.splitlines()]
    cells = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return [Row(call.strip(), ERRORS[error.strip()], [piece.strip() for piece in pieces]) for call, error, *pieces in cells]


def parametrized(table):
    """A mark that gives a test each row, named after its call."""
    return pytest.mark.parametrize("row", rows_of(table), ids=lambda row: row.call)


def check(row, namespace):
    """The call raises exactly that error; the message begins with the name of what was called and has the pieces."""
    with pytest.raises(row.error) as raised:
        eval(row.call, namespace)  # noqa: S307  a row of our own tables
    message = str(raised.value)
    assert type(raised.value) is row.error, message
    assert row.pieces, row.call
    for piece in row.pieces:
        assert piece in message
    name = re.match(r"\w+", row.call)[0]
    # Python's own errors about arguments name the method: DiceLoss.__init__() got an unexpected keyword argument ...
    assert message.startswith((f"{name}: ", f"{name}.", f"{name}("))
