"""Triton kernels of labels and of losses that treat every element for itself; their arrays lie in memory without gaps."""

from __future__ import annotations

import triton
import triton.language as tl

from unilossseg.backends._triton_softmax import exp


@triton.jit
def check_labels(
    labels, safe, counts, poison, size, ignored, limit, MASKS: tl.constexpr, WRITES: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Adds to `counts` how many labels count, are 1, are 0, and are not in [0, limit].

    Where one is not, `poison` becomes NaN, and `safe` gets a 0 for it.
    """
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = k < size
    given = tl.load(labels + k, mask=exists, other=0)
    y = given.to(tl.float32) if given.dtype.is_floating() else given.to(tl.int64)
    counted = exists
    if MASKS:
        counted = counted & (y != ignored)
    wrong = counted & ~((y >= 0) & (y <= limit))
    flaws = tl.sum(wrong.to(tl.int32), axis=0)
    tl.atomic_add(counts, tl.sum(counted.to(tl.int32), axis=0).to(tl.float64))
    tl.atomic_add(counts + 1, tl.sum((counted & (y == 1)).to(tl.int32), axis=0).to(tl.float64))
    tl.atomic_add(counts + 2, tl.sum((counted & (y == 0)).to(tl.int32), axis=0).to(tl.float64))
    if flaws > 0:
        tl.atomic_add(counts + 3, flaws.to(tl.float64))
        tl.store(poison, float("nan"))
    if WRITES:
        tl.store(safe + k, tl.where(wrong, tl.zeros_like(given), given), mask=exists)


@triton.jit
def split_labels(labels, index, valid, size, ignored, BLOCK: tl.constexpr):
    """The class, 0 where ignored, and a mask."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    y = tl.load(labels + k, mask=k < size, other=0).to(tl.int64)
    counts = y != ignored
    tl.store(index + k, tl.where(counts, y, 0), mask=k < size)
    tl.store(valid + k, counts.to(tl.int8), mask=k < size)


@triton.jit
def presence(index, valid, present, size, classes, BLOCK: tl.constexpr):
    """1 for each of so many classes that a valid pixel has; programs write the same number."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    counts = tl.load(valid + k, mask=k < size, other=0) != 0
    y = tl.load(index + k, mask=counts, other=0)
    # With one channel class 1 is a label and has no channel.
    tl.store(present + y, tl.full((BLOCK,), 1.0, tl.float32), mask=counts & (y < classes))


@triton.jit
def _log1p(power):
    """log(1 + power) of numbers up to 1; of an easy element a GPU's own logarithm would keep few digits."""
    s = power / (2.0 + power)
    q = s * s
    series = 1.0 / 9.0 + q * (1.0 / 11.0 + q * (1.0 / 13.0))
    series = 1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * series))
    return 2 * s + 2 * s * q * series


@triton.jit
def binary_cross_entropy(
    x, labels, v, w, p, share, parts, slopes, size, ignored, SLOPES: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """v (1 - y) + w y times the loss, a program's sum to `parts`; the derivative times `share`.

    The numbers lie on the device.
    """
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = k < size
    z = tl.load(x + k, mask=exists, other=0.0).to(tl.float32)
    given = tl.load(labels + k, mask=exists, other=0)
    y = given.to(tl.float32)
    counts = exists & (given != ignored)
    # (1 - y) softplus(z) + p y softplus(-z), of which no part takes digits from another.
    power = exp(-tl.abs(z))
    away = 1.0 - y
    towards = tl.load(p).to(tl.float32) * y
    loss = tl.where(z > 0, away * z, -(towards * z)) + (away + towards) * _log1p(power)
    weight = tl.load(v).to(tl.float32) * away + tl.load(w).to(tl.float32) * y
    total = tl.sum(tl.where(counts, loss * weight, 0.0).to(tl.float64), axis=0)
    tl.store(parts + tl.program_id(0), total)
    if SLOPES:
        scale = tl.load(share).to(tl.float32) * weight
        rate = (away * tl.where(z < 0, power, 1.0) - towards * tl.where(z < 0, 1.0, power)) / (1.0 + power)
        slope = tl.where(counts, rate, 0.0) * scale
        tl.store(slopes + k, slope, mask=exists)


@triton.jit
def differences(
    x, labels, share, parts, slopes, size, ignored,
    MASKS: tl.constexpr, SQUARES: tl.constexpr, READS: tl.constexpr, SLOPES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """(x - y)^2 or |x - y|, a program's sum to `parts`; the derivative times `share`: READS: it lies on the device."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = k < size
    z = tl.load(x + k, mask=exists, other=0.0).to(tl.float32)
    given = tl.load(labels + k, mask=exists, other=0)
    d = z - given.to(tl.float32)
    if MASKS:
        d = tl.where(given != ignored, d, 0.0)
    d = tl.where(exists, d, 0.0)
    if SQUARES:
        loss = d * d
        slope = 2.0 * d
    else:
        loss = tl.abs(d)
        slope = tl.where(d > 0, 1.0, tl.where(d < 0, -1.0, d))
    tl.store(parts + tl.program_id(0), tl.sum(loss.to(tl.float64), axis=0))
    if SLOPES:
        by = tl.load(share).to(tl.float32) if READS else share
        tl.store(slopes + k, slope * by, mask=exists)


@triton.jit
def scale(x, factor, size, BLOCK: tl.constexpr):
    """x *= factor in place; nothing is read or written where it is 1, which the host cannot see without waiting."""
    by = tl.load(factor).to(tl.float32)
    if by != 1.0:
        k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        tl.store(x + k, tl.load(x + k, mask=k < size, other=0.0) * by, mask=k < size)
