"""Losses as Paddle Layers."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from checks.drivers import Driver
from checks.own_loss import FocalLoss

import unilossseg.paddle


class PaddleFocalLoss(FocalLoss, unilossseg.paddle.PaddleLoss):
    """As the documentation tells a user to write it."""


class PaddleDriver(Driver):
    """Forward and backward as a training loop does them."""

    autograd = True
    # uint16 stands for bfloat16 there, and larger unsigned types do not exist.
    label_dtypes = ("uint8", "int8", "int16", "int32", "int64")

    def __init__(self):
        super().__init__("paddle", unilossseg.paddle)

    def array(self, x, dtype=None):
        tensor = paddle.to_tensor(np.array(x), place=paddle.CPUPlace())
        return tensor if dtype is None else tensor.astype(dtype)

    def numpy(self, x):
        if isinstance(x, list):
            return np.stack([self.numpy(one) for one in x])
        x = x.detach()
        return (x.astype("float64") if x.dtype in (paddle.float16, paddle.bfloat16) else x).numpy()

    def leaf(self, x, dtype=None):
        tensor = self.array(x, dtype)
        tensor.stop_gradient = False
        return tensor

    def needs(self, dtype):
        if dtype == "float16":
            pytest.skip("Paddle has hardly any float16 kernel for the CPU")

    def halve_one_more(self, value):
        # There `+=` makes another tensor.
        value.add_(paddle.ones_like(value))
        value.scale_(0.5)

    def fill(self, x, number):
        x.fill_(number)

    def contiguous(self, x):
        return x.is_contiguous()

    def own_loss(self, loss):
        if loss is FocalLoss:
            return PaddleFocalLoss
        return type(f"Paddle{loss.__name__}", (loss, unilossseg.paddle.PaddleLoss), {})

    def parameter(self, x):
        start = paddle.nn.initializer.Assign(x)
        return paddle.create_parameter(x.shape, str(x.dtype), default_initializer=start)

    def flags(self, x):
        return x.stop_gradient, x.is_leaf, x.inplace_version

    def backward(self, loss, logits, labels, upstream, further):
        leaf = logits.detach()
        leaf.stop_gradient = False
        value = self.call(loss, leaf, labels, further)
        if isinstance(value, list):
            sum(value).backward()
        else:
            value.backward(upstream)
        return value, leaf.grad
