"""Triton kernels over pixels of logits: a program takes a block of pixels with all their channels, and reads each once.

Arrays come with the strides of their axes. What the kernels compute stands in `FusedOperations`.
"""

from __future__ import annotations

import triton
import triton.language as tl

# float32 below this are in the first half of their binade: log takes the fraction from [1/sqrt 2, sqrt 2).
_HALF_BINADE = tl.constexpr(0x3F3504F3)


@triton.jit
def exp(x):
    """exp(x) for x <= 0; NaN stays NaN.

    A GPU has 2^y. Rounding y = x log2(e) to float32 would cost a relative |x| 2^-24: what is rounded off goes in afterwards.
    """
    x = tl.where(x < -110.0, -110.0, x)
    y = x * 1.4426950216293335
    # The rest of the product, and x times the rest of log2(e).
    rest = tl.fma(x, 1.4426950216293335, -y) + x * 1.925963033500626e-08
    power = tl.exp2(y)
    return power + power * (rest * 0.6931471805599453)


@triton.jit
def _log1p(e):
    """log(1 + e) for any e >= 0. A GPU's own is exact to 2^-22 alone, many times what an easy pixel loses."""
    x = 1.0 + e
    lost = e - (x - 1.0)
    bits = x.to(tl.int32, bitcast=True)
    n = (bits - _HALF_BINADE) >> 23
    fraction = (bits - (n << 23)).to(tl.float32, bitcast=True)
    scale = ((127 - n) << 23).to(tl.float32, bitcast=True)
    # What the sum has lost of e goes in again: all of a small one does.
    over = (fraction - 1.0) + lost * scale
    # 2 artanh(s), a series in s^2, which is at most 0.03; and n times ln 2 in two parts, the first so short that the product
    # is exact.
    s = over / (2.0 + over)
    q = s * s
    series = 1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0)))
    whole = n.to(tl.float32)
    found = whole * 0.693145751953125 + (2 * s + (2 * s * q * series + whole * 1.428606765330187e-06))
    return tl.where(e < 3.0e38, found, e)


