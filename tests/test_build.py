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
