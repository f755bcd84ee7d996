"""Parameters that no loss takes: the error names the loss and the parameter, what came and what was expected."""

import numpy as np
import pytest
from checks.tables import check, parametrized

import unilossseg
from unilossseg import DiceLoss, OhemCrossEntropyLoss
from unilossseg.backends import BackendNotInstalledError, _registry, get_backend, is_installed, set_num_threads

NAMES = {
    **unilossseg.LOSSES,
    "build": unilossseg.build,
    "value_and_grad": unilossseg.value_and_grad,
    "set_num_threads": set_num_threads,
    "np": np,
    "NAN": float("nan"),
    "INF": float("inf"),
}
TABLE = """
# ignore_index
CrossEntropyLoss(ignore_index=1.5) | TypeError | ignore_index | an integer | got 1.5 | float
DiceLoss(True) | TypeError | ignore_index | an integer | got True | bool
LovaszHingeLoss("255") | TypeError | ignore_index | an integer | got '255'
LovaszSoftmaxLoss(None) | TypeError | ignore_index | an integer | got None
BCELoss(ignore_index=[255]) | TypeError | ignore_index | an integer | got [255]
L1Loss(ignore_index=NAN) | TypeError | ignore_index | an integer | got nan
# class weights
CrossEntropyLoss("dynamic") | TypeError | weight must be a sequence or 1-D array of finite numbers | got 'dynamic' | str
CrossEntropyLoss(2.0) | TypeError | weight must be a sequence or 1-D array of finite numbers | got 2.0 | float
CrossEntropyLoss({0: 1.0}) | TypeError | weight must be a sequence or 1-D array of finite numbers | dict
CrossEntropyLoss([]) | ValueError | weight must be a sequence or 1-D array of finite numbers | got none
CrossEntropyLoss(np.ones((2, 3))) | ValueError | weight must be a sequence or 1-D array of finite numbers | shape (2, 3)
CrossEntropyLoss(np.array(2.0)) | ValueError | weight must be a sequence or 1-D array of finite numbers | shape ()
CrossEntropyLoss([[1.0], [2.0]]) | ValueError | weight must be a sequence or 1-D array of finite numbers | got [[1.0], [2.0]]
DiceLoss(weight=[1, -1]) | ValueError | weight[1] | at least 0 | got -1
CrossEntropyLoss([1.0, NAN]) | ValueError | weight[1] | finite | got nan
CrossEntropyLoss([INF, 1.0]) | ValueError | weight[0] | finite | got inf
CrossEntropyLoss(["a", "b"]) | TypeError | weight[0] | number | got 'a' | str
CrossEntropyLoss([True, False]) | TypeError | weight[0] | number | got True
CrossEntropyLoss([1.0, None]) | TypeError | weight[1] | number | got None
CrossEntropyLoss(np.array([1j])) | TypeError | weight[0] | number | got 1j
BootstrappedCrossEntropyLoss(1, 1.0, [-2]) | ValueError | weight[0] | -2
OhemCrossEntropyLoss(weight="x") | TypeError | weight | sequence | got 'x'
# CrossEntropyLoss
CrossEntropyLoss(top_k_percent_pixels=1.5) | ValueError | top_k_percent_pixels | at least 0 and at most 1 | got 1.5
CrossEntropyLoss(top_k_percent_pixels=20) | ValueError | top_k_percent_pixels | at most 1 | got 20
CrossEntropyLoss(top_k_percent_pixels=-0.1) | ValueError | top_k_percent_pixels | at least 0 | got -0.1
CrossEntropyLoss(top_k_percent_pixels=NAN) | ValueError | top_k_percent_pixels | finite | got nan
CrossEntropyLoss(top_k_percent_pixels="0.2") | TypeError | top_k_percent_pixels | number | got '0.2' | str
CrossEntropyLoss(top_k_percent_pixels=True) | TypeError | top_k_percent_pixels | number | got True | bool
CrossEntropyLoss(top_k_percent_pixels=None) | TypeError | top_k_percent_pixels | number | got None
CrossEntropyLoss(weight={1.0, 2.0}) | TypeError | weight must be a sequence | that is a set
CrossEntropyLoss(avg_non_ignore=1) | TypeError | avg_non_ignore | True or False | got 1 | int
CrossEntropyLoss(data_format="NWHC") | ValueError | data_format | 'NCHW' or 'NHWC' | got 'NWHC'
CrossEntropyLoss(data_format=None) | TypeError | data_format | 'NCHW' or 'NHWC' | got None
CrossEntropyLoss(variant="paper") | ValueError | variant | 'paddleseg' or 'corrected' | got 'paper'
CrossEntropyLoss(variant=True) | TypeError | variant | 'paddleseg' or 'corrected' | got True
CrossEntropyLoss(validate="yes") | TypeError | validate | True or False | got 'yes'
CrossEntropyLoss(None, 255, 1.0, True) | TypeError | takes from 1 to 4 positional arguments
# BootstrappedCrossEntropyLoss
BootstrappedCrossEntropyLoss() | TypeError | missing 2 required positional arguments | 'min_K' | 'loss_th'
BootstrappedCrossEntropyLoss(-1, 1.0) | ValueError | min_K | at least 0 | -1
BootstrappedCrossEntropyLoss(2.0, 1.0) | TypeError | min_K | integer | 2.0
BootstrappedCrossEntropyLoss(True, 1.0) | TypeError | min_K | integer | True
BootstrappedCrossEntropyLoss(1, NAN) | ValueError | loss_th | finite | nan
BootstrappedCrossEntropyLoss(1, None) | TypeError | loss_th | number | None
# OHEM and the edge losses
OhemCrossEntropyLoss(min_kept=-5) | ValueError | min_kept | at least 0 | -5
OhemCrossEntropyLoss(0.7, 1e4) | TypeError | min_kept | integer | 10000.0
OhemCrossEntropyLoss("0.7") | TypeError | thresh | number | got '0.7'
OhemCrossEntropyLoss(INF) | ValueError | thresh | finite | got inf
EdgeAttentionLoss(None) | TypeError | edge_threshold | number | got None
EdgeAttentionLoss(NAN) | ValueError | edge_threshold | finite | got nan
OhemEdgeAttentionLoss(min_kept="9") | TypeError | min_kept | integer | got '9'
OhemEdgeAttentionLoss([0.8]) | TypeError | edge_threshold | number | [0.8]
OhemEdgeAttentionLoss(variant="x") | ValueError | variant | corrected | got 'x'
# Dice and Lovász
DiceLoss(smooth=-1) | ValueError | smooth | at least 0 | got -1
DiceLoss(smooth="1") | TypeError | smooth | number | got '1'
DiceLoss(smooth=np.ones(2)) | TypeError | smooth | number | ndarray
LovaszSoftmaxLoss(classes="some") | ValueError | classes | 'present', 'all' or a list | 'some'
LovaszSoftmaxLoss(classes=[]) | ValueError | classes | a list of class numbers | got none
LovaszSoftmaxLoss(classes=[0, -1]) | ValueError | classes[1] | at least 0 | got -1
LovaszSoftmaxLoss(classes=[0.0]) | TypeError | classes[0] | integer | got 0.0
LovaszSoftmaxLoss(classes=[True]) | TypeError | classes[0] | integer | got True
LovaszSoftmaxLoss(classes=1) | TypeError | classes | a list of class numbers | got 1
LovaszSoftmaxLoss(classes=None) | TypeError | classes | 'present', 'all' | got None
LovaszHingeLoss(variant="fixed") | ValueError | variant | corrected | got 'fixed'
# BCELoss
BCELoss("static") | ValueError | weight | 'dynamic' | got 'static'
BCELoss([-1.0]) | ValueError | weight[0] | at least 0 | got -1.0
BCELoss(np.ones((2, 2))) | ValueError | weight | 1-D | (2, 2)
BCELoss(pos_weight="x") | ValueError | pos_weight | 'dynamic' or a number | got 'x'
BCELoss(pos_weight=-2) | ValueError | pos_weight | at least 0 | got -2
BCELoss(pos_weight=True) | TypeError | pos_weight | number | got True
BCELoss(pos_weight=[1.0]) | TypeError | pos_weight | number | got [1.0]
BCELoss(edge_label="yes") | TypeError | edge_label | True or False | got 'yes'
# L1Loss and MSELoss
L1Loss("avg") | ValueError | reduction must be 'mean', 'sum' or 'none' | got 'avg'
L1Loss(None) | TypeError | reduction must be 'mean', 'sum' or 'none' | got None
MSELoss("list") | ValueError | reduction must be 'mean', 'sum' or 'none' | got 'list'
MSELoss(variant="new") | ValueError | variant | corrected | got 'new'
# RelaxBoundaryLoss and DualTaskLoss
RelaxBoundaryLoss(-1) | ValueError | border | at least 0 | got -1
RelaxBoundaryLoss(1.0) | TypeError | border | integer | got 1.0
RelaxBoundaryLoss(1, 1) | TypeError | calculate_weights | True or False | got 1
RelaxBoundaryLoss(upper_bound=-0.5) | ValueError | upper_bound | at least 0 | got -0.5
RelaxBoundaryLoss(upper_bound=NAN) | ValueError | upper_bound | finite | got nan
DualTaskLoss(tau=0) | ValueError | tau | above 0 | got 0
DualTaskLoss(tau=-1.0) | ValueError | tau | above 0 | got -1.0
DualTaskLoss(tau="a") | TypeError | tau | number | got 'a'
DualTaskLoss(tau=INF) | ValueError | tau | finite | got inf
# MixedLoss
MixedLoss([], 1) | ValueError | losses | at least one | got none
MixedLoss(CrossEntropyLoss(), 1) | TypeError | losses | a list of losses | CrossEntropyLoss
MixedLoss("CrossEntropyLoss", 1) | TypeError | losses | a list of losses | str
MixedLoss(["DiceLoss"], 1) | TypeError | losses[0] | a loss | got 'DiceLoss'
MixedLoss([DiceLoss], 1) | TypeError | losses[0] | a loss | DiceLoss | type
MixedLoss([CrossEntropyLoss(), DiceLoss()], [1]) | ValueError | coef has 1 entries and losses 2 | one number per loss
MixedLoss([CrossEntropyLoss()], [1, 2]) | ValueError | coef has 2 entries and losses 1 | one number per loss
MixedLoss([CrossEntropyLoss()], "1") | TypeError | coef | number | got '1'
MixedLoss([CrossEntropyLoss()], [NAN]) | ValueError | coef[0] | finite | got nan
MixedLoss([CrossEntropyLoss()], True) | TypeError | coef | number | got True
MixedLoss([CrossEntropyLoss()], None) | TypeError | coef | number | got None
MixedLoss([CrossEntropyLoss()], 1, reduction="mean") | ValueError | reduction must be 'list' or 'sum' | 'mean'
# losses without a corrected variant
EdgeAttentionLoss(variant="corrected") | TypeError | EdgeAttentionLoss | unexpected keyword argument 'variant'
L1Loss(variant="corrected") | TypeError | L1Loss | unexpected keyword argument 'variant'
MixedLoss([CrossEntropyLoss()], 1, variant="corrected") | TypeError | MixedLoss | unexpected keyword argument 'variant'
# configurations
build([{"type": "DiceLoss"}]) | TypeError | config must be a mapping | list
build({"coef": [1]}) | TypeError | config must have a list 'types' | got None
build({"types": [{"type": "DiceLoss"}]}) | TypeError | config must have a list 'coef' | got None
build({"types": [], "coef": []}) | TypeError | config must have a list 'types' | at least one
build({"types": [{"type": "DiceLoss"}], "coef": [1], "weight": 1}) | ValueError | unknown key 'weight' | 'types' and 'coef'
build({"types": [{"type": "Dice"}], "coef": [1]}) | ValueError | types[0] | unknown type 'Dice' | DiceLoss
build({"types": ["DiceLoss"], "coef": [1]}) | TypeError | types[0] must be a mapping | got 'DiceLoss'
build({"types": [{"smooth": 1}], "coef": [1]}) | TypeError | types[0] | 'type' | got {'smooth': 1}
build({"types": [{"type": "DiceLoss"}] * 2, "coef": [1]}) | ValueError | 2 types and 1 coef | as many
build({"types": [{"type": "DiceLoss"}], "coef": ["1"]}) | TypeError | coef[0] must be a finite number | got '1'
build({"types": [{"type": "DiceLoss"}], "coef": [1, float("nan")]}) | ValueError | coef[1] must be a finite number | got nan
build({"types": [{"type": "DiceLoss", "smoth": 1}], "coef": [1]}) | TypeError | types[0]: | smoth
build({"types": [{"type": "DiceLoss", "smooth": -1}], "coef": [1]}) | ValueError | types[0]: DiceLoss: smooth | got -1
build({"types": [{"type": "MixedLoss", "losses": [{"type": "X"}]}], "coef": [1]}) | ValueError | types[0].losses[0] | 'X'
build({"types": [{"type": "MixedLoss", "losses": {}}], "coef": [1]}) | TypeError | types[0] must have a list | got {}
build({}, backend="jax") | ValueError | backend must be 'torch', 'paddle' or None | got 'jax'
build({}, backend="numpy") | ValueError | backend must be 'torch', 'paddle' or None | 'numpy'
# the rest
set_num_threads(0) | ValueError | set_num_threads | at least 1 | got 0
set_num_threads(True) | TypeError | set_num_threads | integer | got True
set_num_threads(2.0) | TypeError | set_num_threads | integer | got 2.0
value_and_grad(DiceLoss) | TypeError | value_and_grad | unilossseg.Loss | type
"""


