"""array-api-compat's namespace for torch, with functions of our own where a compiler or a transform cannot follow its."""

from __future__ import annotations

from typing import Any

import torch
from array_api_compat.torch import *  # noqa: F403  the namespace, whole


def cumulative_sum(x: Any, /, *, axis: int | None = None, dtype: Any = None, include_initial: Any = False) -> Any:
    """Return running sums along an axis, with a leading 0 if `include_initial`.

    array-api-compat looks up the namespace in a cache, of which torch.compile warns.
    """
    if axis is None:
        if x.ndim != 1:
            raise ValueError(f"cumulative_sum: axis is needed for {x.ndim} dimensions")
        axis = 0
    sums = torch.cumsum(x, axis, dtype=dtype)
    if not include_initial:
        return sums
    first = sums.new_zeros([1 if at == axis % x.ndim else length for at, length in enumerate(x.shape)])
    return torch.cat([first, sums], dim=axis)


def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Any:
    """Return the elements of x at indices along an axis; the other axes broadcast.

    torch.take_along_dim ties a compiled function to one size.
    """
    at = axis % x.ndim
    if x.shape[:at] == indices.shape[:at] and x.shape[at + 1 :] == indices.shape[at + 1 :]:
        return torch.gather(x, at, indices)
    return torch.take_along_dim(x, indices, dim=at)


def sign(x: Any, /) -> Any:
    """Return -1, 0 or 1, NaN of NaN.

    array-api-compat writes the NaN through a mask, which torch.func.vmap cannot follow and which waits for a device.
    """
    signs = torch.sign(x)
    return torch.where(torch.isnan(x), x, signs) if x.dtype.is_floating_point else signs
