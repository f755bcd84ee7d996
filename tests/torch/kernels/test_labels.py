"""Kernels that look at labels: what counts, what is out of range, and the classes."""

import numpy as np
import pytest
import torch
from checks import plain_loops as plain
from checks.kernels import DRIVER, KERNELS, PLAIN, part_of, same

from unilossseg.backends import _torch_triton

pytestmark = pytest.mark.usefixtures("no_fallback")

INTEGERS = ("uint8", "int8", "int16", "int32", "int64")
FLOATS = ("float16", "bfloat16", "float32")
IGNORED = (None, 255, 0, 1, -1, 100, 40_000, 2**40, -(2**63))
#: Two blocks and a part of one.
COUNT = 2 * 1024 + 77


def labels_of(rng, dtype, ignored, limit, wrong):
    """In range but for the ignored ones and, at `wrong` places, others."""
    soft = dtype in FLOATS
    most = min(limit, 128)
    y = rng.integers(0, most, size=(1, COUNT)).astype(np.float64 if soft else np.int64)
    if dtype == "bool":
        return DRIVER.array(rng.integers(0, 2, size=y.shape).astype(bool))
    if soft:
        y[rng.random(y.shape) < 0.3] *= 0.5
    places = rng.permutation(COUNT)
    y[0, places[:wrong]] = rng.choice([-1, -7, np.nan, np.inf, -np.inf] if soft else [-1, -7, 100, 127], size=wrong)
    holds = ignored is not None and (abs(ignored) <= 256 if soft else _fits(ignored, dtype))
    if holds:
        y[0, places[wrong : wrong + 500]] = ignored
    return DRIVER.array(y).to(getattr(torch, dtype))


def _fits(number, dtype):
    limits = np.iinfo(dtype)
    return limits.min <= number <= limits.max


def counts_of(labels, ignored, limit):
    """What `tally` is to find, and where labels are wrong."""
    y = DRIVER.numpy(labels)
    kept = plain.counted(y, ignored)
    wrong = kept & ~((y >= 0) & (y <= limit - 1))
    return plain.tally(y, ignored, limit - 1), wrong


cases = pytest.mark.parametrize(
    ("dtype", "ignored"),
    [("bool", ignored) for ignored in (None, 255, 0, 1)]
    + [(dtype, ignored) for dtype in INTEGERS for ignored in IGNORED]
    + [(dtype, ignored) for dtype in FLOATS for ignored in (None, 255, 0, 1, -1)],
)


@cases
@pytest.mark.parametrize(("wrong", "dense"), [(0, False), (1, True), (300, False)])
def test_checked_labels(rng, dtype, ignored, wrong, dense):
    limit = 19
    labels = labels_of(rng, dtype, ignored, limit, wrong)
    before = labels.clone()
    safe, tally, seen, poison = KERNELS.checked_labels(labels, ignored, limit, dense)
    counts, where = counts_of(labels, ignored, limit)
    same(tally, counts)
    same(poison, np.float32(np.nan if where.any() else 1))
    assert poison.dtype == torch.float32
    assert seen is safe
    same(labels, DRIVER.numpy(before))
    if dense or dtype == "bool":
        assert safe is labels
    else:
        same(safe, np.where(where, 0, DRIVER.numpy(labels)))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize(
    ("ignored", "limit", "narrow"),
    [
        (255, 19, True),
        (-(2**15) + 1, 19, True),
        (2**15 - 1, 2**15 - 1, True),
        (None, 19, True),
        (2**15, 19, False),
        (-(2**15) - 1, 19, False),
        (2**40, 19, False),
        (255, 2**15, False),
    ],
)
def test_labels_are_kept_narrow_where_all_of_them_fit(rng, dtype, ignored, limit, narrow):
    labels = labels_of(rng, dtype, ignored, limit, 5)
    safe = KERNELS.checked_labels(labels, ignored, limit, False)[0]
    assert safe.dtype == (torch.int16 if narrow and dtype in ("int32", "int64") else labels.dtype)
    same(safe, np.where(counts_of(labels, ignored, limit)[1], 0, DRIVER.numpy(labels)))


@pytest.mark.parametrize("number", [2**16 + 3, 2**32 + 3, -(2**16) + 3, 2**63 - 1, -(2**63)])
def test_a_label_that_would_be_right_in_fewer_bits_is_wrong(number):
    labels = DRIVER.array(np.array([[1, number, 2]]))
    safe, tally, _, poison = KERNELS.checked_labels(labels, 255, 19, False)
    assert safe.dtype == torch.int16
    same(safe, [[1, 0, 2]])
    same(tally, [3, 1, 0, 1])
    same(poison, np.nan)


@cases
@pytest.mark.parametrize("most", [1, 18])
def test_tally(rng, dtype, ignored, most):
    labels = labels_of(rng, dtype, ignored, 19, 30)
    same(KERNELS.tally(labels, ignored, most), counts_of(labels, ignored, most + 1)[0])


