"""The fourteen losses, each in a file of its own or with its kin."""

from unilossseg.losses.bce import BCELoss as BCELoss
from unilossseg.losses.bootstrapped import BootstrappedCrossEntropyLoss as BootstrappedCrossEntropyLoss
from unilossseg.losses.cross_entropy import CrossEntropyLoss as CrossEntropyLoss
from unilossseg.losses.dice import DiceLoss as DiceLoss
from unilossseg.losses.dual_task import DualTaskLoss as DualTaskLoss
from unilossseg.losses.edge_attention import EdgeAttentionLoss as EdgeAttentionLoss
from unilossseg.losses.edge_attention import OhemEdgeAttentionLoss as OhemEdgeAttentionLoss
from unilossseg.losses.lovasz_hinge import LovaszHingeLoss as LovaszHingeLoss
from unilossseg.losses.lovasz_softmax import LovaszSoftmaxLoss as LovaszSoftmaxLoss
from unilossseg.losses.mixed import MixedLoss as MixedLoss
from unilossseg.losses.ohem import OhemCrossEntropyLoss as OhemCrossEntropyLoss
from unilossseg.losses.regression import L1Loss as L1Loss
from unilossseg.losses.regression import MSELoss as MSELoss
from unilossseg.losses.relax_boundary import RelaxBoundaryLoss as RelaxBoundaryLoss

#: The contract's losses by name, in its order.
LOSSES = {
    loss.__name__: loss
    for loss in (
        BCELoss,
        BootstrappedCrossEntropyLoss,
        CrossEntropyLoss,
        RelaxBoundaryLoss,
        DiceLoss,
        EdgeAttentionLoss,
        DualTaskLoss,
        L1Loss,
        MSELoss,
        OhemCrossEntropyLoss,
        OhemEdgeAttentionLoss,
        LovaszSoftmaxLoss,
        LovaszHingeLoss,
        MixedLoss,
    )
}
