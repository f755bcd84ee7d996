"""Fields of a loss that is a framework's layer, where that framework has registered what they hold."""

from __future__ import annotations

import inspect
from typing import Any


class _Default:
    """A field's default, as an attribute of the class, that lets through what is registered for an instance."""

    def __init__(self, name: str, default: Any, places: tuple[str, ...]) -> None:
        self.name, self.default, self.places = name, default, places

    def __get__(self, loss: Any, owner: type) -> Any:
        """Asked only where the instance has no plain attribute of the name."""
        if loss is not None:
            for place in self.places:
                if self.name in getattr(loss, place):
                    return loss.__getattr__(self.name)
        return self.default


def unhide(cls: type, name: str, places: tuple[str, ...]) -> None:
    """Lets a field be found in the `places` of an instance, dicts of what is registered: a framework is asked for it only
    where nothing else has the name, and a field's default has it.
    """
    if hasattr(cls, name):
        default = inspect.getattr_static(cls, name)
        if not isinstance(default, _Default):
            setattr(cls, name, _Default(name, default, places))
