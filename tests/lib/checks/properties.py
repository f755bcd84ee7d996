"""Properties that hold for any input, on inputs that hypothesis draws."""

from __future__ import annotations

import numpy as np
import pytest
from checks.cases import (
    BCE,
    BOOT,
    CE,
    DICE,
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
from checks.compare import assert_close, reference_of, scale_of
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from unilossseg import VARIANTS

# A kink or a tie is a hair away from any float: logits are multiples of 1/64, and no two of a batch are equal.
GRID = 64
UNIT = st.sampled_from(VARIANTS)


def weights(channels):
    return st.lists(st.sampled_from([0.25, 0.5, 1.0, 3.0]), min_size=channels, max_size=channels)


def options_of(loss, channels):
    """Any parameters of a loss."""
    share = st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0])
    threshold = st.sampled_from([0.1, 0.35, 0.7, 0.95])
    few = st.integers(0, 12)
    table = {
        CE: {"weight": weights(channels), "top_k_percent_pixels": share, "avg_non_ignore": st.booleans()},
        BOOT: {"min_K": few, "loss_th": st.sampled_from([0.3, 1.1, 9.0]), "weight": weights(channels)},
        OHEM: {"thresh": threshold, "min_kept": few, "weight": weights(channels)},
        EDGE: {"edge_threshold": threshold},
        OHEM_EDGE: {"edge_threshold": threshold, "thresh": threshold, "min_kept": few},
        DICE: {"smooth": st.sampled_from([0.0, 0.5, 1.0]), "weight": weights(channels)},
        LOVASZ: {"classes": st.sampled_from(["present", "all", [0], [channels - 1, 0]])},
        HINGE: {},
        BCE: {"weight": st.sampled_from([None, "dynamic"]), "pos_weight": st.sampled_from([None, "dynamic", 2, 0.5])},
        RELAX: {"border": st.integers(0, 2), "calculate_weights": st.booleans()},
        L1: {"reduction": st.sampled_from(["mean", "sum", "none"])},
        MSE: {"reduction": st.sampled_from(["mean", "sum", "none"])},
    }[loss]
    needed = {name: table[name] for name in ("min_K", "loss_th") if name in table}
    optional = {name: choices for name, choices in table.items() if name not in needed}
    if loss not in (EDGE, L1):
        optional["variant"] = UNIT
    return st.fixed_dictionaries(needed, optional=optional)


@st.composite
def batches(draw, loss):
    """A batch of distinct logits; any share of its labels ignored."""
    images = draw(st.integers(1, 3))
    channels = draw(st.integers(1, 2) if loss == HINGE else st.integers(2, 4))
    axes = 2 if loss == RELAX else draw(st.integers(0, 3))
    sizes = tuple(draw(st.integers(1, 4)) for _ in range(axes))
    shape = (images, channels, *sizes)
    count = int(np.prod(shape))
    seed = draw(st.integers(0, 2**16))
    rng = np.random.default_rng(seed)
    spread = max(8 * GRID, 2 * count)
    logits = (rng.choice(2 * spread, size=count, replace=False) - spread).reshape(shape) / GRID
    if loss in (L1, MSE):
        labels = rng.normal(size=shape)
        return Batch(logits, np.where(rng.random(shape) < draw(st.sampled_from([0.0, 0.3])), IGNORED, labels))
    classes = st.integers(0, max(2, channels) - 1)
    labels = draw(hnp.arrays(np.int64, (images, *sizes), elements=st.one_of(classes, st.just(IGNORED))))
    further = {"edge_logits": rng.random((images, 1, *sizes))} if loss in (EDGE, OHEM_EDGE) else {}
    return Batch(logits, labels, further)


EVERY = [CE, BOOT, OHEM, EDGE, OHEM_EDGE, DICE, LOVASZ, HINGE, BCE, RELAX, L1, MSE]
SOFTMAX = [(CE, {}), (CE, {"top_k_percent_pixels": 0.4}), (DICE, {}), (LOVASZ, {}), (OHEM, {"min_kept": 4}), (RELAX, {})]
UNORDERED = [(CE, {}), (CE, {"top_k_percent_pixels": 0.4}), (DICE, {}), (LOVASZ, {}), (OHEM, {"min_kept": 4}), (HINGE, {})]


@pytest.mark.parametrize("loss", EVERY)
@given(data=st.data())
def test_value_and_gradient_are_the_reference(driver, loss, data):
    batch = data.draw(batches(loss))
    options = data.draw(options_of(loss, batch.logits.shape[1]))
    value, gradient = driver.value_and_gradient(driver.make(loss, options), batch)
    exact_value, exact = reference_of(loss, options, batch)
    # The rounding of a softmax's difference from 1 or of a sum does not shrink with the result: 1 is its least scale.
    np.testing.assert_allclose(value, exact_value, rtol=0, atol=1e-12 * max(1.0, scale_of(exact_value)))
    np.testing.assert_allclose(gradient, exact, rtol=0, atol=1e-12 * max(1.0, scale_of(exact)))


