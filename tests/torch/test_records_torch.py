"""Records of torch losses, and their replay in Paddle in another process."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from checks.record_cli import SMALL, run, run_apart, write_module

from unilossseg.conformance.records import file, inputs, recording
from unilossseg.conformance.records.record import Stored
from unilossseg.conformance.records.runners import TorchRunner

needs_paddle = pytest.mark.skipif(importlib.util.find_spec("paddle") is None, reason="paddle is not installed")
PROJECT = """
import torch
from torch.nn import functional as F

def criterion(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=255)

def detached(logits, labels):
    return criterion(logits.detach(), labels)

def of_labels(logits, labels):
    return criterion(logits.detach().requires_grad_(), labels)

def pixels(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=255, reduction="none")

def several(logits, labels):
    return [criterion(logits, labels), [2 * criterion(logits, labels)]]

def careless(logits, labels):
    labels[labels == 255] = 0
    return F.cross_entropy(logits, labels)

def random(logits, labels):
    return criterion(F.dropout(logits), labels)

def noisy(logits, labels, noise=None):
    return criterion(logits if noise is None else logits + noise, labels)

def number(logits, labels):
    return 3.0

def integer(logits, labels):
    return labels.sum()

class Weighted(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", torch.tensor(weight))

    def forward(self, logits, labels):
        return F.cross_entropy(logits, labels, self.weight.to(logits.dtype), ignore_index=255)
"""


@pytest.fixture(autouse=True)
def written(project):
    write_module(project, "project_torch", PROJECT)


def recorded(name, *options):
    run("record", f"project_torch:{name}", "--out", "ref.uls", *SMALL, *options)
    return file.read(Path("ref.uls"))


def test_a_function_is_differentiated_by_autograd():
    found = recorded("criterion")
    assert found.environment["framework"] == "torch"
    assert found.environment["version"] == torch.__version__
    for case in found.cases:
        logits = torch.tensor(case.inputs["logits"].data, requires_grad=True)
        value = torch.nn.functional.cross_entropy(logits, torch.tensor(case.inputs["labels"].data), ignore_index=255)
        value.backward()
        np.testing.assert_array_equal(case.value.data, value.detach().numpy())
        np.testing.assert_array_equal(case.gradient.data, logits.grad.numpy())
        assert (case.repeatable, case.changed, case.upstream) == (True, (), None)


def test_torchs_cross_entropy_and_ours_agree():
    recorded("criterion")
    run("replay", "ref.uls", "unilossseg.torch:CrossEntropyLoss", "--out", "cand.uls")
    run("compare", "ref.uls", "cand.uls")


def test_in_float64_the_epsilon_of_our_denominator_shows():
    recorded("criterion", "--dtype", "float64")
    run("replay", "ref.uls", "unilossseg.torch:CrossEntropyLoss", "--out", "cand.uls")
    said = run("compare", "ref.uls", "cand.uls", expect=1)
    assert "the candidate divides by a slightly different number than the reference" in said
    allowed = ("--value-tolerance", "2e-8", "--gradient-tolerance", "2e-8")
    run("compare", "ref.uls", "cand.uls", *allowed)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_value_in_half_precision_is_another_dtype(dtype):
    recorded("criterion", "--dtype", dtype)
    run("replay", "ref.uls", "unilossseg.torch:CrossEntropyLoss", "--out", "cand.uls")
    assert f"dtype {dtype} in the reference, float32 in the candidate" in run("compare", "ref.uls", "cand.uls", expect=1)


def test_bits_of_bfloat16_are_kept():
    runner = TorchRunner("torch")
    bits = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    stored = Stored(bits, "bfloat16")
    tensor = runner.array(stored)
    assert tensor.dtype == torch.bfloat16
    assert runner.stored(tensor).same_bits(stored)


@pytest.mark.parametrize("name", ["detached", "of_labels"])
def test_a_detached_loss_has_no_gradient(name):
    found = recorded(name)
    assert all(case.gradient is None for case in found.cases)
    said = run("compare", "ref.uls", "ref.uls")
    assert "neither record has a gradient" in said
    recorded("criterion")
    run("replay", "ref.uls", f"project_torch:{name}", "--out", "cand.uls")
    said = run("compare", "ref.uls", "cand.uls", expect=1)
    assert "the candidate has none" in said
    assert "explains the difference (100%): the candidate has no gradient" in said


def test_a_value_for_each_pixel_has_a_random_upstream():
    case = recorded("pixels").cases[0]
    assert case.upstream.shape == case.value.shape == (2, 4, 5)
    logits = torch.tensor(case.inputs["logits"].data, requires_grad=True)
    value = torch.nn.functional.cross_entropy(logits, torch.tensor(case.inputs["labels"].data), reduction="none")
    value.backward(torch.tensor(case.upstream.data))
    np.testing.assert_array_equal(case.gradient.data, logits.grad.numpy())


def test_a_list_is_stacked_and_summed():
    many, one = recorded("several").cases[0], recorded("criterion").cases[0]
    assert many.listed
    np.testing.assert_allclose(many.value.data, one.value.data * np.array([1, 2]), rtol=1e-6)
    np.testing.assert_allclose(many.gradient.data, 3 * one.gradient.data, rtol=1e-5)


def test_a_loss_that_writes_into_its_labels_is_found_out():
    cases = {case.name: case.changed for case in recorded("careless").cases}
    assert (cases["plain"], cases["ignored"]) == ((), ("labels",))


def test_a_random_loss_is_found_out():
    assert not any(case.repeatable for case in recorded("random").cases)


def test_noise_goes_to_those_who_take_it():
    assert recorded("noisy", "--with", "noise").cases[0].unused == ()
    assert recorded("criterion", "--with", "noise").cases[0].unused == ("noise",)


def test_a_module_is_constructed_with_kwargs():
    found = recorded("Weighted", "--kwargs", '{"weight": [1.0, 2.0, 3.0]}')
    assert found.kwargs == {"weight": [1.0, 2.0, 3.0]}
    run("replay", "ref.uls", "unilossseg.torch:CrossEntropyLoss", "--kwargs", '{"weight": [1, 2, 3]}', "--out", "cand.uls")
    run("compare", "ref.uls", "cand.uls")
    run("replay", "ref.uls", "unilossseg.torch:CrossEntropyLoss", "--out", "cand.uls")
    assert "weight=None" in run("compare", "ref.uls", "cand.uls", expect=1)


@pytest.mark.parametrize(
    ("name", "said"),
    [("number", "it returned a builtins.float"), ("integer", "its value is int64"), ("missing", "has no attribute")],
)
def test_what_is_no_loss_is_refused(name, said):
    assert said in run("record", f"project_torch:{name}", "--out", "ref.uls", *SMALL, expect=2)


def test_a_framework_that_the_target_does_not_speak_is_refused():
    said = run("record", "project_torch:criterion", "--framework", "numpy", "--out", "ref.uls", expect=2)
    assert "expected a loss of unilossseg" in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "nowhere"])
def test_a_device_that_is_not_there_is_refused(device):
    said = run(
        "record", "project_torch:Weighted", "--kwargs", '{"weight": [1.0]}', "--device", device, "--out", "r", expect=2
    )
    assert f"--device {device}" in said


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_record_of_a_gpu_agrees_with_one_of_the_cpu():
    recorded("criterion")
    run("replay", "ref.uls", "project_torch:criterion", "--device", "cuda", "--out", "cand.uls")
    assert file.read(Path("cand.uls")).environment["device"] == "cuda"
    run("compare", "ref.uls", "cand.uls")


@needs_paddle
def test_a_migration_to_paddle(project):
    write_module(
        project,
        "project_paddle",
        """
        import paddle.nn.functional as F

        def criterion(logits, labels):
            return F.cross_entropy(logits, labels, ignore_index=255, axis=1)

        def mean(logits, labels):
            return F.cross_entropy(logits, labels, ignore_index=255, axis=1, reduction="none").mean()
        """,
    )
    # Every process for itself, as in two environments.
    run_apart(project, "record", "project_torch:criterion", "--out", "ref.uls", *SMALL)
    run_apart(project, "replay", "ref.uls", "project_paddle:criterion", "--out", "cand.uls")
    said = run_apart(project, "compare", "ref.uls", "cand.uls")
    assert "nothing changed: values and gradients agree in 5 cases" in said
    run_apart(project, "replay", "ref.uls", "project_paddle:mean", "--out", "mean.uls")
    said = run_apart(project, "compare", "ref.uls", "mean.uls", expect=1)
    assert "the candidate divides by all pixels, the reference by those that are not ignored" in said


@needs_paddle
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_travels_to_paddle(project, dtype):
    run("record", "unilossseg.torch:DiceLoss", "--dtype", dtype, "--out", "ref.uls", *SMALL)
    run_apart(project, "replay", "ref.uls", "unilossseg.paddle:DiceLoss", "--out", "cand.uls")
    run("compare", "ref.uls", "cand.uls")


def test_the_library_function_takes_inputs_of_ones_own():
    made = recording.record("project_torch:criterion", {}, inputs.generated(inputs.Recipe((1, 3, 4)), ["plain"]))
    assert [case.name for case in made.cases] == ["plain"]
