"""What the benchmarks say of PaddleSeg's classes, which multiply masks of integers by floating-point tensors."""

import paddle
import pytest

from benchmarks.peers import paddleseg
from benchmarks.rows import ROWS
from unilossseg.backends._paddle_version import OLD


def test_paddle_2_casts_to_the_dtype_of_the_left_operand_and_paddle_3_refuses():
    mask, logarithms = paddle.to_tensor([1, 1, 0]), paddle.to_tensor([-0.7, -1.9, 2.5])
    if OLD:
        assert (logarithms * mask).tolist() == pytest.approx([-0.7, -1.9, 0])
        assert (mask * logarithms).tolist() == [0, -1, 0]
        assert (mask * logarithms).dtype == paddle.int64
    else:
        for left, right in ((logarithms, mask), (mask, logarithms)):
            with pytest.raises(TypeError, match="different data type"):
                left * right


def test_masks_are_floats_on_either_side_for_the_benchmarks():
    mask, logarithms = paddle.to_tensor([1, 1, 0]), paddle.to_tensor([-0.7, -1.9, 2.5])
    with paddleseg.promotion():
        products = [(mask * logarithms).tolist(), (logarithms * mask).tolist()]
    assert products == [pytest.approx([-0.7, -1.9, 0])] * 2


def test_the_loss_with_its_mask_on_the_left_is_not_said_to_be_what_paddle_2_computes():
    notes = {name: paddleseg.peer(row).note for name, row in ROWS.items()}
    assert "as Paddle 2.6 does by itself" in notes["OhemCrossEntropyLoss"]
    assert "as Paddle 2.6" not in notes["RelaxBoundaryLoss"]
    assert "Paddle 2.6 casts the log probabilities to integers" in notes["RelaxBoundaryLoss"]
    assert notes["DiceLoss"] == ""
