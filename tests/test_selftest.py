"""The self-test: that its defects are real and leave no trace, and that a suite that cannot see fails it."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from unilossseg import LOSSES
from unilossseg.backends import Backend
from unilossseg.backends._numpy import NumPyBackend
from unilossseg.conformance import cli, defects
from unilossseg.conformance.cases import all_cases, selected
from unilossseg.conformance.defects import DEFECTS, Defect, PlantingError, dice, hard_pixels, loops, lovasz, planted
from unilossseg.conformance.defects._changes import NUMPY
from unilossseg.conformance.defects.command import _chosen
from unilossseg.conformance.frameworks import FRAMEWORKS
from unilossseg.conformance.known import Known
from unilossseg.conformance.pool import WorkerError
from unilossseg.conformance.protocol import PLAIN_FORMULA
from unilossseg.conformance.results import Result
from unilossseg.conformance.run import Prepared
from unilossseg.conformance.selftest import Trial, _Settings, _Sitting, _trial
from unilossseg.conformance.verdict import CONFORM, DIFFERS, ERRORED, Verdict, judge
from unilossseg.losses import BootstrappedCrossEntropyLoss, DiceLoss
from unilossseg.losses.ohem import OhemSelection

ON_NUMPY = [defect for defect in DEFECTS.values() if defect.backend == "numpy"]
# Few defects with few cases: each run starts a process.
FEW = ["--backend", "numpy", "--loss", "L1Loss"]


def command(*arguments):
    done = CliRunner().invoke(cli.app, ["conformance", "selftest", *arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def worker_with(tmp_path, monkeypatch):
    """Runs some code at the start of every worker that plants defects, and of no other process."""

    def install(code):
        condition = "if 'unilossseg.conformance.defects.worker' in sys.orig_argv:\n"
        (tmp_path / "sitecustomize.py").write_text(
            "import os, sys\n" + condition + textwrap.indent(textwrap.dedent(code), "    ")
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")])))

    return install


# --- the defects ------------------------------------------------------------------------------------------------------


def test_a_new_file_of_defects_is_found(tmp_path):
    shutil.copytree(Path(defects.__file__).parent, tmp_path / "defects")
    (tmp_path / "defects" / "new.py").write_text(
        "from unilossseg.conformance.defects._patching import defect\n"
        "@defect('L1Loss')\n"
        "def found_in_a_new_file(patches):\n"
        "    'It is there.'\n"
    )
    code = """
        import sys, unilossseg.conformance
        unilossseg.conformance.__path__.insert(0, sys.argv[1])
        from unilossseg.conformance.defects import DEFECTS
        print(*DEFECTS)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {*DEFECTS, "found-in-a-new-file"}


def test_every_loss_has_defects_and_every_defect_says_what_it_does():
    concerned = [name for defect in ON_NUMPY for name in defect.losses]
    assert {name for name in LOSSES if concerned.count(name) >= 4} == set(LOSSES)
    assert set(concerned) == set(LOSSES)
    assert {defect.backend for defect in DEFECTS.values()} == {"numpy", "torch", "paddle"}
    descriptions = [defect.description for defect in DEFECTS.values()]
    assert all(descriptions)
    assert all(len(defect.losses) == len(set(defect.losses)) > 0 for defect in DEFECTS.values())


def _code():
    """Everything in the losses and the adapters that a defect might replace, by place."""
    owners = [
        module
        for name, module in sys.modules.items()
        if name.startswith("unilossseg") and not name.startswith("unilossseg.conformance")
    ]
    classes = {kind for owner in owners for kind in vars(owner).values() if isinstance(kind, type)}
    return {
        (getattr(owner, "__module__", ""), owner.__name__, key): value
        for owner in (*owners, *classes)
        for key, value in vars(owner).items()
    }


