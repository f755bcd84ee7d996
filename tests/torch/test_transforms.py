"""Under torch.func the formula takes over, with the same numbers."""

import numpy as np
import pytest
import torch
from checks.cases import BCE, CE, DICE, DUAL, LOVASZ, PLAIN_ROWS, batch_for, named
from checks.compare import assert_close, reference_of
from torch.autograd import forward_ad

from unilossseg.backends import get_backend


def leaf_and_value(driver, row, dtype):
    """Logits, and a loss of them whose graph waits for a backward pass."""
    batch = batch_for(row[0])
    _, labels, further = driver.inputs(batch, dtype)
    leaf = driver.leaf(batch.logits, dtype)
    return leaf, driver.call(driver.make(*row), leaf, labels, further)


@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
def test_func_grad(driver, row):
    batch = batch_for(row[0])
    logits, labels, further = driver.inputs(batch, "float64")
    loss = driver.make(*row)
    gradient, value = torch.func.grad_and_value(lambda z: driver.call(loss, z, labels, further))(logits)
    exact_value, exact = reference_of(*row, batch)
    assert_close(value.numpy(), exact_value, 1e-11)
    assert_close(gradient.numpy(), exact, 1e-10)


# Where torch itself reads labels: its narrow integers wrap around beside 299, and wide unsigned ones know no order.
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"])
@pytest.mark.parametrize("name", [CE, DICE, LOVASZ, BCE])
def test_func_grad_of_labels_of_any_integer_dtype(driver, name, dtype):
    labels = torch.tensor([[0, 1, 100, 120], [50, 3, 1, 0]])
    labels = labels % 2 if name == BCE else labels
    logits = torch.randn(2, 1 if name == BCE else 300, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    loss = driver.make(name, {})
    gradient, value = torch.func.grad_and_value(lambda z: loss(z, labels.to(getattr(torch, dtype))))(logits)
    exact_gradient, exact = torch.func.grad_and_value(lambda z: loss(z, labels))(logits)
    assert_close(value.numpy(), float(loss(logits, labels)), 1e-12)
    assert torch.equal(value, exact)
    assert torch.equal(gradient, exact_gradient)
    if name == BCE:
        return  # its labels are put in the logits' shape, by which torch.func takes them over
    wrong = torch.where(labels == 1, 120, 0).to(getattr(torch, dtype))
    with pytest.raises(ValueError, match=r"labels hold 120 at \(0, 1\), expected a class in "):
        torch.func.grad(lambda z: loss(z, wrong))(logits[:, :100])


# A learned weight of a loss, say: torch.func follows it, and not the logits. torch's own rules for it are scripted.
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
@pytest.mark.parametrize("wants", [False, True])
def test_a_loss_within_a_transform_of_something_else(driver, row, wants):
    batch = batch_for(row[0])
    logits, labels, further = driver.inputs(batch, "float64")
    logits.requires_grad_(wants)
    loss, exact = driver.make(*row), reference_of(*row, batch)[0]
    factor, steps = torch.tensor(2.0, dtype=torch.float64), torch.tensor([1.0, -3.0], dtype=torch.float64)

    def scaled(factor):
        return factor * driver.call(loss, logits, labels, further)

    assert_close(torch.func.grad(lambda w: scaled(w).sum())(factor).detach().numpy(), np.sum(exact), 1e-11)
    assert_close(torch.func.jvp(scaled, (factor,), (factor,))[1].detach().numpy(), 2 * exact, 1e-11)
    assert_close(torch.func.vmap(scaled)(steps)[1].detach().numpy(), -3 * exact, 1e-11)


@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_vmap_over_products_with_a_gradient(driver, row, dtype):
    leaf, value = leaf_and_value(driver, row, dtype)

    def product(upstream):
        return torch.autograd.grad(value, leaf, upstream, retain_graph=True)[0]

    several = torch.stack([torch.ones_like(value), -3 * torch.ones_like(value)])
    found, exact = torch.func.vmap(product)(several), torch.stack([product(one) for one in several])
    # The formula and the closed form.
    tolerance = 1e-12 if dtype == "float64" else 1e-2
    torch.testing.assert_close(found, exact, rtol=0, atol=tolerance * float(exact.abs().max()))


# torch's own rules for it are scripted.
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
def test_the_tangent_of_an_upstream_gradient(driver):
    leaf = driver.leaf(batch_for(CE).logits)
    value = driver.make(CE, {})(leaf, driver.array(batch_for(CE).labels))
    with forward_ad.dual_level():
        upstream = forward_ad.make_dual(torch.ones((), dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64))
        gradient, tangent = forward_ad.unpack_dual(torch.autograd.grad(value * upstream, leaf)[0])
    assert_close(tangent.numpy(), 3 * gradient.numpy(), 1e-12)


# torch's own rules for it are scripted.
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", ["MSELoss", "BCELoss"])
def test_the_tangent_of_labels(driver, name):
    batch = batch_for(name)
    logits, labels = driver.array(batch.logits), torch.rand(batch.logits.shape, dtype=torch.float64)
    loss, direction = driver.make(name, {}), torch.randn(labels.shape, dtype=torch.float64)
    leaf = labels.clone().requires_grad_()
    with pytest.warns(UserWarning, match="want a gradient"):
        (gradient,) = torch.autograd.grad(loss(logits, leaf), leaf)
    with forward_ad.dual_level(), pytest.warns(UserWarning, match="want a gradient"):
        tangent = forward_ad.unpack_dual(loss(logits, forward_ad.make_dual(labels, direction))).tangent
    assert_close(tangent.numpy(), (gradient * direction).sum().numpy(), 1e-12)


@pytest.mark.parametrize("name", [CE, DICE])
def test_vmap(driver, name):
    batches = [batch_for(name, seed=seed) for seed in range(3)]
    logits = torch.stack([driver.array(batch.logits) for batch in batches])
    labels = torch.stack([driver.array(batch.labels) for batch in batches])
    values = torch.func.vmap(driver.make(name, {}))(logits, labels)
    assert_close(values.numpy(), [float(reference_of(name, {}, batch)[0]) for batch in batches], 1e-12)


@pytest.mark.parametrize("name", [CE, DICE])
def test_vmap_over_the_labels_alone(driver, name):
    batch, others = batch_for(name), [batch_for(name, seed=seed) for seed in range(3)]
    logits, loss = driver.array(batch.logits), driver.make(name, {})
    labels = torch.stack([driver.array(other.labels) for other in others])
    values = torch.func.vmap(loss, in_dims=(None, 0))(logits, labels)
    assert_close(values.numpy(), [float(loss(logits, one)) for one in labels], 1e-12)


# torch's own rules for it are scripted.
@pytest.mark.filterwarnings("ignore:`torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
@pytest.mark.parametrize("gathers", [False, True])
def test_forward_mode(driver, row, gathers):
    batch = batch_for(row[0])
    logits, labels, further = driver.inputs(batch, "float64")
    direction = torch.randn(logits.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(logits.requires_grad_(gathers), direction)
        value, tangent = forward_ad.unpack_dual(driver.call(driver.make(*row), dual, labels, further))
    exact_value, exact = reference_of(*row, batch)
    assert_close(value.detach().numpy(), exact_value, 1e-11)
    assert_close(tangent.detach().numpy(), (exact * direction.numpy()).sum(), 1e-10)


@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_several_upstream_gradients_at_once(driver, row, dtype):
    leaf, value = leaf_and_value(driver, row, dtype)
    factors = torch.tensor([1.0, -2.0, 0.5], dtype=value.dtype)
    (found,) = torch.autograd.grad(value, leaf, factors, is_grads_batched=True, retain_graph=True)
    (once,) = torch.autograd.grad(value, leaf)
    expected = (factors.reshape(-1, *[1] * once.ndim) * once).to(once.dtype)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12 if dtype == "float64" else 1e-2 * float(once.abs().max()))


@pytest.mark.parametrize("name", [CE, DICE])
def test_hessian(driver, name):
    batch = batch_for(name, shape=(2,))
    logits, labels, _ = driver.inputs(batch, "float64")
    loss = driver.make(name, {})
    transformed = torch.func.jacrev(torch.func.grad(lambda z: loss(z, labels)))(logits)
    expected = torch.autograd.functional.hessian(lambda z: loss(z, labels), logits)
    assert float(expected.abs().max()) > 0
    torch.testing.assert_close(transformed, expected, rtol=0, atol=1e-12)


def test_dual_task_draws_from_torch_s_generator(driver):
    batch = batch_for(DUAL)
    logits, labels, _ = driver.inputs(batch, "float32")
    loss = driver.make(DUAL, {})
    torch.manual_seed(5)
    first = loss(logits, labels)
    torch.manual_seed(5)
    noise = torch.rand(logits.shape)
    assert float(first) == float(loss(logits, labels, noise=noise))
    assert float(first) != float(loss(logits, labels))


def test_the_threads_of_torch_are_those_of_the_loss():
    assert get_backend("torch").threads() == torch.get_num_threads()
