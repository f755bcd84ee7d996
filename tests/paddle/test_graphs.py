"""Losses in programs that Paddle traces give the numbers that they give outside."""

import numpy as np
import paddle
import pytest
from checks.autograd import FLOAT32, HALF_STEP
from checks.cases import BCE, CE, CLASS_ROWS, DICE, DUAL, MIXED, PLAIN_ROWS, ROWS, batch_for, batch_of_row, named
from checks.compare import assert_close, reference_of
from paddle import nn

import unilossseg

# Paddle says so of its own backward pass.
pytestmark = pytest.mark.filterwarnings("ignore:Tensor do not have 'place' interface:UserWarning")
OLD = paddle.__version__.startswith("2.")
default_tracer = pytest.mark.skipif(OLD, reason="Paddle 2's tracer of bytecode crashes: full_graph=True is the way there")
casts_in_programs = pytest.mark.skipif(OLD, reason="Paddle 2 says that auto_cast has no effect in a program")
every_row = pytest.mark.parametrize("row", ROWS, ids=named)
every_loss = pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)


def traced(function):
    """All of it in one program."""
    return paddle.jit.to_static(function, full_graph=True)


def total(value):
    """A number, of a list or an unreduced loss too."""
    return sum(value) if isinstance(value, list) else value.sum()


def value_and_gradient(driver, loss, batch, dtype):
    """By a call and a backward pass, as NumPy arrays."""
    _, labels, further = driver.inputs(batch, dtype)
    leaf = driver.leaf(batch.logits, dtype)
    value = total(driver.call(loss, leaf, labels, further))
    value.backward()
    assert dtype in str(leaf.grad.dtype)
    assert ("float64" if dtype == "float64" else "float32") in str(value.dtype)
    return driver.numpy(value), driver.gradient(leaf)


@every_row
def test_a_traced_layer(driver, row):
    batch = batch_of_row(row)
    loss = traced(driver.make(*row))
    # A second batch runs the program that the first one made.
    for seed in (0, 1):
        batch = batch_of_row(row, seed=seed)
        value, gradient = value_and_gradient(driver, loss, batch, "float64")
        exact_value, exact = reference_of(*row, batch)
        assert_close(value, np.sum(exact_value), 1e-11)
        assert_close(gradient, exact, 1e-10)


@every_loss
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_traced_layer_in_other_dtypes(driver, row, dtype):
    if OLD and dtype == "bfloat16" and row[0] == MIXED:
        pytest.skip("Paddle 2 has no kernel to add bfloat16 gradients on a CPU")
    batch = batch_for(row[0], seed=2)
    value, gradient = value_and_gradient(driver, driver.make(*row), batch, dtype)
    traced_value, traced_gradient = value_and_gradient(driver, traced(driver.make(*row)), batch, dtype)
    assert_close(traced_value, value, FLOAT32)
    # The program casts the gradient once, as the closed form does; a last bit of float32 may tip that rounding.
    step = 2 * HALF_STEP[dtype] if dtype in HALF_STEP else 0
    allowed = step * np.abs(gradient) + FLOAT32 * np.max(np.abs(gradient))
    assert np.all(np.abs(traced_gradient - gradient) <= allowed)


@every_loss
def test_other_sizes_are_traced_anew(driver, row):
    loss = traced(driver.make(*row))
    for shape in ((5, 6), (7, 4)):
        batch = batch_for(row[0], shape=shape)
        value, gradient = value_and_gradient(driver, loss, batch, "float64")
        exact_value, exact = reference_of(*row, batch)
        assert_close(value, np.sum(exact_value), 1e-11)
        assert_close(gradient, exact, 1e-10)


class Net(nn.Layer):
    """A network that ends in its loss."""

    def __init__(self, driver, row, channels):
        super().__init__()
        self.layer = nn.Conv2D(3, channels, 3, padding=1)
        self.driver, self.loss = driver, driver.make(*row)

    def forward(self, x, labels, further):
        return total(self.driver.call(self.loss, self.layer(x), labels, further))


@every_loss
@pytest.mark.parametrize("tracer", [traced, pytest.param(paddle.jit.to_static, marks=default_tracer)])
def test_a_traced_network_with_its_loss(driver, row, tracer):
    batch = batch_for(row[0])
    _, labels, further = driver.inputs(batch, "float32")
    paddle.seed(0)
    net = Net(driver, row, batch.logits.shape[1])
    x = paddle.randn([2, 3, *batch.logits.shape[2:]])
    results = []
    for call in (net, tracer(net)):
        net.clear_gradients()
        value = call(x, labels, further)
        value.backward()
        results.append((float(value), *[p.grad.numpy().copy() for p in net.parameters()]))
    for eager, static in zip(*results, strict=True):
        assert_close(static, eager, FLOAT32)
    assert np.any(results[0][1])