@pytest.mark.parametrize("defect", ON_NUMPY, ids=lambda defect: defect.name)
def test_a_defect_changes_the_code_and_leaves_no_trace(defect):
    before = _code()
    with planted(defect):
        inside = _code()
        assert any(inside.get(place) is not value for place, value in before.items()) or set(inside) != set(before)
    after = _code()
    assert after.keys() == before.keys()
    assert all(after[place] is value for place, value in before.items())


def test_a_defect_leaves_no_trace_where_the_case_raises():
    before = _code()
    with pytest.raises(ZeroDivisionError), planted(DEFECTS["dice-eps"]):
        raise ZeroDivisionError
    assert all(_code()[place] is value for place, value in before.items())


def test_a_defect_that_fits_nothing_is_no_defect():
    stale = Defect("stale", "", ("L1Loss",), lambda patches: patches.replace(DiceLoss, "no_such_thing", None))
    with pytest.raises(PlantingError, match="stale: AttributeError"), planted(stale):
        pass


# Some defects are copies of a method with one thing changed: the copy itself must be right.
COPIES = {
    "bootstrapped": (
        "BootstrappedCrossEntropyLoss",
        BootstrappedCrossEntropyLoss,
        "pixel_weights",
        hard_pixels.bootstrapped_weights,
    ),
    "ohem": ("OhemCrossEntropyLoss", OhemSelection, "kept", hard_pixels.kept_pixels),
    "dice": ("DiceLoss", DiceLoss, "_from_sums", dice.from_sums),
    "lovasz": ("LovaszSoftmaxLoss", NUMPY, "lovasz", lovasz.jaccard_terms),
    "hinge": ("LovaszHingeLoss", NUMPY, "lovasz", lovasz.jaccard_terms),
    "hinge errors": ("LovaszHingeLoss", NUMPY, "hinge_errors", lovasz.hinge_errors),
    "plain loop": ("CrossEntropyLoss", NUMPY, "plain_cross_entropy", loops.plain_loop),
    "binary loop": ("BCELoss", NUMPY, "binary_cross_entropy", loops.binary_loop),
    "counting binary loop": (
        "BCELoss",
        NUMPY,
        "counted_binary_cross_entropy",
        lambda: loops.counted_binary(loops.binary_loop()),
    ),
    "counting loop of distances": (
        "L1Loss",
        NUMPY,
        "counted_differences",
        lambda: loops.counted_differences(loops.difference_loop()),
    ),
    "loop of distances": ("L1Loss", NUMPY, "differences", loops.difference_loop),
    "loop of squares": ("MSELoss", NUMPY, "differences", loops.difference_loop),
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_without_its_change_conforms(name, tmp_path, monkeypatch):
    loss, owner, attribute, copy = COPIES[name]
    monkeypatch.setattr(owner, attribute, copy())
    numpy = FRAMEWORKS["numpy"]("numpy")
    # Labels are counted on the way in float32 alone.
    for number, case in enumerate(selected([loss], "float32" if name.startswith("counting") else "float64")):
        item = Prepared(number, case, tmp_path)
        for mode, outcome in numpy.run(item.request("numpy"), dict(case.arrays)).items():
            verdict = judge(case, outcome, item.reference(), due=mode != PLAIN_FORMULA)
            assert verdict.status == CONFORM, (case.id, verdict.message)


def _showing(defect, cases, folder):
    """The cases whose closed form shows the defect."""
    numpy = FRAMEWORKS["numpy"]("numpy")
    for number, case in enumerate(cases):
        item = Prepared(number, case, folder)
        with planted(defect):
            outcome = numpy.run(item.request("numpy"), {key: x.copy() for key, x in case.arrays.items()})["closed form"]
        if judge(case, outcome, item.reference()).status == DIFFERS or (defect.crashes and defect.crashes in outcome.error):
            yield case.id


@pytest.mark.skipif(NUMPY is NumPyBackend, reason="there are no compiled loops here")
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("defect", ON_NUMPY, ids=lambda defect: defect.name)
def test_compiled_loops_do_not_pass_a_defect_by(defect, tmp_path, monkeypatch):
    # The loops take float32: elsewhere a defect shows that they never meet.
    cases = [case for case in all_cases(defect.losses) if case.dtype == "float32" and case.quick]
    with_loops = list(_showing(defect, cases, tmp_path))
    for name in set(vars(NUMPY)) & set(dir(Backend)):
        if not name.startswith("_"):
            monkeypatch.setattr(NUMPY, name, getattr(NumPyBackend, name))
    assert list(_showing(defect, cases, tmp_path)) == with_loops


# --- the command ------------------------------------------------------------------------------------------------------


def test_a_suite_that_sees_passes():
    done = command(*FEW)
    assert done.exit_code == 0, done.stdout
    assert "defects seen in every loss that they concern (100.0 %)" in done.stdout
    assert "l1-kink" in done.stdout
    assert "NOT SEEN" not in done.stdout


def test_a_thorough_run_tells_how_many_results_show_a_defect():
    done = command("--backend", "numpy", "-k", "l1-", "--thorough")
    assert done.exit_code == 0
    counts = [line for line in done.stdout.splitlines() if " of " in line and "L1:" in line]
    assert len(counts) == 3


def test_a_suite_that_always_says_yes_fails(monkeypatch):
    monkeypatch.setattr("unilossseg.conformance.run.judge", lambda *arguments: Verdict(CONFORM))
    done = command(*FEW, "-k", "l1-")
    assert done.exit_code == 1
    assert "not seen: l1-kink in L1Loss: The derivative of |x| at 0 is 1; every result conforms" in done.stdout
    assert "0 of 3 defects seen" in done.stdout


def test_a_suite_that_always_says_no_fails(monkeypatch):
    monkeypatch.setattr("unilossseg.conformance.run.judge", lambda *arguments: Verdict(DIFFERS, "no"))
    done = command(*FEW, "-k", "l1-")
    assert done.exit_code == 1
    assert "3 of 3 defects seen" in done.stdout
    assert "differs with no defect planted: numpy, L1Loss/" in done.stdout


def test_a_suite_that_looks_at_values_alone_fails(monkeypatch):
    def blind(case, outcome, reference, native, due):
        return judge(case, outcome, reference, native, due) if outcome.gradient is None else Verdict(CONFORM)

    monkeypatch.setattr("unilossseg.conformance.run.judge", blind)
    done = command(*FEW, "-k", "l1-s")
    assert done.exit_code == 1
    assert "not seen: l1-sign in L1Loss" in done.stdout


def test_a_suite_that_asks_for_no_gradient_fails(monkeypatch):
    monkeypatch.setattr(Known, "owes_gradient", lambda self, mode: False)
    done = command(*FEW, "-k", "no-gradient")
    assert done.exit_code == 1
    assert "not seen: no-gradient in L1Loss" in done.stdout


def test_an_exception_is_no_sight():
    assert not Trial("L1Loss", results=3, errored=3).seen
    assert Trial("L1Loss", results=3, differing=1, errored=2).seen


@pytest.mark.parametrize(
    ("name", "words", "seen"),
    [
        ("logits-overwritten", "OverwrittenError: logits, the caller's own", True),
        ("logits-overwritten", "AttributeError: 'Call' object has no attribute", False),
        ("labels-overwritten", "OverwrittenError: logits, the caller's own", False),
        ("l1-sign", "OverwrittenError: logits, the caller's own", False),
    ],
)
def test_but_the_exception_that_a_defect_announces_is(name, words, seen):
    """Another one may be the defect's own, which has grown stale."""
    errored = SimpleNamespace(verdict=Verdict(ERRORED, words), case=SimpleNamespace(id="plain"), mode="closed form")
    trial = _trial("L1Loss", [errored, errored], DEFECTS[name])
    assert (trial.errored, trial.showing, trial.seen) == (2, 2 * seen, seen)


@pytest.mark.parametrize("first_only", [True, False], ids=["while the rest is read", "at the next case"])
def test_what_was_seen_before_a_worker_died_stays_seen(monkeypatch, first_only):
    defect = DEFECTS["logits-overwritten"]
    (case, *_) = selected([defect.losses[0]], "plain/float32")

    def results(self, items, defect):
        try:
            yield Result(case, "numpy", "closed form", Verdict(ERRORED, defect.crashes))
        finally:
            # Both where it is closed and where more is asked for.
            raise WorkerError("it died")

    monkeypatch.setattr(_Sitting, "_results", results)
    sitting = _Sitting("numpy", [defect], [], Path(), _Settings(first_only, 1.0, lambda: None))
    assert sitting._try(defect, defect.losses[0]) == Trial(
        defect.losses[0], results=2, differing=0, errored=2, announced=1, first="it died"
    )


def test_a_name_is_found_in_capitals_too():
    assert _chosen(None, ["L1Loss"], "L1-SIGN") == _chosen(None, ["L1Loss"], "l1-sign")


def test_a_stale_defect_cannot_be_tried(worker_with):
    worker_with("""
        from unilossseg.conformance.defects import DEFECTS
        from unilossseg.losses import L1Loss
        object.__setattr__(DEFECTS["l1-sign"], "plant", lambda patches: patches.replace(L1Loss, "gone", None))
    """)
    done = command(*FEW, "-k", "l1-")
    assert done.exit_code == 2
    assert "a defect does not fit the code any more: l1-sign: AttributeError" in done.stderr


def test_a_defect_that_takes_its_worker_along_is_not_seen_and_the_others_are(worker_with):
    worker_with("""
        from unilossseg.conformance.defects import DEFECTS
        object.__setattr__(DEFECTS["l1-sign"], "plant", lambda patches: os._exit(3))
    """)
    done = command(*FEW, "-k", "l1-")
    assert done.exit_code == 1
    assert "not seen: l1-sign in L1Loss" in done.stdout
    assert "ended with exit status 3" in done.stdout
    assert "2 of 3 defects seen" in done.stdout


def test_a_worker_that_keeps_a_defect_is_found_out(worker_with):
    worker_with("""
        from unilossseg.conformance.defects import Patches
        Patches.undo = lambda self: None
    """)
    done = command(*FEW, "-k", "l1-sign")
    assert done.exit_code == 1
    assert "with no defect planted" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--backend", "strict"], "--backend must be one of numpy, torch, paddle (got 'strict')"),
        (["--loss", "FocalLoss"], "(got 'FocalLoss')"),
        (["-k", "no such defect"], "no name contains 'no such defect'"),
        (["--quick", "--backend", "torch", "-k", "l1-"], "no defect is selected"),
    ],
)
def test_it_exits_with_2_where_it_cannot_run(arguments, said):
    done = command(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr


def test_backends_that_are_not_installed_are_named_and_not_counted(monkeypatch):
    monkeypatch.setattr("unilossseg.conformance.defects.command.is_installed", lambda name: name == "numpy")
    done = command("--loss", "L1Loss", "-k", "upstream-dropped")
    assert done.exit_code == 0
    assert "not tried: 1 defects of torch, which is not installed: pip install 'unilossseg[torch]'" in done.stdout
    asked = command("--backend", "torch")
    assert asked.exit_code == 2
    assert "needs torch, which is not installed" in asked.stderr


@pytest.mark.parametrize("name", ["logits", "labels"])
def test_the_suite_also_sees_what_is_written_over_its_inputs(tmp_path, name):
    numpy, (case, *_) = FRAMEWORKS["numpy"]("numpy"), selected(["CrossEntropyLoss"], "plain/float32")
    with planted(DEFECTS[f"{name}-overwritten"]):
        outcomes = numpy.run(Prepared(0, case, tmp_path).request("numpy"), dict(case.arrays))
    assert outcomes[PLAIN_FORMULA].error == ""
    assert f"OverwrittenError: {name}, the caller's own" in outcomes["closed form"].error
