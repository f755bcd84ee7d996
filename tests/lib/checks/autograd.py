"""What a loss's gradient must bear inside a framework's autograd."""

from __future__ import annotations

import numpy as np
import pytest
from checks.cases import BCE, CE, DICE, L1, LOVASZ, MIXED, MSE, PLAIN_ROWS, ROWS, Batch, batch_for, batch_of_row, named
from checks.compare import assert_close, reference_of, scale_of

import unilossseg

every_row = pytest.mark.parametrize("row", ROWS, ids=named)
every_loss = pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
# A gradient scaler's factor, times 3/4 so that it is no power of two: rounding twice shows.
FACTOR = 65536 * 0.75
# The largest relative error of rounding once.
HALF_STEP = {"float16": 2**-11, "bfloat16": 2**-8}
# What float32 leaves of a loss in sums and exponentials, of the largest entry.
FLOAT32 = 4e-6
# Half the smallest float16.
TINY = 2**-25


@every_row
def test_gradient_is_the_reference(driver, row):
    batch = batch_of_row(row, seed=1)
    loss = driver.make(*row)
    exact_value, exact = reference_of(*row, batch)
    for context in (driver.closed(), driver.plain()):
        with context:
            value, gradient = driver.value_and_gradient(loss, batch)
        assert_close(value, exact_value, 1e-11)
        assert_close(gradient, exact, 1e-10)


@pytest.mark.parametrize("row", [row for row in ROWS if row[1].get("reduction") == "none"], ids=named)
def test_unreduced_losses_take_an_upstream_gradient(driver, row):
    batch = batch_for(row[0])
    upstream = np.random.default_rng(2).normal(size=batch.logits.shape)
    _, exact = reference_of(*row, batch, upstream=upstream)
    for context in (driver.closed(), driver.plain()):
        with context:
            _, gradient = driver.value_and_gradient(driver.make(*row), batch, upstream=upstream)
        assert_close(gradient, exact, 1e-11)


@every_loss
def test_gradients_accumulate_with_their_factors(driver, row):
    name, options = row
    batch = batch_for(name)
    loss = driver.make(name, options)
    logits, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    for factor in (0.5, -2.0):
        (factor * driver.call(loss, leaf, labels, further)).backward()
    _, exact = reference_of(name, options, batch)
    assert_close(driver.gradient(leaf), -1.5 * exact, 1e-10)
    assert logits is not leaf


@every_loss
def test_gradient_flows_through_what_made_the_logits(driver, row):
    name, options = row
    batch = batch_for(name)
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits / 2)
    driver.call(driver.make(name, options), leaf * 2, labels, further).backward()
    _, exact = reference_of(name, options, batch)
    assert_close(driver.gradient(leaf), 2 * exact, 1e-10)


def test_two_losses_of_the_same_logits(driver):
    batch = batch_for(CE)
    _, labels, _ = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    total = sum(driver.make(name, {})(leaf, labels) for name in (CE, DICE, LOVASZ))
    total.backward()
    assert_close(driver.gradient(leaf), sum(reference_of(name, {}, batch)[1] for name in (CE, DICE, LOVASZ)), 1e-10)


def check_value_changed_in_place(driver, row, dtype):
    """`loss += penalty` and `loss /= steps`, as trainers write them."""
    batch = batch_of_row(row, seed=1)
    wanted, gradient = driver.value_and_gradient(driver.make(*row), batch, dtype)
    _, labels, further = driver.inputs(batch, dtype)
    leaf = driver.leaf(batch.logits, dtype)
    value = driver.call(driver.make(*row), leaf, labels, further)
    for one in value if isinstance(value, list) else [value]:
        driver.halve_one_more(one)
    (sum(value) if isinstance(value, list) else value.sum()).backward()
    np.testing.assert_allclose(driver.numpy(value), (wanted + 1) / 2, rtol=1e-6)
    # A mixed loss's gradient is a sum of two that are each rounded.
    roundings = 3 if row[0] == MIXED else 1
    np.testing.assert_allclose(
        driver.gradient(leaf), gradient / 2, rtol=roundings * 2 * HALF_STEP.get(dtype, 1e-6), atol=TINY
    )


@every_row
@pytest.mark.parametrize("way", ["closed", "plain"])
def test_a_value_may_be_changed_in_place(driver, row, way):
    with getattr(driver, way)():
        check_value_changed_in_place(driver, row, "float32")


# A MixedLoss adds gradients that are each rounded once.
@pytest.mark.parametrize("row", [row for row in PLAIN_ROWS if row[0] != MIXED], ids=named)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_gradients_are_rounded_once(driver, row, dtype):
    name, options = row
    batch = batch_for(name, shape=(20, 24), seed=3)
    logits, labels, further = driver.inputs(batch, dtype)
    rounded = batch.changed(
        logits=driver.numpy(logits),
        labels=driver.numpy(labels),
        further={key: driver.numpy(x) for key, x in further.items()},
    )
    leaf = driver.leaf(batch.logits, dtype)
    value = driver.call(driver.make(name, options), leaf, labels, further)
    (value * FACTOR).backward()
    exact_value, exact = reference_of(name, options, rounded)
    exact = FACTOR * exact
    assert scale_of(exact) < 65504
    assert "float32" in str(value.dtype)
    assert_close(driver.numpy(value), exact_value, FLOAT32)
    assert dtype in str(leaf.grad.dtype)
    allowed = HALF_STEP[dtype] * np.abs(exact) + FLOAT32 * scale_of(exact) + TINY
    assert np.all(np.abs(driver.gradient(leaf) - exact) <= allowed)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize("row", [row for row in PLAIN_ROWS if row[0] != MIXED], ids=named)
