"""The bits of bfloat16 in NumPy arrays."""

import numpy as np
import pytest

from unilossseg.backends import get_backend
from unilossseg.backends._bfloat16 import BFLOAT16, rounded, widened

OPS = get_backend("numpy")


def test_every_bfloat16_survives_the_way_to_float32_and_back():
    bits = np.arange(1 << 16, dtype=np.uint16)
    numbers = widened(bits.view(BFLOAT16))
    back = rounded(numbers).view(np.uint16)
    whole = ~np.isnan(numbers)
    assert np.array_equal(back[whole], bits[whole])
    assert np.all(np.isnan(widened(back.view(BFLOAT16))[~whole]))


@pytest.mark.parametrize(
    ("number", "wanted"),
    [
        # 1 + 2**-8 lies between 1 and 1 + 2**-7: the even one is taken; a little more goes up, a little less down.
        (1 + 2**-8, 1.0),
        (1 + 2**-8 + 2**-20, 1 + 2**-7),
        (1 + 3 * 2**-8, 1 + 2**-6),
        (1 + 3 * 2**-8 - 2**-20, 1 + 2**-7),
        (-(1 + 2**-8 + 2**-20), -(1 + 2**-7)),
        (3.4e38, np.inf),
        (np.inf, np.inf),
        (-0.0, -0.0),
    ],
)
def test_rounding_is_to_nearest_and_ties_to_even(number, wanted):
    got = widened(rounded(np.array([number], np.float32)))
    assert got[0] == wanted
    assert np.signbit(got[0]) == np.signbit(wanted)


def test_cast_knows_the_bits():
    x = np.array([[1.5, -2.0]], np.float32)
    packed = OPS.cast(x, BFLOAT16)
    assert packed.dtype == BFLOAT16
    assert np.array_equal(OPS.cast(packed, np.float32), x)
    assert np.array_equal(OPS.cast(packed, np.float64), x)
    assert OPS.cast(packed, BFLOAT16) is packed
