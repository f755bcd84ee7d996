"""The one error of records: what it is about, what came, what was expected, what to do."""

from __future__ import annotations

#: Longer texts (a file's contents, a tensor's repr) are cut in messages.
_LONGEST = 300


class RecordError(Exception):
    """A record cannot be made, read or compared.

    Parameters
    ----------
    subject
        The file, option, target or case that it is about.
    received
        What came.
    expected
        What had been expected in its place.
    remedy
        What to do about it.
    """

    def __init__(self, subject: str, received: str, expected: str, remedy: str) -> None:
        self.subject, self.received, self.expected, self.remedy = map(printable, (subject, received, expected, remedy))
        super().__init__(f"{self.subject}: {self.received}; expected {self.expected}. {self.remedy}")


def printable(text: str) -> str:
    """A text that does nothing to a terminal: a hostile record must not move the cursor or change a title."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    return shown if len(shown) <= _LONGEST else shown[: _LONGEST - 3] + "..."


def reason(error: BaseException) -> str:
    """An exception in one line."""
    try:
        text = " ".join(str(error).split())
    # Of a loss of the user's, whose exception may have no words.
    except Exception:
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
