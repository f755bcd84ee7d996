"""Which backend closed forms of CUDA tensors run on: by an environment variable, and by what is installed and runs."""

import importlib
import warnings

import pytest
import torch

from unilossseg.backends import _torch_gpu as choice
from unilossseg.backends import torch as adapter

KERNELS = "unilossseg.backends._torch_triton"
FIRST, SECOND = (torch.device("cuda", index) for index in (0, 1))


@pytest.fixture(autouse=True)
def anew(monkeypatch):
    """Nothing is chosen yet, and nothing set; no choice of a test stays. Nobody captures a graph."""
    monkeypatch.delenv(choice.GPU_VARIABLE, raising=False)
    monkeypatch.setattr(choice, "_chosen", {})
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)


def failing_import(monkeypatch, error):
    """The import of the kernels fails; how often it was tried."""
    tried, original = [], importlib.import_module

    def import_module(name, *rest):
        if name == KERNELS:
            tried.append(name)
            raise error
        return original(name, *rest)

    choice._backend.cache_clear()
    monkeypatch.setattr(importlib, "import_module", import_module)
    return tried


@pytest.fixture
def no_triton(monkeypatch):
    return failing_import(monkeypatch, ModuleNotFoundError("No module named 'triton'"))


@pytest.fixture
def runs(monkeypatch):
    """The devices that a kernel was tried out on: there is none here."""
    pytest.importorskip("triton")
    tried = []
    monkeypatch.setattr(importlib.import_module(KERNELS).TritonBackend, "try_out", lambda self, device: tried.append(device))
    return tried


@pytest.fixture
def fails(monkeypatch):
    """Makes kernels fail on some devices, as Triton does without a C compiler; the devices that they were tried out on."""
    pytest.importorskip("triton")
    tried = []

    def make(error, devices=(FIRST, SECOND)):
        def try_out(self, device):
            tried.append(device)
            if device in devices:
                raise error

        monkeypatch.setattr(importlib.import_module(KERNELS).TritonBackend, "try_out", try_out)
        return tried

    return make


class CudaTensor(torch.Tensor):
    """A tensor that says to be on a GPU."""

    @property
    def device(self):
        return FIRST

    is_cpu, is_cuda = False, True


@pytest.mark.parametrize("wanted", [None, "", "triton"])
def test_kernels_where_triton_is(monkeypatch, runs, wanted):
    if wanted is not None:
        monkeypatch.setenv(choice.GPU_VARIABLE, wanted)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = choice.kernels_on(FIRST)
    assert type(found).__name__ == "TritonBackend"
    assert (found.name, found.xp) == ("torch", adapter.xp)
    assert choice.kernels_on(FIRST) is found
    assert choice.gpu_loops() == f"triton {importlib.import_module('triton').__version__}"
    assert runs == [FIRST]
    assert choice.kernels_on(SECOND) is found
    assert runs == [FIRST, SECOND]


def test_torch_if_it_is_asked_for(monkeypatch, no_triton):
    monkeypatch.setenv(choice.GPU_VARIABLE, "torch")
    assert choice.kernels_on(FIRST) is None
    assert choice.gpu_loops() == "torch"
    assert no_triton == []


def test_triton_is_asked_for_and_missing(monkeypatch, no_triton):
    monkeypatch.setenv(choice.GPU_VARIABLE, "triton")
    with pytest.raises(ImportError, match=r"UNILOSSSEG_GPU_LOOPS is 'triton' and Triton .* No module named") as error:
        choice.kernels_on(FIRST)
    assert isinstance(error.value.__cause__, ImportError)


def test_triton_is_missing_and_nobody_asked(no_triton):
    with pytest.warns(
        RuntimeWarning, match=r"no kernels for .*: Install Triton.*|.*UNILOSSSEG_GPU_LOOPS=torch says"
    ) as seen:
        found = [choice.kernels_on(FIRST) for _ in range(3)]
    assert found == [None] * 3
    assert len(seen) == 1
    assert "Install Triton, which comes with torch's CUDA builds for Linux. " in str(seen[0].message)
    assert len(no_triton) == 1


