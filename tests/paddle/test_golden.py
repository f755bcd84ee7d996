"""The recordings on Paddle, by the closed forms and by the formulas that its autograd differentiates."""

from checks.golden import *  # noqa: F403  each of its tests
from checks.mean_over_all import *  # noqa: F403