def test_half_precision_gradients_do_not_depend_on_those_before(driver, row, monkeypatch):
    """A loss expects the factor that came twice, and is right with any other: bit for bit what a new loss gives."""
    name, options = row
    batch = batch_for(name, shape=(20, 24), seed=3)
    _, labels, further = driver.inputs(batch, "bfloat16")
    loss, kind, calls = driver.make(name, options), getattr(unilossseg, name), []
    original = kind.closed_form

    def counting(self, *arrays, **others):
        calls.append(self)
        return original(self, *arrays, **others)

    monkeypatch.setattr(kind, "closed_form", counting)

    def gradient(loss, factor):
        leaf = driver.leaf(batch.logits, "bfloat16")
        value = driver.call(loss, leaf, labels, further)
        calls.clear()
        (value * factor).backward()
        return driver.gradient(leaf), len(calls)

    last = before = 1.0
    for factor in (1.0, FACTOR, FACTOR, FACTOR, 1.0, FACTOR, 1.0, 0.3, 0.3, float("inf"), 0.3):
        got, again = gradient(loss, factor)
        # Where nothing is expected the gradient waits for the factor, without a computation of its own.
        waited = last != before and kind.defers
        assert again == (not waited and not factor == last == before)
        wanted, _ = gradient(driver.make(name, options), factor)
        np.testing.assert_array_equal(got, wanted)
        # An overflow is no factor to expect.
        last, before = (factor, last) if np.isfinite(factor) else (last, before)


@every_loss
def test_gradients_of_a_value_that_nobody_uses(driver, row):
    name, options = row
    batch = batch_for(name)
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    driver.call(driver.make(name, options), leaf, labels, further)
    assert leaf.grad is None
    (driver.call(driver.make(name, options), leaf, labels, further) * 0.0).backward()
    assert not np.any(driver.gradient(leaf))


def test_edge_logits_get_no_gradient(driver):
    for name in ("EdgeAttentionLoss", "OhemEdgeAttentionLoss"):
        batch = batch_for(name)
        _, labels, _ = driver.inputs(batch, "float64")
        leaf, edges = driver.leaf(batch.logits), driver.leaf(batch.further["edge_logits"])
        for context in (driver.closed(), driver.plain()):
            with context:
                driver.make(name, {"edge_threshold": 0.5})((leaf, edges), labels).backward()
        assert np.any(driver.gradient(leaf))
        assert edges.grad is None


@every_loss
def test_value_and_grad_agrees_with_backward(driver, row):
    name, options = row
    batch = batch_for(name)
    loss = driver.make(name, options)
    value, gradient = driver.value_and_gradient(loss, batch)
    logits, labels, further = driver.inputs(batch, "float64")
    edge = further.pop("edge_logits", None)
    both = unilossseg.value_and_grad(loss)(logits if edge is None else (logits, edge), labels, **further)
    np.testing.assert_array_equal(driver.numpy(both[0]), value)
    np.testing.assert_array_equal(driver.numpy(both[1]), gradient)


@pytest.mark.parametrize("name", [BCE, L1, MSE])
@pytest.mark.parametrize("of_logits", [False, True])
def test_labels_that_want_a_gradient_get_it(driver, name, of_logits):
    rng = np.random.default_rng(6)
    logits, numbers = rng.normal(size=(2, 3, 4)), rng.uniform(0.1, 0.9, size=(2, 3, 4))
    labels, leaf = driver.leaf(numbers), driver.leaf(logits) if of_logits else driver.array(logits)
    loss = driver.make(name, {})
    with pytest.warns(UserWarning, match=f"^{name}: labels, pixel weights or the loss's own parameters want") as warned:
        loss(leaf, labels).backward()
    assert warned[0].filename == __file__
    exact = reference_of(name, {}, Batch(logits, numbers))[1]
    # That of softplus(z) - y z is -z, but for an epsilon in the mean; the others see the difference alone.
    found = driver.gradient(labels)
    assert_close(found, *(-logits / logits.size, 1e-7) if name == BCE else (-exact, 1e-10))
    if of_logits:
        assert_close(driver.gradient(leaf), exact, 1e-10)


def test_pixel_weights_that_want_a_gradient_get_it(driver):
    batch = batch_for(CE)
    weights = driver.leaf(np.random.default_rng(6).uniform(0.5, 1, size=batch.labels.shape))
    loss, labels = driver.make(CE, {}), driver.array(batch.labels)
    with pytest.warns(UserWarning, match="want a gradient"):
        loss(driver.leaf(batch.logits), labels, semantic_weights=weights).backward()
    assert float(np.abs(driver.gradient(weights)).max()) > 0


def test_edge_logits_that_want_a_gradient_keep_the_closed_form(driver, recwarn):
    batch = batch_for("EdgeAttentionLoss")
    _, labels, further = driver.inputs(batch, "float64")
    edges = {name: driver.leaf(driver.numpy(value)) for name, value in further.items()}
    driver.call(driver.make("EdgeAttentionLoss", {}), driver.leaf(batch.logits), labels, edges).backward()
    assert not [warning for warning in recwarn if "want a gradient" in str(warning.message)]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@every_row
def test_what_numpy_is_set_to_say_is_not_said_of_losses(driver, row, dtype):
    driver.needs(dtype)
    batch = batch_of_row(row, seed=3)
    logits = 300 * batch.logits
    logits.reshape(-1)[0] = np.inf
    batch = batch.changed(logits=logits)
    with np.errstate(all="raise"):
        _, gradient = driver.value_and_gradient(driver.make(*row), batch, dtype)
    assert gradient.shape == logits.shape
