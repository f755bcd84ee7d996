"""The pytest plugin: losses of one's own, right and wrong."""

import pytest
from checks.pytest_runs import outcomes, run_pytest

from unilossseg.backends import installed_backends


def test_one_s_own_losses_on_every_backend_that_is_installed(users_folder):
    losses = [f"--unilossseg-loss=own:{name}" for name in ("FocalLoss", "SHARP", "Squares", "OfTwoChannels")]
    done = run_pytest(users_folder, "-v", "-rs", *losses)
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
def of_losses(users_folder):
    names = ("WrongSign", "NoUpstream", "Leaks", "Needs", "Missing", "Rounds", "Wraps", "Smoothed")
    losses = [f"--unilossseg-loss=own:{name}" for name in names]
    chosen = "plain/float64 or upstream or (Leaks and all-ignored/float64) or (Wraps and byte)"
    return run_pytest(
        users_folder, "-v", *losses, "--unilossseg-backend=numpy", "--unilossseg-backend=mine:SLOPES", "-k", chosen
    )


def test_a_closed_form_without_a_gradient_fails(users_folder, tmp_path):
    code = "value, _ = super().closed_form(*arguments, **others)\n        return value, None"
    (tmp_path / "lacking.py").write_text(
        "from own import Squares\n\n\nclass NoGradient(Squares):\n"
        f"    def closed_form(self, *arguments, **others):\n        {code}\n"
    )
    chosen = ["--unilossseg-loss=lacking:NoGradient", "--unilossseg-backend=numpy", "-k", "plain/float64"]
    done = run_pytest(users_folder, "-v", *chosen, PYTHONPATH=str(tmp_path))
    assert outcomes(done) == {"unilossseg[numpy]::lacking:NoGradient/plain/float64": "FAILED"}
    assert "  closed form: differs: there is no gradient\n" in done.stdout
    assert "plain formula: " not in done.stdout


#: What is wrong with each, and what is said to be expected.
NO_LOSSES = {
    "Missing": ("AttributeError: module 'own' has no attribute 'Missing'", "expected package.module:NAME"),
    "NUMBER": ("it is 7, of type int", "expected a unilossseg.Loss, its class or a function that makes one"),
    "np.float64": (", of type float64; expected a unilossseg.Loss", "Derive the class from unilossseg.Loss."),
    "Needs": (
        "called without arguments it raises TypeError: Needs.__init__() missing 1 required positional argument: 'scale'",
        "Name an object, as in FOCAL = FocalLoss(gamma=2.0), or a function that makes it.",
    ),
    "WithoutLabels": (
        "it returns no 'labels'",
        "a dict of arrays of numbers: logits, labels. docs/pytest.md has an example.",
    ),
    "Seven": ("it returns 7", "expected a method of a numpy.random.Generator that returns a dict"),
    "Further": ("it returns 'sizes' as well", "expected a method of a numpy.random.Generator that returns a dict"),
    "Words": ("its labels are of dtype <U4 and shape ()", "floating-point logits, and an axis or more"),
    "Ragged": ("what it returns is no array: ValueError", "returns a dict of arrays of numbers: logits, labels"),
    "TakesNothing": ("it raises TypeError: TakesNothing.conformance_inputs() takes 1", "docs/pytest.md has an example."),
    "Raises": ("own:Raises, its formula in NumPy: it raises KeyError: 'road'", "Call the loss with NumPy's arrays"),
    "GivesNothing": ("it returns array(None, dtype=object); expected numbers in float64", "See what `compute` returns."),
}


@pytest.fixture(scope="module")
def of_no_losses(users_folder):
    losses = [f"--unilossseg-loss=own:{name}" for name in (*NO_LOSSES, "Squares")]
    return run_pytest(users_folder, "-v", *losses, "--unilossseg-backend=numpy", "-k", "plain/float64 or strided")


@pytest.mark.parametrize("name", NO_LOSSES)
@pytest.mark.parametrize("case", ["plain/float64", "strided-memory/float64"])
def test_what_is_no_loss_is_told_in_a_line(of_no_losses, name, case):
    assert outcomes(of_no_losses)[f"unilossseg[numpy]::own:{name}/{case}"] == "FAILED"
    _, _, said = of_no_losses.stdout.partition(f"\nnumpy: own:{name}/{case}\n")
    line, again, *_ = said.splitlines()
    assert line.startswith(f"  own:{name}")
    for part in NO_LOSSES[name]:
        assert part in line
    assert again.startswith("  again: pytest ")


