"""Kernels of losses that treat every element for itself, and of the gradient's scale."""

import numpy as np
import pytest
import torch
from checks import plain_loops as plain
from checks.kernels import DRIVER, FLOATS, KERNELS, PLAIN, assert_rest, near, part_of, same, sum_of

from unilossseg.backends import _torch_triton

LABELS = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32")
SIZES = (1, 1023, 1024, 1025, 2600)
NUMBERS = (0.5, 0.75), 2.0, 4.0


def elements(rng, dtype, labels, size, ignored):
    """Logits and labels (1, 1, size), and what they hold; some labels are ignored if their dtype has that number."""
    x = DRIVER.array(rng.uniform(-8, 8, size=(1, 1, size)).astype(np.float32), dtype)
    y = rng.integers(0, 2, size=x.shape)
    if labels.startswith(("float", "bfloat")):
        y = y * 0.75
    holds = ignored is not None and labels != "bool"
    if holds and "float" not in labels:
        holds = np.iinfo(labels).min <= ignored <= np.iinfo(labels).max
    if holds:
        y[rng.random(y.shape) < 0.25] = ignored
    y = DRIVER.array(y).to(getattr(torch, labels))
    return x, y, DRIVER.numpy(x).astype(np.float64), DRIVER.numpy(y)


def beside(x, number=7):
    """Room for a gradient without gaps, and with other numbers around it."""
    whole = torch.full((x.numel() + 6,), number, dtype=x.dtype, device=x.device)
    return whole, whole[3:-3].reshape(x.shape)


def assert_rest_of(whole, number=7):
    assert bool(torch.all(whole[:3] == number))
    assert bool(torch.all(whole[-3:] == number))


cases = pytest.mark.parametrize(
    ("dtype", "labels", "size", "ignored"),
    [(dtype, labels, 1300, 255) for dtype in FLOATS for labels in LABELS]
    + [("float32", "int64", size, 255) for size in SIZES]
    + [("float32", labels, 300, ignored) for labels in LABELS for ignored in (0, 1, -1, 100)]
    + [("float32", labels, 300, ignored) for labels in LABELS[:6] for ignored in (40_000, 2**40)],
)


@cases
@pytest.mark.parametrize("room", [False, True])
def test_binary_cross_entropy(rng, no_fallback, dtype, labels, size, ignored, room):
    x, y, exact, numbers = elements(rng, dtype, labels, size, ignored)
    whole, out = beside(x) if room else (None, None)
    # Python numbers, and numbers of the device in float64, as a loss's closed form brings them.
    given = (torch.tensor(NUMBERS[0][0], dtype=torch.float64, device=x.device), NUMBERS[0][1])
    found = sum_of(KERNELS.binary_cross_entropy(x, y, ignored, given, *NUMBERS[1:], out))
    value, slopes = plain.binary_cross_entropy(exact, numbers, ignored, *NUMBERS)
    np.testing.assert_allclose(DRIVER.numpy(found), value, rtol=1e-6, atol=1e-6)
    if room:
        near(out, slopes, scale=8)
        assert_rest_of(whole)


@pytest.mark.parametrize("labels", LABELS)
def test_a_small_weight_beside_a_large_one(rng, no_fallback, labels):
    """No label takes digits of its weight from the other's."""
    x = DRIVER.array(rng.uniform(-8, 8, size=(1, 1, 1300)).astype(np.float32))
    exact = DRIVER.numpy(x).astype(np.float64)
    for label, weight, pos_weight in ((1, (2, 3e-7), 1), (0, (3e-7, 2), 1), (1, (1, 1), 3e-7), (1, (2, 3e-7), 3e-7)):
        y, out = torch.full_like(x, label).to(getattr(torch, labels)), torch.empty_like(x)
        found = sum_of(KERNELS.binary_cross_entropy(x, y, 255, weight, 0.5, pos_weight, out))
        value, slopes = plain.binary_cross_entropy(exact, np.full(x.shape, label), 255, weight, 0.5, pos_weight)
        np.testing.assert_allclose(DRIVER.numpy(found), value, rtol=1e-6)
        near(out, slopes, scale=0)


