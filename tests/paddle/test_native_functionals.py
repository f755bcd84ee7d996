"""What the errors of a loss are compared with is the same loss."""

from checks import native_functionals


@native_functionals.FUNCTIONALS
def test_functionals_have_the_definition_of_the_loss(loss, functional, tmp_path):
    assert native_functionals.agrees("paddle", loss, tmp_path) == {f"paddle.nn.functional.{functional}"}


def test_a_loss_without_such_a_functional_has_none(tmp_path):
    assert native_functionals.has_none("paddle", "DiceLoss", tmp_path)
