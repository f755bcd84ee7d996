"""What a backward pass is given in place of the forward's tensors, hooks on the logits, and tensors without values."""

import functools

import numpy as np
import pytest
import torch
from checks.cases import BCE, CE, DICE, L1, MSE, PLAIN_ROWS, batch_for, batch_of_row, named
from checks.compare import assert_close
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from unilossseg.torch import CrossEntropyLoss, DiceLoss, MixedLoss

every_loss = pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True will create a reference cycle:UserWarning")
@every_loss
def test_hooks_on_the_logits_run_once_with_create_graph(driver, row):
    _, labels, further = driver.inputs(batch_of_row(row), "float64")
    gradients = []
    for again in (False, True):
        leaf, calls = driver.leaf(batch_of_row(row).logits), []
        middle = leaf * 1
        middle.retain_grad()
        middle.register_hook(lambda gradient, calls=calls: calls.append(1) or 2 * gradient)
        value = driver.call(driver.make(*row), middle, labels, further)
        (sum(value) if isinstance(value, list) else value).backward(create_graph=again)
        assert calls == [1]
        gradients.append((leaf.grad.detach(), middle.grad.detach()))
    for closed, again in zip(*gradients, strict=True):
        torch.testing.assert_close(closed, again, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_batched_upstream_gradients_of_half_precision_are_rounded_last(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 64, 64, generator=generator).to(dtype).requires_grad_()
    labels = torch.randint(0, 2, (1, 64, 64), generator=generator)
    labels[0, 0] = 255
    loss = CrossEntropyLoss()
    factors = (65536.0, 1.0)
    (batched,) = torch.autograd.grad(loss(logits, labels), logits, torch.tensor(factors), is_grads_batched=True)
    for found, factor in zip(batched, factors, strict=True):
        (single,) = torch.autograd.grad(loss(logits, labels) * factor, logits)
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found, single, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


def after_two_factors(driver, name, batch, labels, further):
    """A loss that has seen two upstream gradients, so that the next one comes as a surprise."""
    loss = driver.make(name, {})
    for factor in (1.0, 2.0):
        (driver.call(loss, driver.leaf(batch.logits, "bfloat16"), labels, further) * factor).backward()
    return loss


@pytest.mark.parametrize("name", [CE, DICE, L1, MSE, BCE])
def test_labels_of_inference_mode_that_are_filled_anew(driver, name):
    batch = batch_for(name)
    with torch.inference_mode():
        _, labels, further = driver.inputs(batch, "bfloat16")
    loss = after_two_factors(driver, name, batch, labels, further)
    leaf = driver.leaf(batch.logits, "bfloat16")
    value = driver.call(loss, leaf, labels, further)
    with torch.inference_mode():
        expected = labels.clone()
        labels.zero_()
    value.backward()
    again = driver.leaf(batch.logits, "bfloat16")
    driver.call(driver.make(name, {}), again, expected, further).backward()
    np.testing.assert_array_equal(driver.gradient(leaf), driver.gradient(again))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("name", [CE, DICE, L1, BCE])
def test_a_checkpoint_with_factors_that_surprise(driver, name, dtype):
    batch = batch_for(name)
    _, labels, further = driver.inputs(batch, dtype)
    loss = driver.make(name, {})
    for factor in (3.0, 5.0, 7.0):
        leaf, again = (driver.leaf(batch.logits, dtype) for _ in range(2))
        value = checkpoint(lambda x: driver.call(loss, x * 1, labels, further), leaf, use_reentrant=False)
        (value * factor).backward()
        (driver.call(driver.make(name, {}), again, labels, further) * factor).backward()
        np.testing.assert_array_equal(driver.gradient(leaf), driver.gradient(again))


def test_logits_that_may_change_since_the_graph_keeps_copies(driver):
    batch = batch_for(CE)
    _, labels, further = driver.inputs(batch, "bfloat16")
    loss = after_two_factors(driver, CE, batch, labels, further)
    leaf = driver.leaf(batch.logits, "bfloat16")
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        middle = leaf * 1
        value = driver.call(loss, middle, labels, further)
        with torch.no_grad():
            middle.zero_()
        value.backward()
    again = driver.leaf(batch.logits, "bfloat16")
    driver.call(driver.make(CE, {}), again, labels, further).backward()
    np.testing.assert_array_equal(driver.gradient(leaf), driver.gradient(again))


# The compiler looks at `.grad` of everything that it sees.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("loss", [CrossEntropyLoss(), DiceLoss()], ids=["CrossEntropy", "Dice"])
def test_a_backward_pass_that_is_compiled(loss, dtype, backend):
    """A compiler that looks for the logits in the graph, as all but the eager one do, finds no view of them there."""
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(2))
    leaves = [logits.clone().requires_grad_() for _ in range(2)]
    with torch._dynamo.config.patch(compiled_autograd=True):
        value = loss(leaves[0], labels) * 2
        torch.compile(lambda value: value.backward(), backend=backend)(value)
    (loss(leaves[1], labels) * 2).backward()
    torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=2 * torch.finfo(dtype).eps, atol=1e-7)


