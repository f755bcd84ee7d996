"""Losses inside torch.autocast, and under a gradient scaler."""

import pytest
import torch
from checks.cases import PLAIN_ROWS, ROWS, batch_for, batch_of_row, named
from torch import nn


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
