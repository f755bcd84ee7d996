"""Records: what `record` and `replay` keep, and what `compare` says of it. No framework is imported here."""

import os

import numpy as np
import pytest
from checks.record_cli import SMALL, run

import unilossseg
from unilossseg.conformance.records import file, inputs


def test_a_replay_of_the_same_loss_is_the_same(project):
    run("record", "unilossseg:DiceLoss", "--out", "ref.uls", *SMALL)
    run("replay", "ref.uls", "unilossseg:DiceLoss", "--out", "cand.uls")
    said = run("compare", "ref.uls", "cand.uls")
    assert "nothing changed: values and gradients agree in 5 cases" in said


def test_another_loss_is_different_and_exits_with_1(project):
    run("record", "unilossseg:DiceLoss", "--out", "ref.uls", *SMALL)
    run("replay", "ref.uls", "unilossseg:DiceLoss", "--kwargs", '{"smooth": 1.0}', "--out", "cand.uls")
    said = run("compare", "ref.uls", "cand.uls", expect=1)
    assert "different: 5 of 5 cases" in said
    assert "smooth=1.0" in said


def test_the_same_seed_gives_the_same_file(project):
    for name, seed in (("one", 3), ("two", 3), ("three", 4)):
        run("record", "unilossseg:CrossEntropyLoss", "--seed", seed, "--out", name, *SMALL)
    one, two, three = ((project / name).read_bytes() for name in ("one", "two", "three"))
    assert one == two != three


def test_a_record_holds_what_the_loss_gives(project):
    run("record", "unilossseg:CrossEntropyLoss", "--out", "ref.uls", *SMALL)
    found = file.read(project / "ref.uls")
    assert (found.target, found.ignore_index, found.kwargs) == ("unilossseg:CrossEntropyLoss", 255, {})
    assert found.environment["framework"] == "numpy"
    assert found.environment["version"] == np.__version__
    assert [case.name for case in found.cases] == list(inputs.GENERATED)
    for case in found.cases:
        logits, labels = case.inputs["logits"].data, case.inputs["labels"].data
        value, gradient = unilossseg.value_and_grad(unilossseg.CrossEntropyLoss())(logits, labels)
        assert case.value.data == value
        np.testing.assert_array_equal(case.gradient.data, gradient)
        assert case.repeatable


def test_generated_cases_are_what_they_are_called(project):
    cases = inputs.generated(inputs.Recipe(ignore_index=254), (*inputs.GENERATED, *inputs.ON_REQUEST))
    labels = {name: case["labels"].data for name, case in cases.items()}
    assert {name: (labels[name] == 254).any() for name in labels} == {
        "plain": False,
        "ignored": True,
        "absent": True,
        "confident": False,
        "single": True,
        "extreme": False,
    }
    assert 4 in labels["plain"]
    assert 4 not in labels["absent"]
    assert labels["single"].shape[0] == 1
    assert np.ptp(cases["confident"]["logits"].data) > 30
    assert np.ptp(cases["extreme"]["logits"].data) > 100


@pytest.mark.parametrize("shape", ["4,1", "3,4", "2,1,5", "2,3,2,2,2"])
def test_other_shapes_are_generated_too(project, shape):
    said = run("record", "unilossseg:BCELoss", "--shape", shape, "--out", "ref.uls")
    assert "Recorded in ref.uls" in said
    assert file.read(project / "ref.uls").cases[0].inputs["logits"].shape == tuple(map(int, shape.split(",")))


def test_an_older_record_stays_when_the_new_one_fails(project):
    (project / "ref.uls").write_bytes(b"older")
    run("record", "unilossseg:EdgeAttentionLoss", "--out", "ref.uls", expect=2)
    assert (project / "ref.uls").read_bytes() == b"older"
    assert [path.name for path in project.iterdir()] == ["ref.uls"]


def test_nothing_is_left_where_writing_fails(project, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    said = run("record", "unilossseg:DiceLoss", "--out", "ref.uls", expect=2)
    assert "disk full" in said
    assert list(project.iterdir()) == []


def test_help_says_what_is_imported_and_what_exit_codes_mean():
    for command in ("record", "replay"):
        said = " ".join(run(command, "--help").split())
        assert "imported from the current directory" in said
        assert "Exit codes: 0" in said
    assert "1, something is different" in " ".join(run("compare", "--help").split())
