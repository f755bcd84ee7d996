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

import functools
import types
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from unilossseg import _fields, losses
from unilossseg._loss import Loss
from unilossseg.backends import get_backend, register

# Found here and not at the first call: torch.compile cannot trace an import, nor the search for a subclass's backend.
register(get_backend("torch"), torch.Tensor, nn.Parameter)
# Where a Module keeps what it has registered.
_PLACES = ("_modules", "_parameters")


class TorchLoss(Loss, nn.Module):
    """Turns a loss into a Module: `class TorchFocalLoss(FocalLoss, TorchLoss)`.

    It has no buffers, and no parameters but those that a field was given as nn.Parameter: class weights follow the logits'
    device and dtype by themselves.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> TorchLoss:
        """Makes it a Module before the dataclass sets its first field."""
        self = super().__new__(cls)
        nn.Module.__init__(self)
        return self

    def __init_subclass__(cls, **options: Any) -> None:
        """Gives it a `forward` with code of its own: torch.compile limits how often it compiles one code, and a few losses
        with the same would be at the limit.
        """
        super().__init_subclass__(**options)
        if _is_ours(cls.forward):
            # One that a user has written stays before ours, in whichever order the bases come.
            bases = cls.__mro__[: cls.__mro__.index(TorchLoss)]
            found = [base.__dict__["forward"] for base in bases if "forward" in base.__dict__]
            written = [forward for forward in found if not _is_ours(forward)]
            cls.forward = written[0] if written else _own_forward(cls)  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: Any) -> None:
        """Parameters of the loss are plain attributes: a tensor of class weights must not become a buffer or parameter.
        What is a Module or an nn.Parameter is registered.
        """
        if name in self.__dataclass_fields__:
            value = self._parameter(name, value)
            if not isinstance(value, nn.Module | nn.Parameter):
                self._modules.pop(name, None)
                self._parameters.pop(name, None)
                object.__setattr__(self, name, value)
                return
            _fields.unhide(type(self), name, _PLACES)
            if isinstance(value, nn.Parameter):
                # torch refuses a name that is an attribute already, as a field with a default is, but not a parameter's.
                self._parameters.setdefault(name, None)
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copied and unpickled losses are set without `__setattr__`."""
        super().__setstate__(state)
        for name in self.__dataclass_fields__.keys() & {*self._modules, *self._parameters}:
            _fields.unhide(type(self), name, _PLACES)

    def _learned(self) -> Iterable[torch.Tensor]:
        """Its nn.Parameters, and those of its Modules."""
        return self.parameters() if self._parameters or self._modules else ()

    def forward(self, logits: Any, labels: torch.Tensor, **inputs: Any) -> Any:
        """The loss of logits (N, C, *S) and labels (N, *S) or (N, 1, *S)."""
        return self.evaluate(logits, labels, **inputs)

    # Module's call, so that hooks run.
    __call__ = nn.Module.__call__


def _is_ours(forward: Any) -> bool:
    """Whether it is TorchLoss's own, or a copy of it: codes are equal that say the same."""
    return getattr(forward, "__code__", None) == TorchLoss.forward.__code__


def _own_forward(cls: type) -> Any:
    """TorchLoss's own with another code object."""
    ours = TorchLoss.forward
    copy = types.FunctionType(ours.__code__.replace(), ours.__globals__, argdefs=ours.__defaults__)
    functools.update_wrapper(copy, ours)
    copy.__module__, copy.__qualname__ = cls.__module__, f"{cls.__qualname__}.{copy.__name__}"
    return copy


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
