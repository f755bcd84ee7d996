"""What a graph keeps, and for how long: a value that is collected must not hold the batch that it came from."""

import gc

import pytest
import torch
from checks.cases import BCE, CE, DICE, LOVASZ, MSE, PLAIN_ROWS, batch_for, named
from checks.compare import assert_close, reference_of
from torch.multiprocessing.reductions import StorageWeakRef

every_loss = pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
#: The upstream gradients that a loss has had: the usual ones, and two, after which it expects none.
HISTORIES = [(1.0, 1.0), (1.0, 2.0)]


def memory_of(*tensors):
    return [StorageWeakRef(tensor.untyped_storage()) for tensor in tensors]


@every_loss
@pytest.mark.parametrize("history", HISTORIES)
@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("factor", [1.0, 3.0])
def test_after_its_backward_pass_nothing_of_the_batch(driver, row, dtype, history, factor):
    batch = batch_for(row[0])
    logits, labels, further = driver.inputs(batch, dtype)
    leaf = logits.requires_grad_(True)
    middle, labels = leaf * 1.0, labels.clone()
    further = {name: value.clone() for name, value in further.items()}
    loss = driver.make(*row)
    object.__setattr__(loss, "_upstreams", history)
    value = driver.call(loss, middle, labels, further)
    kept = memory_of(middle, labels, *further.values())
    (value * factor).backward()
    del middle, labels, further
    gc.collect()
    assert [one.expired() for one in kept] == [True] * len(kept)
    assert value.grad_fn is not None
    assert leaf.grad is not None


@every_loss
def test_a_gradient_that_torch_would_compute_from_other_labels_is_refused(driver, row):
    batch = batch_for(row[0])
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    value = driver.call(driver.make(*row), leaf, labels, further)
    (first,) = torch.autograd.grad(value, leaf, retain_graph=True)
    with torch.no_grad():
        labels.zero_()
    # It was there before they changed.
    assert_close(first.numpy(), reference_of(*row, batch)[1], 1e-10)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(value, leaf)


@pytest.mark.parametrize("name", [CE, DICE, LOVASZ, BCE, MSE])
def test_half_precision_labels_that_change_before_an_unexpected_backward_are_refused(driver, name):
    batch = batch_for(name)
    _, labels, further = driver.inputs(batch, "bfloat16")
    leaf = driver.leaf(batch.logits, "bfloat16")
    value = driver.call(driver.make(name, {}), leaf, labels, further)
    with torch.no_grad():
        labels.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        (value / 4).backward()


@every_loss
def test_labels_from_inference_mode(driver, row):
    """A teacher's labels, say: torch refuses to save them for a backward pass."""
    batch = batch_for(row[0])
    with torch.inference_mode():
        _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    value = driver.call(driver.make(*row), leaf, labels, further)
    _, exact = reference_of(*row, batch)
    for _ in range(2):
        (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
        assert_close(gradient.numpy(), exact, 1e-10)
