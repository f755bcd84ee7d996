"""Every option with other numbers of classes: none asks the kernels for more than they take, or for what one class lacks."""

import numpy as np
import pytest
from checks.cases import BCE, DUAL, HINGE, L1, LOVASZ, MSE, ROWS, batch_for, named
from checks.compare import assert_close, reference_of

from unilossseg.backends import _torch_numbers

#: Their labels are no classes, or they know one number of channels alone; DualTaskLoss takes its time for each class.
FEW = (L1, MSE, HINGE, DUAL)
CLASS_NUMBERS = [(row, channels) for row in ROWS if row[0] not in FEW for channels in (1, 4)]
CLASS_NUMBERS += [(row, channels) for row in ROWS if row[0] == BCE for channels in (19, 150)]


@pytest.fixture(autouse=True)
def only_kernels(accelerator, monkeypatch):
    """What is calculated with a few numbers fits into one launch."""

    def refuse(number, found):
        raise AssertionError("a loss calculates with more numbers than the kernel can name")

    monkeypatch.setattr(_torch_numbers, "_by_torch", refuse)


def is_binary(row, channels):
    """Whether the one channel has labels 0 and 1."""
    return channels == 1 and (row[0] == BCE or (row[0] == LOVASZ and row[1].get("variant") == "corrected"))


def with_classes(row, channels):
    """The row with as many weights as classes, and with classes that there are."""
    name, options = row
    options = dict(options)
    if name != BCE and isinstance(options.get("weight"), list):
        options["weight"] = [0.5 + 0.25 * (c % 7) for c in range(channels)]
    if isinstance(options.get("classes"), list):
        options["classes"] = [1] if is_binary(row, channels) else [channels - 1, 0]
    if options.get("losses"):
        options["losses"] = [with_classes(inner, channels) for inner in options["losses"]]
    return name, options


@pytest.mark.parametrize(("row", "channels"), CLASS_NUMBERS, ids=lambda it: it if isinstance(it, int) else named(it))
def test_numbers_of_classes(driver, row, channels):
    row = with_classes(row, channels)
    batch = batch_for(row[0], seed=3, channels=channels)
    if channels == 1 and not is_binary(row, channels):
        batch.labels[batch.labels == 1] = 0
    value, gradient = driver.value_and_gradient(driver.make(*row), batch, "float32")
    exact_value, exact = reference_of(*row, batch)
    assert_close(value, exact_value, 1e-5)
    np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=1e-5 * max(np.abs(exact).max(), 1e-2))
