"""The capability table as text: for the terminal, and as the block of the README that a test keeps equal to it."""

from __future__ import annotations

from collections.abc import Sequence

from unilossseg import LOSSES
from unilossseg.conformance.capabilities import COLUMNS, EXCEPTIONS, EXPECTED_FAILURE, FEATURES, Column, Exemption

BEGIN, END = "<!-- capabilities:begin -->", "<!-- capabilities:end -->"


def entries_of(column: Column, feature: str, loss: str = "") -> list[Exemption]:
    """The exceptions about a feature in a column: about all losses and some, or about one."""
    return [
        entry
        for entry in EXCEPTIONS
        if feature in entry.features
        and column.backend in entry.backends
        and (not entry.versions or column.version in entry.versions)
        and (not loss or not entry.losses or loss in entry.losses)
    ]


def cell(column: Column, feature: str, loss: str = "") -> str:
    """'yes', 'no [1]', 'fails [2]', or 'yes, but [3]' where an exception is about some losses or cases only."""
    found = entries_of(column, feature, loss)
    if not found:
        return "yes"
    numbers = ", ".join(str(EXCEPTIONS.index(entry) + 1) for entry in found)
    whole = [entry for entry in found if not entry.cases and (not entry.losses or loss)]
    if not whole:
        return f"yes, but [{numbers}]"
    return f"{'fails' if whole[0].kind == EXPECTED_FAILURE else 'no'} [{numbers}]"


def markdown() -> str:
    """The block of the README, without its markers."""
    rows = [
        [f"**{feature}**: {meaning}", *(cell(column, feature) for column in COLUMNS)]
        for feature, meaning in FEATURES.items()
    ]
    lines = _table(["feature", *(column.title for column in COLUMNS)], rows)
    lines += [
        "",
        _losses(),
        "",
        "*no*: not tried; *fails*: tried in every check, and must fail until the entry is removed.",
        "",
    ]
    lines += [f"{number}. {_note(entry, link=True)}" for number, entry in enumerate(EXCEPTIONS, 1)]
    return "\n".join(lines) + "\n"


def text() -> str:
    """The same for a terminal, and every loss in a row of its own."""
    head = ["", *(column.title for column in COLUMNS)]
    features = [[feature, *(cell(column, feature) for column in COLUMNS)] for feature in FEATURES]
    losses = [[loss, *(_of_loss(column, loss) for column in COLUMNS)] for loss in LOSSES]
    lines = _columns([head, *features, [""] * len(head), *losses])
    lines += ["", "no: not tried; fails: tried in every check, and must fail until the entry is removed", ""]
    lines += [f"[{number}] {_note(entry, link=False)}" for number, entry in enumerate(EXCEPTIONS, 1)]
    return "\n".join(lines) + "\n"


def replaced(page: str) -> str:
    """A page with the block between the markers made anew; raises ValueError where it has no markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no block between {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{markdown()}{END}{after}"


def _losses() -> str:
    """Which losses the table is about."""
    without = [name for name, loss in LOSSES.items() if loss.closed_form is None and name != "MixedLoss"]
    closed = "each with a closed form (a MixedLoss has those of its parts)"
    if without:
        closed = f"each but {', '.join(without)} with a closed form"
    limited = sorted({name for entry in EXCEPTIONS for name in entry.losses})
    about = f"; notes that are about some losses only name them ({', '.join(limited)})" if limited else ""
    return f"This holds for all {len(LOSSES)} losses, {closed}{about}."


def _of_loss(column: Column, loss: str) -> str:
    """What exceptions name this loss; those about all losses stand in the rows of the features."""
    numbers = [
        str(number)
        for number, entry in enumerate(EXCEPTIONS, 1)
        if loss in entry.losses and any(entry in entries_of(column, feature, loss) for feature in entry.features)
    ]
    return f"yes, but [{', '.join(numbers)}]" if numbers else "yes"


def _note(entry: Exemption, link: bool) -> str:
    about = [*entry.losses, *([f"cases with {entry.cases!r}"] if entry.cases else [])]
    where = f" ({', '.join(about)})" if about else ""
    reason = entry.reason[0].upper() + entry.reason[1:]
    more = f"[more]({entry.link})" if link else entry.link
    return f"{reason}{where}. {more}; to be looked at again before {entry.expires.isoformat()}."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
