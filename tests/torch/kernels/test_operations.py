"""What every backend's operations are held against, for the one with kernels: float32 on them, float64 on torch's own."""

import pytest
from checks.kernels import KERNELS
from checks.operations import *  # noqa: F403  each of its tests


@pytest.fixture
def ops():
    return KERNELS
