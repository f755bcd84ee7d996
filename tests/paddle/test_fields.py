"""Fields of a user's loss that hold a Layer or a Parameter of Paddle's: Paddle finds them, and so does the loss."""

import copy
from dataclasses import dataclass

import paddle
import pytest
from checks.fields import Needing, Scored
from paddle import nn

from unilossseg.paddle import DiceLoss, PaddleLoss


class PaddleScored(Scored, PaddleLoss):
    pass


class PaddleNeeding(Needing, PaddleLoss):
    pass


Z, Y = paddle.arange(12, dtype="float32").reshape([1, 3, 2, 2]), paddle.zeros([1, 2, 2], dtype="int64")
every_class = pytest.mark.parametrize("cls", [PaddleScored, PaddleNeeding])
OLD = paddle.__version__.startswith("2.")


def number(value):
    return paddle.create_parameter([], "float32", default_initializer=nn.initializer.Constant(value))


def made(cls=PaddleScored):
    paddle.seed(0)
    return cls(net=nn.Conv2D(3, 1, 1), scale=number(2.0))


def exact(loss):
    """The value, from the state that Paddle has of it."""
    state = loss.state_dict()
    scores = (state["net.weight"].reshape([3, 1]) * Z.reshape([3, 4])).sum(axis=0) + state["net.bias"]
    return float(scores.mean() * state["scale"])


def check(loss):
    """What Paddle has registered is what the loss computes with, and trains."""
    assert set(loss.state_dict()) == {"scale", "net.weight", "net.bias"}
    assert loss.net is loss._sub_layers["net"]
    assert loss.scale is loss._parameters["scale"]
    loss.clear_gradients()
    value = loss(Z, Y)
    assert float(value) == pytest.approx(exact(loss), rel=1e-5)
    value.backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


@every_class
def test_they_are_registered(cls):
    check(made(cls))


# Not by pickle: Paddle 3 brings parameters back as plain tensors, and Paddle 2 pickles none.
@every_class
def test_a_copy_has_its_own(cls):
    loss = made(cls)
    other = copy.deepcopy(loss)
    assert other.net is not loss.net
    assert other.scale is not loss.scale
    other.scale.set_value(-other.scale)
    check(other)
    check(loss)
    assert float(other(Z, Y)) == -float(loss(Z, Y))


@every_class
def test_one_that_is_loaded_where_none_was_made(cls):
    class Elsewhere(cls):
        """Its class has not seen such a field yet, as in another process."""

    loss = Elsewhere.__new__(Elsewhere)
    loss.__setstate__(made(cls).__dict__)
    check(loss)


@every_class
def test_a_saved_state_is_loaded(cls, tmp_path):
    loss, other = made(cls), cls(net=nn.Conv2D(3, 1, 1), scale=number(5.0))
    paddle.save(loss.state_dict(), str(tmp_path / "loss.pdparams"))
    other.set_state_dict(paddle.load(str(tmp_path / "loss.pdparams")))
    check(other)
    assert float(other(Z, Y)) == float(loss(Z, Y))


@every_class
def test_they_move_with_the_loss(cls):
    loss = made(cls)
    assert loss.to(dtype="float64") is loss
    assert loss.net.weight.dtype == loss.scale.dtype == paddle.float64
    loss.to(dtype="float32")
    check(loss)


@every_class
def test_they_are_replaced(cls):
    loss = made(cls)
    for place in (loss, loss._sub_layers):
        other = nn.Conv2D(3, 1, 1)
        setattr(loss, "net", other) if place is loss else place.update(net=other)
        assert loss.net is other
        check(loss)
    loss.scale = number(-3.0)
    check(loss)


@every_class
def test_a_plain_value_takes_their_place(cls):
    loss = made(cls)
    before = exact(loss)
    loss.net, loss.scale = copy.deepcopy(loss.net).forward, 4.0
    assert dict(loss.state_dict()) == {}
    assert list(loss.named_children()) == []
    assert float(loss(Z, Y)) == pytest.approx(2 * before, rel=1e-5)
    loss.net, loss.scale = nn.Conv2D(3, 1, 1), number(1.0)
    check(loss)


def test_what_is_deleted_is_the_default_again():
    loss = made()
    del loss.net, loss.scale
    assert (loss.net, loss.scale) == (None, 1.0)
    assert dict(loss.state_dict()) == {}
    check(made())


def test_other_losses_of_the_class_keep_the_default():
    plain, _ = PaddleScored(), made()
    assert (plain.net, plain.scale, PaddleScored.net, PaddleScored().scale) == (None, 1.0, None, 1.0)
    assert float(plain(Z, Y)) == float(Z.mean())

    @dataclass(eq=False)
    class Further(PaddleScored):
        more: float = 0.5

    assert (Further().net, Further().scale, Further().more) == (None, 1.0, 0.5)


@every_class
@pytest.mark.filterwarnings("ignore:.* do not have 'place' interface:UserWarning")
@pytest.mark.parametrize(
    "full_graph",
    [
        True,
        pytest.param(False, marks=pytest.mark.skipif(OLD, reason="Paddle 2's tracer of bytecode crashes")),
    ],
)
def test_in_a_traced_program(cls, full_graph):
    loss = made(cls)

    class Holder(nn.Layer):
        def __init__(self):
            super().__init__()
            self.loss = loss

        def forward(self, logits, labels):
            return self.loss(logits, labels)

    value = paddle.jit.to_static(Holder(), full_graph=full_graph)(Z, Y)
    assert float(value) == pytest.approx(exact(loss), rel=1e-5)
    value.backward()
    assert all(parameter.grad is not None for parameter in loss.parameters())


def test_a_loss_of_the_package_trains_no_number():
    with pytest.raises(ValueError, match="DiceLoss: smooth wants a gradient"):
        DiceLoss(smooth=number(1.0))
    fixed = number(1.0)
    fixed.stop_gradient = True
    loss = DiceLoss(smooth=fixed)
    assert type(loss.smooth) is float
    assert dict(loss.state_dict()) == {}
