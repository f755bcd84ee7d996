"""The recordings on NumPy and array-api-strict."""

from checks.golden import *  # noqa: F403  each of its tests
from checks.mean_over_all import *  # noqa: F403
