"""Gradients inside torch's autograd."""

from checks.autograd import *  # noqa: F403  each of its tests
