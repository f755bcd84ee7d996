"""Finds the loss that `module:name` means, in the user's own code, and how it wants to be called."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unilossseg.conformance.records.errors import RecordError, reason

_FORM = "package.module:name, package.module:Class or package.module:factory()"


@dataclass(frozen=True)
class Target:
    """A loss that is ready to be called."""

    name: str
    kwargs: Mapping[str, Any]
    call: Callable[..., Any]
    #: Modules that the loss's own module had loaded when it was imported: how a plain function shows its framework.
    loaded: frozenset[str] = field(default=frozenset())
    #: It is what the name stands for, and not what that constructed.
    as_named: bool = False

    def accepts(self, keyword: str) -> bool:
        """Whether it can be given an input by keyword."""
        if hasattr(self.call, "call_inputs"):  # a loss of unilossseg: its `**inputs` takes these and no others
            return keyword in self.call.call_inputs
        # A Module's or Layer's call passes everything on to `forward`.
        called = getattr(self.call, "forward", self.call)
        try:
            parameters = inspect.signature(called).parameters.values()
        except (TypeError, ValueError):  # written in C, without a signature
            return False
        return any(p.kind is p.VAR_KEYWORD or (p.name == keyword and p.kind is not p.POSITIONAL_ONLY) for p in parameters)


def load(name: str, kwargs: Mapping[str, Any]) -> Target:
    """The target of `module:name`.

    A class is constructed with `kwargs`. A function is called with (logits, labels) as it is, unless it is a factory: if
    the name ends in `()`, if there are `kwargs`, or if it cannot take two arguments (and noise by keyword), then what it
    returns is the loss.
    """
    subject = f"target {name!r}"
    bare, called = (name[:-2], True) if name.endswith("()") else (name, False)
    module_name, colon, attributes = bare.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *attributes.split("."))):
        raise RecordError(subject, "it has another form", _FORM, "For example my_project.losses:criterion.")
    # As pytest does: the code to be tried is the one in the current directory.
    if sys.path[:1] != [os.getcwd()]:
        sys.path.insert(0, os.getcwd())
    module = _imported(subject, module_name)
    loaded = frozenset(sys.modules)
    try:
        found = functools.reduce(getattr, attributes.split("."), module)
    except AttributeError as error:
        names = ", ".join(sorted(name for name in vars(module) if not name.startswith("_"))[:20])
        raise RecordError(
            subject, reason(error), f"a name in {module_name}", f"It has {names or 'no public names'}."
        ) from None
    if not callable(found):
        raise RecordError(
            subject, f"it is a {type(found).__name__}", "something to call", "Name a function, class or object."
        )
    loss = _constructed(subject, found, kwargs, called)
    if not callable(loss):
        received = f"constructing it gave a {type(loss).__name__}"
        raise RecordError(subject, received, "something to call with (logits, labels)", "Return the loss from the factory.")
    return Target(name, kwargs, loss, loaded, as_named=loss is found)


def _imported(subject: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        remedy = f"Look at it with: python -c 'import {name}' in {os.getcwd()}."
        if isinstance(error, ModuleNotFoundError) and error.name and name.startswith(error.name):
            remedy = f"It is looked for in {os.getcwd()} and among the installed packages."
        raise RecordError(subject, f"importing {name} failed with {reason(error)}", "a module", remedy) from error


def _constructed(subject: str, found: Any, kwargs: Mapping[str, Any], called: bool) -> Any:
    plain_function = not inspect.isclass(found)
    if plain_function and not called and not kwargs and _takes_a_batch(found):
        return found
    if plain_function and not called and hasattr(type(found), "forward"):
        received = f"it is a {type(found).__name__} that exists already, and cannot be constructed with kwargs"
        raise RecordError(subject, received, "a class or a factory where kwargs are given", "Leave out --kwargs.")
    try:
        return found(**kwargs)
    except (Exception, SystemExit) as error:
        remedy = "Give its arguments with --kwargs, or name a factory of your own that needs none."
        raise RecordError(subject, f"constructing it failed with {reason(error)}", "a loss", remedy) from error


def _takes_a_batch(function: Any) -> bool:
    """Whether it can be called with logits and labels, and with noise by keyword if it needs that."""
    try:
        signature = inspect.signature(function)
    except TypeError:
        return False
    except ValueError:  # no signature to be had
        return True
    return _binds(signature) or _binds(signature, noise=None)


def _binds(signature: inspect.Signature, **keywords: Any) -> bool:
    try:
        signature.bind(None, None, **keywords)
    except TypeError:
        return False
    return True
