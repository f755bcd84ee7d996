"""A user's loss: one `compute`, and nothing else, on every framework."""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from checks.cases import BOOT, CE, DICE, EDGE, IGNORED, L1, MSE, OHEM, Batch, batch_for
from checks.compare import assert_close, reference_of

import unilossseg
from unilossseg.building import as_weights, average, number, pixel_cross_entropy, split_labels


@dataclass(eq=False)
class FocalLoss(unilossseg.Loss):
    """(1 - p)^gamma of a pixel's cross entropy, as the README has it."""

    gamma: float = 2.0
    ignore_index: int = 255

    parameter_checks = {"gamma": partial(number, at_least=0)}  # noqa: RUF012  as a user writes it

    def compute(self, ops, logits, labels):
        pixels = split_labels(ops, labels, self.ignore_index)
        losses = pixel_cross_entropy(ops, logits, pixels)
        focus = (-ops.xp.expm1(-losses - 1e-30)) ** self.gamma
        valid = as_weights(ops, pixels.valid, losses)
        return average(ops, focus * losses) / (average(ops, valid) + 1e-8)


@dataclass(eq=False)
class CodedLoss(unilossseg.Loss):
    """The mean of z[y] (200 y + 1): looks up with labels as they come, and calculates with them."""

    def compute(self, ops, logits, labels):
        assert labels.dtype == ops.xp.int64
        picked = ops.xp.take_along_axis(logits, labels[:, None, ...], axis=1)[:, 0, ...]
        return average(ops, picked * ops.xp.astype(labels * 200 + 1, logits.dtype))

    @staticmethod
    def exact(batch):
        """Value and gradient."""
        code = (batch.labels * 200.0 + 1) / batch.labels.size
        gradient = (batch.labels[:, None, ...] == np.arange(batch.logits.shape[1])[:, None, None]) * code[:, None, ...]
        return np.sum(batch.logits * gradient), gradient


def exact(batch, gamma):
    """Value and gradient, pixel by pixel."""
    total, count, gradient = 0.0, 0, np.zeros(batch.logits.shape)
    for n, *place in np.argwhere(batch.labels != 255):
        at = (n, slice(None), *place)
        z, y = batch.logits[at], batch.labels[(n, *place)]
        p = np.exp(z) / np.sum(np.exp(z))
        ce = -math.log(p[y])
        total, count = total + (1 - p[y]) ** gamma * ce, count + 1
        slope = (1 - p[y]) ** gamma + gamma * (1 - p[y]) ** (gamma - 1) * p[y] * ce if gamma else 1.0
        gradient[at] = slope * (p - np.eye(len(z))[y])
    mean = count / batch.labels.size + 1e-8
    return total / batch.labels.size / mean, gradient / batch.labels.size / mean


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_value_and_gradient(driver, gamma):
    batch = batch_for(CE)
    loss = driver.own_loss(FocalLoss)(gamma=gamma)
    value, gradient = exact(batch, gamma)
    assert_close(driver.value(loss, batch), value, 1e-12)
    if driver.autograd:
        assert_close(driver.value_and_gradient(loss, batch)[1], gradient, 1e-12)
        by_function = unilossseg.value_and_grad(loss)(*driver.inputs(batch, "float64")[:2])
        assert_close(driver.numpy(by_function[1]), gradient, 1e-12)


def test_without_gamma_it_is_cross_entropy(driver):
    batch = batch_for(CE)
    own, known = driver.own_loss(FocalLoss)(gamma=0.0), driver.make(CE, {})
    assert_close(driver.value(own, batch), driver.value(known, batch), 1e-14)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_where_the_network_is_sure_and_where_a_pixel_is_ignored(driver, gamma, dtype):
    """A power of 0 below 1 has no derivative, of which 0 times would be NaN."""
    logits = np.array([[[30.0, 1.0, 800.0, 0.0], [0.0, 2.0, 0.0, 5.0], [0.0, 0.0, -800.0, 1.0]]])
    batch, loss = Batch(logits, np.array([[0, 0, 0, IGNORED]])), driver.own_loss(FocalLoss)(gamma=gamma)
    value, gradient = exact(batch.changed(logits=np.clip(logits, -30, 30)), gamma)
    tolerance = 1e-6 if dtype == "float32" else 1e-12
    assert_close(driver.value(loss, batch, dtype), value, tolerance)
    if driver.autograd:
        assert_close(driver.value_and_gradient(loss, batch, dtype)[1], gradient, tolerance)
    logits[0, 0, 0] = np.nan
    assert np.isnan(driver.value(loss, batch, dtype))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_dtypes(driver, dtype):
    driver.has(dtype)
    batch = batch_for(CE)
    loss = driver.own_loss(FocalLoss)()
    rounded = batch.changed(logits=driver.numpy(driver.array(batch.logits, dtype)).astype(np.float64))
    value, gradient = exact(rounded, 2.0)
    assert driver.value(loss, batch, dtype).dtype == np.float32
    assert_close(driver.value(loss, batch, dtype), value, 1e-5)
    if driver.autograd:
        assert_close(driver.value_and_gradient(loss, batch, dtype)[1], gradient, 1e-2)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int32", "int64"])
