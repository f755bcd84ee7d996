"""Logits whose pixels do not lie side by side: in the loops like others, in a copy. And arrays that no loss takes."""

from dataclasses import dataclass

import numpy as np
import pytest

import unilossseg
from unilossseg import _pixels
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


JOINED = [
    *(loss for loss in LOSSES if loss.name != "DiceLoss"),
    unilossseg.EdgeAttentionLoss(),
    unilossseg.OhemEdgeAttentionLoss(min_kept=100),
]


def pixels_of(dtype, channels=5):
    """The same pixels without spatial axes, more of them than a chunk has, and as one image."""
    rng = np.random.default_rng(3)
    rows, labels = rng.normal(size=(70_000, channels)).astype(dtype), rng.integers(0, channels, 70_000)
    labels[::7] = 255
    return (rows, labels), (np.ascontiguousarray(rows.T)[None], labels[None])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("loss", JOINED, ids=lambda loss: loss.name)
def test_pixels_without_spatial_axes_give_the_bits_of_an_image(loss, dtype):
    (rows, labels), (image, whole) = pixels_of(dtype)
    call = unilossseg.value_and_grad(loss)
    if "EdgeAttention" in loss.name:
        edges = np.random.default_rng(4).uniform(0, 2, (70_000, 1)).astype(dtype)
        rows, image = (rows, edges), (image, edges.reshape(1, 1, -1))
    (value, gradient), (expected, slopes) = call(rows, labels), call(image, whole)
    assert value == expected
    assert np.array_equal(gradient, slopes[0].T)
    # What a framework's autograd takes as it is.
    assert gradient.flags.c_contiguous


def test_weights_of_pixels_without_spatial_axes_go_with_them():
    (rows, labels), (image, whole) = pixels_of(np.float32)
    weights = np.random.default_rng(5).uniform(0, 2, 70_000).astype(np.float32)
    call = unilossseg.value_and_grad(unilossseg.CrossEntropyLoss(top_k_percent_pixels=0.4))
    value, gradient = call(rows, labels, semantic_weights=weights)
    expected, slopes = call(image, whole, semantic_weights=weights[None])
    assert value == expected
    assert np.array_equal(gradient, slopes[0].T)


def test_a_hinge_of_pixels_without_spatial_axes_gives_the_bits_of_an_image():
    (rows, labels), (image, whole) = pixels_of(np.float32, channels=2)
    call = unilossseg.value_and_grad(unilossseg.LovaszHingeLoss())
    (value, gradient), (expected, slopes) = call(rows, labels), call(image, whole)
    assert value == expected
    assert np.array_equal(gradient, slopes[0].T)


@dataclass(eq=False)
class MeanOfImages(unilossseg.CrossEntropyLoss):
    """Each image counts as much as another, however many of its pixels do."""

    def pixel_weights(self, ops, losses, pixels, **inputs):
        xp, weights = ops.xp, _pixels.as_weights(ops, pixels.valid, losses)
        return weights / xp.maximum(xp.sum(weights, axis=1, keepdims=True), xp.ones_like(weights[:1, :1])) / len(weights)


def test_a_loss_with_weights_of_its_own_sees_the_images():
    logits, labels = np.zeros((4, 3), np.float32), np.array([0, 255, 255, 255])
    # One of four images has a pixel that counts; of one image of four pixels it would be the mean.
    assert unilossseg.value_and_grad(MeanOfImages())(logits, labels)[0] == np.float32(np.log(3)) / 4


class HardestOfImages(unilossseg.OhemCrossEntropyLoss):
    """Of each image its hardest pixel."""

    def kept(self, ops, losses, pixels):
        return (losses >= ops.xp.max(losses, axis=1, keepdims=True)) & pixels.valid


def test_a_loss_that_chooses_pixels_by_itself_sees_the_images():
    logits = np.random.default_rng(6).normal(size=(6, 3))
    labels = np.array([0, 1, 2, 0, 1, 2])
    mean = unilossseg.OhemCrossEntropyLoss(min_kept=0)(logits, labels)
    assert unilossseg.value_and_grad(HardestOfImages())(logits, labels)[0] == pytest.approx(mean, rel=1e-12)


def test_a_mask_is_refused_and_not_lost():
    logits, labels = np.zeros((1, 2, 3), np.float32), np.array([[0, 1, 1]])
    mask = np.array([[True, False, False]])
    with pytest.raises(TypeError, match="DiceLoss: labels have layout masked, expected a dense array"):
        unilossseg.DiceLoss()(logits, np.ma.array(labels, mask=mask))
    with pytest.raises(TypeError, match="DiceLoss: logits have layout masked"):
        unilossseg.DiceLoss()(np.ma.array(logits), labels)


def test_noise_for_logits_of_another_order_of_bytes_has_the_digits_of_float64():
    logits, labels = np.random.default_rng(0).normal(size=(1, 3, 8, 9)), np.zeros((1, 8, 9), np.int64)
    found = []
    for dtype in ("<f8", ">f8"):
        np.random.seed(0)  # the generator that losses draw from
        found.append(float(unilossseg.DualTaskLoss()(logits.astype(dtype), labels)))
    assert found[0] == found[1]
    assert get_backend("numpy").uniform((3,), logits.astype(">f8")).dtype == np.float64
