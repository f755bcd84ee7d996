"""Triton kernels of the Lovász losses: errors of several classes, and the Jaccard loss's steps along them once sorted."""

from __future__ import annotations

import triton
import triton.language as tl

from unilossseg.backends._triton_softmax import exp, pixel_block, tile


@triton.jit
def class_errors(
    x, tops, norms, index, valid, errors, foreground, channels, count, first, x_n, x_c, x_s,
    WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """|[index = number] - exp(x - top) / norm| and which are of the class, (channels, N * S) both.

    The number of channel 0 is `first`. All but x is side by side.
    """
    n, s, exists = pixel_block(count, WIDE, BLOCK)
    z, there, c = tile(x, n, s, exists, channels, x_n, x_c, x_s, WIDE, BLOCK_C)
    here = n * count + s
    top = tl.load(tops + here, mask=exists, other=0.0)
    norm = tl.load(norms + here, mask=exists, other=1.0)
    y = tl.load(index + here, mask=exists, other=0)
    counts = tl.load(valid + here, mask=exists, other=0) != 0
    of_class = ((first + c)[:, None] == y[None, :]) & counts[None, :]
    p = exp(z - top[None, :]) / norm[None, :]
    error = tl.where(counts[None, :], tl.abs(tl.where(of_class, 1.0, 0.0) - p), 0.0)
    places = c[:, None].to(tl.int64) * (tl.num_programs(1).to(tl.int64) * count) + here[None, :]
    tl.store(errors + places, error, mask=there)
    tl.store(foreground + places, of_class.to(tl.int8), mask=there)


@triton.jit
def hinge_errors(score, index, valid, errors, foreground, size, BLOCK: tl.constexpr):
    """max(0, 1 - s (2 [index = 1] - 1)) and which are of class 1; all side by side."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    s = tl.load(score + k, mask=k < size, other=0.0).to(tl.float32)
    counts = tl.load(valid + k, mask=k < size, other=0) != 0
    of_class = (tl.load(index + k, mask=k < size, other=0) == 1) & counts
    error = 1.0 - tl.where(of_class, s, -s)
    # NaN stays NaN, which a maximum need not keep.
    error = tl.where(error < 0, 0.0, error)
    tl.store(errors + k, tl.where(counts, error, 0.0), mask=k < size)
    tl.store(foreground + k, of_class.to(tl.int8), mask=k < size)


@triton.jit
def count_hits(foreground, order, counts, pixels, BLOCK: tl.constexpr):
    """How many of a block of the order are foreground: (rows, blocks)."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    row, exists = tl.program_id(1).to(tl.int64), k < pixels
    at = tl.load(order + row * pixels + k, mask=exists, other=0)
    hits = tl.load(foreground + row * pixels + at, mask=exists, other=0)
    tl.store(counts + row * tl.num_programs(0) + tl.program_id(0), tl.sum((hits != 0).to(tl.int32), axis=0))


@triton.jit
def steps(
    errors, foreground, order, ends, scale, slopes, parts, pixels, count, g_n, g_c, g_s,
    ACROSS: tl.constexpr, SLOPES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The sum of a block's errors times their steps goes to `parts`, with SLOPES the steps times `scale` to their pixels.

    errors and order (rows, pixels) are sorted, foreground is not; ends (rows, blocks) are the running sums of `count_hits`
    over all rows. Row c of pixels (N, S) belongs to slopes[:, c, :]. ACROSS: whether scale has one number for each row.
    """
    blocks, row = tl.num_programs(0), tl.program_id(1).to(tl.int64)
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    exists = k < pixels
    before = tl.load(ends + row * blocks - 1, mask=row > 0, other=0)
    whole = tl.load(ends + row * blocks + blocks - 1) - before
    at_block = row * blocks + tl.program_id(0)
    started = tl.load(ends + at_block - 1, mask=at_block > 0, other=0) - before
    at = tl.load(order + row * pixels + k, mask=exists, other=0)
    error = tl.load(errors + row * pixels + k, mask=exists, other=0.0)
    hit = (tl.load(foreground + row * pixels + at, mask=exists, other=0) != 0) & exists
    found = started + tl.cumsum(hit.to(tl.int32), axis=0)
    # In integers: a float32 counts to 2^24 only.
    union = (whole + k + 1 - found).to(tl.float32)
    at_background = (whole - found).to(tl.float32) / tl.maximum(union - 1.0, 1.0)
    # Without foreground the Jaccard loss jumps to 1 at the first pixel.
    jump = hit | ((whole == 0) & (k == 0))
    step = tl.where(jump, 1.0, at_background) / union
    step = tl.where((error > 0) | (error != error), step, 0.0)
    total = tl.sum(tl.where(exists, step * error, 0.0).to(tl.float64), axis=0)
    tl.store(parts + at_block, total)
    if SLOPES:
        factor = tl.load(scale + row * ACROSS).to(tl.float32)
        slope = step * tl.where(hit, -factor, factor)
        tl.store(slopes + (at // count) * g_n + row * g_c + (at % count) * g_s, slope, mask=exists)
