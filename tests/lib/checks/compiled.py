"""The compiled loops for tests, one instruction set after the other; without loops a module that imports this is skipped."""

from __future__ import annotations

import pytest

from unilossseg.backends import numpy as chosen

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
