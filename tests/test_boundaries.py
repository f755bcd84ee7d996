"""Exactly at thresholds, kinks and ties."""

from types import SimpleNamespace

import numpy as np
import pytest
from checks.boundaries import *  # noqa: F403  each of its tests

from unilossseg.backends import get_backend
from unilossseg.building import dilate


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("backend", ["numpy", "strict"])
def test_a_neighbourhood_of_any_width(backend, outside):
    """As each pixel sees it, from a radius of 0 to one beyond the image."""
    ops, rng = get_backend(backend), np.random.default_rng(0)
    mask = rng.random((1, 9, 12)) < 0.03
    for rows, columns in [(0, 0), (1, 1), (2, 3), (3, 0), (4, 6), (5, 7), (8, 2), (9, 11), (30, 40)]:
        wide = np.full((9 + 2 * rows, 12 + 2 * columns), outside)
        wide[rows : rows + 9, columns : columns + 12] = mask[0]
        expected = [[np.any(wide[i : i + 2 * rows + 1, j : j + 2 * columns + 1]) for j in range(12)] for i in range(9)]
        found = dilate(ops, ops.xp.asarray(mask), rows, columns, outside)
        np.testing.assert_array_equal(np.asarray(found)[0], expected)


@pytest.mark.parametrize("outside", [False, True])
def test_a_neighbourhood_beyond_the_image_takes_no_more_steps_than_the_image_has_pixels(outside):
    """Nor as many: the reach doubles with each."""
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
    # Two a step, in three calls: of 1 and 2 rows, of 1, 2 and 1; and of 1, 2 and 1 columns, of 1, 2 and 2.
    assert len(steps) == 2 * (2 + 3 + 3 + 3 + 3 + 3)
