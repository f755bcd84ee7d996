"""What a loss configuration needs of the network and of the labels: a head for each of its losses."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import unilossseg
from unilossseg.conformance.cases import Array
from unilossseg.conformance.parity.photographs import BACKGROUND, CLASSES, IGNORED, Photographs

CLASS, MASK, INTENSITY = "class numbers", "a mask of objects", "the picture's intensities"
_EDGE_LOSSES = (unilossseg.EdgeAttentionLoss, unilossseg.OhemEdgeAttentionLoss)
_REGRESSIONS = (unilossseg.L1Loss, unilossseg.MSELoss)
#: Arguments for losses that have no defaults, chosen so that their selection takes part of the pixels.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "BootstrappedCrossEntropyLoss": {"min_K": 1000, "loss_th": 0.3},
    "MixedLoss": {"losses": [{"type": "CrossEntropyLoss"}, {"type": "LovaszSoftmaxLoss"}], "coef": [0.8, 0.2]},
}
#: So that one rate suits all. RelaxBoundaryLoss: a sum over pairs of images, here 4 by 4. L1Loss: its gradient is as large
#: near the minimum as far away, so that the training would leap to and fro across it and amplify every rounding.
_COEF = {"RelaxBoundaryLoss": 0.0625, "L1Loss": 0.1}
#: What the labels can hold, and with them `ignore_index`.
_LABELS = np.iinfo(np.int64)


@dataclass(frozen=True)
class Head:
    """An output of the network and what its loss compares it with."""

    channels: int
    labels: str
    #: The label of ignored pixels, None where the labels have none.
    ignored: int | None
    #: Whether the loss takes (seg_logits, edge_logits).
    edges: bool
    #: Whether the loss takes noise.
    noise: bool


def config_of(loss: str) -> dict[str, Any]:
    """The configuration of one loss with its default arguments."""
    return {"types": [{"type": loss, **_ARGUMENTS.get(loss, {})}], "coef": [_COEF.get(loss, 1)]}


def read_config(path: Path) -> Any:
    """The content of a PaddleSeg loss configuration, YAML or JSON; it may be the whole training configuration."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        return json.loads(text)
    try:
        import yaml
    except ModuleNotFoundError:
        raise ValueError(f"{path}: YAML needs pyyaml, which is not installed: pip install pyyaml, or use JSON") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: {error}") from error
    except RecursionError:
        raise
    # What PyYAML does with a tag whose value is none: `!!int ""` is an IndexError, `!!bool x` a KeyError, and so on.
    except Exception as error:
        raise ValueError(f"{path}: a value does not fit its tag ({type(error).__name__}: {error})") from error


def loss_section(config: Any) -> Any:
    """The `loss` section of a configuration that holds more."""
    return config["loss"] if isinstance(config, Mapping) and "loss" in config else config


def heads_of(config: Mapping[str, Any], photographs: Photographs) -> list[Head]:
    """The heads that a configuration's losses need; raises ValueError or TypeError where it does not fit the pictures.

    Every loss is tried once on NumPy: a wrong number of class weights comes to light before any framework is started.
    """
    losses = unilossseg.build(config)["types"]
    heads = [_head(loss, f"types[{at}]") for at, loss in enumerate(losses)]
    for at, (loss, head) in enumerate(zip(losses, heads, strict=True)):
        if head.ignored is not None and not _LABELS.min <= head.ignored <= _LABELS.max:
            raise ValueError(
                f"types[{at}]: {_leaves(loss)[0].name} has ignore_index {head.ignored}, expected an int64, "
                f"{_LABELS.min} to {_LABELS.max}: choose such a one, 255 for example"
            )
        labels = labels_for(head, photographs)[0]
        shape = (labels.shape[0], head.channels, *labels.shape[-2:])
        logits: Any = np.zeros(shape, np.float32)
        inputs = {"noise": np.full(shape, 0.5, np.float32)} if head.noise else {}
        try:
            loss((logits, photographs.edges[0]) if head.edges else logits, labels, **inputs)
        except (TypeError, ValueError) as error:
            raise type(error)(f"types[{at}] with logits {shape}: {error}") from error
    return heads


def _head(loss: Any, place: str) -> Head:
    leaves = _leaves(loss)
    for kinds, what in ((_EDGE_LOSSES, "take a pair of logits"), (_REGRESSIONS, "learn intensities and not classes")):
        some = [isinstance(leaf, kinds) for leaf in leaves]
        if any(some) and not all(some):
            ours, others = leaves[some.index(True)].name, leaves[some.index(False)].name
            raise ValueError(f"{place}: losses such as {ours} {what}: they cannot share an output with {others}")
    ignored = int(getattr(leaves[0], "ignore_index", IGNORED))
    noise = any("noise" in leaf.call_inputs for leaf in leaves)
    if isinstance(leaves[0], _REGRESSIONS):
        masks = all(leaf.masks() for leaf in leaves)  # else an ignored label would be learnt as an intensity
        return Head(1, INTENSITY, ignored if masks else None, edges=False, noise=False)
    if any(isinstance(leaf, unilossseg.LovaszHingeLoss) for leaf in leaves):
        single = all(isinstance(leaf, unilossseg.LovaszHingeLoss | unilossseg.BCELoss) for leaf in leaves)
        return Head(1 if single else 2, MASK, ignored, edges=False, noise=noise)
    return Head(CLASSES, CLASS, ignored, edges=isinstance(leaves[0], _EDGE_LOSSES), noise=noise)


def _leaves(loss: Any) -> list[Any]:
    """The losses in a MixedLoss, however deep."""
    if isinstance(loss, unilossseg.MixedLoss):
        return [leaf for inner in loss.losses for leaf in _leaves(inner)]
    return [loss]


def labels_for(head: Head, photographs: Photographs) -> Array:
    """The labels of all batches in the form that a head's loss takes."""
    ignored = photographs.labels == IGNORED
    if head.labels == INTENSITY:
        labels = photographs.images
        return labels if head.ignored is None else np.where(ignored[:, :, None], np.float32(head.ignored), labels)
    labels = photographs.labels if head.labels == CLASS else (photographs.labels != BACKGROUND).astype(np.int64)
    assert head.ignored is not None
    return np.where(ignored, np.int64(head.ignored), labels)


def described(heads: Sequence[Head]) -> list[dict[str, Any]]:
    """For the record and for the workers."""
    return [asdict(head) for head in heads]


def title(config: Mapping[str, Any]) -> str:
    """A configuration in one line: `0.8 CrossEntropyLoss + 0.2 LovaszSoftmaxLoss`."""
    built = unilossseg.build(config)
    return _sum(built["types"], built["coef"])


def _sum(losses: Sequence[Any], coef: Sequence[float]) -> str:
    terms = []
    for loss, factor in zip(losses, coef, strict=True):
        mixed = isinstance(loss, unilossseg.MixedLoss)
        text = _sum(list(loss.losses), loss.coef) if mixed else loss.name
        terms.append(text if factor == 1 else f"{factor:g} ({text})" if mixed else f"{factor:g} {text}")
    return " + ".join(terms)
