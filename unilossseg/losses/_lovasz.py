"""The Lovász extension of the Jaccard loss: the one place where it stands."""

from __future__ import annotations

from typing import Any

from unilossseg._pixels import keep_where, work_dtype
from unilossseg.backends import Array, Backend


def lovasz_weights(ops: Backend, errors: Array, foreground: Array, valid: Array) -> Array:
    r"""The gradient of the Lovász extension at the errors, pixel by pixel: its dot product with them is the loss.

    With errors sorted from large to small, equal ones in the order of the pixels, G foreground pixels in all, I the number
    of them still to come and U = G + the number of background pixels so far, the Jaccard loss after k pixels is 1 - I/U.
    Its steps are 1/U at a foreground pixel and I/(U(U-1)) at a background pixel: written so, nothing cancels, where
    differences of neighbouring quotients lose every digit of float32 in a million pixels.

    Parameters
    ----------
    errors
        (rows, P), detached; those of ignored pixels must lie below all others.
    foreground, valid
        bool, (rows, P); no ignored pixel is foreground.
    """
    order = ops.argsort_descending(errors)
    steps = _steps(ops, ops.in_order(foreground, order), work_dtype(ops, errors))
    return keep_where(ops, valid, ops.unsort(steps, order))


def _steps(ops: Backend, hits: Array, dtype: Any) -> Array:
    """The steps of the Jaccard loss along the sorted pixels, from where the foreground is among them."""
    xp, pixels = ops.xp, int(hits.shape[-1])
    # Narrow counts halve the memory that a million pixels pass through.
    number = xp.int32 if pixels < 2**30 else xp.int64
    found = xp.cumulative_sum(xp.astype(hits, number), axis=-1, dtype=number)
    place = xp.arange(1, pixels + 1, dtype=number, device=ops.device(hits))[None, :]

    def step(hits: Array, found: Array, place: Array, whole: Array) -> Array:
        union = xp.astype(whole + place - found, dtype)
        at_background = xp.astype(whole - found, dtype) / xp.maximum(union - 1, xp.ones_like(union))
        # Without foreground the Jaccard loss jumps to 1 at the first pixel.
        jump = hits | (xp.equal(whole, 0) & xp.equal(place, 1))
        return (xp.astype(jump, dtype) + keep_where(ops, ~jump, at_background)) / union

    return ops.elementwise(step, hits, found, place, found[..., -1:])
