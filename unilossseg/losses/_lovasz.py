"""The Lovász extension of the Jaccard loss: the one place where it stands."""

from __future__ import annotations

from unilossseg._pixels import keep_where
from unilossseg.backends import Array, Backend


def lovasz_weights(ops: Backend, errors: Array, foreground: Array, valid: Array) -> Array:
    """The gradient of the Lovász extension at the errors, pixel by pixel: its dot product with them is the loss.

    It is the steps of the Jaccard loss along the errors, sorted from large to small.

    Parameters
    ----------
    errors
        (rows, P), detached, in the working dtype; those of ignored pixels must lie below all others.
    foreground, valid
        bool, (rows, P); no ignored pixel is foreground.
    """
    return keep_where(ops, valid, ops.jaccard_steps(errors, foreground))
