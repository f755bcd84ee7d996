"""torch and Paddle beside each other in float64, with no reference between them, each in a process of its own."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unilossseg import LOSSES
from unilossseg.backends import is_installed
from unilossseg.conformance.cases import selected
from unilossseg.conformance.known import Known
from unilossseg.conformance.pool import Worker
from unilossseg.conformance.protocol import CLOSED_FORM, MODES
from unilossseg.conformance.run import Prepared, outcomes_of

FRAMEWORKS = ("torch", "paddle")
#: Of the scale: a value and a gradient in float64 that differ by more differ by more than the order of their sums.
AGREEMENT = 1e-12
pytestmark = pytest.mark.skipif(
    not all(is_installed(name) for name in FRAMEWORKS), reason="compares torch with Paddle: both must be installed"
)

#: Every variant, condition and option of every loss in float64.
CASES = [case for case in selected(None, "/float64") if case.dtype == "float64"]


def computed(backend, folder):
    """The outcomes of all cases on a backend, by case and mode."""
    folder = folder / backend
    folder.mkdir()
    found = {}
    with Worker(backend, folder) as worker:
        known = Known.of(backend, worker.greeting())
        for number, case in enumerate(CASES):
            item = Prepared(number, case, folder)
            worker.ask(item.request(backend))
            found[case.id] = outcomes_of(item.output(backend), worker.reply(number, 60), known.modes)
    return found


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("agree")
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(FRAMEWORKS, pool.map(lambda name: computed(name, folder), FRAMEWORKS), strict=True))


def off(one, other):
    """The largest difference as a share of the scale; a NaN or an infinity must stand in both."""
    np.testing.assert_array_equal(np.isfinite(one), np.isfinite(other))
    finite = np.isfinite(one)
    scale = np.abs(one[finite]).max(initial=0)
    apart = np.abs(one[finite] - other[finite]).max(initial=0)
    return apart / scale if scale else apart


def test_every_loss_is_compared():
    assert {case.loss for case in CASES} == set(LOSSES)
    for loss in LOSSES:
        assert {case.condition for case in CASES if case.loss == loss} >= {"plain", "ties"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("loss", LOSSES)
def test_torch_and_paddle_agree(outcomes, loss, mode):
    compared = 0
    for case in (case for case in CASES if case.loss == loss):
        one, other = (outcomes[name][case.id][mode] for name in FRAMEWORKS)
        assert (one.error, other.error) == ("", ""), case.id
        assert one.value_dtype == other.value_dtype == "float64"
        assert one.gradient_dtype == other.gradient_dtype == "float64"
        assert off(one.value, other.value) <= AGREEMENT, case.id
        assert off(one.gradient, other.gradient) <= AGREEMENT, case.id
        compared += 1
    assert compared >= 15


def test_a_difference_of_the_size_that_is_told_apart_is_seen(outcomes):
    for name in LOSSES:
        case = next(case for case in CASES if case.loss == name and case.condition == "plain")
        gradient = outcomes["torch"][case.id][CLOSED_FORM].gradient
        assert off(gradient, gradient * (1 + 4 * AGREEMENT)) > AGREEMENT


def test_neither_framework_came_into_this_process(outcomes):
    assert set(outcomes) == set(FRAMEWORKS)
    assert not set(FRAMEWORKS) & set(sys.modules)
