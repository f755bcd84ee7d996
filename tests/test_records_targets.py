"""The targets of a record: how a loss is named, imported and called, and in which framework."""

import re
import subprocess
import sys

import pytest
from checks import record_cli
from checks.record_cli import run

import unilossseg
from unilossseg.conformance.records import identity, targets
from unilossseg.conformance.records.errors import RecordError
from unilossseg.conformance.records.targets import Target

MODULE = """
from unilossseg import CrossEntropyLoss as Loss

criterion = Loss()
number = 3

class Spaces:
    inner = Loss()

def make(ignore_index=255):
    return Loss(ignore_index=ignore_index)

def make_needing(ignore_index):
    return Loss(ignore_index=ignore_index)

def of_two(first=1, second=2):
    return Loss()

def nothing():
    return None

def with_noise(logits, labels, noise):
    return logits

def wordless():
    class Wordless(Exception):
        def __str__(self):
            raise ValueError

    raise Wordless

def with_noise_by_keyword(logits, labels, *, noise):
    return logits

class WithNoise:
    def __call__(self, logits, labels, noise):
        return logits

instance = WithNoise()
"""


@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("criterion", {}),
        ("Loss", {}),
        ("Loss", {"ignore_index": 3}),
        ("Spaces.inner", {}),
        ("make", {}),
        ("make()", {}),
        ("make", {"ignore_index": 3}),
        ("make_needing", {"ignore_index": 3}),
        ("of_two()", {}),
    ],
)
def test_targets_of_every_form(project, name, kwargs):
    record_cli.write_module(project, "project_forms", MODULE)
    target = targets.load(f"project_forms:{name}", kwargs)
    assert isinstance(target.call, unilossseg.CrossEntropyLoss)
    assert target.call.ignore_index == kwargs.get("ignore_index", 255)


@pytest.mark.parametrize("name", ["with_noise", "with_noise_by_keyword", "instance"])
def test_a_loss_that_needs_noise_is_no_factory(project, name):
    module = record_cli.write_module(project, "project_forms", MODULE)
    target = targets.load(f"{module}:{name}", {})
    assert target.accepts("noise")
    assert target.call(1, 2, noise=3) == 1


@pytest.mark.parametrize(
    ("name", "kwargs", "said"),
    [
        ("project_forms", {}, "it has another form"),
        ("../up:criterion", {}, "it has another form"),
        ("project_forms:criterion[0]", {}, "it has another form"),
        ("project_none:criterion", {}, "importing project_none failed with ModuleNotFoundError"),
        ("project_broken:criterion", {}, "importing project_broken failed with ZeroDivisionError"),
        ("project_exits:criterion", {}, "importing project_exits failed with SystemExit: 3"),
        ("project_forms:missing", {}, "has no attribute 'missing'"),
        ("project_forms:number", {}, "it is a int"),
        ("project_forms:nothing()", {}, "constructing it gave a NoneType"),
        ("project_forms:make_needing()", {}, "missing 1 required positional argument"),
        ("project_forms:Loss", {"smooth": 1}, "constructing it failed with TypeError"),
    ],
)
def test_targets_that_are_none(project, name, kwargs, said):
    record_cli.write_module(project, "project_forms", MODULE)
    record_cli.write_module(project, "project_broken", "1 / 0")
    record_cli.write_module(project, "project_exits", "raise SystemExit(3)")
    with pytest.raises(RecordError, match=re.escape(said)):
        targets.load(name, kwargs)


def test_a_loss_that_fails_is_named_with_its_case(project):
    said = run("record", "unilossseg:CrossEntropyLoss", "--ignore-index", "7", "--out", "ref.uls", expect=2)
    assert "case 'ignored'" in said
    assert "--ignore-index" in said


def test_a_loss_whose_error_has_no_words(project):
    name = record_cli.write_module(project, "project_losses", MODULE)
    assert "constructing it failed with Wordless; expected a loss" in run(
        "record", f"{name}:wordless()", "--out", "r", expect=2
    )


def test_a_replay_that_fails_names_no_option_that_it_lacks(project):
    run("record", "unilossseg:CrossEntropyLoss", "--out", "ref.uls", *record_cli.SMALL)
    kwargs = ("--kwargs", '{"ignore_index": 7}')
    said = run("replay", "ref.uls", "unilossseg:CrossEntropyLoss", *kwargs, "--out", "new.uls", expect=2)
    assert "case 'ignored'" in said
    assert "If the record's ignored label, 255, is not the target's, give it with --kwargs; or record again" in said
    for option in ("--ignore-index", "--case", "--with", "--inputs"):
        assert option not in said


def test_numpy_has_no_autograd(project):
    record_cli.write_module(project, "project_plain", "def loss(logits, labels):\n    return logits.mean()\n")
    said = run("record", "project_plain:loss", "--framework", "numpy", "--out", "ref.uls", expect=2)
    assert "expected a loss of unilossseg" in said


@pytest.mark.parametrize(
    ("loaded", "installed", "expected"),
    [
        ({"torch"}, {"torch", "paddle"}, "torch"),
        ({"paddle"}, {"torch", "paddle"}, "paddle"),
        (set(), {"paddle"}, "paddle"),
        (set(), set(), "numpy"),
        (set(), {"torch", "paddle"}, "neither torch nor paddle"),
        ({"torch", "paddle"}, {"torch", "paddle"}, "both torch and paddle"),
    ],
)
def test_the_framework_is_found_out_or_asked_for(monkeypatch, loaded, installed, expected):
    monkeypatch.setattr(identity, "is_installed", lambda name: name in installed)
    target = Target("project:loss", {}, lambda logits, labels: None, frozenset(loaded))
    if expected in identity.FRAMEWORKS:
        assert identity.framework_of(target, None) == expected
        return
    with pytest.raises(RecordError, match=expected) as caught:
        identity.framework_of(target, None)
    assert "--framework" in caught.value.remedy
    assert identity.framework_of(target, "paddle") == "paddle"


@pytest.mark.parametrize("attributes", ["", "class Tensor: pass"])
def test_a_module_that_only_has_a_frameworks_name_is_refused(project, attributes):
    record_cli.write_module(project, "torch", attributes)
    code = "from unilossseg.conformance.records.identity import genuine\ngenuine('torch')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=project)
    assert "RecordError" in done.stderr
    assert "expected the real torch" in done.stderr


MEANS = """
import sys

from unilossseg import Loss


class Ends(Loss):
    def compute(self, ops, logits, labels):
        sys.exit(0)


class Empty(Loss):
    def compute(self, ops, logits, labels):
        return logits.reshape(-1)[:0]


def ends_early():
    sys.exit(0)
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Ends", "case 'plain': it fails with SystemExit: 0"),
        ("ends_early()", "constructing it failed with SystemExit: 0"),
        ("Empty", "its value has shape (0,), without a number; expected at least one number"),
    ],
)
def test_a_loss_that_gives_no_number_is_an_error(project, name, said):
    record_cli.write_module(project, "project_ends", MEANS)
    run("record", "unilossseg:DiceLoss", "--out", "ref.uls", *record_cli.SMALL)
    target = f"project_ends:{name}"
    assert said in run("record", target, "--framework", "numpy", "--out", "new.uls", *record_cli.SMALL, expect=2)
    assert said in run("replay", "ref.uls", target, "--framework", "numpy", "--out", "new.uls", expect=2)
    assert not (project / "new.uls").exists()
