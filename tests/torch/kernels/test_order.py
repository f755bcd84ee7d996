"""Kernels that find the largest numbers and walk along sorted errors."""

import numpy as np
import pytest
import torch
from checks import plain_loops as plain
from checks.kernels import DRIVER, FLOATS, KERNELS, assert_rest, logits, near, part_of, room_for, same

from unilossseg.backends import _torch_grids, _torch_triton_order

ROW, LONG_ROW = _torch_grids.ROW, _torch_grids.LONG_ROW
KINDS = ("normal", "ties", "alike", "zeros", "ends", "bytes")


def numbers(rng, kind, shape):
    """Of each kind, with both zeros and denormal numbers, and with the same digits in front."""
    return {
        "normal": rng.normal(size=shape),
        "ties": rng.integers(-2, 3, size=shape),
        "alike": np.full(shape, -0.75),
        "zeros": rng.choice([0.0, -0.0, 1e-40, -1e-40], size=shape),
        "ends": rng.choice([-np.inf, np.inf, -3e38, 3e38, 0.0], size=shape),
        "bytes": 1 + rng.integers(0, 300, size=shape) * 2.0**-23,
    }[kind].astype(np.float32)


def chosen(x, k):
    """Where the k largest of each row are, of equal ones the first."""
    mask = np.zeros(x.shape, bool)
    for row, count, out in zip(x, k, mask, strict=True):
        out[np.argsort(-row, kind="stable")[:count]] = True
    return mask


def check(x, k):
    """k: one number, or one for each row."""
    rows = [k] * len(x) if isinstance(k, int) else k
    given = k if isinstance(k, int) else DRIVER.array(np.asarray(k)[:, None])
    least = [np.sort(row)[len(row) - count] for row, count in zip(x, rows, strict=True)]
    same(KERNELS.kth_largest(DRIVER.array(x), given), np.asarray(least)[:, None])
    mask = KERNELS.top_k_mask(DRIVER.array(x), given)
    assert mask.dtype == torch.bool
    same(mask, chosen(x, rows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 100, 300])
def test_one_k_for_all_rows(rng, no_fallback, kind, k):
    check(numbers(rng, kind, (2, 300)), k)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [(1, 300, 77)])
def test_a_k_for_each_row(rng, no_fallback, kind, k):
    check(numbers(rng, kind, (3, 300)), k)


