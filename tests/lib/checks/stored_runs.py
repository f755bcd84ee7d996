"""Runs for the tests of reports: judged here, without a worker, and spoiled where a test wants it."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np

from unilossseg.conformance import cases
from unilossseg.conformance.protocol import Outcome
from unilossseg.conformance.reference import value_and_gradient
from unilossseg.conformance.reports import reader
from unilossseg.conformance.results import Result, Run
from unilossseg.conformance.verdict import EXPECTED, UNSUPPORTED, Reference, Verdict, judge

GREETING = {
    "backend": "numpy",
    "framework": "numpy",
    "version": "2.0",
    "python": "3.11",
    "numpy": "2.0",
    "array_api_compat": "1.11",
    "unilossseg": "0",
    "flags": ["kernel_threads=2"],
}
STARTED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def exact(case):
    """The reference as a backend would return it, and the reference."""
    arrays = dict(case.arrays)
    reference = Reference(
        *value_and_gradient(case.loss, case.parameters, arrays.pop("logits"), arrays.pop("labels"), **arrays)
    )
    value = reference.value.astype(np.float64 if case.dtype == "float64" else np.float32)
    return Outcome(value, value.dtype.name, cases.rounded(reference.gradient, case.dtype), case.dtype), reference


def result(case, backend="numpy", mode="closed form", spoil=None, native=None):
    """A result; `spoil` returns another outcome or a Verdict, and `native` what it is compared with."""
    outcome, reference = exact(case)
    spoiled = spoil(outcome) if spoil else outcome
    verdict = (
        spoiled
        if isinstance(spoiled, Verdict)
        else judge(case, spoiled, reference, native and ("torch.nn.functional.x", native(outcome)))
    )
    return Result(case, backend, mode, verdict, 0.001)


def scaled(factor):
    """A gradient that is off by a factor."""
    return lambda outcome: replace(outcome, gradient=outcome.gradient * np.asarray(factor, outcome.gradient.dtype))


def made(results, **changes):
    """The run of some results."""
    backends = {one.backend: {**GREETING, "backend": one.backend} for one in results}
    settings = {"backends": backends, "absent": {}, "seconds": 1.5, "started": STARTED, **changes}
    return Run(results=results, cases=len({one.case.id for one in results}), **settings)


def stored(results, **changes):
    """The same as it is read from its record."""
    return reader.parse(made(results, **changes).record())


def plain_cases(*losses, dtype="float32"):
    """Three or so cases of each loss."""
    return cases.selected(list(losses) or ["DiceLoss", "MSELoss"], f"plain/{dtype}")


def of_every_status():
    """Results of every status."""
    dice, other = plain_cases("DiceLoss")
    return [
        result(dice),
        result(dice, mode="plain formula", spoil=scaled(1.001)),
        result(dice, "torch", spoil=lambda outcome: replace(outcome, error="ValueError: first\nsecond")),
        result(other, spoil=lambda outcome: Verdict(UNSUPPORTED, "has none", link="https://example.org/why")),
        result(other, "torch", spoil=lambda outcome: Verdict(EXPECTED, "known: off", link="docs/precision.md")),
        result(other, "torch", "face", spoil=lambda outcome: replace(outcome, value=outcome.value * np.float32("nan"))),
    ]
