"""Fields of a user's loss that hold a Module or an nn.Parameter: torch finds them, and so does the loss."""

import copy
import pickle
from dataclasses import dataclass

import pytest
import torch
from checks.fields import Needing, Scored
from torch import nn

from unilossseg.torch import DiceLoss, TorchLoss


class TorchScored(Scored, TorchLoss):
    pass


class TorchNeeding(Needing, TorchLoss):
    pass


Z, Y = torch.arange(12.0).reshape(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
every_class = pytest.mark.parametrize("cls", [TorchScored, TorchNeeding])


def made(cls=TorchScored):
    torch.manual_seed(0)
    return cls(net=nn.Conv2d(3, 1, 1), scale=nn.Parameter(torch.tensor(2.0)))


def exact(loss):
    """The value, from the state that torch has of it."""
    state = loss.state_dict()
    return torch.mean(torch.einsum("oc,nchw->nohw", state["net.weight"][..., 0, 0], Z) + state["net.bias"]) * state["scale"]


def check(loss):
    """What torch has registered is what the loss computes with, and trains."""
    assert set(loss.state_dict()) == {"scale", "net.weight", "net.bias"}
    assert loss.net is loss._modules["net"]
    assert loss.scale is loss._parameters["scale"]
    loss.zero_grad()
    value = loss(Z, Y)
    torch.testing.assert_close(value.detach(), exact(loss))
    value.backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


@every_class
def test_they_are_registered(cls):
    check(made(cls))


@every_class
def test_copies_have_their_own(cls):
    loss = made(cls)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):  # noqa: S301
        assert other.net is not loss.net
        assert other.scale is not loss.scale
        with torch.no_grad():
            other.scale.mul_(-1.0)
        check(other)
        check(loss)
        torch.testing.assert_close(other(Z, Y), -loss(Z, Y))


@every_class
def test_one_that_is_loaded_where_none_was_made(cls):
    class Elsewhere(cls):
        """Its class has not seen such a field yet, as in another process."""

    loss = Elsewhere.__new__(Elsewhere)
    loss.__setstate__(made(cls).__dict__)
    check(loss)


@every_class
def test_they_move_with_the_loss(cls):
    loss = made(cls)
    assert loss.double() is loss
    assert loss.net.weight.dtype == loss.scale.dtype == torch.float64
    loss.float()
    check(loss)


@every_class
def test_they_are_replaced(cls):
    loss = made(cls)
    for place in (loss, loss._modules):
        other = nn.Conv2d(3, 1, 1)
        setattr(loss, "net", other) if place is loss else place.update(net=other)
        assert loss.net is other
        check(loss)
    loss.scale = nn.Parameter(torch.tensor(-3.0))
    check(loss)
    found = torch.func.functional_call(loss, {"scale": torch.tensor(6.0)}, (Z, Y))
    torch.testing.assert_close(found, -2 * loss(Z, Y))


@every_class
def test_a_plain_value_takes_their_place(cls):
    loss = made(cls)
    before = exact(loss)
    loss.net, loss.scale = copy.deepcopy(loss.net).forward, 4.0
    assert dict(loss.state_dict()) == {}
    assert list(loss.named_children()) == []
    torch.testing.assert_close(loss(Z, Y), 2 * before)
    loss.net, loss.scale = nn.Conv2d(3, 1, 1), nn.Parameter(torch.tensor(1.0))
    check(loss)


def test_what_is_deleted_is_the_default_again():
    loss = made()
    del loss.net, loss.scale
    assert (loss.net, loss.scale) == (None, 1.0)
    assert dict(loss.state_dict()) == {}
    check(made())


def test_other_losses_of_the_class_keep_the_default():
    plain, _ = TorchScored(), made()
    assert (plain.net, plain.scale, TorchScored.net, TorchScored().scale) == (None, 1.0, None, 1.0)
    torch.testing.assert_close(plain(Z, Y), Z.mean())

    @dataclass(eq=False)
    class Further(TorchScored):
        more: float = 0.5

    assert (Further().net, Further().scale, Further().more) == (None, 1.0, 0.5)


@every_class
def test_it_compiles(cls):
    torch._dynamo.reset()
    loss = made(cls)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    compiled(Z, Y).backward()
    torch.testing.assert_close(compiled(Z, Y).detach(), exact(loss))
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_a_loss_of_the_package_trains_no_number():
    with pytest.raises(ValueError, match="DiceLoss: smooth wants a gradient"):
        DiceLoss(smooth=nn.Parameter(torch.tensor(1.0)))
    loss = DiceLoss(smooth=nn.Parameter(torch.tensor(1.0), requires_grad=False))
    assert type(loss.smooth) is float
    assert dict(loss.state_dict()) == {}
