"""The framework's functionals that errors are compared with have the losses' own definitions."""

import numpy as np
import pytest

from unilossseg.conformance.cases import selected
from unilossseg.conformance.frameworks import FRAMEWORKS
from unilossseg.conformance.run import Prepared

#: Cases in float64 that a functional must be found for.
KNOWN = {"CrossEntropyLoss": 20, "BCELoss": 20, "L1Loss": 14, "MSELoss": 30}
#: The formulas add 1e-10 to the share of elements that count; a functional does not, and as few as one element in 20 counts.
DEFINITION = 1e-8


def agrees(name, loss, tmp_path):
    """Compares every functional that is found for a loss with the reference, in float64."""
    framework, found = FRAMEWORKS[name](name), []
    for number, case in enumerate(selected([loss], "float64")):
        # Where -log of a probability is clipped: Paddle's cross entropy does so on the CPU.
        if case.condition == "logits of ±1e4":
            continue
        item = Prepared(number, case, tmp_path)
        outcome = framework.native(item.request(name), dict(case.arrays))
        if outcome is None:
            continue
        found.append(outcome.name)
        reference = item.reference()
        for got, wanted in ((outcome.value, reference.value), (outcome.gradient, reference.gradient)):
            scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
            np.testing.assert_allclose(got, wanted, rtol=0, atol=DEFINITION * scale, err_msg=case.id)
    assert len(found) >= KNOWN[loss]
    return set(found)


def has_none(name, loss, tmp_path, part="plain/float64"):
    """Whether cases of a loss without a functional of its definition are left to the plain formula."""
    framework = FRAMEWORKS[name](name)
    cases = selected([loss], part)
    assert cases
    return all(framework.native(Prepared(0, case, tmp_path).request(name), dict(case.arrays)) is None for case in cases)


FUNCTIONALS = pytest.mark.parametrize(
    ("loss", "functional"),
    [
        ("CrossEntropyLoss", "cross_entropy"),
        ("BCELoss", "binary_cross_entropy_with_logits"),
        ("L1Loss", "l1_loss"),
        ("MSELoss", "mse_loss"),
    ],
)
