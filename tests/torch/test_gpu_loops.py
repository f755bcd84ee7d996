"""Which backend closed forms of CUDA tensors run on: by an environment variable, and by what is installed."""

import importlib
import warnings

import pytest
import torch

from unilossseg.backends import torch as adapter

KERNELS = "unilossseg.backends._torch_triton"


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    """Nothing is chosen yet, and nothing set; no choice of a test stays."""
    monkeypatch.delenv(adapter.GPU_VARIABLE, raising=False)
    choice = adapter._on_gpu
    choice.cache_clear()
    yield
    choice.cache_clear()


@pytest.fixture
def no_triton(monkeypatch):
    """The import of the kernels fails; how often it was tried."""
    tried, original = [], importlib.import_module

    def import_module(name, *rest):
        if name == KERNELS:
            tried.append(name)
            raise ImportError("No module named 'triton'")
        return original(name, *rest)

    monkeypatch.setattr(importlib, "import_module", import_module)
    return tried


class CudaTensor(torch.Tensor):
    """A tensor that says to be on a GPU."""

    @property
    def device(self):
        return torch.device("cuda", 0)

    is_cpu, is_cuda = False, True


@pytest.mark.parametrize("wanted", [None, "", "triton"])
def test_kernels_where_triton_is(monkeypatch, wanted):
    pytest.importorskip("triton")
    if wanted is not None:
        monkeypatch.setenv(adapter.GPU_VARIABLE, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = adapter._on_gpu()
    assert type(found).__name__ == "TritonBackend"
    assert (found.name, found.xp) == ("torch", adapter.xp)
    assert adapter._on_gpu() is found
    assert adapter.gpu_loops() == f"triton {importlib.import_module('triton').__version__}"


def test_torch_if_it_is_asked_for(monkeypatch, no_triton):
    monkeypatch.setenv(adapter.GPU_VARIABLE, "torch")
    assert adapter._on_gpu() is adapter.BACKEND
    assert adapter.gpu_loops() == "torch"
    assert no_triton == []


def test_triton_is_asked_for_and_missing(monkeypatch, no_triton):
    monkeypatch.setenv(adapter.GPU_VARIABLE, "triton")
    with pytest.raises(ImportError, match=r"UNILOSSSEG_GPU_LOOPS is 'triton' and Triton .* No module named") as error:
        adapter._on_gpu()
    assert isinstance(error.value.__cause__, ImportError)


def test_triton_is_missing_and_nobody_asked(no_triton):
    with pytest.warns(RuntimeWarning, match=r"no kernels for the GPU .*UNILOSSSEG_GPU_LOOPS=torch says") as seen:
        found = [adapter._on_gpu() for _ in range(3)]
    assert found == [adapter.BACKEND] * 3
    assert len(seen) == 1
    assert len(no_triton) == 1


@pytest.mark.parametrize("wanted", ["Triton", "numpy", "1"])
def test_another_word(monkeypatch, no_triton, wanted):
    monkeypatch.setenv(adapter.GPU_VARIABLE, wanted)
    with pytest.raises(ValueError, match=rf"UNILOSSSEG_GPU_LOOPS is '{wanted}', expected 'torch' or 'triton', or that"):
        adapter._on_gpu()
    assert no_triton == []


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_which_tensors_go_there(monkeypatch, dtype):
    chosen = object()
    monkeypatch.setattr(adapter, "_on_gpu", lambda: chosen)
    monkeypatch.setattr(adapter, "_is_symbolic", lambda x: False)
    x = torch.zeros(3, dtype=getattr(torch, dtype))
    on_gpu = x.as_subclass(CudaTensor)
    assert adapter.BACKEND.kernel(on_gpu) is (adapter.BACKEND if dtype == "float64" else chosen)
    assert adapter.BACKEND.kernel(x) is adapter._NUMPY


def test_cpu_tensors_ask_for_no_kernels(monkeypatch):
    monkeypatch.setenv(adapter.GPU_VARIABLE, "nothing that there is")
    assert adapter.BACKEND.kernel(torch.zeros(3)) is adapter._NUMPY


@pytest.mark.parametrize("readable", [True, False])
def test_constants_on_a_device_are_never_dropped(monkeypatch, readable):
    """A CUDA graph that was captured with one reads its memory ever after."""
    backend, like = adapter.TorchBackend("torch", adapter.xp), torch.zeros(0)
    monkeypatch.setattr(adapter.TorchBackend, "readable", lambda self, x: readable)
    first = backend.constant((1.0, 2.0), like)
    for number in range(300):
        backend.constant((float(number),), like)
    assert (backend.constant((1.0, 2.0), like) is first) == (not readable)
    assert (len(backend._constants) < 300) == readable


def test_constants_on_a_device_are_looked_through_seldom(monkeypatch):
    """None of them can be dropped: to look for some at each new one would take time that grows with their square."""
    backend, like, looked = adapter.TorchBackend("torch", adapter.xp), torch.zeros(0), []
    monkeypatch.setattr(adapter.TorchBackend, "readable", lambda self, x: looked.append(x))
    for number in range(3000):
        backend.constant((float(number),), like)
    assert len(backend._constants) == 3000
    assert 0 < len(looked) <= 2 * 3000


def test_readable_constants_are_dropped_at_the_same_number_again():
    backend, like = adapter.TorchBackend("torch", adapter.xp), torch.zeros(0)
    for number in range(3000):
        backend.constant((float(number),), like)
        assert len(backend._constants) <= 256
