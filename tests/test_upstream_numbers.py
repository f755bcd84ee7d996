"""NumPy makes a number of its own of an array of no axes: such a number is an upstream gradient too."""

import numpy as np
import pytest
from checks.cases import CE, DICE, L1, WEIGHT
from checks.compare import assert_close

import unilossseg
from unilossseg.conformance.reference import value_and_gradient

rng = np.random.default_rng(0)
LOGITS = 2 * rng.normal(size=(2, 3, 4, 5))
LABELS = rng.integers(0, 3, size=(2, 4, 5))


@pytest.mark.parametrize(
    "upstream", [np.float16(-2.5), np.float32(-2.5), np.float64(-2.5), np.int64(3), np.bool_(True)], ids=repr
)
@pytest.mark.parametrize(("name", "options"), [(DICE, {"weight": WEIGHT}), (CE, {}), (L1, {})])
def test_a_number_of_numpy_s_is_an_upstream_gradient(name, options, upstream):
    labels = LABELS if name != L1 else LOGITS[::-1]
    value, gradient = unilossseg.value_and_grad(unilossseg.LOSSES[name](**options))(LOGITS, labels, upstream=upstream)
    exact_value, exact = value_and_gradient(name, options, LOGITS, labels)
    assert_close(value, exact_value, 1e-12)
    assert_close(gradient, float(upstream) * exact, 1e-12)


def test_a_value_is_the_upstream_gradient_of_a_mixed_loss():
    mixed = unilossseg.MixedLoss([unilossseg.DiceLoss(), unilossseg.CrossEntropyLoss()], coef=[0.5, 2], reduction="sum")
    value, gradient = mixed.value_and_grad(LOGITS.astype(np.float32), LABELS)
    assert isinstance(value, np.float32)
    _, scaled = mixed.value_and_grad(LOGITS.astype(np.float32), LABELS, upstream=value)
    assert_close(scaled, float(value) * gradient, 4e-6)
