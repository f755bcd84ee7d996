"""Tests of this folder call losses as Paddle Layers."""

import pytest


@pytest.fixture(scope="session")
def driver():
    # Imported here, not above: pytest loads this file before it knows what it will run.
    from checks.paddle_driver import PaddleDriver

    return PaddleDriver()
