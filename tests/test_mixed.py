"""The closed forms' gradient of a MixedLoss, and what its coefficients may be."""

from collections import UserList

import numpy as np
import pytest
from checks.cases import CE, DICE, L1, MIXED, batch_for
from checks.compare import assert_close, reference_of

import unilossseg

Z = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
Y = np.random.default_rng(1).integers(0, 3, size=(2, 4, 5))


def test_half_precision_is_rounded_after_the_coefficient():
    """Each entry of the loss's own gradient is next to nothing in float16."""
    rng = np.random.default_rng(2)
    logits, labels = rng.normal(size=(1, 5, 128, 128)).astype(np.float16), rng.integers(0, 5, (1, 128, 128))
    loss = unilossseg.CrossEntropyLoss()
    _, exact = loss.value_and_grad(logits.astype(np.float64), labels)
    inner = unilossseg.MixedLoss([loss], 8, reduction="sum")
    for mixed, coef in ((unilossseg.MixedLoss([loss], 4096), 4096), (unilossseg.MixedLoss([inner, loss], 512), 9 * 512)):
        _, gradient = mixed.value_and_grad(logits, labels)
        assert gradient.dtype == np.float16
        # Half a step of float16 for each of the two that are added, and for their sum.
        np.testing.assert_allclose(gradient.astype(np.float64), coef * exact, rtol=3 * 2.0**-11, atol=2.0**-24)


@pytest.mark.parametrize("upstream", [None, np.float64(-2.5), np.asarray(3)], ids=repr)
def test_upstream_gradient_and_coefficients_are_multiplied(upstream):
    batch = batch_for(CE)
    parts = [(CE, {}), (MIXED, {"losses": [(DICE, {}), (CE, {"avg_non_ignore": False})], "coef": [3.0, -1.0]})]
    made = [
        unilossseg.CrossEntropyLoss(),
        unilossseg.MixedLoss([unilossseg.DiceLoss(), unilossseg.CrossEntropyLoss(avg_non_ignore=False)], [3.0, -1.0]),
    ]
    _, gradient = unilossseg.MixedLoss(made, [0.8, 0.2]).value_and_grad(batch.logits, batch.labels, upstream=upstream)
    _, exact = reference_of(MIXED, {"losses": parts, "coef": [0.8, 0.2]}, batch)
    assert_close(gradient, (1.0 if upstream is None else float(upstream)) * exact, 1e-11)


def test_a_list_of_values_of_several_shapes_has_the_gradient_of_all_of_them():
    batch = batch_for(L1)
    mixed = unilossseg.MixedLoss([unilossseg.L1Loss("none"), unilossseg.L1Loss("mean")], [2, 3])
    (each, mean), gradient = mixed.value_and_grad(batch.logits, batch.labels)
    assert (np.shape(each), np.shape(mean)) == (batch.logits.shape, ())
    exact = 2 * reference_of(L1, {"reduction": "sum"}, batch)[1] + 3 * reference_of(L1, {}, batch)[1]
    assert_close(gradient, exact, 1e-11)


def test_a_sum_of_values_of_several_shapes_is_refused():
    """One of them would be added to each entry of the other, and its gradient counted once."""
    mixed = unilossseg.MixedLoss([unilossseg.L1Loss("none"), unilossseg.L1Loss("mean")], 1, reduction="sum")
    with pytest.raises(ValueError, match=r"MixedLoss: the losses' values have shapes .*, expected one shape for all"):
        mixed.value_and_grad(Z, Z)


@pytest.mark.parametrize("coef", [np.array([0.5, 2.0]), UserList([0.5, 2.0])], ids=repr)
def test_coefficients_in_another_sequence(coef):
    loss = unilossseg.CrossEntropyLoss()
    mixed = unilossseg.MixedLoss([loss, loss], coef)
    assert mixed.coef == [0.5, 2.0]
    assert mixed(Z, Y) == [0.5 * loss(Z, Y), 2 * loss(Z, Y)]


@pytest.mark.parametrize(
    ("losses", "error", "message"),
    [
        (5, TypeError, r"losses must be a list of losses \(got 5 that is a int\)"),
        ({"a": len}, TypeError, "losses must be a list of losses .* that is a dict"),
        ([], ValueError, r"losses must be a list of at least one loss \(got none\)"),
        (iter([]), ValueError, r"losses must be a list of at least one loss \(got none\)"),
        ([len, 3], TypeError, r"losses\[1\] must be a loss \(got 3 that is a int\)"),
        ([unilossseg.DiceLoss], TypeError, r"losses\[0\] must be a loss .* that is a type"),
    ],
    ids=["number", "dict", "none", "none in a generator", "number among them", "class"],
)
def test_losses_that_are_set_later_are_checked(losses, error, message):
    mixed = unilossseg.MixedLoss([unilossseg.DiceLoss()], 1)
    before = list(mixed.losses)
    with pytest.raises(error, match=f"^MixedLoss: {message}"):
        mixed.losses = losses
    assert mixed.losses == before


def test_losses_of_a_generator():
    loss = unilossseg.CrossEntropyLoss()
    mixed = unilossseg.MixedLoss((one for one in [loss, loss]), 1)
    mixed.losses = (one for one in [loss, unilossseg.DiceLoss()])
    assert mixed(Z, Y) == [loss(Z, Y), unilossseg.DiceLoss()(Z, Y)]
