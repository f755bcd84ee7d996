"""What a loss is recorded with: inputs of one's own, further ones, random numbers, and options that are refused."""

import contextlib
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from checks import record_cli
from checks.record_cli import SMALL, run

import unilossseg
from unilossseg.conformance.records import file, inputs
from unilossseg.conformance.records.errors import RecordError


def batch(seed=0, shape=(2, 3, 4, 5), dtype=np.float32):
    draws = np.random.default_rng(seed)
    return {
        "logits": draws.normal(size=shape).astype(dtype),
        "labels": draws.integers(0, shape[1], (shape[0], *shape[2:])),
    }


def test_inputs_of_ones_own(project):
    np.savez(project / "batch.npz", **batch())
    run("record", "unilossseg:DiceLoss", "--inputs", "batch.npz", "--out", "ref.uls")
    (case,) = file.read(project / "ref.uls").cases
    assert case.name == "batch"
    np.testing.assert_array_equal(case.inputs["logits"].data, batch()["logits"])


def test_several_cases_of_ones_own(project):
    arrays = {f"{name}/{key}": array for name, seed in (("a", 1), ("b", 2)) for key, array in batch(seed).items()}
    np.savez(project / "batch.npz", **arrays)
    run("record", "unilossseg:DiceLoss", "--inputs", "batch.npz", "--dtype", "float64", "--out", "ref.uls")
    cases = file.read(project / "ref.uls").cases
    assert [(case.name, case.inputs["logits"].dtype, case.value.dtype) for case in cases] == [
        ("a", "float64", "float64"),
        ("b", "float64", "float64"),
    ]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"logits": batch()["logits"]}, "it has no labels"),
        ({**batch(), "extra": np.zeros(3)}, "it has an array 'extra'"),
        ({**batch(), "../up/noise": np.zeros(3)}, "it has an array '../up/noise', which names a case '../up'; expected"),
        (
            {f"a b/{key}": array for key, array in batch().items()},
            "which names a case 'a b'; expected a case's name of at most 80 letters (A-Z, a-z), digits, '_', '.' and '-', "
            "the first a letter or digit. Rename it",
        ),
        ({**batch(), "labels": np.array(["a", "b"])}, "its dtype is <U1"),
        ({**batch(), "labels": np.array([{}, None], dtype=object)}, "cannot be read"),
        ({**batch(), "logits": np.zeros((2, 3), dtype=np.int64)}, "logits are int64"),
        ({**batch(), "logits": np.zeros((0, 3), dtype=np.float32)}, "logits have shape (0, 3)"),
        (
            {**batch(), "batch/logits": batch(1)["logits"]},
            "twice, as 'logits' and as 'batch/logits'; expected each array once",
        ),
        (
            {**{f"batch/{key}": array for key, array in batch().items()}, "labels": batch(1)["labels"]},
            "it has labels of case 'batch' twice",
        ),
        ({}, "it is empty"),
    ],
)
def test_bad_inputs_are_named(project, arrays, said):
    np.savez(project / "batch.npz", **arrays)
    assert said in run("record", "unilossseg:DiceLoss", "--inputs", "batch.npz", "--out", "ref.uls", expect=2)
    assert not (project / "ref.uls").exists()


def test_an_npz_that_is_none(project):
    (project / "batch.npz").write_text("no zip")
    assert "cannot be read" in run("record", "unilossseg:DiceLoss", "--inputs", "batch.npz", "--out", "r", expect=2)
    np.save(project / "one.npy", np.zeros(3))
    assert "one array" in run("record", "unilossseg:DiceLoss", "--inputs", "one.npy", "--out", "r", expect=2)
    assert "cannot be read" in run("record", "unilossseg:DiceLoss", "--inputs", "none.npz", "--out", "r", expect=2)


