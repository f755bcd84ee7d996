"""Cross entropies of pixels whose class leads by far."""

from checks.confident_pixels import *  # noqa: F403  each of its tests
