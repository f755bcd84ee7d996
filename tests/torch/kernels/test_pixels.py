"""Kernels over pixels with all their channels, against NumPy in float64: types, channels, layouts, and NaN."""

import numpy as np
import pytest
import torch
from checks import plain_loops as plain
from checks.kernels import (
    DRIVER,
    FLOATS,
    INTERPRETED,
    KERNELS,
    PLAIN,
    assert_rest,
    logits,
    near,
    part_of,
    room_for,
    same,
    sum_of,
)

from unilossseg.backends import _torch_triton
from unilossseg.backends import _triton_softmax as pixels
from unilossseg.backends._torch_launch import launch

pytestmark = pytest.mark.usefixtures("no_fallback")

#: Channels, and pixels of an image that are more than a block of theirs and not a multiple of it.
SIZES = ((1, 517), (2, 517), (5, 133), (19, 37), (33, 19), (150, 19))
LAYOUTS = ("channels last", "part", "turned")
cases = pytest.mark.parametrize(
    ("size", "dtype", "layout"),
    [(size, dtype, "dense") for k, size in enumerate(SIZES) for dtype in ("float32", FLOATS[1 + k % 2])]
    + [(size, "float32", layout) for size in SIZES[2::2] for layout in LAYOUTS]
    + [(SIZES[2], "bfloat16", layout) for layout in LAYOUTS],
    ids=str,
)
IMAGES = 2


def index_of(rng, size):
    channels, count = size
    return rng.integers(0, channels, size=(IMAGES, count))


def of_pixels(rng, size):
    return rng.random((IMAGES, size[1])).astype(np.float32)


def as_index(index):
    return DRIVER.array(index, "int32")


@cases
def test_softmax_sums(rng, size, dtype, layout):
    x, exact = logits(rng, (IMAGES, *size), dtype, layout)
    norm, top = KERNELS.softmax_sums(x)
    _, wanted, largest = plain.softmax_parts(exact)
    near(norm, wanted)
    same(top, largest)


@cases
@pytest.mark.parametrize("way", ["value", "room"])
def test_cross_entropy(rng, size, dtype, layout, way):
    x, exact = logits(rng, (IMAGES, *size), dtype, layout)
    index, weights = index_of(rng, size), of_pixels(rng, size)
    out = room_for(x) if way == "room" else None
    given = () if out is None else (part_of(DRIVER.array(weights)), out)
    losses, slopes = KERNELS.cross_entropy(x, as_index(index), *given)
    wanted, slope = plain.cross_entropy(exact, index, weights.astype(np.float64))
    near(losses, wanted, scale=16)
    assert slopes is out
    if out is not None:
        near(out, slope)
        assert_rest(out)


@cases
@pytest.mark.parametrize("weighted", [False, True])
def test_plain_cross_entropy(rng, size, dtype, layout, weighted):
    x, exact = logits(rng, (IMAGES, *size), dtype, layout)
    labels, weight = index_of(rng, size), rng.random(size[0]).astype(np.float32)
    labels[rng.random(labels.shape) < 0.2] = 255
    weight[0] = 0 if size[0] > 1 else 0.5
    out, share = room_for(x), DRIVER.array(np.asarray(0.125, np.float32))
    by_class = DRIVER.array(weight) if weighted else None
    found = sum_of(KERNELS.plain_cross_entropy(x, part_of(DRIVER.array(labels)), 255, by_class, share, out))
    value, slopes = plain.plain_cross_entropy(exact, labels, 255, 0.125, weight if weighted else None)
    np.testing.assert_allclose(DRIVER.numpy(found), value, rtol=1e-6, atol=1e-5)
    near(out, slopes)
    assert_rest(out)
    same(sum_of(KERNELS.plain_cross_entropy(x, DRIVER.array(labels), 255, by_class, share, None)), DRIVER.numpy(found))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("ignored", [0, 1, -1, 100, 255, 40_000, 2**40, -(2**63)])
