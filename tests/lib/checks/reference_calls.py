"""Calls of the float64 reference: each loss with its options, random batches, and central differences."""

from __future__ import annotations

import numpy as np
from checks.cases import BOOT, CE, CORRECTED, IGNORED, OHEM, WEIGHT

from unilossseg.conformance.reference import value_and_gradient

#: With their `variant` at both values.
WITH_VARIANT = [
    (CE, {}),
    (CE, {"weight": WEIGHT}),
    (CE, {"top_k_percent_pixels": 0.3}),
    (CE, {"top_k_percent_pixels": 0.0}),
    (CE, {"top_k_percent_pixels": 0.4, "weight": WEIGHT}),
    (CE, {"weight": WEIGHT, "avg_non_ignore": False}),
    (CE, {"top_k_percent_pixels": 0.4, "weight": WEIGHT, "avg_non_ignore": False}),
    (CE, {"top_k_percent_pixels": 0.4, "semantic_weights": True}),
    (CE, {"semantic_weights": True, "weight": WEIGHT}),
    (CE, {"ignore_index": 1}),
    (BOOT, {"min_K": 3, "loss_th": 1.0}),
    (BOOT, {"min_K": 4, "loss_th": 50.0}),
    (BOOT, {"min_K": 1000, "loss_th": 0.5, "weight": WEIGHT}),
    (BOOT, {"min_K": 0, "loss_th": 0.5, "weight": WEIGHT}),
    (OHEM, {}),
    (OHEM, {"min_kept": 5, "thresh": 0.1}),
    (OHEM, {"min_kept": 5, "thresh": 0.4, "weight": WEIGHT}),
    (OHEM, {"min_kept": 0, "thresh": 0.3}),
    ("OhemEdgeAttentionLoss", {"min_kept": 3, "thresh": 0.2}),
    ("OhemEdgeAttentionLoss", {"min_kept": 0, "thresh": 0.5, "edge_threshold": 0.3}),
    ("DiceLoss", {}),
    ("DiceLoss", {"smooth": 1.0, "weight": WEIGHT}),
    ("LovaszSoftmaxLoss", {}),
    ("LovaszSoftmaxLoss", {"classes": "all"}),
    ("LovaszSoftmaxLoss", {"classes": [2, 0, 2]}),
    ("BCELoss", {}),
    ("BCELoss", {"weight": "dynamic"}),
    ("BCELoss", {"weight": [0.5, 2.0], "pos_weight": 3}),
    ("BCELoss", {"weight": "dynamic", "pos_weight": "dynamic"}),
    ("RelaxBoundaryLoss", {}),
    ("RelaxBoundaryLoss", {"border": 2}),
    ("RelaxBoundaryLoss", {"calculate_weights": True, "upper_bound": 1.5}),
    ("DualTaskLoss", {}),
    ("DualTaskLoss", {"tau": 1.0}),
]
WITHOUT_VARIANT = [
    ("EdgeAttentionLoss", {}),
    ("EdgeAttentionLoss", {"edge_threshold": 0.3}),
    ("MixedLoss", {"losses": [(CE, {}), ("DiceLoss", {})], "coef": [0.5, 2.0]}),
    ("MixedLoss", {"losses": [(CE, {}), ("LovaszSoftmaxLoss", {})], "coef": 0.7, "reduction": "sum"}),
]
CASES = [
    *[(loss, {**parameters, **extra}) for loss, parameters in WITH_VARIANT for extra in ({}, CORRECTED)],
    *WITHOUT_VARIANT,
]


def logits_with_odds(*odds):
    """Two channels of one image: class 0 has probability 1/(1 + a), class 1 a/(1 + a), at each pixel."""
    z = np.zeros((1, 2, len(odds)))
    z[0, 1] = np.log(odds)
    return z


def value_of(loss, parameters, logits, labels, **further):
    """The value alone, as a number."""
    return float(value_and_gradient(loss, parameters, logits, labels, **further)[0])


def random_batch(seed=0, shape=(2, 3, 4, 5), classes=None, share_ignored=0.2, ignore_index=IGNORED):
    """Random logits and class labels, some of them ignored."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=shape)
    labels = rng.integers(0, shape[1] if classes is None else classes, size=(shape[0], *shape[2:]))
    labels[rng.random(labels.shape) < share_ignored] = ignore_index
    return logits, labels


def check_gradient(loss, parameters, logits, labels, **further):
    """Central differences of Σ upstream·value, with a random upstream."""
    value, _ = value_and_gradient(loss, parameters, logits, labels, **further)
    upstream = np.random.default_rng(3).normal(size=value.shape)
    _, gradient = value_and_gradient(loss, parameters, logits, labels, upstream=upstream, **further)
    assert gradient.shape == logits.shape

    step = 1e-5
    expected = np.zeros(logits.shape)
    for at in np.ndindex(logits.shape):
        ends = []
        for sign in (1, -1):
            moved = logits.copy()
            moved[at] += sign * step
            ends.append(np.sum(upstream * value_and_gradient(loss, parameters, moved, labels, **further)[0]))
        expected[at] = (ends[0] - ends[1]) / (2 * step)
    assert np.any(expected)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-7 * np.max(np.abs(expected)) + 1e-10)
