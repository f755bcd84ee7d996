"""What the errors of a loss are compared with is the same loss."""

import pytest
from checks import native_functionals

from unilossseg.backends import _paddle_version


@native_functionals.FUNCTIONALS
def test_functionals_have_the_definition_of_the_loss(loss, functional, tmp_path):
    assert native_functionals.agrees("paddle", loss, tmp_path) == {f"paddle.nn.functional.{functional}"}


def test_a_loss_without_such_a_functional_has_none(tmp_path):
    assert native_functionals.has_none("paddle", "DiceLoss", tmp_path)


@pytest.mark.parametrize("case", ["pos_weight", "weights-of-images"])
def test_a_pos_weight_that_paddle_2_gets_wrong_is_no_measure(case, tmp_path, monkeypatch):
    # As if this were Paddle 2.6, whatever it is.
    monkeypatch.setattr(_paddle_version, "OLD", True)
    assert native_functionals.has_none("paddle", "BCELoss", tmp_path, f"paddleseg/{case}/float32")
    assert not native_functionals.has_none("paddle", "BCELoss", tmp_path, "paddleseg/plain/float32")
    monkeypatch.setattr(_paddle_version, "OLD", False)
    assert not native_functionals.has_none("paddle", "BCELoss", tmp_path, f"paddleseg/{case}/float32")
