"""What setup.py gives setuptools, which decides by the Python that it finds, and what that makes of the checkout."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import setuptools

from unilossseg.conformance import environment

LOOPS = importlib.util.find_spec("unilossseg.backends._loops")
SETUP = Path(__file__).parents[1] / "setup.py"
pytestmark = pytest.mark.skipif(not SETUP.exists(), reason="this is no checkout")


@pytest.fixture
def given(monkeypatch):
    """A function: the arguments of `setup` where Python is free-threaded, or is not, and in a folder with its sources."""

    def given(free_threaded, folder=SETUP.parent):
        there, found = sysconfig.get_config_var, {}
        monkeypatch.setattr(
            sysconfig, "get_config_var", lambda name: free_threaded if name == "Py_GIL_DISABLED" else there(name)
        )
        monkeypatch.setattr(setuptools, "setup", lambda **arguments: found.update(arguments))
        monkeypatch.chdir(folder)
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


def test_the_loops_know_what_they_are_compiled_from(given, tmp_path):
    def told(folder):
        (loops,) = given(None, folder)["ext_modules"]
        return dict(loops.define_macros)["SOURCES"]

    before = told(SETUP.parent)
    assert re.fullmatch("[0-9a-f]{16}", before)
    shutil.copytree(SETUP.parent / "backends" / "_native", tmp_path / "backends" / "_native")
    assert told(tmp_path) == before
    with (tmp_path / "backends" / "_native" / "loops.h").open("a") as file:
        file.write("/* other loops */\n")
    assert told(tmp_path) != before


@pytest.mark.skipif(LOOPS is None, reason="this installation has no compiled loops")
def test_they_tell(given):
    (loops,) = given(None)["ext_modules"]
    told = importlib.import_module(loops.name).SOURCES
    assert told == environment.loop_sources()
    # Those of a checkout may be older than its files, until `make setup`.
    assert re.fullmatch("[0-9a-f]{16}|unknown", told)


def test_free_threaded_python_has_no_limited_api(given):
    """setuptools would raise."""
    found = given(1)
    assert found["ext_modules"] == []
    assert found["options"] == {}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder with the list of the sdist's files, and in lib/ the files of a wheel that nothing is compiled for; and what
    setuptools said.
    """
    away = tmp_path_factory.mktemp("built")
    commands = ["egg_info", "--egg-base", away, "build_py", "--build-lib", away / "lib"]
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", *commands], cwd=SETUP.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return away, done.stdout + done.stderr


def test_the_sdist_has_what_a_wheel_is_built_from_and_what_the_readme_leads_to_and_no_part_of_the_tests(built):
    listed = (built[0] / "unilossseg.egg-info" / "SOURCES.txt").read_text(encoding="utf-8").splitlines()
    native = {path.relative_to(SETUP.parent).as_posix() for path in (SETUP.parent / "backends" / "_native").glob("*.[ch]")}
    pages = {path.relative_to(SETUP.parent).as_posix() for path in (SETUP.parent / "docs").rglob("*.md")}
    assert native | pages | {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md"} <= set(listed)
    assert [name for name in listed if name.startswith("tests/")] == []


def test_a_wheel_has_the_data_of_the_package_and_no_sources_of_loops(built):
    package = built[0] / "lib" / "unilossseg"
    names = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    data = {f"conformance/{name}" for name in ("templates/report.html", "schema/results.schema.json")}
    assert data | {"py.typed", "backends/_loops.pyi"} <= names
    assert any(name.startswith("conformance/recorded/") for name in names)
    assert [name for name in names if name.startswith("backends/_native")] == []
    # Setuptools warns at length of a folder of data that it takes for a package.
    assert "would be ignored" not in built[1]


@pytest.fixture
def source_folder(tmp_path):
    """The package's folder as a checkout has it, and a Python that has nothing else, as beside an installed unilossseg:
    a function that imports it and returns what Python says.
    """
    shutil.copytree(SETUP.parent / "unilossseg", tmp_path / "unilossseg", ignore=shutil.ignore_patterns("__pycache__"))

    def imported():
        command = [sys.executable, "-E", "-S", "-c", "import unilossseg"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        return done.stderr.strip().splitlines()[-1]

    return imported


def test_the_source_folder_says_that_it_is_not_the_installed_package(source_folder, tmp_path):
    said = source_folder()
    assert said.startswith(f"ModuleNotFoundError: unilossseg: {tmp_path / 'unilossseg'} lacks unilossseg.backends")
    for piece in ("source folder", "expected the installed package", "run from another folder", "pip install -e"):
        assert piece in said


def test_an_error_in_a_backend_is_not_taken_for_that(source_folder, tmp_path):
    (tmp_path / "unilossseg" / "backends.py").write_text("import numpy\n")
    assert source_folder() == "ModuleNotFoundError: No module named 'numpy'"