#: The operations that a selective checkpoint keeps: one, or all but the cheap ones.
POLICIES = {
    "one": [torch.ops.aten.mul.Tensor],
    "most": lambda context, operation, *given, **more: (
        CheckpointPolicy.PREFER_RECOMPUTE if operation == torch.ops.aten.mul.Tensor else CheckpointPolicy.MUST_SAVE
    ),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", [CE, DICE, "LovaszSoftmaxLoss"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_selective_checkpoint(driver, name, dtype, policy):
    batch, loss = batch_for(name), driver.make(name, {})
    _, labels, further = driver.inputs(batch, dtype)
    contexts = functools.partial(create_selective_checkpoint_contexts, POLICIES[policy])
    # As often as the factor that a half-precision loss expects changes, and once more.
    for factor in (0.25, 0.25, 0.25, 3.0):
        leaf, again = (driver.leaf(batch.logits, dtype) for _ in range(2))
        value = checkpoint(
            lambda x: driver.call(loss, x * 1, labels, further), leaf, use_reentrant=False, context_fn=contexts
        )
        (value * factor).backward()
        (driver.call(driver.make(name, {}), again, labels, further) * factor).backward()
        np.testing.assert_array_equal(driver.gradient(leaf), driver.gradient(again))


# Of what torch itself does there.
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", [BCE, CE, "DualTaskLoss"])
def test_a_linearized_loss(driver, name):
    batch, loss = batch_for(name), driver.make(name, {})
    logits, labels, further = driver.inputs(batch, "float64")
    value, along = torch.func.linearize(lambda x: driver.call(loss, x, labels, further), logits)
    expected, gradient = driver.value_and_gradient(loss, batch)
    assert_close(driver.numpy(value), expected, 1e-12)
    assert_close(driver.numpy(along(logits)), np.sum(gradient * batch.logits), 1e-12)


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
@pytest.mark.parametrize("loss", [CrossEntropyLoss(weight=[1.0, 2.0, 3.0]), DiceLoss()], ids=["CrossEntropy", "Dice"])
def test_labels_with_values_beside_logits_without(loss, mode):
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(2))
    traced = make_fx(lambda x: loss(x, labels), tracing_mode=mode, _allow_non_fake_inputs=True)(logits)
    torch.testing.assert_close(traced(logits + 1), loss(logits + 1, labels))
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        for given in (logits, fake.from_tensor(logits)):
            value = loss(given, labels)
            assert value.shape == ()
            assert fake.is_our_fake(value)


def test_weights_that_are_set_later_as_a_tensor_can_be_compiled(driver):
    batch = batch_for(CE)
    logits, labels, _ = driver.inputs(batch, "float32")
    loss = CrossEntropyLoss()
    weight = torch.tensor([3.0, 1.0, 2.0])
    loss.weight = weight
    weight[0] = 100.0
    assert loss.weight == (3.0, 1.0, 2.0)
    found = torch.compile(loss, backend="eager", fullgraph=True)(logits, labels)
    torch.testing.assert_close(found, CrossEntropyLoss(weight=[3.0, 1.0, 2.0])(logits, labels))


def test_parameters_that_want_a_gradient_are_refused():
    weight, coef = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.tensor(0.5))
    for call in (
        lambda: CrossEntropyLoss(weight=weight),
        lambda: CrossEntropyLoss(weight=list(weight)),
        lambda: DiceLoss(smooth=coef),
        lambda: MixedLoss([CrossEntropyLoss(), DiceLoss()], coef=[coef, 1.0]),
    ):
        with pytest.raises(ValueError, match="wants a gradient, expected a number or a tensor without one"):
            call()
    assert CrossEntropyLoss(weight=weight.detach()).weight == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("weight", [torch.ones(3, device="meta"), torch.ones(3).to_sparse()], ids=["meta", "sparse"])
def test_weights_that_cannot_be_read(weight):
    with pytest.raises(TypeError, match=r"CrossEntropyLoss: weight must be .* that cannot be read"):
        CrossEntropyLoss(weight=weight)


LAYOUTS = {
    "sparse": lambda x: x.to_sparse(),
    "csr": lambda x: x[0, 0].to_sparse_csr(),
    "mkldnn": lambda x: x.to_mkldnn(),
    "nested": lambda x: torch.nested.nested_tensor([x[0], x[1]]),
    "jagged": lambda x: torch.nested.nested_tensor([x[0, 0], x[1, 0]], layout=torch.jagged),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state:UserWarning")
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype:UserWarning")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_are_refused(layout):
    logits, labels = torch.randn(2, 3, 4, 4), torch.zeros((2, 4, 4), dtype=torch.int64)
    with pytest.raises(TypeError, match=r"CrossEntropyLoss: logits have layout .* expected a dense array"):
        CrossEntropyLoss()(LAYOUTS[layout](logits), labels)
    if layout == "sparse":
        with pytest.raises(TypeError, match=r"CrossEntropyLoss: labels have layout torch.sparse_coo"):
            CrossEntropyLoss()(logits, labels.to_sparse())
