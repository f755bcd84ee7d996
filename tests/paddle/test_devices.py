"""Tensors that nobody may look at, as on an accelerator."""

from checks.devices import *  # noqa: F403  each of its tests
