"""Tries the features that the conformance run does not, so that the capability table cannot say what is not so.

Each probe is a small use of a feature that raises where the feature does not work. They run in processes of their own,
since one of them is known to crash its framework: `python -m unilossseg.conformance.probes BACKEND` tries what its lines of
stdin ask for, and `check(backend)` compares what comes back with `capabilities`.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

import unilossseg
from unilossseg.backends import KNOWN, get_backend
from unilossseg.conformance import capabilities as can

#: The losses by which derivatives are tried: smooth, and built from different functions.
LOSSES = ("CrossEntropyLoss", "DiceLoss", "BCELoss")
#: A framework on a cold and busy machine takes its time to be imported.
SECONDS = 300.0
_BY_LOSS = (can.AUTOGRAD, can.SECOND_OF_FORMULA)
_CLOSE = 1e-6


class ProbeError(Exception):
    """A feature does something else than it should."""


# ---------------------------------------------------------------------------------------------------- what is tried
class _Trial:
    """A loss, its inputs in a framework, and what NumPy's closed form says about them."""

    def __init__(self, backend: str, loss: str) -> None:
        made: Any = unilossseg.LOSSES[loss]
        self.name, self.loss = backend, made()
        self.backend = get_backend(backend)
        self.module: Any = importlib.import_module(KNOWN[backend][0])
        draws = np.random.default_rng(5)
        self.logits, self.labels = draws.normal(size=(1, 3, 2, 2)), np.array([[[0, 1], [2, 255]]])
        if backend == "paddle":
            self.module.set_device("cpu")

    def array(self, x: Any) -> Any:
        """An array of the framework."""
        make = {"torch": "tensor", "paddle": "to_tensor"}.get(self.name, "asarray")
        return getattr(self.module, make)(x)

    def leaf(self) -> Any:
        """Logits that want a gradient."""
        z = self.array(self.logits)
        if self.name == "paddle":
            z.stop_gradient = False
        else:
            z.requires_grad_(True)
        return z

    def gradient(self, logits: Any) -> Any:
        """The gradient by NumPy's closed form."""
        return unilossseg.value_and_grad(self.loss)(logits, self.labels)[1]

    def same(self, got: Any, wanted: Any) -> None:
        """Raises where a gradient is missing or another."""
        if got is None:
            raise ProbeError("there is no gradient")
        off = float(np.max(np.abs(np.asarray(got.detach().numpy()) - wanted)))
        if not off < _CLOSE:
            raise ProbeError(f"the gradient is off by {off:.3g}")

    def face(self) -> Any:
        """The loss as a layer."""
        return getattr(importlib.import_module(f"unilossseg.{self.name}"), self.loss.name)()


def _autograd(trial: _Trial) -> None:
    z = trial.leaf()
    with unilossseg.plain_formula():
        trial.loss(z, trial.array(trial.labels)).backward()
    trial.same(z.grad, trial.gradient(trial.logits))


