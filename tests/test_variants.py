"""Both variants, by hand-made numbers."""

from checks.variants import *  # noqa: F403  each of its tests