def test_ignored_labels_of_any_integer_dtype(rng, dtype, ignored):
    """A number that the dtype cannot hold is no label's, whatever is left of it in few bits."""
    x, exact = logits(rng, (IMAGES, 5, 133), "float32")
    labels = index_of(rng, (5, 133)).astype(dtype)
    if np.iinfo(dtype).min <= ignored <= np.iinfo(dtype).max:
        labels[rng.random(labels.shape) < 0.2] = ignored
    out = room_for(x)
    found = sum_of(KERNELS.plain_cross_entropy(x, DRIVER.array(labels), ignored, None, 1.0, out))
    value, slopes = plain.plain_cross_entropy(exact, labels, ignored, 1.0)
    np.testing.assert_allclose(DRIVER.numpy(found), value, rtol=1e-6)
    near(out, slopes)


@cases
@pytest.mark.parametrize("way", ["value", "room"])
def test_relaxed_cross_entropy(rng, size, dtype, layout, way):
    x, exact = logits(rng, (IMAGES, *size), dtype, layout)
    near_classes, weights = rng.random(exact.shape) < 0.3, of_pixels(rng, size)
    near_classes[:, size[0] // 2] |= ~near_classes.any(axis=1)
    near_classes[0, :, 0] = True
    out = room_for(x) if way == "room" else None
    given = () if out is None else (part_of(DRIVER.array(weights)), out)
    losses, slopes = KERNELS.relaxed_cross_entropy(x, part_of(DRIVER.array(near_classes), number=1), *given)
    wanted, slope = plain.relaxed_cross_entropy(exact, near_classes, weights.astype(np.float64))
    near(losses, wanted, scale=16)
    assert slopes is out
    if out is not None:
        near(out, slope)
        assert_rest(out)
        # All classes are near.
        same(out[0, :, 0], np.zeros(size[0]))


@cases
def test_softmax_totals(rng, size, dtype, layout):
    x, exact = logits(rng, (IMAGES, *size), dtype, layout)
    index, weights = index_of(rng, size), of_pixels(rng, size)
    found = KERNELS.softmax_totals(x, as_index(index), part_of(DRIVER.array(weights)))
    for got, wanted in zip(found, plain.softmax_totals(exact, index, weights.astype(np.float64)), strict=True):
        assert got.dtype == torch.float64
        near(got, wanted, scale=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 8])
def test_a_program_sums_up_several_blocks(rng, steps):
    size = (5, 133)
    x, exact = logits(rng, (IMAGES, *size), "float32", "part")
    index, weights = index_of(rng, size), of_pixels(rng, size)
    block = 16
    programs = -(-133 // (steps * block))
    parts = torch.full((3, IMAGES, programs, 5), 7.0, dtype=torch.float64, device=x.device)
    y, a = as_index(index), DRIVER.array(weights)
    tile = steps, False, 8, block
    strides = *x.stride(), *y.stride(), *a.stride()
    launch(pixels.softmax_totals, (programs, IMAGES), x, y, a, parts, *size, *strides, *tile)
    for got, wanted in zip(parts.sum(dim=2), plain.softmax_totals(exact, index, weights.astype(np.float64)), strict=True):
        near(got, wanted, scale=1e-3)


@pytest.mark.parametrize("count", [1, 511, 2**20 - 1, 2**20, 3 * 2**20 + 1, 2**27])
@pytest.mark.parametrize("images", [1, 3])
def test_programs_that_sum_up_cover_all_pixels(monkeypatch, count, images):
    launched = []
    monkeypatch.setattr(_torch_triton, "launch", lambda *given, **more: launched.append(given))
    x, index = torch.empty(images, 2, count, device="meta"), torch.empty(images, count, device="meta")
    KERNELS.softmax_totals(x, index, index)
    ((_, (programs, across), *_, parts, channels, found, _, _, _, _, _, _, _, steps, _, width, block),) = launched
    assert (across, channels, found, width) == (images, 2, count, 2)
    assert parts.shape == (3, images, programs, 2)
    assert (programs - 1) * steps * block < count <= programs * steps * block
    assert steps & (steps - 1) == 0
    assert steps <= 64


@cases
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("room", ["another", "the slope's own"])
def test_through_softmax(rng, size, dtype, layout, weighted, room):
    x, exact = logits(rng, (IMAGES, *size), dtype, layout)
    slope, weights = rng.normal(size=exact.shape).astype(np.float32), of_pixels(rng, size)
    given = part_of(DRIVER.array(slope))
    out = given if room == "the slope's own" else room_for(x)
    found = KERNELS.through_softmax(x, given, part_of(DRIVER.array(weights)) if weighted else None, out)
    assert found is out
    p = exact - exact.max(axis=1, keepdims=True)
    p = np.exp(p) / np.exp(p).sum(axis=1, keepdims=True)
    wanted = p * (slope - np.sum(p * slope, axis=1, keepdims=True))
    near(out, wanted * weights[:, None, :] if weighted else wanted, scale=2)
    assert_rest(out)


@cases
@pytest.mark.parametrize("room", [False, True])
def test_through_softmax_by_class(rng, size, dtype, layout, room):
    x, exact = logits(rng, (IMAGES, *size), dtype, layout)
    index, weights = index_of(rng, size), of_pixels(rng, size)
    by_class, by_own = rng.normal(size=(2, IMAGES, size[0])).astype(np.float32)
    out = room_for(x) if room else None
    # A table with gaps is made dense.
    tables = part_of(DRIVER.array(by_class)), DRIVER.array(by_own)
    found = KERNELS.through_softmax_by_class(x, as_index(index), *tables, part_of(DRIVER.array(weights)), out)
    slope = by_class[:, :, None] + by_own[:, :, None] * plain.one_hot(index, size[0])
    p = exact - exact.max(axis=1, keepdims=True)
    p = np.exp(p) / np.exp(p).sum(axis=1, keepdims=True)
    near(found, weights[:, None, :] * p * (slope - np.sum(p * slope, axis=1, keepdims=True)), scale=4)
    if room:
        assert found is out
        assert_rest(out)


def test_offsets_of_more_than_32_bits(rng, monkeypatch):
    """Their kernels are others; here they are taken for small arrays."""
    original = _torch_triton.grid_of

    def wide(*arrays):
        grid, (_, *tile), warps = original(*arrays)
        return grid, (True, *tile), warps

    monkeypatch.setattr(_torch_triton, "grid_of", wide)
    size = (5, 133)
    for test in (test_softmax_sums, test_softmax_totals):
        test(rng, size, "float32", "part")
    test_cross_entropy(rng, size, "float32", "part", "room")
    test_plain_cross_entropy(rng, size, "float32", "part", True)
    test_relaxed_cross_entropy(rng, size, "float32", "part", "room")
    test_through_softmax(rng, size, "float32", "part", True, "another")
    test_through_softmax_by_class(rng, size, "float32", "part", True)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 32, 33, 64, 512, 513, 1000, 1024])
