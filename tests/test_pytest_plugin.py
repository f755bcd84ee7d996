"""The pytest plugin: inert unless asked; an item for each case; failures that say what is wrong and how to repeat it."""

import itertools
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from unilossseg.backends import installed_backends

# As few cases as the question allows.
DICE = ["--unilossseg-loss=DiceLoss", "--unilossseg-quick", "-k", "DiceLoss/paddleseg/plain"]


def run_pytest(folder, *arguments, code=None, **environment):
    """pytest as a user starts it, with the plugin by its entry point, in a folder of its own."""
    start = [sys.executable, "-m", "pytest"] if code is None else [sys.executable, "-c", code]
    command = [*start, "-p", "no:cacheprovider", "-W", "error", *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**own, **environment})


def outcomes(done):
    """What became of each item, by its name: from the lines of `pytest -v`."""
    found = re.findall(r"^(\S*\[.+?\]::\S+|\S+::\S+) (PASSED|FAILED|SKIPPED|XFAIL)", done.stdout, re.MULTILINE)
    return dict(found)


def counts(done):
    """The last line's counts: {'passed': 2, ...}."""
    words = done.stdout.strip().splitlines()[-1].replace(",", "").strip("= ").split()
    return {what: int(number) for number, what in itertools.pairwise(words) if number.isdigit()}


LOSSES = '''
from dataclasses import dataclass

import numpy as np

from unilossseg import Loss
from unilossseg.building import as_weights, average, keep_where, pixel_cross_entropy, split_labels


@dataclass(eq=False)
class FocalLoss(Loss):
    gamma: float = 2.0
    ignore_index: int = 255

    def compute(self, ops, logits, labels):
        pixels = split_labels(ops, labels, self.ignore_index)
        losses = pixel_cross_entropy(ops, logits, pixels)
        focus = (1 - ops.xp.exp(-losses)) ** self.gamma
        valid = as_weights(ops, pixels.valid, losses)
        return average(ops, keep_where(ops, pixels.valid, focus * losses)) / average(ops, valid + 1e-8)


SHARP = FocalLoss(gamma=1.0)


@dataclass(eq=False)
class Needs(FocalLoss):
    """It cannot be made without arguments."""

    scale: float = None

    def __init__(self, scale):
        self.scale = scale


@dataclass(eq=False)
class Squares(Loss):
    """The mean square of the logits, with a closed form."""

    class_labels = False

    def check_labels(self, backend, logits, labels):
        return labels

    def compute(self, ops, logits, labels):
        return ops.xp.mean((logits - labels) ** 2)

    def closed_form(self, ops, logits, labels, *, gradient, upstream):
        wide = logits.dtype if logits.dtype == ops.xp.float64 else ops.xp.float32
        off = ops.xp.astype(logits, wide) - ops.xp.astype(ops.xp.reshape(labels, logits.shape), wide)
        slope = 2 * off / (off.shape[0] * off.shape[1] * off.shape[2])
        return ops.xp.mean(off**2), (slope if upstream is None else slope * upstream) if gradient else None


class WrongSign(Squares):
    def closed_form(self, ops, logits, labels, **others):
        value, slope = super().closed_form(ops, logits, labels, **others)
        return value, None if slope is None else -slope


class NoUpstream(Squares):
    def closed_form(self, ops, logits, labels, *, gradient, upstream):
        return super().closed_form(ops, logits, labels, gradient=gradient, upstream=None)


@dataclass(eq=False)
class Leaks(FocalLoss):
    """Ignored pixels have a gradient, and a batch of them alone is NaN."""

    def compute(self, ops, logits, labels):
        valid = as_weights(ops, split_labels(ops, labels, self.ignore_index).valid, logits)
        return average(ops, logits**2) / average(ops, valid)


class Rounds(Squares):
    """float64 in, float32 inside."""

    closed_form = None

    def compute(self, ops, logits, labels):
        narrow = ops.xp.astype(logits, ops.xp.float32)
        return ops.xp.astype(super().compute(ops, narrow, ops.xp.astype(labels, ops.xp.float32)), logits.dtype)


@dataclass(eq=False)
class OfTwoChannels(FocalLoss):
    def conformance_inputs(self, draws):
        return {"logits": draws.normal(size=(2, 2, 3)), "labels": np.array([[0, 1, 255], [1, 1, 0]])}

    def compute(self, ops, logits, labels):
        assert tuple(logits.shape[1:]) == (2, 3), logits.shape
        return super().compute(ops, logits, labels)
'''

