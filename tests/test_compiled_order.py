"""The compiled loops that sort and select, for every instruction set, against float64 and against what they stand in for."""

# ruff: noqa: F811  fixtures come in by import

from __future__ import annotations

import numpy as np
import pytest
from checks import plain_loops as plain
from checks.compiled import (  # noqa: F401  some are fixtures
    COMPILED,
    SIZES,
    fallback,
    instruction_set,
    near,
    rng,
    strided,
    the_set_in_use,
)
from checks.compiled import loops as _loops

pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.mark.parametrize("values", ["normal", "small and large", "ties", "zeros", "none"])
@pytest.mark.parametrize("share", [0.3, 0.0, 1.0, 0.01])
@pytest.mark.parametrize("pixels", SIZES)
def test_lovasz(rng, fallback, pixels, share, values):
    errors = {
        "normal": rng.normal(size=pixels),
        "small and large": rng.normal(size=pixels) * rng.choice([1e-30, 1e30], pixels),
        "ties": rng.integers(-2, 3, pixels) / 2,
        "zeros": rng.choice([0.0, -0.0, 1e-40, -1e-40, 2.0], pixels),
        "none": np.zeros(pixels),
    }[values].astype(np.float32)
    foreground = rng.random(pixels) < share
    steps = plain.jaccard_steps(errors[None], foreground[None])[0]
    for x, hits in ((errors, foreground), (strided(errors[None])[0], strided(foreground[None])[0])):
        value, slope = COMPILED.lovasz(x, hits, np.float32(-0.25))
        near(slope, np.where(foreground, 0.25, -0.25) * steps, 4, scale=0.01)
        # Products of the smallest numbers lose digits.
        near(value, np.sum(steps * errors), 4, scale=1e-37)
        for found, wanted in zip((value, slope), fallback.lovasz(errors, foreground, np.float32(-0.25)), strict=True):
            near(found, wanted, 4, scale=1e-37)


def test_lovasz_of_more_pixels_than_a_cache_holds(rng):
    """Their places are fetched before their turn."""
    errors = rng.random(2**20 + 7, dtype=np.float32)
    foreground = rng.random(errors.size) < 0.1
    steps = plain.jaccard_steps(errors[None], foreground[None])[0]
    value, slope = COMPILED.lovasz(errors, foreground, np.float32(0.5))
    near(slope, np.where(foreground, -0.5, 0.5) * steps, 4, scale=1e-6)
    near(value, np.sum(steps * errors), 4)
    keys = np.full(1000, (2**31 - 1) << 1, np.uint64)
    with pytest.raises(IndexError, match=rf"^1000 indices are not in \[0, {errors.size}\)$"):
        _loops.lovasz(keys, slope, 0, 1.0)


def test_lovasz_sorts_what_weighs():
    """Not what lies below 0 or behind the last foreground pixel; without any foreground, the first of the largest alone."""
    errors = np.float32([0.5, 0.1, np.nan, -1, 0.3, 0.0, 0.3, 0.2, 0.3, -2])
    for foreground, kept, marked in (({4, 9}, [2, 0, 4, 6, 8, 1, 7], 2), ({4, 0}, [2, 0, 4, 6, 8], 2), ((), [2], 0)):
        keys = np.empty(10, np.uint64)
        marks = np.isin(np.arange(10), list(foreground))
        count = len(kept)
        assert _loops.jaccard_keys(errors, marks, keys) == (count, marked)
        found = np.sort(keys[:count])
        assert [int(key) >> 1 & 0x7FFFFFFF for key in found] == sorted(
            kept, key=lambda i: (-np.nan_to_num(errors[i], nan=9), i)
        )
        assert [bool(key & 1) for key in found.tolist()] == [bool(marks[int(key) >> 1 & 0x7FFFFFFF]) for key in found]


@pytest.mark.parametrize("pixels", SIZES)
def test_errors_of_the_lovasz_losses(rng, fallback, pixels):
    x, valid = plain.grid(rng, (2, 3, pixels), np.float32, most=80), rng.random((2, pixels)) < 0.8
    index = rng.integers(0, 3, (2, pixels)).astype(np.int32)
    _, norm, top = plain.softmax_parts(x)
    norm, top = norm.astype(np.float32), top.astype(np.float32)
    for number in range(3):
        hits = (index == number) & valid
        exact = np.where(valid, np.abs(hits - np.exp(x[:, number].astype(np.float64) - top) / norm), 0)
        for z in (x, strided(x)):
            errors, foreground = COMPILED.class_errors(z[:, number], top, norm, index, valid, number)
            # Beside 1 the smallest powers leave no trace.
            near(errors, exact, 4, scale=0.1)
            assert np.array_equal(foreground, hits)
            plainly = fallback.class_errors(x[:, number], top, norm, index, valid, number)
            near(errors, plainly[0], 4, scale=0.1)
            assert np.array_equal(foreground, plainly[1])
        score = x[:, number]
        exact = np.where(valid, np.maximum(0, 1 - np.where(index == 1, 1, -1) * score.astype(np.float64)), 0)
        for z in (score, strided(x)[:, number]):
            found = COMPILED.hinge_errors(z, index, valid)
            near(found[0], exact, 1)
            for got, wanted in zip(found, fallback.hinge_errors(score, index, valid), strict=True):
                assert np.array_equal(got, wanted)


@pytest.mark.parametrize("pixels", [*SIZES, 5000])
def test_kth_largest(rng, fallback, pixels):
    x = rng.normal(size=(3, pixels)).astype(np.float32)
    ties = rng.choice(np.float32([0, 1, -1, 3e38, -3e38, 1e-42, np.inf, -np.inf]), x.shape)
    odd = np.where(rng.random(x.shape) < 0.3, np.float32(np.nan), ties)
    for rows in (x, ties, odd, np.zeros_like(x), x + np.float32(100), strided(x)):
        for k in {1, 2, pixels // 3, pixels // 2, pixels - 1, pixels} - {0}:
            if k > pixels:
                continue
            found = COMPILED.kth_largest(rows, k)
            assert found.dtype == np.float32
            assert np.array_equal(found, fallback.kth_largest(rows, k), equal_nan=True)
            assert np.array_equal(found[:, 0], np.sort(rows, axis=1)[:, pixels - k], equal_nan=True)


@pytest.mark.parametrize("count", [0, 1, 2, 1023, 1024, 5000, 100_000, 2**19 - 1, 2**19, 2**20 + 7])
def test_sorted_keys(rng, count):
    """By their upper halves, and equal ones as they came: as all of them if the lower halves ascend."""
    floats = rng.random(count, dtype=np.float32) ** 8
    uppers = (
        rng.integers(0, 2**32, count),
        rng.integers(0, 3, count),
        rng.integers(0, 2**20, count) << 11,
        rng.integers(0, 2**32, count) >> rng.integers(0, 32, count),
        np.where(rng.random(count) < 1e-4, 2**32 - 1, 7),
        np.full(count, 2**31),
        floats.view(np.uint32),
    )
    for upper in uppers:
        keys = upper.astype(np.uint64) << np.uint64(32) | np.arange(count, dtype=np.uint64)
        given, room = keys.copy(), np.empty_like(keys)
        moved = _loops.sort_keys(given, room)
        assert np.array_equal(room if moved else given, np.sort(keys))
    falling = np.arange(count, dtype=np.uint64)[::-1].copy()
    assert not _loops.sort_keys(falling, np.empty_like(falling))
    assert np.array_equal(falling, np.arange(count)[::-1])
