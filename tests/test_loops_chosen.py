"""Which loops NumPy's backend takes: seen from fresh interpreters, since it chooses at import."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

MISSING = importlib.util.find_spec("unilossseg.backends._loops") is None
compiled = pytest.mark.skipif(MISSING, reason="this installation has no compiled loops")

WITHOUT = "import sys; sys.modules['unilossseg.backends._loops'] = None\n"
LOSSES = """
import json, warnings
import numpy as np
warnings.simplefilter("always")
with warnings.catch_warnings(record=True) as caught:
    import unilossseg
    from unilossseg.backends import get_backend
    rng = np.random.default_rng(8)
    logits = rng.normal(size=(2, 5, 30, 41)).astype(np.float32)
    labels = rng.integers(0, 5, size=(2, 30, 41))
    labels[:, :3] = 255
    targets = rng.integers(0, 2, size=logits.shape).astype(np.float32)
    found = []
    for loss, y in (
        (unilossseg.CrossEntropyLoss(), labels),
        (unilossseg.CrossEntropyLoss(top_k_percent_pixels=0.3), labels),
        (unilossseg.DiceLoss(), labels),
        (unilossseg.LovaszSoftmaxLoss(), labels),
        (unilossseg.BCELoss(pos_weight="dynamic"), targets),
        (unilossseg.L1Loss(), targets),
        (unilossseg.MSELoss(), targets),
    ):
        value, gradient = unilossseg.value_and_grad(loss)(logits, y)
        found.append([float(value), *np.asarray(gradient, float).ravel()[::37].tolist()])
from unilossseg.backends import numpy as chosen
print(json.dumps({
    "loops": chosen.LOOPS,
    "backend": type(get_backend("numpy")).__name__,
    "warnings": [[one.category.__name__, str(one.message)] for one in caught],
    "found": found,
}))
"""


def fresh(loops=None, before=""):
    """What a new process finds; None: the variable is not set."""
    environment = {name: value for name, value in os.environ.items() if name != "UNILOSSSEG_LOOPS"}
    if loops is not None:
        environment["UNILOSSSEG_LOOPS"] = loops
    command = [sys.executable, "-c", before + LOSSES]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def found(**how):
    done = fresh(**how)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def by_numpy():
    return found(loops="numpy")


def alike(found, wanted):
    for one, other in zip(found["found"], wanted["found"], strict=True):
        np.testing.assert_allclose(one[:1], other[:1], rtol=2e-6)
        # A gradient's error is small beside its largest entry.
        np.testing.assert_allclose(one[1:], other[1:], rtol=1e-5, atol=4e-6 * np.abs(other[1:]).max())


def test_numpy_alone(by_numpy):
    assert by_numpy["loops"] == "numpy"
    assert by_numpy["backend"] == "NumPyBackend"
    assert by_numpy["warnings"] == []


@compiled
def test_the_fastest_by_default(by_numpy):
    from unilossseg.backends import _loops

    for unset in (None, ""):
        there = found(loops=unset)
        assert (there["loops"], there["backend"]) == (_loops.instruction_sets()[0], "CompiledBackend")
        assert there["warnings"] == []
        alike(there, by_numpy)


@compiled
def test_each_instruction_set(by_numpy):
    from unilossseg.backends import _loops

    for name in _loops.instruction_sets():
        there = found(loops=name)
        assert (there["loops"], there["backend"]) == (name, "CompiledBackend")
        assert there["warnings"] == []
        alike(there, by_numpy)


@compiled
def test_a_wrong_name():
    from unilossseg.backends import _loops

    done = fresh(loops="sse9")
    assert done.returncode == 1
    expected = f"expected 'numpy' or one of those of this processor: {', '.join(_loops.instruction_sets())}"
    assert done.stderr.splitlines()[-1] == f"ValueError: UNILOSSSEG_LOOPS is 'sse9', {expected}"


def test_without_the_extension(by_numpy):
    there = found(before=WITHOUT)
    assert (there["loops"], there["backend"]) == ("numpy", "NumPyBackend")
    ((category, message),) = there["warnings"]
    assert category == "RuntimeWarning"
    for piece in ("no compiled loops", "a C compiler", "pip install --force-reinstall", "UNILOSSSEG_LOOPS=numpy"):
        assert piece in message
    assert there["found"] == by_numpy["found"]


def test_without_the_extension_and_that_is_meant():
    assert found(loops="numpy", before=WITHOUT)["warnings"] == []


def test_without_the_extension_that_was_asked_for():
    done = fresh(loops="baseline", before=WITHOUT)
    assert done.returncode == 1
    assert "UNILOSSSEG_LOOPS is 'baseline' and this installation has no compiled loops" in done.stderr.splitlines()[-1]