BACKENDS = '''
import array_api_strict
from unilossseg.backends import Backend
from unilossseg.conformance.capabilities import EXPECTED_FAILURE, UNSUPPORTED, Exemption
from datetime import date

LATER = date(2999, 1, 1)


class Writable(Backend):
    assignable = True

    def readable(self, x):
        return True

    def read(self, x):
        return float(array_api_strict.astype(x, array_api_strict.float64))


class Broken(Writable):
    """Its sums by class are short of a part in a thousand."""

    def class_sums(self, values, index, classes):
        return 0.999 * super().class_sums(values, index, classes)


class Crashing(Writable):
    def class_sums(self, values, index, classes):
        import os
        os.write(2, b"last words")
        os._exit(7)


def entry(kind, **changes):
    about = {"features": ("closed form",), "reason": "sums are short", "link": "https://example.org/1", **changes}
    return Exemption(**{"backends": ("mine:KNOWN_TO_BREAK", "mine:KNOWN_TO_LACK"), "kind": kind, "expires": LATER, **about})


class Slopes(Backend):
    """Differentiates by central differences: enough of an autograd to tell which logits a value depends on."""

    differentiable = True

    def value_and_grad(self, function, x, upstream):
        import numpy as np
        xp = array_api_strict
        flat = np.array(x)
        gradient = np.zeros(flat.shape)
        for place in np.ndindex(flat.shape):
            sides = []
            for step in (1e-4, -1e-4):
                moved = flat.copy()
                moved[place] += step
                sides.append(np.array(function(xp.asarray(moved))))
            change = (sides[0] - sides[1]) * (1.0 if upstream is None else np.array(upstream))
            gradient[place] = change.sum() / 2e-4
        return function(x), xp.asarray(gradient)


SLOPES = Slopes("slopes", array_api_strict)
ALONE = Backend("alone", array_api_strict)
GOOD = Writable("good", array_api_strict)
BAD = Broken("bad", array_api_strict)
DEAD = Crashing("dead", array_api_strict)
KNOWN_TO_BREAK = Broken("known", array_api_strict)
KNOWN_TO_BREAK.exceptions = [entry(EXPECTED_FAILURE)]
KNOWN_TO_LACK = Writable("lack", array_api_strict)
KNOWN_TO_LACK.exceptions = [
    entry(UNSUPPORTED, features=("float32",)),
    entry(EXPECTED_FAILURE, features=("float64",), reason="it is fine"),
    entry(UNSUPPORTED, features=("closed form",), losses=("DiceLoss",), expires=date(2020, 1, 1), cases="ties"),
]
NO_BACKEND = 5
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder: losses and backends of their own, and a test that has nothing to do with them."""
    place = tmp_path_factory.mktemp("project")
    (place / "own.py").write_text(LOSSES)
    (place / "mine.py").write_text(BACKENDS)
    (place / "test_other.py").write_text("def test_other():\n    pass\n")
    return place


# --- without an option --------------------------------------------------------------------------------------------------

# What is imported when pytest has finished, and what the plugin has registered.
SEEN = """
import json, sys, pytest
class Look:
    def pytest_unconfigure(self, config):
        names = [name for name in sys.modules if name.startswith("unilossseg.conformance")]
        names += sorted({"torch", "paddle", "typer", "jinja2", "array_api_strict"} & set(sys.modules))
        print("\\nSEEN", json.dumps([names, config.pluginmanager.hasplugin("unilossseg-suite")]))
sys.exit(pytest.main(sys.argv[1:], plugins=[Look()]))
"""


def seen(done):
    line = next(line for line in done.stdout.splitlines() if line.startswith("SEEN "))
    return json.loads(line.removeprefix("SEEN "))


def test_without_an_option_it_does_nothing(folder):
    done = run_pytest(folder, "-q", code=SEEN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert seen(done) == [["unilossseg.conformance", "unilossseg.conformance.pytest_plugin"], False]
    assert "1 passed" in done.stdout


def test_a_backend_of_the_package_has_an_item_for_each_case(folder):
    done = run_pytest(folder, "-v", "-rs", *DICE, "--unilossseg-backend=numpy", "--unilossseg-backend=strict", code=SEEN)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outcomes(done) == {
        f"unilossseg[{backend}]::DiceLoss/paddleseg/plain/{dtype}": "PASSED" if dtype in dtypes else "SKIPPED"
        for backend, dtypes in (("numpy", ("float16", "float32")), ("strict", ("float32",)))
        for dtype in ("float16", "bfloat16", "float32")
    }
    assert "the Array API standard has no float16 (https://data-apis.org/array-api" in done.stdout
    # So the test above can fail. No framework comes into pytest's process either way.
    modules, registered = seen(done)
    assert registered
    assert "unilossseg.conformance.pytest_suite" in modules
    assert not {"torch", "paddle", "array_api_strict"} & set(modules)


# --- backends -----------------------------------------------------------------------------------------------------------


def test_files_that_are_named_run_beside_it(folder):
    chosen = ["--unilossseg-backend=numpy", "--unilossseg-loss=DiceLoss", "-k", "test_other or plain/bfloat16"]
    done = run_pytest(folder, "-q", "test_other.py", *chosen)
    assert counts(done)["passed"] == 1
    # What is left of the backend's cases only skips: that is no success.
    assert counts(done)["skipped"] == 2
    assert done.returncode == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.fixture(scope="module")
def of_backends(folder):
    names = ("GOOD", "ALONE", "BAD", "DEAD", "KNOWN_TO_BREAK", "KNOWN_TO_LACK", "NO_BACKEND")
    backends = [f"--unilossseg-backend=mine:{name}" for name in names]
    chosen = "paddleseg and (plain/float or ties/float64) or L1Loss/-/plain/float32"
    losses = ["--unilossseg-loss=DiceLoss", "--unilossseg-loss=L1Loss"]
    return run_pytest(folder, "-v", "-rxs", *backends, *losses, "--unilossseg-backend=nowhere:IT", "-k", chosen)


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
        "again: pytest --unilossseg-backend=mine:BAD -k 'DiceLoss/paddleseg/plain/float32'",
    ):
        assert part in of_backends.stdout
    assert "Traceback" not in of_backends.stdout.partition("mine:BAD: ")[2].partition("again:")[0]


def test_the_command_that_a_failure_names_repeats_it_alone(folder):
    done = run_pytest(folder, "-v", "--unilossseg-backend=mine:BAD", "-k", "DiceLoss/paddleseg/plain/float32")
    assert outcomes(done) == {"unilossseg[mine:BAD]::DiceLoss/paddleseg/plain/float32": "FAILED"}


def test_a_worker_that_crashes_fails_one_case_and_the_next_gets_another(of_backends):
    found = of_backend(of_backends, "mine:DEAD")
    assert found["DiceLoss/paddleseg/plain/float64"] == "FAILED"
    assert found["L1Loss/-/plain/float32"] == "PASSED"
    assert "ended with exit status 7" in of_backends.stdout
    assert "last words" in of_backends.stdout


def test_a_failure_that_a_backend_expects(of_backends):
    found = of_backend(of_backends, "mine:KNOWN_TO_BREAK")
    assert found["DiceLoss/paddleseg/plain/float64"] == "XFAIL"
    assert "sums are short: value is off by" in of_backends.stdout
    assert "https://example.org/1" in of_backends.stdout


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
    assert "No module named 'nowhere'" in of_backends.stdout


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            "--unilossseg-backend=nmupy",
            "must be one of numpy, strict, torch, paddle, or package.module:BACKEND (got 'nmupy')",
        ),
        ("--unilossseg-backend=mine:", "must be package.module:NAME (got 'mine:')"),
        ("--unilossseg-loss=FocalLoss", "or package.module:Loss (got 'FocalLoss')"),
    ],
)
def test_names_that_cannot_be_are_refused(folder, argument, message):
    done = run_pytest(folder, argument)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr


def test_a_backend_that_is_not_installed_is_refused(folder):
    code = "import sys, pytest, unilossseg.backends as b\nb.is_installed = lambda name: False\n"
    code += "sys.exit(pytest.main(sys.argv[1:]))"
    done = run_pytest(folder, "--unilossseg-backend=paddle", code=code)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "needs paddle, which is not installed: pip install 'unilossseg[paddle]'" in done.stderr


# --- losses -------------------------------------------------------------------------------------------------------------


@pytest.mark.xfail(
    np.lib.NumpyVersion(np.__version__) < "2.0.0",
    reason="on NumPy 1 `building.average` makes float64 out of float32: a plain formula's value has the wrong dtype",
)
def test_one_s_own_losses_on_every_backend_that_is_installed(folder):
    losses = [f"--unilossseg-loss=own:{name}" for name in ("FocalLoss", "SHARP", "Squares", "OfTwoChannels")]
    done = run_pytest(folder, "-v", "-rs", *losses)
    assert done.returncode == 0, done.stdout + done.stderr
    found = outcomes(done)
    for backend in installed_backends():
        for loss in ("FocalLoss", "SHARP", "Squares", "OfTwoChannels"):
            for case in ("plain/float32", "plain/float64", "strided-memory/float64", "upstream-gradient/float64"):
                assert found[f"unilossseg[{backend}]::own:{loss}/{case}"] == "PASSED"
        assert found[f"unilossseg[{backend}]::own:FocalLoss/all-ignored/float64"] == "PASSED"
        assert found[f"unilossseg[{backend}]::own:Squares/several-chunks/float64"] == "PASSED"
    if {"torch", "paddle"} <= set(installed_backends()):
        assert "unilossseg[torch, paddle]::own:FocalLoss/the-same-autograd/float64 PASSED" in done.stdout
    assert "FocalLoss has no closed form, which alone works in chunks" in done.stdout
    assert "Squares has no ignore_index" in done.stdout


@pytest.fixture(scope="module")
def of_losses(folder):
    losses = [f"--unilossseg-loss=own:{name}" for name in ("WrongSign", "NoUpstream", "Leaks", "Needs", "Missing", "Rounds")]
    chosen = "plain/float64 or upstream or (Leaks and all-ignored/float64)"
    return run_pytest(folder, "-v", *losses, "--unilossseg-backend=numpy", "--unilossseg-backend=mine:SLOPES", "-k", chosen)


@pytest.mark.parametrize(
    ("backend", "name", "case", "messages"),
    [
        (
            "numpy",
            "WrongSign",
            "plain/float64",
            ["closed form: gradient is off by 2 of its scale", "from central differences"],
        ),
        ("numpy", "NoUpstream", "upstream-gradient/float64", ["closed form: gradient is off by"]),
        ("mine:SLOPES", "Leaks", "plain/float64", ["at the ignored pixel (0, 0, 0, 0), expected exactly 0"]),
        ("numpy", "Leaks", "all-ignored/float64", ["value is", "at (), expected a finite number"]),
        ("numpy", "Needs", "plain/float64", ["missing 1 required positional argument: 'scale'"]),
        ("numpy", "Missing", "plain/float64", ["module 'own' has no attribute 'Missing'"]),
        ("mine:SLOPES", "Rounds", "plain/float64", ["or it is not computed in float64"]),
    ],
)
def test_a_loss_that_is_wrong_fails(of_losses, backend, name, case, messages):
    assert outcomes(of_losses)[f"unilossseg[{backend}]::own:{name}/{case}"] == "FAILED"
    start = of_losses.stdout.index(f"\n{backend}: own:{name}/{case}\n")
    said, again, _ = of_losses.stdout[start:].partition(
        f"again: pytest --unilossseg-loss=own:{name} --unilossseg-backend={backend} -k 'own:{name}/{case}'"
    )
    assert again
    for message in messages:
        assert message in said
