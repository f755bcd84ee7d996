"""Losses inside paddle.amp.auto_cast, and with a scaled gradient."""

import contextlib
from dataclasses import dataclass

import numpy as np
import paddle
import pytest
from checks.cases import DICE, L1, PLAIN_ROWS, ROWS, batch_for, batch_of_row, named
from paddle import nn

import unilossseg.paddle
from unilossseg.backends import _paddle_namespace

# On a CPU Paddle lets auto_cast have no effect and says so: what it would cast, the network's logits, is cast by hand.
pytestmark = pytest.mark.filterwarnings("ignore:amp_guard can only be enabled on CUDAPlace:UserWarning")


def auto_cast(level="O1"):
    return paddle.amp.auto_cast(level=level, dtype="bfloat16")


@contextlib.contextmanager
def level_of_a_device(level):
    """The level that auto_cast sets on a device; on a CPU it can be set, and casts nothing."""
    tracer = paddle.framework._dygraph_tracer()
    before = tracer._amp_level
    tracer._amp_level = getattr(type(before), level)
    try:
        yield
    finally:
        tracer._amp_level = before


@dataclass(eq=False)
class Watching(unilossseg.Loss):
    """Remembers the levels at which its labels were checked and its formula ran."""

    ignore_index: int = 255

    def check_labels(self, backend, logits, labels):
        self.checked = current_level()
        return super().check_labels(backend, logits, labels)

    def compute(self, ops, logits, labels):
        self.seen = current_level()
        return ops.xp.sum(logits)


def current_level():
    return paddle.framework._dygraph_tracer()._amp_level.name


@pytest.mark.parametrize("level", ["O1", "O2"])
def test_a_formula_runs_without_automatic_casts(level):
    loss = Watching()
    with level_of_a_device(level):
        loss(paddle.zeros([1, 2, 3]), paddle.zeros([1, 3], dtype="int64"))
        assert current_level() == level
    assert loss.checked == loss.seen == "O0"
    assert current_level() == "O0"


def test_a_call_that_fails_leaves_automatic_casts_as_they_were():
    with level_of_a_device("O2"):
        with pytest.raises(ValueError, match="labels have shape"):
            Watching()(paddle.zeros([1, 2, 3]), paddle.zeros([1, 4], dtype="int64"))
        assert current_level() == "O2"


def test_a_mixed_loss_weighs_without_automatic_casts_and_calls_functions_with_them(driver, monkeypatch):
    of_functions, of_products = [], []
    multiply = _paddle_namespace.multiply

    def watched(logits, labels):
        of_functions.append(current_level())
        return 0.5

    def multiplied(*factors):
        of_products.append(current_level())
        return multiply(*factors)

    monkeypatch.setattr(_paddle_namespace, "multiply", multiplied)
    with_function = unilossseg.paddle.MixedLoss([driver.make(DICE, {}), watched], coef=0.3, reduction="sum")
    logits = paddle.ones([1, 2, 3])
    with level_of_a_device("O2"):
        with_function(logits, paddle.zeros([1, 3], dtype="int64"))
        unilossseg.value_and_grad(unilossseg.paddle.MixedLoss([driver.make(L1, {})], coef=0.3))(logits, logits)
        assert current_level() == "O2"
    assert of_functions == ["O2"]
    assert of_products == ["O0"] * 2


def test_so_does_a_half_precision_gradient(driver, monkeypatch):
    seen = []
    original = unilossseg.DiceLoss.closed_form

    def watching(self, *args, **options):
        seen.append(current_level())
        return original(self, *args, **options)

    monkeypatch.setattr(unilossseg.DiceLoss, "closed_form", watching)
    batch = batch_for("DiceLoss")
    leaf, labels = driver.leaf(batch.logits, "bfloat16"), driver.array(batch.labels)
    value = 2 * driver.make("DiceLoss", {})(leaf, labels)
    with level_of_a_device("O2"):
        value.backward()
    # In the forward pass, and again in the backward pass, which brings another factor than the loss expects.
    assert seen == ["O0", "O0"]


@pytest.mark.parametrize("row", ROWS, ids=named)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("way", ["closed", "plain"])
@pytest.mark.parametrize("level", ["O1", "O2"])
def test_auto_cast_changes_nothing(driver, row, dtype, way, level):
    batch = batch_of_row(row)
    loss = driver.make(*row)
    _, labels, further = driver.inputs(batch, dtype)
    results = []
    with getattr(driver, way)():
        for context in (driver.closed(), auto_cast(level)):
            leaf = driver.leaf(batch.logits, dtype)
            with context:
                value = driver.call(loss, leaf, labels, further)
                value = sum(value) if isinstance(value, list) else value
            value.sum().backward()
            results.append((driver.numpy(value), driver.gradient(leaf), str(value.dtype), str(leaf.grad.dtype)))
    (value, gradient, *dtypes), (cast_value, cast_gradient, *cast_dtypes) = results
    assert cast_dtypes == dtypes
    assert ("float64" if dtype == "float64" else "float32") in cast_dtypes[0]
    assert dtype in cast_dtypes[1]
    np.testing.assert_array_equal(cast_value, value)
    np.testing.assert_array_equal(cast_gradient, gradient)


class Net(nn.Layer):
    """Its logits are bfloat16, those of the edge branch too."""

    def __init__(self, channels):
        super().__init__()
        self.seg, self.edge = nn.Conv2D(3, channels, 3, padding=1), nn.Conv2D(3, 1, 1)

    def forward(self, x):
        return self.seg(x).astype("bfloat16"), self.edge(x).astype("bfloat16")


def step(driver, row, scale):
    """Value, logits and the gradients of the parameters of one step of training, times a scale as of a gradient scaler."""
    paddle.seed(3)
    batch = batch_for(row[0], seed=3)
    net = Net(batch.logits.shape[1])
    _, labels, further = driver.inputs(batch, "float32")
    with auto_cast():
        logits, edge = net(paddle.randn([2, 3, *batch.logits.shape[2:]]))
        logits.retain_grads()
        if "edge_logits" in further:
            further["edge_logits"] = edge
        value = driver.call(driver.make(*row), logits, labels, further)
    (value * scale).backward()
    return value, logits, net.seg.weight.grad.numpy()


# Not by paddle.amp.GradScaler, which has no effect on a CPU either.
@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
def test_a_step_of_training_in_bfloat16_with_a_scale(driver, row):
    value, logits, slope = step(driver, row, 1.0)
    gradient = driver.gradient(logits)
    assert str(value.dtype).endswith("float32")
    assert str(logits.dtype).endswith("bfloat16")
    assert str(logits.grad.dtype).endswith("bfloat16")
    assert np.isfinite(gradient).all()
    assert np.any(gradient)
    # A power of two changes no digit of any number on the way.
    scaled_value, scaled_logits, scaled_slope = step(driver, row, 1024.0)
    assert float(scaled_value) == float(value)
    np.testing.assert_array_equal(driver.gradient(scaled_logits), 1024 * gradient)
    np.testing.assert_array_equal(scaled_slope, 1024 * slope)
