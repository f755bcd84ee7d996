"""A user's own closed form."""

from checks.own_closed_form import *  # noqa: F403  each of its tests
