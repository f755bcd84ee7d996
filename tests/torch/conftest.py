"""Tests of this folder call losses as torch Modules."""

import pytest


@pytest.fixture(scope="session")
def driver():
    # Imported here, not above: pytest loads this file before it knows what it will run.
    from checks.torch_driver import TorchDriver

    return TorchDriver()


@pytest.fixture
def fresh_compiler():
    """No test meets what another has compiled, nor its count of compilations; within a test nothing is forgotten."""
    import torch

    torch._dynamo.reset()
    yield
    torch._dynamo.reset()
