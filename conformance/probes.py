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
from unilossseg.conformance.frameworks import framework_of

#: The losses by which derivatives are tried: smooth, and built from different functions.
LOSSES = ("CrossEntropyLoss", "DiceLoss", "BCELoss")
#: A framework on a cold and busy machine takes its time to be imported.
SECONDS = 300.0
_BY_LOSS = (can.AUTOGRAD, can.SECOND_OF_FORMULA)
_CLOSE = 1e-6
_NO_WAY = "conformance/probes.py does not say how {} does it: expected a class of its own among TRIALS"


class ProbeError(Exception):
    """A feature does something else than it should."""


# ---------------------------------------------------------------------------------------------------- what is tried
class _Trial:
    """A loss, its inputs in a framework, and what NumPy's closed form says about them.

    What a framework's users can do beside `through_face` of `conformance/frameworks.py` a subclass says, among `TRIALS`.
    """

    def __init__(self, backend: str, loss: str) -> None:
        made: Any = unilossseg.LOSSES[loss]
        self.name, self.loss = backend, made()
        self.backend, self.framework = get_backend(backend), framework_of(backend)
        self.module: Any = self.framework.module
        draws = np.random.default_rng(5)
        self.logits, self.numbers = draws.normal(size=(1, 3, 2, 2)), np.array([[[0, 1], [2, 255]]])
        self.labels = self.array(self.numbers)

    def array(self, x: Any) -> Any:
        """An array of the framework, made as the conformance run makes it."""
        return self.framework.array(x, x.dtype.name, strided=False)

    def gradient(self, logits: Any) -> Any:
        """The gradient by NumPy's closed form."""
        return unilossseg.value_and_grad(self.loss)(logits, self.numbers)[1]

    def same(self, got: Any, wanted: Any) -> None:
        """Raises where a gradient is missing or another."""
        if got is None:
            raise ProbeError("there is no gradient")
        off = float(np.max(np.abs(self.framework.to_numpy(got) - wanted)))
        if not off < _CLOSE:
            raise ProbeError(f"the gradient is off by {off:.3g}")

    def face(self) -> Any:
        """The loss as a layer."""
        return getattr(importlib.import_module(f"unilossseg.{self.name}"), self.loss.name)()

    def differentiated(self, loss: Any) -> Any:
        """The gradient of a loss, or of its layer, as the framework's users ask for it."""
        return self.framework.through_face(loss, self.array(self.logits), None, self.labels, None, {})[1]

    def differentiated_twice(self, way: Callable[[], AbstractContextManager[None]]) -> Any:
        """The gradient of the sum of the squared gradient of a value that is computed in a context."""
        raise NotImplementedError(_NO_WAY.format(self.name))

    def backward_twice(self) -> Any:
        """What two backward passes through one call of the loss add up to."""
        raise NotImplementedError(_NO_WAY.format(self.name))

    def transformed(self) -> Any:
        """The gradient by a transform of functions."""
        raise NotImplementedError(_NO_WAY.format(self.name))

    def compiled(self) -> Any:
        """The loss's layer, compiled in one piece."""
        raise NotImplementedError(_NO_WAY.format(self.name))


class _WithBackward(_Trial):
    """Of a framework whose tensors have `backward()` and `.grad`."""

    def leaf(self) -> Any:
        """Logits that want a gradient."""
        raise NotImplementedError

    def slope(self, value: Any, logits: Any) -> Any:
        """The gradient of a value, which can be differentiated again."""
        raise NotImplementedError

    def differentiated_twice(self, way: Callable[[], AbstractContextManager[None]]) -> Any:
        """By `create_graph=True`."""
        z = self.leaf()
        with way():
            value = self.loss(z, self.labels)
        gradient = self.slope(value, z)
        (gradient * gradient).sum().backward()
        return z.grad

    def backward_twice(self) -> Any:
        """By `retain_graph=True`."""
        z = self.leaf()
        value = self.loss(z, self.labels)
        value.backward(retain_graph=True)
        value.backward()
        return z.grad


class _Torch(_WithBackward):
    """PyTorch."""

    def leaf(self) -> Any:
        """By `requires_grad_`."""
        return self.array(self.logits).requires_grad_(True)

    def slope(self, value: Any, logits: Any) -> Any:
        """By torch.autograd."""
        return self.module.autograd.grad(value, logits, create_graph=True)[0]

    def transformed(self) -> Any:
        """By torch.func."""
        return self.module.func.grad(lambda z: self.loss(z, self.labels))(self.array(self.logits))

    def compiled(self) -> Any:
        """Whether the loss can be traced in one piece; what a code generator makes of the trace is not our business."""
        return self.module.compile(self.face(), fullgraph=True, backend="eager")


class _Paddle(_WithBackward):
    """PaddlePaddle, which has no transforms of functions."""

    def leaf(self) -> Any:
        """By `stop_gradient`."""
        z = self.array(self.logits)
        z.stop_gradient = False
        return z

    def slope(self, value: Any, logits: Any) -> Any:
        """By `paddle.grad`."""
        return self.module.grad([value], [logits], create_graph=True)[0]

    def compiled(self) -> Any:
        """By `to_static`."""
        return self.module.jit.to_static(self.face(), full_graph=True)


#: The trials of the frameworks that have an autograd.
TRIALS: dict[str, type[_Trial]] = {"torch": _Torch, "paddle": _Paddle}


def _autograd(trial: _Trial) -> None:
    with unilossseg.plain_formula():
        gradient = trial.differentiated(trial.loss)
    trial.same(gradient, trial.gradient(trial.logits))


def _second(trial: _Trial, way: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
    """The gradient of the squared gradient: twice the curvature along the gradient, here by a central difference."""
    found = trial.differentiated_twice(way)
    slope, step = trial.gradient(trial.logits), 1e-5
    curved = (trial.gradient(trial.logits + step * slope) - trial.gradient(trial.logits - step * slope)) / step
    trial.same(found, curved)


def _second_of_formula(trial: _Trial) -> None:
    _second(trial, unilossseg.plain_formula)


def _backward_twice(trial: _Trial) -> None:
    trial.same(trial.backward_twice(), 2 * trial.gradient(trial.logits))


def _transforms(trial: _Trial) -> None:
    trial.same(trial.transformed(), trial.gradient(trial.logits))


def _compilation(trial: _Trial) -> None:
    trial.same(trial.differentiated(trial.compiled()), trial.gradient(trial.logits))


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
            PROBES[feature](TRIALS.get(backend, _Trial)(backend, loss))
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
    """The version, the outcomes up to the end, a crash or a probe that hangs, and what became of the process."""
    asked = "".join(json.dumps(pair) + "\n" for pair in wanted)
    # -P: another unilossseg, or a folder called torch, where the command is run must not be taken for the installed one.
    command = [sys.executable, "-P", "-W", "ignore", "-m", __name__, backend]
    try:
        done = subprocess.run(command, input=asked.encode(), capture_output=True, timeout=SECONDS, check=False)
        printed, death = done.stdout, f"the process ended with exit status {done.returncode}"
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        death += "".join(f": {line}" for line in last)
    except subprocess.TimeoutExpired as error:
        # Without the line that it may have been ended in; None: it had printed nothing.
        printed, death = (error.stdout or b"").rpartition(b"\n")[0], f"the process made no answer within {SECONDS:g} s"
    said = [json.loads(line) for line in printed.splitlines() if line.startswith(b'{"')]
    version = next((line["version"] for line in said if "version" in line), "")
    found = {(line["tried"][0], line["tried"][1]): str(line["failure"]) for line in said if "tried" in line}
    return version, found, death


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