@pytest.mark.parametrize("validate", [None, False])
def test_labels_of_any_whole_numbers_come_as_int64(driver, dtype, validate):
    batch = batch_for(CE, ignored=0.0)
    batch = batch.changed(labels=batch.labels % 2 if dtype == "bool" else batch.labels)
    logits, labels, _ = driver.inputs(batch.changed(labels=batch.labels.astype(dtype)), "float64")
    loss, (value, gradient) = CodedLoss(validate=validate), CodedLoss.exact(batch)
    assert_close(driver.numpy(loss(logits, labels)), value, 1e-12)
    if driver.autograd:
        assert_close(driver.backward(loss, logits, labels, None, {})[1], gradient, 1e-12)


class ByClass:
    """Weights of its own, which the parameter `weight` has no part in: 1, 2, 3, ..."""

    def class_weight(self, ops, pixels, like):
        mask = super().class_weight(ops, pixels, like)
        return mask * (1 + ops.xp.astype(pixels.index, mask.dtype))


@pytest.mark.parametrize(
    ("name", "options"),
    [(CE, {}), (CE, {"top_k_percent_pixels": 0.5}), (BOOT, {"min_K": 3, "loss_th": 0.1}), (OHEM, {"min_kept": 2})],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_subclass_with_class_weights_of_its_own(driver, name, options, dtype):
    batch = batch_for(name)
    kind = type("Mine", (ByClass, getattr(driver.losses, name)), {})
    weight = tuple(float(c + 1) for c in range(batch.logits.shape[1]))
    exact, _ = reference_of(name, {**options, "weight": weight}, batch)
    assert_close(driver.value(kind(**options), batch, dtype), exact, 1e-12 if dtype == "float64" else 1e-5)


def test_it_is_checked_like_any_other(driver):
    loss = driver.own_loss(FocalLoss)
    name = loss.__name__
    batch = batch_for(CE)
    assert repr(loss(gamma=1.0)) == f"{name}(gamma=1.0, ignore_index=255)"
    with pytest.raises(TypeError, match=f"^{name}: ignore_index must be an integer"):
        loss(ignore_index=0.5)
    with pytest.raises(ValueError, match=rf"^{name}: labels have shape \(4, 5\), expected \(2, 4, 5\) or \(2, 1, 4, 5\)"):
        driver.value(loss(), Batch(batch.logits, batch.labels[0]))
    batch.labels[0, 1, 2] = 7
    with pytest.raises(ValueError, match=rf"^{name}: labels hold 7 at \(0, 1, 2\)"):
        driver.value(loss(), batch)


def test_its_parameters_are_checked_by_its_table_and_those_of_its_bases(driver):
    def exponent(owner, name, value):
        if value == "none":
            raise ValueError(f"{owner}: {name} must be a number (got {value!r})")
        return float(value)

    class Checked(driver.own_loss(FocalLoss)):
        parameter_checks = {"gamma": exponent}  # noqa: RUF012  as a user writes it

    class Stubborn(Checked):
        __setattr__ = object.__setattr__

    assert Checked(gamma="2").gamma == Stubborn(gamma="2").gamma == 2.0
    for given in ({"gamma": "none"}, {"ignore_index": 0.5}, {"validate": "yes"}):
        ((name, value),) = given.items()
        for kind in (Checked, Stubborn):
            with pytest.raises((ValueError, TypeError), match=f"^{kind.__name__}: {name} must be"):
                kind(**given)
        loss = Checked()
        with pytest.raises((ValueError, TypeError), match=f"^Checked: {name} must be"):
            setattr(loss, name, value)
        assert repr(loss) == repr(Checked())


def test_copies(driver):
    loss = driver.own_loss(FocalLoss)(gamma=1.5)
    batch = batch_for(CE)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):  # noqa: S301  our own bytes
        assert_close(driver.value(twin, batch), driver.value(loss, batch), 0.0)