@pytest.mark.parametrize("count", [1, 15, 16, 17, 1000])
def test_programs_cover_all_pixels_and_channels(channels, count):
    (blocks, images), (wide, width, block), warps = _torch_triton.grid_of(torch.empty(3, channels, count, device="meta"))
    assert (blocks - 1) * block < count <= blocks * block
    assert images == 3
    assert not wide
    assert channels <= width < 2 * channels
    for number in (width, block, warps):
        assert number & (number - 1) == 0
    assert warps <= 32


def test_as_many_channels_as_a_program_holds(rng):
    x, exact = logits(rng, (1, _torch_triton.MOST_CHANNELS, 3), "float32")
    index = rng.integers(0, x.shape[1], size=(1, 3))
    near(KERNELS.cross_entropy(x, as_index(index))[0], plain.cross_entropy(exact, index)[0], scale=16)


@pytest.mark.parametrize("dtype", FLOATS)
def test_what_is_not_a_number_stays_in_its_pixel(rng, dtype):
    """The same as by torch's operations on the same numbers in float64."""
    x, exact = logits(rng, (IMAGES, 5, 40), dtype)
    for place, number in enumerate((np.nan, np.inf, -np.inf, 0.0, -0.0)):
        x[0, 1, place] = number
        x[1, :, place] = number
    x[0, :4, 7] = -np.inf
    double = x.double()
    index, weights = rng.integers(0, 5, size=(IMAGES, 40)), torch.ones((IMAGES, 40), device=x.device)
    index[0, 7] = 4
    narrow, index = as_index(index), DRIVER.array(index)
    near_classes = torch.ones(x.shape, dtype=torch.bool, device=x.device)
    near_classes[:, 0] = False
    slope = DRIVER.array(rng.normal(size=exact.shape).astype(np.float32))
    pairs = [
        # The largest may be one of the others beside a NaN, which is in the sum.
        (KERNELS.softmax_sums(x)[:1], PLAIN.softmax_sums(double)[:1]),
        (KERNELS.cross_entropy(x, narrow, weights), PLAIN.cross_entropy(double, index, weights.double())),
        (
            KERNELS.relaxed_cross_entropy(x, near_classes, weights),
            PLAIN.relaxed_cross_entropy(double, near_classes, weights.double()),
        ),
        ([KERNELS.through_softmax(x, slope)], [PLAIN.through_softmax(double, slope.double())]),
    ]
    for found, wanted in pairs:
        for got, exact in zip(found, wanted, strict=True):
            near(got, DRIVER.numpy(exact), scale=16)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_easy_pixel_keeps_its_digits(dtype):
    """The loss is log(1 + e^-t) and the slope -e^-t / (1 + e^-t), which no sum with a 1 in it may have passed through."""
    t = np.linspace(4, 80, 77).astype(np.float32)
    x = DRIVER.array(np.stack([np.zeros_like(t), -t])[None], dtype)
    power = np.exp(DRIVER.numpy(x).astype(np.float64)[:, 1])
    index, weights = torch.zeros((1, 77), dtype=torch.int32, device=x.device), torch.ones((1, 77), device=x.device)
    shape = {"rtol": 4e-7} if dtype == "float32" else {"rtol": 2.0**-8}
    losses, slopes = KERNELS.cross_entropy(x, index, weights)
    np.testing.assert_allclose(DRIVER.numpy(losses), np.log1p(power), rtol=4e-7)
    np.testing.assert_allclose(DRIVER.numpy(slopes).astype(np.float64)[:, 0], -power / (1 + power), **shape)
    only_first = torch.tensor([True, False], device=x.device)[None, :, None].expand(x.shape).contiguous()
    losses, slopes = KERNELS.relaxed_cross_entropy(x.float(), only_first, weights)
    np.testing.assert_allclose(DRIVER.numpy(losses), np.log1p(power), rtol=4e-7)
    np.testing.assert_allclose(DRIVER.numpy(slopes)[:, 0], -power / (1 + power), rtol=4e-7)


