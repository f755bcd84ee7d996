"""A Triton kernel that calculates with a few numbers on the device: what takes torch one kernel for each sign."""

from __future__ import annotations

import triton
import triton.language as tl

#: Tensors that numbers are read from, and constants, that one program can name.
MOST_TENSORS, MOST_CONSTANTS = 4, 8
#: The steps of a program: (kind, place, offset) reads a number of a tensor, (kind, place, 0) a constant, the signs take the
#: results of two earlier steps, (kind, step, place) writes that of one, and (kind, place, 0) sums a tensor's entries up.
READ, CONSTANT, ADD, SUBTRACT, MULTIPLY, DIVIDE, WRITE, SUM = range(8)
#: How many entries one program sums up sooner than a launch of torch's own sum takes, and with how many warps.
MOST_SUMMED, SUMMING_WARPS = 1 << 14, 8
#: How many of them at once.
_AT_ONCE = tl.constexpr(4096)


@triton.jit
def calculate(
    out, a, b, c, d, size, h0, l0, h1, l1, h2, l2, h3, l3, h4, l4, h5, l5, h6, l6, h7, l7,
    STEPS: tl.constexpr,
):  # fmt: skip
    """In float64, one step after the other; a constant is the sum of two float32. Kinds are spelled out as above."""
    values = ()
    for i in tl.static_range(len(STEPS)):
        if STEPS[i][0] == 0:
            values += (tl.load((a, b, c, d)[STEPS[i][1]] + STEPS[i][2]).to(tl.float64),)
        elif STEPS[i][0] == 1:
            high = (h0, h1, h2, h3, h4, h5, h6, h7)[STEPS[i][1]]
            low = (l0, l1, l2, l3, l4, l5, l6, l7)[STEPS[i][1]]
            values += (tl.zeros((), tl.float64) + high + low,)
        elif STEPS[i][0] == 2:
            values += (values[STEPS[i][1]] + values[STEPS[i][2]],)
        elif STEPS[i][0] == 3:
            values += (values[STEPS[i][1]] - values[STEPS[i][2]],)
        elif STEPS[i][0] == 4:
            values += (values[STEPS[i][1]] * values[STEPS[i][2]],)
        elif STEPS[i][0] == 5:
            values += (values[STEPS[i][1]] / values[STEPS[i][2]],)
        elif STEPS[i][0] == 7:
            found = tl.zeros((_AT_ONCE,), tl.float64)
            for start in range(0, size, _AT_ONCE):
                k = start + tl.arange(0, _AT_ONCE)
                found += tl.load((a, b, c, d)[STEPS[i][1]] + k, mask=k < size, other=0).to(tl.float64)
            values += (tl.sum(found, axis=0),)
        else:
            tl.store(out + STEPS[i][2], values[STEPS[i][1]])
            values += (values[STEPS[i][1]],)
