"""`unilossseg train-parity`: two frameworks take the same path, and it notices where they do not."""

import importlib.util
import json
import os
import stat
import sys
import textwrap
from xml.etree import ElementTree

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from unilossseg import __version__
from unilossseg.conformance.parity import commands, compare, network, photographs, plan, processes

both = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in commands.TRAINERS), reason="trains in torch and in paddle"
)


@pytest.fixture(scope="module")
def pictures():
    return photographs.photographs()


def command(out, *arguments):
    app = typer.Typer()
    app.command("train-parity")(commands.train_parity)
    result = CliRunner().invoke(app, ["--out", str(out), *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert not {"torch", "paddle"} & set(sys.modules)
    return result


@pytest.fixture
def python_that(tmp_path):
    """A Python that runs some code before the worker."""

    def make(code):
        script = tmp_path / "first.py"
        script.write_text(
            "import runpy, sys\n" + textwrap.dedent(code) + "\nsys.argv = sys.argv[3:]\n"
            "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"
        )
        program = tmp_path / "python"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        return program

    return make


# --- two frameworks ---------------------------------------------------------------------------------------------------


@both
def test_torch_and_paddle_take_the_same_path(tmp_path):
    (tmp_path / "parity.json").write_text("of an earlier run")
    done = command(tmp_path, "--loss", "CrossEntropyLoss", "--steps", 4, "--dtype", "float64")
    assert done.exit_code == 0, done.output
    assert "Same." in done.output
    record = json.loads((tmp_path / "parity.json").read_text())
    assert record["same"]
    assert [item["quantity"] for item in record["comparisons"]] == list(compare.QUANTITIES)
    assert all(item["error"] <= 1e-9 for item in record["comparisons"])
    assert 9_000 < record["network"]["parameters"] < 11_000
    torch, paddle = record["losses"]["float64"].values()
    assert len(torch) == len(paddle) == 4
    assert torch[-1] < torch[0]  # it learns
    assert record["workers"]["paddle"]["framework"] == "paddle"
    assert ElementTree.parse(tmp_path / "curves.svg").getroot().tag.endswith("svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.svg", "parity.json"]


@both
def test_a_loss_that_ignores_another_label_is_noticed(tmp_path, python_that):
    planted = python_that(
        """
        import unilossseg
        post_init = unilossseg.CrossEntropyLoss.__post_init__
        def planted(self):
            post_init(self)
            self.ignore_index = 0
            self.validate = False
        unilossseg.CrossEntropyLoss.__post_init__ = planted
        """
    )
    check_difference(tmp_path / "out", planted)


@both
def test_a_gradient_that_is_a_little_too_large_is_noticed_in_float32(tmp_path, python_that):
    planted = python_that(
        """
        from unilossseg.conformance.parity import training
        to_values = training.Trainer._value_and_gradients
        def planted(self, weights, *rest):
            value, gradients = to_values(self, weights, *rest)
            scale = 1.001 if weights["conv1.bias"].dtype == "float32" else 1
            return value, {name: slope * slope.dtype.type(scale) for name, slope in gradients.items()}
        training.Trainer._value_and_gradients = planted
        """
    )
    done, record = check_difference(tmp_path / "out", planted, "float32")
    failed = {(item["dtype"], item["quantity"]) for item in record["comparisons"] if not item["same"]}
    assert ("float32", compare.GRADIENTS) in failed
    assert all(dtype == "float32" for dtype, _ in failed)
    assert "In float64 the two agree" in done.output


def check_difference(out, planted, dtype="float64"):
    done = command(out, "--steps", 2, "--dtype", dtype, "--worker", f"paddle={planted}")
    assert done.exit_code == 1, done.output
    assert "DIFFERENT" in done.output
    record = json.loads((out / "parity.json").read_text())
    assert not record["same"]
    return done, record


# --- other environments -----------------------------------------------------------------------------------------------


def test_nothing_of_this_environment_goes_along(tmp_path, python_that, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    noting = python_that(
        f"""
        import json, os
        with open("{tmp_path}/" + str(os.getpid()), "w") as file:
            json.dump(dict(os.environ), file)
        os.replace(file.name, "{tmp_path}/found")
        os._exit(7)
        """
    )
    refused(tmp_path / "out", "--worker", f"torch={noting}", "--worker", f"paddle={noting}")
    found = json.loads((tmp_path / "found").read_text())
    assert "PYTHONPATH" not in found
    assert found["PYTHONSAFEPATH"] == "1"
    assert found["OMP_NUM_THREADS"]


@both
@pytest.mark.parametrize("printed", ["hello from site\n", "loading ...", '{"level": "info"}\n'])
def test_what_an_environment_prints_at_its_start_is_passed_over(tmp_path, python_that, printed):
    printing = python_that(f"import os; os.write(1, {printed.encode()!r})")
    done = command(tmp_path / "out", "--steps", 1, "--dtype", "float64", "--worker", f"torch={printing}")
    assert done.exit_code == 0, done.output


def test_the_python_of_a_worker_may_be_in_the_home_of_its_user(tmp_path, python_that, monkeypatch):
    monkeypatch.setattr(commands, "is_installed", lambda name: True)
    monkeypatch.setenv("HOME", str(tmp_path))
    python = python_that("")
    assert commands._pythons(None, ["torch=~/python"]) == {"torch": str(python), "paddle": None}


# --- what cannot run --------------------------------------------------------------------------------------------------


def refused(out, *arguments):
    done = command(out, *arguments)
    assert done.exit_code == 2, done.output
    assert not out.exists() or not list(out.iterdir())
    return done.output


def test_a_missing_backend_is_named_with_its_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "is_installed", lambda name: name != "paddle")
    output = refused(tmp_path)
    assert "backend 'paddle' needs paddle, which is not installed: pip install 'unilossseg[paddle]'" in output


def test_a_backend_missing_in_another_environment_too(tmp_path, python_that):
    bare = python_that(
        """
        from unilossseg.backends import _registry
        _registry.is_installed = lambda name: False
        """
    )
    output = refused(tmp_path / "out", "--worker", f"torch={bare}", "--worker", f"paddle={bare}")
    assert "which is not installed: pip install 'unilossseg[" in output


def test_a_worker_that_crashes_is_reported_with_its_last_words(tmp_path, python_that):
    crashing = python_that("sys.stderr.write('out of luck'); sys.stderr.flush(); import os; os._exit(7)")
    output = refused(tmp_path / "out", "--worker", f"torch={crashing}", "--worker", f"paddle={crashing}")
    assert "ended with exit status 7" in output
    assert "out of luck" in output


def test_an_error_in_a_worker_is_reported_with_its_traceback(tmp_path, python_that):
    failing = python_that(
        """
        from unilossseg.conformance.parity import worker
        def get_backend(name):
            raise RuntimeError("no device")
        sys.modules["unilossseg.backends"].get_backend = get_backend
        """
    )
    output = refused(tmp_path / "out", "--worker", f"torch={failing}", "--worker", f"paddle={failing}")
    assert "Traceback" in output
    assert "RuntimeError: no device" in output


@both
@pytest.mark.parametrize(
    ("code", "said"),
    [
        (
            "import unilossseg; unilossseg.__version__ = '99.0'",
            "{python} has unilossseg 99.0 and this is {version}: install the same version there: ",
        ),
        (
            "from unilossseg.conformance import environment; environment.sources = lambda: 'others'",
            "{python} has other files of unilossseg {version} than this: a run would judge two packages as one. ",
        ),
    ],
    ids=["another version", "other files"],
)
def test_a_worker_with_another_package_is_refused(tmp_path, python_that, code, said):
    other = python_that(code)
    output = refused(tmp_path / "out", "--worker", f"torch={other}")
    assert f"the torch worker is refused: {said.format(python=other, version=__version__)}" in output
    assert "-m pip install 'unilossseg" in output


def test_a_worker_that_hangs_is_ended(tmp_path, python_that, monkeypatch):
    monkeypatch.setattr(processes, "STARTUP_SECONDS", 0.5)
    hanging = python_that("import time; time.sleep(600)")
    output = refused(tmp_path / "out", "--worker", f"torch={hanging}", "--worker", f"paddle={hanging}")
    assert "did not start within 0.5 s" in output


@pytest.mark.parametrize("printed", ["for ever\n", '{"for": "ever"}\n'])
def test_a_worker_that_prints_for_ever_is_ended(tmp_path, python_that, monkeypatch, printed):
    monkeypatch.setattr(processes, "STARTUP_SECONDS", 0.5)
    printing = python_that(f"import os\nwhile True: os.write(1, {printed.encode()!r})")
    output = refused(tmp_path / "out", "--worker", f"torch={printing}", "--worker", f"paddle={printing}")
    assert f"did not start within 0.5 s; it printed {printed.strip()!r}" in output


@both
@pytest.mark.parametrize(
    ("rubbish", "said"),
    [("step 1", "said 'step 1\\n', which is no JSON object"), ("{}", "said {}, expected one of ready, ")],
)
def test_a_worker_that_talks_nonsense_is_ended(tmp_path, python_that, rubbish, said):
    talking = python_that(
        f"""
        from unilossseg.conformance import replies
        say = replies.say
        def planted(line, message):
            say(line, message)
            line.write({rubbish!r} + "\\n")
        replies.say = planted
        """
    )
    assert said in refused(tmp_path / "out", "--worker", f"torch={talking}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--loss", "FocalLoss"], "--loss must be one of BCELoss"),
        (["--backend", "numpy"], "--backend must be one of torch, paddle"),
        (["--backend", "torch"], "--backend must name two frameworks"),
        (["--worker", "torch"], "--worker must be NAME=PYTHON"),
        (["--worker", "torch=/no/such/python"], "is not a program that can be run"),
        (["--worker", "numpy=python"], "with a NAME of torch, paddle (got 'numpy=python')"),
        (["--worker", f"torch={sys.executable}", "--worker", f"torch={sys.executable}"], "--worker names torch twice"),
        (["--loss", "L1Loss", "--config", "loss.yml"], "exclude each other"),
        (["--config", "absent.yml"], "No such file"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, monkeypatch, arguments, message):
    monkeypatch.setattr(commands, "is_installed", lambda name: True)
    assert message in " ".join(refused(tmp_path / "out", *arguments).split())


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ([{"type": "CrossEntropyLoss", "weight": [1.0, 2.0]}], "weight has 2 entries and logits have 3 channels"),
        ([{"type": "FocalLoss"}], "unknown type"),
        (
            [{"type": "MixedLoss", "losses": [{"type": "DiceLoss", "ignore_index": 2**63}], "coef": [1]}],
            "types[0]: DiceLoss has ignore_index 9223372036854775808, expected an int64, -9223372036854775808 to "
            "9223372036854775807: choose such a one, 255 for example",
        ),
        ([{"type": "L1Loss", "ignore_index": -(10**400)}], "types[0]: L1Loss has ignore_index -1000000"),
        (
            [{"type": "MixedLoss", "losses": [{"type": "EdgeAttentionLoss"}, {"type": "DiceLoss"}], "coef": [1, 1]}],
            "EdgeAttentionLoss take a pair of logits: they cannot share an output with DiceLoss",
        ),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_before_any_training(tmp_path, monkeypatch, types, message):
    monkeypatch.setattr(commands, "is_installed", lambda name: True)
    (tmp_path / "loss.json").write_text(json.dumps({"loss": {"types": types, "coef": [1]}}))
    assert message in " ".join(refused(tmp_path / "out", "--config", tmp_path / "loss.json").split())


MIXED = ('{"type": "MixedLoss", "coef": [1], "losses": [', "]}")


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"types": [' + 400 * MIXED[0] + '{"type": "DiceLoss"}' + 400 * MIXED[1] + '], "coef": [1]}'],
    ids=["to be read", "to be built"],
)
def test_a_configuration_that_is_nested_too_deeply_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.setattr(commands, "is_installed", lambda name: True)
    (tmp_path / "loss.json").write_text(text)
    assert "nested too deeply to be" in refused(tmp_path / "out", "--config", tmp_path / "loss.json")