class Casting(nn.Layer):
    """A loss amid automatic casts, which in a program have an effect on a CPU too; of inputs that are all float32 too."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, logits, labels, semantic_weights=None, noise=None):
        further = {"semantic_weights": semantic_weights, "noise": noise}
        with paddle.amp.auto_cast(level="O2", dtype="bfloat16", use_promote=False):
            return self.loss(logits, labels, **{name: value for name, value in further.items() if value is not None})


def assert_casts_change_nothing(driver, row, batch):
    inside = value_and_gradient(driver, traced(Casting(driver.make(*row))), batch, "float32")
    outside = value_and_gradient(driver, driver.make(*row), batch, "float32")
    for one, other in zip(inside, outside, strict=True):
        assert_close(one, other, FLOAT32)


@casts_in_programs
@pytest.mark.parametrize("row", [*PLAIN_ROWS, (MIXED, {"losses": [(CE, {}), (DICE, {})], "coef": [0.8, 0.3]})], ids=named)
def test_automatic_casts_of_a_program_change_nothing(driver, row):
    assert_casts_change_nothing(driver, row, batch_for(row[0]))


@casts_in_programs
def test_automatic_casts_of_a_program_leave_pixel_weights_alone(driver):
    weights = np.random.default_rng(5).random((2, 1, 4, 5))
    assert_casts_change_nothing(driver, (CE, {}), batch_for(CE).changed(further={"semantic_weights": weights}))


@casts_in_programs
@pytest.mark.parametrize("channels", [1, 3])
def test_automatic_casts_of_a_program_leave_soft_labels_alone(driver, channels):
    batch = batch_for(BCE, channels=channels)
    soft = np.random.default_rng(5).random(batch.logits.shape)
    assert_casts_change_nothing(driver, (BCE, {}), batch.changed(labels=soft[:, 0] if channels == 1 else soft))


@casts_in_programs
def test_automatic_casts_of_a_program_leave_channels_last_logits_alone(driver):
    batch = batch_for(CE)
    last = batch.changed(logits=np.moveaxis(batch.logits, 1, -1))
    assert_casts_change_nothing(driver, (CE, {"data_format": "NHWC"}), last)


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
def test_a_label_out_of_range_is_nan_in_a_program(driver, row):
    batch = batch_for(row[0], ignored=0.0)
    batch.labels[1, 3, 2] = 100
    value, gradient = value_and_gradient(driver, traced(driver.make(*row)), batch, "float64")
    assert np.isnan(value)
    # Where the formula leaves a pixel out its gradient stays 0.
    assert np.isnan(gradient).any()


class Doubled(nn.Layer):
    """Calls a loss that is no Layer."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, logits, labels):
        return self.loss(logits, labels) * 2


def test_a_loss_that_is_no_layer_is_traced(driver):
    batch = batch_for(DICE)
    logits, labels, _ = driver.inputs(batch, "float64")
    value = traced(Doubled(unilossseg.DiceLoss()))(logits, labels)
    assert_close(value.numpy(), 2 * reference_of(DICE, {}, batch)[0], 1e-12)


def test_semantic_weights_reach_a_program(driver):
    batch = batch_for(CE)
    logits, labels, _ = driver.inputs(batch, "float64")
    weights = driver.array(np.random.default_rng(1).random(batch.labels.shape))
    for make in (
        lambda: driver.make(CE, {}),
        lambda: driver.make("MixedLoss", {"losses": [(CE, {}), (DICE, {})], "coef": 1.0, "reduction": "sum"}),
    ):
        eager = make()(logits, labels, semantic_weights=weights)
        assert float(eager) != float(make()(logits, labels))
        assert_close(traced(make())(logits, labels, semantic_weights=weights).numpy(), eager.numpy(), 1e-12)


def test_a_program_draws_its_noise_anew(driver):
    logits, labels, _ = driver.inputs(batch_for(DUAL), "float32")
    loss = traced(driver.make(DUAL, {}))
    first, second = float(loss(logits, labels)), float(loss(logits, labels))
    assert np.isfinite([first, second]).all()
    assert first != second


@every_loss
@default_tracer
def test_the_default_tracer_takes_a_layer(driver, row):
    batch = batch_for(row[0])
    value, gradient = value_and_gradient(driver, paddle.jit.to_static(driver.make(*row)), batch, "float64")
    exact_value, exact = reference_of(*row, batch)
    assert_close(value, exact_value, 1e-11)
    assert_close(gradient, exact, 1e-10)


def test_lengths_that_are_not_known_are_an_error(driver):
    specs = [paddle.static.InputSpec([None, 3, None, None], "float32"), paddle.static.InputSpec([None, None, None], "int64")]
    loss = paddle.jit.to_static(driver.make(CE, {}), input_spec=specs, full_graph=True)
    logits, labels, _ = driver.inputs(batch_for(CE), "float32")
    with pytest.raises(ValueError, match=r"logits have shape \(-1, 3, -1, -1\) with lengths that are not known yet"):
        loss(logits, labels)


def test_labels_cannot_be_validated_in_a_program(driver):
    logits, labels, _ = driver.inputs(batch_for(CE), "float32")
    with pytest.raises(ValueError, match="validate is True, and the labels of a traced or transformed call"):
        traced(driver.make(CE, {"validate": True}))(logits, labels)


# Paddle cannot load a NaN that stood in a program when it was saved. It warns of a program without parameters.
@pytest.mark.filterwarnings("ignore:no variable in your model:UserWarning")
@pytest.mark.parametrize("name", [CE, DICE, "BCELoss", "LovaszSoftmaxLoss", "OhemCrossEntropyLoss", "RelaxBoundaryLoss"])
def test_a_layer_with_a_loss_is_saved_and_loaded(driver, name, tmp_path):
    batch = batch_for(name)

    class Trained(nn.Layer):
        def __init__(self):
            super().__init__()
            self.loss = driver.make(name, {"min_kept": 3} if "Ohem" in name else {})

        def forward(self, logits, labels):
            return self.loss(logits, labels)

    logits, labels = driver.array(batch.logits), driver.array(batch.labels)
    specs = [paddle.static.InputSpec(x.shape, x.dtype) for x in (logits, labels)]
    layer = Trained()
    paddle.jit.save(layer, str(tmp_path / "trained"), input_spec=specs)
    loaded = paddle.jit.load(str(tmp_path / "trained"))
    assert_close(driver.numpy(loaded(logits, labels)), driver.numpy(layer(logits, labels)), 1e-10)
    batch.labels.reshape(-1)[0] = 77
    assert np.isnan(driver.numpy(loaded(logits, driver.array(batch.labels))))
