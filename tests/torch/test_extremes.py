"""Logits at the ends of their range."""

from checks.extremes import *  # noqa: F403  each of its tests
