"""What a loss does as a Paddle Layer: hooks, moves, graphs that are kept, logits that change."""

import gc
import subprocess
import sys
import weakref
from dataclasses import dataclass

import numpy as np
import paddle
import pytest
from checks.cases import CE, DICE, LOVASZ, PLAIN_ROWS, WEIGHT, batch_for, named
from checks.compare import assert_close, reference_of
from paddle import nn

import unilossseg
from unilossseg.backends import _paddle_tracing
from unilossseg.paddle import CrossEntropyLoss, DiceLoss, EdgeAttentionLoss, MixedLoss, PaddleLoss

every_loss = pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)


@every_loss
def test_a_layer_without_state(driver, row):
    loss = driver.make(*row)
    assert isinstance(loss, nn.Layer)
    assert dict(loss.state_dict()) == {}
    assert loss.parameters() == []
    assert loss.buffers() == []
    loss.set_state_dict({})


@every_loss
def test_moves_and_modes_change_nothing(driver, row):
    batch = batch_for(row[0])
    loss = driver.make(*row)
    value = driver.value(loss, batch)
    for dtype in ("float16", "float64"):
        loss.to(dtype=dtype)
        np.testing.assert_array_equal(driver.value(loss, batch), value)
    loss.to("cpu")
    loss.eval()
    assert loss.training is False
    np.testing.assert_array_equal(driver.value(loss, batch), value)
    loss.train()
    assert loss.training is True
    np.testing.assert_array_equal(driver.value(loss, batch), value)


def test_class_weights_follow_the_logits(driver):
    loss = driver.make(CE, {"weight": paddle.to_tensor(WEIGHT)})
    assert loss.weight == tuple(WEIGHT)
    for dtype, work in (("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")):
        logits, labels, _ = driver.inputs(batch_for(CE), dtype)
        assert str(loss(logits, labels).dtype).endswith(work)


def test_hooks_run():
    seen = []
    loss = CrossEntropyLoss()
    loss.register_forward_pre_hook(lambda layer, args: seen.append(("before", len(args))))
    loss.register_forward_post_hook(lambda layer, args, value: seen.append(("after", tuple(value.shape))))
    loss.register_forward_post_hook(lambda layer, args, value: 2 * value)
    value = loss(paddle.zeros([1, 2, 3]), paddle.zeros([1, 3], dtype="int64"))
    assert seen == [("before", 2), ("after", ())]
    assert float(value) == pytest.approx(2 * np.log(2))


def test_hooks_of_an_edge_loss_run():
    seen = []
    loss = EdgeAttentionLoss(edge_threshold=-1.0)
    loss.register_forward_post_hook(lambda layer, args, value: seen.append(float(value)))
    value = loss((paddle.zeros([1, 2, 3]), paddle.zeros([1, 1, 3])), paddle.zeros([1, 3], dtype="int64"))
    assert seen == [float(value)]


def test_losses_live_inside_layers():
    class Head(nn.Layer):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2D(3, 2, 1)
            self.loss = MixedLoss([CrossEntropyLoss(), DiceLoss()], coef=[1, 2])

        def forward(self, x, labels):
            return sum(self.loss(self.layer(x), labels))

    paddle.seed(0)
    head = Head()
    assert "loss.losses.0" in [name for name, _ in head.named_sublayers()]
    assert [name for name, _ in head.named_parameters()] == ["layer.weight", "layer.bias"]
    head(paddle.randn([2, 3, 4, 4]), paddle.randint(0, 2, [2, 4, 4])).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert set(head.state_dict()) == {"layer.weight", "layer.bias"}


def test_a_mixed_loss_registers_learned_losses():
    @dataclass(eq=False)
    class Learned(unilossseg.Loss):
        ignore_index: int = 255

        def compute(self, ops, logits, labels):
            return ops.xp.sum(logits * self.scale)

    class PaddleLearned(Learned, PaddleLoss):
        def __post_init__(self):
            super().__post_init__()
            self.scale = self.create_parameter([1], default_initializer=nn.initializer.Constant(2.0))

    loss = MixedLoss([PaddleLearned(), DiceLoss()], coef=1)
    assert [name for name, _ in loss.named_parameters()] == ["losses.0.scale"]
    sum(loss(paddle.ones([1, 2, 3]), paddle.zeros([1, 3], dtype="int64"))).backward()
    assert loss.losses[0].scale.grad.tolist() == [6.0]


