"""A device's tensors are never read by the host: what a CUDA graph needs to be captured, tried on the CPU.

Closed forms run in torch's own namespace, as on a device, while every operation that would wait for a value is forbidden.
"""

import numpy as np
import pytest
import torch
from checks.cases import ROWS, named
from checks.devices import accelerator  # noqa: F401  a fixture
from checks.host_reads import METHODS, HostAccessError, check_two_steps, forbidden
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# What copies a value to the host, and what needs one to know the size of its result.
READING = {
    aten._local_scalar_dense,  # item, bool, int, float, tolist, an index that is a tensor of one number
    aten.equal,
    aten.is_nonzero,
    aten.nonzero,
    aten.masked_select,
    aten._unique2,
    aten.unique_dim,
    aten.unique_consecutive,
    aten.bincount,
    aten.repeat_interleave,
}
# What copies numbers of the host to a device; not scalar_tensor, which fills its number in by a kernel.
WRITING = {aten.lift_fresh, aten.lift_fresh_copy}


class NoHost(TorchDispatchMode):
    """Forbids operations by which the host reads values or, after a first call, writes them."""

    def __init__(self, writing):
        super().__init__()
        self.forbidden = READING if writing else READING | WRITING

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        packet = operation.overloadpacket
        indices = args[1] if packet in (aten.index, aten.index_put, aten.index_put_) else ()
        masks = [x for x in indices if x is not None]
        if packet in self.forbidden or any(mask.dtype in (torch.bool, torch.uint8) for mask in masks):
            raise HostAccessError(f"the host reads or writes a device's values in {operation}")
        return operation(*args, **(kwargs or {}))


@pytest.fixture
def no_host(monkeypatch):
    """A function that runs another without the host: `no_host(function, writing=True)` in a first call."""

    def run(function, writing):
        with monkeypatch.context() as patch, NoHost(writing):
            for name in METHODS:
                patch.setattr(torch.Tensor, name, forbidden(f"Tensor.{name}"))
            return function()

    return run


@pytest.mark.parametrize("row", ROWS, ids=named)
@pytest.mark.parametrize("way", ["closed", "plain"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_no_value_is_read_and_none_written_after_the_first_call(driver, accelerator, no_host, row, way, dtype):  # noqa: F811
    check_two_steps(driver, no_host, row, way, dtype)
    assert accelerator == []


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
def test_the_fixture_sees_a_read(no_host, read):
    with pytest.raises(HostAccessError):
        no_host(lambda: read(torch.ones(3)), writing=True)


def test_the_fixture_sees_a_write(no_host):
    no_host(lambda: torch.tensor([1.0, 2.0]), writing=True)
    with pytest.raises(HostAccessError):
        no_host(lambda: torch.tensor([1.0, 2.0]), writing=False)


def test_a_check_that_is_asked_for_reads(driver, accelerator, no_host):  # noqa: F811
    loss = driver.make("DiceLoss", {"validate": True})
    with pytest.raises(HostAccessError):
        no_host(lambda: loss(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.int64)), writing=True)
