"""Triton's compiler and NVIDIA's assembler take every kernel that losses launch, for GPUs from Volta to Hopper.

No GPU is needed, and nothing is launched: each loss runs on CPU tensors, and what it would launch is compiled for such
arguments. The interpreter, which computes with the kernels in other tests, knows neither the compiler's types nor the limits
of a GPU.
"""

import os

import numpy as np
import pytest
import torch
from checks.cases import BCE, CE, DICE, HINGE, LOVASZ, OHEM, PLAIN_ROWS, ROWS, Batch, batch_of_row, named
from checks.torch_driver import TorchDriver

triton = pytest.importorskip("triton", "3.6", reason="Triton is not installed, or older than the tests ask for")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("Triton has its interpreter in this process in place of its compiler", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402

from unilossseg.backends import _torch_numbers, _torch_triton, _torch_triton_order, get_backend  # noqa: E402
from unilossseg.backends.torch import TorchBackend  # noqa: E402

KERNELS = _torch_triton.TritonBackend("torch", get_backend("torch").xp)
DRIVER = TorchDriver()
#: Compute capabilities, and the bytes of shared memory that a program may have, by NVIDIA's CUDA C++ Programming Guide.
SHARED = {70: 96 << 10, 75: 64 << 10, 80: 163 << 10, 90: 227 << 10}


class Device:
    """Stands for the driver of a GPU that is not there."""

    def __init__(self, capability):
        self.capability = capability

    def get_current_device(self):
        # Triton keeps what it compiles by device.
        return self.capability

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", self.capability, 32)


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """The names of the kernels that a loss would launch, each compiled for the arguments that it would have."""
    names = set()

    def launch(kernel, grid, *arguments, num_warps=4, fused=True):
        found = kernel.warmup(*arguments, grid=grid, num_warps=num_warps, enable_fp_fusion=fused)
        assert found.asm["cubin"]
        assert found.metadata.shared <= SHARED[triton.runtime.driver.active.capability]
        names.add(kernel.fn.__name__)

    for module in (_torch_numbers, _torch_triton, _torch_triton_order):
        monkeypatch.setattr(module, "launch", launch)
    monkeypatch.setattr(TorchBackend, "kernel", lambda self, x: KERNELS)
    monkeypatch.setattr(TorchBackend, "readable", lambda self, x: False)
    monkeypatch.setattr(TorchBackend, "to_kernel", lambda self, x, packed=False: x.detach())
    # What a kernel would have written is read by torch's operations, as indices too.
    monkeypatch.setattr(torch, "empty", torch.zeros)
    monkeypatch.setattr(torch, "empty_like", torch.zeros_like)
    monkeypatch.setattr(triton.knobs.cache, "dir", str(tmp_path))
    return names


#: On the newest all options, on the others each loss; a value for each element is torch's own work.
CASES = [(90, dtype, row) for dtype in ("float32", "bfloat16") for row in ROWS if row[1].get("reduction") != "none"]
HALVES = ("float16", "bfloat16")
CASES += [(capability, dtype, row) for capability in (70, 75, 80) for dtype in ("float32", *HALVES) for row in PLAIN_ROWS]


def check(monkeypatch, capability, loss, batch, dtype):
    monkeypatch.setattr(triton.runtime.driver, "_active", Device(capability))
    DRIVER.value_and_gradient(loss, batch, dtype)


@pytest.mark.parametrize(
    ("capability", "dtype", "row"), CASES, ids=lambda given: named(given) if isinstance(given, tuple) else str(given)
)
def test_the_kernels_of_a_loss(compiled, monkeypatch, capability, dtype, row):
    check(monkeypatch, capability, DRIVER.make(*row), batch_of_row(row), dtype)
    assert compiled


@pytest.mark.parametrize("channels", [1, 2, 5, 19, 150, 1024])
@pytest.mark.parametrize("name", [CE, DICE, LOVASZ])
def test_the_kernels_of_as_many_channels(compiled, monkeypatch, name, channels):
    draws = np.random.default_rng(1)
    batch = Batch(draws.normal(size=(1, channels, 5, 7)), draws.integers(0, channels, (1, 5, 7)))
    check(monkeypatch, 90, DRIVER.make(name, {}), batch, "float32")
    assert compiled


@pytest.mark.parametrize("name", [BCE, HINGE, OHEM])
def test_the_kernels_of_a_large_image(compiled, monkeypatch, name):
    channels, side = 2 if name == OHEM else 1, 2048
    batch = Batch(np.zeros((1, channels, side, side)), np.zeros((1, side, side), np.int64))
    check(monkeypatch, 90, DRIVER.make(name, {}), batch, "float32")
    assert compiled
