"""What the framework's own functional makes of a case, where it has one with the same definition for the case's options.

Only for its rounding errors: the verdict compares a loss's errors with those of `F.cross_entropy` and its like on the same
inputs in the same dtype. What has no such functional is compared with the plain formula's autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unilossseg.conformance.cases import Array

#: Names of functionals, in both frameworks.
CROSS_ENTROPY, BINARY, L1, MSE = "cross_entropy", "binary_cross_entropy_with_logits", "l1_loss", "mse_loss"
#: What the formulas add to the share of pixels that count, and the functionals do not: see `_cross_entropy`.
_EPS = 1e-8
#: A label that no class here has.
_IGNORED = 1 << 16


@dataclass(frozen=True)
class Native:
    """A framework's functionals, and how its tensors are made."""

    functional: Any
    #: How its cross entropy is told that the classes are axis 1.
    classes_first: Mapping[str, Any]
    #: A tensor from numbers, in the logits' dtype or as they are.
    number: Callable[[Array], Any]
    whole: Callable[[Array], Any]


Loss = Callable[[Any], Any]
_Made = Callable[[Native, Mapping[str, Any], tuple[int, ...], Mapping[str, Array]], Loss | None]


def functional_of(native: Native, loss: str, parameters: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[str, Loss]:
    """The functional's name and the loss as a function of the logits; the name is empty where there is none."""
    name, made = _FUNCTIONALS.get(loss, ("", _none))
    found = made(native, parameters, arrays["logits"].shape, arrays)
    return (name, found) if found is not None else ("", lambda logits: logits)


def _none(*_: Any) -> None:
    return None


def _cross_entropy(
    native: Native, parameters: Mapping[str, Any], shape: tuple[int, ...], arrays: Mapping[str, Array]
) -> Loss | None:
    """The mean over the pixels that count, or over all of them."""
    if parameters.get("top_k_percent_pixels", 1.0) != 1 or parameters.get("data_format", "NCHW") != "NCHW":
        return None
    labels = arrays["labels"].reshape(shape[0], *shape[2:]).astype(np.int64)
    ignored = int(parameters.get("ignore_index", 255))
    valid = labels != ignored
    if "semantic_weights" in arrays or not valid.any():
        return None
    weight = parameters.get("weight")
    counted = np.ones(int(valid.sum())) if weight is None else np.asarray(weight)[labels[valid]]
    whole = counted.sum()
    if not parameters.get("avg_non_ignore", True):
        # What an ignored pixel counts then.
        is_class = weight is not None and 0 <= ignored < len(weight)
        whole += (labels.size - valid.sum()) * (np.asarray(weight)[ignored] if is_class else 1.0)
    # From a division by the sum of the weights to the formula's; 1 in float32 wherever many pixels count.
    factor = float(counted.sum() / (whole + _EPS * labels.size))
    given = None if weight is None else native.number(np.asarray(weight))
    # Where the ignored label is below zero, Paddle's mean is over all pixels.
    target = native.whole(np.where(valid, labels, _IGNORED))
    options = {"weight": given, "ignore_index": _IGNORED, **native.classes_first}
    return lambda logits: native.functional.cross_entropy(logits, target, **options) * factor


def _binary(
    native: Native, parameters: Mapping[str, Any], shape: tuple[int, ...], arrays: Mapping[str, Array]
) -> Loss | None:
    """The mean over the logits that count."""
    weight, positive = parameters.get("weight"), parameters.get("pos_weight")
    labels, ignored = arrays["labels"], parameters.get("ignore_index", 255)
    if isinstance(weight, str) or isinstance(positive, str):
        return None  # from shares of the labels
    if positive is not None and not _weighs_positives(native):
        return None
    if not arrays["logits"].all():
        return None  # Paddle's gradient at a logit of 0 is that of a kink
    if labels.size != int(np.prod(shape)):
        classes = labels.reshape(shape[0], 1, *shape[2:])
        labels = np.where(
            classes == ignored, ignored, classes == np.arange(shape[1]).reshape(1, -1, *[1] * (len(shape) - 2))
        )
    places = np.flatnonzero(labels.reshape(shape) != ignored)
    if not places.size:
        return None
    target = native.number(labels.ravel()[places])
    options: dict[str, Any] = {}
    if weight is not None:
        each = np.broadcast_to(np.asarray(weight, dtype=np.float64).reshape(-1, *[1] * (len(shape) - 1)), shape)
        options["weight"] = native.number(each.ravel()[places])
    if positive is not None:
        options["pos_weight"] = native.number(np.full(1, float(positive)))
    chosen = native.whole(places)
    return lambda logits: native.functional.binary_cross_entropy_with_logits(logits.reshape([-1])[chosen], target, **options)


def _weighs_positives(native: Native) -> bool:
    """Whether `pos_weight` is a factor of all of a positive's loss.

    Paddle 2.6 multiplies log(1 + e^-|z|) by it and leaves max(-z, 0) alone: github.com/PaddlePaddle/Paddle/pull/65859.
    """
    if not native.functional.__name__.startswith("paddle."):
        return True
    # It imports Paddle, which only a worker of Paddle may do.
    from unilossseg.backends._paddle_version import OLD

    return not OLD


def _elements(name: str) -> _Made:
    """L1 and MSE: each element, its mean or its sum."""

    def made(
        native: Native, parameters: Mapping[str, Any], shape: tuple[int, ...], arrays: Mapping[str, Array]
    ) -> Loss | None:
        function, reduction = getattr(native.functional, name), parameters.get("reduction", "mean")
        labels = arrays["labels"]
        keeps_all = name == MSE and parameters.get("variant", "paddleseg") == "paddleseg"
        valid = np.full(shape, keeps_all) | (labels != parameters.get("ignore_index", 255))
        if not valid.any():
            return None
        if reduction == "none":
            # An ignored label may be far off: its error would be infinite in half precision, and times 0 a NaN.
            target, mask = native.number(np.where(valid, labels, 0)), native.number(valid * 1.0)
            return lambda logits: function(logits, target, reduction="none") * mask
        places = np.flatnonzero(valid)
        chosen, target = native.whole(places), native.number(labels.ravel()[places])
        return lambda logits: function(logits.reshape([-1])[chosen], target, reduction=reduction)

    return made


_FUNCTIONALS: Mapping[str, tuple[str, _Made]] = {
    "CrossEntropyLoss": (CROSS_ENTROPY, _cross_entropy),
    "BCELoss": (BINARY, _binary),
    "L1Loss": (L1, _elements(L1)),
    "MSELoss": (MSE, _elements(MSE)),
}
