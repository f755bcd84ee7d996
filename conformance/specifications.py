"""What each loss takes, and the options that are tried one by one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

VARIANTS = ("paddleseg", "corrected")


@dataclass(frozen=True)
class Option:
    """Another set of parameters for a loss, or other inputs."""

    name: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: Fields of the specification that differ.
    changes: Mapping[str, Any] = field(default_factory=dict)
    #: What is peculiar about its inputs: fields of a condition.
    condition: Mapping[str, Any] = field(default_factory=dict)
    upstream: bool = False


@dataclass(frozen=True)
class Specification:
    """The parameters and the inputs of a loss under test."""

    loss: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    options: tuple[Option, ...] = ()
    variants: tuple[str | None, ...] = VARIANTS
    #: 'classes', or 'numbers' in the logits' shape.
    labels: str = "classes"
    images: int = 2
    #: The channel axis; empty for losses of any array.
    channels: tuple[int, ...] = (3,)
    sizes: tuple[int, ...] = (4, 5)
    #: Two spatial axes, no more and no fewer.
    planar: bool = False
    #: Labels 0 and 1 (or, if `soft`, numbers between) for each logit.
    dense: bool = False
    soft: bool = False
    edges: bool = False
    #: Edge logits are multiples of it; 0: any numbers.
    edge_step: float = 0.0
    noise: bool = False
    semantic_weights: bool = False

    def with_option(self, option: Option) -> Specification:
        """The specification with an option's parameters in place of its own."""
        return replace(self, parameters=option.parameters, **option.changes)


WEIGHT = [0.5, 2.0, 1.25]
_SEMANTIC = {"semantic_weights": True}
_ONE_CHANNEL = {"channels": (1,)}
_DENSE = {"dense": True}
#: Inputs with many exact equals among the losses, and inputs with losses of exactly 0.
_TIES = {"logits": "few rows"}
_EXTREME = {"logits": "extreme"}
_SOFT = {"dense": True, "soft": True}
_PARTS = [["CrossEntropyLoss", {}], ["DiceLoss", {"smooth": 1.0}], ["LovaszSoftmaxLoss", {}]]
_REDUCTIONS = (
    Option("sum", {"reduction": "sum"}),
    Option("none", {"reduction": "none"}, upstream=True),
    Option("one axis", {}, {"images": 17, "channels": (), "sizes": ()}),
)

