"""Properties of the losses, on inputs that hypothesis draws."""

from checks.properties import *  # noqa: F403  each of its tests
