"""The probes ask nothing of a framework's module: its worker makes and reads the arrays, and differentiates."""

import json
import subprocess
import types

import array_api_strict
import numpy as np
import pytest

import unilossseg
from unilossseg.backends import KNOWN, Backend, _registry, register
from unilossseg.conformance import capabilities, frameworks, probes


class Slopes(Backend):
    """Differentiates by central differences."""

    assignable = differentiable = True

    def value_and_grad(self, function, x, upstream):
        xp, whole = self.xp, np.array(x)
        gradient = np.zeros_like(whole)
        for place in np.ndindex(whole.shape):
            step = np.zeros_like(whole)
            step[place] = 1e-4
            change = function(xp.asarray(whole + step)) - function(xp.asarray(whole - step))
            gradient[place] = float(change) / 2e-4
        return function(x), xp.asarray(gradient)


class Worker(frameworks.Framework):
    """A framework without tensors that know their gradient: a function of a function gives it."""

    def array(self, x, dtype, strided):
        return self.xp.asarray(super().array(x, dtype, strided))

    def through_face(self, loss, logits, edges, labels, upstream, inputs):
        return unilossseg.value_and_grad(loss)(logits, labels)


@pytest.fixture
def trial(monkeypatch):
    """Of a backend that was added as the guide says, for a framework whose module has no function of an array library."""
    for table in ("_backends", "_by_type"):
        monkeypatch.setattr(_registry, table, dict(getattr(_registry, table)))
    monkeypatch.setitem(KNOWN, "slopes", (types.__name__, "pip install slopes"))
    monkeypatch.setitem(frameworks.FRAMEWORKS, "slopes", Worker)
    register(Slopes("slopes", array_api_strict), type(array_api_strict.asarray(0)))
    return probes._Trial("slopes", "DiceLoss")


@pytest.mark.parametrize("feature", [capabilities.AUTOGRAD, capabilities.EXACT_SCALARS])
def test_what_a_framework_s_worker_can_do_is_tried_without_a_word_in_the_probes(trial, feature):
    probes.PROBES[feature](trial)


@pytest.mark.parametrize("feature", [capabilities.SECOND_OF_FORMULA, capabilities.BACKWARD_TWICE, capabilities.TRANSFORMS])
def test_what_only_a_trial_of_its_own_can_say_tells_where_it_is_written(trial, feature):
    with pytest.raises(NotImplementedError, match=r"probes\.py does not say how slopes does it: expected .* TRIALS"):
        probes.PROBES[feature](trial)


@pytest.mark.parametrize("printed", [None, b"", b'{"version": "2'])
def test_a_framework_that_hangs_at_its_import_is_said_to(monkeypatch, printed):
    def hung(command, *, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout, printed)

    monkeypatch.setattr(subprocess, "run", hung)
    assert probes.check("numpy") == ["numpy: it does not start: the process made no answer within 300 s"]


def test_a_probe_that_hangs_is_said_to_and_those_before_and_after_it_count(monkeypatch):
    asked = []

    def hung_at_the_second(command, *, input, timeout, **options):
        asked.append([json.loads(line) for line in input.splitlines()])
        answers = [{"version": "9"}, *({"tried": pair, "failure": ""} for pair in asked[-1])]
        lines = [json.dumps(answer).encode() for answer in answers]
        if len(asked) == 1:
            raise subprocess.TimeoutExpired(command, timeout, b"\n".join([*lines[:2], lines[2][:20]]))
        return subprocess.CompletedProcess(command, 0, b"\n".join(lines), b"")

    monkeypatch.setattr(subprocess, "run", hung_at_the_second)
    found = probes.check("torch")
    (feature, loss) = asked[0][1]
    assert f"torch 9: {feature} ({loss}) should work and fails: the process made no answer within 300 s" in found
    assert asked[1] == asked[0][2:]
    assert [line for line in found if "no answer" in line] == found[:1]
