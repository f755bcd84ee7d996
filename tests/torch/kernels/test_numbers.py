"""Numbers on a device, which are written down first and calculated by one kernel."""

import math
import operator

import numpy as np
import pytest
import torch
from checks.kernels import DEVICE, KERNELS
from hypothesis import given, settings
from hypothesis import strategies as st

from unilossseg.backends import _torch_numbers as numbers
from unilossseg.backends import _triton_numbers as kernel
from unilossseg.backends._torch_numbers import Number, calculated

SIGNS = (operator.add, operator.sub, operator.mul, operator.truediv)
LEAVES = torch.tensor([3.0, 0.25, -7.0, 2.0**40 + 1, 1e-10], dtype=torch.float64)
HALF = torch.tensor(0.5)


def leaf(at):
    return Number.of(LEAVES.to(DEVICE, copy=True), at)


@pytest.fixture
def launches(monkeypatch):
    """What was launched."""
    found, original = [], numbers.launch
    monkeypatch.setattr(numbers, "launch", lambda *given, **options: found.append(given) or original(*given, **options))
    return found


@st.composite
def written(draw, depth=3):
    """A number, and what it is."""
    kind = draw(st.integers(0, 3)) if depth else 0
    if kind == 0:
        at = draw(st.integers(0, len(LEAVES) - 1))
        return leaf(at), float(LEAVES[at])
    sign = draw(st.sampled_from(SIGNS))
    one, first = draw(written(depth - 1))
    other, second = draw(
        st.one_of(st.sampled_from((2.0, 19, 0.125, 2**31)).map(lambda x: (x, float(x))), written(depth - 1))
    )
    if draw(st.booleans()):
        one, first, other, second = other, second, one, first
    if sign is operator.truediv and second == 0:
        sign = operator.add
    return sign(one, other), sign(first, second)


@settings(max_examples=40, deadline=None)
@given(pair=written())
def test_any_number_is_what_python_says(pair):
    number, exact = pair
    # Each leaf is a tensor of its own here, of which a program names four.
    shared = LEAVES.to(DEVICE)

    def together(x):
        if not isinstance(x, Number):
            return x
        return Number(x.kind, shared, x.operands[1]) if x.kind == kernel.READ else Number(x.kind, *map(together, x.operands))

    found = together(number).tensor()
    assert (found.dtype, found.ndim) == (torch.float32, 0)
    np.testing.assert_allclose(found.item(), np.float32(exact), rtol=2e-7, atol=1e-30)


def test_kernels_are_tried_out_by_one_launch(launches, monkeypatch):
    if DEVICE == "cpu":
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 0))
    KERNELS.try_out(torch.device(DEVICE))
    assert [given[0] for given in launches] == [kernel.calculate]


def test_constants_have_all_their_digits():
    number = leaf(3) - 2**40
    assert number.tensor().item() == 1
    assert (1e10 + leaf(1) - 1e10).tensor().item() == 0.25


def test_several_come_from_one_launch(launches):
    x, whole = Number.of(LEAVES.to(DEVICE), 0), 2.0
    twice = x * whole
    found = [one.item() for one in calculated([twice, twice + 1.0, whole / twice])]
    assert found == pytest.approx([6.0, 7.0, 1 / 3], rel=1e-7)
    (arguments,) = launches
    steps = arguments[-1]
    # The entry, 2, their product, and 1, each once.
    assert [step[0] for step in steps].count(kernel.READ) == 1
    assert [step[0] for step in steps].count(kernel.CONSTANT) == 2
    assert [step[0] for step in steps].count(kernel.MULTIPLY) == 1


@pytest.mark.parametrize("sign", SIGNS)
def test_beside_an_array_it_is_a_tensor(sign):
    x, array = leaf(1), torch.tensor([1.0, -2.0, 8.0], device=DEVICE)
    for found, exact in ((sign(x, array), sign(0.25, array)), (sign(array, x), sign(array, 0.25))):
        assert torch.equal(found, exact)


