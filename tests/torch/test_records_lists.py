"""Records of torch losses that return several, and of functions that return a loss."""

from pathlib import Path

import numpy as np
import pytest
from checks.record_cli import SMALL, run, write_module

from unilossseg.conformance.records import file

PROJECT = """
import torch
from torch.nn import functional as F
from unilossseg.torch import CrossEntropyLoss, DiceLoss, MixedLoss

mixed = MixedLoss([CrossEntropyLoss(), DiceLoss()], [1, 1])

def parts(logits, labels):
    return [CrossEntropyLoss()(logits, labels), DiceLoss()(logits, labels)]

def stacked(logits, labels):
    return torch.stack(parts(logits, labels))

def added(logits, labels):
    return sum(parts(logits, labels))

def images(logits, labels):
    return torch.stack([parts(*pair)[1] for pair in zip(logits.split(1), labels.split(1))])

def twice(logits, labels):
    return [parts(logits, labels)[0]] * 2

def make_loss(ignore_index=255, weight=None):
    return lambda logits, labels: F.cross_entropy(logits, labels, weight, ignore_index=ignore_index)

def make_module(ignore_index=255, weight=None):
    return CrossEntropyLoss()

class Odd(torch.nn.Module):
    def forward(self, logits, labels):
        return make_loss()
"""


@pytest.fixture(autouse=True)
def written(project):
    write_module(project, "project_lists", PROJECT)


def both(one, other, expect):
    run("record", f"project_lists:{one}", "--out", "ref.uls", *SMALL)
    run("replay", "ref.uls", f"project_lists:{other}", "--out", "cand.uls")
    return run("compare", "ref.uls", "cand.uls", expect=expect)


@pytest.mark.parametrize("pair", [("mixed", "stacked"), ("stacked", "mixed")])
def test_a_list_and_an_array_of_the_same_losses_are_compared(pair):
    said = both(*pair, expect=1)
    assert "one is a list of losses, the other a single array" in said
    assert "returns a list of losses" in said
    assert "different: 5 of 5 cases" in said


def test_a_list_and_its_sum():
    said = both("mixed", "added", expect=1)
    assert (
        "explains the difference (90%): the reference returns a list of losses, whose sum is the candidate's value" in said
    )


def test_a_value_for_each_image():
    run("record", "unilossseg.torch:DiceLoss", "--out", "ref.uls", *SMALL)
    run("replay", "ref.uls", "project_lists:images", "--out", "cand.uls")
    said = run("compare", "ref.uls", "cand.uls", expect=1)
    assert "the candidate returns a value for each image, the reference one number" in said


def test_a_tensor_that_is_returned_twice_counts_double():
    run("record", "project_lists:twice", "--out", "ref.uls", *SMALL)
    twice = file.read(Path("ref.uls"))
    run("replay", "ref.uls", "unilossseg.torch:CrossEntropyLoss", "--out", "once.uls")
    for case, once in zip(twice.cases, file.read(Path("once.uls")).cases, strict=True):
        np.testing.assert_array_equal(case.value.data, [once.value.data] * 2)
        np.testing.assert_array_equal(case.gradient.data, 2 * once.gradient.data)


@pytest.mark.parametrize("name", ["make_loss", "make_module"])
def test_a_factory_that_is_taken_for_a_loss_is_to_be_named_with_parentheses(name):
    said = run("record", f"project_lists:{name}", "--out", "ref.uls", *SMALL, expect=2)
    remedy = f"If it is a factory, name it with parentheses: project_lists:{name}()."
    assert remedy in said
    run("record", f"project_lists:{name}()", "--out", "ref.uls", *SMALL)
    run("replay", "ref.uls", "unilossseg.torch:CrossEntropyLoss", "--out", "cand.uls")
    run("compare", "ref.uls", "cand.uls")


@pytest.mark.parametrize("name", ["Odd", "Odd()"])
def test_parentheses_are_no_remedy_for_what_was_constructed(name):
    said = run("record", f"project_lists:{name}", "--out", "ref.uls", *SMALL, expect=2)
    assert "it returned a builtins.function" in said
    assert "that the target returns the loss itself" in said
