"""pytest in a user's folder, with losses and backends of their own."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys

#: The module own.py.
LOSSES = '''
from dataclasses import dataclass

import numpy as np

from unilossseg import Loss
from unilossseg.building import as_weights, average, keep_where, pixel_cross_entropy, split_labels, triangle


@dataclass(eq=False)
class FocalLoss(Loss):
    gamma: float = 2.0
    ignore_index: int = 255

    def compute(self, ops, logits, labels):
        pixels = split_labels(ops, labels, self.ignore_index)
        losses = pixel_cross_entropy(ops, logits, pixels)
        focus = (1 - ops.xp.exp(-losses)) ** self.gamma
        valid = as_weights(ops, pixels.valid, losses)
        return average(ops, keep_where(ops, pixels.valid, focus * losses)) / average(ops, valid + 1e-8)


SHARP = FocalLoss(gamma=1.0)


@dataclass(eq=False)
class Needs(FocalLoss):
    """It cannot be made without arguments."""

    scale: float = None

    def __init__(self, scale):
        self.scale = scale


@dataclass(eq=False)
class Squares(Loss):
    """The mean square of the logits, with a closed form."""

    class_labels = False

    def check_labels(self, backend, logits, labels):
        return labels

    def compute(self, ops, logits, labels):
        return ops.xp.mean((logits - labels) ** 2)

    def closed_form(self, ops, logits, labels, *, gradient, upstream):
        wide = logits.dtype if logits.dtype == ops.xp.float64 else ops.xp.float32
        off = ops.xp.astype(logits, wide) - ops.xp.astype(ops.xp.reshape(labels, logits.shape), wide)
        slope = 2 * off / (off.shape[0] * off.shape[1] * off.shape[2])
        return ops.xp.mean(off**2), (slope if upstream is None else slope * upstream) if gradient else None


class WrongSign(Squares):
    def closed_form(self, ops, logits, labels, **others):
        value, slope = super().closed_form(ops, logits, labels, **others)
        return value, None if slope is None else -slope


class NoUpstream(Squares):
    def closed_form(self, ops, logits, labels, *, gradient, upstream):
        return super().closed_form(ops, logits, labels, gradient=gradient, upstream=None)


@dataclass(eq=False)
class Leaks(FocalLoss):
    """Ignored pixels have a gradient, and a batch of them alone is NaN."""

    def compute(self, ops, logits, labels):
        valid = as_weights(ops, split_labels(ops, labels, self.ignore_index).valid, logits)
        return average(ops, logits**2) / average(ops, valid)


class Wraps(Squares):
    """Its closed form, which takes arrays as they lie, calculates with labels in their own dtype."""

    class_labels = True
    packed_logits = True
    check_labels = Loss.check_labels

    def compute(self, ops, logits, labels):
        return ops.xp.mean((logits - ops.xp.astype(ops.xp.expand_dims(200 * labels, axis=1), logits.dtype)) ** 2)

    def closed_form(self, ops, logits, labels, **others):
        coded = ops.xp.reshape(200 * labels, (labels.shape[0], 1, -1))
        return super().closed_form(ops, logits, ops.xp.broadcast_to(coded, logits.shape), **others)


SHARPEST = FocalLoss(gamma=0.5)


@dataclass(eq=False)
class Smoothed(FocalLoss):
    """An ignored pixel has a part in what is predicted beside it, and the loss does not say so."""

    def compute(self, ops, logits, labels):
        return super().compute(ops, triangle(ops, logits, 2, radius=1), labels)


class Rounds(Squares):
    """float64 in, float32 inside."""

    closed_form = None

    def compute(self, ops, logits, labels):
        narrow = ops.xp.astype(logits, ops.xp.float32)
        return ops.xp.astype(super().compute(ops, narrow, ops.xp.astype(labels, ops.xp.float32)), logits.dtype)


NUMBER = 7


class WithoutLabels(Squares):
    def conformance_inputs(self, draws):
        return {"logits": draws.normal(size=(2, 2, 3))}


class Seven(Squares):
    def conformance_inputs(self, draws):
        return 7


class Further(Squares):
    def conformance_inputs(self, draws):
        return {"logits": draws.normal(size=(2, 2, 3)), "labels": draws.normal(size=(2, 2, 3)), "sizes": np.ones(2)}


class Words(Squares):
    def conformance_inputs(self, draws):
        return {"logits": draws.normal(size=(2, 2, 3)), "labels": "road"}


class Ragged(Squares):
    def conformance_inputs(self, draws):
        return {"logits": draws.normal(size=(2, 2, 3)), "labels": [[1.0], [1.0, 2.0]]}


class TakesNothing(Squares):
    def conformance_inputs(self):
        return {}


class Raises(Squares):
    closed_form = None

    def compute(self, ops, logits, labels):
        raise KeyError("road")


class GivesNothing(Raises):
    def compute(self, ops, logits, labels):
        return None


@dataclass(eq=False)
class OfTwoChannels(FocalLoss):
    def conformance_inputs(self, draws):
        return {"logits": draws.normal(size=(2, 2, 3)), "labels": np.array([[0, 1, 255], [1, 1, 0]])}

    def compute(self, ops, logits, labels):
        assert tuple(logits.shape[1:]) == (2, 3), logits.shape
        return super().compute(ops, logits, labels)
'''
#: The module mine.py.
BACKENDS = '''
import array_api_strict
from unilossseg.backends import Backend
from unilossseg.conformance.capabilities import EXPECTED_FAILURE, UNSUPPORTED, Exemption
from datetime import date

LATER = date(2999, 1, 1)


class Writable(Backend):
    assignable = True

    def readable(self, x):
        return True

    def read(self, x):
        return float(array_api_strict.astype(x, array_api_strict.float64))


class Broken(Writable):
    """Its sums by class are short of a part in a thousand."""

    def class_sums(self, values, index, classes):
        return 0.999 * super().class_sums(values, index, classes)


class Crashing(Writable):
    def class_sums(self, values, index, classes):
        import os
        os.write(2, b"last words")
        os._exit(7)


def entry(kind, **changes):
    about = {"features": ("closed form",), "reason": "sums are short", "link": "https://example.org/1", **changes}
    return Exemption(**{"backends": ("mine:KNOWN_TO_BREAK", "mine:KNOWN_TO_LACK"), "kind": kind, "expires": LATER, **about})


class Slopes(Backend):
    """Differentiates by central differences: enough of an autograd to tell which logits a value depends on."""

    differentiable = True

    def value_and_grad(self, function, x, upstream):
        import numpy as np
        xp = array_api_strict
        flat = np.array(x)
        gradient = np.zeros(flat.shape)
        for place in np.ndindex(flat.shape):
            sides = []
            for step in (1e-4, -1e-4):
                moved = flat.copy()
                moved[place] += step
                sides.append(np.array(function(xp.asarray(moved))))
            change = (sides[0] - sides[1]) * (1.0 if upstream is None else np.array(upstream))
            gradient[place] = change.sum() / 2e-4
        return function(x), xp.asarray(gradient)


SLOPES = Slopes("slopes", array_api_strict)
ALONE = Backend("alone", array_api_strict)
GOOD = Writable("good", array_api_strict)
BAD = Broken("bad", array_api_strict)
DEAD = Crashing("dead", array_api_strict)
KNOWN_TO_BREAK = Broken("known", array_api_strict)
KNOWN_TO_BREAK.exceptions = [entry(EXPECTED_FAILURE)]
KNOWN_TO_LACK = Writable("lack", array_api_strict)
KNOWN_TO_LACK.exceptions = [
    entry(UNSUPPORTED, features=("float32",)),
    entry(EXPECTED_FAILURE, features=("float64",), reason="it is fine"),
    entry(UNSUPPORTED, features=("closed form",), losses=("DiceLoss",), expires=date(2020, 1, 1), cases="ties"),
]
GONE = Writable("gone", array_api_strict)
GONE.exceptions = [entry(UNSUPPORTED, backends=("mine:GONE",), features=("float32",), expires=date(2020, 1, 1))]
NO_BACKEND = 5
'''


def run_pytest(folder, *arguments, code=None, **environment):
    """pytest as a user starts it, with the plugin by its entry point, in a folder of its own."""
    start = [sys.executable, "-m", "pytest"] if code is None else [sys.executable, "-c", code]
    command = [*start, "-p", "no:cacheprovider", "-W", "error", *arguments]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env={**own, **environment})


def outcomes(done):
    """What became of each item, by its name: from the lines of `pytest -v`."""
    found = re.findall(r"^(\S*\[.+?\]::\S+|\S+::\S+) (PASSED|FAILED|SKIPPED|XFAIL)", done.stdout, re.MULTILINE)
    return dict(found)


def counts(done):
    """The last line's counts: {'passed': 2, ...}."""
    words = done.stdout.strip().splitlines()[-1].replace(",", "").strip("= ").split()
    return {what: int(number) for number, what in itertools.pairwise(words) if number.isdigit()}