@parametrized(TABLE)
def test_bad_argument(row):
    check(row, NAMES)


def test_every_loss_is_in_the_table():
    assert all(f"\n{name}(" in TABLE for name in unilossseg.LOSSES)


def test_an_unknown_backend():
    with pytest.raises(ValueError, match=r"^backend must be one of 'numpy', .*'torch' .got 'jax'.$"):
        get_backend("jax")
    with pytest.raises(ValueError, match=r"^backend must be one of 'numpy', .*'torch' .got 'jax'.$"):
        is_installed("jax")


def test_a_backend_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(_registry, "is_installed", lambda name: False)
    monkeypatch.delitem(_registry._backends, "strict", raising=False)
    with pytest.raises(BackendNotInstalledError, match=r"^backend .strict. needs array_api_strict, .*: pip install array-"):
        get_backend("strict")


def losses_with(field):
    return [name for name, loss in unilossseg.LOSSES.items() if field in loss.__dataclass_fields__]


@pytest.mark.parametrize("name", losses_with("ignore_index"))
def test_every_ignore_index_is_checked(name):
    needed = {"min_K": 1, "loss_th": 1.0} if name == "BootstrappedCrossEntropyLoss" else {}
    with pytest.raises(TypeError, match=f"^{name}: ignore_index must be an integer .got 0.5 that is a float.$"):
        unilossseg.LOSSES[name](**needed, ignore_index=0.5)


@pytest.mark.parametrize("name", losses_with("variant"))
def test_every_variant_is_checked(name):
    needed = {"min_K": 1, "loss_th": 1.0} if name == "BootstrappedCrossEntropyLoss" else {}
    with pytest.raises(ValueError, match=f"^{name}: variant must be 'paddleseg' or 'corrected' .got 'right'.$"):
        unilossseg.LOSSES[name](**needed, variant="right")


def test_numbers_of_numpy_are_numbers():
    loss = OhemCrossEntropyLoss(np.float32(0.5), np.int64(10), np.uint8(7))
    assert (loss.thresh, loss.min_kept, loss.ignore_index) == (0.5, 10, 7)
    assert [type(x) for x in (loss.thresh, loss.min_kept, loss.ignore_index)] == [float, int, int]
    assert DiceLoss(smooth=np.array(1.0)).smooth == 1.0
