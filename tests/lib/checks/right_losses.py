"""Right losses of a user's own, each unlike the package's in some way: the module right.py in their folder."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field

import numpy as np

from unilossseg import Loss
from unilossseg.building import as_weights, average, keep_where, pixel_cross_entropy, softmax, split_labels, triangle


class Distance(Loss):
    """A multiple of the mean square of the difference."""

    class_labels = False
    factor = 1.0

    def compute(self, ops, logits, labels):
        return self.factor * average(ops, (logits - labels) ** 2)


@dataclass(eq=False)
class WithInitVar(Distance):
    """What its constructor is called with is in no field."""

    scale: InitVar[float] = 1.0
    factor: float = field(init=False, default=1.0)

    def __post_init__(self, scale):
        super().__post_init__()
        self.factor = scale


class OwnInit(Distance):
    """No dataclass."""

    def __init__(self, gamma=2.0, validate=None):
        super().__init__(validate=validate)
        self.factor = gamma


@dataclass(eq=False)
class Doubling(Distance):
    """Its constructor changes what it is called with."""

    factor: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        self.factor *= 2


@dataclass(eq=False, slots=True)
class WithSlots(Distance):
    """Its fields are in no `vars`."""

    gain: float = 1.0

    def compute(self, ops, logits, labels):
        return self.gain * average(ops, (logits - labels) ** 2)


INIT_VAR, OWN_INIT, DOUBLING, WITH_SLOTS = (
    WithInitVar(scale=4.0),
    OwnInit(gamma=5.0),
    Doubling(factor=3.0),
    WithSlots(gain=6.0),
)


@dataclass(eq=False)
class Pixels(Loss):
    """Cross entropy over the pixels that count."""

    ignore_index: int = 255

    def compute(self, ops, logits, labels):
        pixels = split_labels(ops, labels, self.ignore_index)
        losses = pixel_cross_entropy(ops, logits, pixels)
        valid = as_weights(ops, pixels.valid, losses)
        return average(ops, keep_where(ops, pixels.valid, losses)) / (average(ops, valid) + 1e-8)


class OneClass(Pixels):
    """Its logits are in one piece in any order of their axes."""

    def conformance_inputs(self, draws):
        return {"logits": draws.normal(size=(8, 1)), "labels": np.array([0, 0, 255, 0, 0, 0, 255, 0])}


class OneColumn(Pixels):
    """The last axis is of no length."""

    def conformance_inputs(self, draws):
        return {"logits": draws.normal(size=(2, 3, 4, 1)), "labels": draws.integers(0, 3, size=(2, 4, 1))}


class OneImage(Pixels):
    """Its logits can lie in memory in strides; its labels, a single row, cannot in every framework."""

    def conformance_inputs(self, draws):
        return {"logits": draws.normal(size=(1, 3, 4)), "labels": np.array([[0, 1, 255, 2]])}


@dataclass(eq=False)
class Edges(Pixels):
    """An input whose name means something else to losses of the package."""

    call_inputs = ("edge_logits",)

    def compute(self, ops, logits, labels, edge_logits):
        pixels = split_labels(ops, labels, self.ignore_index)
        losses = pixel_cross_entropy(ops, logits, pixels)
        return average(ops, keep_where(ops, pixels.valid, losses * ops.xp.reshape(edge_logits, losses.shape)))


@dataclass(eq=False)
class Bytes(Pixels):
    """No label of theirs can be its ignore_index."""

    ignore_index: int = -100

    def conformance_inputs(self, draws):
        return {"logits": draws.normal(size=(2, 3, 4)), "labels": draws.integers(0, 3, size=(2, 4)).astype(np.uint8)}


@dataclass(eq=False)
class Huge(Pixels):
    """Nor can one of those that are drawn for it."""

    ignore_index: int = 2**64 - 1


@dataclass(eq=False)
class Smoothed(Pixels):
    """An ignored pixel has a part in what is predicted beside it."""

    conformance_neighbourhood = True

    def compute(self, ops, logits, labels):
        for axis in (2, 3):
            logits = triangle(ops, logits, axis, radius=1)
        return super().compute(ops, logits, labels)


@dataclass(eq=False)
class MeanAbsolute(Loss):
    """1 - p of each pixel's class. Where p is all but 1, its closed form is a difference of few digits."""

    ignore_index: int = 255

    def compute(self, ops, logits, labels):
        pixels = split_labels(ops, labels, self.ignore_index)
        valid = as_weights(ops, pixels.valid, logits)
        losses = 1 - ops.xp.exp(-pixel_cross_entropy(ops, logits, pixels))
        return average(ops, losses * valid) / (average(ops, valid) + 1e-8)

    def closed_form(self, ops, logits, labels, *, gradient, upstream):
        pixels = split_labels(ops, labels, self.ignore_index)
        valid, p = as_weights(ops, pixels.valid, logits), softmax(ops, logits)
        share = valid / valid.size / (average(ops, valid) + 1e-8) * (1.0 if upstream is None else upstream)
        own = as_weights(ops, ops.one_hot(pixels.index, logits.shape[1]), logits)
        slope = ops.pick(p, pixels.index)[:, None, :] * (p - own) * share[:, None, :]
        return self.compute(ops, logits, labels), slope if gradient else None


@dataclass(eq=False)
class SoftIoU(MeanAbsolute):
    """The same, of other inputs: they are drawn by the name."""


@dataclass(eq=False)
class Finer(Loss):
    """Four labels to a pixel of the logits."""

    ignore_index: int = 255

    def check_labels(self, backend, logits, labels):
        return labels

    def compute(self, ops, logits, labels):
        images, _, height, width = logits.shape
        known = ops.xp.reshape(labels, (images, height, 2, width, 2)) != self.ignore_index
        weights = ops.xp.sum(ops.xp.sum(ops.xp.astype(known, logits.dtype), axis=4), axis=2)
        return average(ops, ops.xp.expand_dims(weights, axis=1) * logits**2)

    def conformance_inputs(self, draws):
        labels = draws.integers(0, 3, size=(2, 4, 4))
        labels[0, 0, 0] = 255
        return {"logits": draws.normal(size=(2, 3, 2, 2)), "labels": labels}
