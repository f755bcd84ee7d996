"""What torch users have: torch itself, segmentation-models-pytorch, MONAI, kornia, and the usual OHEM written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.peers import Build, Peer, of_labels
from benchmarks.peers.loading import part_of
from benchmarks.rows import Row, Shape

Inputs = Mapping[str, Any]
Value = Callable[[Any], Any]

_SMP = "segmentation_models_pytorch"
PER_IMAGE = "computed per image, then averaged"
ALL_CLASSES = f"{PER_IMAGE}, over all classes"


def _smp() -> ModuleType:
    return part_of(_SMP, (_SMP,), f"{_SMP}.losses")


# ------------------------------------------------------------------------------------------------- cross entropy
def _cross_entropy(row: Row, shape: Shape, inputs: Inputs) -> Value:
    labels = inputs["labels"]
    return lambda logits: F.cross_entropy(logits, labels, ignore_index=255)


def _smp_cross_entropy(row: Row, shape: Shape, inputs: Inputs) -> Value:
    loss, labels = _smp().SoftCrossEntropyLoss(smooth_factor=0.0, ignore_index=255), inputs["labels"]
    return lambda logits: loss(logits, labels)


def _top_k(row: Row, shape: Shape, inputs: Inputs) -> Value:
    labels, count = inputs["labels"], int(row.arguments(shape)["top_k_percent_pixels"] * shape.pixels)

    def value(logits: Any) -> Any:
        losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none")
        return torch.topk(losses.flatten(), count, sorted=False).values.mean()

    return value


def _bootstrapped(row: Row, shape: Shape, inputs: Inputs) -> Value:
    labels, arguments = inputs["labels"], row.arguments(shape)
    least, threshold = arguments["min_K"], arguments["loss_th"]

    def value(logits: Any) -> Any:
        losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none").flatten(1)
        means = []
        for image in losses:
            ordered = torch.sort(image, descending=True).values
            means.append(ordered[ordered > threshold].mean() if ordered[least] > threshold else ordered[:least].mean())
        return torch.stack(means).mean()

    return value


def _bootstrapped_by_top(row: Row, shape: Shape, inputs: Inputs) -> Value:
    labels, arguments = inputs["labels"], row.arguments(shape)
    least, threshold = arguments["min_K"], arguments["loss_th"]

    def value(logits: Any) -> Any:
        losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none").flatten(1)
        hardest = torch.topk(losses, least + 1, dim=1).values
        above = losses > threshold
        mean_above = torch.where(above, losses, 0).sum(dim=1) / above.sum(dim=1).clamp(min=1)
        return torch.where(hardest[:, least] > threshold, mean_above, hardest[:, :least].mean(dim=1)).mean()

    return value


def _ohem(row: Row, shape: Shape, inputs: Inputs) -> Value:
    labels, least = inputs["labels"], row.arguments(shape)["min_kept"]

    def value(logits: Any) -> Any:
        losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none").flatten()
        with torch.no_grad():
            valid = labels != 255
            sure = logits.softmax(dim=1).gather(1, (labels * valid).unsqueeze(1)).flatten()
            sure = sure.masked_fill(~valid.flatten(), torch.inf)
            threshold = torch.sort(sure).values[least - 1].clamp(min=0.7)
            kept = sure < threshold
        return losses[kept].mean()

    return value


def _ohem_by_select(row: Row, shape: Shape, inputs: Inputs) -> Value:
    """The same with one softmax, and a selection instead of a sort."""
    labels, least = inputs["labels"], row.arguments(shape)["min_kept"]

    def value(logits: Any) -> Any:
        losses = F.cross_entropy(logits, labels, ignore_index=255, reduction="none").flatten()
        with torch.no_grad():
            sure = torch.exp(-losses).masked_fill(labels.flatten() == 255, torch.inf)
            kept = sure < torch.kthvalue(sure, least).values.clamp(min=0.7)
        return torch.where(kept, losses, 0).sum() / kept.sum()

    return value


# ------------------------------------------------------------------------------------------------- overlap
def _smp_dice(row: Row, shape: Shape, inputs: Inputs) -> Value:
    loss, labels = _smp().DiceLoss("multiclass", from_logits=True, ignore_index=255), inputs["labels"]
    return lambda logits: loss(logits, labels)


def _monai_dice(row: Row, shape: Shape, inputs: Inputs) -> Value:
    from monai.losses import DiceLoss

    loss, labels = DiceLoss(softmax=True, to_onehot_y=True), inputs["labels"].unsqueeze(1)
    return lambda logits: loss(logits, labels)


def _kornia_dice(row: Row, shape: Shape, inputs: Inputs) -> Value:
    from kornia.losses import dice_loss

    labels = inputs["labels"]
    return lambda logits: dice_loss(logits, labels, average="macro")


def _smp_lovasz(row: Row, shape: Shape, inputs: Inputs) -> Value:
    loss, labels = _smp().LovaszLoss("multiclass", from_logits=True), inputs["labels"]
    return lambda logits: loss(logits, labels)


def _kornia_lovasz(row: Row, shape: Shape, inputs: Inputs) -> Value:
    from kornia.losses import lovasz_softmax_loss

    labels = inputs["labels"]
    return lambda logits: lovasz_softmax_loss(logits, labels)


def _smp_hinge(row: Row, shape: Shape, inputs: Inputs) -> Value:
    loss, labels = _smp().LovaszLoss("binary", from_logits=True), inputs["labels"]
    return lambda logits: loss(logits, labels)


def _kornia_hinge(row: Row, shape: Shape, inputs: Inputs) -> Value:
    from kornia.losses import lovasz_hinge_loss

    labels = inputs["labels"].squeeze(1)
    return lambda logits: lovasz_hinge_loss(logits, labels)


# ------------------------------------------------------------------------------------------------- element by element
def _bce(row: Row, shape: Shape, inputs: Inputs) -> Value:
    labels = inputs["labels"]
    return lambda logits: F.binary_cross_entropy_with_logits(logits, labels)


def _smp_bce(row: Row, shape: Shape, inputs: Inputs) -> Value:
    loss, labels = _smp().SoftBCEWithLogitsLoss(ignore_index=255), inputs["labels"]
    return lambda logits: loss(logits, labels)


def _bce_dynamic(row: Row, shape: Shape, inputs: Inputs) -> Value:
    labels = inputs["labels"]

    def value(logits: Any) -> Any:
        share = labels.mean()
        weight = torch.where(labels == 1, 2 * (1 - share), 2 * share)
        return F.binary_cross_entropy_with_logits(logits, labels, weight=weight)

    return value


def _mixed_with(part: Build) -> Build:
    """Cross entropy and a Lovász loss."""

    def build(row: Row, shape: Shape, inputs: Inputs) -> Value:
        first, second = row.arguments(shape)["coef"]
        entropy, lovasz = _cross_entropy(row, shape, inputs), part(row, shape, inputs)
        return lambda logits: first * entropy(logits) + second * lovasz(logits)

    return build


PEERS: dict[str, tuple[Peer, ...]] = {
    "CrossEntropyLoss": (
        Peer("torch cross_entropy", _cross_entropy),
        Peer("smp SoftCrossEntropyLoss", _smp_cross_entropy, note="smooth_factor is 0: its default, None, is an error"),
    ),
    "CrossEntropyLoss top-k": (Peer("torch cross_entropy and topk", _top_k),),
    "BootstrappedCrossEntropyLoss": (
        Peer("torch cross_entropy and sort", _bootstrapped),
        Peer("torch cross_entropy and topk", _bootstrapped_by_top),
    ),
    "OhemCrossEntropyLoss": (
        Peer("torch OHEM, written out", _ohem),
        Peer("torch OHEM, by kthvalue", _ohem_by_select),
    ),
    "DiceLoss": (
        Peer("smp DiceLoss", _smp_dice, "sums over the whole batch, not per image", "whole batch"),
        Peer("MONAI DiceLoss", _monai_dice),
        Peer("kornia dice_loss", _kornia_dice, "leaves out the classes that an image lacks", "classes present"),
    ),
    "LovaszSoftmaxLoss": (
        Peer("smp LovaszLoss", _smp_lovasz),
        Peer("kornia lovasz_softmax_loss", _kornia_lovasz, ALL_CLASSES, "per image, all classes"),
    ),
    "LovaszHingeLoss": (
        Peer("smp LovaszLoss", _smp_hinge),
        Peer("kornia lovasz_hinge_loss", _kornia_hinge, PER_IMAGE, "per image"),
    ),
    "BCELoss": (Peer("torch binary_cross_entropy_with_logits", _bce), Peer("smp SoftBCEWithLogitsLoss", _smp_bce)),
    "BCELoss dynamic": (Peer("torch binary_cross_entropy_with_logits, weighted", _bce_dynamic),),
    "L1Loss": (Peer("torch l1_loss", of_labels(F.l1_loss)),),
    "MSELoss": (Peer("torch mse_loss", of_labels(F.mse_loss)),),
    "MixedLoss": (
        Peer("torch cross_entropy and smp LovaszLoss", _mixed_with(_smp_lovasz)),
        Peer(
            "torch cross_entropy and kornia lovasz_softmax_loss", _mixed_with(_kornia_lovasz), ALL_CLASSES, "kornia's parts"
        ),
    ),
}
#: The packages whose versions are recorded.
PACKAGES = ("torch", "segmentation-models-pytorch", "monai", "kornia", "numpy")
