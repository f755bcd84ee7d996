"""An independent float64 reference of every loss: plain loops over images, pixels and classes, gradients by hand.

It imports nothing of the library it judges. Each function returns the value and the gradient with respect to the
logits; its docstring gives the formula that its lines follow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from unilossseg.conformance.reference._pixels import Array
from unilossseg.conformance.reference.binary import binary_cross_entropy
from unilossseg.conformance.reference.cross_entropy import bootstrapped_cross_entropy, cross_entropy
from unilossseg.conformance.reference.dice import dice
from unilossseg.conformance.reference.dual_task import dual_task
from unilossseg.conformance.reference.lovasz import lovasz_hinge, lovasz_softmax
from unilossseg.conformance.reference.mixed import mixed
from unilossseg.conformance.reference.ohem import edge_attention, ohem_cross_entropy, ohem_edge_attention
from unilossseg.conformance.reference.regression import l1, mse
from unilossseg.conformance.reference.relax_boundary import relax_boundary

__all__ = ["LOSSES", "value_and_gradient"]

_FUNCTIONS: dict[str, Callable[..., tuple[float | Array, Array]]] = {
    "BCELoss": binary_cross_entropy,
    "BootstrappedCrossEntropyLoss": bootstrapped_cross_entropy,
    "CrossEntropyLoss": cross_entropy,
    "DiceLoss": dice,
    "DualTaskLoss": dual_task,
    "EdgeAttentionLoss": edge_attention,
    "L1Loss": l1,
    "LovaszHingeLoss": lovasz_hinge,
    "LovaszSoftmaxLoss": lovasz_softmax,
    "MSELoss": mse,
    "OhemCrossEntropyLoss": ohem_cross_entropy,
    "OhemEdgeAttentionLoss": ohem_edge_attention,
    "RelaxBoundaryLoss": relax_boundary,
}
LOSSES = (*_FUNCTIONS, "MixedLoss")
_FURTHER_INPUT = {
    "CrossEntropyLoss": "semantic_weights",
    "DualTaskLoss": "noise",
    "EdgeAttentionLoss": "edge_logits",
    "OhemEdgeAttentionLoss": "edge_logits",
}


def value_and_gradient(
    loss: str,
    parameters: Mapping[str, Any],
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    *,
    upstream: npt.ArrayLike | None = None,
    edge_logits: npt.ArrayLike | None = None,
    noise: npt.ArrayLike | None = None,
    semantic_weights: npt.ArrayLike | None = None,
) -> tuple[Array, Array]:
    """The value of a loss, and the gradient of Σ upstream·value with respect to the logits, both in float64.

    `loss` is a class name of the contract and `parameters` its arguments by name, for MixedLoss
    ``{"losses": [(name, parameters), ...], "coef": ..., "reduction": "list" or "sum"}``; "list" stacks the values.
    `upstream` has the shape of the value (default: ones). The edge losses take the segmentation logits as `logits` and
    the edge logits as `edge_logits`; DualTaskLoss takes its uniform draw as `noise`.
    """
    z = np.asarray(logits, dtype=np.float64)
    up = None if upstream is None else np.asarray(upstream, dtype=np.float64)
    further = {"edge_logits": edge_logits, "noise": noise, "semantic_weights": semantic_weights}

    def evaluate(name: str, arguments: Mapping[str, Any], weight: Array | None) -> tuple[Array, Array]:
        if name == "MixedLoss":
            return mixed(evaluate, weight, **arguments)
        extra = {_FURTHER_INPUT[name]: further[_FURTHER_INPUT[name]]} if name in _FURTHER_INPUT else {}
        value, gradient = _FUNCTIONS[name](z, labels, **arguments, **extra)
        value = np.asarray(value, dtype=np.float64)
        if weight is None:
            weight = np.ones(value.shape)
        if weight.shape != value.shape:
            raise ValueError(f"{name}: upstream has shape {weight.shape}, the value has {value.shape}")
        # The value is one number, or element i of it depends on logit i alone: either way a plain product.
        return value, weight * gradient

    return evaluate(loss, parameters, up)
