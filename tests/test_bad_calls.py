"""Arrays that no loss takes: the error names the loss and the input, what came, what was expected and the remedy."""

import numpy as np
import pytest
from checks.drivers import ArrayDriver
from checks.mistakes import *  # noqa: F403  each of its tests
from checks.tables import check, parametrized

import unilossseg

rng = np.random.default_rng(0)
Z = rng.normal(size=(2, 3, 4, 5))
Y = rng.integers(0, 3, size=(2, 4, 5))
EDGE = rng.random((2, 1, 4, 5))


def changed(labels, at, number):
    """Labels with one of another class."""
    labels = labels.copy()
    labels[at] = number
    return labels


NAMES = {
    **unilossseg.LOSSES,
    "value_and_grad": unilossseg.value_and_grad,
    "np": np,
    "Z": Z,
    "Y": Y,
    "EDGE": EDGE,
    "BINARY": (Y > 0).astype(np.int64),
    "changed": changed,
    "NAN": float("nan"),
}
TABLE = """
# logits
CrossEntropyLoss()(Z[0, 0, 0], Y) | ValueError | logits have shape (5,) | expected (N, C, *S)
CrossEntropyLoss()(np.array(1.0), Y) | ValueError | logits have shape () | expected (N, C, *S)
DiceLoss()(Z[:0], Y[:0]) | ValueError | logits have shape (0, 3, 4, 5) | no pixel | at least one
DiceLoss()(Z[..., :0], Y[..., :0]) | ValueError | logits have shape (2, 3, 4, 0) | no pixel | at least one
DiceLoss()(Z[:, :0], Y) | ValueError | logits have shape (2, 0, 4, 5) | at least one
L1Loss()(np.zeros((0,)), np.zeros((0,))) | ValueError | logits have shape (0,) | at least one
L1Loss()(np.array(1.0), np.array(1.0)) | ValueError | logits have shape () | expected (N, *)
CrossEntropyLoss()(Z.argmax(1), Y) | TypeError | logits have dtype int64 | expected float16, bfloat16, float32 or float64
CrossEntropyLoss()(Z > 0, Y) | TypeError | logits have dtype bool | expected float16
CrossEntropyLoss()(Z + 0j, Y) | TypeError | logits have dtype complex128 | expected float16
CrossEntropyLoss()(Z.tolist(), Y) | TypeError | logits must be one array of shape (N, C, *S) | got a list of 2
CrossEntropyLoss()((Z, EDGE), Y) | TypeError | logits must be one array | got a tuple of 2
CrossEntropyLoss()(None, Y) | TypeError | logits must be an array of NumPy, PyTorch, PaddlePaddle | got None
CrossEntropyLoss()("logits", Y) | TypeError | logits must be an array of NumPy | got 'logits' that is a str
CrossEntropyLoss()(1.5, Y) | TypeError | logits must be an array of NumPy | got 1.5 that is a float
CrossEntropyLoss(data_format="NHWC")(Z, Y) | ValueError | labels have shape (2, 4, 5) | expected (2, 3, 4)
CrossEntropyLoss(data_format="NHWC")(Z[0, 0, 0], Y) | ValueError | logits have shape (5,)
CrossEntropyLoss(data_format="NHWC")("logits", Y) | TypeError | logits must be an array of NumPy | got 'logits'
CrossEntropyLoss(data_format="NHWC")(None, Y) | TypeError | logits must be an array of NumPy | got None
# labels
CrossEntropyLoss()(Z, Y[0]) | ValueError | labels have shape (4, 5) | expected (2, 4, 5) or (2, 1, 4, 5) | (2, 3, 4, 5)
DiceLoss()(Z[0], Y[0]) | ValueError | labels have shape (4, 5) | logits (3, 4, 5): logits must be (N, C, *S): is the batch
CrossEntropyLoss()(Z, Y[:1]) | ValueError | labels have shape (1, 4, 5) | expected (2, 4, 5) or (2, 1, 4, 5)
CrossEntropyLoss()(Z, Y[..., :4]) | ValueError | labels have shape (2, 4, 4) | expected (2, 4, 5)
CrossEntropyLoss()(Z, Y[..., None]) | ValueError | labels have shape (2, 4, 5, 1) | expected (2, 4, 5) or (2, 1, 4, 5)
CrossEntropyLoss()(Z, Z) | TypeError | labels have dtype float64 | expected integers | int64
DiceLoss()(Z, Y.astype(np.float32)) | TypeError | labels have dtype float32 | expected integers | int64
DiceLoss()(Z, np.stack([Y] * 3, 1)) | ValueError | labels have shape (2, 3, 4, 5) | expected (2, 4, 5) or (2, 1, 4, 5)
LovaszSoftmaxLoss()(Z, Y.tolist()) | TypeError | labels must be an array | list
OhemCrossEntropyLoss()(Z, None) | TypeError | labels must be an array | got None
BootstrappedCrossEntropyLoss(1, 1.0)(Z, Y.T) | ValueError | labels have shape (5, 4, 2) | expected (2, 4, 5)
LovaszHingeLoss()(Z[:, :2], Y[0]) | ValueError | labels have shape (4, 5) | expected (2, 4, 5)
BCELoss()(Z, Y[0]) | ValueError | labels have shape (4, 5) | expected (2, 4, 5)
BCELoss()(Z, Z[:, :2]) | TypeError | labels have dtype float64 | expected integers
BCELoss()(Z, Z + 0j) | TypeError | labels have dtype complex128 | expected integers, bool or a floating dtype
L1Loss()(Z, Y) | ValueError | labels have shape (2, 4, 5) | expected (2, 3, 4, 5), the shape of the logits
MSELoss()(Z, Z[:1]) | ValueError | labels have shape (1, 3, 4, 5) | expected (2, 3, 4, 5)
MSELoss()(Z, Z > 0) | TypeError | labels have dtype bool | expected a floating or integer dtype
RelaxBoundaryLoss()(Z[..., 0], Y[..., 0]) | ValueError | logits have shape (2, 3, 4) | expected (N, C, H, W) | 2-D
RelaxBoundaryLoss()(Z, Y[0]) | ValueError | labels have shape (4, 5) | expected (2, 4, 5)
DualTaskLoss()(Z[:, :, :1], Y[:, :1]) | ValueError | logits have shape (2, 3, 1, 5) | H and W at least 2
DualTaskLoss()(Z[..., 0], Y[..., 0]) | ValueError | logits have shape (2, 3, 4) | expected (N, C, H, W)
EdgeAttentionLoss()((Z, EDGE), Y[0]) | ValueError | labels have shape (4, 5) | expected (2, 4, 5)
# classes and channels
CrossEntropyLoss([1.0, 2.0])(Z, Y) | ValueError | weight has 2 entries | logits have 3 channels | one weight per class
DiceLoss(weight=[1.0] * 4)(Z, Y) | ValueError | weight has 4 entries | logits have 3 channels | one weight per class
OhemCrossEntropyLoss(weight=[1.0])(Z, Y) | ValueError | weight has 1 entries | logits have 3 channels
BootstrappedCrossEntropyLoss(1, 1.0, [1.0])(Z, Y) | ValueError | weight has 1 entries | logits have 3 channels
BCELoss([1.0, 2.0, 3.0])(Z, Y) | ValueError | weight has 3 entries | a batch of 2 | one weight per image
LovaszSoftmaxLoss(classes=[0, 3])(Z, Y) | ValueError | classes name 3 | logits have 3 channels | expected numbers in [0, 3)
LovaszSoftmaxLoss(classes=[0], variant="corrected")(Z[:, :1], Y * 0) | ValueError | classes name 0 | numbers in [1, 2)
LovaszHingeLoss()(Z, Y) | ValueError | logits have 3 channels | expected 1 or 2 | LovaszSoftmaxLoss
# labels out of range: the number and where it stands
CrossEntropyLoss()(Z, changed(Y, (1, 2, 3), 3)) | ValueError | labels hold 3 at (1, 2, 3) | in [0, 3) or ignore_index 255
CrossEntropyLoss()(Z, changed(Y, (0, 0, 4), -1)) | ValueError | labels hold -1 at (0, 0, 4) | in [0, 3)
CrossEntropyLoss(ignore_index=-1)(Z, changed(Y, (0, 3, 0), 255)) | ValueError | labels hold 255 at (0, 3, 0) | index -1
DiceLoss()(Z, changed(Y, (1, 0, 0), 254).astype(np.uint8)) | ValueError | labels hold 254 at (1, 0, 0) | in [0, 3)
DiceLoss()(Z, changed(Y, (1, 0, 0), -7).astype(np.int8)) | ValueError | labels hold -7 at (1, 0, 0) | in [0, 3)
LovaszSoftmaxLoss()(Z, changed(Y, (0, 1, 1), 2**40)) | ValueError | labels hold 1099511627776 at (0, 1, 1) | in [0, 3)
LovaszHingeLoss()(Z[:, :1], changed(Y * 0, (0, 1, 1), 2)) | ValueError | labels hold 2 at (0, 1, 1) | in [0, 2)
BCELoss()(Z, changed(Y, (1, 1, 1), 5)) | ValueError | labels hold 5 at (1, 1, 1) | in [0, 3)
BCELoss()(Z[:, :1], changed(Y * 0, (1, 1, 1), 2)[:, None]) | ValueError | labels hold 2 at (1, 0, 1, 1) | in [0, 2)
BCELoss()(Z, changed(Z * 0, (1, 2, 0, 1), 1.5)) | ValueError | labels hold 1.5 at (1, 2, 0, 1) | in [0, 1] | ignore_index 255
BCELoss()(Z, changed(Z * 0, (0, 2, 0, 1), NAN)) | ValueError | labels hold nan at (0, 2, 0, 1) | in [0, 1]
RelaxBoundaryLoss()(Z, changed(Y, (0, 0, 0), 9)) | ValueError | labels hold 9 at (0, 0, 0) | in [0, 3)
DualTaskLoss()(Z, changed(Y, (0, 0, 1), 3), noise=Z * 0) | ValueError | labels hold 3 at (0, 0, 1) | in [0, 3)
OhemCrossEntropyLoss()(Z, changed(Y, (0, 0, 1), 3)[:, None]) | ValueError | labels hold 3 at (0, 0, 1) | in [0, 3)
EdgeAttentionLoss()((Z, EDGE * 0), changed(Y, (0, 0, 1), 3)) | ValueError | labels hold 3 at (0, 0, 1) | in [0, 3)
# edge logits
EdgeAttentionLoss()(Z, Y) | TypeError | logits must be the pair (seg_logits, edge_logits) | got a ndarray
EdgeAttentionLoss()((Z,), Y) | TypeError | logits must be the pair | got a tuple of 1
OhemEdgeAttentionLoss()([Z, EDGE, EDGE], Y) | TypeError | logits must be the pair | got a list of 3
EdgeAttentionLoss()(None, Y) | TypeError | logits must be the pair | got a NoneType
EdgeAttentionLoss()((Z, EDGE[0]), Y) | ValueError | edge_logits have shape (1, 4, 5) | expected (2, 4, 5) or (2, 1, 4, 5)
EdgeAttentionLoss()((Z, Z), Y) | ValueError | edge_logits have shape (2, 3, 4, 5) | expected (2, 4, 5) or (2, 1, 4, 5)
EdgeAttentionLoss()((Z, Y), Y) | TypeError | edge_logits have dtype int64 | expected a floating dtype | float32
EdgeAttentionLoss()((Z, None), Y) | TypeError | edge_logits must be an array | got None
OhemEdgeAttentionLoss()((Z, EDGE.tolist()), Y) | TypeError | edge_logits must be an array | list
EdgeAttentionLoss()(("seg", EDGE), Y) | TypeError | logits must be an array | got 'seg'
# further inputs
DualTaskLoss()(Z, Y, noise=Z[:1] * 0) | ValueError | noise has shape (1, 3, 4, 5) | expected (2, 3, 4, 5)
DualTaskLoss()(Z, Y, noise=Z * NAN) | ValueError | noise has values outside [0, 1] | uniform
DualTaskLoss()(Z, Y, noise=Z * 0 + 2) | ValueError | noise has values outside [0, 1] | uniform
DualTaskLoss()(Z, Y, noise=Y) | TypeError | noise has dtype int64 | expected a floating dtype
DualTaskLoss()(Z, Y, noise=0.5) | TypeError | noise must be an array | got 0.5
DualTaskLoss()(Z, Y, nose=Z) | TypeError | unexpected input 'nose' | takes logits, labels and validate, noise
CrossEntropyLoss()(Z, Y, semantic_weights=Y) | TypeError | semantic_weights have dtype int64 | expected a floating dtype
CrossEntropyLoss()(Z, Y, semantic_weights=Z) | ValueError | semantic_weights have shape (2, 3, 4, 5) | expected (2, 4, 5)
CrossEntropyLoss()(Z, Y, noise=Z) | TypeError | unexpected input 'noise' | logits, labels and validate, semantic_weights
DiceLoss()(Z, Y, weight=Z) | TypeError | unexpected input 'weight' | takes logits, labels and validate
DiceLoss()(Z, Y, validate=1) | TypeError | validate must be True or False | got 1
L1Loss()(Z, Z, validate="banana") | TypeError | validate must be True or False | got 'banana'
MSELoss().value_and_grad(Z, Z, validate=0) | TypeError | validate must be True or False | got 0
MixedLoss([lambda z, y: 0.0], 1)(Z, Y, validate="no") | TypeError | validate must be True or False | got 'no'
MixedLoss([DiceLoss()], 1).value_and_grad(Z, Y, validate=2) | TypeError | validate must be True or False | got 2
MixedLoss([DiceLoss()], 1)(Z, Y, noise=Z) | TypeError | unexpected input 'noise' | takes logits, labels and validate
MixedLoss([MixedLoss([DualTaskLoss()], 1)], 1)(Z, Y, noize=Z) | TypeError | unexpected input 'noize' | validate, noise
MixedLoss([DiceLoss()], 1).value_and_grad(Z, Y, noise=Z) | TypeError | unexpected input 'noise'
# gradients
DiceLoss().value_and_grad(Z, Y, upstream=np.ones(2)) | ValueError | upstream has shape (2,) | expected ()
DiceLoss().value_and_grad(Z, Y, upstream=np.float32([2])) | ValueError | upstream has shape (1,) | expected ()
DiceLoss().value_and_grad(Z, Y, upstream=np.complex64(2j)) | TypeError | upstream has dtype complex64 | floating | real part
DiceLoss().value_and_grad(Z, Y, upstream=np.array(2j)) | TypeError | upstream has dtype complex128 | floating | real part
DiceLoss().value_and_grad(Z, Y, upstream=2.0) | TypeError | upstream must be an array | got 2.0 that is a float
L1Loss("none").value_and_grad(Z, Z, upstream=np.ones(2)) | ValueError | upstream has shape (2,) | expected (2, 3, 4, 5)
"""