# Through a PyLayer Paddle itself crashes there, so only the formula is tried; the package's documentation says so.
@every_loss
def test_backward_twice_through_a_kept_graph_of_the_formula(driver, row):
    batch = batch_for(row[0], seed=4)
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    with driver.plain():
        value = driver.call(driver.make(*row), leaf, labels, further)
    value.backward(retain_graph=True)
    value.backward()
    _, exact = reference_of(*row, batch)
    assert_close(driver.gradient(leaf), 2 * exact, 1e-10)


@every_loss
def test_logits_that_change_between_forward_and_backward(driver, row):
    batch = batch_for(row[0])
    _, exact = reference_of(*row, batch)
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    middle = leaf * 1.0
    value = driver.call(driver.make(*row), middle, labels, further)
    with paddle.no_grad():
        middle.multiply_(paddle.full([1], -3.0, dtype="float64"))
    value.backward()
    assert_close(driver.gradient(leaf), exact, 1e-10)


@pytest.mark.parametrize("name", [CE, DICE, LOVASZ])
def test_half_logits_that_change_before_an_unexpected_backward_are_refused(driver, name):
    batch = batch_for(name)
    _, labels, further = driver.inputs(batch, "bfloat16")

    def gradient(change, factor):
        leaf = driver.leaf(batch.logits, "bfloat16")
        middle = leaf * 1.0
        value = driver.call(driver.make(name, {}), middle, labels, further)
        with paddle.no_grad():
            middle.multiply_(paddle.full([1], change, dtype="bfloat16"))
        (value * factor).backward()
        return driver.gradient(leaf)

    # The gradient that is expected was computed before they changed.
    assert np.array_equal(gradient(-3.0, 1.0), gradient(1.0, 1.0))
    # Paddle 3 wraps an error of a PyLayer's backward in an OSError.
    with pytest.raises((RuntimeError, OSError), match="modified by an inplace operation"):
        gradient(-3.0, 2.0)


@pytest.mark.parametrize("name", [CE, DICE, LOVASZ])
def test_half_precision_labels_that_change_before_an_unexpected_backward_are_refused(driver, name):
    batch = batch_for(name)
    _, labels, further = driver.inputs(batch, "bfloat16")
    value = driver.call(driver.make(name, {}), driver.leaf(batch.logits, "bfloat16"), labels, further)
    with paddle.no_grad():
        labels.zero_()
    with pytest.raises((RuntimeError, OSError), match="modified by an inplace operation"):
        (value * 4).backward()


