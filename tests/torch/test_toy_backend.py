"""A backend that is torch's namespace and its autograd, and nothing else."""

import pytest
import torch
from checks.cases import DICE, batch_for
from checks.compare import assert_close, reference_of

import unilossseg
from unilossseg.backends import Backend, _registry, _torch_namespace, register


class Toy(Backend):
    """The closed forms could write into its arrays, but it has no way to hang their gradients into autograd."""

    assignable = differentiable = True

    def value_and_grad(self, function, x, upstream):
        leaf = x.detach().requires_grad_(True)
        value = function(leaf)
        return value.detach(), torch.autograd.grad(value, leaf, upstream)[0]


@pytest.fixture
def toy(monkeypatch):
    for table in ("_backends", "_by_type"):
        monkeypatch.setattr(_registry, table, dict(getattr(_registry, table)))
    return register(Toy("toy", _torch_namespace), torch.Tensor)


def test_its_autograd_follows_a_loss_that_has_a_closed_form(toy):
    batch = batch_for(DICE)
    logits, labels = torch.from_numpy(batch.logits), torch.from_numpy(batch.labels)
    exact_value, exact = reference_of(DICE, {}, batch)
    value, gradient = unilossseg.value_and_grad(unilossseg.DiceLoss())(logits, labels)
    assert_close(value.numpy(), exact_value, 1e-12)
    assert_close(gradient.numpy(), exact, 1e-10)
    leaf = logits.clone().requires_grad_(True)
    unilossseg.DiceLoss()(leaf, labels).backward()
    assert_close(leaf.grad.numpy(), exact, 1e-10)