def test_a_right_loss_beside_them_is_checked(of_no_losses):
    assert outcomes(of_no_losses)["unilossseg[numpy]::own:Squares/plain/float64"] == "PASSED"


@pytest.mark.parametrize(
    ("backend", "name", "case", "messages"),
    [
        (
            "numpy",
            "WrongSign",
            "plain/float64",
            ["closed form: differs: gradient is off by 2 of its scale", "from central differences"],
        ),
        ("numpy", "NoUpstream", "upstream-gradient/float64", ["closed form: differs: gradient is off by"]),
        ("mine:SLOPES", "Leaks", "plain/float64", ["at the ignored pixel (0, 0, 0, 0), expected exactly 0"]),
        ("numpy", "Leaks", "all-ignored/float64", ["value is", "at (), expected a finite number"]),
        ("numpy", "Needs", "plain/float64", ["missing 1 required positional argument: 'scale'"]),
        ("numpy", "Missing", "plain/float64", ["module 'own' has no attribute 'Missing'"]),
        ("mine:SLOPES", "Rounds", "plain/float64", ["or it is not computed in float64"]),
        ("numpy", "Wraps", "byte-labels/float64", ["closed form: differs: value is off by"]),
        (
            "mine:SLOPES",
            "Smoothed",
            "plain/float64",
            ["expected exactly 0: a loss that looks at a pixel's neighbours says so by `conformance_neighbourhood = True`"],
        ),
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


def test_labels_of_int64_alone_say_nothing_of_bytes(of_losses):
    assert outcomes(of_losses)["unilossseg[numpy]::own:Wraps/plain/float64"] == "PASSED"


@pytest.mark.parametrize("backend", [name for name in ("torch", "paddle") if name in installed_backends()])
def test_a_gradient_that_is_nan_where_pixels_are_sure_fails(users_folder, backend):
    chosen = [f"--unilossseg-backend={backend}", "-k", "plain/float64 or confident"]
    done = run_pytest(users_folder, "-v", "--unilossseg-loss=own:SHARPEST", "--unilossseg-loss=own:SHARP", *chosen)
    assert {name.partition("own:")[2]: what for name, what in outcomes(done).items()} == {
        "SHARPEST/plain/float64": "PASSED",
        "SHARPEST/confident-pixels/float64": "FAILED",
        "SHARP/plain/float64": "PASSED",
        "SHARP/confident-pixels/float64": "PASSED",
    }
    assert "gradient is nan at (" in done.stdout


def test_exceptions_that_a_backend_brings_are_about_one_s_own_losses_too(users_folder):
    names = ("KNOWN_TO_BREAK", "KNOWN_TO_LACK", "GONE")
    chosen = [*(f"--unilossseg-backend=mine:{name}" for name in names), "-k", "plain/float32 or plain/float64"]
    done = run_pytest(users_folder, "-v", "-rx", "--unilossseg-loss=own:WrongSign", "--unilossseg-loss=own:Squares", *chosen)
    found = {tuple(name.removeprefix("unilossseg[mine:").split("]::own:")): what for name, what in outcomes(done).items()}
    assert found == {
        ("KNOWN_TO_BREAK", "WrongSign/plain/float32"): "XFAIL",
        ("KNOWN_TO_BREAK", "WrongSign/plain/float64"): "XFAIL",
        ("KNOWN_TO_BREAK", "Squares/plain/float32"): "FAILED",
        ("KNOWN_TO_BREAK", "Squares/plain/float64"): "FAILED",
        ("KNOWN_TO_LACK", "WrongSign/plain/float32"): "SKIPPED",
        ("KNOWN_TO_LACK", "WrongSign/plain/float64"): "FAILED",
        ("KNOWN_TO_LACK", "Squares/plain/float32"): "SKIPPED",
        ("KNOWN_TO_LACK", "Squares/plain/float64"): "FAILED",
        # What it brings has expired.
        ("GONE", "WrongSign/plain/float32"): "FAILED",
        ("GONE", "WrongSign/plain/float64"): "FAILED",
        ("GONE", "Squares/plain/float32"): "FAILED",
        ("GONE", "Squares/plain/float64"): "PASSED",
    }
    assert "sums are short: gradient is off by 2 of its scale" in done.stdout
    assert "conforms, and was expected to fail (sums are short): remove the exception" in done.stdout
    assert "closed form: errored: the exception for float32 on mine:GONE expired on 2020-01-01" in done.stdout
