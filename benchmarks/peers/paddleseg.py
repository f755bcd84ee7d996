"""PaddleSeg's own classes: the reference. Only its loss modules are loaded, as installed."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import paddle

from benchmarks.names import REFERENCE
from benchmarks.peers import Peer
from benchmarks.peers.loading import part_of
from benchmarks.rows import MIXED, Row, Shape

_PACKAGE = "paddleseg"
_LOSSES = f"{_PACKAGE}.models.losses"
_HOLLOW = (_PACKAGE, f"{_PACKAGE}.cvlibs", f"{_PACKAGE}.models", _LOSSES)
#: Where each class lives.
_MODULES = {
    "CrossEntropyLoss": "cross_entropy_loss",
    "BootstrappedCrossEntropyLoss": "bootstrapped_cross_entropy",
    "OhemCrossEntropyLoss": "ohem_cross_entropy_loss",
    "EdgeAttentionLoss": "edge_attention_loss",
    "OhemEdgeAttentionLoss": "ohem_edge_attention_loss",
    "DiceLoss": "dice_loss",
    "LovaszSoftmaxLoss": "lovasz_loss",
    "LovaszHingeLoss": "lovasz_loss",
    "BCELoss": "binary_cross_entropy_loss",
    "L1Loss": "l1_loss",
    "MSELoss": "mean_square_error_loss",
    "RelaxBoundaryLoss": "decoupledsegnet_relax_boundary_loss",
    "DualTaskLoss": "gscnn_dual_task_loss",
    "MixedLoss": "mixed_loss",
}
#: Further arguments: 2.8.0 has another default of `smooth` than we have.
_ARGUMENTS: dict[str, dict[str, Any]] = {"DiceLoss": {"smooth": 0.0}}
#: The losses that multiply or add masks of integers or booleans, which Paddle 3 refuses, and what is noted of them. Paddle
#: 2.6 casts the right operand to the dtype of the left one, which harms no number in all of them but RelaxBoundaryLoss.
_PROMOTED = dict.fromkeys(
    ("CrossEntropyLoss", "OhemCrossEntropyLoss", "OhemEdgeAttentionLoss", "DualTaskLoss", "MixedLoss"),
    "its masks are cast to float32, as Paddle 2.6 does by itself: Paddle 3 refuses to mix dtypes",
) | {
    "RelaxBoundaryLoss": "its masks are cast to float32: Paddle 3 refuses to mix dtypes, and Paddle 2.6 casts the log "
    "probabilities to integers instead, so that the gradient is 0"
}
#: Two images of 19 classes at 32×32: four seconds. The gradient of its grouped convolution grows with the square of the
#: pixels: 0.24 s at 16×16, 3.8 at 32×32, 19 at 48×48.
_DUAL_TASK_LARGEST = 2 * 19 * 32 * 32
_OPERATORS = ("__mul__", "__rmul__", "__add__", "__radd__", "__sub__", "__rsub__", "__truediv__")


def _class(loss: str) -> Any:
    return getattr(part_of(_PACKAGE, _HOLLOW, f"{_LOSSES}.{_MODULES[loss]}"), loss)


def _rank(tensor: Any) -> int:
    """Booleans below integers below floats."""
    return 2 if tensor.is_floating_point() else int(tensor.dtype != paddle.bool)


def _floats(name: str) -> Callable[[Any, Any], Any]:
    """An operator of tensors that casts booleans to integers and these to floats, where they meet."""
    original = getattr(paddle.Tensor, name)

    @functools.wraps(original)
    def operator(a: Any, b: Any) -> Any:
        if isinstance(b, paddle.Tensor) and a.dtype != b.dtype:
            if _rank(a) > _rank(b):
                b = b.astype(a.dtype)
            elif _rank(a) < _rank(b):
                a = a.astype(b.dtype)
        return original(a, b)

    return operator


@functools.cache
def _promoting() -> dict[str, tuple[Any, Any]]:
    return {name: (getattr(paddle.Tensor, name), _floats(name)) for name in _OPERATORS}


@contextlib.contextmanager
def promotion() -> Iterator[None]:
    """Inside it, tensors of integers and floats can be mixed."""
    operators = _promoting()
    for name, (_, promoting) in operators.items():
        setattr(paddle.Tensor, name, promoting)
    try:
        yield
    finally:
        for name, (original, _) in operators.items():
            setattr(paddle.Tensor, name, original)


def build(row: Row, shape: Shape, inputs: Mapping[str, Any]) -> Callable[[Any], Any]:
    """The reference's value."""
    labels, edges = inputs["labels"], inputs.get("edge_logits")
    if row.loss == "MixedLoss":
        coef = row.arguments(shape)["coef"]
        loss = _class("MixedLoss")([_class(name)() for name in MIXED], coef)
    else:
        loss = _class(row.loss)(**row.arguments(shape), **_ARGUMENTS.get(row.loss, {}))

    def value(logits: Any) -> Any:
        # It writes into its labels where some are ignored, and here none are; it changes their stop_gradient only.
        found = loss((logits, edges) if edges is not None else logits, labels)
        return sum(found[1:], found[0]) if isinstance(found, list) else found

    if row.loss not in _PROMOTED:
        return value

    def promoted(logits: Any) -> Any:
        with promotion():
            return value(logits)

    return promoted


def peer(row: Row) -> Peer:
    """The reference of a row."""
    noted = _PROMOTED.get(row.loss, "")
    if row.loss == "DualTaskLoss":
        return Peer(REFERENCE, build, "draws its own noise", "", _DUAL_TASK_LARGEST, noted)
    return Peer(REFERENCE, build, note=noted)
