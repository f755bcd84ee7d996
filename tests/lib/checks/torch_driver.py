"""Losses as torch Modules."""

from __future__ import annotations

import numpy as np
import torch
from checks.drivers import Driver
from checks.own_loss import FocalLoss

import unilossseg.torch


class TorchFocalLoss(FocalLoss, unilossseg.torch.TorchLoss):
    """As the documentation tells a user to write it."""


class TorchDriver(Driver):
    """Forward and backward as a training loop does them."""

    autograd = True

    def __init__(self, device="cpu"):
        super().__init__("torch", unilossseg.torch)
        self.device = device

    def array(self, x, dtype=None):
        tensor = torch.from_numpy(np.array(x)).to(self.device)
        return tensor if dtype is None else tensor.to(getattr(torch, dtype))

    def numpy(self, x):
        if isinstance(x, list):
            return np.stack([self.numpy(one) for one in x])
        x = x.detach().cpu()
        return (x.double() if x.dtype in (torch.float16, torch.bfloat16) else x).numpy()

    def leaf(self, x, dtype=None):
        return self.array(x, dtype).requires_grad_(True)

    def contiguous(self, x):
        return x.is_contiguous()

    def own_loss(self, loss):
        if loss is FocalLoss:
            return TorchFocalLoss
        return type(f"Torch{loss.__name__}", (loss, unilossseg.torch.TorchLoss), {})

    def parameter(self, x):
        return torch.nn.Parameter(self.array(x))

    def flags(self, x):
        return x.requires_grad, x.is_leaf, x._version

    def backward(self, loss, logits, labels, upstream, further):
        leaf = logits.detach().requires_grad_(True)
        value = self.call(loss, leaf, labels, further)
        if isinstance(value, list):
            sum(value).backward()
        else:
            value.backward(torch.ones_like(value) if upstream is None else upstream)
        return value, leaf.grad
