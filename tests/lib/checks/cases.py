"""The losses with their options, and inputs for them away from kinks and ties."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

IGNORED = 255
CORRECTED = {"variant": "corrected"}
WEIGHT = [0.5, 2.0, 1.25]

CE, BOOT, OHEM = "CrossEntropyLoss", "BootstrappedCrossEntropyLoss", "OhemCrossEntropyLoss"
EDGE, OHEM_EDGE = "EdgeAttentionLoss", "OhemEdgeAttentionLoss"
DICE, LOVASZ, HINGE, BCE = "DiceLoss", "LovaszSoftmaxLoss", "LovaszHingeLoss", "BCELoss"
RELAX, DUAL, L1, MSE, MIXED = "RelaxBoundaryLoss", "DualTaskLoss", "L1Loss", "MSELoss", "MixedLoss"

#: With their `variant` at both values.
WITH_VARIANT = [
    (CE, {}),
    (CE, {"weight": WEIGHT}),
    (CE, {"top_k_percent_pixels": 0.3, "weight": WEIGHT}),
    (CE, {"top_k_percent_pixels": 0.0}),
    (CE, {"avg_non_ignore": False}),
    (CE, {"avg_non_ignore": False, "weight": WEIGHT}),
    (BOOT, {"min_K": 3, "loss_th": 1.0}),
    (BOOT, {"min_K": 100, "loss_th": 0.5, "weight": WEIGHT}),
    (OHEM, {}),
    (OHEM, {"min_kept": 5, "thresh": 0.3, "weight": WEIGHT}),
    (OHEM_EDGE, {"min_kept": 3, "thresh": 0.3}),
    (DICE, {}),
    (DICE, {"smooth": 1.0, "weight": WEIGHT}),
    (LOVASZ, {}),
    (LOVASZ, {"classes": "all"}),
    (LOVASZ, {"classes": [2, 0]}),
    (HINGE, {}),
    (BCE, {}),
    (BCE, {"weight": "dynamic", "pos_weight": "dynamic"}),
    (BCE, {"weight": [0.5, 2.0], "pos_weight": 3}),
    (RELAX, {}),
    (RELAX, {"border": 2, "calculate_weights": True, "upper_bound": 1.5}),
    (DUAL, {}),
    (DUAL, {"tau": 1.0}),
    (MSE, {}),
    (MSE, {"reduction": "sum"}),
    (MSE, {"reduction": "none"}),
]
WITHOUT_VARIANT = [
    (EDGE, {}),
    (EDGE, {"edge_threshold": 0.3}),
    (L1, {}),
    (L1, {"reduction": "sum"}),
    (L1, {"reduction": "none"}),
    (MIXED, {"losses": [(CE, {}), (DICE, {})], "coef": [0.5, 2.0]}),
    (MIXED, {"losses": [(CE, {}), (LOVASZ, {})], "coef": 0.7, "reduction": "sum"}),
]
#: Every loss with every variant and the options that change its formula.
ROWS = [
    *[(loss, {**options, **extra}) for loss, options in WITH_VARIANT for extra in ({}, CORRECTED)],
    *WITHOUT_VARIANT,
]
#: One row a loss.
PLAIN_ROWS = [
    (CE, {}),
    (BOOT, {"min_K": 3, "loss_th": 1.0}),
    (OHEM, {"min_kept": 5}),
    (EDGE, {}),
    (OHEM_EDGE, {"min_kept": 3}),
    (DICE, {}),
    (LOVASZ, {}),
    (HINGE, {}),
    (BCE, {}),
    (L1, {}),
    (MSE, {}),
    (RELAX, {}),
    (DUAL, {}),
    (MIXED, {"losses": [(CE, {}), (DICE, {})], "coef": 1.0, "reduction": "sum"}),
]
#: Those whose labels are class numbers.
CLASS_ROWS = [row for row in PLAIN_ROWS if row[0] not in (L1, MSE)]


def named(row):
    """A row as a test's id."""
    loss, options = row
    return "-".join([loss, *(f"{name}={value}" for name, value in options.items() if name != "losses")])


@dataclass(frozen=True)
class Batch:
    """Inputs of one call, as NumPy arrays."""

    logits: np.ndarray
    labels: np.ndarray
    #: edge_logits, noise or semantic_weights.
    further: dict[str, np.ndarray] = field(default_factory=dict)

    def changed(self, **changes):
        """The same with other arrays."""
        return replace(self, **changes)


def channels_of(loss):
    """Two for the binary loss, else three."""
    return 2 if loss == HINGE else 3


def batch_for(loss, shape=None, seed=0, ignored=0.15, ignore_index=IGNORED, channels=None):
    """Random inputs for a loss: (2, C, *shape) logits, some pixels ignored."""
    rng = np.random.default_rng(seed)
    sizes = (4, 5) if shape is None else shape
    classes = channels_of(loss) if channels is None else channels
    logits = 2 * rng.normal(size=(2, classes, *sizes))
    if loss in (L1, MSE):
        labels = rng.normal(size=logits.shape)
        labels[rng.random(labels.shape) < ignored] = ignore_index
    else:
        labels = rng.integers(0, max(2, classes), size=(2, *sizes))
        labels[rng.random(labels.shape) < ignored] = ignore_index
    further = {}
    if loss in (EDGE, OHEM_EDGE):
        further["edge_logits"] = 2 * rng.random((2, 1, *sizes))
    if loss == DUAL:
        further["noise"] = rng.random(logits.shape)
    return Batch(logits, labels, further)


def batch_of_row(row, **options):
    """Inputs for a row of `ROWS`; DualTaskLoss's corrected variant needs room around an ignored pixel."""
    loss, parameters = row
    if loss == DUAL and parameters.get("variant") == "corrected" and "shape" not in options:
        batch = batch_for(loss, shape=(4, 9), ignored=0.0, **options)
        batch.labels[0, 0, 0] = IGNORED
        return batch
    return batch_for(loss, **options)
