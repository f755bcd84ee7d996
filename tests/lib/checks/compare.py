"""Comparison with the float64 reference, scaled by its largest entry."""

from __future__ import annotations

import numpy as np

from unilossseg.conformance.reference import value_and_gradient


def reference_of(loss, parameters, batch, upstream=None):
    """The float64 reference's value and gradient."""
    return value_and_gradient(loss, parameters, batch.logits, batch.labels, upstream=upstream, **batch.further)


def scale_of(x):
    """The largest entry, by magnitude."""
    return float(np.max(np.abs(x)))


def assert_close(actual, expected, tolerance):
    """Within `tolerance` of the largest expected entry; exactly 0 where all of `expected` is."""
    actual, expected = np.asarray(actual, dtype=np.float64), np.asarray(expected, dtype=np.float64)
    assert actual.shape == expected.shape
    assert np.all(np.isfinite(actual))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale_of(expected))
