"""Gradients inside Paddle's autograd."""

from checks.autograd import *  # noqa: F403  each of its tests
