"""BCELoss where one label is rare."""

from checks.rare_labels import *  # noqa: F403  each of its tests
