"""Records: what `record` and `replay` keep, and what `compare` says of it. No framework is imported here."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from checks import record_cli
from checks.record_cli import run

import unilossseg
from unilossseg.conformance.records import comparison, file, identity, inputs, recording, targets
from unilossseg.conformance.records.errors import RecordError
from unilossseg.conformance.records.record import Stored
from unilossseg.conformance.records.targets import Target

SMALL = ("--shape", "2,3,4,5")


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A user's project as the current directory; its modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("project_"):
            del sys.modules[name]


def stored(numbers, dtype="float32"):
    return Stored.of(np.asarray(numbers, dtype=dtype))


# --- record, replay, compare ------------------------------------------------------------------------------------------


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
    monkeypatch.setattr(file.os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    said = run("record", "unilossseg:DiceLoss", "--out", "ref.uls", expect=2)
    assert "disk full" in said
    assert list(project.iterdir()) == []


# --- inputs -----------------------------------------------------------------------------------------------------------


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
        ({**batch(), "../up/noise": np.zeros(3)}, "it has an array '../up/noise'"),
        ({**batch(), "labels": np.array(["a", "b"])}, "its dtype is <U1"),
        ({**batch(), "labels": np.array([{}, None], dtype=object)}, "cannot be read"),
        ({**batch(), "logits": np.zeros((2, 3), dtype=np.int64)}, "logits are int64"),
        ({**batch(), "logits": np.zeros((0, 3), dtype=np.float32)}, "logits have shape (0, 3)"),
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


def test_edge_logits_and_noise_are_passed(project):
    run("record", "unilossseg:EdgeAttentionLoss", "--with", "edge_logits", "--out", "edge.uls", *SMALL)
    assert set(file.read(project / "edge.uls").cases[0].inputs) == {"logits", "labels", "edge_logits"}
    run("record", "unilossseg:DualTaskLoss", "--with", "noise", "--out", "dual.uls", "--shape", "2,3,12,12")
    case = file.read(project / "dual.uls").cases[0]
    assert case.repeatable
    assert case.unused == ()
    said = run("record", "unilossseg:DiceLoss", "--with", "noise", "--out", "dice.uls", *SMALL)
    assert "takes no noise" in said


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


# --- targets ----------------------------------------------------------------------------------------------------------

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
        ("--dtype", "int8"),
        ("--dtype", "bfloat16"),
        ("--framework", "jax"),
        ("--case", "odd"),
        ("--with", "labels"),
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


# --- the verdict ------------------------------------------------------------------------------------------------------


def part(reference, candidate, quantity="gradient"):
    return comparison.compared(quantity, reference, candidate)


def test_errors_are_shares_of_the_references_largest_entry():
    found = part(stored([4.0, 1.0, 0.0]), stored([4.0, 1.0, 1e-6]))
    assert found.error == pytest.approx(2.5e-7)
    assert (found.scale, found.index, found.candidate) == (4.0, (2,), pytest.approx(1e-6))
    assert found.rtol == np.inf
    assert found.atol == pytest.approx(1e-6)
    assert found.same
    assert not part(stored([4.0, 1.0, 0.0]), stored([4.0, 1.0, 1e-4])).same


def test_a_gradient_that_must_be_zero_is_zero():
    assert part(stored([0.0, 0.0]), stored([0.0, -0.0])).same
    assert not part(stored([0.0, 0.0]), stored([0.0, 1e-30])).same


@pytest.mark.parametrize(
    ("dtype", "steps"),
    [("float16", 3), ("float32", 5), ("float64", 7)],
)
def test_ulp_counts_representable_numbers(dtype, steps):
    start = np.asarray(1.0, dtype)
    end = start
    for _ in range(steps):
        end = np.nextafter(end, np.asarray(2.0, dtype))
    assert part(stored(start, dtype), stored(end, dtype)).ulp == steps
    # Over zero as well, and from one end to the other.
    small = np.nextafter(np.asarray(0, dtype), np.asarray(1, dtype))
    assert part(stored(-small, dtype), stored(small, dtype)).ulp == 2
    most = np.finfo(dtype).max
    assert part(stored([-most], dtype), stored([most], dtype)).ulp > 2 ** (8 * np.dtype(dtype).itemsize - 2)


def test_ulp_of_bfloat16():
    one, next_one = (Stored(np.array([bits], np.uint16), "bfloat16") for bits in (0x3F80, 0x3F81))
    found = part(one, next_one)
    assert (found.ulp, found.error) == (1, 2.0**-7)
    assert found.same
    assert not part(one, Stored(np.array([0x3F82], np.uint16), "bfloat16")).same


@pytest.mark.parametrize(
    ("reference", "candidate", "said"),
    [
        (stored([1.0, 2.0]), stored([1.0, 2.0], "float64"), "dtype float32 in the reference, float64"),
        (stored([1.0, 2.0]), stored([[1.0, 2.0]]), r"shape \(2,\) in the reference, \(1, 2\)"),
        (stored([1.0, 2.0]), stored([1.0, np.nan]), r"NaN in other places: 1 of 2, the first at \(1,\), 2 in .*, nan in"),
        (stored([np.inf, 2.0]), stored([-np.inf, 2.0]), "inf in other places"),
        (stored([np.inf, 2.0]), stored([1.0, 2.0]), "inf in other places"),
    ],
)
def test_structure_comes_first(reference, candidate, said):
    found = part(reference, candidate)
    assert re.search(said, found.structure)
    assert not found.same


def test_nan_and_infinity_at_the_same_places_agree():
    numbers = stored([np.nan, np.inf, -np.inf, 1.0])
    assert part(numbers, numbers).same
    assert not part(numbers, stored([np.nan, np.inf, -np.inf, 1.1])).same


def test_one_number_is_one_number():
    assert part(stored(1.5), stored([1.5]), "value").same


def test_a_small_loss_is_a_difference_of_numbers_of_order_one():
    assert part(stored(1e-6), stored(1e-6 + 2e-7), "value").same
    assert not part(stored(1e-6), stored(1e-6 + 2e-7), "gradient").same


def test_records_of_other_inputs_are_not_compared(project):
    for name, seed in (("one.uls", 1), ("two.uls", 2)):
        run("record", "unilossseg:DiceLoss", "--seed", seed, "--out", name, *SMALL)
    assert "case 'plain' has other logits" in run("compare", "one.uls", "two.uls", expect=2)
    run("record", "unilossseg:DiceLoss", "--case", "plain", "--out", "three.uls", *SMALL)
    assert "in one of the two records only" in run("compare", "one.uls", "three.uls", expect=2)


def test_a_tolerance_of_ones_own_is_shown(project):
    run("record", "unilossseg:DiceLoss", "--out", "ref.uls", *SMALL)
    run("replay", "ref.uls", "unilossseg:DiceLoss", "--kwargs", '{"smooth": 1e-4}', "--out", "cand.uls")
    run("compare", "ref.uls", "cand.uls", expect=1)
    loose = ("--value-tolerance", "1e-3", "--gradient-tolerance", "1e-3")
    said = run("compare", "ref.uls", "cand.uls", *loose, "--html", "page.html", "--json", "page.json")
    assert "allowed by the user for gradients: 0.001 of the scale" in said
    assert "was allowed for gradients by the user" in (project / "page.html").read_text()
    assert json.loads((project / "page.json").read_text())["allowed_by_the_user"] == {"value": 1e-3, "gradient": 1e-3}
    for bad in ("nan", "inf", "-1", "1"):
        assert "a share of the scale" in run("compare", "ref.uls", "cand.uls", "--value-tolerance", bad, expect=2)


# --- the reports ------------------------------------------------------------------------------------------------------


@pytest.fixture
def different(project):
    run("record", "unilossseg:CrossEntropyLoss", "--out", "ref.uls", *SMALL)
    run("replay", "ref.uls", "unilossseg:DiceLoss", "--out", "cand.uls")
    return project


def test_the_page_needs_no_network(different):
    run("compare", "ref.uls", "cand.uls", "--html", "page.html", expect=1)
    page = (different / "page.html").read_text()
    assert "default-src 'none'" in page
    assert 'name="viewport"' in page
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:|#)""", page)
    assert "://" not in page
    assert "✗ Different" in page


