"""What setup.py gives setuptools, which decides by the Python that it finds."""

from __future__ import annotations

import runpy
import sysconfig
from pathlib import Path

import pytest
import setuptools

SETUP = Path(__file__).parents[1] / "setup.py"
pytestmark = pytest.mark.skipif(not SETUP.exists(), reason="this is no checkout")


@pytest.fixture
def given(monkeypatch):
    """A function: the arguments of `setup` where Python is free-threaded, or is not."""

    def given(free_threaded):
        there, found = sysconfig.get_config_var, {}
        monkeypatch.setattr(
            sysconfig, "get_config_var", lambda name: free_threaded if name == "Py_GIL_DISABLED" else there(name)
        )
        monkeypatch.setattr(setuptools, "setup", lambda **arguments: found.update(arguments))
        monkeypatch.chdir(SETUP.parent)
        runpy.run_path(str(SETUP))
        return found

    return given


@pytest.mark.parametrize("free_threaded", [None, 0])
def test_the_loops_are_built_for_the_limited_api(given, free_threaded):
    found = given(free_threaded)
    (loops,) = found["ext_modules"]
    assert loops.name == "unilossseg.backends._loops"
    assert loops.py_limited_api
    assert loops.optional
    assert found["options"] == {"bdist_wheel": {"py_limited_api": "cp311"}}


def test_free_threaded_python_has_no_limited_api(given):
    """setuptools would raise."""
    found = given(1)
    assert found["ext_modules"] == []
    assert found["options"] == {}
