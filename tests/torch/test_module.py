"""What a loss does as a torch Module: hooks, moves, graphs that are kept, logits that change."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from checks.cases import CE, DICE, EDGE, LOVASZ, PLAIN_ROWS, WEIGHT, batch_for, named
from checks.compare import assert_close, reference_of
from torch import nn

import unilossseg
from unilossseg.backends import _threads
from unilossseg.conformance import environment
from unilossseg.torch import CrossEntropyLoss, DiceLoss, EdgeAttentionLoss, MixedLoss, TorchLoss

every_loss = pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)


@every_loss
def test_a_module_without_state(driver, row):
    loss = driver.make(*row)
    assert isinstance(loss, nn.Module)
    assert dict(loss.state_dict()) == {}
    assert list(loss.parameters()) == []
    assert list(loss.buffers()) == []
    loss.load_state_dict({})


@every_loss
def test_torch_s_number_of_threads_is_ours(driver, row, monkeypatch):
    asked, threads = [], torch.get_num_threads()

    def counted(original=_threads.num_threads):
        asked.append(original())
        return asked[-1]

    monkeypatch.setattr(_threads, "num_threads", counted)
    try:
        for wanted in (1, 3):
            torch.set_num_threads(wanted)
            asked.clear()
            driver.value_and_gradient(driver.make(*row), batch_for(row[0], shape=(40, 50)), "float32")
            assert set(asked) == {wanted}
            assert f"kernel_threads={wanted}" in environment.described("torch")["flags"]
    finally:
        torch.set_num_threads(threads)


@every_loss
def test_moves_and_modes_change_nothing(driver, row):
    batch = batch_for(row[0])
    loss = driver.make(*row)
    value = driver.value(loss, batch)
    for change in ("half", "double", "eval", "train", "cpu"):
        assert getattr(loss, change)() is loss
        np.testing.assert_array_equal(driver.value(loss, batch), value)
    assert loss.to(torch.float16) is loss
    assert loss.eval().training is False
    assert loss.train().training is True
    np.testing.assert_array_equal(driver.value(loss, batch), value)


def test_class_weights_follow_the_logits(driver):
    loss = driver.make(CE, {"weight": torch.tensor(WEIGHT)})
    assert loss.weight == tuple(WEIGHT)
    for dtype, work in (("float16", "float32"), ("bfloat16", "float32"), ("float32", "float32"), ("float64", "float64")):
        logits, labels, _ = driver.inputs(batch_for(CE), dtype)
        assert loss(logits, labels).dtype == getattr(torch, work)


def test_hooks_run():
    seen = []
    loss = CrossEntropyLoss()
    loss.register_forward_pre_hook(lambda module, args: seen.append(("before", len(args))))
    loss.register_forward_hook(lambda module, args, value: seen.append(("after", value.shape)))
    loss.register_forward_hook(lambda module, args, value: 2 * value)
    logits, labels = torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64)
    value = loss(logits, labels)
    assert seen == [("before", 2), ("after", torch.Size([]))]
    assert float(value) == pytest.approx(2 * np.log(2))


def test_hooks_of_an_edge_loss_run():
    seen = []
    loss = EdgeAttentionLoss(edge_threshold=-1.0)
    loss.register_forward_hook(lambda module, args, value: seen.append(value))
    value = loss((torch.zeros(1, 2, 3), torch.zeros(1, 1, 3)), torch.zeros(1, 3, dtype=torch.int64))
    assert seen == [value]


def test_losses_live_inside_modules():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 1)
            self.loss = MixedLoss([CrossEntropyLoss(), DiceLoss()], coef=[1, 2])

        def forward(self, x, labels):
            return sum(self.loss(self.layer(x), labels))

    torch.manual_seed(0)
    head = Head()
    names = [name for name, _ in head.named_modules()]
    assert "loss.losses.0" in names
    assert [name for name, _ in head.named_parameters()] == ["layer.weight", "layer.bias"]
    head(torch.randn(2, 3, 4, 4), torch.randint(0, 2, (2, 4, 4))).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert set(head.state_dict()) == {"layer.weight", "layer.bias"}


def test_a_mixed_loss_registers_learned_losses():
    @dataclass(eq=False)
    class Learned(unilossseg.Loss):
        ignore_index: int = 255

        def compute(self, ops, logits, labels):
            return ops.xp.sum(logits * self.scale)

    class TorchLearned(Learned, TorchLoss):
        def __post_init__(self):
            super().__post_init__()
            self.scale = nn.Parameter(torch.tensor(2.0))

    def one(logits, labels):
        return logits.sum()

    for other, name in ((DiceLoss(), "losses.0.scale"), (one, "layers_among_losses.0.scale")):
        loss = MixedLoss([TorchLearned(), other], coef=1)
        assert [name for name, _ in loss.named_parameters()] == [name]
        sum(loss(torch.ones(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64))).backward()
        assert float(loss.losses[0].scale.grad) == 6.0
    assert dict(MixedLoss([one, one], coef=1).named_children()) == {}


@every_loss
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_backward_twice_through_a_kept_graph(driver, row, dtype):
    batch = batch_for(row[0], seed=4)
    _, labels, further = driver.inputs(batch, dtype)
    leaf = driver.leaf(batch.logits, dtype)
    value = driver.call(driver.make(*row), leaf, labels, further)
    (once,) = torch.autograd.grad(value, leaf, retain_graph=True)
    (scaled,) = torch.autograd.grad(value, leaf, 4 * torch.ones_like(value), retain_graph=True)
    (again,) = torch.autograd.grad(value, leaf)
    tolerance = {"rtol": 0, "atol": 1e-12 if dtype == "float64" else 1e-2 * float(once.abs().max())}
    torch.testing.assert_close(again, once, **tolerance)
    torch.testing.assert_close(scaled / 4, once, **tolerance)
    if dtype == "float64":
        _, exact = reference_of(*row, batch)
        assert_close(once.numpy(), exact, 1e-10)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(value, leaf)


@pytest.mark.parametrize("name", ["BCELoss", "L1Loss", "MSELoss", "CrossEntropyLoss"])
def test_a_kept_graph_gives_the_same_bits_again(driver, name):
    """Whether labels are counted while the loss is computed or were counted before."""
    rng = np.random.default_rng(3)
    loss = driver.make(name, {"ignore_index": 255} if name in ("BCELoss", "CrossEntropyLoss") else {})
    logits = torch.tensor(rng.normal(size=(1, 3, 16, 17)), dtype=torch.float32, requires_grad=True)
    labels = rng.integers(0, 2, (1, 16, 17) if name == "CrossEntropyLoss" else (1, 3, 16, 17))
    labels.reshape(-1)[::7] = 255
    value = loss(logits, torch.tensor(labels))
    first, second = (torch.autograd.grad(value, logits, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)
    (unchecked,) = torch.autograd.grad(loss(logits, torch.tensor(labels), validate=False), logits)
    assert torch.equal(first, unchecked)


@every_loss
def test_a_gradient_that_was_given_is_not_written_to_later(driver, row):
    batch = batch_for(row[0])
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    value = driver.call(driver.make(*row), leaf, labels, further)
    (first,) = torch.autograd.grad(value, leaf, retain_graph=True)
    kept = first.clone()
    torch.autograd.grad(value, leaf, 3 * torch.ones_like(value))
    torch.testing.assert_close(first, kept, rtol=0, atol=0)


@every_loss
def test_logits_that_change_between_forward_and_backward(driver, row):
    """The gradient is that of the logits that the loss saw, or torch refuses; never that of the new ones."""
    batch = batch_for(row[0])
    _, exact = reference_of(*row, batch)
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    middle = leaf * 1.0
    value = driver.call(driver.make(*row), middle, labels, further)
    with torch.no_grad():
        middle.mul_(-3.0)
    value.backward(retain_graph=True)
    assert_close(leaf.grad.numpy(), exact, 1e-10)
    # A second one would be computed from logits that are gone.
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


@pytest.mark.parametrize("name", [CE, DICE, LOVASZ])
def test_half_logits_that_change_before_an_unexpected_backward_are_refused(driver, name):
    batch = batch_for(name)
    _, labels, further = driver.inputs(batch, "float16")

    def gradient(change, factor):
        leaf = driver.leaf(batch.logits, "float16")
        middle = leaf * 1.0
        value = driver.call(driver.make(name, {}), middle, labels, further)
        with torch.no_grad():
            middle.mul_(change)
        (value * factor).backward()
        return leaf.grad

    # The gradient that is expected was computed before they changed.
    assert torch.equal(gradient(-3.0, 1.0), gradient(1.0, 1.0))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradient(-3.0, 2.0)


@every_loss
def test_no_graph_is_built_without_need(driver, row):
    batch = batch_for(row[0])
    logits, labels, further = driver.inputs(batch, "float64")
    loss = driver.make(*row)
    assert not driver.call(loss, logits, labels, further).requires_grad
    with torch.no_grad():
        assert not driver.call(loss, driver.leaf(batch.logits), labels, further).requires_grad
    with torch.inference_mode():
        value = driver.call(loss, logits, labels, further)
    assert_close(value.numpy(), reference_of(*row, batch)[0], 1e-11)


@every_loss
@pytest.mark.parametrize("way", ["closed", "plain"])
def test_value_and_gradient_in_inference_mode_and_of_what_it_made(driver, row, way):
    batch = batch_for(row[0])
    loss, inputs = driver.make(*row), driver.inputs(batch, "float64")
    exact_value, exact = reference_of(*row, batch)

    def check(*inputs):
        value, gradient = driver.call(unilossseg.value_and_grad(loss), *inputs)
        assert_close(value.numpy(), exact_value, 1e-11)
        assert_close(gradient.numpy(), exact, 1e-10)

    with getattr(driver, way)():
        with torch.inference_mode():
            logits, labels, further = inputs
            made = logits.clone(), labels.clone(), {name: value.clone() for name, value in further.items()}
            assert made[0].is_inference()
            check(*inputs)
            check(*made)
        check(*made)


def test_autocast_leaves_the_loss_in_float32(driver):
    batch = batch_for(CE)
    leaf = driver.leaf(batch.logits, "float32")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = CrossEntropyLoss()(leaf, driver.array(batch.labels))
    value.backward()
    assert value.dtype == leaf.grad.dtype == torch.float32
    assert_close(leaf.grad.numpy(), reference_of(CE, {}, batch)[1], 1e-5)


def test_edge_loss_of_a_network_with_two_heads():
    torch.manual_seed(1)
    seg, edge = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 1, 1)
    x, labels = torch.randn(2, 3, 5, 5), torch.randint(0, 4, (2, 5, 5))
    EdgeAttentionLoss(edge_threshold=0.0)((seg(x), edge(x)), labels).backward()
    assert seg.weight.grad is not None
    assert edge.weight.grad is None


def test_an_edge_loss_is_named_in_its_error():
    with pytest.raises(TypeError, match=f"^{EDGE}: logits must be the pair"):
        EdgeAttentionLoss()(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64))


def test_losses_that_are_set_later_are_found_too():
    class TorchLearned(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, logits, labels):
            return self.scale * logits.mean()

    mixed = MixedLoss([CrossEntropyLoss(), DiceLoss()], coef=1)
    for losses, count in (([TorchLearned(), TorchLearned()], 2), ([TorchLearned(), lambda z, y: z.mean()], 1)):
        mixed.losses = losses
        assert list(mixed.losses) == losses
        assert len(list(mixed.parameters())) == count
        sum(mixed(torch.ones(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64))).backward()
        assert all(parameter.grad is not None for parameter in mixed.parameters())
    mixed.losses = (CrossEntropyLoss(), DiceLoss())
    assert list(mixed.parameters()) == []
    assert [type(child).__name__ for child in mixed.losses] == ["CrossEntropyLoss", "DiceLoss"]
