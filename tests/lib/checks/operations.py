"""What a backend supplies beyond the standard, against NumPy's own functions."""

from __future__ import annotations

import numpy as np
import pytest

from unilossseg.backends import get_backend


@pytest.fixture
def ops(driver):
    return get_backend(driver.name)


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def same(driver, got, wanted):
    np.testing.assert_array_equal(driver.numpy(got), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("other", [0, -1, 2.5, -np.inf])
def test_keep_where(driver, ops, rng, dtype, other):
    x, mask = rng.normal(size=(2, 3, 5)).astype(dtype), rng.random((2, 3, 5)) < 0.5
    x[~mask] = np.nan
    same(driver, ops.keep_where(driver.array(mask), driver.array(x), other), np.where(mask, x, x.dtype.type(other)))


def test_keep_where_broadcasts(driver, ops, rng):
    x, mask = rng.normal(size=(2, 3, 5)).astype("float32"), rng.random((2, 1, 5)) < 0.5
    same(driver, ops.keep_where(driver.array(mask), driver.array(x)), np.where(mask, x, np.float32(0)))


@pytest.mark.parametrize("k", [0, 1, 3, 100])
def test_first_true(driver, ops, rng, k):
    mask = rng.random((3, 40)) < 0.3
    same(driver, ops.first_true(driver.array(mask), k), mask & (np.cumsum(mask, axis=-1) <= k))


def test_first_true_of_rows_of_their_own(driver, ops, rng):
    mask, k = rng.random((3, 40)) < 0.3, np.array([[0], [2], [50]])
    same(driver, ops.first_true(driver.array(mask), driver.array(k)), mask & (np.cumsum(mask, axis=-1) <= k))


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_count(driver, ops, rng, axis):
    mask = rng.random((2, 3, 5)) < 0.5
    found = ops.count(driver.array(mask), axis=axis)
    same(driver, found, np.sum(mask, axis=axis))
    assert "int64" in str(found.dtype)


def test_sign(driver, ops):
    x = np.array([-np.inf, -2.0, -0.0, 0.0, 1e-300, 3.0, np.inf, np.nan])
    same(driver, ops.xp.sign(driver.array(x)), np.sign(x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("values", ["normal", "ties", "zeros", "ends"])
def test_argsort_descending(driver, ops, rng, dtype, values):
    x = {
        "normal": rng.normal(size=(2, 1000)),
        "ties": rng.integers(-3, 3, size=(2, 1000)),
        "zeros": rng.choice([0.0, -0.0, 1e-40, -1e-40], size=(2, 1000)),
        "ends": rng.choice([-np.inf, -3e38, 0.0, 3e38, np.inf], size=(2, 1000)),
    }[values].astype(dtype)
    same(driver, ops.argsort_descending(driver.array(x)), np.argsort(-x, axis=-1, kind="stable"))


def test_there_and_back_through_an_order(driver, ops, rng):
    x, order = rng.normal(size=(2, 50)), np.stack([rng.permutation(50) for _ in range(2)])
    there = ops.in_order(driver.array(x), driver.array(order))
    same(driver, there, np.take_along_axis(x, order, axis=-1))
    same(driver, ops.unsort(there, driver.array(order)), x)


@pytest.mark.parametrize("k", [1, 7, 50])
def test_kth_largest(driver, ops, rng, k):
    x = rng.integers(0, 20, size=(2, 50)).astype("float32")
    same(driver, ops.kth_largest(driver.array(x), k), np.sort(x, axis=-1)[:, ::-1][:, k - 1 : k])


@pytest.mark.parametrize("turned", [False, True])
def test_pick_and_subtract_at(driver, ops, rng, turned):
    x, index = rng.normal(size=(3, 4, 6)).astype("float32"), rng.integers(0, 4, size=(3, 6))
    amount = rng.normal(size=(3, 6)).astype("float32")
    array = driver.turned(x) if turned else driver.array(x)
    same(driver, ops.pick(array, driver.array(index)), np.take_along_axis(x, index[:, None, :], axis=1)[:, 0, :])
    onehot = np.arange(4)[None, :, None] == index[:, None, :]
    wanted = np.where(onehot, x - amount[:, None, :], x)
    same(driver, ops.subtract_at(driver.array(x), driver.array(index), driver.array(amount)), wanted)


def test_class_sums(driver, ops, rng):
    values, index = rng.integers(0, 9, size=(2, 30)).astype("float32"), rng.integers(0, 4, size=(2, 30))
    wanted = [[np.sum(v[i == c]) for c in range(5)] for v, i in zip(values, index, strict=True)]
    same(driver, ops.class_sums(driver.array(values), driver.array(index), 5), wanted)


def test_elementwise_takes_pieces_for_the_whole(driver, ops, rng):
    x, y, row = rng.normal(size=(2, 100_000)), rng.normal(size=(2, 100_000)), rng.normal(size=(2, 1))
    first, second = ops.elementwise(
        lambda x, y, row: (x + y * row, x > y), driver.array(x), driver.array(y), driver.array(row)
    )
    same(driver, first, x + y * row)
    same(driver, second, x > y)
    same(driver, ops.elementwise(lambda x: x * 2, driver.array(x)), x * 2)


def test_planewise(driver, ops, rng):
    x = rng.normal(size=(2, 3, 4, 5))
    same(driver, ops.planewise(lambda planes: planes > 0, driver.array(x)), x > 0)


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 50), (2, 19, 100_000), (5, 150, 3000)])
def test_chunks_cover_every_pixel_once(ops, shape, small):
    seen = np.zeros((shape[0], shape[2]), int)
    for images, span in ops.chunks(*shape, small=small):
        seen[images, span] += 1
    assert np.all(seen == 1)


def test_planes_cover_every_class_once(ops):
    seen = np.zeros((3, 4), int)
    for images, classes in ops.planes(3, 4):
        seen[images, classes] += 1
    assert np.all(seen == 1)
