"""Image-segmentation losses, written once against the Array API standard.

The losses take arrays of NumPy, PyTorch, PaddlePaddle and any Array API namespace. `unilossseg.torch` has them as
Modules, `unilossseg.paddle` as Layers.
"""

import importlib.util

if importlib.util.find_spec("unilossseg.backends") is None:
    # Two folders of the package lie elsewhere in a checkout.
    raise ModuleNotFoundError(
        f"unilossseg: {__path__[0]} lacks unilossseg.backends: it is the source folder, expected the installed package: run "
        "from another folder, or `pip install -e` the checkout",
        name="unilossseg.backends",
    )

from unilossseg._build import build as build
from unilossseg._call import plain_formula as plain_formula
from unilossseg._errors import VARIANTS as VARIANTS
from unilossseg._loss import Loss as Loss
from unilossseg._loss import value_and_grad as value_and_grad
from unilossseg._version import __version__ as __version__
from unilossseg.losses import LOSSES as LOSSES
from unilossseg.losses import BCELoss as BCELoss
from unilossseg.losses import BootstrappedCrossEntropyLoss as BootstrappedCrossEntropyLoss
from unilossseg.losses import CrossEntropyLoss as CrossEntropyLoss
from unilossseg.losses import DiceLoss as DiceLoss
from unilossseg.losses import DualTaskLoss as DualTaskLoss
from unilossseg.losses import EdgeAttentionLoss as EdgeAttentionLoss
from unilossseg.losses import L1Loss as L1Loss
from unilossseg.losses import LovaszHingeLoss as LovaszHingeLoss
from unilossseg.losses import LovaszSoftmaxLoss as LovaszSoftmaxLoss
from unilossseg.losses import MixedLoss as MixedLoss
from unilossseg.losses import MSELoss as MSELoss
from unilossseg.losses import OhemCrossEntropyLoss as OhemCrossEntropyLoss
from unilossseg.losses import OhemEdgeAttentionLoss as OhemEdgeAttentionLoss
from unilossseg.losses import RelaxBoundaryLoss as RelaxBoundaryLoss

__all__ = [
    "LOSSES",
    "VARIANTS",
    "Loss",
    "__version__",
    "build",
    "plain_formula",
    "value_and_grad",
    *LOSSES,
]