@pytest.mark.parametrize("length", [1, ROW - 1, ROW, ROW + 1, LONG_ROW + 1])
@pytest.mark.parametrize("kind", ["ties", "normal"])
def test_lengths_around_blocks(rng, no_fallback, length, kind):
    check(numbers(rng, kind, (1, length)), (length + 1) // 2)


def test_ties_across_blocks_and_rows(rng, no_fallback):
    """The last equal number that is chosen lies in a later block than the first; each row starts to count anew."""
    check(numbers(rng, "ties", (3, 2 * ROW + 100)), (ROW + 500, 2 * ROW + 99, 300))


@pytest.mark.parametrize("k", [1, 3, 5, 20])
def test_nan_is_largest_and_always_chosen(rng, no_fallback, k):
    x = numbers(rng, "ties", (2, 40))
    x[0, [3, 11, 39]] = np.nan
    x[1, :37] = np.nan
    x.view(np.uint32)[0, 11] |= 0x80000000
    least = KERNELS.kth_largest(DRIVER.array(x), k)
    same(least, np.sort(x)[:, 40 - k : 41 - k])
    mask = DRIVER.numpy(KERNELS.top_k_mask(DRIVER.array(x), k))
    assert mask[np.isnan(x)].all()
    assert mask.sum(axis=1).tolist() == [max(k, 3), max(k, 37)]


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_other_rows_and_ks(rng, no_fallback, dtype):
    """Rows with gaps, one k for all of them in an array, and narrow ones."""
    x = numbers(rng, "normal", (2, 300))
    part, k = part_of(DRIVER.array(x)), DRIVER.array(np.array([[20]]), dtype)
    same(KERNELS.top_k_mask(part, k), chosen(x, (20, 20)))
    same(KERNELS.kth_largest(part, k), np.sort(x)[:, 280:281])


def test_other_numbers_are_torchs(rng, monkeypatch):
    monkeypatch.setattr(_torch_triton_order, "launch", None)
    x = rng.normal(size=(2, 3, 40))
    # More rows than a grid has on its second axis, which a program each would need.
    rows = np.broadcast_to(np.arange(40, dtype=np.float32), (2**16, 40))
    for array in (x, x.astype(np.float32), x[0], rows):
        wanted = np.sort(array)[..., 33:34]
        same(KERNELS.kth_largest(DRIVER.array(array), 7), wanted)
        same(KERNELS.top_k_mask(DRIVER.array(array), 7), array >= wanted)


# ---------------------------------------------------------------------------------------------------- Lovász
def lovasz(errors, foreground):
    """Value and steps of one row in float64."""
    steps = plain.jaccard_steps(errors[None], foreground[None])[0]
    return np.sum(steps * errors), steps


@pytest.mark.parametrize("pixels", [1, 50, ROW, ROW + 1, 2 * ROW + 300])
@pytest.mark.parametrize("kind", ["normal", "ties", "alike", "below 0"])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_lovasz(rng, no_fallback, pixels, kind, share):
    errors = {
        "normal": np.abs(rng.normal(size=pixels)),
        "ties": rng.integers(0, 3, size=pixels) / 2,
        "alike": np.full(pixels, 0.5),
        "below 0": rng.normal(size=pixels),
    }[kind].astype(np.float32)
    foreground = rng.random(pixels) < share
    value, slopes = KERNELS.lovasz(DRIVER.array(errors), DRIVER.array(foreground), DRIVER.array(np.asarray(0.5, np.float32)))
    wanted, steps = lovasz(errors.astype(np.float64), foreground)
    assert value.dtype == torch.float64
    np.testing.assert_allclose(DRIVER.numpy(value), wanted, rtol=1e-6, atol=1e-12)
    # float64's differences of quotients lose digits of their own.
    near(slopes, np.where(foreground, -0.5, 0.5) * steps, scale=1e-4)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layout", ["dense", "part"])
def test_hinge_errors(rng, no_fallback, dtype, layout):
    score = DRIVER.array(rng.uniform(-3, 3, size=(2, 700)).astype(np.float32), dtype)
    score[0, :6] = torch.tensor([1.0, -1.0, 0.0, torch.nan, torch.inf, -torch.inf])
    index, valid = rng.integers(0, 2, size=(2, 700)), rng.random((2, 700)) < 0.8
    valid[0, :6] = True
    given = score, DRIVER.array(index, "int32"), DRIVER.array(valid)
    found, foreground = KERNELS.hinge_errors(*(part_of(x) if layout == "part" else x for x in given))
    same(foreground, (index == 1) & valid)
    wanted = np.maximum(1 - DRIVER.numpy(score).astype(np.float64) * np.where(index == 1, 1, -1), 0)
    near(found, np.where(valid, wanted, 0))


def test_errors_that_autograd_must_see_are_torchs(rng):
    score = DRIVER.array(rng.normal(size=(1, 9)).astype(np.float32)).requires_grad_(True)
    index = torch.zeros((1, 9), dtype=torch.int32, device=score.device)
    errors, _ = KERNELS.hinge_errors(score, index, index == 0)
    assert torch.autograd.grad(errors.sum(), score)[0].abs().sum() > 0


def test_an_error_that_is_not_a_number(rng):
    errors = np.abs(rng.normal(size=60)).astype(np.float32)
    errors[7] = np.nan
    value, _ = KERNELS.lovasz(DRIVER.array(errors), DRIVER.array(errors > 1), torch.ones((), device=DRIVER.device))
    same(value, np.nan)


@pytest.mark.parametrize(
    ("channels", "count", "group", "dtype"),
    [(5, 700, (0, 5), "float32"), (5, 700, (1, 3), "float32"), (5, 700, (4, 5), "bfloat16"), (19, 37, (6, 18), "float32")]
    + [(size, count, group, dtype) for size, count, group in ((3, 20, (0, 3)), (150, 9, (125, 150))) for dtype in FLOATS],
)
def test_lovasz_of_classes(rng, no_fallback, channels, count, group, dtype):
    """A group of classes of two images, with ties, ignored pixels, and a class that no pixel has."""
    x, _ = logits(rng, (2, channels, count), dtype, "part")
    # The same pixel several times: its errors are equal, and their order is that of the pixels.
    x[:, :, count // 2 :] = x[:, :, : count - count // 2].clone()
    exact = DRIVER.numpy(x).astype(np.float64)
    index = rng.integers(0, channels, size=(2, count))
    index[index == group[0]] = group[0] if group[1] - group[0] == 1 else (group[0] + 1)
    valid = rng.random(index.shape) < 0.8
    shares = rng.random(group[1] - group[0]).astype(np.float32)
    shares[-1] = 0
    there = slice(*group)
    sums = KERNELS.softmax_sums(x)
    out = room_for(x, torch.float32)
    labels = DRIVER.array(index, "int32"), DRIVER.array(valid)
    given = sums, labels, group[0], DRIVER.array(shares)
    found = KERNELS.lovasz_classes(x[:, there], *given, out[:, there])

    p = np.exp(exact - exact.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    value, slopes = 0.0, np.full(exact.shape, 5.0)
    for k, c in enumerate(range(*group)):
        foreground = (index == c) & valid
        # In float32 as the kernel has them: which of two near-equal errors comes first shows in single entries.
        errors = np.where(valid, np.abs(foreground - p[:, c]), 0).astype(np.float32).astype(np.float64)
        loss, steps = lovasz(errors.ravel(), foreground.ravel())
        value += shares[k] * loss
        slopes[:, c] = np.where(foreground, -shares[k], shares[k]) * steps.reshape(foreground.shape)
    assert found.dtype == torch.float64
    np.testing.assert_allclose(DRIVER.numpy(found), value, rtol=1e-5)
    difference = DRIVER.numpy(out)[:, there] - slopes[:, there]
    assert np.linalg.norm(difference) <= 1e-3 * np.linalg.norm(slopes[:, there])
    same(out[:, : group[0]], slopes[:, : group[0]])
    same(out[:, group[1] :], slopes[:, group[1] :])
    assert_rest(out)
    same(KERNELS.lovasz_classes(x[:, there], *given, None), DRIVER.numpy(found))


def test_a_value_alone_takes_no_room_for_a_gradient(rng, no_fallback, monkeypatch):
    x, exact = logits(rng, (2, 3, 20), "float32")
    index = DRIVER.array(rng.integers(0, 3, size=(2, 20)), "int32")
    given = KERNELS.softmax_sums(x), (index, index >= 0), 0, torch.ones(3, device=x.device)
    made, original = [], torch.empty
    monkeypatch.setattr(torch, "empty", lambda *shape, **kind: made.append(original(*shape, **kind)) or made[-1])
    KERNELS.lovasz_classes(x, *given, None)
    # The errors, and what pixels are of the class.
    assert [one.dtype for one in made if one.numel() == x.numel()] == [torch.float32, torch.bool]
    same(x, exact)


def test_no_pixel_counts(rng, no_fallback):
    x, _ = logits(rng, (2, 3, 20), "float32")
    index = torch.zeros((2, 20), dtype=torch.int32, device=x.device)
    one, out = torch.ones(3, device=x.device), room_for(x)
    found = KERNELS.lovasz_classes(x, KERNELS.softmax_sums(x), (index, index != 0), 0, one, out)
    same(found, 0)
    same(out, np.zeros((2, 3, 20)))


@pytest.mark.parametrize("channels", [1, 2, 5, 6, 7, 19, 150])
@pytest.mark.parametrize("pixels", [1, 4096, 2**20, 2**28])
def test_groups_of_classes(channels, pixels):
    groups = KERNELS.class_groups(channels, pixels)
    assert [c for group in groups for c in range(channels)[group]] == list(range(channels))
    largest = max(group.stop - group.start for group in groups)
    # A few of many, or as many as a little memory sorts.
    assert largest <= max(1, channels // 6) or largest * pixels * 40 <= 64 * 2**20
    if channels * pixels * 40 <= 64 * 2**20:
        assert len(groups) == 1


def test_lovasz_of_every_other_error(rng):
    errors, foreground = rng.random(40).astype(np.float32), rng.random(40) < 0.4
    one = torch.ones((), device=DRIVER.device)
    parts = [DRIVER.array(x)[::2] for x in (errors, foreground)]
    for got, wanted in zip(KERNELS.lovasz(*parts, one), KERNELS.lovasz(*(x.clone() for x in parts), one), strict=True):
        same(got, DRIVER.numpy(wanted))
