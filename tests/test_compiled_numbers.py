"""What the compiled loops make of numbers: accuracy over the whole range, NaN and infinity, the same bits in each set."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np
import pytest
from checks import plain_loops as plain
from checks.compiled import SETS, instruction_set, the_set_in_use  # noqa: F401  the latter two are fixtures
from checks.compiled import loops as _loops

from unilossseg.backends._compiled import CompiledBackend
from unilossseg.backends._numpy import NumPyBackend

FALLBACK = NumPyBackend("numpy", xp)
COMPILED = CompiledBackend("numpy", xp)

# Those that multiply and add with one rounding; on another processor than x86 it is the only one.
FUSED = [name for name in SETS if name != "baseline"]

# In units of the last place of the true float32, the smallest of them 2^-149. Measured on two million numbers, in every
# instruction set at most: exp 0.98, log1p 1.87, log1p of any 1.92, softplus 2.65, sigmoid 2.23.
BOUNDS = {"exp": 1.0, "log1p": 2.0, "log1p of any": 2.0, "softplus": 3.0, "sigmoid": 2.5}


def ulps(found, exact):
    """The largest error in units of the last place."""
    exact = np.asarray(exact, np.float64)
    finite = np.isfinite(exact)
    assert np.array_equal(found[~finite], exact[~finite])
    found, exact = found[finite], exact[finite]
    place = np.maximum(np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64), 2.0**-149)
    return float(np.max(np.abs(found.astype(np.float64) - exact) / place))


def falling():
    """Numbers from 0 to minus infinity: equally many of each power of two, and more where the exponential is not 0."""
    bits = np.arange(0x80000000, 0xFF800001, 2039, dtype=np.int64).astype(np.uint32)
    usual = -np.random.default_rng(2).random(200_000) * 106
    return np.concatenate([bits.view(np.float32), usual.astype(np.float32), np.float32([0, -np.inf])])


@pytest.mark.usefixtures("instruction_set")
def test_exp_and_log1p():
    x = falling()
    one = np.ones((1, x.size), np.float32)
    # The error of a class that is nowhere is its softmax.
    powers, _ = COMPILED.class_errors(x[None], 0 * one, one, np.zeros(one.shape, np.int32), one == 1, 1)
    assert ulps(powers[0], np.exp(x.astype(np.float64))) <= BOUNDS["exp"]
    norm, top = COMPILED.softmax_sums(np.stack([np.zeros_like(x), x])[None])
    assert np.all(top == 0)
    assert ulps(norm[0], 1.0 + powers[0].astype(np.float64)) <= 0.5
    for z in (x, -x):
        above, rising = COMPILED.softplus_and_sigmoid(z)
        assert ulps(above, plain.softplus(z)) <= BOUNDS["softplus"]
        assert ulps(rising, plain.sigmoid(z)) <= BOUNDS["sigmoid"]
    assert ulps(COMPILED.softplus_and_sigmoid(x)[0], np.log1p(powers[0].astype(np.float64))) <= BOUNDS["log1p"]


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("equal", [0, 1, 2, 6, 59, 4999, 70_000])
def test_log1p_of_every_sum_that_a_softmax_has(equal):
    """The label, so many others that are as large, and one that falls: the loss is log1p of what the others add up to."""
    x = falling()[:: 1 + 20 * equal]
    z = np.zeros((1, 2 + equal, x.size), np.float32)
    z[0, -1] = x
    label, one = np.zeros((1, x.size), np.int32), np.ones((1, x.size), np.float32)
    powers, _ = COMPILED.class_errors(x[None], 0 * one, one, label, one == 1, 1)
    others = np.float32(equal) + powers[0]
    losses, slopes = COMPILED.cross_entropy(z, label, one)
    assert ulps(losses[0], np.log1p(others.astype(np.float64))) <= BOUNDS["log1p of any"]
    exact = others.astype(np.float64)
    # Roundings of the sum, the quotient and the product.
    np.testing.assert_allclose(slopes[0, 0], -exact / (1 + exact), rtol=3 * 2.0**-24, atol=2.0**-149)


def odd_pixels():
    """Odd numbers in the first, a middle and the last channel, in two and in all of them, and every pair of such numbers."""
    odd = (np.nan, -np.nan, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45)
    places = ((0,), (1,), (3,), (0, 1, 2, 3), (0, 3), (1, 2))
    pixels = [np.float32([0.5, -1, 2, 0.25]) for _ in range(len(odd) ** 2 * len(places))]
    every = ((first, second, place) for first in odd for second in odd for place in places)
    for pixel, (first, second, place) in zip(pixels, every, strict=True):
        pixel[list(place)] = first
        pixel[place[-1]] = second
    # Of each pattern enough that vectors and what is left over of them meet it.
    return np.repeat(np.stack(pixels, axis=1)[None], 3, axis=2)


def alike(found, wanted):
    """NaN and infinities in the same places, finite numbers near."""
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("instruction_set")
def test_nan_and_infinity_are_where_the_fallback_has_them():
    x = odd_pixels()
    assert x.shape[2] > 600
    index = np.random.default_rng(4).integers(0, 4, (1, x.shape[2])).astype(np.int32)
    weights = np.random.default_rng(5).random((1, x.shape[2])).astype(np.float32)
    with np.errstate(all="ignore"):
        for found, wanted in zip(COMPILED.softmax_sums(x), FALLBACK.softmax_sums(x), strict=True):
            alike(found, wanted)
        for given in ((), (weights,)):
            both = zip(COMPILED.cross_entropy(x, index, *given), FALLBACK.cross_entropy(x, index, *given), strict=True)
            for found, wanted in both:
                assert (found is None) == (wanted is None)
                if found is not None:
                    alike(found, wanted)
        for found, wanted in zip(COMPILED.softplus_and_sigmoid(x), FALLBACK.softplus_and_sigmoid(x.copy()), strict=True):
            alike(found, wanted)
        near = np.random.default_rng(7).random(x.shape) < 0.5
        near[:, 1] |= ~near.any(axis=1)
        for given in ((), (weights,)):
            both = zip(
                COMPILED.relaxed_cross_entropy(x, near, *given), FALLBACK.relaxed_cross_entropy(x, near, *given), strict=True
            )
            for found, wanted in both:
                assert (found is None) == (wanted is None)
                if found is not None:
                    alike(found, wanted)
        slope = np.random.default_rng(8).normal(size=x.shape).astype(np.float32)
        alike(COMPILED.through_softmax(x, slope, weights), FALLBACK.through_softmax(x, slope, weights))
        given = (x, index, slope[:, :, 0], slope[:, :, 1], weights)
        alike(COMPILED.through_softmax_by_class(*given), FALLBACK.through_softmax_by_class(*given))
        for found, wanted in zip(
            COMPILED.softmax_totals(x, index, weights), FALLBACK.softmax_totals(x, index, weights), strict=True
        ):
            alike(found, wanted)
        norm, top = FALLBACK.softmax_sums(x)
        valid = np.random.default_rng(9).random(index.shape) < 0.7
        for number in range(4):
            given = (x[:, number], top, norm, index, valid, number)
            errors = COMPILED.class_errors(*given), FALLBACK.class_errors(*given)
            hinges = COMPILED.hinge_errors(x[:, number], index, valid), FALLBACK.hinge_errors(x[:, number], index, valid)
            for both in (errors, hinges):
                for found, wanted in zip(*both, strict=True):
                    alike(found, wanted)


@pytest.mark.usefixtures("instruction_set")
@pytest.mark.parametrize("label", [0, 1, 255])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e30, -1e30])
def test_nan_and_infinity_in_sums_of_whole_losses(number, label):
    # Alone and among others: the place in a vector must not matter.
    for size, place in ((1, 0), (40, 3), (40, 39), (600, 513)):
        x, labels = np.full((1, 1, size), 0.5, np.float32), np.ones((1, 1, size), np.int64)
        x[..., place], labels[..., place] = number, label
        out = np.empty_like(x)
        with np.errstate(all="ignore"):
            exact = plain.binary_cross_entropy(x, labels, 255, (1, 1), 1, 3)
            found = COMPILED.binary_cross_entropy(x, labels, 255, (1, 1), 1, 3, out)
            alike(out, exact[1])
            alike(found, exact[0])
            for squares in (False, True):
                sum_, slopes = plain.differences(x, labels, 255, squares, 0.5)
                # float32 ends where float64 goes on.
                sum_ = np.inf if np.isfinite(sum_) and sum_ > 3.5e38 else sum_
                alike(COMPILED.differences(x, labels, 255, squares, np.float32(0.5), out), sum_)
                alike(out, slopes)


@pytest.mark.skipif(len(FUSED) < 2, reason="this processor has one instruction set with fused multiplications")
def test_every_fused_instruction_set_gives_the_same_bits():
    rng = np.random.default_rng(6)
    x = np.concatenate(
        [rng.normal(size=(2, 5, 1300)).astype(np.float32), np.repeat(odd_pixels(), 2, axis=0)[:, [0, 1, 2, 3, 3]]], 2
    )
    pixels = x.shape[2]
    index, weights = rng.integers(0, 5, (2, pixels)), rng.random((2, pixels)).astype(np.float32)
    labels, errors = rng.integers(0, 2, x.shape), rng.normal(size=(3, pixels)).astype(np.float32)

    def everything():
        out = np.empty_like(x)
        norm, top = COMPILED.softmax_sums(x)
        yield from (norm, top)
        valid = labels[:, 0] == 0
        yield from COMPILED.class_errors(x[:, 1], top, norm, index.astype(np.int32), valid, 1)
        yield from COMPILED.hinge_errors(x[:, 1], index.astype(np.int32), valid)
        yield from COMPILED.cross_entropy(x, index, weights)
        for weight in (None, np.abs(errors[0, :5])):
            yield COMPILED.plain_cross_entropy(x, index, 3, weight, np.float32(0.3), out)
            yield out.copy()
        yield COMPILED.weight_sum(index, 3, np.abs(errors[0, :5]))
        yield from COMPILED.softplus_and_sigmoid(x)
        yield from COMPILED.relaxed_cross_entropy(x, labels == 1, weights)
        yield COMPILED.through_softmax(x, x[:, ::-1].copy(), weights)
        yield from COMPILED.softmax_totals(x, index, weights)
        yield COMPILED.through_softmax_by_class(x, index, errors[:2, :5], errors[:2, 5:10], weights)
        for row in errors:
            yield from COMPILED.lovasz(row, row > 1, np.float32(0.7))
        for squares in (False, True):
            yield COMPILED.differences(x, labels, 1, squares, np.float32(0.3), out)
            yield out.copy()
        yield COMPILED.binary_cross_entropy(x, labels, 255, (0.5, 0.75), 2.0, 4.0, out)
        yield out

    results = []
    for name in FUSED:
        _loops.use(name)
        results.append(list(everything()))
    for found in results[1:]:
        # NaN is NaN, whatever its sign and payload.
        assert all(np.array_equal(a, b, equal_nan=True) for a, b in zip(found, results[0], strict=True))