def _second(trial: _Trial, way: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
    """The gradient of the squared gradient: twice the curvature along the gradient, here by a central difference."""
    z = trial.leaf()
    with way():
        value = trial.loss(z, trial.array(trial.labels))
    grad = trial.module.grad if trial.name == "paddle" else trial.module.autograd.grad
    (gradient,) = grad([value], [z], create_graph=True)
    (gradient * gradient).sum().backward()
    slope, step = trial.gradient(trial.logits), 1e-5
    curved = (trial.gradient(trial.logits + step * slope) - trial.gradient(trial.logits - step * slope)) / step
    trial.same(z.grad, curved)


def _second_of_formula(trial: _Trial) -> None:
    _second(trial, unilossseg.plain_formula)


def _backward_twice(trial: _Trial) -> None:
    z = trial.leaf()
    value = trial.loss(z, trial.array(trial.labels))
    value.backward(retain_graph=True)
    value.backward()
    trial.same(z.grad, 2 * trial.gradient(trial.logits))


def _transforms(trial: _Trial) -> None:
    labels = trial.array(trial.labels)
    gradient = trial.module.func.grad(lambda z: trial.loss(z, labels))(trial.array(trial.logits))
    trial.same(gradient, trial.gradient(trial.logits))


def _compilation(trial: _Trial) -> None:
    module, z = trial.module, trial.leaf()
    if trial.name == "paddle":
        compiled = module.jit.to_static(trial.face(), full_graph=True)
    else:
        # Whether the loss can be traced in one piece; what a code generator makes of the trace is not our business.
        compiled = module.compile(trial.face(), fullgraph=True, backend="eager")
    compiled(z, trial.array(trial.labels)).backward()
    trial.same(z.grad, trial.gradient(trial.logits))


def _shared_input(trial: _Trial) -> None:
    x = trial.array(np.zeros(3, np.float32))
    trial.backend.to_kernel(x)[1] = 5.0
    if float(x[1]) != 5.0:
        raise ProbeError("the closed form gets a copy of the logits")


def _shared_gradient(trial: _Trial) -> None:
    like = trial.array(np.zeros(3, np.float32))
    kernel = trial.backend.kernel(like)
    if kernel is None:
        raise ProbeError("no closed form is used")
    computed = kernel.xp.zeros(3, dtype=kernel.xp.float32)
    seen = trial.backend.from_kernel(computed)
    computed[1] = 5.0
    if float(seen[1]) != 5.0:
        raise ProbeError("the gradient is copied")


def _exact_scalars(trial: _Trial) -> None:
    total = trial.array(np.ones(3)) + 0.1
    if float(total[0]) != 1.1:
        raise ProbeError(f"1 + 0.1 is {float(total[0])!r}")


PROBES: dict[str, Callable[[_Trial], None]] = {
    can.AUTOGRAD: _autograd,
    can.SECOND_OF_FORMULA: _second_of_formula,
    can.SECOND_OF_CLOSED_FORM: _second,
    can.TRANSFORMS: _transforms,
    can.COMPILATION: _compilation,
    can.SHARED_INPUT: _shared_input,
    can.SHARED_GRADIENT: _shared_gradient,
    can.EXACT_SCALARS: _exact_scalars,
    # Last: where it fails it takes the process with it.
    can.BACKWARD_TWICE: _backward_twice,
}


# ---------------------------------------------------------------------------------------------------- in the process
def main(backend: str) -> None:
    """Says the framework's version, then tries every `[feature, loss]` of stdin and says what came of it."""
    print(json.dumps({"version": str(getattr(importlib.import_module(KNOWN[backend][0]), "__version__", ""))}), flush=True)
    for line in sys.stdin:
        feature, loss = json.loads(line)
        try:
            PROBES[feature](_Trial(backend, loss))
            failure = ""
        except Exception as error:
            # The whole of it: around what a closed form says Paddle puts lines of its own.
            failure = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(json.dumps({"tried": [feature, loss], "failure": failure}), flush=True)


# ---------------------------------------------------------------------------------------------------- from outside
def check(backend: str) -> list[str]:
    """What a backend does that the capability table does not say, and exceptions that have expired; nothing is right."""
    version, outcomes = "", {}
    wanted = [(feature, loss) for feature in PROBES for loss in (LOSSES if feature in _BY_LOSS else ("DiceLoss",))]
    wanted = [pair for pair in wanted if can.find(backend, pair[:1], kind=can.UNSUPPORTED) is None]
    while wanted:
        version, found, death = _tried(backend, wanted)
        if not version:
            return [f"{backend}: it does not start: {death}"]
        outcomes.update(found)
        wanted = wanted[len(found) :]
        if wanted:
            outcomes[wanted.pop(0)] = death
    surprises = [_surprise(backend, version, *pair, failure) for pair, failure in outcomes.items()]
    return [*filter(None, surprises), *can.overdue([backend])]


def _tried(backend: str, wanted: Iterable[tuple[str, str]]) -> tuple[str, dict[tuple[str, str], str], str]:
    """The version, the outcomes up to the end or up to a crash, and what became of the process."""
    asked = "".join(json.dumps(pair) + "\n" for pair in wanted)
    # -P: another unilossseg, or a folder called torch, where the command is run must not be taken for the installed one.
    command = [sys.executable, "-P", "-W", "ignore", "-m", __name__, backend]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=SECONDS, check=False)
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"')]
    version = next((line["version"] for line in said if "version" in line), "")
    found = {(line["tried"][0], line["tried"][1]): str(line["failure"]) for line in said if "tried" in line}
    last = done.stderr.strip().splitlines()[-1:]
    return version, found, f"the process ended with exit status {done.returncode}" + "".join(f": {line}" for line in last)


def _surprise(backend: str, version: str, feature: str, loss: str, failure: str) -> str:
    entry = can.find(backend, (feature,), version=version, loss=loss)
    where = f"{backend} {version}: {feature} ({loss})"
    if entry is None and failure:
        return f"{where} should work and fails: {failure}"
    if entry is not None and not failure:
        return f"{where} works, and is expected to fail ({entry.reason}): remove the exception from the capability table"
    if entry is not None and not _as_declared(entry, failure):
        return f"{where} fails, and not as expected ({entry.reason}): {failure}"
    return ""


def _as_declared(entry: can.Exemption, failure: str) -> bool:
    """Whether a failure is the one that an exception is about: a wrong number is none, unless the exception says so."""
    return entry.shows in failure if entry.shows else not failure.startswith(ProbeError.__name__)


if __name__ == "__main__":
    main(sys.argv[1])
