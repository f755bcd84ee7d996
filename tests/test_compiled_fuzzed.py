"""The compiled loops, called with anything: an answer or an error, and nothing written outside of their arrays."""

from __future__ import annotations

import numpy as np
import pytest
from checks.compiled import SETS, loops, the_set_in_use  # noqa: F401  a fixture
from checks.loop_calls import CALLS, REFUSED, Guarded, S, called
from hypothesis import given, settings
from hypothesis import strategies as st

KINDS = ("f4", "f8", "i4", "i8", "u1", "?", "u8", "i2")


@st.composite
def arrays(draw, wanted):
    """Mostly what a function asks for, with something else about it now and then."""
    shape, dtype, _ = wanted
    if draw(st.integers(0, 3)) == 0:
        shape = tuple(draw(st.lists(st.sampled_from((0, 1, 2, 3, S)), max_size=3)))
    if draw(st.integers(0, 5)) == 0:
        dtype = draw(st.sampled_from(KINDS))
    found = Guarded(shape, dtype, draw(st.sampled_from((1, 1, 1, 1, 2))), draw(st.sampled_from((0, 0, 0, 0, 1, 4))))
    if draw(st.booleans()):
        bits = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 256, found.array.nbytes, dtype=np.uint8)
        found.array[...] = bits[: found.array.nbytes].view(found.array.dtype).reshape(found.array.shape)
    if draw(st.integers(0, 5)) == 0:
        found.array = found.array[::-1] if found.array.ndim > 1 else found.array
    return found


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("instruction_set", SETS)
@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=60)
@given(data=st.data())
def test_anything(name, instruction_set, data):
    loops.use(instruction_set)
    given = [data.draw(arrays(one)) if isinstance(one, tuple) else one for one in CALLS[name]]
    try:
        called(name, given)
    except (*REFUSED, IndexError):
        pass
