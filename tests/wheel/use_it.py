"""Uses an installed wheel: what a user with NumPy alone sees."""

import importlib.util
import pathlib
import sys

import numpy as np

import unilossseg
import unilossseg.backends
import unilossseg.conformance

package = pathlib.Path(unilossseg.__file__).parent
assert pathlib.Path(unilossseg.backends.__file__).parent == package / "backends"
assert (package / "py.typed").exists()
for stray in ("backends", "conformance"):
    assert importlib.util.find_spec(stray) is None, f"the wheel left a top-level {stray}"
logits, labels = np.zeros((2, 3, 4, 4), np.float32), np.zeros((2, 4, 4), np.uint8)
value, gradient = unilossseg.value_and_grad(unilossseg.LovaszSoftmaxLoss())(logits, labels)
assert abs(float(value) - 2 / 3) < 1e-6
assert gradient.shape == logits.shape
assert not {"torch", "paddle"} & set(sys.modules)
message = ""
try:
    unilossseg.build({"types": [{"type": "DiceLoss"}], "coef": [1]}, backend="torch")
except ImportError as error:
    message = str(error)
assert "unilossseg[torch]" in message, "torch is not installed here, and nobody said how to get it"
print(f"unilossseg {unilossseg.__version__} in {package}")