@triton.jit
def pixel_block(count, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """The image and the pixels of a program, and which of these exist; WIDE: an image has 2^31 numbers or more."""
    first = tl.program_id(0)
    if WIDE:
        first = first.to(tl.int64)
    s = first * BLOCK + tl.arange(0, BLOCK)
    return tl.program_id(1).to(tl.int64), s, s < count


@triton.jit
def tile(
    x, n, s, exists, channels, x_n, x_c, x_s, WIDE: tl.constexpr, BLOCK_C: tl.constexpr
):  # fmt: skip
    """Logits (channels, pixels) in float32, which exist, and the channels: a missing one is -inf, a missing pixel 0."""
    c = tl.arange(0, BLOCK_C)
    if WIDE:
        c = c.to(tl.int64)
    there = (c < channels)[:, None] & exists[None, :]
    z = tl.load(x + n * x_n + (c[:, None] * x_c + s[None, :] * x_s), mask=there, other=0.0).to(tl.float32)
    return tl.where((c < channels)[:, None], z, float("-inf")), there, c


@triton.jit
def _softmax(z):
    """exp(z - top), its sum over the channels, and top."""
    top = tl.max(z, axis=0)
    powers = exp(z - top[None, :])
    return powers, tl.sum(powers, axis=0), top


@triton.jit
def _label_parts(z, own):
    """exp(z - top) of all channels but the own one, which has 0, their sum, the sum with it, and the loss.

    Written with the sum of the others, r: log(1 + r) and -r / (1 + r) have all digits where a pixel is confident, log(norm)
    and p - 1 none.
    """
    top = tl.max(z, axis=0)
    powers = tl.where(own, 0.0, exp(z - top[None, :]))
    others = tl.sum(powers, axis=0)
    below = tl.sum(tl.where(own, z, 0.0), axis=0) - top
    power = exp(below)
    # Below the largest another power is 1, and the sum of all no less.
    return powers, others, others + power, _log1p(others + (power - 1.0)) - below


@triton.jit
def cross_entropy(
    x, index, weights, losses, slopes, channels, count,
    x_n, x_c, x_s, i_n, i_s, w_n, w_s, g_n, g_c, g_s,
    WEIGHTED: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """losses (N, S) side by side; with weights the gradient of their product."""
    n, s, exists = pixel_block(count, WIDE, BLOCK)
    z, there, c = tile(x, n, s, exists, channels, x_n, x_c, x_s, WIDE, BLOCK_C)
    y = tl.load(index + n * i_n + s * i_s, mask=exists, other=0)
    own = c[:, None] == y[None, :]
    powers, others, norm, loss = _label_parts(z, own)
    tl.store(losses + n * count + s, loss, mask=exists)
    if WEIGHTED:
        a = tl.load(weights + n * w_n + s * w_s, mask=exists, other=0.0).to(tl.float32) / norm
        slope = tl.where(own, -(others * a)[None, :], powers * a[None, :])
        tl.store(slopes + n * g_n + (c[:, None] * g_c + s[None, :] * g_s), slope, mask=there)


@triton.jit
def plain_cross_entropy(
    x, labels, by_class, share, parts, slopes, channels, count, ignored,
    x_n, x_c, x_s, l_n, l_s, g_n, g_c, g_s,
    BY_CLASS: tl.constexpr, READS: tl.constexpr, SLOPES: tl.constexpr,
    WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The sum of each program's losses goes to `parts`; READS: `share` lies on the device, and is no number."""
    n, s, exists = pixel_block(count, WIDE, BLOCK)
    z, there, c = tile(x, n, s, exists, channels, x_n, x_c, x_s, WIDE, BLOCK_C)
    y = tl.load(labels + n * l_n + s * l_s, mask=exists, other=0).to(tl.int64)
    valid = exists & (y != ignored)
    # A label that is ignored names no channel, whose power would be one of nothing.
    own = c[:, None] == tl.where(valid, y, 0)[None, :]
    powers, others, norm, loss = _label_parts(z, own)
    factor = tl.load(share).to(tl.float32) if READS else share
    if BY_CLASS:
        a = tl.load(by_class + y, mask=valid, other=0.0)
        counts = valid & (a != 0)
        total = tl.sum(tl.where(counts, loss, 0.0).to(tl.float64) * tl.where(counts, a, 0.0).to(tl.float64), axis=0)
        a = a * factor
    else:
        total = tl.sum(tl.where(valid, loss, 0.0).to(tl.float64), axis=0)
        # A product: where a label names no class the factor is NaN, and so is every entry of the gradient.
        a = tl.where(valid, 1.0, 0.0) * factor
    tl.store(parts + tl.program_id(1) * tl.num_programs(0) + tl.program_id(0), total)
    if SLOPES:
        a = a / norm
        slope = tl.where(own, -(others * a)[None, :], powers * a[None, :])
        tl.store(slopes + n * g_n + (c[:, None] * g_c + s[None, :] * g_s), slope, mask=there)


@triton.jit
def relaxed_cross_entropy(
    x, near, weights, losses, slopes, channels, count,
    x_n, x_c, x_s, m_n, m_c, m_s, w_n, w_s, g_n, g_c, g_s,
    WEIGHTED: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """As `cross_entropy`, with a mask of classes for the label."""
    n, s, exists = pixel_block(count, WIDE, BLOCK)
    z, there, c = tile(x, n, s, exists, channels, x_n, x_c, x_s, WIDE, BLOCK_C)
    mask = tl.load(near + n * m_n + (c[:, None] * m_c + s[None, :] * m_s), mask=there, other=0) != 0
    # A pixel that does not exist has its one number, so that nothing is divided by 0.
    mask = mask | ((c == 0)[:, None] & (s >= count)[None, :])
    top, near_top = tl.max(z, axis=0), tl.max(tl.where(mask, z, float("-inf")), axis=0)
    powers = exp(z - tl.where(mask, near_top[None, :], top[None, :]))
    others, near_norm = tl.sum(tl.where(mask, 0.0, powers), axis=0), tl.sum(tl.where(mask, powers, 0.0), axis=0)
    # Farther below, what is near adds nothing to the sum of all, and its power would be too small to divide by.
    below = near_top - top
    held = tl.where(below < -60.0, -60.0, below)
    whole = near_norm * exp(held)
    tl.store(losses + n * count + s, _log1p(others / whole) + (held - below), mask=exists)
    if WEIGHTED:
        a = tl.load(weights + n * w_n + s * w_s, mask=exists, other=0.0).to(tl.float32) / (whole + others)
        slope = powers * tl.where(mask, (-(others * a) / near_norm)[None, :], a[None, :])
        tl.store(slopes + n * g_n + (c[:, None] * g_c + s[None, :] * g_s), slope, mask=there)


@triton.jit
def softmax_sums(
    x, norms, tops, channels, count, x_n, x_c, x_s, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """norm and top (N, S), side by side."""
    n, s, exists = pixel_block(count, WIDE, BLOCK)
    z, _, _ = tile(x, n, s, exists, channels, x_n, x_c, x_s, WIDE, BLOCK_C)
    _, norm, top = _softmax(z)
    tl.store(norms + n * count + s, norm, mask=exists)
    tl.store(tops + n * count + s, top, mask=exists)


@triton.jit
def softmax_totals(
    x, index, weights, parts, channels, count, x_n, x_c, x_s, i_n, i_s, w_n, w_s,
    STEPS: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Three sums (3, N, programs, C) over the pixels of each program, which takes so many blocks of them."""
    n, first = tl.program_id(1).to(tl.int64), tl.program_id(0)
    if WIDE:
        first = first.to(tl.int64)
    c = tl.arange(0, BLOCK_C)
    mass = tl.zeros((BLOCK_C,), tl.float64)
    inside = tl.zeros((BLOCK_C,), tl.float64)
    counts = tl.zeros((BLOCK_C,), tl.float64)
    for step in range(STEPS):
        s = (first * STEPS + step) * BLOCK + tl.arange(0, BLOCK)
        exists = s < count
        z, _, _ = tile(x, n, s, exists, channels, x_n, x_c, x_s, WIDE, BLOCK_C)
        y = tl.load(index + n * i_n + s * i_s, mask=exists, other=0)
        a = tl.load(weights + n * w_n + s * w_s, mask=exists, other=0.0).to(tl.float32)
        powers, norm, _ = _softmax(z)
        p = powers * (a / norm)[None, :]
        own = c[:, None] == y[None, :]
        mass += tl.sum(p, axis=1).to(tl.float64)
        inside += tl.sum(tl.where(own, p, 0.0), axis=1).to(tl.float64)
        counts += tl.sum(tl.where(own, a[None, :], 0.0), axis=1).to(tl.float64)
    images, programs = tl.num_programs(1), tl.num_programs(0)
    place = (n * programs + tl.program_id(0)) * channels + c
    further = images.to(tl.int64) * programs * channels
    tl.store(parts + place, mass, mask=c < channels)
    tl.store(parts + further + place, inside, mask=c < channels)
    tl.store(parts + 2 * further + place, counts, mask=c < channels)


@triton.jit
def through_softmax(
    x, slope, weights, out, channels, count,
    x_n, x_c, x_s, d_n, d_c, d_s, w_n, w_s, g_n, g_c, g_s,
    WEIGHTED: tl.constexpr, WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`out` may be `slope`."""
    n, s, exists = pixel_block(count, WIDE, BLOCK)
    z, there, c = tile(x, n, s, exists, channels, x_n, x_c, x_s, WIDE, BLOCK_C)
    d = tl.load(slope + n * d_n + (c[:, None] * d_c + s[None, :] * d_s), mask=there, other=0.0).to(tl.float32)
    powers, norm, _ = _softmax(z)
    p = powers / norm[None, :]
    found = p * (d - tl.sum(p * d, axis=0)[None, :])
    if WEIGHTED:
        found *= tl.load(weights + n * w_n + s * w_s, mask=exists, other=0.0).to(tl.float32)[None, :]
    tl.store(out + n * g_n + (c[:, None] * g_c + s[None, :] * g_s), found, mask=there)


@triton.jit
def through_softmax_by_class(
    x, index, by_class, by_own, weights, out, channels, count,
    x_n, x_c, x_s, i_n, i_s, w_n, w_s, g_n, g_c, g_s,
    WIDE: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """by_class and by_own (N, C) side by side."""
    n, s, exists = pixel_block(count, WIDE, BLOCK)
    z, there, c = tile(x, n, s, exists, channels, x_n, x_c, x_s, WIDE, BLOCK_C)
    y = tl.load(index + n * i_n + s * i_s, mask=exists, other=0)
    a = tl.load(weights + n * w_n + s * w_s, mask=exists, other=0.0).to(tl.float32)
    each = tl.load(by_class + n * channels + c, mask=c < channels, other=0.0).to(tl.float32)
    more = tl.load(by_own + n * channels + c, mask=c < channels, other=0.0).to(tl.float32)
    powers, norm, _ = _softmax(z)
    p = powers / norm[None, :]
    slope = each[:, None] + tl.where(c[:, None] == y[None, :], more[:, None], 0.0)
    found = a[None, :] * p * (slope - tl.sum(p * slope, axis=0)[None, :])
    tl.store(out + n * g_n + (c[:, None] * g_c + s[None, :] * g_s), found, mask=there)
