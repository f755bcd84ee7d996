"""What every test process needs: one framework at most, the same random numbers every time, and a driver."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("checks")

HERE = Path(__file__).parent
FRAMEWORKS = ("torch", "paddle")

# What tests look for in the output of commands must not depend on where they run: these make pytest, typer and rich write
# other lines, wider ones or coloured ones.
for name in (
    *("CI", "BUILD_NUMBER", "GITHUB_ACTIONS", "PYTEST_ADDOPTS", "PY_COLORS", "FORCE_COLOR", "NO_COLOR"),
    *("COLUMNS", "LINES", "TERMINAL_WIDTH", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
):
    os.environ.pop(name, None)

# No database and no clock: the same examples on every machine, a slow one too, and in every run.
settings.register_profile(
    "repeatable",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


def pytest_collection(session):
    """torch and Paddle in one process can crash each other: refuses before either is imported."""
    chosen = [name for name in FRAMEWORKS if _will_run(session.config, HERE / name)]
    if len(chosen) > 1:
        raise pytest.UsageError(
            "tests/torch and tests/paddle cannot run in one process, since the two frameworks can crash each other: run "
            "`make test`, or pytest three times: `pytest tests --ignore=tests/torch --ignore=tests/paddle`, "
            "`pytest tests/torch`, `pytest tests/paddle`"
        )


def _will_run(config, folder):
    """Whether the command line asks for tests of a folder."""
    start = config.invocation_params.dir
    ignored = [(start / path).resolve() for path in config.getoption("ignore") or ()]
    if any(folder == path or path in folder.parents for path in ignored):
        return False
    asked = [(start / str(argument).partition("::")[0]).resolve() for argument in config.args]
    return any(folder == path or path in folder.parents or folder in path.parents for path in asked)


@pytest.fixture(scope="session", params=["numpy", "strict"])
def driver(request):
    """How to call losses with arrays of a backend. tests/torch and tests/paddle have their own."""
    # Imported here, when `checks` is known to hold assertions.
    from checks.drivers import ArrayDriver

    return ArrayDriver(request.param)


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A user's project as the current directory; its modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("project_"):
            del sys.modules[name]


@pytest.fixture(scope="module")
def users_folder(tmp_path_factory):
    """A user's folder: losses and backends of their own, and a test that has nothing to do with them."""
    from checks.pytest_runs import BACKENDS, LOSSES

    place = tmp_path_factory.mktemp("project")
    (place / "own.py").write_text(LOSSES)
    (place / "mine.py").write_text(BACKENDS)
    (place / "test_other.py").write_text("def test_other():\n    pass\n")
    return place
