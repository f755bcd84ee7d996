"""The compiled loops for tests, one instruction set after the other; without loops a module that imports this is skipped."""

from __future__ import annotations

import array_api_compat.numpy as xp
import numpy as np
import pytest

from unilossseg.backends import numpy as chosen
from unilossseg.backends._numpy import NumPyBackend

loops = pytest.importorskip("unilossseg.backends._loops", reason="this installation has no compiled loops")
SETS = loops.instruction_sets()


@pytest.fixture(autouse=True)
def the_set_in_use():
    """Whatever a test has used, the next one finds what the process had chosen."""
    yield
    loops.use(chosen.LOOPS if chosen.LOOPS in SETS else SETS[0])


@pytest.fixture(params=SETS)
def instruction_set(request, the_set_in_use):
    """Each that this processor has."""
    loops.use(request.param)
    return request.param


# Only where there are loops.
from unilossseg.backends._compiled import CompiledBackend  # noqa: E402

#: Around a block of the loops, and less than a vector.
SIZES = (1, 3, 511, 512, 513, 1025)
EPS = float(np.finfo(np.float32).eps)

FALLBACK = NumPyBackend("numpy", xp)
COMPILED = CompiledBackend("numpy", xp)


@pytest.fixture
def rng():
    return np.random.default_rng(23)


@pytest.fixture
def fallback(monkeypatch):
    """Refuses the fallback's operations inside the compiled backend: a test would compare them with themselves."""

    def refusing(operation):
        def refuse(self, *arguments):
            assert type(self) is NumPyBackend, "the compiled backend went round its loop"
            return operation(self, *arguments)

        return refuse

    for name in vars(CompiledBackend):
        if not name.startswith("_"):
            monkeypatch.setattr(NumPyBackend, name, refusing(getattr(NumPyBackend, name)))
    return FALLBACK


def near(got, wanted, roundings=8.0, scale=1.0):
    """Not more roundings off than that, of the number itself or of what it is the difference of."""
    np.testing.assert_allclose(got, wanted, rtol=roundings * EPS, atol=roundings * EPS * scale)


def strided(x):
    """The same numbers as part of a larger array, as a chunk of pixels is."""
    whole = np.full((*x.shape[:-1], x.shape[-1] + 9), 7, x.dtype)
    whole[..., 4 : 4 + x.shape[-1]] = x
    return whole[..., 4 : 4 + x.shape[-1]]


def halves(x, dtype):
    """Numbers in half precision, and what they are in float32."""
    narrow = FALLBACK.cast(x, dtype)
    return narrow, FALLBACK.cast(narrow, np.float32)
