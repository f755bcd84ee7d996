"""Configurations whose lists are of a type of their own, as a configuration library's are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

import unilossseg


class Listed(Sequence[Any]):
    """A list that is no `list`."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __getitem__(self, at: Any) -> Any:
        return self.items[at]

    def __len__(self) -> int:
        return len(self.items)


class Mapped(Mapping[str, Any]):
    """A mapping that is no `dict`."""

    def __init__(self, **items: Any) -> None:
        self.items_of = items

    def __getitem__(self, key: str) -> Any:
        return self.items_of[key]

    def __iter__(self) -> Any:
        return iter(self.items_of)

    def __len__(self) -> int:
        return len(self.items_of)


def test_a_configuration_of_other_lists_and_mappings() -> None:
    lovasz = Mapped(type="LovaszSoftmaxLoss", classes=Listed(0, 1))
    entropy = Mapped(type="CrossEntropyLoss", weight=Listed(1, 0.5))
    mixed = Mapped(type="MixedLoss", losses=Listed(entropy, lovasz), coef=Listed(0.8, 0.2))
    built = unilossseg.build(Mapped(types=Listed(mixed, lovasz), coef=Listed(1, 0.4)))
    assert built["coef"] == [1, 0.4]
    first, second = built["types"]
    assert (first.losses[0].weight, first.losses[1].classes, second.classes) == ((1, 0.5), (0, 1), (0, 1))
    assert first.coef == [0.8, 0.2]


@pytest.mark.parametrize("types", ["DiceLoss", b"DiceLoss", Listed(), {"type": "DiceLoss"}, None])
def test_what_is_no_list_of_types_is_refused(types: object) -> None:
    with pytest.raises(TypeError, match="build: config must have a list 'types' with at least one entry"):
        unilossseg.build({"types": types, "coef": [1]})


@pytest.mark.parametrize("classes", [b"\x00\x01", {0, 1}, {0: 1}])
def test_what_is_no_list_of_classes_is_refused(classes: Any) -> None:
    with pytest.raises(TypeError, match="classes must be 'present', 'all' or a list of class numbers"):
        unilossseg.LovaszSoftmaxLoss(classes=classes)


def test_an_argument_that_is_none_is_shown_in_one_line() -> None:
    config = {"types": [{"type": "L1Loss", "\x1b]0;title\x07\nforged": 1}], "coef": [1]}
    with pytest.raises(TypeError) as caught:
        unilossseg.build(config)
    said = "build: types[0]: L1Loss has no parameter '\\x1b]0;title\\x07\\nforged': expected some of "
    assert str(caught.value).startswith(said)
    assert set(str(caught.value).removeprefix(said).split(", ")) == {"reduction", "ignore_index", "validate"}


def large() -> Any:
    """What a few lines of YAML make: each list has the one before ten times."""
    found: Any = ["word" * 25]
    for _ in range(5):
        found = [found] * 10
    return found


@pytest.mark.parametrize(
    "config",
    [
        {"types": {"a": large()}, "coef": [1]},
        {"types": [large()], "coef": [1]},
        {"types": [{"type": "L1Loss"}], "coef": large()},
        {"types": [{"type": "L1Loss", "ignore_index": large()}], "coef": [1]},
        {"types": [{"type": "L1" * 10_000}], "coef": [1]},
        {"types": [{"type": "L1Loss", "L1" * 10_000: 1}], "coef": [1]},
        {"L1" * 10_000: 1},
    ],
)
def test_errors_do_not_repeat_a_large_configuration(config: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="build: ") as caught:
        unilossseg.build(config)
    assert len(str(caught.value)) < 1100


def inside_itself(name: str) -> dict[str, Any]:
    """A configuration with a part that is the whole, as an alias of YAML makes it."""
    mixed: dict[str, Any] = {"type": "MixedLoss", "coef": [1]}
    mixed["losses"] = [mixed]
    whole: dict[str, Any] = {}
    whole["loss"] = whole
    return {"a loss": {"types": [mixed], "coef": [1]}, "the whole": whole}[name]


@pytest.mark.parametrize("name", ["a loss", "the whole"])
def test_a_configuration_inside_itself_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="losses nested too deeply to be built, or one inside itself: put them into fewer"):
        unilossseg.build(inside_itself(name))
