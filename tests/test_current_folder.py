"""What is looked for in the folder that a command is run in: the code of its user, and never this package."""

import pytest
from checks.conformance_cli import unilossseg
from checks.pytest_runs import BACKENDS, LOSSES, outcomes, run_pytest

from unilossseg.conformance import environment, pool, probes


@pytest.fixture
def folder(tmp_path):
    """As in a clone of the repository, or beside another version of the package; and some code of a user's."""
    (tmp_path / "unilossseg").mkdir()
    (tmp_path / "unilossseg" / "__init__.py").write_text("raise ImportError('this is not the package that is installed')\n")
    (tmp_path / "own.py").write_text(LOSSES)
    (tmp_path / "mine.py").write_text(BACKENDS)
    return tmp_path


def test_a_run_checks_the_package_that_is_installed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    chosen = ["--backend", "numpy", "--loss", "L1Loss", "-k", "plain/float32"]
    done = unilossseg("conformance", "run", *chosen, "--out", folder / "report")
    assert done.exit_code == 0, done.stdout + done.stderr


def test_a_selftest_does_so_too(folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = unilossseg("conformance", "selftest", "--backend", "numpy", "-k", "l1-sign")
    assert done.exit_code == 0, done.stdout + done.stderr


def test_the_probes_of_the_capability_table_do_so_too(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert probes.check("numpy") == []


def test_a_loss_of_ones_own_is_found_there(folder):
    chosen = ["--unilossseg-loss=own:Squares", "--unilossseg-backend=numpy", "-k", "float32"]
    # As the program `pytest` starts: without the folder on its path.
    done = run_pytest(folder, "-v", *chosen, PYTHONSAFEPATH="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in outcomes(done).values()


def test_a_backend_of_ones_own_is_found_there_and_says_which_package_it_computes_with(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder)
    with pool.Worker("mine:GOOD", tmp_path) as worker:
        assert worker.greeting()["sources"] == environment.sources()
