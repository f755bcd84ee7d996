"""MixedLoss."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unilossseg.conformance.reference._pixels import Array

Evaluate = Callable[[str, Mapping[str, Any], Array | None], tuple[Array, Array]]
"""(loss, parameters, upstream) → (value, gradient)."""


def mixed(
    evaluate: Evaluate,
    upstream: Array | None,
    losses: Sequence[tuple[str, Mapping[str, Any]]],
    coef: Sequence[float] | float,
    reduction: str = "list",
) -> tuple[Array, Array]:
    """``coef[i]·losses[i]`` stacked ("list") or their total ("sum"), and the gradient of Σ upstream·value."""
    if reduction not in ("list", "sum"):
        raise ValueError(f"reduction must be 'list' or 'sum' (got {reduction!r})")
    terms = _terms(losses, coef)
    values = np.stack([factor * evaluate(name, parameters, None)[0] for name, parameters, factor in terms])
    value = values if reduction == "list" else np.asarray(values.sum(axis=0))
    if upstream is None:
        upstream = np.ones(value.shape)
    shares = upstream if reduction == "list" else [upstream] * len(terms)
    parts = []
    for (name, parameters, factor), share in zip(terms, shares, strict=True):
        parts.append(evaluate(name, parameters, np.asarray(factor * share))[1])
    return value, np.asarray(sum(parts))


def _terms(
    losses: Sequence[tuple[str, Mapping[str, Any]]], coef: Sequence[float] | float
) -> list[tuple[str, Mapping[str, Any], float]]:
    """(loss, parameters, factor) of each term; a MixedLoss that returns a list gives its terms one by one."""
    factors = [coef] * len(losses) if isinstance(coef, int | float) else list(coef)
    terms: list[tuple[str, Mapping[str, Any], float]] = []
    for (name, parameters), factor in zip(losses, factors, strict=True):
        if name == "MixedLoss" and parameters.get("reduction", "list") == "list":
            inner = _terms(parameters["losses"], parameters["coef"])
            terms += [(inner_name, inner_parameters, factor * f) for inner_name, inner_parameters, f in inner]
        else:
            terms.append((name, parameters, float(factor)))
    return terms
