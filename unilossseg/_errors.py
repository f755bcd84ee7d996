"""Checks of parameters: every error names the loss, the parameter, what it must be and what came.

`integer`, `number`, `flag`, `choice` and `weights` are public as `unilossseg.building`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

#: The reference's numbers, and what they should have been: see docs/variants.md.
VARIANTS = ("paddleseg", "corrected")

#: Of a loss's name, a parameter's and what came for it: what is kept of that; raises where it does not fit.
Check = Callable[[str, str, Any], Any]
Checks = Mapping[str, Check]


def integer(owner: str, name: str, value: Any, at_least: int | None = None) -> int:
    """A whole number, of Python, NumPy or a framework, as an int; a bool of any of them is none.

    Raises TypeError for anything else, ValueError for one below `at_least`.

    >>> integer("MyLoss", "kept", 0, at_least=1)
    Traceback (most recent call last):
    ValueError: MyLoss: kept must be an integer at least 1 (got 0)
    """
    expected = "an integer" if at_least is None else f"an integer at least {at_least}"
    try:
        # Not of a bool: NumPy 1 takes its own for a number, with a warning.
        number = None if _is_no_number(value) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"{owner}: {name} must be {expected} (got {value!r} that is a {type(value).__name__})")
    if at_least is not None and number < at_least:
        raise ValueError(f"{owner}: {name} must be {expected} (got {value!r})")
    return number


def _is_no_number(value: Any) -> bool:
    """A bool, a word or a complex number, which may turn into a number without a word; also one of NumPy or a framework."""
    kind = str(getattr(value, "dtype", ""))
    return isinstance(value, bool | str | bytes) or "bool" in kind or "complex" in kind


def number(
    owner: str,
    name: str,
    value: Any,
    at_least: float | None = None,
    at_most: float | None = None,
    above: float | None = None,
) -> float:
    """A finite real number, of Python, NumPy or a framework, as a float; a bool of any of them is none.

    Raises TypeError for anything else, ValueError for NaN, for an infinity, outside the bounds (`above` is itself outside),
    and for a tensor that wants a gradient.

    >>> number("MyLoss", "gamma", 2, at_least=0)
    2.0
    >>> number("MyLoss", "gamma", -1, at_least=0)
    Traceback (most recent call last):
    ValueError: MyLoss: gamma must be a finite number at least 0 (got -1)
    """
    # A Python number is asked for nothing: torch.compile follows those that change, and knows no attributes of them.
    plain = type(value) is float or type(value) is int
    if not plain:
        without_gradient(owner, name, value)
    if not plain and (_is_no_number(value) or not hasattr(value, "__float__")):
        expected = _finite_number(at_least, at_most, above)
        raise TypeError(f"{owner}: {name} must be {expected} (got {value!r} that is a {type(value).__name__})")
    try:
        result = float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError, AssertionError) as error:
        expected = _finite_number(at_least, at_most, above)
        raise TypeError(f"{owner}: {name} must be {expected} (got {value!r} that is a {type(value).__name__})") from error
    # Not `math.isfinite`, which a compiler takes for an operation on tensors.
    bad = result - result != 0
    bad = bad or (at_least is not None and result < at_least)
    bad = bad or (at_most is not None and result > at_most)
    bad = bad or (above is not None and result <= above)
    if bad:
        raise ValueError(f"{owner}: {name} must be {_finite_number(at_least, at_most, above)} (got {value!r})")
    return result


def _finite_number(at_least: float | None, at_most: float | None, above: float | None) -> str:
    """What `number` expects, in words: put together where it is missed alone, since a MixedLoss looks in each call."""
    bounds = [
        f"{word} {bound:g}"
        for word, bound in (("at least", at_least), ("above", above), ("at most", at_most))
        if bound is not None
    ]
    return " ".join(["a finite number", " and ".join(bounds)]).strip()


def flag(owner: str, name: str, value: Any) -> bool:
    """True or False; raises TypeError for anything else, 0 and 1 too.

    >>> flag("MyLoss", "per_image", True)
    True
    """
    if not isinstance(value, bool):
        raise TypeError(f"{owner}: {name} must be True or False (got {value!r} that is a {type(value).__name__})")
    return value


def flag_or_none(owner: str, name: str, value: Any) -> bool | None:
    """True, False, or None where nobody has decided."""
    return None if value is None else flag(owner, name, value)


def choice(owner: str, name: str, value: Any, options: Sequence[str]) -> str:
    """One of at least two words, `options`; raises ValueError for another word, TypeError for what is no word.

    >>> choice("MyLoss", "reduction", "avg", options=("mean", "sum"))
    Traceback (most recent call last):
    ValueError: MyLoss: reduction must be 'mean' or 'sum' (got 'avg')
    """
    if isinstance(value, str) and value in options:
        return value
    words = " or ".join([", ".join(repr(option) for option in options[:-1]), repr(options[-1])])
    if not isinstance(value, str):
        raise TypeError(f"{owner}: {name} must be {words} (got {value!r} that is a {type(value).__name__})")
    raise ValueError(f"{owner}: {name} must be {words} (got {value!r})")


def variant(owner: str, name: str, value: Any) -> str:
    """One of the two that a loss with a row in docs/variants.md has."""
    return choice(owner, name, value, VARIANTS)


def is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether it is one, or another sequence such as a tuple or a configuration's own; a word is none."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def without_gradient(owner: str, name: str, value: Any) -> None:
    """Raises where a tensor wants a gradient, which a loss's parameter, a number from then on, would never give it."""
    if getattr(value, "requires_grad", False) is True or getattr(value, "stop_gradient", True) is False:
        raise ValueError(
            f"{owner}: {name} wants a gradient, expected a number or a tensor without one: a loss does not train its "
            "parameters; pass a detached one"
        )


