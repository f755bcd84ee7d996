"""A user's own loss."""

import pytest
import torch
from checks.cases import CE, batch_for
from checks.compare import assert_close
from checks.own_inputs import *  # noqa: F403  each of its tests
from checks.own_loss import *  # noqa: F403  each of its tests
from checks.own_loss import CodedLoss


@pytest.mark.parametrize("way", ["compiled", "mapped"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64])
def test_labels_come_as_int64_under_a_compiler_or_a_transform(driver, way, dtype):
    batch = batch_for(CE, ignored=0.0)
    logits, labels, _ = driver.inputs(batch, "float64")
    loss, labels = CodedLoss(), labels.to(dtype)
    if way == "compiled":
        found = torch.compile(lambda *given: loss(*given), backend="eager", fullgraph=True)(logits, labels)
    else:
        found = torch.func.vmap(lambda x: loss(x, labels))(logits[None])[0]
    assert_close(driver.numpy(found), CodedLoss.exact(batch)[0], 1e-12)
