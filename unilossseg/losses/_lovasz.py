"""The Lovász extension of the Jaccard loss: the one place where it stands."""

from __future__ import annotations

from unilossseg.backends import Array, Backend


def lovasz_weights(ops: Backend, errors: Array, foreground: Array) -> Array:
    """The gradient of the Lovász extension at the errors, pixel by pixel: its dot product with them is the loss.

    It is the steps of the Jaccard loss along the errors, sorted from large to small, and 0 where an error is not above 0.

    Parameters
    ----------
    errors
        (rows, P), detached, in the working dtype, none of them negative; those of ignored pixels must be 0.
    foreground
        bool, (rows, P); no ignored pixel is foreground.
    """
    return ops.jaccard_steps(errors, foreground)
