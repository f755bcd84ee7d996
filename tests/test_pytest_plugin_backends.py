"""The pytest plugin: backends of one's own; failures say what is wrong and how to repeat it."""

import re
import shlex

import pytest
from checks.pytest_runs import counts, outcomes, run_pytest


def test_files_that_are_named_run_beside_it(users_folder):
    chosen = ["--unilossseg-backend=numpy", "--unilossseg-loss=DiceLoss", "-k", "test_other or plain/bfloat16"]
    done = run_pytest(users_folder, "-q", "test_other.py", *chosen)
    assert counts(done)["passed"] == 1
    # What is left of the backend's cases only skips: that is no success.
    assert counts(done)["skipped"] == 2
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_session_that_has_deselected_its_items_ends_as_the_others_do(users_folder):
    done = run_pytest(
        users_folder, "-q", "test_other.py", "--unilossseg-backend=numpy", "--unilossseg-loss=DiceLoss", "-k", "test_other"
    )
    assert counts(done)["passed"] == 1
    assert "skipped" not in counts(done)
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr


@pytest.fixture(scope="module")
def of_backends(users_folder):
    names = ("GOOD", "ALONE", "BAD", "DEAD", "KNOWN_TO_BREAK", "KNOWN_TO_LACK", "NO_BACKEND")
    backends = [f"--unilossseg-backend=mine:{name}" for name in names]
    chosen = "paddleseg and (plain/float or ties/float64) or L1Loss/-/plain/float32"
    losses = ["--unilossseg-loss=DiceLoss", "--unilossseg-loss=L1Loss"]
    return run_pytest(users_folder, "-v", "-rxs", *backends, *losses, "--unilossseg-backend=nowhere:IT", "-k", chosen)


def of_backend(done, name):
    wanted = {key.partition("]::")[2]: what for key, what in outcomes(done).items() if key.startswith(f"unilossseg[{name}]")}
    assert wanted
    return wanted


def test_one_s_own_backend(of_backends):
    for name in ("mine:GOOD", "mine:ALONE"):
        assert {key for key, what in of_backend(of_backends, name).items() if what == "SKIPPED"} == {
            "DiceLoss/paddleseg/plain/float16"
        }
        assert of_backend(of_backends, name)["DiceLoss/paddleseg/plain/float32"] == "PASSED"


def test_a_backend_that_computes_something_else_fails(of_backends):
    assert of_backend(of_backends, "mine:BAD") == {
        "DiceLoss/paddleseg/plain/float16": "SKIPPED",
        "DiceLoss/paddleseg/plain/float32": "FAILED",
        "DiceLoss/paddleseg/plain/float64": "FAILED",
        "DiceLoss/paddleseg/ties/float64": "FAILED",
        "L1Loss/-/plain/float32": "PASSED",
    }
    for part in (
        "mine:BAD: DiceLoss/paddleseg/plain/float32",
        "closed form: differs: value is off by",
        "of its scale; worst at index ()",
        "again: pytest --unilossseg-loss=DiceLoss --unilossseg-backend=mine:BAD -k 'DiceLoss/paddleseg/plain/float32'",
    ):
        assert part in of_backends.stdout
    assert "Traceback" not in of_backends.stdout.partition("mine:BAD: ")[2].partition("again:")[0]


def test_the_command_that_a_failure_names_repeats_it_alone(users_folder):
    # The names of two losses end in that of a third.
    losses = [f"--unilossseg-loss={kind}CrossEntropyLoss" for kind in ("", "Bootstrapped", "Ohem")]
    own = ["--unilossseg-loss=own:Missing", "--unilossseg-loss=own:Needs"]
    backends = ["--unilossseg-backend=mine:NO_BACKEND", "--unilossseg-backend=numpy"]
    chosen = "NO_BACKEND and CrossEntropyLoss/paddleseg/plain/float32 or own and plain/float16"
    done = run_pytest(users_folder, "-v", *losses, *own, *backends, "-k", chosen)
    failed = [name for name, what in outcomes(done).items() if what == "FAILED"]
    assert len(failed) == 7
    told = re.findall(r"^  again: (.+)$", done.stdout, re.MULTILINE)
    assert sorted(told, key=len) == sorted(set(told), key=len)
    selected = [run_pytest(users_folder, "--co", "-q", *shlex.split(line)[1:]).stdout.splitlines() for line in told]
    assert sorted([line for line in lines if "::" in line] for lines in selected) == sorted([name] for name in failed)


def test_a_worker_that_crashes_fails_one_case_and_the_next_gets_another(of_backends):
    found = of_backend(of_backends, "mine:DEAD")
    assert found["DiceLoss/paddleseg/plain/float64"] == "FAILED"
    assert found["L1Loss/-/plain/float32"] == "PASSED"
    assert "ended with exit status 7" in of_backends.stdout
    assert "last words" in of_backends.stdout


