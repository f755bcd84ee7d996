"""Launches of Triton kernels: on the device of their arguments, with the options of the compiler."""

import importlib.util

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed")

from unilossseg.backends import _torch_launch as launches  # noqa: E402


class Kernel:
    """Stands for a function under `triton.jit`, and writes down its launches."""

    def __init__(self):
        self.calls = []

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.calls.append((grid, arguments, options))


class OnGPU(torch.Tensor):
    """A tensor that says to be on a GPU."""

    number = 0

    @property
    def device(self):
        return torch.device("cuda", self.number)


def on_gpu(number):
    x = torch.zeros(8).as_subclass(OnGPU)
    x.number = number
    return x


@pytest.fixture
def entered(monkeypatch):
    """The devices that were made the current one, which is 0 before."""
    devices = []

    class Device:
        def __init__(self, device):
            self.device = device

        def __enter__(self):
            devices.append(self.device.index)

        def __exit__(self, *error):
            devices.append("left")

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device", Device)
    return devices


def test_arguments_come_in_order():
    kernel, x, y = Kernel(), torch.zeros(8), torch.zeros(8)
    for grid in ((5,), (5, 3), (5, 3, 2), torch.Size([5])):
        launches.launch(kernel, grid, x, y, 7, False, 0.5)
    assert [call[0] for call in kernel.calls] == [(5,), (5, 3), (5, 3, 2), (5,)]
    for _, (first, second, *rest), _ in kernel.calls:
        assert first is x
        assert second is y
        assert rest == [7, False, 0.5]


def test_options_are_those_of_the_compiler():
    kernel, x = Kernel(), torch.zeros(8)
    launches.launch(kernel, (1,), x)
    launches.launch(kernel, (1,), x, num_warps=8)
    launches.launch(kernel, (1,), x, 1, fused=False)
    assert [call[2] for call in kernel.calls] == [
        {"num_warps": 4, "enable_fp_fusion": True},
        {"num_warps": 8, "enable_fp_fusion": True},
        {"num_warps": 4, "enable_fp_fusion": False},
    ]


def test_another_device_is_made_the_current_one(entered):
    kernel, here, there = Kernel(), on_gpu(0), on_gpu(1)
    for x in (here, there, here, there):
        launches.launch(kernel, (1,), x)
    assert len(kernel.calls) == 4
    assert entered == [1, "left", 1, "left"]


def test_the_cpu_has_no_current_device(entered):
    launches.launch(Kernel(), (1,), torch.zeros(8))
    assert entered == []


@pytest.mark.parametrize(("version", "works"), [("3.2.0", False), ("2.3.1", False), ("3.3.0", True), ("3.10.0+git", True)])
def test_an_old_triton_is_no_triton(monkeypatch, version, works):
    monkeypatch.setattr(triton, "__version__", version)
    spec = importlib.util.spec_from_file_location("launches_again", launches.__file__)
    module = importlib.util.module_from_spec(spec)
    if works:
        spec.loader.exec_module(module)
        return
    with pytest.raises(ImportError, match=rf"Triton {version} is older than 3\.3"):
        spec.loader.exec_module(module)
