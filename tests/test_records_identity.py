"""Who a framework's module is: the conformance run and the records tell the same of it, and nothing that names a person."""

import sys
import types

import numpy as np
import pytest

from unilossseg.conformance import environment, modules
from unilossseg.conformance.frameworks import Framework
from unilossseg.conformance.records import identity
from unilossseg.conformance.records.errors import RecordError

#: Both of them call it so.
SHARED = ("framework", "version", "distribution", "file", "revision", "device")


def both():
    """What the run and a record say of NumPy."""
    return Framework("numpy").describe(), identity.describe("numpy", np, "cpu")


def test_the_run_and_a_record_tell_the_same():
    run, record = both()
    assert {name: run[name] for name in SHARED} == {name: record[name] for name in SHARED}
    assert record["distribution"] == f"numpy {np.__version__}"
    assert record["file"].endswith("numpy/__init__.py")


def test_a_file_outside_the_environment_is_told_by_its_name_alone(monkeypatch):
    monkeypatch.setattr(np, "__file__", "/home/alice/.local/lib/python3/site-packages/numpy/__init__.py")
    for said in both():
        assert said["file"] == "__init__.py"
        assert "alice" not in str(said)


@pytest.mark.parametrize(
    ("name", "told", "count"),
    [("torch", "3", 7), ("torch", None, 7), ("paddle", "3", 3), ("paddle", "3,2", None), ("numpy", "3", None)],
)
def test_threads_are_those_that_the_framework_tells(monkeypatch, name, told, count):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    module = types.ModuleType(name)
    module.get_num_threads = lambda: 7
    assert modules.threads(name, module) == count
    assert identity.describe(name, module, "cpu")["threads"] == ("" if count is None else str(count))


@pytest.mark.parametrize("name", ["torch", "paddle", "numpy"])
@pytest.mark.parametrize("arrays", [(), ("Tensor", "ndarray")], ids=["no arrays", "arrays of its own"])
def test_a_folder_of_a_frameworks_name_is_refused_by_both(monkeypatch, name, arrays):
    module = types.ModuleType(name)
    module.__file__ = f"/somewhere/{name}/__init__.py"
    for kind in arrays:
        setattr(module, kind, type(kind, (), {"__module__": "somebody.elses"}))
    monkeypatch.setitem(sys.modules, name, module)
    found = f"something else of that name, from {module.__file__}"
    assert f"`import {name}` gives {found}, not {name}: " in environment.impostor(name)
    with pytest.raises(RecordError, match=f"`import {name}` gave {found}; expected the real {name}"):
        identity.genuine(name)
