"""The measures of an error: tolerances, units in the last place, and the map that shows where it lies."""

import math
from dataclasses import replace

import numpy as np
import pytest
from checks.stored_runs import exact, plain_cases, result, scaled

from unilossseg.conformance import cases, errormaps, measures
from unilossseg.conformance.verdict import judge


def test_required_tolerances_are_those_of_allclose():
    rng = np.random.default_rng(0)
    wanted = rng.normal(size=(4, 5))
    got = (wanted * (1 + 1e-3 * rng.normal(size=wanted.shape))).astype(np.float32)
    rtol, atol = measures.required(got, wanted)
    assert np.allclose(got, wanted, rtol=rtol * 1.0001, atol=0)
    assert not np.allclose(got, wanted, rtol=rtol * 0.999, atol=0)
    assert np.allclose(got, wanted, rtol=0, atol=atol * 1.0001)
    assert not np.allclose(got, wanted, rtol=0, atol=atol * 0.999)
    assert measures.required(np.array([1.0, np.nan]), np.array([0.0, np.nan])) == (math.inf, 1.0)


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_ulps_count_the_numbers_between(dtype):
    wanted = cases.rounded(np.array([1.0, -3.0, 0.0, 1e-3]), dtype).astype(np.float64)
    assert measures.most_ulps(cases.rounded(wanted, dtype), wanted, dtype) == 0
    if dtype == "bfloat16":
        stepped = np.array([1.0 + 2 * 2.0**-7, *wanted[1:]], dtype=np.float32)
    else:
        stepped = wanted.astype(dtype)
        stepped[0] = np.nextafter(np.nextafter(stepped[0], np.asarray(9, dtype)), np.asarray(9, dtype))
    assert measures.most_ulps(stepped, wanted, dtype) == 2
    assert measures.most_ulps(-stepped, -wanted, dtype) == 2


def test_a_map_shows_the_worst_entry_and_counts_all():
    case = next(case for case in cases.all_cases(["DiceLoss"]) if min(case.arrays["logits"].shape[3:], default=0) > 12)
    outcome, reference = exact(case)
    gradient = outcome.gradient.copy()
    place = tuple(np.argwhere(~case.ignored())[-1])
    gradient[place] = 7.0
    found = judge(case, replace(outcome, gradient=gradient), reference).maps["gradient"]
    assert found.index == place
    assert (found.got, found.expected) == (7.0, reference.gradient[place])
    assert sum(found.counts) == gradient.size
    row, column = (found.index[axis] - first for axis, first in zip(found.axes, found.start, strict=True))
    shares = np.array(found.shares)
    assert max(shares.shape) <= errormaps.MOST_ACROSS
    assert shares[row, column] == shares.max() > 1


@pytest.mark.parametrize("kind", ["ignored", "nan"])
def test_what_no_number_may_be_is_infinitely_wrong(kind):
    (case, _) = plain_cases("DiceLoss")
    outcome, reference = exact(case)
    gradient = outcome.gradient.copy()
    place = tuple(np.argwhere(case.ignored() if kind == "ignored" else ~case.ignored())[0])
    gradient[place] = 1e-30 if kind == "ignored" else np.nan
    found = judge(case, replace(outcome, gradient=gradient), reference).maps["gradient"]
    assert found.index == place
    assert math.isinf(max(max(row) for row in found.shares))
    assert found.counts[-1] == 1


@pytest.mark.parametrize("condition", ["channels-last", "no-spatial-axes", "one-spatial-axis", "three-spatial-axes"])
def test_every_layout_has_a_map(condition):
    case = next(c for c in cases.all_cases(["CrossEntropyLoss"]) if f"/{condition}/" in c.id and c.dtype == "float32")
    found = result(case, spoil=scaled(1.1)).verdict.maps["gradient"]
    axes = {"channels-last": (1, 2), "no-spatial-axes": (0, 1), "one-spatial-axis": (-1, 2), "three-spatial-axes": (3, 4)}
    assert found.axes == axes[condition]
