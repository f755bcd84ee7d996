"""Operations of closed forms, each a handful of calls of the standard: a backend may have one loop for what takes several.

What stands here is what each of them means: a loop of a backend's own is held against it. None is for autograd but
`hinge_errors`, which formulas call too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

Array = Any


def holds(limits: Any, number: int, whole: bool) -> bool:
    """Whether a dtype with these limits, its `iinfo` if of whole numbers, else its `finfo`, has this very number."""
    if whole:
        return bool(limits.min <= number <= limits.max)
    # All whole numbers up to 2 / eps, and above multiples of a power of two: others it would round.
    step = max(1, (1 << abs(number).bit_length()) // int(2 / limits.eps))
    return abs(number) <= float(limits.max) and number % step == 0


class FusedOperations:
    """The part of a backend that losses with a closed form are written with."""

    if TYPE_CHECKING:
        # Of the backend that this is a part of.
        xp: Any
        device: Callable[[Array], Any]
        upcast: Callable[[Array], Array]
        is_dtype: Callable[..., bool]
        exp_: Callable[[Array], Array]
        pick: Callable[[Array, Array], Array]
        subtract_at: Callable[[Array, Array, Array], Array]
        look_up: Callable[[Array, Array], Array]
        class_sums: Callable[[Array, Array, int], Array]
        keep_where: Callable[..., Array]
        count: Callable[..., Array]
        differs: Callable[[Array, int], Array]
        class_values: Callable[[Array, Array], Array]
        split_labels: Callable[[Array, int], tuple[Array, Array]]
        argsort_descending: Callable[[Array], Array]
        in_order: Callable[[Array, Array], Array]
        unsort: Callable[[Array, Array], Array]
        readable: Callable[[Array], bool]
        read: Callable[[Array], Any]
        elementwise: Callable[..., Any]

    def in_rows(self, x: Array) -> Array:
        """Logits (N, C, S), copied where they lie class by class (channels-last ones) and the loops read pixel by pixel."""
        return x

    def as_pixels(self, x: Array) -> Array:
        """The gradient (1, C, P) of pixels without spatial axes as theirs, (P, C)."""
        return self.xp.permute_dims(x, (2, 1, 0))[:, :, 0]

    def softmax_parts(self, x: Array) -> tuple[Array, Array, Array]:
        """exp(x - top) (N, C, S), its sum over the channels and top, the largest of them, (N, S) both."""
        top = self.xp.max(x, axis=1)
        powers = self.exp_(x - top[:, None, :])
        return powers, self.xp.sum(powers, axis=1), top

    def softmax_sums(self, x: Array) -> tuple[Array, Array]:
        """The last two of `softmax_parts`; x may be of half precision."""
        return self.softmax_parts(self.upcast(x))[1:]

    def cross_entropy(
        self, x: Array, index: Array, weights: Array | None = None, out: Array | None = None
    ) -> tuple[Array, Array | None]:
        """logsumexp(x) - x[index] (N, S) of x (N, C, S), which may be of half precision, here and below where it says so.

        With weights (N, S) also the gradient of the sum of weights * it, weights * (softmax(x) - onehot(index)), which a
        backend may put into `out`, of the dtype of x, and returns that then.
        """
        xp, x = self.xp, self.upcast(x)
        top = xp.max(x, axis=1)
        powers, below = self.exp_(x - top[:, None, :]), self.pick(x, index) - top
        # Without the label's own power: of what the others add up to, a sum with a 1 in it keeps the first digits alone, and
        # where a pixel is confident log(sum) and p - 1 have no more than those.
        powers = self.subtract_at(powers, index, self.pick(powers, index))
        others, own = xp.sum(powers, axis=1), xp.exp(below)
        losses = xp.log1p(others + (own - 1)) - below
        if weights is None:
            return losses, None
        factor = weights / (others + own)
        powers *= factor[:, None, :]
        return losses, self.subtract_at(powers, index, others * factor)

    def plain_cross_entropy(
        self, x: Array, labels: Array, ignore_index: int, weight: Array | None, share: Array, out: Array | None
    ) -> Array | None:
        """The sum of w[y] (logsumexp(x) - x[y]) over the labels y (N, S) that count, float64; x may be of half precision.

        `weight` has one w for each class, None for 1. The derivative of each term times `share` goes to `out`. None: the
        backend has no loop of its own for this, or not for such arrays.
        """
        return None

    def weight_sum(self, labels: Array, ignore_index: int, weight: Array) -> Array:
        """The sum of w[y] over the labels y (N, S) that count, float64."""
        index, valid = self.split_labels(labels, ignore_index)
        return self.xp.sum(self.keep_where(valid, self.class_values(weight, index)), dtype=self.xp.float64)

    def relaxed_cross_entropy(
        self, x: Array, near: Array, weights: Array | None = None, out: Array | None = None
    ) -> tuple[Array, Array | None]:
        """logsumexp(x) - logsumexp(x where near) (N, S), each from its own largest: near (N, C, S) bool, never none at a
        pixel.

        With weights (N, S) also the gradient of the sum of weights * it; see `cross_entropy`.
        """
        xp = self.xp
        top, near_top = xp.max(x, axis=1), xp.max(self.keep_where(near, x, -math.inf), axis=1)
        powers = self.exp_(x - xp.where(near, near_top[:, None, :], top[:, None, :]))
        # What is not near stands apart from what is, as the label of `cross_entropy` does.
        others, near_norm = (xp.sum(self.keep_where(mask, powers), axis=1) for mask in (~near, near))
        # Farther below, what is near adds nothing to the sum of all, and its power would be too small to divide by.
        below = near_top - top
        held = xp.maximum(below, xp.full_like(below, -60.0))
        whole = near_norm * xp.exp(held)
        losses = xp.log1p(others / whole) + (held - below)
        if weights is None:
            return losses, None
        factor = weights / (whole + others)
        powers *= xp.where(near, (-(others * factor) / near_norm)[:, None, :], factor[:, None, :])
        return losses, powers

    def through_softmax(self, x: Array, slope: Array, weights: Array | None = None, out: Array | None = None) -> Array:
        """weights * p * (slope - sum p * slope) with p = softmax(x): from the gradient by p that by x.

        A backend may put it into `out`, which may be `slope`, and returns that then. x and `out` may be of half precision.
        """
        p, norm, _ = self.softmax_parts(self.upcast(x))
        p /= norm[:, None, :]
        p *= slope - self.xp.sum(p * slope, axis=1, keepdims=True)
        return p if weights is None else p * weights[:, None, :]

    def through_softmax_by_class(
        self, x: Array, index: Array, by_class: Array, by_own: Array, weights: Array, out: Array | None = None
    ) -> Array:
        """`through_softmax` of the slope `by_class` (N, C), and `by_own` (N, C) more at pixels whose class `index` is that.

        A backend may put it into `out`, and returns that then. x and `out` may be of half precision.
        """
        x = self.upcast(x)
        slope = by_class[:, :, None] + self.xp.zeros_like(x)
        slope = self.subtract_at(slope, index, -self.look_up(by_own, index))
        return self.through_softmax(x, slope, weights, out)

    def softmax_totals(self, x: Array, index: Array, weights: Array) -> tuple[Array, Array, Array]:
        """Sums of weights * softmax(x) over all pixels, over those of the class by `index`, and of the weights of these.

        float64 (N, C), all three. x may be of half precision.
        """
        x = self.upcast(x)
        p, norm, _ = self.softmax_parts(x)
        p *= (weights / norm)[:, None, :]
        mass, classes = self.xp.sum(p, axis=2, dtype=self.xp.float64), x.shape[1]
        return mass, self.class_sums(self.pick(p, index), index, classes), self.class_sums(weights, index, classes)

    def binary_cross_entropy(
        self,
        x: Array,
        labels: Array,
        ignore_index: int,
        weight: tuple[Array, Array],
        share: Array,
        pos_weight: Array,
        out: Array | None,
    ) -> Array | None:
        """The sum of (v (1 - y) + w y) ((1 - y) x + (1 - y + p y) log(1 + exp(-x))) over the labels y that count, float64.

        `weight` is v and w, what labels 0 and labels 1 weigh; p is `pos_weight`. The derivative of each term times `share`
        goes to `out`. None: the backend has no loop of its own for this, or not for such arrays.
        """
        return None

    def counted_binary_cross_entropy(
        self, x: Array, labels: Array, ignore_index: int, most: float, share: Array, pos_weight: Array, out: Array | None
    ) -> tuple[Array, Array] | None:
        """`binary_cross_entropy` of weight 1, its derivative times `share`; and the labels' `tally`, from the same pass."""
        return None

    def differences(
        self, x: Array, labels: Array, ignore_index: int | None, squares: bool, share: Array, out: Array | None
    ) -> Array | None:
        """The sum of (x - y)^2, or of |x - y|, over the labels y that count, float64.

        The derivative of each term times `share` goes to `out`. None: the backend has no loop of its own for this, or not
        for such arrays.
        """
        return None

    def counted_differences(
        self, x: Array, labels: Array, ignore_index: int | None, squares: bool, share: Array, out: Array | None
    ) -> tuple[Array, int] | None:
        """`differences`, and how many labels count, from the same pass."""
        return None

    def softplus_and_sigmoid(self, x: Array) -> tuple[Array, Array]:
        """log(1 + exp(x)) and its derivative from one exponential."""
        xp = self.xp
        power = self.exp_(-xp.abs(x))
        above = xp.maximum(x, xp.zeros_like(x)) + xp.log1p(power)
        # 1 / (1 + e) for positive x, e / (1 + e) for others, where e <= 1.
        return above, xp.maximum(power, xp.astype(x > 0, x.dtype)) / (1 + power)

    def tally(self, labels: Array, ignore_index: int | None, most: float) -> Array:
        """How many labels count, and of those how many are 1, are 0, and lie outside [0, most] (NaN too): (4,).

        Whole numbers, of int64 or float64.
        """
        xp = self.xp
        # Before the cast, which makes -1 of the largest uint64.
        mask = xp.ones_like(labels, dtype=xp.bool) if ignore_index is None else self.differs(labels, ignore_index)
        if self.is_dtype(labels, ("integral", "bool")):
            # Narrow ones wrap around in some frameworks' comparisons with larger numbers, wide unsigned ones know none.
            labels = xp.astype(labels, xp.int64, copy=False)
        # Not `>= limit`: soft labels are floats up to 1.
        masks = [xp.equal(labels, 1), xp.equal(labels, 0), ~((labels >= 0) & (labels <= most))]
        return xp.stack([self.count(mask), *(self.count(mask & which) for which in masks)])

    def class_errors(
        self, x: Array, top: Array, norm: Array, index: Array, valid: Array, number: int
    ) -> tuple[Array, Array]:
        """|[index = number] - exp(x - top) / norm| (N, S), 0 where not valid; and which are valid and of the class.

        x may be of half precision.
        """
        foreground = self.xp.equal(index, number) & valid
        p = self.exp_(self.upcast(x) - top) / norm
        return self.keep_where(valid, self.xp.abs(self.xp.astype(foreground, p.dtype) - p)), foreground

    def hinge_errors(self, score: Array, index: Array, valid: Array) -> tuple[Array, Array]:
        """max(0, 1 - s (2 [index = 1] - 1)) (N, S), 0 where not valid; and which pixels are valid and of class 1."""
        foreground = self.xp.equal(index, 1) & valid
        errors = 1 - score * (2 * self.xp.astype(foreground, score.dtype) - 1)
        return self.keep_where(valid, self.xp.maximum(errors, self.xp.zeros_like(errors))), foreground

    def lovasz(self, errors: Array, foreground: Array, scale: Array) -> tuple[Array, Array]:
        """The sum of errors (P,) times `jaccard_steps`, float64; and the steps times `scale`, in the foreground times -1.

        The latter is the derivative by what an error rises with in the background and falls with in the foreground.
        """
        xp, row = self.xp, (1, -1)
        steps = xp.reshape(self.jaccard_steps(xp.reshape(errors, row), xp.reshape(foreground, row)), (-1,))
        return xp.sum(steps * errors, dtype=xp.float64), steps * (scale * (1 - 2 * xp.astype(foreground, errors.dtype)))

    def lovasz_classes(
        self,
        x: Array,
        sums: tuple[Array, Array],
        labels: tuple[Array, Array],
        first: int,
        shares: Array,
        slopes: Array | None,
    ) -> Array:
        """The sum over the channels of x (N, G, S) of shares (G,) * `lovasz` of their `class_errors`: float64.

        `sums` are norm and top, `labels` index and valid, `first` is the class of channel 0. The derivative by the
        probabilities goes to `slopes` (N, G, S).
        """
        xp, (images, classes, count) = self.xp, (int(length) for length in x.shape)
        (norm, top), (index, valid), parts = sums, labels, []
        for c in range(classes):
            if self.readable(shares) and float(self.read(shares[c])) == 0:
                if slopes is not None:
                    slopes[:, c, :] = 0.0
                continue
            errors, foreground = self.class_errors(x[:, c, :], top, norm, index, valid, first + c)
            # Its own place, which stays in a cache: written to `slopes` pixel by pixel it would take three times as long.
            loss, slope = self.lovasz(xp.reshape(errors, (-1,)), xp.reshape(foreground, (-1,)), shares[c])
            if slopes is not None:
                slopes[:, c, :] = xp.reshape(slope, (images, count))
            parts.append(loss * shares[c])
        return sum(parts[1:], parts[0]) if parts else xp.zeros_like(shares[0], dtype=xp.float64)

    def presence(self, index: Array, valid: Array, first: int, classes: int) -> Array:
        """Whether a valid pixel has each of so many classes, 1 or 0 (C,): float32."""
        found = [self.xp.any(self.xp.equal(index, first + c) & valid) for c in range(classes)]
        return self.xp.astype(self.xp.stack(found), self.xp.float32)

    def jaccard_steps(self, errors: Array, foreground: Array) -> Array:
        """Of errors (rows, P) sorted from large to small, equal ones in their order: the step at each pixel, in its place.

        It is 0 at errors that are not above 0.

        With G foreground pixels in all, I the number of them still to come and U = G + the number of background pixels so
        far, the Jaccard loss after k pixels is 1 - I/U. Its steps are 1/U at a foreground pixel and I/(U(U-1)) at a
        background pixel: written so, nothing cancels, where differences of neighbouring quotients lose every digit of
        float32 in a million pixels.
        """
        order = self.argsort_descending(errors)
        hits = self.in_order(foreground, order)
        xp, pixels = self.xp, int(hits.shape[-1])
        # Narrow counts halve the memory that a million pixels pass through.
        number = xp.int32 if pixels < 2**30 else xp.int64
        found = xp.cumulative_sum(xp.astype(hits, number), axis=-1, dtype=number)
        place = xp.arange(1, pixels + 1, dtype=number, device=self.device(hits))[None, :]

        def step(hits: Array, found: Array, place: Array, whole: Array) -> Array:
            union = xp.astype(whole + place - found, errors.dtype)
            at_background = xp.astype(whole - found, errors.dtype) / xp.maximum(union - 1, xp.ones_like(union))
            # Without foreground the Jaccard loss jumps to 1 at the first pixel.
            jump = hits | (xp.equal(whole, 0) & xp.equal(place, 1))
            return (xp.astype(jump, errors.dtype) + self.keep_where(~jump, at_background)) / union

        steps = self.unsort(self.elementwise(step, hits, found, place, found[..., -1:]), order)
        return self.keep_where(xp.greater(errors, 0) | xp.isnan(errors), steps)
