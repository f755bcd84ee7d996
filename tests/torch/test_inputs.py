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