def test_what_a_record_says_is_text_on_the_page(project):
    arrays = inputs.generated(inputs.Recipe((1, 2, 3)), ["plain"])
    made = recording.record("unilossseg:DiceLoss", {}, arrays)
    hostile = type(made)(**{**made.__dict__, "target": "<script>alert(1)</script>", "kwargs": {"<b>": "{{ 7 * 7 }}"}})
    file.write(project / "ref.uls", hostile)
    run("compare", "ref.uls", "ref.uls", "--html", "page.html")
    page = (project / "page.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page


def test_the_json_has_every_number(different):
    run("compare", "ref.uls", "cand.uls", "--json", "page.json", expect=1)
    found = json.loads((different / "page.json").read_text(), parse_constant=pytest.fail)
    assert found["same"] is False
    assert [case["name"] for case in found["cases"]] == list(inputs.GENERATED)
    gradient = found["cases"][0]["gradient"]
    assert gradient["error"] > gradient["bound"]
    assert len(gradient["worst"]["index"]) == 4
    assert found["explanations"][0]["cause"]
    assert found["reference"]["environment"]["framework"] == "numpy"


def test_reports_do_not_overwrite_records(different):
    before = (different / "ref.uls").read_bytes()
    assert "one of the two records" in run("compare", "ref.uls", "cand.uls", "--html", "ref.uls", expect=2)
    assert "that is to be replayed" in run("replay", "ref.uls", "unilossseg:DiceLoss", "--out", "ref.uls", expect=2)
    assert (different / "ref.uls").read_bytes() == before


def test_comparing_imports_no_framework(different):
    code = (
        "import sys\nfrom checks.record_cli import app\n"
        "try:\n    app(['compare', 'ref.uls', 'cand.uls', '--html', 'p.html'])\n"
        "except SystemExit as end:\n    code = end.code\n"
        "assert code == 1, code\nassert not {'torch', 'paddle'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=different,
        env={"PYTHONPATH": record_cli.__file__.rpartition("/checks/")[0], "PATH": ""},
    )
    assert done.returncode == 0, done.stderr


def test_help_says_what_is_imported_and_what_exit_codes_mean():
    for command in ("record", "replay"):
        said = " ".join(run(command, "--help").split())
        assert "imported from the current directory" in said
        assert "Exit codes: 0" in said
    assert "1, something is different" in " ".join(run("compare", "--help").split())
