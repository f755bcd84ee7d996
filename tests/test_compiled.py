"""The compiled loops, for every instruction set of this processor, against float64 and against what they stand in for."""

# ruff: noqa: F811  fixtures come in by import

from __future__ import annotations

import numpy as np
import pytest
from checks import plain_loops as plain
from checks.compiled import (  # noqa: F401  some are fixtures
    COMPILED,
    FALLBACK,
    SIZES,
    fallback,
    halves,
    instruction_set,
    near,
    rng,
    strided,
    the_set_in_use,
)

from unilossseg.backends._bfloat16 import BFLOAT16

pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.mark.parametrize("channels", [1, 2, 19])
@pytest.mark.parametrize("pixels", SIZES)
def test_softmax_sums(rng, fallback, pixels, channels):
    x = plain.grid(rng, (2, channels, pixels), np.float32)
    # A sum of nineteen terms is rounded nineteen times.
    for z in (x, strided(x)):
        found = COMPILED.softmax_sums(z)
        for got, exact, plainly in zip(found, plain.softmax_parts(x)[1:], fallback.softmax_sums(x), strict=True):
            assert got.dtype == np.float32
            near(got, exact, 12, scale=0)
            near(got, plainly, 24, scale=0)
        assert np.array_equal(found[1], x.max(axis=1))


@pytest.mark.parametrize("kind", [np.int32, np.int64])
@pytest.mark.parametrize("channels", [1, 2, 19])
@pytest.mark.parametrize("pixels", SIZES)
def test_cross_entropy(rng, fallback, pixels, channels, kind):
    x, index = plain.grid(rng, (2, channels, pixels), np.float32), rng.integers(0, channels, (2, pixels)).astype(kind)
    weights = rng.random((2, pixels)).astype(np.float32)
    losses, slopes = plain.cross_entropy(x, index, weights.astype(np.float64))
    room = strided(np.zeros_like(x))
    for z, at, out in ((x, index, None), (strided(x), strided(index), room)):
        alone, nothing = COMPILED.cross_entropy(z, at)
        found, slope = COMPILED.cross_entropy(z, at, weights, out)
        assert nothing is None
        assert out is None or slope is out
        assert np.array_equal(alone, found)
        near(found, losses, 8, scale=16)
        near(slope, slopes, 12)
        for got, plainly in zip((found, slope), fallback.cross_entropy(x, index, weights), strict=True):
            near(got, plainly, 16, scale=16)
    assert np.all(room.base[..., :4] == 7)
    assert np.all(room.base[..., -5:] == 7)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.int16, np.uint8])
@pytest.mark.parametrize("channels", [1, 2, 19])
@pytest.mark.parametrize("pixels", SIZES)
def test_plain_cross_entropy(rng, pixels, channels, kind):
    x, labels = plain.grid(rng, (2, channels, pixels), np.float32), rng.integers(0, channels, (2, pixels)).astype(kind)
    labels[rng.random(labels.shape) < 0.2] = 255
    weights = rng.permutation(np.arange(channels, dtype=np.float32)) / 2
    # A class may be the one that is ignored, and so may a number that the labels' dtype cannot hold.
    for ignored in (255, 0, 70_000, -1):
        y = labels if ignored == 255 else np.where(labels == 255, kind(0), labels)
        for weight in (None, weights):
            exact, slopes = plain.plain_cross_entropy(x, y, ignored, 0.375, weight)
            room = strided(np.zeros_like(x))
            for z, given, out in ((x, y, None), (x, y, np.empty_like(x)), (strided(x), strided(y), room)):
                found = COMPILED.plain_cross_entropy(z, given, ignored, weight, np.float32(0.375), out)
                near(found, exact, 8, scale=16)
                if out is not None:
                    near(out, slopes, 12)
            assert np.all(room.base[..., [0, 1, 2, 3, -5, -4, -3, -2, -1]] == 7)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.int16, np.uint8])
@pytest.mark.parametrize("pixels", SIZES)
def test_weight_sum(rng, fallback, pixels, kind):
    labels, weight = rng.integers(0, 5, (3, pixels)).astype(kind), rng.random(5).astype(np.float32)
    for ignored in (0, 255, 70_000, -1):
        exact = np.sum(np.where(labels == ignored, 0, weight.astype(np.float64)[labels]))
        for given in (labels, strided(labels)):
            found = COMPILED.weight_sum(given, ignored, weight)
            assert found.dtype == np.float64
            np.testing.assert_allclose([found, fallback.weight_sum(given, ignored, weight)], exact, rtol=1e-14)


