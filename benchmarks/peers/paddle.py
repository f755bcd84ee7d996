"""What Paddle users have: paddle.nn.functional, and PaddleSeg's classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import paddle
import paddle.nn.functional as F

from benchmarks.peers import Peer, of_labels, paddleseg
from benchmarks.rows import ROWS, Row, Shape

Inputs = Mapping[str, Any]
Value = Callable[[Any], Any]


def _cross_entropy(row: Row, shape: Shape, inputs: Inputs) -> Value:
    labels = inputs["labels"].unsqueeze(1)
    return lambda logits: F.cross_entropy(logits, labels, ignore_index=255, axis=1)


def _top_k(row: Row, shape: Shape, inputs: Inputs) -> Value:
    labels, count = inputs["labels"].unsqueeze(1), int(row.arguments(shape)["top_k_percent_pixels"] * shape.pixels)

    def value(logits: Any) -> Any:
        losses = F.cross_entropy(logits, labels, ignore_index=255, axis=1, reduction="none")
        return paddle.topk(losses.flatten(), count, sorted=False)[0].mean()

    return value


def _dice(row: Row, shape: Shape, inputs: Inputs) -> Value:
    labels = inputs["labels"].unsqueeze(-1)

    def value(logits: Any) -> Any:
        return F.dice_loss(F.softmax(logits, axis=1).transpose([0, 2, 3, 1]), labels)

    return value


_FUNCTIONAL: dict[str, tuple[Peer, ...]] = {
    "CrossEntropyLoss": (Peer("paddle cross_entropy", _cross_entropy),),
    "CrossEntropyLoss top-k": (Peer("paddle cross_entropy and topk", _top_k),),
    "DiceLoss": (Peer("paddle dice_loss", _dice, "one overlap of all classes together", ""),),
    "BCELoss": (Peer("paddle binary_cross_entropy_with_logits", of_labels(F.binary_cross_entropy_with_logits)),),
    "L1Loss": (Peer("paddle l1_loss", of_labels(F.l1_loss)),),
    "MSELoss": (Peer("paddle mse_loss", of_labels(F.mse_loss)),),
}
PEERS: dict[str, tuple[Peer, ...]] = {name: (*_FUNCTIONAL.get(name, ()), paddleseg.peer(row)) for name, row in ROWS.items()}
#: The packages whose versions are recorded.
PACKAGES = ("paddlepaddle", "paddleseg", "numpy")
