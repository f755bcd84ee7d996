"""What calls may be given, and what they leave alone, on Paddle."""

from checks.inputs import *  # noqa: F403  each of its tests
