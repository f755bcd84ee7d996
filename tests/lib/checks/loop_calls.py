"""What each compiled loop is called with, in memory that shows whether a loop wrote outside of its arrays."""

from __future__ import annotations

import math

import numpy as np
from checks.compiled import loops

#: What a loop says of arguments that it does not take.
REFUSED = (ValueError, BufferError, TypeError)
F, D, I, U, B = np.float32, np.float64, np.int32, np.uint64, np.bool_  # noqa: E741  the kinds of a table
N, C, S = 2, 3, 70

#: For each function its arguments: (shape, dtype, whether it is written to), or a plain value.
CALLS = {
    "softmax_sums": (((N, C, S), F, 0), ((N, S), F, 1), ((N, S), F, 1)),
    "softplus_and_sigmoid": (((N, C, S), F, 0), ((N, C, S), F, 1), ((N, C, S), F, 1)),
    "keep_where": (((N, S), B, 0), ((N, S), F, 0), ((N, S), F, 1), -1, 2),
    "split_labels": (((N, S), np.int64, 0), ((N, S), I, 1), ((N, S), B, 1), 255),
    "cross_entropy": (((N, C, S), F, 0), ((N, S), I, 0), ((N, S), F, 1), ((N, S), F, 0), ((N, C, S), F, 1), 2),
    "plain_cross_entropy": (((N, C, S), F, 0), ((N, S), np.int64, 0), ((N, C, S), F, 1), ((C,), F, 0), 255, 0.5, 2),
    "weight_sum": (((N, S), np.int64, 0), ((C,), F, 0), 255, 2),
    "through_softmax": (((N, C, S), F, 0), ((N, C, S), F, 0), ((N, S), F, 0), ((N, C, S), F, 1)),
    "softmax_totals": (((N, C, S), F, 0), ((N, S), I, 0), ((N, S), F, 0), ((N, 3, C), D, 1), 2),
    "through_softmax_by_class": (
        ((N, C, S), F, 0),
        ((N, S), I, 0),
        ((N, C), F, 0),
        ((N, C), F, 0),
        ((N, S), F, 0),
        ((N, C, S), F, 1),
        2,
    ),
    "relaxed_cross_entropy": (((N, C, S), F, 0), ((N, C, S), B, 0), ((N, S), F, 1), ((N, S), F, 0), ((N, C, S), F, 1)),
    "class_errors": (*(((N, S), F, 0),) * 3, ((N, S), I, 0), ((N, S), B, 0), ((N, S), F, 1), ((N, S), B, 1), 1),
    "hinge_errors": (((N, S), F, 0), ((N, S), I, 0), ((N, S), B, 0), ((N, S), F, 1), ((N, S), B, 1)),
    "jaccard_keys": (((S,), F, 0), ((S,), B, 0), ((S,), U, 1)),
    "kth_largest": (((N, S), F, 0), ((N, 1), F, 1), 5),
    "sort_keys": (((S,), U, 1), ((S,), U, 1)),
    "lovasz": (((S,), U, 0), ((S,), F, 1), 3, 0.5),
    "widen": (((N, C, S), np.uint16, 0), ((N, C, S), F, 1)),
    "narrow": (((N, C, S), F, 0), ((N, C, S), np.uint16, 1)),
    "tally": (((N, S), np.int64, 0), ((4,), np.int64, 1), 255, 1, 2),
    "binary_cross_entropy": (
        *(((N, C, S), F, 0), ((N, C, S), I, 0), ((N, C, S), F, 1)),
        *(255, 1, 1, 1, 1, 2, 1),
    ),
    "differences": (((N, C, S), F, 0), ((N, C, S), I, 0), ((N, C, S), F, 1), 255, True, 0.5, 2),
}
#: Where a function reads class numbers, or places, and how many there are.
INDICES = dict.fromkeys(("cross_entropy", "plain_cross_entropy", "softmax_totals", "through_softmax_by_class"), (1, C))
#: Where a function takes numbers of half precision too, and bfloat16 as its bits.
HALVES = {"cross_entropy": (0, 4), "plain_cross_entropy": (0, 2), "softmax_totals": (0,), "through_softmax_by_class": (0, 5)}
#: What takes no arrays.
OTHERS = {"use", "instruction_sets", "send_away", "forget_threads"}
ARGUMENTS = [(name, i) for name, wanted in CALLS.items() for i, one in enumerate(wanted) if isinstance(one, tuple)]
OUTPUTS = [(name, i) for name, i in ARGUMENTS if CALLS[name][i][2]]

MARGIN = 256


class Guarded:
    """An array in the middle of a larger piece of memory: everything of it that is not the array must stay."""

    def __init__(self, shape, dtype, stride=1, off=0):
        dtype = np.dtype(dtype)
        length = math.prod(shape) * dtype.itemsize * stride
        self.memory = np.full(2 * MARGIN + length + off, 0xA5, np.uint8)
        inner = self.memory[MARGIN + off : MARGIN + off + length].view(dtype)[::stride]
        self.array = inner.reshape(shape)
        assert np.shares_memory(self.array, self.memory) or self.array.size == 0
        self.array[...] = 0
        gaps = np.ones(self.memory.shape, bool)
        gaps[MARGIN + off : MARGIN + off + length] = np.arange(length) // dtype.itemsize % stride > 0
        self.gaps = gaps

    def whole(self):
        return bool(np.all(self.memory[self.gaps] == 0xA5))


def arguments(name):
    return [Guarded(*one[:2]) if isinstance(one, tuple) else one for one in CALLS[name]]


def called(name, given):
    """The call; then, nothing outside of the arrays has changed."""
    try:
        return getattr(loops, name)(*(one.array if isinstance(one, Guarded) else one for one in given))
    finally:
        for one in given:
            assert not isinstance(one, Guarded) or one.whole()
