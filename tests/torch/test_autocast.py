"""Losses inside torch.autocast, and under a gradient scaler."""

from dataclasses import dataclass

import pytest
import torch
from checks.cases import PLAIN_ROWS, ROWS, batch_for, batch_of_row, named
from torch import nn
from torch.autograd import forward_ad

import unilossseg
from unilossseg.torch import TorchLoss


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


@pytest.mark.parametrize("row", ROWS, ids=named)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("way", ["closed", "plain"])
def test_autocast_changes_nothing(driver, row, dtype, way):
    batch = batch_of_row(row)
    loss = driver.make(*row)
    _, labels, further = driver.inputs(batch, dtype)
    results = []
    with getattr(driver, way)():
        for context in (driver.closed(), autocast()):
            leaf = driver.leaf(batch.logits, dtype)
            with context:
                value = driver.call(loss, leaf, labels, further)
                value = sum(value) if isinstance(value, list) else value
            value.sum().backward()
            results.append((value.detach(), leaf.grad))
    (value, gradient), (cast_value, cast_gradient) = results
    assert cast_value.dtype == (torch.float64 if dtype == "float64" else torch.float32)
    assert cast_gradient.dtype == getattr(torch, dtype)
    torch.testing.assert_close(cast_value, value, rtol=0, atol=0)
    torch.testing.assert_close(cast_gradient, gradient, rtol=0, atol=0)


class Net(nn.Module):
    """Its logits are bfloat16 inside autocast; those of the edge branch too."""

    def __init__(self, channels):
        super().__init__()
        self.seg, self.edge = nn.Conv2d(3, channels, 3, padding=1), nn.Conv2d(3, 1, 1)

    def forward(self, x):
        return self.seg(x), self.edge(x)


def trained(driver, row, scaler):
    """The parameters after one step of training in bfloat16, with the value and the logits of that step."""
    torch.manual_seed(3)
    batch = batch_for(row[0], seed=3)
    net = Net(batch.logits.shape[1])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    _, labels, further = driver.inputs(batch, "float32")
    with autocast():
        logits, edge = net(torch.randn(2, 3, *batch.logits.shape[2:]))
        logits.retain_grad()
        if "edge_logits" in further:
            further["edge_logits"] = edge
        value = driver.call(driver.make(*row), logits, labels, further)
    scaler.scale(value).backward()
    scaler.step(optimizer)
    scaler.update()
    return value, logits, net


@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
def test_a_step_of_training_in_bfloat16_with_a_gradient_scaler(driver, row):
    value, logits, net = trained(driver, row, torch.amp.GradScaler("cpu", enabled=False))
    assert value.dtype == torch.float32
    assert logits.dtype == logits.grad.dtype == torch.bfloat16
    assert logits.grad.isfinite().all()
    assert logits.grad.abs().max() > 0
    # A power of two changes no digit of any number on the way, so that the step is the same to the last bit.
    scaled_value, scaled_logits, scaled_net = trained(driver, row, torch.amp.GradScaler("cpu", init_scale=1024.0))
    torch.testing.assert_close(scaled_value, value, rtol=0, atol=0)
    torch.testing.assert_close(scaled_logits.grad, 1024 * logits.grad, rtol=0, atol=0)
    for one, other in zip(net.parameters(), scaled_net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@dataclass(eq=False)
class Squared(unilossseg.Loss):
    """The logits' sum of squares, by a product of matrices: those are what autocast computes in half precision."""

    def compute(self, ops, logits, labels):
        flat = ops.xp.reshape(logits, (1, -1))
        return ops.xp.matmul(flat, ops.xp.permute_dims(flat, (1, 0)))[0, 0]


class TorchSquared(Squared, TorchLoss):
    pass


@dataclass(eq=False)
class TorchSquaredTwice(Squared, TorchLoss):
    """With a closed form, which leaves second derivatives and forward mode to the formula."""

    @staticmethod
    def closed_form(ops, logits, labels, *, gradient, upstream):
        return ops.xp.sum(logits * logits), 2 * logits * (1 if upstream is None else upstream)


Z, Y = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)), torch.zeros(2, 5, dtype=torch.int64)


# torch's own rules for forward mode are scripted.
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("loss", [TorchSquared(), TorchSquaredTwice()], ids=lambda loss: loss.name)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_loss_of_one_s_own_is_computed_in_full_precision(loss, dtype):
    logits = Z.to(dtype).requires_grad_()
    exact = logits.detach().float()
    with autocast():
        assert (logits @ logits.mT).dtype == torch.bfloat16
        value = loss(logits, Y)
        both = unilossseg.value_and_grad(loss)(logits, Y)
        with forward_ad.dual_level():
            tangent = forward_ad.unpack_dual(loss(forward_ad.make_dual(logits.detach(), torch.ones_like(logits)), Y)).tangent
        # Outside of the loss it is on as before.
        assert (logits @ logits.mT).dtype == torch.bfloat16
    assert value.dtype == tangent.dtype == torch.float32
    torch.testing.assert_close(value, torch.sum(exact**2))
    torch.testing.assert_close(tangent, 2 * torch.sum(exact))
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0], 2 * logits)
    torch.testing.assert_close(both, (value.detach(), 2 * logits.detach()))


def test_a_second_derivative_inside_of_autocast():
    logits = Z.clone().requires_grad_()
    with autocast():
        (gradient,) = torch.autograd.grad(TorchSquaredTwice()(logits, Y), logits, create_graph=True)
    torch.testing.assert_close(gradient, 2 * logits)
    torch.testing.assert_close(torch.autograd.grad(gradient.sum(), logits)[0], torch.full_like(logits, 2))


def test_autocast_is_no_hindrance_to_a_compiler():
    loss = TorchSquared()
    with autocast():
        value = torch.compile(loss, fullgraph=True, backend="eager")(Z, Y)
    torch.testing.assert_close(value.float(), loss(Z, Y), rtol=2e-2, atol=0)
