"""Tensors that no loss takes: other frameworks' arrays, other dtypes and shapes."""

import numpy as np
import paddle
from checks.mistakes import *  # noqa: F403  each of its tests
from checks.tables import check, parametrized

import unilossseg.paddle

Z = paddle.randn([2, 3, 4, 5])
Y = paddle.randint(0, 3, [2, 4, 5])
NAMES = {name: getattr(unilossseg.paddle, name) for name in unilossseg.LOSSES}
NAMES.update(np=np, paddle=paddle, Z=Z, Y=Y)
TABLE = """
DiceLoss()(Z, Y.numpy()) | TypeError | labels are a numpy.ndarray | logits a paddle.Tensor | paddle backend
DiceLoss()(Z.numpy(), Y) | TypeError | labels are a paddle.Tensor | logits a numpy.ndarray | numpy backend
EdgeAttentionLoss()((Z, Z[:, :1].numpy()), Y) | TypeError | edge_logits are a numpy.ndarray | logits a paddle.Tensor
DualTaskLoss()(Z, Y, noise=np.zeros((2, 3, 4, 5))) | TypeError | noise are a numpy.ndarray | logits a paddle.Tensor
CrossEntropyLoss()(Z, Y.tolist()) | TypeError | labels must be an array | list
CrossEntropyLoss()(Z, None) | TypeError | labels must be an array | got None
CrossEntropyLoss()(Z.argmax(1), Y) | TypeError | logits have dtype paddle.int64 | expected float16, bfloat16
DiceLoss()(Z, Y.astype("float32")) | TypeError | labels have dtype paddle.float32 | expected integers | int64
DiceLoss()(Z, Y[0]) | ValueError | labels have shape (4, 5) | expected (2, 4, 5) or (2, 1, 4, 5) | logits (2, 3, 4, 5)
DiceLoss()(Z[0, 0, 0], Y) | ValueError | logits have shape (5,) | expected (N, C, *S)
DiceLoss()(Z[:0], Y[:0]) | ValueError | logits have shape (0, 3, 4, 5) | at least one
DiceLoss(weight=paddle.ones([2, 2])) | ValueError | weight must be a sequence or 1-D array | got shape (2, 2)
DiceLoss(weight=paddle.ones([2]))(Z, Y) | ValueError | weight has 2 entries | logits have 3 channels
DiceLoss(weight=paddle.to_tensor([1.0, -1.0, 1.0])) | ValueError | weight[1] must be | at least 0 | got -1.0
DiceLoss(smooth=paddle.ones([2])) | TypeError | smooth must be a finite number at least 0 | Tensor
MixedLoss([paddle.nn.CrossEntropyLoss], 1) | TypeError | losses[0] must be a loss | type
MixedLoss([DiceLoss()], 1)(Z, Y, noise=Z) | TypeError | unexpected input 'noise'
CrossEntropyLoss()(Z, Y, noise=Z) | TypeError | unexpected input 'noise' | logits, labels and validate, semantic_weights
OhemCrossEntropyLoss()((Z, Z), Y) | TypeError | logits must be one array | got a tuple of 2
RelaxBoundaryLoss()(Z[:, :, 0], Y[:, 0]) | ValueError | logits have shape (2, 3, 5) | expected (N, C, H, W)
"""


@parametrized(TABLE)
def test_bad_call(row):
    check(row, NAMES)


def test_a_tensor_of_one_number_is_a_number():
    assert unilossseg.paddle.DiceLoss(smooth=paddle.to_tensor(0.5)).smooth == 0.5
    assert unilossseg.paddle.DiceLoss(paddle.to_tensor(7)).ignore_index == 7
