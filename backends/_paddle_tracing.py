"""What stands for a tensor while Paddle traces a function into a program."""

from __future__ import annotations

from typing import Any

import paddle

from unilossseg.backends._paddle_version import OLD

# They have a shape and a dtype, no place and no memory.
_TRACED = tuple(filter(None, (paddle.static.Variable, getattr(getattr(paddle, "pir", None), "Value", None))))
_ARRAYS = (paddle.Tensor, *_TRACED)


# Paddle 2's places are equal to none, not even to themselves of another tensor: one of each kind stands for all.
_PLACES: dict[str, Any] | None = {} if OLD else None


def is_traced(x: Any) -> bool:
    """Whether x stands for a tensor of a program that is being built."""
    return not isinstance(x, paddle.Tensor) and isinstance(x, _TRACED)


def is_array(x: Any) -> bool:
    """Whether x is a tensor, or stands for one."""
    return isinstance(x, _ARRAYS)


def place_of(x: Any) -> Any:
    """Where x lies; None, "where the program runs", for what is traced."""
    if is_traced(x):
        return None
    return x.place if _PLACES is None else _PLACES.setdefault(str(x.place), x.place)
