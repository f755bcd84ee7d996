"""From PaddleSeg's loss configuration to losses."""

from __future__ import annotations

import dataclasses
import importlib
import reprlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from unilossseg import _errors, losses
from unilossseg.backends import KNOWN, get_backend

_NESTED = "MixedLoss"
#: What came, in an error: a few lines of YAML can stand for a value of millions of words.
_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxother = 2, 100, 100
#: Losses' own errors have what came in full.
_LONGEST = 1000


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
    BackendNotInstalledError
        Where the framework that `backend` names is not installed.

    Examples
    --------
    >>> import unilossseg
    >>> built = unilossseg.build({"types": [{"type": "DiceLoss", "smooth": 1.0}], "coef": [1, 0.4]})
    >>> built["types"][0], built["coef"]
    (DiceLoss(ignore_index=255, smooth=1.0, weight=None, variant='paddleseg'), [1, 0.4])
    """
    module = _module(backend)
    try:
        return _built(module, config)
    except RecursionError:
        raise ValueError(
            "build: config has losses nested too deeply to be built, or one inside itself: put them into fewer MixedLosses"
        ) from None
    except (TypeError, ValueError) as error:
        text = str(error)
        if len(text) <= _LONGEST:
            raise
        raise type(error)(f"{text[:_LONGEST]}...") from None


def _built(module: ModuleType, config: Any) -> dict[str, list[Any]]:
    if not isinstance(config, Mapping):
        raise TypeError(f"build: config must be a mapping with 'types' and 'coef' (got a {type(config).__name__})")
    if "loss" in config and "types" not in config:
        return _built(module, config["loss"])
    unknown = sorted(set(map(str, config)) - {"types", "coef"})
    if unknown:
        raise ValueError(f"build: config has an unknown key {_short.repr(unknown[0])}: expected 'types' and 'coef'")
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
        raise TypeError(f"build: {place} must have a list {key!r} with at least one entry (got {_short.repr(value)})")
    return list(value)


def _one(module: ModuleType, item: Any, place: str) -> Any:
    if not isinstance(item, Mapping) or not isinstance(item.get("type"), str):
        raise TypeError(f"build: {place} must be a mapping with the loss's name as 'type' (got {_short.repr(item)})")
    arguments = {str(key): value for key, value in item.items() if key != "type"}
    name = item["type"]
    if name not in losses.LOSSES:
        expected = ", ".join(losses.LOSSES)
        raise ValueError(f"build: {place} has the unknown type {_short.repr(name)}: expected one of {expected}")
    kind = getattr(module, name)
    known = [field.name for field in dataclasses.fields(kind) if field.init]
    for key in arguments:
        if key not in known:
            expected = ", ".join(known)
            raise TypeError(f"build: {place}: {name} has no parameter {_short.repr(key)}: expected some of {expected}")
    if name == _NESTED and "losses" in arguments:
        inner = _list(arguments, "losses", place)
        arguments["losses"] = [_one(module, loss, f"{place}.losses[{at}]") for at, loss in enumerate(inner)]
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise type(error)(f"build: {place}: {error}") from error