@pytest.mark.parametrize("loss", EVERY)
@settings(max_examples=8)
@given(data=st.data())
def test_formula_and_closed_form_agree(driver, loss, data):
    batch = data.draw(batches(loss))
    loss_ = driver.make(loss, data.draw(options_of(loss, batch.logits.shape[1])))
    closed = driver.value_and_gradient(loss_, batch)
    with driver.plain():
        plain = driver.value_and_gradient(loss_, batch)
    for one, other in zip(closed, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * max(1.0, scale_of(other)))


@pytest.mark.parametrize("row", UNORDERED, ids=named)
@settings(max_examples=10)
@given(data=st.data())
def test_the_order_of_pixels_changes_no_value(driver, row, data):
    batch = data.draw(batches(row[0]))
    images, channels = batch.logits.shape[:2]
    z, y = batch.logits.reshape(images, channels, -1), batch.labels.reshape(images, -1)
    order = np.array(data.draw(st.permutations(range(z.shape[2]))))
    loss = driver.make(*row)
    value, gradient = driver.value_and_gradient(loss, Batch(z, y))
    other_value, other = driver.value_and_gradient(loss, Batch(z[:, :, order], y[:, order]))
    np.testing.assert_allclose(other_value, value, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(other, gradient[:, :, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("row", SOFTMAX, ids=named)
@settings(max_examples=10)
@given(data=st.data())
def test_the_numbering_of_classes_changes_no_value(driver, row, data):
    batch = data.draw(batches(row[0]))
    channels = batch.logits.shape[1]
    order = np.array(data.draw(st.permutations(range(channels))))
    number = np.append(np.argsort(order), IGNORED)
    labels = number[np.where(batch.labels == IGNORED, channels, batch.labels)]
    loss = driver.make(*row)
    value, gradient = driver.value_and_gradient(loss, batch)
    other_value, other = driver.value_and_gradient(loss, Batch(batch.logits[:, order], labels))
    np.testing.assert_allclose(other_value, value, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(other, gradient[:, order], rtol=0, atol=1e-12)


@pytest.mark.parametrize("row", SOFTMAX, ids=named)
@settings(max_examples=10)
@given(data=st.data())
def test_a_constant_added_to_all_logits_changes_nothing(driver, row, data):
    batch = data.draw(batches(row[0]))
    shift = data.draw(st.sampled_from([-64.0, 1.0, 4096.0]))  # exact in float64 on the grid
    loss = driver.make(*row)
    value, gradient = driver.value_and_gradient(loss, batch)
    other_value, other = driver.value_and_gradient(loss, batch.changed(logits=batch.logits + shift))
    np.testing.assert_array_equal(other_value, value)
    np.testing.assert_array_equal(other, gradient)
    # A softmax's gradient sums to 0 over the channels.
    np.testing.assert_allclose(gradient.sum(axis=1), 0, atol=1e-13)


@pytest.mark.parametrize("loss", [loss for loss in EVERY if loss not in (L1, MSE)])
@settings(max_examples=10)
@given(data=st.data())
def test_ignored_pixels_do_not_matter(driver, loss, data):
    batch = data.draw(batches(loss))
    options = data.draw(options_of(loss, batch.logits.shape[1]))
    if loss == RELAX:
        options = {**options, "variant": "corrected"}  # the reference trains an ignored pixel beside a valid one
    ignored = np.broadcast_to((batch.labels == IGNORED)[:, None], batch.logits.shape)
    moved = np.where(ignored, data.draw(st.sampled_from([-300.0, 0.0, 700.0])), batch.logits)
    loss_ = driver.make(loss, options)
    value, gradient = driver.value_and_gradient(loss_, batch)
    other_value, other = driver.value_and_gradient(loss_, batch.changed(logits=moved))
    np.testing.assert_allclose(other_value, value, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(other, gradient, rtol=0, atol=1e-12 * max(1.0, scale_of(gradient)))
    assert not np.any(gradient[ignored])


@pytest.mark.parametrize("loss", [loss for loss in EVERY if loss not in (L1, MSE)])
@settings(max_examples=8)
@given(data=st.data())
def test_an_ignored_batch_is_zero(driver, loss, data):
    batch = data.draw(batches(loss))
    options = data.draw(options_of(loss, batch.logits.shape[1]))
    value, gradient = driver.value_and_gradient(
        driver.make(loss, options), batch.changed(labels=np.full_like(batch.labels, IGNORED))
    )
    assert value == 0
    assert not np.any(gradient)


def test_the_strategies_reach_every_kind_of_batch():
    seen = set()

    @settings(max_examples=60)
    @given(batch=batches(CE))
    def look(batch):
        ignored = np.mean(batch.labels == IGNORED)
        seen.add(("axes", batch.logits.ndim - 2))
        seen.add(("ignored", "all" if ignored == 1 else "some" if ignored else "none"))

    look()
    assert seen >= {("axes", 0), ("axes", 3), ("ignored", "none"), ("ignored", "some"), ("ignored", "all")}
    assert_close([1.0], [1.0], 0.0)
