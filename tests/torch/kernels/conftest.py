"""Tests of the kernels for GPU tensors; see `checks.kernels` for where they run."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def driver():
    from checks.kernels import DRIVER

    return DRIVER


@pytest.fixture
def rng():
    return np.random.default_rng(31)


@pytest.fixture(autouse=True)
def quiet_numpy():
    """NumPy, which the interpreter computes with, warns of infinities and NaN; a GPU does not."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def no_fallback(monkeypatch):
    """Refuses torch's own operations to the backend with kernels: a test would compare them with themselves."""
    from checks.kernels import KERNELS

    from unilossseg.backends.torch import TorchBackend

    def refusing(operation):
        def refuse(self, *arguments, **options):
            assert self is not KERNELS, f"the backend went round its kernel for {operation.__name__}"
            return operation(self, *arguments, **options)

        return refuse

    # These only widen the index, say what there is, or are no operation.
    classes = type(KERNELS).__mro__
    own = {name for cls in classes[: classes.index(TorchBackend)] for name in vars(cls)}
    for name in own - {"pick", "look_up", "subtract_at", "index_dtype", "one_pass", "class_groups", "try_out"}:
        if not name.startswith("_"):
            monkeypatch.setattr(TorchBackend, name, refusing(getattr(TorchBackend, name)))


@pytest.fixture
def accelerator(monkeypatch):
    """torch tensors of float32 and half precision go to the kernels; what the host reads of them is gathered."""
    from checks.kernels import DEVICE, KERNELS

    from unilossseg.backends.torch import TorchBackend

    reads, original = [], TorchBackend.read
    if DEVICE == "cpu":
        double = {"torch.float64"}
        monkeypatch.setattr(TorchBackend, "kernel", lambda self, x: self if str(x.dtype) in double else KERNELS)
        monkeypatch.setattr(TorchBackend, "readable", lambda self, x: False)
        monkeypatch.setattr(TorchBackend, "to_kernel", lambda self, x, packed=False: x.detach().resolve_neg())
    monkeypatch.setattr(TorchBackend, "read", lambda self, x: reads.append(x) or original(self, x))
    return reads
