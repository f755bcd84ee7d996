"""Losses that are set on a MixedLoss as a list of Modules."""

import pytest
import torch
from torch import nn

from unilossseg.torch import DiceLoss, MixedLoss


class Learned(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, logits, labels):
        return self.scale * logits.sum()


@pytest.mark.parametrize(
    "before",
    [[Learned(2.0), lambda logits, labels: logits.sum()], [Learned(2.0)], [DiceLoss()]],
    ids=["beside", "list", "none"],
)
def test_a_list_of_modules_takes_the_place_of_what_was_registered(before):
    mixed = MixedLoss(before, coef=1)
    mixed.losses, mixed.coef = nn.ModuleList([Learned(3.0), Learned(5.0)]), 1
    assert [name for name, _ in mixed.named_parameters()] == ["losses.0.scale", "losses.1.scale"]
    assert [value.item() for value in mixed(torch.ones(1, 2, 3), None)] == [18.0, 30.0]


@pytest.mark.parametrize("wrong", [5, [], nn.ModuleList(), [DiceLoss(), 3]], ids=repr)
def test_a_list_that_is_refused_leaves_the_one_before(wrong):
    mixed = MixedLoss([Learned(2.0)], coef=1)
    with pytest.raises((TypeError, ValueError), match=r"^MixedLoss: losses(\[1\])? must be a l"):
        mixed.losses = wrong
    assert [name for name, _ in mixed.named_parameters()] == ["losses.0.scale"]
    assert [value.item() for value in mixed(torch.ones(1, 2, 3), None)] == [12.0]
