"""Signatures, copies and compositions of the Modules."""

from checks.contract import *  # noqa: F403  each of its tests