@pytest.mark.parametrize("value", ['!!int ""', "!!timestamp x", "!!bool x"])
def test_a_value_that_does_not_fit_its_tag_is_refused(tmp_path, monkeypatch, value):
    monkeypatch.setattr(commands, "is_installed", lambda name: True)
    (tmp_path / "loss.yml").write_text(f"coef: [{value}]")
    assert "loss.yml: a value does not fit its tag (" in refused(tmp_path / "out", "--config", tmp_path / "loss.yml")


def test_a_file_that_cannot_be_written_leaves_none(tmp_path):
    (tmp_path / "file").write_text("")
    done = command(tmp_path / "file" / "below")
    assert done.exit_code == 2
    assert "cannot write to" in done.output


@pytest.mark.parametrize("ignored", [2**63 - 1, -(2**63)])
def test_the_largest_labels_fit(pictures, ignored):
    (head,) = plan.heads_of({"types": [{"type": "CrossEntropyLoss", "ignore_index": ignored}], "coef": [1]}, pictures)
    labels = plan.labels_for(head, pictures)
    assert ((labels == ignored) == (pictures.labels == photographs.IGNORED)).all()


# --- what they learn from ---------------------------------------------------------------------------------------------


def test_the_pictures_are_the_same_every_time(pictures):
    again = photographs.photographs()
    assert again.digest == pictures.digest
    np.testing.assert_array_equal(again.images, pictures.images)


