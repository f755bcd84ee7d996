"""What is measured: the losses with their arguments, the sizes, and the inputs. Knows no framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

#: Edge length of the squares of one class in the labels: neither noise nor one single region.
BLOCK = 16
#: By how much the logit of the right class is raised, so that some pixels are easy, as after some epochs of training.
LIFT = 3.0
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


@dataclass(frozen=True)
class Shape:
    """One configuration: images, classes, edge length of an image, dtype of the logits."""

    batch: int
    classes: int
    size: int
    dtype: str = "float32"

    @property
    def pixels(self) -> int:
        """Pixels of the whole batch."""
        return self.batch * self.size * self.size

    def __str__(self) -> str:
        """As tables show it."""
        dtype = "" if self.dtype == "float32" else f" {self.dtype}"
        return f"N={self.batch} C={self.classes} {self.size}²{dtype}"

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


#: Where the targets are set.
TARGET = Shape(2, 19, 512)
#: Where the regression gate looks: long enough to be above the noise of a call, short enough for two minutes in all.
GATE = Shape(2, 19, 256)


def _nothing(shape: Shape) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Row:
    """A loss with the arguments that it is measured with.

    kind: 'classes' (class logits and labels), 'binary' (one channel), 'values' (labels are numbers of the logits' shape),
    'edges' (class logits with edge logits), 'noise' (class logits with uniform noise).
    """

    name: str
    loss: str
    kind: str = "classes"
    arguments: Callable[[Shape], dict[str, Any]] = field(default=_nothing)
    #: Frameworks whose own function takes labels as numbers of the logits' dtype: there everyone gets them so, and nobody
    #: converts them.
    numbers_in: tuple[str, ...] = ()
    #: Whether it is measured in bfloat16 too: the losses that mixed-precision training is likely to meet.
    half: bool = False

    def channels(self, shape: Shape) -> int:
        """Channels of the logits."""
        return 1 if self.kind == "binary" else shape.classes

    def logits_bytes(self, shape: Shape) -> int:
        """What the logits take."""
        return shape.pixels * self.channels(shape) * BYTES[shape.dtype]


def _kept(shape: Shape) -> dict[str, Any]:
    return {"min_kept": shape.pixels // 16}


def _hard(shape: Shape) -> dict[str, Any]:
    return {"min_K": shape.size * shape.size // 16, "loss_th": 0.3}


ROWS = {
    row.name: row
    for row in (
        Row("CrossEntropyLoss", "CrossEntropyLoss", half=True),
        Row("CrossEntropyLoss top-k", "CrossEntropyLoss", arguments=lambda _: {"top_k_percent_pixels": 0.2}),
        Row("BootstrappedCrossEntropyLoss", "BootstrappedCrossEntropyLoss", arguments=_hard),
        Row("OhemCrossEntropyLoss", "OhemCrossEntropyLoss", arguments=_kept, half=True),
        Row("EdgeAttentionLoss", "EdgeAttentionLoss", "edges"),
        Row("OhemEdgeAttentionLoss", "OhemEdgeAttentionLoss", "edges", _kept),
        Row("DiceLoss", "DiceLoss", half=True),
        Row("LovaszSoftmaxLoss", "LovaszSoftmaxLoss", half=True),
        Row("LovaszHingeLoss", "LovaszHingeLoss", "binary"),
        Row("BCELoss", "BCELoss", "binary", half=True, numbers_in=("torch", "paddle")),
        Row("BCELoss dynamic", "BCELoss", "binary", lambda _: {"weight": "dynamic"}, numbers_in=("torch", "paddle")),
        Row("L1Loss", "L1Loss", "values"),
        Row("MSELoss", "MSELoss", "values", half=True),
        Row("RelaxBoundaryLoss", "RelaxBoundaryLoss"),
        Row("DualTaskLoss", "DualTaskLoss", "noise"),
        Row("MixedLoss", "MixedLoss", arguments=lambda _: {"coef": [0.8, 0.2]}),
    )
}
#: What MixedLoss is measured with.
MIXED = ("CrossEntropyLoss", "LovaszSoftmaxLoss")


def row(name: str) -> Row:
    """A row by its name; a loss's own name means its first row."""
    if name not in ROWS:
        raise ValueError(f"loss {name!r} is not measured: expected one of {', '.join(map(repr, ROWS))}")
    return ROWS[name]


def arrays(row: Row, shape: Shape, framework: str = "", seed: int = 0) -> dict[str, npt.NDArray[Any]]:
    """Inputs in float32 and int64, with no ignored pixel: some peers cannot leave pixels out."""
    made = _drawn(row, shape, seed)
    if framework in row.numbers_in:
        made["labels"] = made["labels"].astype(np.float32)
    return made


def _drawn(row: Row, shape: Shape, seed: int) -> dict[str, npt.NDArray[Any]]:
    rng = np.random.default_rng(seed)
    n, c, s = shape.batch, row.channels(shape), shape.size
    logits = rng.standard_normal((n, c, s, s), dtype=np.float32)
    if row.kind == "values":
        return {"logits": logits, "labels": rng.standard_normal((n, c, s, s), dtype=np.float32)}
    block = min(BLOCK, max(1, s // 4))
    coarse = rng.integers(0, 2 if c == 1 else c, (n, -(-s // block), -(-s // block)))
    labels = np.repeat(np.repeat(coarse, block, axis=1), block, axis=2)[:, :s, :s].astype(np.int64)
    if c == 1:
        logits += LIFT * (labels[:, None] - np.float32(0.5))
        return {"logits": logits, "labels": labels[:, None]}
    lifted = np.take_along_axis(logits, labels[:, None], axis=1) + np.float32(LIFT)
    np.put_along_axis(logits, labels[:, None], lifted, axis=1)
    made: dict[str, npt.NDArray[Any]] = {"logits": logits, "labels": labels}
    if row.kind == "edges":
        # Two thirds of the pixels lie above the loss's threshold of 0.8.
        made["edge_logits"] = rng.standard_normal((n, 1, s, s), dtype=np.float32) + np.float32(1.23)
    if row.kind == "noise":
        made["noise"] = rng.random((n, c, s, s), dtype=np.float32)
    return made


def reference_arguments(row: Row, shape: Shape) -> Mapping[str, Any]:
    """The row's arguments as `unilossseg.conformance.reference` takes them."""
    if row.loss == "MixedLoss":
        return {"losses": [(name, {}) for name in MIXED], "reduction": "sum", **row.arguments(shape)}
    return row.arguments(shape)
