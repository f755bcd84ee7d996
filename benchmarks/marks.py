"""How a peer's numbers relate to ours."""

from __future__ import annotations

#: The value's error relative to the reference, and the gradient's relative to its largest entry, that float32 and a peer's
#: own small constants in denominators explain. A wrong definition is off by far more at the size that is checked.
VALUE = 1e-3
GRADIENT = 5e-3

SAME = "same"
ANOTHER = "another definition"
WRONG = "wrong"
UNCHECKED = "not comparable"
FAILED = "failed"
UNKNOWN = "not checked"
#: As tables show them after a peer's name.
SYMBOLS = {SAME: "", ANOTHER: " †", WRONG: " ✗", UNCHECKED: " ‡", FAILED: " (failed)", UNKNOWN: " (not checked)"}


def mark(differs: str, value_error: float | None, gradient_error: float | None) -> tuple[str, str]:
    """The mark and the reason for it.

    Parameters
    ----------
    differs
        How the peer's definition differs from ours on purpose; empty: it means to be the same.
    value_error, gradient_error
        Its distance from the float64 reference of the definition that it means; None: that cannot be computed.
    """
    if value_error is None or gradient_error is None:
        return UNCHECKED, differs
    # Written so that NaN is wrong.
    if not (value_error <= VALUE and gradient_error <= GRADIENT):
        return WRONG, f"value off by {value_error:.1e}, gradient by {gradient_error:.1e} of its largest entry"
    if differs:
        return ANOTHER, differs
    return SAME, ""