def test_in_a_mixed_loss(driver):
    batch = batch_for(CE)
    mixed = driver.losses.MixedLoss([driver.own_loss(FocalLoss)(), driver.make(CE, {})], coef=[2.0, 1.0])
    assert_close(
        driver.value(mixed, batch), [2 * exact(batch, 2.0)[0], float(driver.value(driver.make(CE, {}), batch))], 1e-12
    )


@pytest.mark.parametrize("name", [CE, "BCELoss", "DiceLoss", "LovaszSoftmaxLoss", "MSELoss"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_subclass_with_a_closed_form_of_its_own(driver, name, dtype):
    """It is asked for no more than it takes, whatever that of its base takes."""
    driver.has(dtype)
    known, calls = driver.make(name, {}), []

    class Own(type(known)):
        def closed_form(self, ops, logits, labels, *, gradient, upstream):
            calls.append(gradient)
            return super().closed_form(ops, logits, labels, gradient=gradient, upstream=upstream)

    own, batch = Own(), batch_for(name)
    # Of other upstream gradients each time, none is expected in the end.
    for factor in (1.0, 3.0, 5.0, 7.0):
        found, wanted = (driver.value_and_gradient(loss, batch, dtype, np.asarray(factor)) for loss in (own, known))
        assert_close(found[0], wanted[0], 1e-6)
        assert_close(found[1], wanted[1], 1e-6 if dtype == "float32" else 1e-3)
    assert True in calls
    batch.labels[0, 1, 2] = 7
    if name != "MSELoss":
        with pytest.raises(ValueError, match=r"^Own: labels hold 7 at \(0, 1, 2\)"):
            driver.value(own, batch, dtype)


@pytest.mark.parametrize("name", [CE, DICE, L1, "RelaxBoundaryLoss"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("mixed_in", [False, True])
def test_a_closed_form_of_its_own_gets_numbers_to_calculate_with(driver, name, dtype, mixed_in):
    """It says nothing of packed ones, whatever its base takes."""
    driver.has(dtype)

    class Squares:
        def closed_form(self, ops, logits, labels, *, gradient, upstream):
            assert str(logits.dtype).endswith(("float16", "float32"))
            logits = ops.upcast(logits + 0 * logits)
            slope = 2 * logits if upstream is None else 2 * logits * upstream
            return ops.xp.sum(logits * logits), slope if gradient else None

    base = getattr(driver.losses, name)
    own = type("Own", (Squares, base), {} if mixed_in else {"closed_form": Squares.closed_form})()
    batch = batch_for(name)
    rounded = driver.numpy(driver.array(batch.logits, dtype)).astype(np.float64)
    value, gradient = driver.value_and_gradient(own, batch, dtype)
    assert_close(value, np.sum(rounded**2), 1e-5)
    assert_close(gradient, 2 * rounded, 1e-2)


def assert_doubled(driver, own, known, dtype):
    batch = batch_for(known.name.removeprefix("Paddle").removeprefix("Torch"))
    assert_close(driver.value(own, batch, dtype), 2 * driver.value(known, batch, dtype), 1e-6)
    if driver.autograd or own.closed_form is not None:
        found, wanted = (driver.value_and_gradient(loss, batch, dtype)[1] for loss in (own, known))
        assert_close(found, 2 * wanted, 1e-6)


@pytest.mark.parametrize("name", [CE, "BCELoss", "DiceLoss", "LovaszSoftmaxLoss", "L1Loss", "RelaxBoundaryLoss"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mixed_in", [False, True])
def test_a_subclass_with_a_formula_of_its_own(driver, name, dtype, mixed_in):
    """The closed form of its base is another formula's."""
    known = driver.make(name, {})

    class Doubled(type(known)):
        def compute(self, ops, logits, labels, **inputs):
            return 2 * type(known).compute(self, ops, logits, labels, **inputs)

    if mixed_in:
        formula = type("Formula", (), {"compute": Doubled.compute})
        Doubled = type("Doubled", (formula, type(known)), {})  # noqa: N806

    assert_doubled(driver, Doubled(), known, dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_cross_entropy_with_weights_of_its_own(driver, dtype):
    known = driver.make(CE, {})

    class Doubled(type(known)):
        def pixel_weights(self, ops, losses, pixels, **inputs):
            return 2 * super().pixel_weights(ops, losses, pixels, **inputs)

    assert_doubled(driver, Doubled(), known, dtype)


@pytest.mark.parametrize("name", [CE, EDGE])
@pytest.mark.parametrize("way", ["closed", "plain"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_of_its_own_are_made_from_the_losses(driver, name, way, dtype):
    """Also where its base has no use for them."""

    class Focal(getattr(driver.losses, name)):
        def pixel_weights(self, ops, losses, pixels, **inputs):
            return super().pixel_weights(ops, losses, pixels, **inputs) * (1 - ops.xp.exp(-losses)) ** 2

    batch = batch_for(name)
    valid = batch.labels != IGNORED
    if name == EDGE:
        valid &= batch.further["edge_logits"][:, 0] > 0.8
    p = np.exp(batch.logits) / np.sum(np.exp(batch.logits), axis=1, keepdims=True)
    onehot = np.where(valid, batch.labels, 0)[:, None] == np.arange(p.shape[1])[:, None, None]
    of_label = np.sum(p * onehot, axis=1)
    weights = valid * (1 - of_label) ** 2 / (np.sum(valid) + (1e-8 if name == CE else 1e-10) * valid.size)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    with getattr(driver, way)():
        assert_close(driver.value(Focal(), batch, dtype), np.sum(weights * -np.log(of_label)), tolerance)
        if driver.autograd or way == "closed":
            _, gradient = driver.value_and_gradient(Focal(), batch, dtype)
            # The weights are constants.
            assert_close(gradient, weights[:, None] * (p - onehot), tolerance)


def test_weights_of_its_own_may_do_without_the_losses(driver):
    given = []

    class Even(getattr(driver.losses, CE)):
        def needs_losses(self):
            return False

        def pixel_weights(self, ops, losses, pixels, **inputs):
            given.append(float(ops.xp.max(losses)))
            return super().pixel_weights(ops, losses, pixels, **inputs)

    batch = batch_for(CE)
    assert_close(driver.value(Even(), batch), driver.value(driver.make(CE, {}), batch), 1e-14)
    assert given == [0.0]


@pytest.mark.parametrize("name", [L1, MSE])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("mixed_in", [False, True])
def test_a_distance_of_its_own_without_its_derivative(driver, name, dtype, mixed_in):
    """That of its base is another distance's."""

    class Soft:
        def distance(self, ops, difference):
            return ops.xp.sqrt(difference * difference + 1) - 1

    base = getattr(driver.losses, name)
    own = type("Own", (Soft, base), {} if mixed_in else {"distance": Soft.distance})("sum")
    batch = batch_for(name, ignored=0.0)
    difference = batch.logits - batch.labels
    root, tolerance = np.sqrt(difference**2 + 1), 1e-5 if dtype == "float32" else 1e-12
    assert_close(driver.value(own, batch, dtype), np.sum(root - 1), tolerance)
    if driver.autograd:
        assert_close(driver.value_and_gradient(own, batch, dtype)[1], difference / root, tolerance)
    else:
        with pytest.raises(TypeError, match=r"^Own: the .* backend has no autograd and this loss no closed-form"):
            driver.value_and_gradient(own, batch, dtype)


@pytest.mark.parametrize("name", [L1, MSE])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_element_loss_with_a_distance_of_its_own(driver, name, dtype):
    known = driver.make(name, {})

    class Doubled(type(known)):
        def distance(self, ops, difference):
            return 2 * super().distance(ops, difference)

        def derivative(self, ops, difference):
            return 2 * super().derivative(ops, difference)

    assert_doubled(driver, Doubled(), known, dtype)


def test_a_gradient_needs_autograd_or_a_closed_form(driver):
    batch = batch_for(CE)
    loss = driver.own_loss(FocalLoss)()
    if driver.autograd:
        assert driver.value_and_gradient(loss, batch)[1].shape == batch.logits.shape
    else:
        with pytest.raises(TypeError, match=r"^FocalLoss: the .* backend has no autograd and this loss no closed-form"):
            driver.value_and_gradient(loss, batch)
