"""What a backend supplies beyond the standard."""

from checks.operations import *  # noqa: F403  each of its tests
