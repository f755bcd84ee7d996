"""Records of Paddle losses that return the same tensor more than once."""

from pathlib import Path

import numpy as np
import pytest
from checks.record_cli import SMALL, run, write_module

from unilossseg.conformance.records import file

PROJECT = """
import paddle.nn.functional as F

def criterion(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=255, axis=1)

def mean(logits, labels):
    return logits.mean()

def repeated(logits, labels):
    loss, other = criterion(logits, labels), mean(logits, labels)
    return [loss, [other, loss], loss]

def halved(logits, labels):
    loss = mean(logits.astype("float32"), labels).astype("bfloat16")
    return [loss] * 3
"""


@pytest.fixture(autouse=True)
def written(project):
    write_module(project, "project_lists", PROJECT)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tensor_that_is_returned_several_times_counts_as_often(dtype):
    found = {}
    for name in ("repeated", "criterion", "mean"):
        run("record", f"project_lists:{name}", "--out", f"{name}.uls", "--dtype", dtype, *SMALL)
        found[name] = file.read(Path(f"{name}.uls")).cases
    for case, loss, other in zip(*found.values(), strict=True):
        one, two = loss.value.data, other.value.data
        np.testing.assert_array_equal(case.value.data.ravel(), np.stack([one, two, one, one]).ravel())
        np.testing.assert_allclose(case.gradient.data, 3 * loss.gradient.data + other.gradient.data, rtol=1e-5, atol=1e-8)


def test_a_half_type_is_counted_too():
    run("record", "project_lists:halved", "--out", "ref.uls", "--dtype", "bfloat16", *SMALL)
    for case in file.read(Path("ref.uls")).cases:
        assert case.value.dtype == case.gradient.dtype == "bfloat16"
        # To a step of bfloat16.
        np.testing.assert_allclose(case.gradient.wide(), 3 / case.gradient.data.size, rtol=2.0**-7)