def _listed(value: Any) -> Any:
    """An array's numbers. Paddle lists those of bfloat16 by their bits."""
    if str(getattr(value, "dtype", "")).endswith("bfloat16") and len(value.shape) == 1:
        return [float(item) for item in value]
    return value.tolist()


def weights(owner: str, name: str, value: Any) -> tuple[float, ...] | None:
    """Finite numbers at least 0, from a sequence or a 1-D array of any framework, as a tuple; None stays None.

    As a tuple they are what `ops.constant` takes. How many there must be is known in a call: there a field named `weight`
    is held against the logits' channels. Raises TypeError for anything else; ValueError for none, for a number that is not
    finite or negative, for an array of other axes, and for a tensor that wants a gradient.

    >>> weights("MyLoss", "weight", [1, 2.5])
    (1.0, 2.5)
    >>> weights("MyLoss", "weight", [1, -2])
    Traceback (most recent call last):
    ValueError: MyLoss: weight[1] must be a finite number at least 0 (got -2)
    """
    if value is None:
        return None
    expected = "a sequence or 1-D array of finite numbers at least 0"
    if isinstance(value, str | bytes | dict | set | frozenset) or not (
        isinstance(value, Iterable) or hasattr(value, "tolist")
    ):
        raise TypeError(f"{owner}: {name} must be {expected} (got {value!r} that is a {type(value).__name__})")
    # Constructor's work, once: a tensor on a device is read here and never again.
    without_gradient(owner, name, value)
    try:
        items = _listed(value) if hasattr(value, "tolist") else list(value)
    except Exception as error:
        # Of a meta, fake or sparse tensor, each with its own words.
        raise TypeError(
            f"{owner}: {name} must be {expected} (got a {type(value).__name__} that cannot be read: {error})"
        ) from error
    if not isinstance(items, list) or any(isinstance(item, list | tuple) for item in items):
        got = f"shape {tuple(value.shape)}" if hasattr(value, "shape") else repr(value)
        raise ValueError(f"{owner}: {name} must be {expected} (got {got})")
    if not items:
        raise ValueError(f"{owner}: {name} must be {expected} (got none)")
    return tuple(number(owner, f"{name}[{at}]", item, at_least=0) for at, item in enumerate(items))
