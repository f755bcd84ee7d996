"""Operations on the neighbourhood of pixels in the two last axes, in Array API calls."""

from __future__ import annotations

from unilossseg.backends import Array, Backend


def _part(x: Array, axis: int, start: int, stop: int) -> Array:
    place: list[slice] = [slice(None)] * len(x.shape)
    place[axis] = slice(start, stop)
    return x[tuple(place)]


def dilate(ops: Backend, mask: Array, rows: int, columns: int, outside: bool = False) -> Array:
    """Where a boolean mask holds anywhere within so many rows and columns; `outside` is its value beyond the image."""
    for axis, radius in ((len(mask.shape) - 2, rows), (len(mask.shape) - 1, columns)):
        mask = _dilate_axis(ops, mask, axis, radius, outside)
    return mask


def _dilate_axis(ops: Backend, mask: Array, axis: int, radius: int, outside: bool) -> Array:
    xp, length = ops.xp, int(mask.shape[axis])
    # No pixel is farther off than the image is long.
    radius, reached = min(radius, length), 0
    while reached < radius:
        # Each pass begins with the mask of the one before, and the reach doubles: a larger step would leave gaps.
        step = min(reached + 1, radius - reached)
        beyond = _part(mask, axis, 0, step)
        beyond = xp.ones_like(beyond) if outside else xp.zeros_like(beyond)
        found = mask | xp.concat([_part(mask, axis, step, length), beyond], axis=axis)
        mask = found | xp.concat([beyond, _part(mask, axis, 0, length - step)], axis=axis)
        reached += step
    return mask


def triangle(ops: Backend, x: Array, axis: int, radius: int = 4) -> Array:
    """The triangle filter [1 .. r+1 .. 1] / (r+1)^2 along an axis, with symmetric (half-sample) padding.

    As a matrix it is symmetric: it is its own transpose, also in the backward pass.
    """
    axis, length = axis % len(x.shape), int(x.shape[axis])
    padded = symmetric_padding(ops, x, axis, radius)
    taps = [min(k + 1, 2 * radius + 1 - k) / (radius + 1) ** 2 for k in range(2 * radius + 1)]
    # Not `*`: where Paddle traces a program it rounds a Python number beside an operator to float32.
    out = ops.xp.multiply(_part(padded, axis, 0, length), taps[0])
    for k in range(1, len(taps)):
        out = out + ops.xp.multiply(_part(padded, axis, k, k + length), taps[k])
    return out


def symmetric_padding(ops: Backend, x: Array, axis: int, width: int) -> Array:
    """The image mirrored at its edges, edge pixels twice; again at the new edges while the image is narrower."""
    while width > 0:
        length = int(x.shape[axis])
        step = min(width, length)
        left = ops.xp.flip(_part(x, axis, 0, step), axis=axis)
        right = ops.xp.flip(_part(x, axis, length - step, length), axis=axis)
        x = ops.xp.concat([left, x, right], axis=axis)
        width -= step
    return x


def central_difference(ops: Backend, x: Array, axis: int, replicate: bool) -> Array:
    """0.5 * (x[i+1] - x[i-1]) along an axis; beyond the edge 0, or the edge pixel."""
    axis, length = axis % len(x.shape), int(x.shape[axis])
    first, last = _part(x, axis, 0, 1), _part(x, axis, length - 1, length)
    if not replicate:
        first, last = ops.xp.zeros_like(first), ops.xp.zeros_like(last)
    padded = ops.xp.concat([first, x, last], axis=axis)
    return 0.5 * (_part(padded, axis, 2, length + 2) - _part(padded, axis, 0, length))


def central_difference_transposed(ops: Backend, x: Array, axis: int, replicate: bool) -> Array:
    """The transpose of `central_difference`: its negative, but for the edge pixels where they are replicated."""
    axis, length = axis % len(x.shape), int(x.shape[axis])
    out = -central_difference(ops, x, axis, replicate=False)
    # A single pixel is both of its edges, which cancel.
    if not replicate or length == 1:
        return out
    xp = ops.xp
    first, last = 0.5 * _part(x, axis, 0, 1), 0.5 * _part(x, axis, length - 1, length)
    inner = xp.zeros_like(_part(x, axis, 1, length - 1))
    return out + xp.concat([-first, inner, last], axis=axis)
