"""The pytest plugin: losses of one's own, right and wrong."""

import numpy as np
import pytest
from checks.pytest_runs import outcomes, run_pytest

from unilossseg.backends import installed_backends


@pytest.mark.xfail(
    np.lib.NumpyVersion(np.__version__) < "2.0.0",
    reason="on NumPy 1 `building.average` makes float64 out of float32: a plain formula's value has the wrong dtype",
)
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
    losses = [f"--unilossseg-loss=own:{name}" for name in ("WrongSign", "NoUpstream", "Leaks", "Needs", "Missing", "Rounds")]
    chosen = "plain/float64 or upstream or (Leaks and all-ignored/float64)"
    return run_pytest(
        users_folder, "-v", *losses, "--unilossseg-backend=numpy", "--unilossseg-backend=mine:SLOPES", "-k", chosen
    )


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
