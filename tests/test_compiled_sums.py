"""The compiled loops that are a whole loss of one pass: values, slopes, and labels counted on the way."""

# ruff: noqa: F811  fixtures come in by import

from __future__ import annotations

import numpy as np
import pytest
from checks import plain_loops as plain
from checks.compiled import (  # noqa: F401  some are fixtures
    COMPILED,
    FALLBACK,
    SIZES,
    halves,
    instruction_set,
    near,
    rng,
    strided,
    the_set_in_use,
)

from unilossseg.backends._bfloat16 import BFLOAT16

pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("pixels", SIZES)
def test_sums_of_whole_losses(rng, pixels, dtype):
    x, labels = plain.grid(rng, (3, 2, pixels), np.float32), rng.integers(0, 2, (3, 2, pixels)).astype(dtype)
    labels[rng.random(labels.shape) < 0.2] = 255
    x[labels == 255] = np.nan
    weight, share, pos_weight = (0.5, 0.75), 2.0, 4.0
    numbers = tuple(np.float32(number) for number in (*weight, share, pos_weight))
    exact = plain.binary_cross_entropy(x, labels, 255, weight, share, pos_weight)
    room = strided(np.zeros_like(x))
    for z, y, out in (
        (x, labels, None),
        (x, labels, np.empty_like(x)),
        (strided(x), labels, np.empty_like(x)),
        (x[::-1].copy()[::-1], strided(labels), room),
    ):
        found = COMPILED.binary_cross_entropy(z, y, 255, numbers[:2], *numbers[2:], out)
        near(found, exact[0], 8, scale=0)
        if out is not None:
            near(out, exact[1], 8, scale=4)
    assert np.all(room.base[..., [0, 1, 2, 3, -5, -4, -3, -2, -1]] == 7)
    x[labels == 255] = 3.0
    for ignored in (255, None, -1):
        for squares in (False, True):
            exact = plain.differences(x, labels, ignored, squares, 0.125)
            for z, out in ((x, None), (x, np.empty_like(x)), (strided(x), room)):
                found, counted = COMPILED.counted_differences(z, labels, ignored, squares, np.float32(0.125), out)
                assert counted == (labels.size if ignored is None else np.sum(labels != ignored))
                assert found == COMPILED.differences(z, labels, ignored, squares, np.float32(0.125), None)
                near(found, exact[0], 4, scale=0)
                if out is not None:
                    near(out, exact[1], 4, scale=0)


@pytest.mark.parametrize("other", [None, 255.0, 0.5, 2.0, np.nan, -0.0])
@pytest.mark.parametrize("at", [0, 4095, 4096, 9000])
def test_labels_of_which_all_but_one_are_0_or_1(rng, at, other):
    """Pieces of such labels are counted, and blocks of them computed, in a way of their own."""
    labels = rng.integers(0, 2, (1, 1, 10_000)).astype(np.float32)
    labels[..., at] = 1.0 if other is None else other
    for ignored in (255, 0, 1, None):
        for most in (1, 0, 5):
            assert COMPILED.tally(labels, ignored, most).tolist() == plain.tally(labels, ignored, most)
    x = plain.grid(rng, labels.shape, np.float32)
    for numbers in (((1, 1), 0.5, 1), ((1, 1), 0.5, 3), ((1, 1.5), 0.5, 1), ((1, 1.5), 0.5, 3)):
        value, slopes = plain.binary_cross_entropy(x, labels, 255, *numbers)
        out = np.empty_like(x)
        near(COMPILED.binary_cross_entropy(x, labels, 255, *numbers, out), value, 8, scale=0)
        near(out, slopes, 8, scale=4)
    for ignored in (255, None):
        value, slopes = plain.differences(x, labels, ignored, True, 0.5)
        near(COMPILED.differences(x, labels, ignored, True, 0.5, out), value, 8, scale=0)
        near(out, slopes, 4, scale=0)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("pixels", SIZES)
def test_a_small_weight_beside_a_large_one(rng, pixels, dtype):
    """No label takes digits of its weight from the other's."""
    x = plain.grid(rng, (1, 1, pixels), np.float32)
    for label, weight, pos_weight in ((1, (2, 3e-7), 1), (0, (3e-7, 2), 1), (1, (1, 1), 3e-7), (1, (2, 3e-7), 3e-7)):
        labels = np.full(x.shape, label, dtype)
        value, slopes = plain.binary_cross_entropy(x, labels, 255, weight, 0.5, pos_weight)
        out = np.empty_like(x)
        near(COMPILED.binary_cross_entropy(x, labels, 255, weight, 0.5, pos_weight, out), value, 8, scale=0)
        near(out, slopes, 8, scale=0)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int32, np.uint8])
@pytest.mark.parametrize("pixels", SIZES)
def test_labels_counted_on_the_way(rng, pixels, dtype):
    x, labels = plain.grid(rng, (3, 2, pixels), np.float32), rng.choice([0, 1, 2, 255], (3, 2, pixels)).astype(dtype)
    for z, y in ((x, labels), (strided(x), strided(labels))):
        slopes, others = np.empty_like(x), np.empty_like(x)
        found, tally = COMPILED.counted_binary_cross_entropy(z, y, 255, 1, 0.5, 3, slopes)
        assert tally == (np.sum(labels != 255), *(np.sum(labels == number) for number in (1, 0, 2)))
        assert found == COMPILED.binary_cross_entropy(z, y, 255, (1, 1), 0.5, 3, others)
        assert np.array_equal(slopes, others)


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=str)
@pytest.mark.parametrize("pixels", SIZES)
def test_sums_of_whole_losses_in_half_precision(rng, pixels, dtype):
    """The same as of float32, and slopes that are rounded once."""
    x, exact = halves(rng.normal(size=(3, 1, pixels)).astype(np.float32) * 4, dtype)
    labels = rng.integers(0, 2, x.shape)
    labels[rng.random(x.shape) < 0.2] = 255
    soft, exact_soft = halves(np.where(labels == 255, 255, rng.random(x.shape)).astype(np.float32), dtype)
    whole = np.empty_like(exact)

    def both(call):
        for given, wide in ((labels, labels), (soft, exact_soft)):
            out = np.empty_like(x)
            found, wanted = call(x, given, out), call(exact, wide, whole)
            assert found == wanted == call(x, given, None)
            bits, rounded = (array.view(np.uint16) for array in (out, FALLBACK.cast(whole, dtype)))
            assert np.array_equal(bits, rounded)

    both(lambda x, y, out: COMPILED.binary_cross_entropy(x, y, 255, (0.5, 0.75), 2.0, 4.0, out))
    for ignored in (255, None):
        for squares in (False, True):
            both(lambda x, y, out, ignored=ignored, squares=squares: COMPILED.differences(x, y, ignored, squares, 0.5, out))
