"""Tensors that nobody may look at: on an accelerator, on the meta device, fake ones."""

import pytest
import torch
from checks.cases import PLAIN_ROWS, ROWS, batch_of_row, named
from checks.devices import *  # noqa: F403  each of its tests
from torch._subclasses.fake_tensor import FakeTensorMode


@pytest.mark.parametrize("row", ROWS, ids=named)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_forward_on_the_meta_device(driver, row, dtype):
    batch = batch_of_row(row)
    logits, labels, further = driver.inputs(batch, dtype)
    further = {name: x.to("meta") for name, x in further.items()}
    value = driver.call(driver.make(*row), logits.to("meta"), labels.to("meta"), further)
    expected = driver.call(driver.make(*row), *driver.inputs(batch, dtype))
    values, expected = (x if isinstance(x, list) else [x] for x in (value, expected))
    assert [v.device.type for v in values] == ["meta"] * len(expected)
    assert [(v.shape, v.dtype) for v in values] == [(v.shape, v.dtype) for v in expected]


@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
def test_backward_on_the_meta_device(driver, row):
    logits, labels, further = driver.inputs(batch_of_row(row), "float32")
    leaf = logits.to("meta").requires_grad_(True)
    driver.call(driver.make(*row), leaf, labels.to("meta"), {name: x.to("meta") for name, x in further.items()}).backward()
    assert leaf.grad.shape == leaf.shape
    assert leaf.grad.device.type == "meta"


def test_dual_task_draws_its_noise_on_the_meta_device(driver):
    logits = torch.empty(2, 3, 5, 6, device="meta")
    value = driver.make("DualTaskLoss", {})(logits, torch.empty(2, 5, 6, dtype=torch.int64, device="meta"))
    assert value.device.type == "meta"


@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
def test_fake_tensors(driver, row):
    logits, labels, further = driver.inputs(batch_of_row(row), "float32")
    mode = FakeTensorMode()
    fake = {name: mode.from_tensor(x) for name, x in {"logits": logits, "labels": labels, **further}.items()}
    with mode:
        value = driver.call(driver.make(*row), fake.pop("logits"), fake.pop("labels"), fake)
    assert value.shape == ()


def test_a_device_without_float64_says_so(driver, monkeypatch):
    class Elsewhere(torch.Tensor):
        is_cpu = False
        is_mps = True

    logits = torch.zeros(1, 2, 3).as_subclass(Elsewhere)
    with pytest.raises(TypeError, match=r"mps device has no float64.*to the CPU"):
        driver.make("DiceLoss", {})(logits, torch.zeros(1, 3, dtype=torch.int64).as_subclass(Elsewhere))