def test_a_disk_that_is_full_fails_every_case_in_a_line(users_folder, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import errno, sys\n"
        "if 'unilossseg.conformance.worker' in sys.orig_argv:\n"
        "    from unilossseg.conformance import protocol\n"
        "    def full(path, outcomes):\n"
        "        raise OSError(errno.EDQUOT, 'your share of it is used up')\n"
        "    protocol.write_outcomes = full\n"
    )
    losses = ["--unilossseg-loss=DiceLoss", "--unilossseg-loss=own:Squares"]
    chosen = [*losses, "--unilossseg-backend=numpy", "-k", "Squares/plain/float64 or Dice and paddleseg/plain/float32"]
    done = run_pytest(users_folder, "-v", *chosen, PYTHONPATH=str(tmp_path))
    assert outcomes(done) == {
        "unilossseg[numpy]::own:Squares/plain/float64": "FAILED",
        "unilossseg[numpy]::DiceLoss/paddleseg/plain/float32": "FAILED",
    }
    said = [line for line in done.stdout.splitlines() if line.startswith("  temporary files: cannot be written to ")]
    assert len(said) == 2
    assert all("(your share of it is used up), expected a folder with room" in line for line in said)


def test_a_failure_that_a_backend_expects(of_backends):
    found = of_backend(of_backends, "mine:KNOWN_TO_BREAK")
    assert found["DiceLoss/paddleseg/plain/float64"] == "XFAIL"
    assert "sums are short: value is off by" in of_backends.stdout
    assert "https://example.org/1" in of_backends.stdout


def test_a_failure_that_is_expected_fails_where_pytest_is_told_so(users_folder):
    """pytest's own option makes nothing of `pytest.xfail`, which is no reason to pass."""
    losses = ["--unilossseg-loss=DiceLoss", "--unilossseg-loss=own:WrongSign"]
    chosen = ["--unilossseg-backend=mine:KNOWN_TO_BREAK", "-k", "paddleseg/plain/float64 or WrongSign/plain/float64"]
    done = run_pytest(users_folder, "-v", "--runxfail", *losses, *chosen)
    assert outcomes(done) == {
        "unilossseg[mine:KNOWN_TO_BREAK]::own:WrongSign/plain/float64": "FAILED",
        "unilossseg[mine:KNOWN_TO_BREAK]::DiceLoss/paddleseg/plain/float64": "FAILED",
    }
    assert "closed form: xfailed: sums are short: value is off by" in done.stdout


def test_an_expected_failure_that_passes_fails_and_so_does_one_that_has_expired(of_backends):
    assert of_backend(of_backends, "mine:KNOWN_TO_LACK") == {
        "DiceLoss/paddleseg/plain/float16": "SKIPPED",
        "DiceLoss/paddleseg/plain/float32": "SKIPPED",
        "DiceLoss/paddleseg/plain/float64": "FAILED",
        "DiceLoss/paddleseg/ties/float64": "FAILED",
        "L1Loss/-/plain/float32": "SKIPPED",
    }
    assert "conforms, and was expected to fail (it is fine): remove the exception" in of_backends.stdout
    assert "expired on 2020-01-01" in of_backends.stdout


def test_a_name_that_is_no_backend_fails_every_case(of_backends):
    for name in ("mine:NO_BACKEND", "nowhere:IT"):
        assert set(of_backend(of_backends, name).values()) == {"FAILED"}
    assert "mine:NO_BACKEND must be a unilossseg.backends.Backend (got a int)" in of_backends.stdout
    refused = "the nowhere:IT worker is refused: nowhere:IT: ModuleNotFoundError: No module named 'nowhere'; expected "
    assert refused in of_backends.stdout
    assert "--backend says what to check" not in of_backends.stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--unilossseg-backend=nmupy",
            "must be one of numpy, strict, torch, paddle, or package.module:BACKEND (got 'nmupy')",
        ),
        ("--unilossseg-backend=mine:", "must be package.module:NAME (got 'mine:')"),
        ("--unilossseg-timeout=-1", "--unilossseg-timeout must be from 0.1 to 1000000 seconds (got -1)"),
        ("--unilossseg-timeout=nan", "--unilossseg-timeout must be from 0.1 to 1000000 seconds (got nan)"),
        ("--unilossseg-timeout=1e300", "--unilossseg-timeout must be from 0.1 to 1000000 seconds (got 1e+300)"),
        ("--unilossseg-loss=FocalLoss", "or package.module:Loss (got 'FocalLoss')"),
    ],
)
def test_options_that_cannot_be_are_refused(users_folder, argument, message):
    done = run_pytest(users_folder, "--unilossseg-backend=numpy", argument)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr


def test_a_backend_that_is_not_installed_is_refused(users_folder):
    code = "import sys, pytest, unilossseg.backends as b\nb.is_installed = lambda name: False\n"
    code += "sys.exit(pytest.main(sys.argv[1:]))"
    done = run_pytest(users_folder, "--unilossseg-backend=paddle", code=code)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "needs paddle, which is not installed: pip install 'unilossseg[paddle]'" in done.stderr