def test_an_npz_of_something_else(project):
    with zipfile.ZipFile(project / "batch.npz", "w") as archive:
        archive.writestr("logits.npy", "1.0, 2.0")
        archive.writestr("labels", "1, 2")
    said = run("record", "unilossseg:DiceLoss", "--inputs", "batch.npz", "--out", "r", expect=2)
    assert "it cannot be read (ValueError: 'logits' in it is no array); expected an .npz file" in said


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_refused_whatever_its_reader_raises(project, save):
    save(project / "sound.npz", **batch(shape=(1, 2, 2, 2)))
    content = (project / "sound.npz").read_bytes()
    for at in range(len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 0x44
        (project / "batch.npz").write_bytes(damaged)
        # Some bytes of an archive are read by nobody.
        with contextlib.suppress(RecordError):
            inputs.from_npz(project / "batch.npz")


def test_edge_logits_and_noise_are_passed(project):
    run("record", "unilossseg:EdgeAttentionLoss", "--with", "edge_logits", "--out", "edge.uls", *SMALL)
    assert set(file.read(project / "edge.uls").cases[0].inputs) == {"logits", "labels", "edge_logits"}
    run("record", "unilossseg:DualTaskLoss", "--with", "noise", "--out", "dual.uls", "--shape", "2,3,12,12")
    case = file.read(project / "dual.uls").cases[0]
    assert case.repeatable
    assert case.unused == ()
    said = run("record", "unilossseg:DiceLoss", "--with", "noise", "--out", "dice.uls", *SMALL)
    assert "takes no noise" in said


def test_nobody_says_that_the_gradient_by_the_edges_agrees(project):
    loss = "unilossseg:EdgeAttentionLoss"
    run("record", loss, "--with", "edge_logits", "--out", "ref.uls", *SMALL)
    run("replay", "ref.uls", loss, "--out", "cand.uls")
    said = run("compare", "ref.uls", "cand.uls", "--html", "page.html", "--json", "page.json")
    note = "only the gradient by the logits was compared, not the one by the edge_logits"
    last = "nothing changed: values and gradients by the logits agree in 5 cases"
    assert said.count(f"note: {note}") == 5
    assert said.splitlines()[-1] == last
    found = json.loads((project / "page.json").read_text())
    assert found["summary"] == last
    assert [case["notes"] for case in found["cases"]] == [[note]] * 5
    page = (project / "page.html").read_text()
    assert page.count(f"Note: {note}.") == 5
    assert "</strong> values and gradients by the logits agree in 5 cases." in page
    made = file.read(project / "ref.uls")
    some = replace(made, cases=(replace(made.cases[0], gradient=None), *made.cases[1:]))
    file.write(project / "ref.uls", some)
    assert "gradients by the logits agree in the 4 of 5 cases" in run("compare", "ref.uls", "ref.uls")


def test_a_loss_that_draws_random_numbers_is_found_out(project):
    said = run("record", "unilossseg:DualTaskLoss", "--out", "ref.uls", "--shape", "2,3,12,12", "--case", "plain")
    assert "not the same when called again" in said
    run("replay", "ref.uls", "unilossseg:DualTaskLoss", "--out", "cand.uls")
    said = run("compare", "ref.uls", "cand.uls", expect=1)
    assert "the reference gives other numbers when it is called again" in said
    assert "a loss draws random numbers" in said


def test_a_value_of_many_numbers_gets_a_random_upstream_that_is_replayed(project):
    arrays = batch()
    np.savez(project / "batch.npz", logits=arrays["logits"], labels=np.zeros_like(arrays["logits"]))
    kwargs = ("--kwargs", '{"reduction": "none"}')
    run("record", "unilossseg:L1Loss", *kwargs, "--inputs", "batch.npz", "--out", "ref.uls")
    (case,) = file.read(project / "ref.uls").cases
    assert case.upstream.shape == case.value.shape == (2, 3, 4, 5)
    np.testing.assert_allclose(case.gradient.data, np.sign(arrays["logits"]) * case.upstream.data)
    run("replay", "ref.uls", "unilossseg:L1Loss", *kwargs, "--out", "cand.uls")
    assert file.read(project / "cand.uls").cases[0].upstream.same_bits(case.upstream)
    run("compare", "ref.uls", "cand.uls")
    run("replay", "ref.uls", "unilossseg:L1Loss", "--out", "mean.uls")
    said = run("compare", "ref.uls", "mean.uls", expect=1)
    assert "shape (2, 3, 4, 5) in the reference, () in the candidate" in said


def test_the_values_of_a_list_are_stacked(project):
    record_cli.write_module(
        project,
        "project_mixed",
        """
        from unilossseg import CrossEntropyLoss, DiceLoss, MixedLoss

        def make(coef):
            return MixedLoss([CrossEntropyLoss(), DiceLoss()], coef)
        """,
    )
    run("record", "project_mixed:make", "--kwargs", '{"coef": [0.5, 2.0]}', "--out", "ref.uls", *SMALL)
    case = file.read(project / "ref.uls").cases[0]
    assert case.listed
    assert case.value.shape == (2,)
    loss = unilossseg.MixedLoss([unilossseg.CrossEntropyLoss(), unilossseg.DiceLoss()], [0.5, 2.0], reduction="sum")
    value, gradient = unilossseg.value_and_grad(loss)(case.inputs["logits"].data, case.inputs["labels"].data)
    np.testing.assert_allclose(case.value.data.sum(), value, rtol=1e-6)
    np.testing.assert_allclose(case.gradient.data, gradient, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    "options",
    [
        ("--kwargs", "[1]"),
        ("--kwargs", "{"),
        ("--kwargs", '{"smooth": NaN}'),
        ("--kwargs", '{"smooth": 1e999}'),
        ("--kwargs", '{"smooth": 1, "smooth": 2}'),
        ("--kwargs", "[" * 100_000),
        ("--shape", "2"),
        ("--shape", "2,0,4"),
        ("--shape", "2,3,-4"),
        ("--shape", "2,3,4", "--classes", "4"),
        ("--shape", "1048575,1048575,1048575"),
        ("--shape", "1," + 5000 * "9"),
        ("--shape", ",".join(70 * "1")),
        ("--shape", ",".join(17 * "1")),
        ("--shape", "1024,1024,1025"),
        ("--classes", "1000000000000"),
        ("--dtype", "int8"),
        ("--dtype", "bfloat16"),
        ("--framework", "jax"),
        ("--case", "odd"),
        ("--with", "labels"),
        ("--ignore-index", str(2**63)),
        ("--ignore-index", str(-(2**63) - 1)),
        ("--kwargs", '{"ignore_index": 99999999999999999999}'),
        ("--inputs", "batch.npz", "--shape", "2,3,4,5"),
        ("--out", "missing/ref.uls"),
        ("--out", "."),
    ],
)
def test_bad_options_exit_with_2_and_change_nothing(project, options):
    np.savez(project / "batch.npz", **batch())
    options = options if "--out" in options else (*options, "--out", "ref.uls")
    said = run("record", "unilossseg:DiceLoss", *options, expect=2)
    assert said.startswith("unilossseg: ")
    assert "; expected " in said
    assert [path.name for path in project.iterdir()] == ["batch.npz"]


def test_inputs_that_do_not_fit_into_memory_are_an_error(project, monkeypatch):
    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(inputs, "_generated", full)
    said = run("record", "unilossseg:DiceLoss", "--shape", "64,64,64", "--out", "ref.uls", expect=2)
    assert "5 cases of shape (64, 64, 64) do not fit into memory" in said


def test_the_largest_shape_is_taken():
    assert inputs.shape_of("1024,1024,1024", None) == (1024, 1024, 1024)
    assert inputs.shape_of(", ".join(16 * "1"), None) == (1,) * 16
    with pytest.raises(RecordError, match="makes 1074790400 logits a case; expected at most 1073741824"):
        inputs.shape_of("1025,1024,1024", None)
