"""The 160 recordings of PaddleSeg, through a framework's own forward and backward."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np
import pytest
from checks.cases import Batch
from checks.compare import assert_close, reference_of

FOLDER = Path(__file__).parents[2] / "golden" / "paddleseg"
RECORDED = json.loads((FOLDER / "manifest.json").read_text())["cases"]
# The recordings are float32 and carry its noise; see their README.
VALUE, GRADIENT = 2e-5, 1e-4
EXACT = 1e-10

every_case = pytest.mark.parametrize("case", RECORDED, ids=[case["id"] for case in RECORDED])


@functools.cache
def arrays_of(name):
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def batch_of(case):
    data = arrays_of(case["id"])
    further = {name: data[name] for name in ("edge_logits", "noise") if name in data}
    return Batch(data["logits"], data["labels"], further)


@functools.cache
def reference_of_id(name):
    case = next(case for case in RECORDED if case["id"] == name)
    return reference_of(case["loss"], case["kwargs"], batch_of(case), upstream=arrays_of(name)["upstream"])


def check(driver, case, dtype):
    data = arrays_of(case["id"])
    loss = driver.make(case["loss"], case["kwargs"])
    value, gradient = driver.value_and_gradient(loss, batch_of(case), dtype, data["upstream"])
    assert value.dtype == gradient.dtype == np.dtype(dtype)
    assert_close(value, case.get("value_float64", data["value"]), VALUE)
    assert_close(gradient, data["grad"], GRADIENT)
    if dtype == "float64":
        exact_value, exact_gradient = reference_of_id(case["id"])
        assert_close(value, exact_value, EXACT)
        assert_close(gradient, exact_gradient, EXACT)


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recorded_case(driver, case, dtype):
    check(driver, case, dtype)


@every_case
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recorded_case_by_the_plain_formula(driver, case, dtype):
    with driver.plain():
        check(driver, case, dtype)


def test_there_are_recordings_of_every_loss():
    assert len(RECORDED) == 160
    assert len({case["loss"] for case in RECORDED}) == 13
