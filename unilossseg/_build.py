"""From PaddleSeg's loss configuration to losses."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from unilossseg import _errors, losses
from unilossseg.backends import KNOWN, get_backend

_NESTED = "MixedLoss"


def build(config: Mapping[str, Any], backend: str | None = None) -> dict[str, list[Any]]:
    """Builds the losses of a PaddleSeg configuration.

    Parameters
    ----------
    config
        The `loss` section of a PaddleSeg YAML file, as a YAML reader or OmegaConf returns it: `{"types": [{"type":
        "CrossEntropyLoss"}, ...], "coef": [1, 0.4]}`. One type stands for all coefs. A MixedLoss has `losses` (a list of
        such types) and `coef`. The whole file's content, with `loss` in it, is taken too.
    backend
        'torch': Modules, 'paddle': Layers; None: losses that take arrays of any backend.

    Returns
    -------
    `{"types": [loss, ...], "coef": [number, ...]}`, one loss per output of the network, as PaddleSeg's trainer takes it.

    Raises
    ------
    ValueError, TypeError
        An unknown type, argument or backend, or another shape of the configuration, with the place where it stands.

    Examples
    --------
    >>> import unilossseg
    >>> built = unilossseg.build({"types": [{"type": "DiceLoss", "smooth": 1.0}], "coef": [1, 0.4]})
    >>> built["types"][0], built["coef"]
    (DiceLoss(ignore_index=255, smooth=1.0, weight=None, variant='paddleseg'), [1, 0.4])
    """
    module = _module(backend)
    if not isinstance(config, Mapping):
        raise TypeError(f"build: config must be a mapping with 'types' and 'coef' (got a {type(config).__name__})")
    if "loss" in config and "types" not in config:
        return build(config["loss"], backend)
    unknown = sorted(set(map(str, config)) - {"types", "coef"})
    if unknown:
        raise ValueError(f"build: config has an unknown key {unknown[0]!r}: expected 'types' and 'coef'")
    types, coef = _list(config, "types", "config"), _list(config, "coef", "config")
    for at, number in enumerate(coef):
        found = _errors.number("build", f"coef[{at}]", number)
        coef[at] = number if isinstance(number, int | float) else found
    if len(types) == 1:
        types = types * len(coef)
    if len(types) != len(coef):
        raise ValueError(f"build: config has {len(types)} types and {len(coef)} coef: expected as many, or one type for all")
    return {"types": [_one(module, item, f"types[{at}]") for at, item in enumerate(types)], "coef": list(coef)}


def _module(backend: str | None) -> ModuleType:
    if backend is None:
        return losses
    if backend not in ("torch", "paddle"):
        known = ", ".join(repr(name) for name in KNOWN)
        hint = "" if backend not in KNOWN else f" ({known} are backends, but only these two have modules)"
        raise ValueError(f"build: backend must be 'torch', 'paddle' or None (got {backend!r}){hint}")
    get_backend(backend)  # with its own error, if the framework is not installed
    return importlib.import_module(f"unilossseg.{backend}")


def _list(mapping: Mapping[str, Any], key: str, place: str) -> list[Any]:
    value = mapping.get(key)
    if not _errors.is_list(value) or not value:
        raise TypeError(f"build: {place} must have a list {key!r} with at least one entry (got {value!r})")
    return list(value)


def _one(module: ModuleType, item: Any, place: str) -> Any:
    if not isinstance(item, Mapping) or not isinstance(item.get("type"), str):
        raise TypeError(f"build: {place} must be a mapping with the loss's name as 'type' (got {item!r})")
    arguments = {str(key): value for key, value in item.items() if key != "type"}
    name = item["type"]
    if name not in losses.LOSSES:
        known = ", ".join(losses.LOSSES)
        raise ValueError(f"build: {place} has the unknown type {name!r}: expected one of {known}")
    if name == _NESTED and "losses" in arguments:
        inner = _list(arguments, "losses", place)
        arguments["losses"] = [_one(module, loss, f"{place}.losses[{at}]") for at, loss in enumerate(inner)]
    try:
        return getattr(module, name)(**arguments)
    except (TypeError, ValueError) as error:
        raise type(error)(f"build: {place}: {error}") from error
