"""A user's own loss."""

from checks.own_inputs import *  # noqa: F403  each of its tests
from checks.own_loss import *  # noqa: F403  each of its tests
