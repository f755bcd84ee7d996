"""A device's tensors are never read by the host, as far as Python can see, tried on the CPU.

Closed forms run in Paddle's own namespace, as on a device, while methods and functions that wait for a value are forbidden.
"""

import numpy as np
import paddle
import pytest
from checks.cases import ROWS, named
from checks.devices import accelerator  # noqa: F401  a fixture
from checks.host_reads import METHODS, HostAccessError, check_two_steps, forbidden

OLD = paddle.__version__.startswith("2.")
FUNCTIONS = ("nonzero", "masked_select", "unique", "unique_consecutive", "bincount", "equal_all", "allclose", "is_empty")
# What copies numbers of the host to a device, allowed in a first call.
WRITING = ("to_tensor",)


def _without_masks(original):
    """Tensor.__getitem__ and __setitem__, but for a Boolean index, whose result has a size that only the device knows."""

    def function(self, index, *rest):
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, paddle.Tensor) for part in parts):
            raise HostAccessError("the host reads a tensor that is an index")
        return original(self, index, *rest)

    return function


@pytest.fixture
def no_host(monkeypatch):
    """A function that runs another without the host: `no_host(function, writing=True)` in a first call."""

    def run(function, writing):
        with monkeypatch.context() as patch:
            for name in METHODS:
                patch.setattr(paddle.Tensor, name, forbidden(f"Tensor.{name}"))
            for name in ("__getitem__", "__setitem__"):
                patch.setattr(paddle.Tensor, name, _without_masks(getattr(paddle.Tensor, name)))
            for name in (*FUNCTIONS, *(() if writing else WRITING)):
                patch.setattr(paddle, name, forbidden(f"paddle.{name}"))
            return function()

    return run


@pytest.mark.parametrize("row", ROWS, ids=named)
@pytest.mark.parametrize("way", ["closed", "plain"])
def test_no_value_is_read_and_none_written_after_the_first_call(driver, accelerator, no_host, row, way):  # noqa: F811
    # Indexing itself makes tensors of numbers in Paddle 2.
    check_two_steps(driver, no_host, row, way, writing=OLD)
    assert accelerator == []


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: bool(x.any()),
        lambda x: float(x.sum()),
        lambda x: x.numpy(),
        lambda x: x.cpu(),
        lambda x: x.tolist(),
        lambda x: paddle.nonzero(x),
        lambda x: x[x > 0],
        lambda x: paddle.masked_select(x, x > 0),
        lambda x: np.asarray(x),
    ],
)
def test_the_fixture_sees_a_read(no_host, read):
    with pytest.raises(HostAccessError):
        no_host(lambda: read(paddle.ones([3])), writing=True)


def test_the_fixture_sees_a_write(no_host):
    no_host(lambda: paddle.to_tensor([1.0, 2.0]), writing=True)
    with pytest.raises(HostAccessError):
        no_host(lambda: paddle.to_tensor([1.0, 2.0]), writing=False)