@pytest.mark.parametrize("most", [100.0, 1e4, 1e30])
def test_steep_logits(rng, most):
    x, exact = logits(rng, (IMAGES, 5, 40), "float32", most=most)
    index = rng.integers(0, 5, size=(IMAGES, 40))
    weights = torch.ones((IMAGES, 40), device=x.device)
    losses, slopes = KERNELS.cross_entropy(x, as_index(index), weights)
    wanted, slope = plain.cross_entropy(exact, index, np.ones((IMAGES, 40)))
    near(losses, wanted, scale=1)
    # The exponential of a difference that is itself rounded.
    near(slopes, slope, roundings=8 + min(most, 100))


def test_what_kernels_cannot_take_goes_to_torch(rng, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(_torch_triton, "launch", None)
    x, index = torch.zeros(1, 1025, 3), torch.zeros((1, 3), dtype=torch.int64)
    # A grid has no more programs on its second axis: each point of logits (N, C) is an image to a DiceLoss, for example.
    many = torch.zeros(2**16, 2, 1)
    for call in (
        lambda: KERNELS.cross_entropy(x, index)[0].shape == (1, 3),
        lambda: KERNELS.plain_cross_entropy(x, index, 255, None, 1.0, None) is None,
        lambda: KERNELS.softmax_sums(many)[0].shape == (2**16, 1),
    ):
        # And is said aloud.
        with pytest.warns(RuntimeWarning, match="up to 1024 channels and 65535 images"):
            assert call()
    x = torch.zeros(1, 3, 3, dtype=torch.float64)
    assert KERNELS.softmax_sums(x)[0].dtype == torch.float64
    assert KERNELS.plain_cross_entropy(x, index, 255, None, 1.0, None) is None
    x = x.float()
    assert KERNELS.plain_cross_entropy(x, index, 2**70, None, 1.0, None) is None
    assert KERNELS.plain_cross_entropy(x, index > 0, 255, None, 1.0, None) is None


if INTERPRETED:

    def test_the_checks_can_fail(rng):
        out = room_for(torch.zeros(2, 3, 4))
        assert_rest(out)
        out.as_strided((1,), (1,), out.storage_offset() - 1).fill_(0)
        with pytest.raises(AssertionError):
            assert_rest(out)
        with pytest.raises(AssertionError, match="went round its kernel"):
            KERNELS.softmax_sums(torch.zeros(1, 2, 3, dtype=torch.float64))
