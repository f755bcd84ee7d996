"""A device's tensors are never read by the host: what a CUDA graph needs to be captured, tried on the CPU.

Closed forms run in torch's own namespace, as on a device, while every operation that would wait for a value is forbidden.
"""

import numpy as np
import pytest
import torch
from checks.cases import BCE, ROWS, batch_of_row, named
from checks.devices import accelerator  # noqa: F401  a fixture
from checks.host_reads import HostAccessError, check_two_steps
from checks.torch_host_reads import no_host  # noqa: F401  a fixture

from unilossseg.backends import get_backend


@pytest.mark.parametrize("row", ROWS, ids=named)
@pytest.mark.parametrize("way", ["closed", "plain"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_no_value_is_read_and_none_written_after_the_first_call(driver, accelerator, no_host, row, way, dtype):  # noqa: F811
    check_two_steps(driver, no_host, row, way, dtype)
    assert accelerator == []


# Weights of each image belong to one size of batch.
@pytest.mark.parametrize(
    "row", [row for row in ROWS if row[0] != BCE or not isinstance(row[1].get("weight"), list)], ids=named
)
@pytest.mark.parametrize("way", ["closed", "plain"])
def test_a_batch_of_a_new_size_writes_nothing(driver, accelerator, no_host, monkeypatch, row, way):  # noqa: F811
    monkeypatch.setattr(get_backend(driver.name), "_constants", {})
    loss, batch = driver.make(*row), batch_of_row(row)
    for images in (2, 1):
        further = {name: x[:images] for name, x in batch.further.items()}
        part = batch.changed(logits=batch.logits[:images], labels=batch.labels[:images], further=further)
        logits, labels, further = driver.inputs(part, "float32")
        with getattr(driver, way)():
            no_host(lambda given=(logits, labels, None, further): driver.backward(loss, *given), writing=images == 2)


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: float(x[0]),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: x.nonzero(),
        lambda x: torch.nonzero(x),
        lambda x: x[x > 0],
        lambda x: torch.masked_select(x, x > 0),
        lambda x: np.asarray(x),
        lambda x: torch.equal(x, x),
        lambda x: x.index_put_((x > 0,), torch.zeros(())),
    ],
)
def test_the_fixture_sees_a_read(no_host, read):  # noqa: F811
    with pytest.raises(HostAccessError):
        no_host(lambda: read(torch.ones(3)), writing=True)


def test_the_fixture_sees_a_write(no_host):  # noqa: F811
    no_host(lambda: torch.tensor([1.0, 2.0]), writing=True)
    with pytest.raises(HostAccessError):
        no_host(lambda: torch.tensor([1.0, 2.0]), writing=False)


def test_a_check_that_is_asked_for_reads(driver, accelerator, no_host):  # noqa: F811
    loss = driver.make("DiceLoss", {"validate": True})
    with pytest.raises(HostAccessError):
        no_host(lambda: loss(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64)), writing=True)