@pytest.mark.parametrize("sign", SIGNS)
def test_beside_a_number_of_torch_s_it_stays_one(sign):
    x, half = leaf(1), HALF.to(DEVICE)
    for found, exact in ((sign(x, half), sign(0.25, 0.5)), (sign(half, x), sign(0.5, 0.25))):
        assert isinstance(found, Number)
        assert found.tensor().item() == exact


def test_what_is_no_number_stays_none():
    values = Number.of(torch.tensor([0.0, np.nan, np.inf], dtype=torch.float64, device=DEVICE), 0)
    nothing, missing, endless = (Number(kernel.READ, values.operands[0], at) for at in range(3))
    assert np.isnan((missing * 0.0).tensor().item())
    assert (1.0 / endless).tensor().item() == 0
    assert (nothing + endless).tensor().item() == np.inf


@pytest.mark.parametrize("further", [0, 1])
def test_more_constants_than_the_kernel_can_name_are_calculated_by_torch(launches, further):
    number, exact = leaf(0), 3.0
    for constant in range(kernel.MOST_CONSTANTS + further):
        number, exact = number + (constant + 0.1), exact + (constant + 0.1)
    found = number.tensor()
    assert (found.dtype, found.ndim, found.item()) == (torch.float32, 0, np.float32(exact))
    assert len(launches) == 1 - further


@pytest.mark.parametrize("further", [0, 1])
def test_more_tensors_than_the_kernel_can_name_are_calculated_by_torch(launches, further):
    leaves = [leaf(at) for at in (0, 1, 2, 0, 1)][: kernel.MOST_TENSORS + further]
    (first, second, *_), total = leaves, sum(leaves[1:], start=leaves[0])
    found = calculated([total, first / second, 1 - total * total, second - 7])
    exact = sum([3, 0.25, -7, 3, 0.25][: len(leaves)])
    assert [one.item() for one in found] == pytest.approx([exact, 12, 1 - exact * exact, -6.75], rel=1e-7)
    assert {(one.dtype, one.ndim) for one in found} == {(torch.float32, 0)}
    assert len(launches) == 1 - further


def test_what_torch_calculates_it_calculates_once(monkeypatch):
    calls, signs = [], numbers._SIGNS
    monkeypatch.setattr(
        numbers, "_SIGNS", {kind: lambda *two, sign=sign: calls.append(sign) or sign(*two) for kind, sign in signs.items()}
    )
    whole = sum([leaf(0) for _ in range(kernel.MOST_TENSORS + 1)], start=0.0)
    for _ in range(20):
        whole = whole * whole / whole
    assert whole.tensor().item() == 15
    assert len(calls) == kernel.MOST_TENSORS + 1 + 2 * 20


def test_a_loss_s_value_is_settled():
    found = KERNELS.settled(leaf(0) / 2.0)
    assert (found.item(), found.dtype) == (1.5, torch.float32)
    assert KERNELS.settled(HALF) is HALF
    assert isinstance(KERNELS.cast(leaf(0), torch.float32), Number)


@pytest.mark.parametrize("length", [1, 2, 4096, 4097, kernel.MOST_SUMMED, kernel.MOST_SUMMED + 1])
def test_a_sum_is_a_step_or_torchs_own(rng, length):
    parts = torch.from_numpy(rng.normal(size=length) * 10.0 ** rng.integers(-6, 7, size=length)).to(DEVICE)
    total = Number.total(parts)
    assert total.kind == (kernel.SUM if length <= kernel.MOST_SUMMED else kernel.READ)
    exact = math.fsum(parts.tolist())
    many = [number.item() for number in calculated([total, total / leaf(1), 1 - total * 0, total - Number.of(parts, 0)])]
    np.testing.assert_allclose(many, [exact, exact / 0.25, 1, exact - parts[0].item()], rtol=2e-7, atol=1e-7)


def test_sums_of_one_length_are_calculated_together_and_others_by_torch(launches):
    one, other = (torch.arange(5.0, dtype=torch.float64, device=DEVICE) + start for start in (0, 7))
    assert (Number.total(one) / Number.total(other)).tensor().item() == np.float32(10 / 45)
    assert len(launches) == 1
    assert (Number.total(one) / Number.total(other[:3])).tensor().item() == np.float32(10 / 24)
    assert len(launches) == 1
