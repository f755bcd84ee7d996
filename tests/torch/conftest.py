"""Tests of this folder call losses as torch Modules."""

import pytest


@pytest.fixture(scope="session")
def driver():
    # Imported here, not above: pytest loads this file before it knows what it will run.
    from checks.torch_driver import TorchDriver

    return TorchDriver()
