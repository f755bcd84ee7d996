"""`import unilossseg` imports no framework, and pytest refuses two of them in one process: seen from fresh interpreters."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FRAMEWORKS = {"torch", "paddle", "jax", "tensorflow", "cupy", "array_api_strict", "triton"}
REPORT = "import json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"


def modules_after(code):
    """Names of the top-level modules that a fresh interpreter has after some code."""
    done = subprocess.run([sys.executable, "-c", f"{code}\n{REPORT}"], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


EVERYTHING_NEUTRAL = """
import unilossseg, unilossseg.building, unilossseg.backends
unilossseg.build({"types": [{"type": "DiceLoss"}], "coef": [1]})
import numpy as np
unilossseg.value_and_grad(unilossseg.DiceLoss())(np.zeros((1, 2, 3)), np.zeros((1, 3), int))
unilossseg.backends.installed_backends()
"""


@pytest.mark.parametrize("code", ["import unilossseg", EVERYTHING_NEUTRAL], ids=["import", "use"])
def test_no_framework_is_imported(code):
    assert not modules_after(code) & FRAMEWORKS


@pytest.mark.parametrize("framework", ["torch", "paddle", "array_api_strict", "triton"])
def test_the_test_above_can_fail(framework):
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed here")
    assert framework in modules_after(f"import unilossseg, {framework}") & FRAMEWORKS


TORCH_ON_CPU = """
import torch, unilossseg.torch
x = torch.zeros(1, 2, 3, requires_grad=True)
unilossseg.torch.DiceLoss()(x, torch.zeros(1, 3, dtype=torch.int64)).backward()
"""


@pytest.mark.parametrize("code", ["import unilossseg.torch", TORCH_ON_CPU], ids=["import", "use"])
def test_triton_is_for_the_gpu_alone(code):
    for name in ("torch", "triton"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed here")
    # torch may do without it, or not.
    assert ("triton" in modules_after(code)) == ("triton" in modules_after("import torch"))


def test_few_modules_are_imported():
    before = modules_after("import numpy")
    new = modules_after("import unilossseg") - before - set(sys.stdlib_module_names)
    assert new == {"unilossseg", "array_api_compat"}


def test_only_an_adapter_imports_its_framework():
    allowed = {f"{folder}/{name}" for folder in ("backends", "unilossseg") for name in ("torch.py", "paddle.py")}
    for folder in ("backends", "unilossseg"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            place = path.relative_to(ROOT).as_posix()
            if place in allowed or path.name.startswith(("_paddle", "_torch")):
                continue
            text = path.read_text(encoding="utf-8")
            others = "torch|paddle" if path.name.startswith("_triton") else "torch|paddle|triton"
            assert not re.findall(rf"^\s*(?:import|from) (?:{others})\b.*", text, re.MULTILINE), place


def run_pytest(*arguments):
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "arguments",
    [(), ("tests",), ("tests/torch", "tests/paddle"), ("tests/torch/test_golden.py", "tests/paddle/test_golden.py::x")],
    ids=" ".join,
)
def test_pytest_refuses_two_frameworks_in_one_process(arguments):
    done = run_pytest(*arguments)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "cannot run in one process" in done.stderr


def test_pytest_takes_neither_framework():
    done = run_pytest("tests", "--ignore=tests/torch", "--ignore=tests/paddle", "-k", "test_few_modules_are_imported")
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
