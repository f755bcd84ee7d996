"""The Lovász extension of the Jaccard loss: the one place where it stands."""

from __future__ import annotations

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
    xp = ops.xp
    dtype = work_dtype(ops, errors)
    order = ops.argsort_descending(errors)
    hits = xp.take_along_axis(xp.astype(foreground, xp.int64), order, axis=-1)
    found = xp.cumulative_sum(hits, axis=-1)
    whole = xp.sum(hits, axis=-1, keepdims=True)
    place = xp.arange(1, int(errors.shape[-1]) + 1, dtype=xp.int64, device=ops.device(errors))[None, :]
    left = xp.astype(whole - found, dtype)
    union = xp.astype(whole + place - found, dtype)
    one = xp.ones_like(union)
    at_background = left / (union * xp.maximum(union - 1, one))
    steps = xp.where(hits > 0, one, xp.zeros_like(one)) / union + xp.where(hits > 0, xp.zeros_like(one), at_background)
    # Without foreground the Jaccard loss jumps to 1 at the first pixel.
    steps = xp.where((whole == 0) & (place == 1), one, steps)
    return keep_where(ops, valid, ops.unsort(steps, order))
