"""What a backend supplies beyond the standard, against NumPy's own functions."""

from __future__ import annotations

import numpy as np
import pytest
from checks import plain_loops as plain

from unilossseg.backends import get_backend
from unilossseg.backends._backend import LEAST_STRIP


@pytest.fixture
def ops(driver):
    return get_backend(driver.name)


@pytest.fixture
def rng():
    return np.random.default_rng(20)


def same(driver, got, wanted):
    np.testing.assert_array_equal(driver.numpy(got), wanted)


def near(driver, got, wanted, dtype, scale=1.0):
    """Some roundings off: of a sum of a few channels, an exponential, a logarithm and a difference of two numbers."""
    eps = float(np.finfo(dtype).eps)
    got = driver.numpy(got)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, wanted, rtol=8 * eps, atol=8 * eps * scale)


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_parts(driver, ops, rng, dtype):
    x = plain.grid(rng, (2, 5, 12), dtype)
    powers, norm, top = ops.softmax_parts(driver.array(x))
    wanted = plain.softmax_parts(x)
    for got, exact in zip((powers, norm, top, *ops.softmax_sums(driver.array(x))), (*wanted, *wanted[1:]), strict=True):
        near(driver, got, exact, dtype)
    same(driver, top, x.max(axis=1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", ["no weights", "weights", "weights and room"])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_cross_entropy(driver, ops, rng, dtype, weighted, classes):
    x, index = plain.grid(rng, (3, classes, 11), dtype), rng.integers(0, classes, size=(3, 11))
    weights = rng.random((3, 11)).astype(dtype)
    given = () if weighted == "no weights" else (driver.array(weights),)
    if weighted == "weights and room":
        # Part of a larger array, as a chunk's place in the gradient is.
        given += (driver.array(np.full((3, classes, 20), 7.0, dtype))[:, :, 4:15],)
    losses, slopes = ops.cross_entropy(driver.array(x), driver.array(index), *given)
    wanted = plain.cross_entropy(x, index, weights.astype(np.float64))
    near(driver, losses, wanted[0], dtype, scale=16)
    assert (slopes is None) == (not given)
    if given:
        near(driver, slopes, wanted[1], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", ["no weights", "weights", "weights and room"])
def test_relaxed_cross_entropy(driver, ops, rng, dtype, weighted):
    x, near_classes = plain.grid(rng, (3, 5, 11), dtype), rng.random((3, 5, 11)) < 0.4
    near_classes[:, 2] |= ~near_classes.any(axis=1)
    weights = rng.random((3, 11)).astype(dtype)
    given = () if weighted == "no weights" else (driver.array(weights),)
    if weighted == "weights and room":
        given += (driver.array(np.full((3, 5, 20), 7.0, dtype))[:, :, 4:15],)
    losses, slopes = ops.relaxed_cross_entropy(driver.array(x), driver.array(near_classes), *given)
    wanted = plain.relaxed_cross_entropy(x, near_classes, weights.astype(np.float64))
    near(driver, losses, wanted[0], dtype, scale=16)
    assert (slopes is None) == (not given)
    if given:
        near(driver, slopes, wanted[1], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("room", ["none", "another", "the slope's own"])
def test_through_softmax(driver, ops, rng, dtype, weighted, room):
    x, slope = plain.grid(rng, (3, 5, 11), dtype), rng.normal(size=(3, 5, 11)).astype(dtype)
    weights = rng.random((3, 11)).astype(dtype) if weighted else None
    given = driver.array(slope)
    out = {"none": None, "another": driver.array(np.full(x.shape, 7.0, dtype)), "the slope's own": given}[room]
    found = ops.through_softmax(driver.array(x), given, driver.array(weights) if weighted else None, out)
    near(driver, found, plain.through_softmax(x, slope, weights), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_totals(driver, ops, rng, dtype):
    x, index = plain.grid(rng, (3, 5, 11), dtype), rng.integers(0, 5, size=(3, 11))
    weights = rng.random((3, 11)).astype(dtype)
    found = ops.softmax_totals(driver.array(x), driver.array(index), driver.array(weights))
    for got, wanted in zip(found, plain.softmax_totals(x, index, weights.astype(np.float64)), strict=True):
        assert driver.numpy(got).dtype == np.float64
        np.testing.assert_allclose(driver.numpy(got), wanted, rtol=8 * float(np.finfo(dtype).eps))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("room", [False, True])
def test_through_softmax_by_class(driver, ops, rng, dtype, room):
    x, index = plain.grid(rng, (3, 5, 11), dtype), rng.integers(0, 5, size=(3, 11))
    by_class, by_own, weights = (rng.normal(size=shape).astype(dtype) for shape in ((3, 5), (3, 5), (3, 11)))
    out = driver.array(np.full(x.shape, 7.0, dtype)) if room else None
    found = ops.through_softmax_by_class(*map(driver.array, (x, index, by_class, by_own, weights)), out)
    near(driver, found, plain.through_softmax_by_class(x, index, by_class, by_own, weights), dtype, scale=2)


def test_look_up(driver, ops, rng):
    table, index = rng.normal(size=(3, 5)), rng.integers(0, 5, size=(3, 7))
    same(driver, ops.look_up(driver.array(table), driver.array(index)), np.take_along_axis(table, index, axis=1))


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("ignored", [None, 255, 0, 1, -1, 2**40])
@pytest.mark.parametrize("most", [1, 18, 299])
def test_tally(driver, ops, rng, dtype, ignored, most):
    choice = [0, 1] if dtype == "bool" else [0, 1, 2, 18, 19, 255] if dtype == "uint8" else [-1, 0, 1, 2, 18, 19, 255]
    if dtype.startswith("float"):
        choice += [0.5, 18.5, np.nan, np.inf, -np.inf]
    labels = rng.choice(choice, size=(2, 60)).astype(dtype)
    found = ops.tally(driver.array(labels), ignored, most)
    assert any(kind in str(found.dtype) for kind in ("int64", "float64"))
    same(driver, found, plain.tally(labels, ignored, most))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(7,), (2, 3), (2, 3, 4), (2, 1, 3, 2)])
def test_softplus_and_sigmoid(driver, ops, rng, dtype, shape):
    x = plain.grid(rng, shape, dtype, most=40.0)
    above, rising = ops.softplus_and_sigmoid(driver.array(x))
    near(driver, above, plain.softplus(x), dtype, scale=0)
    near(driver, rising, plain.sigmoid(x), dtype, scale=0)


LABEL_DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64")
#: Held by all, by none but the signed, by int16 and wider, and by int64 alone.
IGNORED = (1, -1, 1000, 2**40)


@pytest.mark.parametrize("dtype", LABEL_DTYPES)
@pytest.mark.parametrize("ignored", IGNORED)
def test_split_labels_and_differs(driver, ops, rng, dtype, ignored):
    labels = rng.integers(0, 5, size=(2, 40)).astype(dtype)
    if dtype != "bool" and np.iinfo(dtype).min <= ignored <= np.iinfo(dtype).max:
        labels[rng.random(labels.shape) < 0.3] = ignored
    kept = plain.counted(labels, ignored)
    same(driver, ops.differs(driver.array(labels), ignored), kept)
    index, valid = ops.split_labels(driver.array(labels), ignored)
    assert driver.numpy(index).dtype in (np.int32, np.int64)
    same(driver, valid, kept)
    same(driver, index, np.where(kept, labels, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("values", ["normal", "ties", "all equal"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_jaccard_steps(driver, ops, rng, dtype, values, share):
    errors = {
        "normal": rng.normal(size=(3, 60)),
        "ties": rng.integers(-2, 3, size=(3, 60)) / 2,
        "all equal": np.zeros((3, 60)),
    }[values].astype(dtype)
    foreground = rng.random((3, 60)) < share
    # A row of its own without any, beside others.
    foreground[1] = False
    steps, wanted = (
        ops.jaccard_steps(driver.array(errors), driver.array(foreground)),
        plain.jaccard_steps(errors, foreground),
    )
    near(driver, steps, wanted, dtype, scale=0.1)
    for row, hits, exact in zip(errors, foreground, wanted, strict=True):
        scale = np.asarray(0.5, dtype)
        value, slope = ops.lovasz(driver.array(row), driver.array(hits), driver.array(scale))
        assert "float64" in str(value.dtype)
        near(driver, ops.xp.astype(value, slope.dtype), np.sum(exact * row), dtype)
        near(driver, slope, np.where(hits, -0.5, 0.5) * exact, dtype, scale=0.1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_errors_of_the_lovasz_losses(driver, ops, rng, dtype):
    x, index, valid = plain.grid(rng, (2, 3, 40), dtype), rng.integers(0, 3, (2, 40)), rng.random((2, 40)) < 0.8
    powers, norm, top = plain.softmax_parts(x)
    given = [driver.array(array) for array in (x[:, 2], top.astype(dtype), norm.astype(dtype), index, valid)]
    errors, foreground = ops.class_errors(*given, 2)
    near(driver, errors, np.where(valid, np.abs((index == 2) - powers[:, 2] / norm), 0), dtype)
    same(driver, foreground, (index == 2) & valid)
    errors, foreground = ops.hinge_errors(given[0], *given[3:])
    near(driver, errors, np.where(valid, np.maximum(0, 1 - np.where(index == 1, 1, -1) * x[:, 2]), 0), dtype)
    same(driver, foreground, (index == 1) & valid)


def test_operations_on_part_of_a_larger_array(driver, ops, rng):
    whole, index = rng.normal(size=(2, 4, 30)).astype("float32"), rng.integers(0, 4, size=(2, 12))
    amount = rng.normal(size=(2, 12)).astype("float32")
    array = driver.array(whole)
    part, x = array[:, :, 5:17], whole[:, :, 5:17]
    same(driver, ops.pick(part, driver.array(index)), plain.at(x, index))
    wanted = np.where(plain.one_hot(index, 4) == 1, x - amount[:, None, :], x)
    same(driver, ops.subtract_at(part, driver.array(index), driver.array(amount)), wanted)
    same(driver, array[:, :, :5], whole[:, :, :5])
    same(driver, array[:, :, 17:], whole[:, :, 17:])


@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "uint8"])
@pytest.mark.parametrize("room", [False, True])
def test_sums_of_whole_losses(driver, ops, rng, dtype, room):
    """A backend may lack these; one that has them computes what their docstrings say."""
    x, labels = plain.grid(rng, (2, 3, 50), "float32"), rng.integers(0, 2, size=(2, 3, 50)).astype(dtype)
    labels[rng.random(labels.shape) < 0.2] = 255
    weight, share, pos_weight = (0.5, 0.75), 2.0, 4.0
    numbers = [driver.array(np.asarray(number, "float32")) for number in (*weight, share, pos_weight)]
    place = (lambda: driver.array(np.full(x.shape, 7.0, "float32"))) if room else (lambda: None)
    z, y, out = driver.array(x), driver.array(labels), place()
    found = ops.binary_cross_entropy(z, y, 255, tuple(numbers[:2]), *numbers[2:], out)
    if found is None:
        pytest.skip(f"{ops} leaves it to the loss")
    wanted = plain.binary_cross_entropy(x, labels, 255, weight, share, pos_weight)
    np.testing.assert_allclose(driver.numpy(ops.settled(found)), wanted[0], rtol=1e-6)
    if room:
        near(driver, out, wanted[1], "float32", scale=8)
    for ignored in (255, None):
        for squares in (False, True):
            out = place()
            found = ops.differences(z, y, ignored, squares, driver.array(np.asarray(0.125, "float32")), out)
            wanted = plain.differences(x, labels, ignored, squares, 0.125)
            np.testing.assert_allclose(driver.numpy(ops.settled(found)), wanted[0], rtol=1e-6)
            if room:
                near(driver, out, wanted[1], "float32")


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "uint8"])
@pytest.mark.parametrize("room", [False, True])
@pytest.mark.parametrize("weight", [None, np.array([0.5, 0, 2, 3, 1], np.float32)], ids=["alike", "weighted"])
def test_plain_cross_entropy(driver, ops, rng, dtype, room, weight):
    x, labels = plain.grid(rng, (2, 5, 50), "float32"), rng.integers(0, 5, size=(2, 50)).astype(dtype)
    labels[rng.random(labels.shape) < 0.2] = 255
    out = driver.array(np.full(x.shape, 7.0, "float32")) if room else None
    share = driver.array(np.asarray(0.125, "float32"))
    by_class = None if weight is None else driver.array(weight)
    found = ops.plain_cross_entropy(driver.array(x), driver.array(labels), 255, by_class, share, out)
    if found is None:
        pytest.skip(f"{ops} leaves it to the loss")
    wanted = plain.plain_cross_entropy(x, labels, 255, 0.125, weight)
    np.testing.assert_allclose(driver.numpy(ops.settled(found)), wanted[0], rtol=1e-6)
    if room:
        near(driver, out, wanted[1], "float32")


@pytest.mark.parametrize("dtype", ["int64", "int32", "int16", "uint8"])
@pytest.mark.parametrize("ignored", [255, 2])
def test_weight_sum(driver, ops, rng, dtype, ignored):
    labels, weight = rng.integers(0, 5, size=(2, 50)).astype(dtype), np.array([0.5, 0, 2, 3, 1], np.float32)
    found = driver.numpy(ops.weight_sum(driver.array(labels), ignored, driver.array(weight)))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, np.sum(np.where(labels == ignored, 0, weight[labels]), dtype=np.float64), rtol=1e-15)


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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chunks_for_classes_cover_every_pixel_once(driver, ops, dtype):
    seen = np.zeros((2, 50_000), int)
    for images, span in ops.class_chunks(driver.array(np.zeros((2, 19, 50_000), dtype))):
        seen[images, span] += 1
    assert np.all(seen == 1)


@pytest.mark.parametrize(
    "shape", [(3, 4, 5, 6), (2, 19, 200, 300), (1, 2, 2000, 500), (1, 1, 7, 100_000), (1, 1, 50_000, 2)]
)
def test_planes_and_strips_cover_every_row_once(ops, shape):
    seen = np.zeros(shape[:3], int)
    strips = ops.strips(*shape[2:])
    for images, classes in ops.planes(*shape):
        for rows in strips:
            seen[images, classes, rows] += 1
    assert np.all(seen == 1)
    # As many as a neighbourhood reaches, but for the last.
    assert all(rows.stop - rows.start >= LEAST_STRIP for rows in strips[:-1])


@pytest.mark.parametrize("values", [(0.5,), (1.0, 2.0, -np.inf)])
def test_constants_that_another_thread_clears_between_two_looks(driver, ops, monkeypatch, values):
    class Cleared(dict):
        def __contains__(self, key):
            found = super().__contains__(key)
            self.clear()
            return found

    like = driver.array(np.zeros(2, "float32"))
    monkeypatch.setattr(ops, "_constants", Cleared())
    for _ in range(4):
        same(driver, ops.constant(values, like), np.asarray(values, "float32"))