_ALL = (
    Specification(
        "BCELoss",
        options=(
            Option("dynamic weight", {"weight": "dynamic"}),
            Option("dynamic pos_weight", {"pos_weight": "dynamic"}),
            Option("both dynamic", {"weight": "dynamic", "pos_weight": "dynamic"}),
            Option("weights of images", {"weight": [0.5, 2.0], "pos_weight": 3}),
            Option("pos_weight", {"pos_weight": 2.5}),
            Option("edge_label", {"edge_label": True}),
            Option("label per logit", {"weight": "dynamic"}, _DENSE),
            Option("label per logit, another ignored label", {"ignore_index": 200}, _DENSE),
            Option("soft labels", {"pos_weight": 2.5}, _SOFT),
            Option("soft labels, dynamic", {"weight": "dynamic", "pos_weight": "dynamic"}, _SOFT),
            Option("one channel", {"weight": "dynamic"}, _ONE_CHANNEL),
        ),
    ),
    Specification(
        "BootstrappedCrossEntropyLoss",
        {"min_K": 5, "loss_th": 1.0},
        options=(
            Option("K hardest", {"min_K": 6, "loss_th": 50.0}),
            Option("more than there are", {"min_K": 1000, "loss_th": 0.5}),
            Option("min_K of zero", {"min_K": 0, "loss_th": 0.5}),
            Option("K hardest among ties", {"min_K": 6, "loss_th": 50.0}, condition=_TIES),
            Option("K hardest, losses of zero", {"min_K": 15, "loss_th": 1e5}, condition=_EXTREME),
            Option("losses at the threshold", {"min_K": 3, "loss_th": 0.0}, condition=_EXTREME),
            Option("class weights", {"min_K": 6, "loss_th": 1.5, "weight": WEIGHT}),
        ),
    ),
    Specification(
        "CrossEntropyLoss",
        options=(
            Option("class weights", {"weight": WEIGHT}),
            Option("top-k", {"top_k_percent_pixels": 0.3}),
            Option("top-k, class weights", {"top_k_percent_pixels": 0.4, "weight": WEIGHT}),
            Option("top-k of zero", {"top_k_percent_pixels": 0.0}),
            Option("top-k among ties", {"top_k_percent_pixels": 0.4}, condition=_TIES),
            Option("top-k of a hundred", {"top_k_percent_pixels": 0.29}, {"sizes": (5, 10)}),
            Option("mean over all", {"avg_non_ignore": False, "weight": WEIGHT}),
            Option("top-k, mean over all", {"avg_non_ignore": False, "weight": WEIGHT, "top_k_percent_pixels": 0.4}),
            Option("mean over all, a class ignored", {"avg_non_ignore": False, "weight": WEIGHT, "ignore_index": 1}),
            Option(
                "top-k, mean over all, a class ignored",
                {"avg_non_ignore": False, "weight": WEIGHT, "ignore_index": 1, "top_k_percent_pixels": 0.9},
            ),
            Option("channels last", {"data_format": "NHWC"}),
            Option("channels last, top-k", {"data_format": "NHWC", "top_k_percent_pixels": 0.5}),
            Option("semantic weights", {"weight": WEIGHT}, _SEMANTIC),
            Option("semantic weights, top-k", {"top_k_percent_pixels": 0.4}, _SEMANTIC),
            Option("a class ignored", {"ignore_index": 1}),
            Option("ignored label below zero", {"ignore_index": -1}),
        ),
    ),
    Specification(
        "RelaxBoundaryLoss",
        sizes=(5, 6),
        channels=(4,),
        planar=True,
        options=(
            Option("border of two", {"border": 2}),
            Option("no border", {"border": 0}),
            Option("class weights", {"calculate_weights": True, "upper_bound": 1.5}),
            Option("class weights, border of two", {"calculate_weights": True, "border": 2}),
        ),
    ),
    Specification(
        "DiceLoss",
        options=(
            Option("smooth", {"smooth": 1.0}),
            Option("class weights", {"weight": WEIGHT}),
            Option("smooth, class weights", {"smooth": 0.5, "weight": WEIGHT}),
        ),
    ),
    Specification(
        "EdgeAttentionLoss",
        variants=(None,),
        edges=True,
        options=(
            Option("lower threshold", {"edge_threshold": 0.3}),
            Option("no edge", {"edge_threshold": 5.0}),
            Option("edges at the threshold", {"edge_threshold": 1.0}, {"edge_step": 0.5}),
        ),
    ),
    Specification(
        "DualTaskLoss",
        sizes=(7, 13),
        planar=True,
        noise=True,
        options=(Option("tau", {"tau": 1.0}),),
    ),
    Specification("L1Loss", variants=(None,), labels="numbers", options=_REDUCTIONS),
    Specification("MSELoss", labels="numbers", options=_REDUCTIONS),
    Specification(
        "OhemCrossEntropyLoss",
        {"thresh": 0.4, "min_kept": 8},
        options=(
            Option("defaults", {}),
            Option("many kept", {"thresh": 0.1, "min_kept": 20}),
            Option("as many kept as there are", {"thresh": 0.1, "min_kept": 40}, condition={"share_ignored": 0.0}),
            Option("min_kept of zero", {"thresh": 0.3, "min_kept": 0}),
            Option("class weights", {"thresh": 0.4, "min_kept": 8, "weight": WEIGHT}),
        ),
    ),
    Specification(
        "OhemEdgeAttentionLoss",
        {"thresh": 0.3, "min_kept": 5},
        edges=True,
        options=(
            Option("defaults", {}),
            Option("lower threshold", {"edge_threshold": 0.3, "thresh": 0.2, "min_kept": 8}),
            Option("edges at the threshold", {"edge_threshold": 1.0, "thresh": 0.3, "min_kept": 5}, {"edge_step": 0.5}),
            Option("many kept", {"edge_threshold": 0.3, "thresh": 0.1, "min_kept": 12}),
            Option("min_kept of zero", {"thresh": 0.5, "min_kept": 0}),
        ),
    ),
    Specification(
        "LovaszSoftmaxLoss",
        options=(
            Option("all classes", {"classes": "all"}),
            Option("all classes, one absent", {"classes": "all"}, condition={"absent": True}),
            Option("listed classes", {"classes": [2, 0]}),
            Option("a class listed twice", {"classes": [2, 0, 2]}),
            Option("one channel", {}, _ONE_CHANNEL),
        ),
    ),
    Specification(
        "LovaszHingeLoss",
        channels=(1,),
        options=(
            Option("two channels", {}, {"channels": (2,)}),
            Option("two channels, upstream", {}, {"channels": (2,)}, upstream=True),
        ),
    ),
    Specification(
        "MixedLoss",
        {"losses": _PARTS, "coef": [0.5, 2.0, 0.75], "reduction": "sum"},
        variants=(None,),
        options=(
            Option("list", {"losses": _PARTS, "coef": [0.5, 2.0, 0.75]}),
            Option("one coef", {"losses": _PARTS, "coef": 0.4, "reduction": "sum"}),
            Option(
                "nested",
                {
                    "losses": [["MixedLoss", {"losses": _PARTS, "coef": 0.5}], ["OhemCrossEntropyLoss", {"thresh": 0.4}]],
                    "coef": [2.0, 0.25],
                },
            ),
        ),
    ),
)


def _with_ignored_label(specification: Specification) -> Specification:
    """Adds the option that every loss but MixedLoss has."""
    if specification.loss == "MixedLoss":
        return specification
    option = Option("another ignored label", {**specification.parameters, "ignore_index": 200})
    return replace(specification, options=(*specification.options, option))


SPECIFICATIONS = {specification.loss: _with_ignored_label(specification) for specification in _ALL}
LOSSES = tuple(SPECIFICATIONS)
