"""Tensors that no loss takes: other frameworks' arrays, other devices, other dtypes."""

import numpy as np
import pytest
import torch
from checks.mistakes import *  # noqa: F403  each of its tests
from checks.tables import check, parametrized

import unilossseg.torch

Z = torch.randn(2, 3, 4, 5)
Y = torch.randint(0, 3, (2, 4, 5))
NAMES = {name: getattr(unilossseg.torch, name) for name in unilossseg.LOSSES}
NAMES.update(np=np, torch=torch, Z=Z, Y=Y)
TABLE = """
DiceLoss()(Z, Y.numpy()) | TypeError | labels are a numpy.ndarray | logits a torch.Tensor | torch backend
DiceLoss()(Z.numpy(), Y) | TypeError | labels are a torch.Tensor | logits a numpy.ndarray | numpy backend
EdgeAttentionLoss()((Z, Z[:, :1].numpy()), Y) | TypeError | edge_logits are a numpy.ndarray | logits a torch.Tensor
DualTaskLoss()(Z, Y, noise=np.zeros((2, 3, 4, 5))) | TypeError | noise are a numpy.ndarray | logits a torch.Tensor
CrossEntropyLoss()(Z, Y.tolist()) | TypeError | labels must be an array | list
CrossEntropyLoss()(Z, None) | TypeError | labels must be an array | got None
CrossEntropyLoss()(Z, Y.to("meta")) | ValueError | labels are on device meta and logits on cpu | move them to cpu
CrossEntropyLoss()(Z.to("meta"), Y) | ValueError | labels are on device cpu and logits on meta | move them to meta
EdgeAttentionLoss()((Z, Z[:, :1].to("meta")), Y) | ValueError | edge_logits are on device meta and logits on cpu
CrossEntropyLoss()(Z.argmax(1), Y) | TypeError | logits have dtype torch.int64 | expected float16, bfloat16
CrossEntropyLoss()(Z + 0j, Y) | TypeError | logits have dtype torch.complex64 | expected float16
DiceLoss()(Z, Y.float()) | TypeError | labels have dtype torch.float32 | expected integers | int64
DiceLoss()(Z, Y[0]) | ValueError | labels have shape (4, 5) | expected (2, 4, 5) or (2, 1, 4, 5) | logits (2, 3, 4, 5)
DiceLoss()(Z[..., :0], Y[..., :0]) | ValueError | logits have shape (2, 3, 4, 0) | at least one
DiceLoss(weight=torch.ones(2, 2)) | ValueError | weight must be a sequence or 1-D array | got shape (2, 2)
DiceLoss(weight=torch.ones(2))(Z, Y) | ValueError | weight has 2 entries | logits have 3 channels
DiceLoss(weight=torch.tensor([1.0, -1.0, 1.0])) | ValueError | weight[1] must be | at least 0 | got -1.0
LovaszSoftmaxLoss(classes=np.array([[0, 1]])) | TypeError | classes must be 'present', 'all' or a list | got array([[0, 1]])
DiceLoss(smooth=torch.ones(2)) | TypeError | smooth must be a finite number at least 0 | Tensor
MixedLoss([torch.nn.CrossEntropyLoss], 1) | TypeError | losses[0] must be a loss | type
MixedLoss([DiceLoss()], 1)(Z, Y, noise=Z) | TypeError | unexpected input 'noise'
CrossEntropyLoss()(Z, Y, noise=Z) | TypeError | unexpected input 'noise' | logits, labels and validate, semantic_weights
OhemCrossEntropyLoss()((Z, Z), Y) | TypeError | logits must be one array | got a tuple of 2
"""


@parametrized(TABLE)
def test_bad_call(row):
    check(row, NAMES)


def test_a_sparse_gradient_of_another_shape_is_torch_s_to_refuse():
    leaf = Z.clone().requires_grad_(True)
    with pytest.raises(RuntimeError, match="shape"):
        unilossseg.torch.DiceLoss()(leaf, Y).backward(torch.ones(2))


def test_a_tensor_of_one_number_is_a_number():
    assert unilossseg.torch.DiceLoss(smooth=torch.tensor(0.5)).smooth == 0.5
    assert unilossseg.torch.DiceLoss(torch.tensor(7)).ignore_index == 7
