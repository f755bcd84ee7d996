"""The benchmarks' own logic, with made-up numbers: rows, plans, targets and marks."""

import numpy as np
import pytest

from benchmarks import marks, plan, targets
from benchmarks.rows import ROWS, TARGET, Shape, arrays, row


@pytest.mark.parametrize("name", ROWS)
def test_inputs_have_the_configuration_and_no_ignored_pixel(name):
    shape = Shape(2, 5, 32)
    found = arrays(row(name), shape)
    channels = row(name).channels(shape)
    assert found["logits"].shape == (2, channels, 32, 32)
    if row(name).kind != "values":
        assert found["labels"].min() >= 0
        assert found["labels"].max() < max(channels, 2)
    assert all(np.array_equal(a, b) for a, b in zip(found.values(), arrays(row(name), shape).values(), strict=True))


def test_every_row_has_a_target_and_every_reason_a_row():
    assert list(targets.TARGETS) == list(ROWS)
    for name, backend, what in targets.REASONS:
        assert name in ROWS
        assert backend in ("torch", "paddle")
        assert what in ("speed", "memory", "first call", "floor", "small", "linear")


def test_met_or_short():
    assert targets.at_least(2.5, 2.5) is True
    assert targets.at_least(2.4, 2.5) is False
    assert targets.at_least(2.4, None) is None
    assert targets.at_most(None, 1.3) is None
    assert targets.at_most(1.31, 1.3) is False


def test_a_plan_has_each_cell_once():
    wanted = plan.Plan(plan.rows(()), *plan.star(quick=False), ("torch", "paddle"), 1, 1.0)
    cells = [
        (backend, one.name, alone, one.channels(s), s.batch, s.size, s.dtype)
        for backend in wanted.backends
        for one in wanted.rows
        for s, alone in wanted.shapes_of(backend, one)
    ]
    assert len(cells) == len(set(cells))
    assert not [cell for cell in cells if cell[-1] == "bfloat16" and not ROWS[cell[1]].half]


def test_a_quick_plan_still_measures_the_slow_reference_at_a_small_size():
    wanted = plan.Plan(plan.rows(("DualTaskLoss",)), *plan.star(quick=True), ("torch", "paddle"), 1, 1.0)
    sizes = {name: [shape.size for shape, _ in wanted.shapes_of(name, *wanted.rows)] for name in wanted.backends}
    assert sizes == {"torch": [512], "paddle": [512, 32]}


@pytest.mark.parametrize(("device", "large"), [("cpu", plan.LARGE), ("cuda", ())])
def test_the_full_matrix_has_every_combination(device, large):
    shapes, alone = plan.selected(False, True, None, None, None, None, device)
    assert len(shapes) == 4 * 3 * 3 * 2
    assert alone == large


@pytest.mark.parametrize("options", [(True, None), (False, [2, 19])], ids=["full", "two numbers of classes"])
def test_every_row_is_measured_at_the_target_where_that_is_among_the_configurations(options):
    full, classes = options
    wanted = plan.Plan(plan.rows(()), *plan.selected(False, full, None, None, classes, None), ("torch",), 1, 1.0)
    assert all(TARGET in dict(wanted.shapes_of("torch", one)) for one in ROWS.values())


def test_the_largest_are_measured_without_peers_even_where_the_matrix_has_them():
    wanted = plan.Plan(plan.rows(("DiceLoss",)), *plan.selected(False, True, None, None, None, None), ("torch",), 1, 1.0)
    found = wanted.shapes_of("torch", *wanted.rows)
    assert [shape for shape, alone in found if alone] == [TARGET, *plan.LARGE]
    assert (plan.LARGE[1], False) in found


def test_a_loss_of_one_channel_is_not_measured_with_more_classes():
    wanted = plan.Plan(plan.rows(("LovaszHingeLoss",)), (TARGET,), plan.LARGE, ("torch",), 1, 1.0)
    assert wanted.shapes_of("torch", *wanted.rows) == [(TARGET, False), (TARGET, True), (plan.LARGE[0], True)]


def test_a_class_name_means_all_its_rows():
    assert [one.name for one in plan.rows(("BCELoss",))] == ["BCELoss", "BCELoss dynamic"]


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        (("", 1e-7, 1e-7), marks.SAME),
        (("", 1e-1, 1e-7), marks.WRONG),
        (("", 1e-7, 1e-1), marks.WRONG),
        (("", float("nan"), 1e-7), marks.WRONG),
        (("per image", 1e-7, 1e-7), marks.ANOTHER),
        (("per image", 1e-1, 1e-7), marks.WRONG),
        (("draws noise", None, None), marks.UNCHECKED),
    ],
)
def test_marks(errors, expected):
    assert marks.mark(*errors)[0] == expected
