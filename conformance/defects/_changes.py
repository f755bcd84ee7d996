"""Changes that several defects are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from unilossseg.backends import Array, Backend
from unilossseg.backends.numpy import BACKEND
from unilossseg.conformance.defects._patching import Patches

#: The class of NumPy's backend that is in use, with compiled loops or without: what is replaced here is what runs.
NUMPY = type(BACKEND)

#: Operations with a softmax inside: a defect of what one is made of must not be hidden by a loop.
SOFTMAXES = ("softmax_totals", "through_softmax", "through_softmax_by_class")
CROSS_ENTROPIES = ("cross_entropy", "plain_cross_entropy")

#: What becomes of a gradient, given the loss, the backend, the logits and the labels of the closed form.
Change = Callable[[Array, Any, Any, Array, Array], Array]


#: Loops of the binary cross entropy and of the differences, each without and with a count of the labels.
BINARY = ("binary_cross_entropy", "counted_binary_cross_entropy")
DIFFERENCES = ("differences", "counted_differences")


def without_loops(patches: Patches, *names: str) -> None:
    """Operations of NumPy's backend in their parts, as the standard has them: a wrong part is then wrong in the whole."""
    for name in names:
        patches.replace(NUMPY, name, getattr(Backend, name))


def gradient(patches: Patches, loss: type, change: Change) -> None:
    """Another gradient of a loss's closed form."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, logits: Array, labels: Array, **inputs: Any) -> tuple[Array, Array | None]:
            value, slope = original(self, ops, logits, labels, **inputs)
            return value, None if slope is None else change(slope, self, ops, logits, labels)

        return wrong

    patches.wrap(loss, "closed_form", make)


def value(patches: Patches, loss: type, change: Callable[[Array, Any], Array]) -> None:
    """Another value of a loss's closed form; its gradient stays."""

    def make(original: Any) -> Any:
        def wrong(self: Any, ops: Any, logits: Array, labels: Array, **inputs: Any) -> tuple[Array, Array | None]:
            found, slope = original(self, ops, logits, labels, **inputs)
            return change(found, ops), slope

        return wrong

    patches.wrap(loss, "closed_form", make)


def argument(patches: Patches, owner: Any, name: str, position: int, change: Callable[[Any], Any]) -> None:
    """Another value for a positional argument of a function or method; `self` counts as 0."""

    def make(original: Any) -> Any:
        def wrong(*arguments: Any, **keywords: Any) -> Any:
            given = list(arguments)
            given[position] = change(given[position])
            return original(*given, **keywords)

        return wrong

    patches.wrap(owner, name, make)


def keyword(patches: Patches, owner: Any, name: str, key: str, change: Callable[[Any], Any]) -> None:
    """Another value for a keyword argument of a function or method, where it is given."""

    def make(original: Any) -> Any:
        def wrong(*arguments: Any, **keywords: Any) -> Any:
            if key in keywords:
                keywords[key] = change(keywords[key])
            return original(*arguments, **keywords)

        return wrong

    patches.wrap(owner, name, make)


def result(patches: Patches, owner: Any, name: str, change: Callable[[Any], Any]) -> None:
    """Another result of a function or method."""

    def make(original: Any) -> Any:
        def wrong(*arguments: Any, **keywords: Any) -> Any:
            return change(original(*arguments, **keywords))

        return wrong

    patches.wrap(owner, name, make)


def attribute(patches: Patches, owner: Any, name: str, key: str, change: Callable[[Any], Any]) -> None:
    """A loss's parameter with another value while one of its methods runs."""

    def make(original: Any) -> Any:
        def wrong(self: Any, *arguments: Any, **keywords: Any) -> Any:
            right = getattr(self, key)
            setattr(self, key, change(right))
            try:
                return original(self, *arguments, **keywords)
            finally:
                setattr(self, key, right)

        return wrong

    patches.wrap(owner, name, make)