def test_a_loss_without_weight_may_be_infinite(rng):
    x, labels = rng.normal(size=(1, 3, 700)).astype(np.float32), rng.integers(0, 2, (1, 700))
    labels[0, 7], x[0, 2, 7] = 2, -np.inf
    out = np.empty_like(x)
    for weight, finite in (((1, 2, 0), True), ((1, 2, 0.5), False)):
        value = COMPILED.plain_cross_entropy(x, labels, 255, np.array(weight, np.float32), 1.0, out)
        assert np.isfinite(value) == finite
        assert np.all(np.isfinite(out))
    with pytest.raises(IndexError, match="1 indices are not in"):
        COMPILED.weight_sum(np.where(labels == 2, 3, labels), 255, np.ones(3, np.float32))


@pytest.mark.parametrize("channels", [1, 2, 19])
@pytest.mark.parametrize("pixels", SIZES)
def test_relaxed_cross_entropy(rng, fallback, pixels, channels):
    x, classes = plain.grid(rng, (2, channels, pixels), np.float32), rng.random((2, channels, pixels)) < 0.3
    classes[:, -1] |= ~classes.any(axis=1)
    weights = rng.random((2, pixels)).astype(np.float32)
    losses, slopes = plain.relaxed_cross_entropy(x, classes, weights.astype(np.float64))
    room = strided(np.zeros_like(x))
    for z, there, out in ((x, classes, None), (strided(x), strided(classes), room)):
        alone, nothing = COMPILED.relaxed_cross_entropy(z, there)
        found, slope = COMPILED.relaxed_cross_entropy(z, there, weights, out)
        assert nothing is None
        assert out is None or slope is out
        assert np.array_equal(alone, found)
        near(found, losses, 8, scale=16)
        near(slope, slopes, 12)
        for got, plainly in zip((found, slope), fallback.relaxed_cross_entropy(x, classes, weights), strict=True):
            near(got, plainly, 16, scale=16)
    assert np.all(room.base[..., :4] == 7)
    assert np.all(room.base[..., -5:] == 7)


@pytest.mark.parametrize("channels", [1, 2, 19])
@pytest.mark.parametrize("pixels", SIZES)
def test_through_a_softmax_and_its_totals(rng, fallback, pixels, channels):
    x, index = plain.grid(rng, (2, channels, pixels), np.float32), rng.integers(0, channels, (2, pixels))
    slope, weights = rng.normal(size=x.shape).astype(np.float32), rng.random((2, pixels)).astype(np.float32)
    for given in (None, weights):
        exact = plain.through_softmax(x, slope, given)
        own_place = strided(slope)
        for z, by, out in (
            (x, slope, None),
            (strided(x), strided(slope), strided(np.zeros_like(x))),
            (x, own_place, own_place),
        ):
            found = COMPILED.through_softmax(z, by, given, out)
            assert out is None or found is out
            near(found, exact, 24, scale=2)
        near(found, fallback.through_softmax(x, slope, given), 32, scale=2)
        assert np.all(own_place.base[..., [0, 1, 2, 3, -5, -4, -3, -2, -1]] == 7)
    for z, at in ((x, index.astype(np.int32)), (strided(x), strided(index))):
        found = COMPILED.softmax_totals(z, at, weights)
        for got, exact in zip(found, plain.softmax_totals(x, index, weights.astype(np.float64)), strict=True):
            near(got, exact, 12, scale=0)
        for got, plainly in zip(found, fallback.softmax_totals(x, index, weights), strict=True):
            near(got, plainly, 24, scale=0)
    by_class, by_own = rng.normal(size=(2, 2, channels)).astype(np.float32)
    exact = plain.through_softmax_by_class(x, index, by_class, by_own, weights)
    room = strided(np.zeros_like(x))
    for z, at, out in ((x, index.astype(np.int32), None), (strided(x), strided(index), room)):
        found = COMPILED.through_softmax_by_class(z, at, by_class, by_own, weights, out)
        assert out is None or found is out
        near(found, exact, 24, scale=4)
        near(found, fallback.through_softmax_by_class(x, index, by_class, by_own, weights), 32, scale=4)
    assert np.all(room.base[..., [0, 1, 2, 3, -5, -4, -3, -2, -1]] == 7)