def test_a_triton_that_is_too_old_is_not_to_be_installed(monkeypatch):
    """It came with torch."""
    triton = pytest.importorskip("triton")
    from unilossseg.backends import _torch_launch

    with monkeypatch.context() as older:
        older.setattr(triton, "__version__", "3.3.1")
        with pytest.raises(ImportError, match=r"Triton 3\.3\.1 is .*than 3\.4, which comes with torch 2\.8: up") as error:
            importlib.reload(_torch_launch)
    failing_import(monkeypatch, error.value)
    with pytest.warns(RuntimeWarning, match=r"older than 3.4, which comes with torch 2.8: upgrade torch\)") as seen:
        assert choice.kernels_on(FIRST) is None
    assert "Install Triton" not in str(seen[0].message)


def test_kernels_that_do_not_run_are_left_aside(fails):
    tried = fails(RuntimeError("Failed to find C compiler. Please specify via CC environment variable"))
    with pytest.warns(RuntimeWarning, match=r"no kernels for .* cuda:0.*Failed to find C compiler") as seen:
        found = [choice.kernels_on(FIRST) for _ in range(3)]
    assert found == [None] * 3
    assert choice.gpu_loops() == "torch"
    assert len(seen) == 1
    for word in ("a C compiler (gcc or clang)", "compute capability 7.0", "UNILOSSSEG_GPU_LOOPS=torch says"):
        assert word in str(seen[0].message)
    assert tried == [FIRST]


def test_another_device_may_run_them(fails):
    tried = fails(RuntimeError("not on this one"), devices=(SECOND,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choice.kernels_on(FIRST) is not None
    with pytest.warns(RuntimeWarning, match="cuda:1.*not on this one"):
        assert choice.kernels_on(SECOND) is None
    assert choice.kernels_on(FIRST) is not None
    assert tried == [FIRST, SECOND]


def test_kernels_are_asked_for_and_do_not_run(monkeypatch, fails):
    fails(RuntimeError("Failed to find C compiler."))
    monkeypatch.setenv(choice.GPU_VARIABLE, "triton")
    with pytest.raises(RuntimeError, match=r"is 'triton' and its kernels do not run on cuda:0 .*Triton needs a C compiler"):
        choice.kernels_on(FIRST)


def test_a_full_memory_says_nothing_of_triton(fails):
    tried = fails(torch.cuda.OutOfMemoryError("no room"))
    for _ in range(2):
        with pytest.raises(torch.cuda.OutOfMemoryError):
            choice.kernels_on(FIRST)
    assert tried == [FIRST] * 2


def test_nothing_is_tried_out_while_a_graph_is_captured(monkeypatch, runs):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    found = choice.kernels_on(FIRST)
    assert found is choice.kernels_on(FIRST)
    assert type(found).__name__ == "TritonBackend"
    assert runs == []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert choice.kernels_on(FIRST) is found
    assert runs == [FIRST]


def test_an_older_gpu_is_asked_for_its_capability(monkeypatch):
    """Triton would print all of a program that it cannot assemble."""
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    with pytest.warns(RuntimeWarning, match=r"it has compute capability 6\.1\).* GPU of compute capability 7\.0 or above"):
        assert choice.kernels_on(FIRST) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there: test_cuda.py runs kernels on it")
def test_a_machine_that_triton_knows_no_driver_of(monkeypatch):
    """With no device but the CPU's, a real launch fails as it would without a compiler."""
    pytest.importorskip("triton")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    with pytest.warns(RuntimeWarning, match="its kernels do not run on cpu"):
        assert choice.kernels_on(torch.device("cpu")) is None


@pytest.mark.parametrize("wanted", ["Triton", "numpy", "1"])
def test_another_word(monkeypatch, no_triton, wanted):
    monkeypatch.setenv(choice.GPU_VARIABLE, wanted)
    with pytest.raises(ValueError, match=rf"UNILOSSSEG_GPU_LOOPS is '{wanted}', expected 'torch' or 'triton', or that"):
        choice.kernels_on(FIRST)
    assert no_triton == []


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
def test_which_tensors_go_there(monkeypatch, dtype):
    chosen = object()
    monkeypatch.setattr(adapter, "kernels_on", {FIRST: chosen}.get)
    monkeypatch.setattr(adapter, "_is_symbolic", lambda x: False)
    x = torch.zeros(3, dtype=getattr(torch, dtype))
    on_gpu = x.as_subclass(CudaTensor)
    assert adapter.BACKEND.kernel(on_gpu) is (adapter.BACKEND if dtype == "float64" else chosen)
    assert adapter.BACKEND.kernel(x) is adapter._NUMPY


def test_cpu_tensors_ask_for_no_kernels(monkeypatch):
    monkeypatch.setenv(choice.GPU_VARIABLE, "nothing that there is")
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
