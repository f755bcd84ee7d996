"""What calls may be given, and what they leave alone, on torch."""

import pytest
import torch
from checks.cases import CE, batch_for
from checks.inputs import *  # noqa: F403  each of its tests


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_that_begins_at_an_odd_address(driver, dtype):
    batch = batch_for(CE)
    logits, labels, _ = driver.inputs(batch, dtype)
    memory = bytearray(2 * logits.numel() + 1)
    odd = torch.frombuffer(memory, dtype=logits.dtype, offset=1).reshape(logits.shape)
    odd.copy_(logits)
    found, wanted = (driver.backward(driver.make(CE, {}), x, labels, None, {}) for x in (odd, logits))
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-6, atol=0)
    torch.testing.assert_close(found[1].float(), wanted[1].float(), rtol=1e-2, atol=1e-6)


def test_memory_whose_sign_torch_has_only_noted(driver):
    batch = batch_for(CE)
    logits, labels, _ = driver.inputs(batch, "float64")
    noted = torch.complex(logits, -logits).conj().imag
    assert noted.is_neg()
    found, wanted = (driver.backward(driver.make(CE, {}), x, labels, None, {}) for x in (noted, logits))
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_that_torch_makes_elsewhere_by_default(driver, dtype):
    batch = batch_for(CE)
    logits, labels, _ = driver.inputs(batch, dtype)
    loss, seen = driver.make(CE, {}), []
    # A factor that came twice is expected the third time.
    for elsewhere in ("cpu", "meta", "meta", "meta"):
        leaf = logits.clone().requires_grad_()
        with torch.device(elsewhere):
            (loss(leaf, labels) * 3.0).backward()
        seen.append(leaf.grad)
    assert all(torch.equal(gradient, seen[0]) for gradient in seen)
    assert float(seen[0].abs().max()) > 0
