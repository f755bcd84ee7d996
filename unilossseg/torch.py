"""The losses as `torch.nn.Module`.

>>> import torch
>>> from unilossseg.torch import DiceLoss
>>> loss = DiceLoss(smooth=1.0)
>>> logits = torch.zeros((1, 2, 4, 4), requires_grad=True)
>>> loss(logits, torch.zeros((1, 4, 4), dtype=torch.int64)).backward()
>>> logits.grad.shape
torch.Size([1, 2, 4, 4])
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from unilossseg import losses
from unilossseg._loss import Loss
from unilossseg.backends import get_backend, register

# Found here and not at the first call: torch.compile cannot trace an import.
register(get_backend("torch"), torch.Tensor)


class TorchLoss(Loss, nn.Module):
    """Turns a loss into a Module: `class TorchFocalLoss(FocalLoss, TorchLoss)`.

    It has no parameters and no buffers: class weights follow the logits' device and dtype by themselves.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> TorchLoss:
        """Makes it a Module before the dataclass sets its first field."""
        self = super().__new__(cls)
        nn.Module.__init__(self)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """Parameters of the loss are plain attributes: a tensor of class weights must not become a buffer or parameter."""
        if name in self.__dataclass_fields__ and not isinstance(value, nn.Module):
            object.__setattr__(self, name, self._parameter(name, value))
        else:
            super().__setattr__(name, value)

    def forward(self, logits: Any, labels: torch.Tensor, **inputs: Any) -> Any:
        """The loss of logits (N, C, *S) and labels (N, *S) or (N, 1, *S)."""
        return self.evaluate(logits, labels, **inputs)

    # Module's call, so that hooks run.
    __call__ = nn.Module.__call__


class BCELoss(losses.BCELoss, TorchLoss):
    __doc__ = losses.BCELoss.__doc__


class BootstrappedCrossEntropyLoss(losses.BootstrappedCrossEntropyLoss, TorchLoss):
    __doc__ = losses.BootstrappedCrossEntropyLoss.__doc__


class CrossEntropyLoss(losses.CrossEntropyLoss, TorchLoss):
    __doc__ = losses.CrossEntropyLoss.__doc__


class RelaxBoundaryLoss(losses.RelaxBoundaryLoss, TorchLoss):
    __doc__ = losses.RelaxBoundaryLoss.__doc__


class DiceLoss(losses.DiceLoss, TorchLoss):
    __doc__ = losses.DiceLoss.__doc__


class EdgeAttentionLoss(losses.EdgeAttentionLoss, TorchLoss):
    __doc__ = losses.EdgeAttentionLoss.__doc__


class DualTaskLoss(losses.DualTaskLoss, TorchLoss):
    __doc__ = losses.DualTaskLoss.__doc__


class L1Loss(losses.L1Loss, TorchLoss):
    __doc__ = losses.L1Loss.__doc__


class MSELoss(losses.MSELoss, TorchLoss):
    __doc__ = losses.MSELoss.__doc__


class OhemCrossEntropyLoss(losses.OhemCrossEntropyLoss, TorchLoss):
    __doc__ = losses.OhemCrossEntropyLoss.__doc__


class OhemEdgeAttentionLoss(losses.OhemEdgeAttentionLoss, TorchLoss):
    __doc__ = losses.OhemEdgeAttentionLoss.__doc__


class LovaszSoftmaxLoss(losses.LovaszSoftmaxLoss, TorchLoss):
    __doc__ = losses.LovaszSoftmaxLoss.__doc__


class LovaszHingeLoss(losses.LovaszHingeLoss, TorchLoss):
    __doc__ = losses.LovaszHingeLoss.__doc__


class MixedLoss(losses.MixedLoss, TorchLoss):
    __doc__ = losses.MixedLoss.__doc__

    def _kept(self, losses: list[Any]) -> Any:
        return self._registered(losses, nn.Module, nn.ModuleList, nn.ModuleDict)


__all__ = ["TorchLoss", *losses.LOSSES]