@pytest.mark.parametrize("layout", ["part", "turned"])
@pytest.mark.parametrize("dtype", ["uint8", "int64"])
def test_labels_with_gaps(rng, layout, dtype):
    labels = labels_of(rng, dtype, 255, 5, 9).reshape(25, -1)
    labels = part_of(labels) if layout == "part" else labels.T.contiguous().T
    assert not labels.is_contiguous()
    safe, tally, _, _ = KERNELS.checked_labels(labels, 255, 5, False)
    counts, wrong = counts_of(labels, 255, 5)
    same(tally, counts)
    same(KERNELS.tally(labels, 255, 4), counts)
    same(safe, np.where(wrong, 0, DRIVER.numpy(labels)))
    index, valid = KERNELS.split_labels(labels, 255)
    same(valid, DRIVER.numpy(labels) != 255)
    same(index, np.where(DRIVER.numpy(labels) == 255, 0, DRIVER.numpy(labels)))


@pytest.mark.parametrize("count", [1, 1023, 1024, 1025])
def test_numbers_around_a_block(rng, count):
    labels = DRIVER.array(rng.integers(-1, 6, size=(1, count)))
    safe, tally, _, _ = KERNELS.checked_labels(labels, 3, 5, False)
    counts, wrong = counts_of(labels, 3, 5)
    same(tally, counts)
    same(safe, np.where(wrong, 0, DRIVER.numpy(labels)))


def test_many_numbers_take_longer_blocks(rng, monkeypatch):
    assert _torch_triton.row_of(2**22 - 1) == 1024
    assert _torch_triton.row_of(2**22) == 4096
    monkeypatch.setattr(_torch_triton, "row_of", lambda size: 4096)
    labels = DRIVER.array(rng.integers(-1, 6, size=(1, 9000)))
    same(KERNELS.tally(labels, 3, 4), counts_of(labels, 3, 5)[0])


@pytest.mark.parametrize("dtype", ["bool", *INTEGERS])
@pytest.mark.parametrize("ignored", [number for number in IGNORED if number is not None])
def test_split_labels(rng, dtype, ignored):
    labels = labels_of(rng, dtype, ignored, 19, 0)
    index, valid = KERNELS.split_labels(labels, ignored)
    kept = plain.counted(DRIVER.numpy(labels), ignored)
    assert (index.dtype, valid.dtype) == (torch.int32, torch.bool)
    same(valid, kept)
    same(index, np.where(kept, DRIVER.numpy(labels), 0))


@pytest.mark.parametrize(("first", "classes"), [(0, 5), (0, 40), (1, 1)])
@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_presence(rng, first, classes, share):
    index = rng.choice([0, 2, 4] if classes > 1 else [0, 1], size=(3, COUNT))
    valid = rng.random(index.shape) < share
    found = KERNELS.presence(DRIVER.array(index, "int32"), DRIVER.array(valid), first, classes)
    assert found.dtype == torch.float32
    same(found, [float(np.any(valid & (index == c))) for c in range(first, first + classes)])


def test_presence_of_a_class_without_a_channel(monkeypatch):
    """With one channel labels may be 1, for which there is no room."""
    original, wholes = torch.zeros, []

    def with_rest(size, **options):
        wholes.append(original(size + 4, **options))
        return wholes[-1][:size]

    monkeypatch.setattr(torch, "zeros", with_rest)
    index = torch.tensor([[0, 1, 1]], dtype=torch.int32, device=DRIVER.device)
    same(KERNELS.presence(index, torch.ones_like(index, dtype=torch.bool), 0, 1), [1])
    assert not wholes[-1][1:].any()


def test_what_kernels_cannot_compare_goes_to_torch(monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(_torch_triton, "launch", None)
    wide, double = torch.tensor([[0, 1]]), torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    assert KERNELS.checked_labels(wide, 2**64, 5, False) is None
    assert KERNELS.checked_labels(double, 255, 5, False) is None
    assert KERNELS.checked_labels(double.float(), 2**24, 5, True) is None
    for labels, ignored in ((wide, 2**64), (double, 255), (double.float(), 2**24)):
        assert KERNELS.tally(labels, ignored, 4).tolist() == [2, 1, 1, 0]
    assert KERNELS.split_labels(wide, 2**64)[1].all()
    unsigned = torch.tensor([[0, 1]]).to(torch.uint16)
    assert KERNELS.checked_labels(unsigned, 255, 5, False) is None


@pytest.mark.parametrize(("dtype", "number"), [("bfloat16", 257), ("float16", 2049)])
def test_a_number_that_half_precision_rounds_is_counted_as_by_torch(monkeypatch, dtype, number):
    monkeypatch.undo()
    labels = DRIVER.array(np.array([[number - 1.0, 0.0]]), dtype)
    same(KERNELS.tally(labels, number, 1), DRIVER.numpy(PLAIN.tally(labels, number, 1)))
    assert KERNELS.checked_labels(labels, number, 2, dense=True) is None
