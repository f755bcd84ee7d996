"""Signatures, copies and compositions of the losses that take arrays."""

from checks.contract import *  # noqa: F403  each of its tests
