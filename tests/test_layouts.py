"""Logits whose pixels do not lie side by side: in the loops like others, in a copy. And arrays that no loss takes."""

import numpy as np
import pytest

import unilossseg
from unilossseg.backends import get_backend
from unilossseg.backends._bfloat16 import rounded

LOSSES = [
    unilossseg.CrossEntropyLoss(weight=[1.0, 2.0, 0.5, 1.5, 3.0]),
    unilossseg.CrossEntropyLoss(top_k_percent_pixels=0.3),
    unilossseg.OhemCrossEntropyLoss(min_kept=100),
    unilossseg.DiceLoss(),
    unilossseg.LovaszSoftmaxLoss(),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_channels_last_logits_give_the_bits_of_others(loss, dtype):
    rng = np.random.default_rng(2)
    last = rng.normal(size=(2, 40, 50, 5)).astype(dtype).transpose(0, 3, 1, 2)
    labels = rng.integers(0, 5, (2, 40, 50))
    call = unilossseg.value_and_grad(loss)
    found, expected = call(last, labels), call(np.ascontiguousarray(last), labels)
    assert last.strides[1] == last.itemsize
    assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_rows_are_taken_as_they_lie_and_others_copied():
    ops = get_backend("numpy")
    x = np.arange(2 * 3 * 5000, dtype=np.float32).reshape(2, 3, 5000)
    for rows in (x, x[:, ::2, 7:], x[..., :1].transpose(1, 0, 2)):
        assert ops.in_rows(rows) is rows
    for turned in (np.asfortranarray(x), x[..., ::-1], x[..., ::3], rounded(np.asfortranarray(x))):
        copy = ops.in_rows(turned)
        assert copy.flags.c_contiguous
        assert np.array_equal(copy, turned)


def test_a_mask_is_refused_and_not_lost():
    logits, labels = np.zeros((1, 2, 3), np.float32), np.array([[0, 1, 1]])
    mask = np.array([[True, False, False]])
    with pytest.raises(TypeError, match="DiceLoss: labels have layout masked, expected a dense array"):
        unilossseg.DiceLoss()(logits, np.ma.array(labels, mask=mask))
    with pytest.raises(TypeError, match="DiceLoss: logits have layout masked"):
        unilossseg.DiceLoss()(np.ma.array(logits), labels)
