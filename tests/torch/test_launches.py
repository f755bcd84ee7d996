"""Launches of Triton kernels: in full the first time, and by the short way where nothing that matters has changed."""

import importlib.util

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed")

from unilossseg.backends import _torch_launch as launches  # noqa: E402


class Compiled:
    """What Triton returns of a launch: the kernel for such arguments, to be launched again."""

    def __init__(self, calls):
        self.calls = calls

    def __getitem__(self, grid):
        return lambda *arguments, **options: self.calls.append(("short", grid, arguments, options))


class Kernel:
    """Stands for a function under `triton.jit`, and writes down its launches."""

    def __init__(self, compiles=True):
        self.calls, self.compiles = [], compiles

    def __getitem__(self, grid):
        def run(*arguments, **options):
            self.calls.append(("full", grid, arguments, options))
            return Compiled(self.calls) if self.compiles else None

        return run

    @property
    def ways(self):
        return [call[0] for call in self.calls]


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


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    monkeypatch.setattr(launches, "_kept", {})
    # A build for the CPU has neither.
    monkeypatch.setattr(launches, "_current_device", lambda: 0)
    monkeypatch.setattr(launches, "_stream_of", lambda number: f"the stream of device {number}")


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

    monkeypatch.setattr(torch.cuda, "device", Device)
    return devices


def test_the_same_arguments_go_the_short_way():
    kernel, x = Kernel(), torch.zeros(8)
    for _ in range(3):
        launches.launch(kernel, (2,), x, 7, True)
    assert kernel.ways == ["full", "short", "short"]


def test_arguments_come_in_order_on_three_axes():
    kernel, x, y = Kernel(), torch.zeros(8), torch.zeros(8)
    for grid in ((5,), (5, 3), (5, 3, 2), torch.Size([5])):
        launches.launch(kernel, grid, x, y, 7, False, 0.5)
    assert [call[1] for call in kernel.calls] == [(5, 1, 1), (5, 3, 1), (5, 3, 2), (5, 1, 1)]
    (full, *short) = [call[2] for call in kernel.calls]
    assert full[0] is x
    assert full[1] is y
    assert [arguments[:2] for arguments in short] == [(x.data_ptr(), y.data_ptr())] * 3
    assert [arguments[2:] for arguments in (full, *short)] == [(7, False, 0.5)] * 4
    assert kernel.ways == ["full", "short", "short", "short"]


def test_options_are_those_of_the_compiler():
    kernel, x = Kernel(), torch.zeros(8)
    launches.launch(kernel, (1,), x)
    launches.launch(kernel, (1,), x)
    launches.launch(kernel, (1,), x, num_warps=8)
    launches.launch(kernel, (1,), x, 1, fused=False)
    assert [call[3] for call in kernel.calls] == [
        {"num_warps": 4, "enable_fp_fusion": True},
        {"stream": "the stream of device None"},
        {"num_warps": 8, "enable_fp_fusion": True},
        {"num_warps": 4, "enable_fp_fusion": False},
    ]


def test_other_memory_of_the_same_kind_goes_the_short_way():
    kernel, x = Kernel(), torch.zeros(64)
    for array in (x, torch.ones(8), x[4:], x.reshape(8, 8), x.requires_grad_(True)):
        launches.launch(kernel, (1,), array, 3)
    assert kernel.ways == ["full", "short", "short", "short", "short"]
    assert kernel.calls[2][2][0] == x[4:].data_ptr() != x.data_ptr()


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ((torch.zeros(8, dtype=torch.float16), 7, True), {}),
        ((torch.zeros(9)[1:], 7, True), {}),
        ((torch.zeros(8), 8, True), {}),
        ((torch.zeros(8), 7, False), {}),
        ((torch.zeros(8), torch.zeros(8), True), {}),
        ((torch.zeros(8), 7), {}),
        ((torch.zeros(8), 7, True), {"num_warps": 8}),
    ],
    ids=["dtype", "alignment", "number", "flag", "tensor for a number", "fewer", "warps"],
)
def test_what_the_compiler_would_see_goes_the_full_way(arguments, options):
    kernel = Kernel()
    launches.launch(kernel, (1,), torch.zeros(8), 7, True)
    launches.launch(kernel, (1,), *arguments, **options)
    launches.launch(kernel, (1,), *arguments, **options)
    assert kernel.ways == ["full", "full", "short"]


def test_each_tensor_counts():
    kernel, x = Kernel(), torch.zeros(8)
    launches.launch(kernel, (1,), x, x)
    launches.launch(kernel, (1,), x, torch.zeros(9)[1:])
    launches.launch(kernel, (1,), x, x.int())
    assert kernel.ways == ["full"] * 3


def test_each_kernel_has_its_own():
    first, second, x = Kernel(), Kernel(), torch.zeros(8)
    launches.launch(first, (1,), x)
    launches.launch(second, (1,), x)
    assert (first.ways, second.ways) == (["full"], ["full"])


def test_each_device_has_its_own_and_is_made_the_current_one(entered):
    kernel, here, there = Kernel(), on_gpu(0), on_gpu(1)
    for x in (here, there, here, there):
        launches.launch(kernel, (1,), x)
    assert kernel.ways == ["full", "full", "short", "short"]
    assert entered == [1, "left", 1, "left"]
    assert [call[3]["stream"] for call in kernel.calls[2:]] == ["the stream of device 0", "the stream of device 1"]


def test_the_cpu_has_no_current_device(entered):
    launches.launch(Kernel(), (1,), torch.zeros(8))
    assert entered == []


def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(launches, "MOST_KEPT", 5)
    kernel, x = Kernel(), torch.zeros(8)
    for number in range(17):
        launches.launch(kernel, (1,), x, number)
        assert len(launches._kept) <= 5
        launches.launch(kernel, (1,), x, number)
    assert kernel.ways == ["full", "short"] * 17


def test_an_interpreter_has_nothing_to_keep():
    kernel, x = Kernel(compiles=False), torch.zeros(8)
    for _ in range(2):
        launches.launch(kernel, (1,), x)
    assert kernel.ways == ["full", "full"]
    assert launches._kept == {}


@pytest.mark.parametrize(("version", "works"), [("3.2.0", False), ("3.3.1", False), ("3.4.0", True), ("3.10.0+git", True)])
def test_an_old_triton_is_no_triton(monkeypatch, version, works):
    monkeypatch.setattr(triton, "__version__", version)
    spec = importlib.util.spec_from_file_location("launches_again", launches.__file__)
    module = importlib.util.module_from_spec(spec)
    if works:
        spec.loader.exec_module(module)
        return
    with pytest.raises(ImportError, match=rf"Triton {version} is older than 3\.4"):
        spec.loader.exec_module(module)
