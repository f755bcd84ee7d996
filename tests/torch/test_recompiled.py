"""Losses compiled in one process, and numbers that change: torch.compile compiles one function eight times at most."""

import inspect
import pickle

import pytest
import torch
from checks.cases import PLAIN_ROWS, batch_of_row
from torch._dynamo.testing import CompileCounterWithBackend

import unilossseg
from unilossseg.torch import CrossEntropyLoss, DiceLoss, LovaszSoftmaxLoss, MixedLoss, TorchLoss

pytestmark = pytest.mark.usefixtures("fresh_compiler")


def batches(sizes):
    torch.manual_seed(0)
    for size in sizes:
        yield torch.randn(2, 3, size, size, requires_grad=True), torch.randint(0, 3, (2, size, size))


def test_all_losses_compile_in_one_process(driver):
    for row in PLAIN_ROWS:
        loss, inputs = driver.make(*row), driver.inputs(batch_of_row(row), "float64")
        compiled = torch.compile(loss, fullgraph=True, backend="eager")
        torch.testing.assert_close(driver.call(compiled, *inputs), driver.call(loss, *inputs), rtol=0, atol=1e-11)


def test_losses_beside_one_another_train_and_evaluate_in_several_sizes():
    losses = [CrossEntropyLoss(), DiceLoss(), LovaszSoftmaxLoss()]
    compiled = [torch.compile(loss, fullgraph=True, backend="eager") for loss in losses]
    for logits, labels in batches((4, 6, 8)):
        for loss, fast in zip(losses, compiled, strict=True):
            value = fast(logits, labels)
            (gradient,) = torch.autograd.grad(value, logits)
            (wanted,) = torch.autograd.grad(loss(logits, labels), logits)
            torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-6)
            with torch.no_grad():
                torch.testing.assert_close(fast(logits, labels), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "coefficients",
    [[[1.0, 0.1 * k] for k in range(10)], [0.3 * k for k in range(10)], [[1, 0.4 + k] for k in range(10)]],
    ids=["listed", "one", "beside a whole number"],
)
@pytest.mark.parametrize("dynamic", [None, True])
def test_coefficients_that_change(coefficients, dynamic):
    ((logits, labels),) = batches([5])
    members = [CrossEntropyLoss(), DiceLoss()]
    values = [member(logits, labels) for member in members]
    loss, counter = MixedLoss(members, coef=coefficients[0], reduction="sum"), CompileCounterWithBackend("eager")
    compiled = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend=counter)
    for coef in coefficients:
        loss.coef = coef
        first, second = coef if isinstance(coef, list) else (coef, coef)
        torch.testing.assert_close(compiled(logits, labels), first * values[0] + second * values[1], rtol=1e-5, atol=1e-6)
    # One that is 0, one that is not and their like from then on.
    assert counter.frame_count <= 3


def test_mixed_losses_of_different_coefficients():
    ((logits, labels),) = batches([5])
    values = []
    for coef in ([1.0, 0.4], [2.0, 0.8]):
        loss = MixedLoss([CrossEntropyLoss(), DiceLoss()], coef=coef, reduction="sum")
        values.append(torch.compile(loss, fullgraph=True, backend="eager")(logits, labels))
    torch.testing.assert_close(values[1], 2 * values[0])


# ---------------------------------------------------------------------------------------------------- forward


def test_forwards_differ_in_nothing_but_their_code():
    ours = TorchLoss.forward
    assert CrossEntropyLoss.forward.__code__ is not DiceLoss.forward.__code__
    assert DiceLoss.forward.__doc__ == ours.__doc__
    assert DiceLoss.forward.__annotations__ == ours.__annotations__
    assert inspect.signature(DiceLoss.forward) == inspect.signature(ours)
    assert DiceLoss.forward.__qualname__ == "DiceLoss.forward"
    assert pickle.loads(pickle.dumps(DiceLoss.forward)) is DiceLoss.forward  # noqa: S301


class Scaled(TorchLoss):
    """A user's own."""

    def forward(self, logits, labels, **inputs):
        return 10 * super().forward(logits, labels, **inputs)


class Before(Scaled, DiceLoss):
    pass


class After(DiceLoss, Scaled):
    pass


class Fresh(unilossseg.DiceLoss, Scaled):
    pass


class Below(After):
    pass


class Plain(DiceLoss):
    pass


@pytest.mark.parametrize(
    ("cls", "factor"),
    [(Before, 10), (After, 10), (Fresh, 10), (Below, 10), (Plain, 1)],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_a_forward_of_one_s_own_is_called_wherever_it_stands(cls, factor):
    ((logits, labels),) = batches([5])
    wanted = factor * unilossseg.DiceLoss()(logits, labels)
    for loss in (cls(), pickle.loads(pickle.dumps(cls()))):  # noqa: S301
        torch.testing.assert_close(loss(logits, labels), wanted)