@pytest.mark.parametrize("pixels", SIZES)
def test_bfloat16_and_back(rng, fallback, pixels):
    bits = rng.integers(0, 2**32, (2, 3, pixels), dtype=np.uint32)
    bits[0, 0] = rng.choice(
        np.uint32([0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x3F808000, 0x3F818000, 0x7F7FFFFF]), pixels
    )
    x = bits.view(np.float32)
    for z in (x, strided(x), x[0], x[0, 0]):
        narrow, wanted = COMPILED.cast(z, BFLOAT16), fallback.cast(z, BFLOAT16)
        assert narrow.dtype == BFLOAT16
        assert np.array_equal(narrow["bfloat16"], wanted["bfloat16"])
        wide = COMPILED.cast(narrow, np.float32)
        assert wide.dtype == np.float32
        assert np.array_equal(wide.view(np.uint32), fallback.cast(wanted, np.float32).view(np.uint32))


@pytest.mark.usefixtures("fallback")
def test_float16_and_back(rng):
    every = np.arange(2**16, dtype=np.uint16).view(np.float16)
    wide = COMPILED.cast(every, np.float32)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide, every.astype(np.float32))
    assert np.array_equal(np.signbit(wide), np.signbit(every))
    # All halves, what lies between two of them, what lies next to that, and any bits at all.
    finite = np.sort(wide[np.isfinite(wide)])
    between = (finite[1:] + finite[:-1]) / 2
    near = [np.nextafter(between, np.float32(side * np.inf)) for side in (-1, 1)]
    bits = rng.integers(0, 2**32, 2**16, dtype=np.uint32).view(np.float32)
    for x in (wide, between, *near, bits, np.float32([65519, 65520, 1e38, -1e38, 2.0**-25, 2.0**-25 * 1.001, 1e-45])):
        for z in (x, strided(x[None, None])):
            narrow = COMPILED.cast(z, np.float16)
            with np.errstate(over="ignore"):
                np.testing.assert_array_equal(narrow, z.astype(np.float16))
            assert np.array_equal(np.signbit(narrow), np.signbit(z))


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32, np.int16, np.uint8])
@pytest.mark.parametrize("ignored", [None, 255, 0, 1])
@pytest.mark.parametrize("pixels", SIZES)
def test_tally(rng, fallback, pixels, dtype, ignored):
    labels = rng.choice([0, 1, 2, 18, 19, 255], size=(2, pixels)).astype(dtype)
    if dtype == np.float32:
        labels[0, -1] = np.nan
    for x in (labels, strided(labels), labels.T):
        found = COMPILED.tally(x, ignored, 18)
        assert found.dtype == np.int64
        assert found.tolist() == plain.tally(labels, ignored, 18) == fallback.tally(labels, ignored, 18).tolist()


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.uint8])
@pytest.mark.parametrize("ignored", [255, -1, 0, 2**40, -(2**63), 2**63 - 1])
def test_split_labels(rng, fallback, dtype, ignored):
    limits = np.iinfo(dtype)
    labels = rng.choice([0, 1, 18, limits.max, limits.min], size=(2, 513)).astype(dtype)
    for x in (labels, strided(labels), labels[:, ::2]):
        found, wanted = COMPILED.split_labels(x, ignored), fallback.split_labels(x, ignored)
        assert [part.dtype for part in found] == [np.int32, np.bool_]
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("pixels", SIZES)
def test_softplus_and_sigmoid(rng, fallback, pixels):
    x = plain.grid(rng, (2, 3, pixels), np.float32, most=80)
    for z in (x, strided(x), x[0, 0], x[:, 0]):
        found, plainly = COMPILED.softplus_and_sigmoid(z), fallback.softplus_and_sigmoid(z.copy())
        for got, wanted, other in zip(found, (plain.softplus(z), plain.sigmoid(z)), plainly, strict=True):
            assert got.shape == z.shape
            near(got, wanted, 3, scale=0)
            near(got, other, 6, scale=0)


@pytest.mark.parametrize("other", [0, 2.5, -np.inf, np.nan])
@pytest.mark.parametrize("pixels", SIZES)
def test_keep_where(rng, fallback, pixels, other):
    x, mask = plain.grid(rng, (2, 3, pixels), np.float32), rng.random((2, 3, pixels)) < 0.5
    x[~mask] = np.nan
    for m, z in ((mask, x), (mask[0, 0], x[0, 0]), (mask[1], x[1])):
        found, wanted = COMPILED.keep_where(m, z, other), np.where(m, z, np.float32(other))
        assert found.dtype == np.float32
        assert np.array_equal(found, wanted, equal_nan=True)
        assert np.array_equal(found, fallback.keep_where(m, z, other), equal_nan=True)