def test_every_batch_has_all_classes_and_ignored_pixels(pictures):
    for labels in pictures.labels:
        assert set(np.unique(labels)) == {*range(photographs.CLASSES), photographs.IGNORED}


def test_outlines_are_ignored_and_edges_exceed_the_threshold_of_the_losses(pictures):
    ignored = pictures.labels == photographs.IGNORED
    assert 0.02 < ignored.mean() < 0.2
    assert 0.4 < (pictures.edges > 0.8).mean() < 0.6
    beside = (pictures.labels[..., 1:] != pictures.labels[..., :-1]) & ~ignored[..., 1:] & ~ignored[..., :-1]
    assert not beside.any()  # no two classes touch


@pytest.mark.parametrize("loss", plan.unilossseg.LOSSES)
def test_every_loss_has_a_place_in_the_network(pictures, loss):
    heads = plan.heads_of(plan.config_of(loss), pictures)
    assert len(heads) == 1
    assert len(plan.labels_for(heads[0], pictures)) == photographs.BATCHES


def test_each_output_of_a_configuration_gets_its_head(pictures):
    binary = {"type": "MixedLoss", "losses": [{"type": "BCELoss"}, {"type": "LovaszHingeLoss"}], "coef": [1, 1]}
    types = [binary, {"type": "CrossEntropyLoss", "ignore_index": -1}, {"type": "L1Loss"}, {"type": "MSELoss"}]
    heads = plan.heads_of({"types": types, "coef": [1, 0.4, 1, 1]}, pictures)
    assert [head.channels for head in heads] == [1, 3, 1, 1]
    labels = [plan.labels_for(head, pictures) for head in heads]
    assert set(np.unique(labels[0])) == {0, 1, 255}
    assert labels[1].min() == -1
    # The reference's MSELoss ignores nothing: it must not learn a label as an intensity.
    assert (labels[2].max(), labels[3].max() <= 1) == (255, True)
    weights = network.initial_weights([head.channels for head in heads], seed=0)
    assert weights["head2.weight"].shape[0] == 3
    assert not np.array_equal(weights["conv1.weight"], network.initial_weights([1], seed=1)["conv1.weight"])


def test_no_file_stays_behind_where_the_disk_fails(tmp_path, monkeypatch):
    def full(path):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        commands.write_together(tmp_path, {"parity.json": "{}"})
    assert list(tmp_path.iterdir()) == []
