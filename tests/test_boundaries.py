"""Exactly at thresholds, kinks and ties."""

from types import SimpleNamespace

import numpy as np
import pytest
from checks.boundaries import *  # noqa: F403  each of its tests

from unilossseg.backends import get_backend
from unilossseg.building import dilate


@pytest.mark.parametrize("outside", [False, True])
def test_a_neighbourhood_beyond_the_image_takes_no_more_steps_than_the_image_has_pixels(outside):
    xp, steps = get_backend("numpy").xp, []

    def concat(parts, axis):
        steps.append(axis)
        return xp.concat(parts, axis=axis)

    ops = SimpleNamespace(xp=SimpleNamespace(concat=concat, ones_like=xp.ones_like, zeros_like=xp.zeros_like))
    mask = np.zeros((1, 4, 5), dtype=bool)
    mask[0, 0, 0] = True
    for rows, columns in ((3, 4), (4, 5), (30000, 30000)):
        found = dilate(ops, mask, rows, columns, outside)
        assert np.all(found)
    # Two a step, in three calls.
    assert len(steps) == 2 * (3 + 4 + 4 + 5 + 4 + 5)
