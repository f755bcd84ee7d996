"""Triton kernels that find the k-th largest number of a row by its digits, and mark the k largest, without sorting.

Four passes count the bytes of the numbers, from the highest on, each among those that begin as the k-th largest does.
"""

from __future__ import annotations

import triton
import triton.language as tl

DIGITS = tl.constexpr(256)


@triton.jit
def _key(x):
    """uint32 in the order of the numbers: -0 is 0, and NaN the largest."""
    bits = tl.where(x == 0, 0.0, x).to(tl.int32, bitcast=True)
    key = tl.where(bits < 0, ~bits, bits ^ -0x80000000)
    return tl.where(x == x, key, -1).to(tl.uint32, bitcast=True)


@triton.jit
def _found(counts, k, PASSES: tl.constexpr):
    """The first digits of the k-th largest key, and its place among the keys that have them; counts (4, 256) of its row."""
    digits, prefix = tl.arange(0, DIGITS), tl.zeros((), tl.uint32)
    for done in tl.static_range(PASSES):
        count = tl.load(counts + done * DIGITS + digits)
        greater = tl.sum(count, axis=0) - tl.cumsum(count, axis=0)
        here = (greater < k) & (k <= greater + count)
        digit = tl.sum(tl.where(here, digits, 0), axis=0)
        k -= tl.sum(tl.where(here, greater, 0), axis=0)
        prefix = (prefix << 8) | digit.to(tl.uint32)
    return prefix, k


@triton.jit
def _wanted(k, row, PER_ROW: tl.constexpr):
    """A number, or one for each row."""
    if PER_ROW:
        k = tl.load(k + row).to(tl.int32)
    return k


@triton.jit
def count_digits(
    x, k, counts, length, PER_ROW: tl.constexpr, PASS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Adds to counts (rows, 4, 256) how many keys that begin as the k-th largest have each digit next."""
    row = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    counts += row * 4 * DIGITS
    key = _key(tl.load(x + row * length + at, mask=at < length, other=0.0))
    counted = at < length
    if PASS > 0:
        prefix, _ = _found(counts, _wanted(k, row, PER_ROW), PASS)
        counted = counted & ((key >> (32 - 8 * PASS)) == prefix)
    digit = ((key >> (24 - 8 * PASS)) & 255).to(tl.int32)
    # What is not counted falls into bins of its own.
    bins = tl.arange(0, 2 * DIGITS)
    found = tl.histogram(tl.where(counted, digit, DIGITS), 2 * DIGITS)
    tl.atomic_add(counts + PASS * DIGITS + bins, found, mask=(bins < DIGITS) & (found > 0))


@triton.jit
def kth_largest(counts, k, out, PER_ROW: tl.constexpr):
    """The number itself, (rows,)."""
    row = tl.program_id(0).to(tl.int64)
    key, _ = _found(counts + row * 4 * DIGITS, _wanted(k, row, PER_ROW), 4)
    key = key.to(tl.int32, bitcast=True)
    bits = tl.where(key < 0, key ^ -0x80000000, ~key)
    # The key of NaN is no number's.
    number = tl.where(key == -1, float("nan"), bits.to(tl.float32, bitcast=True))
    tl.store(out + row, number)


@triton.jit
def count_ties(x, k, counts, ties, length, PER_ROW: tl.constexpr, BLOCK: tl.constexpr):
    """How many numbers of a block equal the k-th largest: (rows, blocks)."""
    row = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    least, _ = _found(counts + row * 4 * DIGITS, _wanted(k, row, PER_ROW), 4)
    key = _key(tl.load(x + row * length + at, mask=at < length, other=0.0))
    tied = (key == least) & (at < length)
    tl.store(ties + row * tl.num_programs(0) + tl.program_id(0), tl.sum(tied.to(tl.int32), axis=0))


@triton.jit
def mark_largest(
    x, k, counts, ends, mask, length, PER_ROW: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Which are the k largest, of equal ones the first, and NaN; ends (rows, blocks): running sums of ties."""
    row, blocks = tl.program_id(1).to(tl.int64), tl.num_programs(0)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    least, wanted = _found(counts + row * 4 * DIGITS, _wanted(k, row, PER_ROW), 4)
    number = tl.load(x + row * length + at, mask=at < length, other=0.0)
    key = _key(number)
    tied = (key == least) & (at < length)
    block = row * blocks + tl.program_id(0)
    before = tl.load(ends + row * blocks - 1, mask=row > 0, other=0)
    started = tl.load(ends + block - 1, mask=block > 0, other=0) - before
    place = started + tl.cumsum(tied.to(tl.int32), axis=0)
    chosen = (key > least) | (tied & (place <= wanted)) | (number != number)
    tl.store(mask + row * length + at, chosen.to(tl.int8), mask=at < length)
