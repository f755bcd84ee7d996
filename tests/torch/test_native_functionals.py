"""What the errors of a loss are compared with is the same loss."""

import pytest
import torch
from checks import native_functionals
from torch.nn import functional

from unilossseg.torch import BCELoss


@native_functionals.FUNCTIONALS
def test_functionals_have_the_definition_of_the_loss(loss, functional, tmp_path):
    assert native_functionals.agrees("torch", loss, tmp_path) == {f"torch.nn.functional.{functional}"}


def test_a_loss_without_such_a_functional_has_none(tmp_path):
    assert native_functionals.has_none("torch", "DiceLoss", tmp_path)


@pytest.mark.parametrize("label", [0.0, 1.0])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_binary_cross_entropy_keeps_its_digits_of_confident_logits(label, factor):
    """Where torch's float32 value has none left, and its float64 gradient few."""
    for place in range(-60, 61, 4):
        logits = torch.full((2, 1, 40), place + 0.375, requires_grad=True)
        wide = logits.detach().double()
        value = BCELoss(pos_weight=None if factor == 1 else factor)(logits, torch.full_like(logits, label))
        (gradient,) = torch.autograd.grad(value, logits)
        exact = functional.softplus(wide) if label == 0 else factor * functional.softplus(-wide)
        of_exact = torch.sigmoid(wide) if label == 0 else -factor * torch.sigmoid(-wide)
        torch.testing.assert_close(value.detach().double(), exact.mean(), rtol=1e-6, atol=0)
        torch.testing.assert_close(gradient.double(), of_exact / exact.numel(), rtol=1e-6, atol=0)
