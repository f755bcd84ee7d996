"""Records of Paddle losses, and their replay in torch in another process."""

import importlib.util
from pathlib import Path

import numpy as np
import paddle
import pytest
from checks.record_cli import SMALL, run, run_apart, write_module

from unilossseg.conformance.records import file
from unilossseg.conformance.records.record import Stored
from unilossseg.conformance.records.runners import PaddleRunner

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
PROJECT = """
import paddle
import paddle.nn.functional as F

def criterion(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=255, axis=1)

def detached(logits, labels):
    return criterion(logits.detach(), labels)

def pixels(logits, labels):
    return F.cross_entropy(logits, labels, ignore_index=255, axis=1, reduction="none").squeeze(1)

def several(logits, labels):
    return [criterion(logits, labels), [2 * criterion(logits, labels)]]

def careless(logits, labels):
    labels[labels == 255] = 0
    return criterion(logits, labels)

def random(logits, labels):
    return criterion(F.dropout(logits), labels)

def one_long(logits, labels):
    return criterion(logits, labels).reshape([1])

class Weighted(paddle.nn.Layer):
    def __init__(self, weight):
        super().__init__()
        self.weight = paddle.to_tensor(weight)

    def forward(self, logits, labels, noise=None):
        return F.cross_entropy(logits, labels, self.weight, ignore_index=255, axis=1)
"""


@pytest.fixture(autouse=True)
def written(project):
    write_module(project, "project_paddle", PROJECT)


def recorded(name, *options):
    run("record", f"project_paddle:{name}", "--out", "ref.uls", *SMALL, *options)
    return file.read(Path("ref.uls"))


def test_a_function_is_differentiated_by_autograd():
    found = recorded("criterion")
    assert found.environment["framework"] == "paddle"
    assert found.environment["version"] == paddle.__version__
    for case in found.cases:
        logits = paddle.to_tensor(case.inputs["logits"].data, stop_gradient=False)
        labels = paddle.to_tensor(case.inputs["labels"].data)
        value = paddle.nn.functional.cross_entropy(logits, labels, ignore_index=255, axis=1)
        value.backward()
        np.testing.assert_array_equal(case.value.data, value.numpy())
        np.testing.assert_array_equal(case.gradient.data, logits.grad.numpy())
        assert (case.repeatable, case.changed, case.upstream) == (True, (), None)


def test_paddles_cross_entropy_and_ours_agree():
    recorded("criterion")
    run("replay", "ref.uls", "unilossseg.paddle:CrossEntropyLoss", "--out", "cand.uls")
    run("compare", "ref.uls", "cand.uls")


def test_paddles_clip_of_the_loss_is_named():
    recorded("criterion", "--case", "extreme", "--shape", "2,5,20,20")
    run("replay", "ref.uls", "unilossseg.paddle:CrossEntropyLoss", "--out", "cand.uls")
    said = run("compare", "ref.uls", "cand.uls", expect=1)
    assert "at 64 (where Paddle's cross entropy clips on the CPU)" in said


def test_bits_of_bfloat16_are_kept():
    runner = PaddleRunner("paddle")
    bits = np.arange(2**16, dtype=np.uint16)
    # All but NaN, whose bits a conversion may change.
    bits = bits[(bits & 0x7FFF) <= 0x7F80]
    stored = Stored(bits, "bfloat16")
    tensor = runner.array(stored)
    assert tensor.dtype == paddle.bfloat16
    assert runner.stored(tensor).same_bits(stored)


def test_a_detached_loss_has_no_gradient():
    assert all(case.gradient is None for case in recorded("detached").cases)


def test_a_value_for_each_pixel_has_a_random_upstream():
    case = recorded("pixels").cases[0]
    assert case.upstream.shape == case.value.shape == (2, 4, 5)
    np.testing.assert_allclose(case.gradient.data.sum(axis=1), 0, atol=1e-6)
    sizes = np.abs(case.gradient.data).sum(axis=1)
    assert np.ptp(sizes / np.abs(case.upstream.data)) < 2
    assert np.ptp(sizes) > 0


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


def test_a_layer_is_constructed_with_kwargs():
    found = recorded("Weighted", "--kwargs", '{"weight": [1.0, 2.0, 3.0]}', "--with", "noise")
    assert found.cases[0].unused == ()
    run("replay", "ref.uls", "unilossseg.paddle:CrossEntropyLoss", "--kwargs", '{"weight": [1, 2, 3]}', "--out", "cand.uls")
    said = run("compare", "ref.uls", "cand.uls")
    assert "note: only one of the two takes noise" in said


def test_a_shape_of_one_is_a_single_number():
    recorded("one_long")
    run("replay", "ref.uls", "project_paddle:criterion", "--out", "cand.uls")
    said = run("compare", "ref.uls", "cand.uls")
    assert "note: the value's shape is (1,) in the reference, () in the candidate" in said


def test_paddle_that_poses_as_torch_is_refused(project):
    if not hasattr(paddle, "enable_compat"):
        pytest.skip("this Paddle cannot pose as torch")
    write_module(
        project,
        "project_compat",
        """
        import paddle

        paddle.enable_compat()
        import torch

        def criterion(logits, labels):
            return torch.nn.functional.cross_entropy(logits, labels)
        """,
    )
    said = run_apart(project, "record", "project_compat:criterion", "--framework", "torch", "--out", "ref.uls", expect=2)
    assert "expected the real torch" in said
    assert "paddle.enable_compat()" in said
    assert not (project / "ref.uls").exists()


@needs_torch
def test_a_migration_to_torch(project):
    write_module(
        project,
        "project_torch",
        """
        from torch.nn import functional as F

        def criterion(logits, labels):
            return F.cross_entropy(logits, labels, ignore_index=255)

        def twice(logits, labels):
            return criterion(logits.softmax(dim=1), labels)
        """,
    )
    run_apart(project, "record", "project_paddle:criterion", "--out", "ref.uls", *SMALL)
    run_apart(project, "replay", "ref.uls", "project_torch:criterion", "--out", "cand.uls")
    said = run_apart(project, "compare", "ref.uls", "cand.uls")
    assert "nothing changed: values and gradients agree in 5 cases" in said
    run_apart(project, "replay", "ref.uls", "project_torch:twice", "--out", "twice.uls")
    said = run_apart(project, "compare", "ref.uls", "twice.uls", expect=1)
    assert "the candidate applies softmax twice" in said
