"""The coefficients of a MixedLoss in gradients by torch."""

from checks.mixed import *  # noqa: F403  each of its tests
