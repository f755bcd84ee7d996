"""The losses as `paddle.nn.Layer`.

>>> import paddle
>>> from unilossseg.paddle import DiceLoss
>>> loss = DiceLoss(smooth=1.0)
>>> logits = paddle.zeros([1, 2, 4, 4])
>>> logits.stop_gradient = False
>>> loss(logits, paddle.zeros([1, 4, 4], dtype="int64")).backward()
>>> list(logits.grad.shape)
[1, 2, 4, 4]

Paddle itself crashes when `backward` runs twice through one graph with a custom gradient (`retain_graph=True`, in 2.6 and
3.3 alike): compute such a loss inside `unilossseg.plain_formula()`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import paddle
from paddle import nn
from paddle.base.framework import Parameter

from unilossseg import _fields, backends, losses
from unilossseg._loss import Loss

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _as_it_stands(function: _Function) -> _Function:
    """Lets `paddle.jit.to_static(full_graph=True)` trace a function without rewriting its source, and all that it calls.

    The rewriting is for branches on values: losses have none.
    """
    paddle.jit.not_to_static(function)
    return function


def _without_bytecode_tracing() -> None:
    """Has Paddle's bytecode tracer, the default of `paddle.jit.to_static`, call losses between its programs as they are.

    It would break its program in the middle of a loss, and fail on what it then has to carry over.
    """
    try:
        skipped = importlib.import_module("paddle.jit.sot.opcode_translator.skip_files")
    except ImportError:
        return
    if hasattr(skipped, "skip_file_names") and hasattr(skipped, "setup_skip_files"):
        skipped.skip_file_names.update(f"{Path(file).parent}{os.sep}" for file in (__file__, str(backends.__file__)))
        skipped.setup_skip_files()


_without_bytecode_tracing()
# Found here and not in the first call: it takes a twentieth of a second.
backends.register(backends.get_backend("paddle"), paddle.Tensor)
# Where a Layer keeps what it has registered.
_PLACES = ("_sub_layers", "_parameters")


class PaddleLoss(Loss, nn.Layer):
    """Turns a loss into a Layer: `class PaddleFocalLoss(FocalLoss, PaddleLoss)`.

    It has no buffers, and no parameters but those that a field was given as Paddle's Parameter: class weights follow the
    logits' place and dtype by themselves.

    `paddle.jit.to_static` feeds a traced layer only with arguments that its `forward` names: a loss with `call_inputs` of
    its own overrides it, as `DualTaskLoss` does.
    """

    def __new__(cls, *args: Any, **kwargs: Any) -> PaddleLoss:
        """Makes it a Layer before the dataclass sets its first field."""
        self = super().__new__(cls)
        nn.Layer.__init__(self)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        """Parameters of the loss are plain attributes: a tensor of class weights must not become a buffer or parameter.
        What is a Layer or a Parameter of Paddle's is registered.
        """
        if name in self.__dataclass_fields__:
            value = self._parameter(name, value)
            if not isinstance(value, nn.Layer | Parameter):
                self._sub_layers.pop(name, None)
                self._parameters.pop(name, None)
                object.__setattr__(self, name, value)
                return
            _fields.unhide(type(self), name, _PLACES)
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Copied and unpickled losses are set without `__setattr__`."""
        super().__setstate__(state)
        for name in self.__dataclass_fields__.keys() & {*self._sub_layers, *self._parameters}:
            _fields.unhide(type(self), name, _PLACES)

    def _learned(self) -> Iterable[paddle.Tensor]:
        """Its Parameters, and those of its Layers."""
        return self.parameters() if self._parameters or self._sub_layers else ()

    @_as_it_stands
    def forward(self, logits: Any, labels: paddle.Tensor, **inputs: Any) -> Any:
        """The loss of logits (N, C, *S) and labels (N, *S) or (N, 1, *S)."""
        return self.evaluate(logits, labels, **inputs)

    # Layer's call, so that hooks run.
    __call__ = nn.Layer.__call__


# A loss that is no Layer can be called in a traced function too.
_as_it_stands(Loss.__call__)


def _given(**inputs: Any) -> dict[str, Any]:
    """Those that a call brought."""
    return {name: value for name, value in inputs.items() if value is not None}


class BCELoss(losses.BCELoss, PaddleLoss):
    __doc__ = losses.BCELoss.__doc__


class BootstrappedCrossEntropyLoss(losses.BootstrappedCrossEntropyLoss, PaddleLoss):
    __doc__ = losses.BootstrappedCrossEntropyLoss.__doc__


class CrossEntropyLoss(losses.CrossEntropyLoss, PaddleLoss):
    __doc__ = losses.CrossEntropyLoss.__doc__

    @_as_it_stands
    def forward(self, logits: Any, labels: paddle.Tensor, semantic_weights: Any = None, **inputs: Any) -> Any:
        """The loss of logits (N, C, *S) and labels (N, *S) or (N, 1, *S); `semantic_weights` (N, *S)."""
        return super().forward(logits, labels, **_given(semantic_weights=semantic_weights), **inputs)


class RelaxBoundaryLoss(losses.RelaxBoundaryLoss, PaddleLoss):
    __doc__ = losses.RelaxBoundaryLoss.__doc__


class DiceLoss(losses.DiceLoss, PaddleLoss):
    __doc__ = losses.DiceLoss.__doc__


class EdgeAttentionLoss(losses.EdgeAttentionLoss, PaddleLoss):
    __doc__ = losses.EdgeAttentionLoss.__doc__


class DualTaskLoss(losses.DualTaskLoss, PaddleLoss):
    __doc__ = losses.DualTaskLoss.__doc__

    @_as_it_stands
    def forward(self, logits: Any, labels: paddle.Tensor, noise: Any = None, **inputs: Any) -> Any:
        """The loss of logits (N, C, H, W) and labels (N, H, W) or (N, 1, H, W); `noise` has the logits' shape."""
        return super().forward(logits, labels, **_given(noise=noise), **inputs)


class L1Loss(losses.L1Loss, PaddleLoss):
    __doc__ = losses.L1Loss.__doc__


class MSELoss(losses.MSELoss, PaddleLoss):
    __doc__ = losses.MSELoss.__doc__


class OhemCrossEntropyLoss(losses.OhemCrossEntropyLoss, PaddleLoss):
    __doc__ = losses.OhemCrossEntropyLoss.__doc__


class OhemEdgeAttentionLoss(losses.OhemEdgeAttentionLoss, PaddleLoss):
    __doc__ = losses.OhemEdgeAttentionLoss.__doc__


class LovaszSoftmaxLoss(losses.LovaszSoftmaxLoss, PaddleLoss):
    __doc__ = losses.LovaszSoftmaxLoss.__doc__


class LovaszHingeLoss(losses.LovaszHingeLoss, PaddleLoss):
    __doc__ = losses.LovaszHingeLoss.__doc__


class MixedLoss(losses.MixedLoss, PaddleLoss):
    __doc__ = losses.MixedLoss.__doc__

    @_as_it_stands
    def forward(
        self, logits: Any, labels: paddle.Tensor, semantic_weights: Any = None, noise: Any = None, **inputs: Any
    ) -> Any:
        """The losses of logits and labels; further inputs go to the losses that take them."""
        return super().forward(logits, labels, **_given(semantic_weights=semantic_weights, noise=noise), **inputs)

    def _kept(self, losses: list[Any]) -> Any:
        return self._registered(losses, nn.Layer, nn.LayerList, nn.LayerDict)


__all__ = ["PaddleLoss", *losses.LOSSES]
