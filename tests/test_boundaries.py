"""Exactly at thresholds, kinks and ties."""

from checks.boundaries import *  # noqa: F403  each of its tests