@every_loss
@pytest.mark.parametrize("history", [(1.0, 1.0), (1.0, 2.0)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_after_its_backward_pass_nothing_of_the_batch(driver, row, dtype, history, factor):
    """A value that is collected must not hold the logits and labels that it came from."""
    batch = batch_for(row[0])
    leaf = driver.leaf(batch.logits, dtype)
    _, labels, further = driver.inputs(batch, dtype)
    middle, loss = leaf * 1.0, driver.make(*row)
    object.__setattr__(loss, "_upstreams", history)
    value = driver.call(loss, middle, labels, further)
    kept = [weakref.ref(one) for one in (middle, labels, *further.values())]
    (value * factor).backward()
    del middle, labels, further
    gc.collect()
    assert [one() for one in kept] == [None] * len(kept)
    assert leaf.grad is not None
    assert float(value) == float(value)


@every_loss
def test_no_graph_is_built_without_need(driver, row):
    batch = batch_for(row[0])
    logits, labels, further = driver.inputs(batch, "float64")
    loss = driver.make(*row)
    value = driver.call(loss, logits, labels, further)
    assert value.stop_gradient
    with paddle.no_grad():
        assert driver.call(loss, driver.leaf(batch.logits), labels, further).stop_gradient
    assert_close(value.numpy(), reference_of(*row, batch)[0], 1e-11)


# With a tensor that came through DLPack this hung within a second: Paddle lets go of it under a lock of its own.
def test_threads_that_train_do_not_wait_for_each_other():
    code = """
import threading, paddle
from unilossseg.paddle import CrossEntropyLoss

loss, labels = CrossEntropyLoss(), paddle.zeros([1, 16, 16], dtype="int64")

def train():
    for _ in range(2000):
        logits = paddle.ones([1, 3, 16, 16])
        logits.stop_gradient = False
        (loss(logits * 1.0, labels) * 0.4).backward()

threads = [threading.Thread(target=train) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("done")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=True)
    assert done.stdout.endswith("done\n")


class LearnedLayer(nn.Layer):
    def __init__(self):
        super().__init__()
        self.scale = self.create_parameter([1])

    def forward(self, logits, labels):
        return (logits * self.scale).sum()


def test_a_mixed_loss_registers_layers_beside_functions():
    def one(logits, labels):
        return logits.sum()

    assert len(MixedLoss([LearnedLayer(), one], coef=1).parameters()) == 1
    assert len(MixedLoss([LearnedLayer(), CrossEntropyLoss()], coef=1).parameters()) == 1
    assert list(MixedLoss([one, one], coef=1).sublayers()) == []


def test_losses_that_are_set_later_are_found_too():
    mixed = MixedLoss([CrossEntropyLoss(), DiceLoss()], coef=1)
    for losses, count in (([LearnedLayer(), LearnedLayer()], 2), ([LearnedLayer(), lambda z, y: z.mean()], 1)):
        mixed.losses = losses
        assert list(mixed.losses) == losses
        assert len(mixed.parameters()) == count
    # A list of layers too, whatever was registered before.
    for before in ([LearnedLayer(), lambda z, y: z.mean()], [LearnedLayer()]):
        mixed.losses = before
        mixed.losses = nn.LayerList([LearnedLayer(), LearnedLayer()])
        assert len(mixed.parameters()) == 2
        logits = paddle.ones([1, 2, 3])
        assert [value.item() for value in mixed(logits, None)] == pytest.approx(
            [6 * one.item() for one in mixed.parameters()]
        )
    mixed.losses = (CrossEntropyLoss(), DiceLoss())
    assert mixed.parameters() == []
    assert [type(child).__name__ for child in mixed.losses] == ["CrossEntropyLoss", "DiceLoss"]


def test_places_that_are_equal_to_none_are_one_object(monkeypatch):
    monkeypatch.setattr(_paddle_tracing, "_PLACES", {})
    x, y = paddle.ones([2]), paddle.zeros([2])
    assert _paddle_tracing.place_of(x) is _paddle_tracing.place_of(y)
    assert str(_paddle_tracing.place_of(x)) == str(x.place)


def test_parameters_that_want_a_gradient_are_refused():
    weight = paddle.ones([3])
    assert CrossEntropyLoss(weight=weight).weight == (1.0, 1.0, 1.0)
    weight.stop_gradient = False
    with pytest.raises(
        ValueError, match="CrossEntropyLoss: weight wants a gradient, expected a number or a tensor without one"
    ):
        CrossEntropyLoss(weight=weight)
    with pytest.raises(ValueError, match=r"MixedLoss: coef\[0\] wants a gradient"):
        MixedLoss([DiceLoss()], coef=[weight.sum()])


def test_sparse_tensors_are_refused():
    logits, labels = paddle.ones([2, 3, 4]), paddle.zeros([2, 4], dtype="int64")
    with pytest.raises(TypeError, match="DiceLoss: logits have layout sparse, expected a dense array"):
        DiceLoss()(logits.to_sparse_coo(3), labels)
    with pytest.raises(TypeError, match="DiceLoss: labels have layout sparse, expected a dense array"):
        DiceLoss()(logits, labels.to_sparse_coo(2))


def test_distributed_tensors_are_refused_and_their_local_parts_taken():
    mesh = paddle.distributed.ProcessMesh([0], dim_names=["x"])
    whole = paddle.ones([2, 3, 4]), paddle.zeros([2, 4], dtype="int64")
    logits, labels = (paddle.distributed.shard_tensor(x, mesh, [paddle.distributed.Shard(0)]) for x in whole)
    with pytest.raises(
        TypeError,
        match="DiceLoss: logits have layout distributed, expected a dense array: pass each process's local part",
    ):
        DiceLoss()(logits, labels)
    with pytest.raises(TypeError, match="DiceLoss: labels have layout distributed"):
        DiceLoss()(whole[0], labels)
    assert float(DiceLoss()(logits._local_value(), labels._local_value())) == float(DiceLoss()(*whole))
