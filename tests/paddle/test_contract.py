"""Signatures, copies and compositions of the Layers."""

from checks.contract import *  # noqa: F403  each of its tests
