"""Logits anywhere in their dtype's range: never NaN, and never Inf where the true number fits."""

from __future__ import annotations

import numpy as np
import pytest
from checks.cases import (
    BCE,
    BOOT,
    CE,
    CORRECTED,
    DICE,
    DUAL,
    EDGE,
    HINGE,
    IGNORED,
    L1,
    LOVASZ,
    MSE,
    OHEM,
    OHEM_EDGE,
    RELAX,
    Batch,
    named,
)
from checks.compare import reference_of
from hypothesis import given, settings
from hypothesis import strategies as st

LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38, "float64": 1e305}
# Of what the loss computes in.
FITS = {"float16": 3.4e38, "bfloat16": 3.4e38, "float32": 3.4e38, "float64": 1e307}
PRECISION = {"float16": 2e-5, "bfloat16": 2e-5, "float32": 2e-5, "float64": 1e-9}
GRADIENT_PRECISION = {"float16": 2e-3, "bfloat16": 1e-2, "float32": 2e-5, "float64": 1e-9}
# Where equal errors decide which pixel gets which weight, rounding does too: only the value is compared.
ORDERED = (LOVASZ, HINGE, BOOT, OHEM, OHEM_EDGE, DUAL)
ROWS = [
    (CE, {}),
    (CE, {"weight": [0.5, 2.0, 1.25]}),
    (BOOT, {"min_K": 3, "loss_th": 1.0}),
    (BOOT, {"min_K": 3, "loss_th": 1.0, **CORRECTED}),
    (OHEM, {"min_kept": 3}),
    (OHEM, {"min_kept": 3, **CORRECTED}),
    (EDGE, {}),
    (OHEM_EDGE, {"min_kept": 3}),
    (DICE, {}),
    (DICE, {"smooth": 1.0}),
    (LOVASZ, {}),
    (HINGE, {}),
    (HINGE, CORRECTED),
    (BCE, {}),
    (BCE, {"weight": "dynamic", "pos_weight": "dynamic"}),
    (L1, {}),
    (L1, {"reduction": "none"}),
    (MSE, {}),
    (MSE, {"reduction": "none", **CORRECTED}),
    (RELAX, {}),
    (RELAX, CORRECTED),
]


@st.composite
def batches(draw, loss, dtype):
    """Logits of very different sizes, a third of them near the ends of the range."""
    largest = LARGEST[dtype]
    ends = st.sampled_from([largest, -largest, largest / 2, -largest / 4, 1e4, -1e4, 100.0, -100.0])
    middle = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0, 2.0**-24])
    channels = 2 if loss == HINGE else 3
    shape = (2, channels, 2, 3)
    count = int(np.prod(shape))
    logits = np.array(draw(st.lists(st.one_of(ends, middle, middle), min_size=count, max_size=count))).reshape(shape)
    if loss in (L1, MSE):
        targets = np.array(draw(st.lists(middle, min_size=count, max_size=count))).reshape(shape)
        return Batch(logits, targets)
    count = 2 * 2 * 3
    classes = st.one_of(st.integers(0, channels - 1), st.integers(0, channels - 1), st.just(IGNORED))
    labels = np.array(draw(st.lists(classes, min_size=count, max_size=count))).reshape(2, 2, 3)
    further = {"edge_logits": np.ones((2, 1, 2, 3))} if loss in (EDGE, OHEM_EDGE) else {}
    return Batch(logits, labels, further)


@pytest.mark.parametrize("dtype", list(LARGEST))
@pytest.mark.parametrize("row", ROWS, ids=named)
@pytest.mark.parametrize("way", ["closed", "plain"])
@settings(max_examples=5)
@given(data=st.data())
def test_any_finite_logits(driver, row, dtype, way, data):
    driver.has(dtype)
    name, options = row
    batch = data.draw(batches(name, dtype))
    logits, labels, further = driver.inputs(batch, dtype)
    rounded = batch.changed(logits=driver.numpy(logits), labels=driver.numpy(labels))
    with np.errstate(over="ignore"):
        exact_value, exact = reference_of(name, options, rounded)
    # The value may be too large for its dtype, so NumPy may say that; but nothing is Inf - Inf or 0 * Inf.
    with getattr(driver, way)(), np.errstate(over="ignore", invalid="raise"):
        value, gradient = driver.backward(driver.make(name, options), logits, labels, None, further)
    value, gradient = driver.numpy(value).astype(np.float64), driver.numpy(gradient).astype(np.float64)
    assert not np.any(np.isnan(value))
    # Half of it: a sum on the way to a mean must not be what overflows.
    fits = np.abs(exact_value) < FITS[dtype] / 64
    np.testing.assert_allclose(value[fits], exact_value[fits], rtol=PRECISION[dtype], atol=PRECISION[dtype])
    if np.max(np.abs(exact)) < min(FITS[dtype] / 64, LARGEST[dtype]):
        assert np.all(np.isfinite(gradient))
        if name not in ORDERED:
            scale = max(1.0, np.max(np.abs(exact)))
            np.testing.assert_allclose(gradient, exact, rtol=0, atol=GRADIENT_PRECISION[dtype] * scale)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("tau", [0.5, 1e-3, 1e-30])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e4, 1e30])
def test_dual_task_is_finite(driver, dtype, tau, scale):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, size=(2, 5, 6))
    noise = rng.random((2, 3, 5, 6))
    noise[0, 0, 0, :2] = 0.0, 1.0 - 2**-24
    batch = Batch(scale * rng.normal(size=(2, 3, 5, 6)), labels, {"noise": noise})
    for options in ({"tau": tau}, {"tau": tau, **CORRECTED}):
        for way in (driver.closed(), driver.plain()):
            # A difference of logits over a tiny tau overflows to a probability of 0, which is right.
            with way, np.errstate(over="ignore", invalid="raise"):
                value, gradient = driver.value_and_gradient(driver.make(DUAL, options), batch, dtype)
            assert 0 <= value < 1
            assert np.all(np.isfinite(gradient))
