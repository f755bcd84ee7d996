"""What a call may be given, and what it must leave alone."""

from __future__ import annotations

import numpy as np
import pytest
from checks.cases import (
    BCE,
    BOOT,
    CE,
    CLASS_ROWS,
    DICE,
    DUAL,
    HINGE,
    IGNORED,
    L1,
    LOVASZ,
    OHEM,
    PLAIN_ROWS,
    RELAX,
    ROWS,
    Batch,
    batch_for,
    batch_of_row,
    named,
)
from checks.compare import assert_close, reference_of

from unilossseg.backends import set_num_threads

every_row = pytest.mark.parametrize("row", ROWS, ids=named)
every_loss = pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
every_class_loss = pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
EXACT = 1e-10


def check(driver, row, batch):
    """Value and gradient are the reference's."""
    value, gradient = driver.value_and_gradient(driver.make(*row), batch)
    exact_value, exact = reference_of(*row, batch)
    assert_close(value, exact_value, EXACT)
    assert_close(gradient, exact, EXACT)


# ---- what is left alone


@every_row
@pytest.mark.parametrize("way", ["closed", "plain"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_inputs_stay_as_they_are(driver, row, way, dtype):
    batch = batch_of_row(row)
    logits, labels, further = driver.inputs(batch, dtype)
    given = {"logits": logits, "labels": labels, **further}
    before = {name: driver.numpy(x).copy() for name, x in given.items()}
    flags = {name: driver.flags(x) for name, x in given.items()}
    with getattr(driver, way)():
        driver.backward(driver.make(*row), logits, labels, None, further)
    for name, x in given.items():
        np.testing.assert_array_equal(driver.numpy(x), before[name])
        assert driver.flags(x) == flags[name]


@every_row
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_value_and_gradient_have_memory_of_their_own(driver, row, dtype):
    batch = batch_of_row(row)
    logits, labels, further = driver.inputs(batch, dtype)
    given = {"logits": logits, "labels": labels, **further}
    before = {name: driver.numpy(x).copy() for name, x in given.items()}
    value, gradient = driver.backward(driver.make(*row), logits, labels, None, further)
    kept = driver.numpy(gradient).copy()
    if not isinstance(value, list):
        value = value.detach() if driver.autograd else driver.own(value)
        driver.fill(value, 3.0)
    np.testing.assert_array_equal(driver.numpy(gradient), kept)
    driver.fill(gradient, 7.0)
    for name, x in given.items():
        np.testing.assert_array_equal(driver.numpy(x), before[name])


@every_loss
def test_a_second_call_does_not_touch_the_first_one_s_gradient(driver, row):
    loss, batch = driver.make(*row), batch_for(row[0])
    _, first = driver.backward(loss, *_split(driver.inputs(batch, "float32")))
    kept = driver.numpy(first).copy()
    _, second = driver.backward(loss, *_split(driver.inputs(batch.changed(logits=batch.logits + 1), "float32")))
    np.testing.assert_array_equal(driver.numpy(first), kept)
    assert driver.numpy(second).shape == kept.shape


def _split(inputs):
    logits, labels, further = inputs
    return logits, labels, None, further


# ---- labels


# The widths that a framework lacks are left out by its driver.
@every_class_loss
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint32"])
def test_labels_of_any_integer_dtype(driver, row, dtype):
    if dtype not in driver.label_dtypes:
        pytest.skip(f"{driver.name} has no {dtype}")
    batch = batch_for(row[0], ignored=0.0 if dtype == "int8" else 0.15)
    check(driver, row, batch.changed(labels=batch.labels.astype(dtype)))


@pytest.mark.parametrize("row", [(HINGE, {}), (BCE, {}), (CE, {}), (DICE, {}), (LOVASZ, {}), (RELAX, {})], ids=named)
def test_boolean_labels(driver, row):
    batch = batch_for(row[0], channels=2, ignored=0.0)
    exact_value, exact = reference_of(*row, batch)
    value, gradient = driver.value_and_gradient(driver.make(*row), batch.changed(labels=batch.labels.astype(bool)))
    assert_close(value, exact_value, EXACT)
    assert_close(gradient, exact, EXACT)


@every_class_loss
@pytest.mark.parametrize(
    ("ignore_index", "dtype"),
    [
        (0, "uint8"),
        (0, "int64"),
        (1, "int32"),
        (-1, "int8"),
        (-1, "int64"),
        (-100, "int64"),
        (-100, "int16"),
        (255, "uint8"),
        (255, "int32"),
        (127, "int8"),
        (2**40, "int64"),
    ],
)
def test_any_label_can_be_the_ignored_one(driver, row, ignore_index, dtype):
    name, options = row
    batch = batch_for(name, ignored=0.3, ignore_index=ignore_index)
    batch = batch.changed(labels=batch.labels.astype(dtype))
    if name == "MixedLoss":
        options = {**options, "losses": [(inner, {"ignore_index": ignore_index}) for inner, _ in options["losses"]]}
    else:
        options = {**options, "ignore_index": ignore_index}
    check(driver, (name, options), batch)


@every_class_loss
@pytest.mark.parametrize(("ignore_index", "dtype"), [(-1, "uint8"), (255, "int8"), (-100, "uint8"), (2**40, "int32")])
def test_an_ignored_label_that_the_dtype_cannot_hold(driver, row, ignore_index, dtype):
    name, options = row
    batch = batch_for(name, ignored=0.0)
    batch = batch.changed(labels=batch.labels.astype(dtype))
    if name == "MixedLoss":
        options = {**options, "losses": [(inner, {"ignore_index": ignore_index}) for inner, _ in options["losses"]]}
    else:
        options = {**options, "ignore_index": ignore_index}
    check(driver, (name, options), batch)


@pytest.mark.parametrize("way", ["closed", "plain"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_an_ignored_number_that_floats_round(driver, dtype, way):
    """No label is it then, and none is ignored. Powers of two are among what every dtype has, if it reaches as far."""
    driver.has(dtype)
    for power in (11, 24, 31, 53, 64):
        numbers = np.array([[[2.0**power, 1.0, 0.5, -3.0]]])
        with np.errstate(over="ignore"):
            labels = driver.array(numbers, dtype)
        held = driver.numpy(labels).astype("float64")
        for ignored in (2**power, 2**power - 1, 2**power + 1):
            logits = driver.array(np.zeros(numbers.shape), dtype)
            with getattr(driver, way)():
                made = driver.make(L1, {"ignore_index": ignored, "reduction": "sum"})
                _, gradient = driver.backward(made, logits, labels, None, {})
            kept = [x != ignored for x in held.ravel().tolist()]
            np.testing.assert_array_equal(driver.numpy(gradient).ravel() != 0, kept, f"{ignored} of {held.ravel()}")


@pytest.mark.parametrize("validate", [None, False])
@pytest.mark.parametrize("loss", [CE, DICE, LOVASZ, OHEM])
def test_the_largest_label_of_all(driver, loss, validate):
    """As an int64 it would be -1. A message may name it as the float64 next to it."""
    if driver.name == "paddle":
        pytest.skip("Paddle has no uint64")
    batch, largest = batch_for(loss, ignored=0.0), 2**64 - 1
    labels = batch.labels.astype("uint64")
    labels.ravel()[::7] = largest
    given = batch.changed(labels=labels)
    value, gradient = driver.value_and_gradient(driver.make(loss, {"ignore_index": largest, "validate": validate}), given)
    signed = np.where(labels == largest, -1, batch.labels)
    found = driver.value_and_gradient(driver.make(loss, {"ignore_index": -1}), batch.changed(labels=signed))
    assert_close(value, found[0], EXACT)
    assert_close(gradient, found[1], EXACT)
    other = driver.make(loss, {"ignore_index": -1, "validate": validate})
    if validate is False:
        assert np.isnan(driver.value(other, given))
    else:
        with pytest.raises(
            ValueError, match=r"labels hold 1844674407370955161[56] at \(0, 0, 0\), expected a class in .* ignore_index -1"
        ):
            driver.value(other, given)


@every_class_loss
def test_labels_with_a_channel_axis(driver, row):
    batch = batch_for(row[0])
    plain = driver.value_and_gradient(driver.make(*row), batch)
    wide = driver.value_and_gradient(driver.make(*row), batch.changed(labels=batch.labels[:, None]))
    for one, other in zip(plain, wide, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("shape", [(2, 4, 5), (2, 1, 4, 5)])
def test_edge_logits_with_and_without_a_channel_axis(driver, shape):
    batch = batch_for("EdgeAttentionLoss")
    check(
        driver,
        ("EdgeAttentionLoss", {}),
        batch.changed(further={"edge_logits": batch.further["edge_logits"].reshape(shape)}),
    )


# ---- shapes


@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("row", [row for row in ROWS if row[0] not in (RELAX, DUAL)], ids=named)
def test_any_number_of_spatial_axes(driver, row, shape):
    name, _ = row
    batch = batch_for(name, shape=shape, ignored=0.2, seed=3)
    if shape == ():
        rng = np.random.default_rng(8)
        logits = rng.normal(size=(2, batch.logits.shape[1]))
        labels = rng.normal(size=logits.shape) if batch.labels.dtype.kind == "f" else np.array([0, 1])
        further = {"edge_logits": 2 + rng.random((2, 1))} if batch.further else {}
        batch = Batch(logits, labels, further)
    check(driver, row, batch)


@pytest.mark.parametrize("loss", ["L1Loss", "MSELoss"])
def test_elementwise_losses_take_a_single_axis(driver, loss):
    rng = np.random.default_rng(0)
    check(driver, (loss, {}), Batch(rng.normal(size=7), rng.normal(size=7)))
    check(driver, (loss, {"reduction": "none"}), Batch(rng.normal(size=(7, 1)), np.arange(7)[:, None]))


@every_row
def test_one_image_of_few_pixels(driver, row):
    name, options = row
    if name == "BCELoss" and isinstance(options.get("weight"), list):
        options = {**options, "weight": [2.0]}
    batch = batch_for(name, shape=(2, 2), ignored=0.0, seed=9)
    one = Batch(batch.logits[:1], batch.labels[:1], {key: x[:1] for key, x in batch.further.items()})
    check(driver, (name, options), one)


@pytest.mark.parametrize(
    "row", [(CE, {}), (BOOT, {"min_K": 1, "loss_th": 0.1}), (DICE, {}), (OHEM, {}), (LOVASZ, {})], ids=named
)
def test_one_channel(driver, row):
    batch = batch_for(row[0], channels=1, ignored=0.2)
    if row[0] != LOVASZ:
        batch.labels[batch.labels == 1] = 0
    value, gradient = driver.value_and_gradient(driver.make(*row), batch)
    exact_value, _ = reference_of(*row, batch)
    assert_close(value, exact_value, EXACT)
    np.testing.assert_allclose(gradient, 0, atol=1e-15)  # a softmax over one channel is constant


@pytest.mark.parametrize("channels", [19, 40])
@pytest.mark.parametrize("name", [CE, DICE, LOVASZ, OHEM])
def test_more_classes_than_occur(driver, name, channels):
    batch = batch_for(name, channels=channels)
    batch.labels[batch.labels == 7] = 5
    check(driver, (name, {}), batch)


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_arrays_that_are_not_contiguous(driver, row, dtype):
    batch = batch_for(row[0], seed=2)
    loss = driver.make(*row)
    value, gradient = driver.value_and_gradient(loss, batch, dtype)
    turned = {name: driver.turned(x, dtype) for name, x in batch.further.items()}
    labels = driver.turned(batch.labels, dtype if batch.labels.dtype.kind == "f" else None)
    logits = driver.turned(batch.logits, dtype)
    assert not driver.contiguous(logits)
    assert not driver.contiguous(labels)
    other_value, other = driver.backward(loss, logits, labels, None, turned)
    tolerance = 1e-6 if dtype == "float32" else 1e-13
    assert_close(driver.numpy(other_value), value, tolerance)
    assert_close(driver.numpy(other), gradient, tolerance)


@pytest.mark.parametrize("options", [{}, {"top_k_percent_pixels": 0.4}, {"weight": [0.5, 2.0, 1.25]}])
def test_channels_last(driver, options):
    batch = batch_for(CE)
    first = driver.value_and_gradient(driver.make(CE, options), batch)
    last = batch.changed(logits=np.ascontiguousarray(np.moveaxis(batch.logits, 1, -1)))
    value, gradient = driver.value_and_gradient(driver.make(CE, {**options, "data_format": "NHWC"}), last)
    assert_close(value, first[0], 1e-14)
    assert_close(np.moveaxis(gradient, -1, 1), first[1], 1e-14)


@pytest.mark.parametrize("options", [{}, {"top_k_percent_pixels": 0.4}, {"weight": [0.5, 2.0, 1.25]}])
def test_semantic_weights(driver, options):
    batch = batch_for(CE)
    weights = np.random.default_rng(1).random(batch.labels.shape)
    check(driver, (CE, options), batch.changed(further={"semantic_weights": weights}))


@pytest.mark.parametrize("options", [{}, {"top_k_percent_pixels": 0.4}, {"weight": [0.5, 2.0, 1.25]}])
@pytest.mark.parametrize("way", ["closed", "plain"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_semantic_weights_of_ignored_pixels_may_be_anything(driver, options, way, number):
    batch, loss = batch_for(CE), driver.make(CE, options)
    weights = np.random.default_rng(1).random(batch.labels.shape)
    wild = np.where(batch.labels == IGNORED, number, weights)
    tame, wild = (batch.changed(further={"semantic_weights": given}) for given in (weights, wild))
    with getattr(driver, way)():
        np.testing.assert_array_equal(driver.value(loss, wild), driver.value(loss, tame))
        if driver.autograd or way == "closed":
            found, wanted = (driver.value_and_gradient(loss, given)[1] for given in (wild, tame))
            np.testing.assert_array_equal(found, wanted)


# ---- how it is computed


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_number_of_threads_changes_no_bit(driver, row, dtype, monkeypatch):
    # Chunks of a few pixels, so that there is something to share out.
    monkeypatch.setattr("unilossseg.backends._threads.CHUNK_ELEMENTS", 64)
    batch = batch_for(row[0], shape=(16, 20), seed=6)
    loss = driver.make(*row)
    results = []
    try:
        for count in (1, 2, 5, 5, 2):
            set_num_threads(count)
            results.append(driver.value_and_gradient(loss, batch, dtype))
    finally:
        set_num_threads(None)
    for value, gradient in results[1:]:
        np.testing.assert_array_equal(value, results[0][0])
        np.testing.assert_array_equal(gradient, results[0][1])


@every_loss
def test_the_size_of_chunks_changes_only_rounding(driver, row, monkeypatch):
    # More rows than three strips have.
    batch = batch_for(row[0], shape=(53, 5), seed=6)
    loss = driver.make(*row)
    whole = driver.value_and_gradient(loss, batch)
    for elements in (1, 50, 300):
        monkeypatch.setattr("unilossseg.backends._threads.CHUNK_ELEMENTS", elements)
        value, gradient = driver.value_and_gradient(loss, batch)
        assert_close(value, whole[0], 1e-13)
        assert_close(gradient, whole[1], 1e-13)


@every_class_loss
def test_an_ignored_batch_is_exactly_zero(driver, row):
    batch = batch_for(row[0], ignored=1.1)
    for dtype in ("float32", "float64"):
        for way in (driver.closed(), driver.plain()):
            with way:
                value, gradient = driver.value_and_gradient(driver.make(*row), batch, dtype)
            assert value == 0
            assert not np.any(gradient)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_an_ignored_batch_is_exactly_zero_with_every_option(driver, row):
    batch = batch_for(row[0], ignored=1.1)
    exact_value, exact = reference_of(*row, batch)
    value, gradient = driver.value_and_gradient(driver.make(*row), batch)
    if row[0] == "MSELoss" and row[1].get("variant") != "corrected":
        assert_close(value, exact_value, EXACT)  # it ignores nothing
        assert_close(gradient, exact, EXACT)
    else:
        assert not np.any(value)
        assert not np.any(gradient)
