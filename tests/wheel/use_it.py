"""Uses an installed wheel: what a user with NumPy alone sees."""

import importlib.util
import pathlib
import sys

import numpy as np

import unilossseg
import unilossseg.backends
import unilossseg.backends.numpy
import unilossseg.conformance

package = pathlib.Path(unilossseg.__file__).parent
assert pathlib.Path(unilossseg.backends.__file__).parent == package / "backends"
assert (package / "py.typed").exists()
for stray in ("backends", "conformance"):
    assert importlib.util.find_spec(stray) is None, f"the wheel left a top-level {stray}"
# The compiled loops, one file for every Python from 3.11 on, are there and in use; what they were compiled from is not.
compiled = sorted(path.name for path in (package / "backends").glob("_loops*"))
assert "_loops.pyi" in compiled, compiled
assert any(".abi3." in name or name.endswith(".pyd") for name in compiled), compiled
assert not [path for path in package.rglob("*") if path.suffix in (".c", ".h")]
from unilossseg.backends import _loops  # noqa: E402  after the look at where it lies

assert _loops.instruction_sets()[0] == unilossseg.backends.numpy.LOOPS
assert type(unilossseg.backends.get_backend("numpy")).__name__ == "CompiledBackend"
called = []
plain = _loops.softmax_sums
_loops.softmax_sums = lambda *arrays: called.append(len(arrays)) or plain(*arrays)
logits, labels = np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 4, 4), np.uint8)
value, gradient = unilossseg.value_and_grad(unilossseg.LovaszSoftmaxLoss())(logits, labels)
assert abs(float(value) - 2 / 3) < 1e-6
assert gradient.shape == logits.shape
assert called, "the loss went round the compiled loops"
assert not {"torch", "paddle"} & set(sys.modules)
message = ""
try:
    unilossseg.build({"types": [{"type": "DiceLoss"}], "coef": [1]}, backend="torch")
except ImportError as error:
    message = str(error)
assert "unilossseg[torch]" in message, "torch is not installed here, and nobody said how to get it"
print(f"unilossseg {unilossseg.__version__} in {package}, loops for {unilossseg.backends.numpy.LOOPS}")