@parametrized(TABLE)
def test_bad_call(row):
    check(row, NAMES)


def test_every_loss_is_in_the_table():
    assert all(f"\n{name}(" in TABLE for name in unilossseg.LOSSES)


def test_arrays_of_two_backends():
    strict = ArrayDriver("strict")
    with pytest.raises(TypeError, match=r"^DiceLoss: labels are .*array_api_strict.* and logits .*numpy.*numpy backend"):
        unilossseg.DiceLoss()(Z, strict.array(Y))
    with pytest.raises(TypeError, match=r"^DualTaskLoss: noise are .*numpy.* and logits .*strict.*strict backend"):
        unilossseg.DualTaskLoss()(strict.array(Z), strict.array(Y), noise=Z)


def test_a_number_of_numpy_s_beside_arrays_of_another_backend():
    strict = ArrayDriver("strict")
    with pytest.raises(TypeError, match=r"^DiceLoss: upstream are .*numpy.* and logits .*strict.*strict backend"):
        unilossseg.DiceLoss().value_and_grad(strict.array(Z), strict.array(Y), upstream=np.float64(2))


def test_the_losses_of_a_mixed_loss_name_themselves():
    mixed = unilossseg.MixedLoss([unilossseg.DiceLoss()], 1)
    with pytest.raises(ValueError, match=r"^DiceLoss: labels have shape \(4, 5\), expected \(2, 4, 5\)"):
        mixed(Z, Y[0])
    with pytest.raises(TypeError, match=r"^MixedLoss: value_and_grad needs losses that are unilossseg.Loss .got a function"):
        unilossseg.value_and_grad(unilossseg.MixedLoss([lambda z, y: z], 1))(Z, Y)