def test_keep_where_of_other_shapes(rng):
    """What the loop does not take: NumPy does it."""
    x, mask = plain.grid(rng, (2, 3, 50), np.float32), rng.random((2, 3, 50)) < 0.5
    for m, z in ((mask, strided(x)), (mask[:, :1], x), (mask, x[:, :1]), (np.True_, x), (mask, x.astype(np.float64))):
        found, wanted = COMPILED.keep_where(m, z, 2.5), np.where(m, z, z.dtype.type(2.5))
        assert found.dtype == z.dtype
        assert np.array_equal(found, wanted)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=str)
@pytest.mark.parametrize("channels", [1, 2, 19])
@pytest.mark.parametrize("pixels", SIZES)
def test_softmaxes_of_half_precision(rng, pixels, channels, dtype):
    """The same as of float32, and slopes that are rounded once."""
    x, exact = halves(rng.normal(size=(2, channels, pixels)).astype(np.float32) * 4, dtype)
    index, weights = rng.integers(0, channels, (2, pixels)), rng.random((2, pixels)).astype(np.float32)
    by_class, by_own = rng.normal(size=(2, 2, channels)).astype(np.float32)

    def both(call):
        room, whole = strided(x), np.empty_like(exact)
        found, wanted = call(strided(x), room), call(exact, whole)
        assert all(np.array_equal(a, b) for a, b in zip(found, wanted, strict=True))
        bits, rounded = (np.ascontiguousarray(array).view(np.uint16) for array in (room, FALLBACK.cast(whole, dtype)))
        assert np.array_equal(bits, rounded)
        edges = room.base[..., [0, 1, 2, 3, -5, -4, -3, -2, -1]]
        assert np.array_equal(edges, np.full_like(edges, 7))

    def is_out(found, out):
        assert found is out
        return ()

    both(lambda x, out: COMPILED.cross_entropy(x, index, weights, out)[:1])
    both(lambda x, out: (COMPILED.plain_cross_entropy(x, index, 0, by_class[0], np.float32(0.3), out),))
    both(lambda x, out: is_out(COMPILED.through_softmax_by_class(x, index, by_class, by_own, weights, out), out))
    for found, wanted in zip(
        (COMPILED.cross_entropy(x, index)[0], *COMPILED.softmax_totals(x, index, weights)),
        (COMPILED.cross_entropy(exact, index)[0], *COMPILED.softmax_totals(exact, index, weights)),
        strict=True,
    ):
        assert np.array_equal(found, wanted)


def test_arrays_that_the_loops_do_not_read_are_the_fallbacks(rng):
    """Unaligned, of four axes, of another byte order: slower, never an error."""
    x, labels = rng.normal(size=(2, 3, 8)).astype(np.float32), rng.integers(0, 3, (2, 8))

    def unaligned(x):
        moved = np.empty(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
        moved[...] = x
        assert not moved.flags.aligned
        return moved

    for z, y in ((unaligned(x), unaligned(labels)), (x.astype(">f4"), labels.astype(">i8"))):
        for got, wanted in zip(COMPILED.cross_entropy(z, y), FALLBACK.cross_entropy(x, labels), strict=True):
            assert (got is None and wanted is None) or np.allclose(got, wanted, rtol=1e-6)
        for got, wanted in zip(COMPILED.softplus_and_sigmoid(z), FALLBACK.softplus_and_sigmoid(x), strict=True):
            near(got, wanted, 6, scale=0)
        for got, wanted in zip(COMPILED.split_labels(y, 255), FALLBACK.split_labels(labels, 255), strict=True):
            assert np.array_equal(got, wanted)
        assert COMPILED.plain_cross_entropy(z, y, 255, None, np.float32(1), None) is None
        ones = COMPILED.binary_cross_entropy(z, z, 255, (1, 1), 1, 1, None)
        assert ones is None or np.isfinite(ones)
    four = labels.reshape(2, 1, 2, 4)
    assert np.array_equal(COMPILED.split_labels(four, 1)[0], FALLBACK.split_labels(four, 1)[0])
    assert COMPILED.differences(x.reshape(2, 3, 2, 4), x.reshape(2, 3, 2, 4), None, True, np.float32(1), None) is None
