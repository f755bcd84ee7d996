"""Under torch.func the formula takes over, with the same numbers."""

import pytest
import torch
from checks.cases import CE, DICE, DUAL, PLAIN_ROWS, batch_for, named
from checks.compare import assert_close, reference_of
from torch.autograd import forward_ad

from unilossseg.backends import get_backend


@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
def test_func_grad(driver, row):
    batch = batch_for(row[0])
    logits, labels, further = driver.inputs(batch, "float64")
    loss = driver.make(*row)
    gradient, value = torch.func.grad_and_value(lambda z: driver.call(loss, z, labels, further))(logits)
    exact_value, exact = reference_of(*row, batch)
    assert_close(value.numpy(), exact_value, 1e-11)
    assert_close(gradient.numpy(), exact, 1e-10)


# array-api-compat's sign writes through a boolean mask, which vmap cannot: Lovász and L1 are out.
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
    batch = batch_for(row[0])
    _, labels, further = driver.inputs(batch, dtype)
    leaf = driver.leaf(batch.logits, dtype)
    value = driver.call(driver.make(*row), leaf, labels, further)
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
