"""Causes that the arrays show by themselves: the losses are a user's own torch functions, which no model reproduces."""

import pytest
from checks.record_cli import run, write_module

from unilossseg.conformance.records import file
from unilossseg.conformance.records.comparison import compare
from unilossseg.conformance.records.diagnosis import UNKNOWN, diagnose
from unilossseg.conformance.records.evidence import Evidence, sides
from unilossseg.conformance.records.models import fitting

PROJECT = """
import torch
from torch.nn import functional as F

IGNORED = 255

def terms(logits, labels):
    '''Focal-like, with a square root: no loss of any library.'''
    classes = logits.shape[1]
    valid = labels != IGNORED
    target = F.one_hot(torch.where(valid, labels, 0), classes).movedim(-1, 1).to(logits.dtype)
    p = torch.softmax(logits, 1)
    return (target * (1.1 - p) ** 1.5 * (1 - torch.log(p.clamp_min(1e-9)) / 3) ** 0.5).sum(1), valid

def loss(logits, labels):
    each, valid = terms(logits, labels)
    return (each * valid).sum() / valid.sum().clamp_min(1)

def over_all_pixels(logits, labels):
    each, valid = terms(logits, labels)
    return (each * valid).mean()

def summed(logits, labels):
    each, valid = terms(logits, labels)
    return (each * valid).sum()

def summed_over_images(logits, labels):
    return loss(logits, labels) * len(logits)

def summed_over_classes(logits, labels):
    return loss(logits, labels) * logits.shape[1]

def detached(logits, labels):
    return loss(logits.detach(), labels) + 0 * logits.sum()

def half_a_gradient(logits, labels):
    value = loss(logits, labels)
    return 0.5 * value + 0.5 * value.detach()

def twice(logits, labels):
    return 2.5 * loss(logits, labels)

def one_higher(logits, labels):
    moved = (labels + 1) % logits.shape[1]
    return loss(logits, torch.where(labels == IGNORED, labels, moved))

def trains_ignored(logits, labels):
    each, valid = terms(logits, labels)
    return each.sum() / valid.sum().clamp_min(1)

def counts_ignored(logits, labels):
    each, valid = terms(logits, labels)
    return each.mean()

def other_channels(logits, labels):
    return loss(logits[:, [2, 0, 1, 4, 3]], labels)

class _Permuted(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits):
        return logits.clone()

    @staticmethod
    def backward(ctx, slope):
        return slope[:, [1, 2, 0, 4, 3]]

def permuted_gradient(logits, labels):
    return loss(_Permuted.apply(logits), labels)

def something_else(logits, labels):
    return loss(1.3 * logits, labels)
"""

#: What is planted; the cause that is to be named first; whether the arrays alone prove it; words of its title or evidence.
PLANTED = {
    "over_all_pixels": ("ignored pixels in the denominator", True, "the candidate divides by all pixels"),
    "summed": ("sum in place of mean", True, "the number of valid pixels"),
    "summed_over_images": ("sum in place of mean", True, "the number of images"),
    "summed_over_classes": ("sum in place of mean", True, "the number of classes"),
    "detached": ("detached gradient", True, "the candidate has no gradient"),
    "half_a_gradient": ("gradient scaled", True, "times 0.5"),
    "twice": ("constant factor", True, "times 2.5"),
    "one_higher": ("labels shifted by one", False, "(1, 2, 3, 4, 0)"),
    "trains_ignored": ("ignored pixels not masked", True, "at ignored pixels in the candidate"),
    "counts_ignored": ("ignored pixels not masked", True, "at ignored pixels in the candidate"),
    "other_channels": ("classes in another order", False, "another class order"),
    "permuted_gradient": ("gradient permuted", True, "(1, 2, 0, 4, 3)"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tmp_path_factory.mktemp("own")


@pytest.fixture
def replayed(project, monkeypatch):
    """The record of the right loss and that of another."""
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    name = write_module(project, "own_losses", PROJECT)
    reference = project / "reference"
    if not reference.exists():
        run("record", f"{name}:loss", "--out", reference)

    def make(what):
        run("replay", reference, f"{name}:{what}", "--out", project / what)
        return file.read(reference), file.read(project / what)

    return make


@pytest.mark.parametrize("what", PLANTED)
def test_the_cause_is_named_without_a_model(replayed, what):
    cause, proven, words = PLANTED[what]
    reference, candidate = replayed(what)
    verdicts = compare(reference, candidate)
    evidence = [Evidence.of(verdict, reference.ignore_index) for verdict in verdicts]
    given, other = sides(reference, candidate)
    assert fitting(given, evidence) is None
    assert fitting(other, [case.flipped for case in evidence]) is None
    best, *_ = diagnose(reference, candidate, verdicts)
    assert best.cause == cause, best
    assert (best.certainty == "explains the difference") == proven, best
    assert words in f"{best.title} | {best.evidence}", best
    assert best.title.startswith("the candidate"), best
    assert best.remedy


def test_what_has_no_known_cause_is_called_unknown(replayed):
    reference, candidate = replayed("something_else")
    (only,) = diagnose(reference, candidate, compare(reference, candidate))
    assert only.cause == UNKNOWN, only
