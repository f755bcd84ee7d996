"""The pytest plugin: losses of one's own that are right, whatever else is unusual about them."""

import inspect

import pytest
from checks import right_losses
from checks.pytest_runs import outcomes, run_pytest

from unilossseg.backends import installed_backends

HELD = ("INIT_VAR", "OWN_INIT", "DOUBLING", "WITH_SLOTS")
LOSSES = (
    *HELD,
    "OneClass",
    "OneColumn",
    "OneImage",
    "Edges",
    "Bytes",
    "Huge",
    "Smoothed",
    "MeanAbsolute",
    "SoftIoU",
    "Finer",
)


def brings(name):
    reason = f"{name} brings its inputs, which are taken as they are"
    return {"byte-labels": reason, "confident-pixels": reason}


#: What is skipped of each, and why.
SKIPPED = {
    **{name: {"all-ignored": "has no ignore_index", "byte-labels": "has labels that are no classes"} for name in HELD},
    "OneClass": {
        "strided-memory": "OneClass brings logits of shape (8, 1), which are in one piece in whichever order",
        **brings("OneClass"),
    },
    "OneColumn": brings("OneColumn"),
    "OneImage": brings("OneImage"),
    "Finer": brings("Finer"),
    "Bytes": {"all-ignored": "Bytes has labels of uint8, which cannot hold its ignore_index, -100", **brings("Bytes")},
    "Huge": {"all-ignored": "Huge has labels of int64, which cannot hold its ignore_index, 18446744073709551615"},
}


@pytest.fixture(scope="module")
def done(users_folder):
    (users_folder / "right.py").write_text(inspect.getsource(right_losses))
    losses = [f"--unilossseg-loss=right:{name}" for name in LOSSES]
    return run_pytest(users_folder, "-v", "-rs", *losses, "-k", "float64 and not chunks")


@pytest.mark.parametrize("name", LOSSES)
def test_a_right_loss_passes_on_every_backend(done, name):
    found = {tuple(item.split(f"::right:{name}/")): what for item, what in outcomes(done).items() if f":{name}/" in item}
    skipped = SKIPPED.get(name, {})
    cases = ("plain", "all-ignored", "strided-memory", "upstream-gradient", "byte-labels", "confident-pixels")
    for backend in installed_backends():
        for case in cases:
            wanted = "SKIPPED" if case in skipped else "PASSED"
            assert found[f"unilossseg[{backend}]", f"{case}/float64"] == wanted, done.stdout
    assert "FAILED" not in found.values()
    for reason in skipped.values():
        assert reason in done.stdout