@cases
@pytest.mark.parametrize("squares", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_differences(rng, no_fallback, dtype, labels, size, ignored, squares, masked):
    x, y, exact, numbers = elements(rng, dtype, labels, size, ignored)
    x[..., 0] = y[..., 0].to(x.dtype)
    exact = DRIVER.numpy(x).astype(np.float64)
    ignored = ignored if masked else None
    whole, out = beside(x)
    found = sum_of(KERNELS.differences(x, y, ignored, squares, 0.125, out))
    value, slopes = plain.differences(exact, numbers, ignored, squares, 0.125)
    np.testing.assert_allclose(DRIVER.numpy(found), value, rtol=1e-6)
    near(out, slopes)
    assert_rest_of(whole)
    same(sum_of(KERNELS.differences(x, y, ignored, squares, 0.125, None)), DRIVER.numpy(found))


@pytest.mark.parametrize("labels", ["int64", "float32"])
def test_what_is_not_a_number_stays_with_its_element(labels):
    x = DRIVER.array(np.array([[[np.nan, np.inf, -np.inf, np.inf, -np.inf, 0.0, -0.0, 88.0, -200.0, 3e38]]], np.float32))
    y = DRIVER.array(np.array([[[0, 0, 0, 1, 1, 0, 0, 1, 1, 255]]])).to(getattr(torch, labels))
    out = torch.empty_like(x)
    KERNELS.differences(x, y, 255, False, 1.0, out)
    z, target = DRIVER.numpy(x).astype(np.float64), DRIVER.numpy(y).astype(np.float64)
    same(out, np.where(target == 255, 0, np.sign(z - target)))
    KERNELS.binary_cross_entropy(x, y, 255, (1.0, 1.0), 1.0, 1.0, out)
    near(out, np.where(target == 255, 0, plain.sigmoid(z) - target))


def test_an_infinite_label_or_a_missing_one():
    """As torch's operations have it."""
    x = torch.zeros(1, 1, 4, device=DRIVER.device)
    y = DRIVER.array(np.array([[[np.nan, np.inf, -np.inf, 1.0]]], np.float32))
    out = torch.empty_like(x)
    found = sum_of(KERNELS.differences(x, y, 255, False, 1.0, out))
    same(found, np.nan)
    same(out, [[[np.nan, -1, 1, -1]]])


@pytest.mark.parametrize("dtype", FLOATS)
def test_an_easy_element_keeps_its_digits(dtype):
    """log(1 + e^-t) of few digits would be seen in the sum of many."""
    t = np.linspace(-20, 80, 61).astype(np.float32)
    x = DRIVER.array(t[:, None, None], dtype)
    exact = DRIVER.numpy(x).astype(np.float64)
    one = torch.ones((1, 1, 1), dtype=torch.int64, device=x.device)
    for z, wanted in zip(x, plain.softplus(-exact), strict=True):
        found = sum_of(KERNELS.binary_cross_entropy(z[None], one, 255, (1.0, 1.0), 1.0, 1.0, None))
        np.testing.assert_allclose(DRIVER.numpy(found), wanted[0, 0], rtol=8e-7, atol=1e-37)


@pytest.mark.parametrize("factor", [1.0, 2.0, -0.5, 0.0, float("nan"), float("inf")])
@pytest.mark.parametrize("shape", [(1,), (1, 3, 5), (2, 3, 50, 41)])
def test_scaled(rng, no_fallback, factor, shape):
    number = DRIVER.array(np.asarray(factor, np.float32))
    x = DRIVER.array(rng.normal(size=shape).astype(np.float32))
    before = DRIVER.numpy(x).copy()
    assert KERNELS.scaled(x, number) is x
    same(x, before * np.float32(factor))


def test_scaled_by_a_number_whose_sign_torch_has_only_noted(rng, no_fallback):
    number = torch._neg_view(DRIVER.array(np.asarray(2, np.float32)))
    x = DRIVER.array(rng.normal(size=(1, 3, 5)).astype(np.float32))
    before = DRIVER.numpy(x).copy()
    same(KERNELS.scaled(x, number), -2 * before)


@pytest.mark.parametrize("factor", [1.0, 2.0, float("nan")])
@pytest.mark.parametrize("kind", ["channels last", "part", "half", "per element", "double number"])
def test_scaled_gradients_of_other_kinds(rng, factor, kind):
    x = DRIVER.array(rng.normal(size=(2, 3, 5, 7)).astype(np.float32))
    number = DRIVER.array(np.asarray(factor, np.float64 if kind == "double number" else np.float32))
    if kind == "channels last":
        x = x.to(memory_format=torch.channels_last)
    if kind == "part":
        x = part_of(x)
    if kind == "half":
        x = x.bfloat16()
    if kind == "per element":
        number = number.expand(x.shape)
    before = DRIVER.numpy(x).copy()
    found = KERNELS.scaled(x, number)
    assert found.data_ptr() == x.data_ptr()
    same(found, before * factor)
    if kind == "part":
        assert_rest(found)


LAID = {
    "as usual": lambda x: x,
    "channels last": lambda x: x.movedim(1, -1).contiguous().movedim(-1, 1),
    "turned": lambda x: x.mT.contiguous().mT,
    "gaps": lambda x: x.repeat_interleave(2, dim=-1)[..., ::2],
    "part": lambda x: torch.cat([x, x], dim=1)[:, : x.shape[1]],
    "one image for all": lambda x: x[:1].expand(x.shape),
}


@pytest.mark.parametrize("labels_lie", LAID)
@pytest.mark.parametrize("logits_lie", LAID)
def test_elements_may_lie_in_memory_as_they_like(rng, no_fallback, logits_lie, labels_lie):
    x = LAID[logits_lie](DRIVER.array(rng.normal(size=(2, 3, 61, 35)).astype(np.float32)))
    y = LAID[labels_lie](DRIVER.array(rng.integers(0, 2, size=x.shape).astype(np.float32)))
    y[0, 0, :3, :3] = 255
    weights = ((0.7, 0.9), 0.3, 1.5)
    for way in (
        lambda x, y, out: KERNELS.differences(x, y, 255, True, 0.5, out),
        lambda x, y, out: KERNELS.binary_cross_entropy(x, y, 255, *weights, out),
    ):
        z, labels, slopes = x.contiguous(), y.contiguous(), torch.empty(x.shape, device=x.device)
        wanted, out = sum_of(way(z, labels, slopes)), torch.empty_like(x)
        near(sum_of(way(x, y, out)), DRIVER.numpy(wanted))
        same(out, DRIVER.numpy(slopes))
    near(KERNELS.tally(y, 255, 1), DRIVER.numpy(KERNELS.tally(y.contiguous(), 255, 1)))


def test_what_kernels_cannot_take_is_left_to_the_loss(monkeypatch):
    monkeypatch.setattr(_torch_triton, "launch", None)
    x, y, numbers = torch.zeros(1, 2, 6), torch.zeros((1, 2, 6), dtype=torch.int64), ((1.0, 1.0), 1.0, 1.0)
    for z, labels, ignored, out in (
        (x.double(), y, 255, None),
        (x, y[:, :1], 255, None),
        (x[..., :3].contiguous(), y[..., :3].contiguous(), 255, x[..., ::2]),
        (x, y, 2**64, None),
        (x, y.float(), 2**24, None),
        (x, y.double(), 255, None),
    ):
        assert KERNELS.binary_cross_entropy(z, labels, ignored, *numbers, out) is None
        assert KERNELS.differences(z, labels, ignored, True, 1.0, out) is None


@pytest.mark.parametrize("small", [False, True])
def test_all_pixels_are_worked_on_at_once(small):
    chunks = KERNELS.chunks(3, 19, 2**28, small=small)
    assert chunks == (PLAIN.chunks(3, 19, 2**28) if small else [(slice(0, 3), slice(0, 2**28))])
    # Beyond what the kernels hold.
    assert len(KERNELS.chunks(3, 1025, 2**28)) > 1
