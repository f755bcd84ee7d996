"""What the errors of a loss are compared with is the same loss."""

import pytest
import torch
from checks import native_functionals
from checks.rare_labels import rare_batch
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


@pytest.mark.parametrize("rare", [0, 1])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_dynamic_weights_of_a_rare_label_are_weights_per_pixel(rare, count):
    """Of torch's own loss, in float64."""
    batch = rare_batch(rare, count)
    logits, labels = torch.tensor(batch.logits, dtype=torch.float32, requires_grad=True), torch.tensor(batch.labels)
    wide = logits.detach().double().requires_grad_()
    positive = labels == 1
    share = positive.double().mean()
    weight = 2 * torch.where(positive, 1 - share, share)
    exact = functional.binary_cross_entropy_with_logits(wide, labels.double(), weight=weight)
    value = BCELoss(weight="dynamic")(logits, labels)
    torch.testing.assert_close(value.detach().double(), exact.detach(), rtol=1e-6, atol=0)
    (gradient,), (of_exact,) = torch.autograd.grad(value, logits), torch.autograd.grad(exact, wide)
    torch.testing.assert_close(gradient.double(), of_exact, rtol=1e-6, atol=0)