def test_a_call_without_labels():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'labels'"):
        unilossseg.DiceLoss()(Z)


def test_a_loss_without_a_formula_says_so():
    with pytest.raises(NotImplementedError, match=r"Loss must define compute\(self, ops, logits, labels\)"):
        unilossseg.Loss()(Z, Y)


@pytest.mark.parametrize("driver", [ArrayDriver("numpy"), ArrayDriver("strict")], ids=str)
@pytest.mark.parametrize("loss", [unilossseg.DiceLoss(), unilossseg.MixedLoss([unilossseg.DiceLoss()], coef=1.0)], ids=repr)
def test_the_gradient_of_the_formula_needs_autograd(driver, loss):
    logits, labels = driver.array(Z), driver.array(Y)
    with (
        unilossseg.plain_formula(),
        pytest.raises(
            TypeError,
            match=r"^DiceLoss: the \w+ backend has no autograd, which plain_formula\(\) asks for: expected arrays of",
        ),
    ):
        unilossseg.value_and_grad(loss)(logits, labels)
    assert unilossseg.value_and_grad(loss)(logits, labels)[1].shape == Z.shape


@pytest.mark.parametrize("returned", [None, (1.0, 2.0), "1"])
def test_what_a_function_in_a_mixed_loss_returns_is_no_number(returned):
    loss = unilossseg.MixedLoss([unilossseg.DiceLoss(), lambda logits, labels: returned], coef=1)
    with pytest.raises(TypeError, match=rf"MixedLoss: losses\[1\] returned a {type(returned).__name__}, expected one value"):
        loss(np.zeros((1, 2, 3)), np.zeros((1, 3), np.int64))
