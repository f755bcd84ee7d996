"""Reads and writes of a device's values by the host, forbidden to torch."""

from __future__ import annotations

import pytest
import torch
from checks.host_reads import METHODS, HostAccessError, forbidden
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
