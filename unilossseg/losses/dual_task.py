"""The edges of the predicted segmentation against those of the labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import ClassVar, NamedTuple

from unilossseg import _errors
from unilossseg._loss import Loss
from unilossseg._neighbourhood import central_difference, central_difference_transposed, dilate, triangle
from unilossseg._pixels import (
    added,
    as_weights,
    flat,
    keep_where,
    ratio,
    shape_of,
    shifted_logits,
    softmax,
    split_labels,
    total,
    upcast,
    work_dtype,
)
from unilossseg.backends import Array, Backend
from unilossseg.backends._backend import Chunk

NOISE_EPS = 1e-10
MAGNITUDE_EPS = 1e-6
THRESHOLD = 1e-8
# Radius of the triangle filter, and with the central difference of 1 the reach of an edge magnitude.
RADIUS = 4
REACH = RADIUS + 1


class _Edges(NamedTuple):
    across: Array
    along: Array
    magnitude: Array

    def rows(self, kept: slice) -> _Edges:
        """Some rows of them."""
        return _Edges(*(x[..., kept, :] for x in self))


@dataclass(eq=False)
class DualTaskLoss(Loss):
    r"""The difference of two edge maps: of a Gumbel-softmax sample of the logits, and of the one-hot labels.

    .. math:: L = \tfrac12 \frac{\sum d\,[G > 10^{-8}]}{\#[G > 10^{-8}]}
                + \tfrac12 \frac{\sum d\,[\hat G > 10^{-8}]}{\#[\hat G > 10^{-8}]}, \qquad d = m\,|G - \hat G|

    G is the gradient magnitude sqrt(dx^2 + dy^2 + 1e-6) (triangle filter of radius 4 with symmetric padding, central
    differences, zero beyond the edge), divided by its maximum: with the 1e-6 in it, G > 1e-8 holds at every pixel. The
    sample is softmax((m z + g) / tau), g = -log(1e-10 - log(u + 1e-10)), u uniform.

    Parameters
    ----------
    ignore_index
        The label of pixels that do not count; they enter the edge maps as class 0.
    tau
        The temperature of the sample, above 0.
    variant
        The reference takes one maximum for the whole batch, its zero padding frames each image with false edges, and
        ignored pixels enter as class 0 and in the counts. 'corrected': a maximum per image, replicate padding, and pixels
        whose filter reaches an ignored pixel are left out of sums and counts.

    Shapes and dtypes
    -----------------
    logits (N, C, H, W), H and W at least 2; labels (N, H, W) or (N, 1, H, W), integers in [0, C) or `ignore_index`;
    `noise` in the call: uniform numbers of [0, 1) in the logits' shape, so that two frameworks can be given the same draw;
    without it the framework's own generator draws (array-api-strict has none, and needs it). Returns a scalar, float32,
    or float64 for float64 logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape, dtype or label does not fit.

    References
    ----------
    Takikawa, Acuna, Jampani, Fidler, "Gated-SCNN: Gated Shape CNNs for Semantic Segmentation", arXiv:1907.05740; Jang, Gu,
    Poole, "Categorical Reparameterization with Gumbel-Softmax", arXiv:1611.01144.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import DualTaskLoss
    >>> labels = np.array([[[0, 0, 1, 1]] * 3])
    >>> logits = np.stack([50.0 * (labels == 0), 50.0 * (labels == 1)], axis=1)
    >>> float(DualTaskLoss()(logits, labels, noise=np.full(logits.shape, 0.5))) < 1e-12
    True
    """

    ignore_index: int = 255
    tau: float = 0.5
    _: KW_ONLY
    variant: str = "paddleseg"

    flat_pixels = False
    packed_logits = True
    call_inputs = ("noise",)
    parameter_checks: ClassVar[_errors.Checks] = {"tau": partial(_errors.number, above=0), "variant": _errors.variant}

    def check_labels(self, backend: Backend, logits: Array, labels: Array) -> Array:
        """Two spatial axes with a neighbour each."""
        shape = shape_of(logits)
        if len(shape) != 4 or min(shape[2:]) < 2:
            raise ValueError(f"{self.name}: logits have shape {shape}, expected (N, C, H, W) with H and W at least 2")
        return super().check_labels(backend, logits, labels)

    def check_input(self, backend: Backend, name: str, logits: Array, labels: Array, value: Array) -> Array:
        """Noise in the logits' shape; its values are checked where that costs no wait."""
        shape, full = shape_of(value), shape_of(logits)
        if not backend.is_dtype(value, "real floating"):
            raise TypeError(f"{self.name}: noise has dtype {value.dtype}, expected a floating dtype")
        if shape != full:
            raise ValueError(f"{self.name}: noise has shape {shape}, expected {full}, the shape of the logits")
        if backend.readable(value) and not bool(backend.read(backend.xp.all((value >= 0) & (value <= 1)))):
            raise ValueError(f"{self.name}: noise has values outside [0, 1]: expected uniform random numbers")
        return value

    def drawn_inputs(self, backend: Backend, logits: Array, given: dict[str, Array]) -> dict[str, Array]:
        """Noise of the framework's own generator."""
        return {} if "noise" in given else {"noise": backend.uniform(shape_of(logits), logits)}

    def _noise(self, ops: Backend, logits: Array, noise: Array) -> Array:
        """Gumbel noise."""
        xp = ops.xp
        u = xp.add(xp.astype(noise, logits.dtype), NOISE_EPS)
        # At most 1: beyond it (possible in float64 alone) the outer logarithm has no value.
        return -xp.log(xp.subtract(NOISE_EPS, xp.log(xp.minimum(u, xp.ones_like(u)))))

    def _masks(self, ops: Backend, labels: Array) -> tuple[Array, Array, Array]:
        """The classes, 0 where ignored, the mask of valid pixels and that of counted ones: (N, 1, H, W)."""
        pixels = split_labels(ops, labels, self.ignore_index)
        images, height, width = shape_of(labels)
        index, valid = (ops.xp.reshape(x, (images, 1, height, width)) for x in (pixels.index, pixels.valid))
        if self.variant == "paddleseg":
            return index, valid, valid
        wide = dilate(ops, ~valid, RADIUS, RADIUS + 1)
        return index, valid, ~(wide | dilate(ops, ~valid, RADIUS + 1, RADIUS))

    def _sample(self, ops: Backend, logits: Array, valid: Array, gumbel: Array) -> Array:
        # The noise is added to differences of logits: to logits of 1e4 it would lose its digits in float32.
        z = shifted_logits(ops, logits * valid) + gumbel
        # The largest is taken off before the division: a small tau then overflows to a probability of 0, not to NaN.
        return softmax(ops, ops.xp.divide(shifted_logits(ops, z), self.tau))

    def _smooth(self, ops: Backend, p: Array) -> Array:
        return triangle(ops, triangle(ops, p, -1, RADIUS), -2, RADIUS)

    def _edges(self, ops: Backend, smooth: Array) -> _Edges:
        replicate = self.variant == "corrected"
        across = central_difference(ops, smooth, -1, replicate)
        along = central_difference(ops, smooth, -2, replicate)
        return _Edges(across, along, ops.xp.sqrt(across * across + along * along + MAGNITUDE_EPS))

    def _numbers(self, ops: Backend, predicted: Array, wanted: Array, counted: Array) -> Array:
        """How many edges count, predicted and of the labels: float64 (2,)."""
        xp = ops.xp
        everywhere = xp.ones_like(counted) if self.variant == "paddleseg" else counted
        there = [(edges > THRESHOLD) & everywhere for edges in (predicted, wanted)]
        return xp.astype(xp.stack([ops.count(edges) for edges in there]), xp.float64)

    def _weights(self, ops: Backend, predicted: Array, wanted: Array, counted: Array, numbers: Array) -> Array:
        """What each |G - G^| counts: half by the predicted edges, half by the labels'."""
        halves = ops.xp.astype(ratio(ops, ops.xp.full_like(numbers, 0.5), numbers), predicted.dtype)
        of_predicted, of_wanted = (as_weights(ops, edges > THRESHOLD, predicted) for edges in (predicted, wanted))
        return keep_where(ops, counted, of_predicted * halves[0] + of_wanted * halves[1])

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        xp = ops.xp
        index, valid, counted = self._masks(ops, labels)
        sample = self._sample(ops, logits, as_weights(ops, valid, logits), self._noise(ops, logits, inputs["noise"]))
        onehot = xp.astype(ops.one_hot(flat(ops, index[:, 0, ...], leading=1), int(logits.shape[1])), logits.dtype)
        axes = (1, 2, 3) if self.variant == "corrected" else (0, 1, 2, 3)
        relative = []
        for p in (sample, xp.reshape(onehot, shape_of(logits))):
            magnitude = self._edges(ops, self._smooth(ops, p)).magnitude
            relative.append(magnitude / xp.max(magnitude, axis=axes, keepdims=True))
        predicted, wanted = relative
        detached = ops.stop_gradient(predicted)
        weights = self._weights(ops, detached, wanted, counted, self._numbers(ops, detached, wanted, counted))
        return total(ops, weights * xp.abs(predicted - wanted))

    def closed_form(  # type: ignore[override]
        self,
        ops: Backend,
        logits: Array,
        labels: Array,
        *,
        gradient: bool,
        upstream: Array | None,
        noise: Array,
    ) -> tuple[Array, Array | None]:
        """Backwards through the maximum, the magnitude, the differences, the filter and the softmax."""
        planes = _Planes(self, ops, logits, labels, noise)
        value = planes.value()
        return value, planes.gradient(upstream) if gradient else None


class _Planes:
    """Passes over the planes (H, W) of the classes: what has the size of the logits is the sample, its smoothed image (in
    whose place the gradient comes) and the edges of the labels; all else is computed again where it is needed.
    """

    def __init__(self, loss: DualTaskLoss, ops: Backend, logits: Array, labels: Array, noise: Array) -> None:
        xp = ops.xp
        self.loss, self.ops, self.dtype = loss, ops, work_dtype(ops, logits)
        self.index, self.valid, self.counted = loss._masks(ops, labels)
        images, channels, height, width = self.shape = shape_of(logits)
        self.groups, self.strips = ops.planes(images, channels, height, width), ops.strips(height, width)
        self.bands = ops.chunks(images, channels * width, height)
        self.sample, self.smooth, self.wanted = (ops.buffer_like(logits, self.dtype) for _ in range(3))

        def draw(band: Chunk) -> None:
            place, rows = band
            z, u = (upcast(ops, x[place, :, rows, :]) for x in (logits, noise))
            valid = xp.astype(self.valid[place, :, rows, :], self.dtype)
            self.sample[place, :, rows, :] = loss._sample(ops, z, valid, loss._noise(ops, z, u))

        ops.run(draw, self.bands)
        self.tops = self._tops()
        self.numbers = added([found for _, found in self._in_strips(self._numbers)])

    def _around(self, rows: slice, reach: int) -> tuple[slice, slice]:
        """Rows and so many neighbours on either side, as far as the image goes; and where among them the rows are.

        What a neighbourhood makes of the cut edges of these is wrong, and is cut off.
        """
        start, stop = max(0, rows.start - reach), min(self.shape[2], rows.stop + reach)
        return slice(start, stop), slice(rows.start - start, rows.stop - start)

    def _in_strips(self, task: Callable[[Chunk, slice], Array]) -> list[tuple[Chunk, Array]]:
        """The sum of `task` over the strips of each group of planes."""
        found = self.ops.run(lambda group: added([task(group, rows) for rows in self.strips]), self.groups)
        return list(zip(self.groups, found, strict=True))

    def _tops(self) -> tuple[Array, Array]:
        """Fills `smooth` and `wanted`; the largest magnitudes that predicted and wanted edges are divided by."""
        ops, xp, loss = self.ops, self.ops.xp, self.loss
        images, channels, _, _ = self.shape
        numbers = xp.arange(channels, dtype=self.index.dtype, device=ops.device(self.sample))[None, :, None, None]

        def magnitudes(group: Chunk, rows: slice) -> tuple[Array, Array]:
            near, inner = self._around(rows, REACH)
            smooth = loss._smooth(ops, self.sample[*group, near, :])
            self.smooth[*group, rows, :] = smooth[..., inner, :]
            onehot = xp.astype(xp.equal(self.index[group[0], :, near, :], numbers[:, group[1], ...]), self.dtype)
            self.wanted[*group, rows, :] = loss._edges(ops, loss._smooth(ops, onehot)).magnitude[..., inner, :]
            return loss._edges(ops, smooth).magnitude[..., inner, :], self.wanted[*group, rows, :]

        def task(group: Chunk) -> list[Array]:
            tops: list[Array] = []
            for rows in self.strips:
                here = [xp.max(magnitude, axis=(1, 2, 3), keepdims=True) for magnitude in magnitudes(group, rows)]
                tops = [xp.maximum(one, other) for one, other in zip(tops, here, strict=True)] if tops else here
            return tops

        tops = [xp.zeros((images, 1, 1, 1), dtype=self.dtype, device=ops.device(self.sample)) for _ in range(2)]
        for (place, _), found in zip(self.groups, ops.run(task, self.groups), strict=True):
            for top, one in zip(tops, found, strict=True):
                top[place, ...] = xp.maximum(top[place, ...], one)
        if loss.variant == "paddleseg":
            tops = [xp.max(top, axis=0, keepdims=True) + xp.zeros_like(top) for top in tops]
        return tops[0], tops[1]

    def _relative(self, group: Chunk, rows: slice) -> tuple[_Edges, Array, Array]:
        """The predicted edges of some rows, and predicted and wanted ones over their maximum."""
        near, inner = self._around(rows, 1)
        edges = self.loss._edges(self.ops, self.smooth[*group, near, :]).rows(inner)
        predicted, wanted = (top[group[0], ...] for top in self.tops)
        return edges, edges.magnitude / predicted, self.wanted[*group, rows, :] / wanted

    def _numbers(self, group: Chunk, rows: slice) -> Array:
        _, predicted, wanted = self._relative(group, rows)
        return self.loss._numbers(self.ops, predicted, wanted, self.counted[group[0], :, rows, :])

    def _difference(self, group: Chunk, rows: slice) -> tuple[_Edges, Array, Array, Array]:
        """The predicted edges, those over their maximum, their difference from the wanted ones, and its weights."""
        edges, predicted, wanted = self._relative(group, rows)
        weights = self.loss._weights(self.ops, predicted, wanted, self.counted[group[0], :, rows, :], self.numbers)
        return edges, predicted, predicted - wanted, weights

    def value(self) -> Array:
        """The sum of weights * |G - G^|."""
        xp = self.ops.xp

        def task(group: Chunk, rows: slice) -> Array:
            _, _, difference, weights = self._difference(group, rows)
            return xp.sum(weights * xp.abs(difference), dtype=xp.float64)

        return xp.astype(added([found for _, found in self._in_strips(task)]), self.dtype)

    def gradient(self, upstream: Array | None) -> Array:
        """By the logits, in the working dtype."""
        ops, xp, loss = self.ops, self.ops.xp, self.loss
        shares = self._through_tops()

        def slopes(group: Chunk, rows: slice) -> Array:
            near, inner = self._around(rows, REACH)
            edges, _, difference, weights = self._difference(group, near)
            slope, top = weights * xp.sign(difference), self.tops[0][group[0], ...]
            highest = as_weights(ops, xp.equal(edges.magnitude, top), slope)
            slope = (slope - highest * shares[group[0], ...]) / (top * edges.magnitude)
            return self._back_to_samples(slope, edges)[..., inner, :]

        def to_samples(group: Chunk) -> None:
            before: tuple[slice, Array] | None = None
            for rows in self.strips:
                found = slopes(group, rows)
                # Late, since the next strip needs the smoothed image of rows of this one.
                if before is not None:
                    self.smooth[*group, before[0], :] = before[1]
                before = rows, found
            if before is not None:
                self.smooth[*group, before[0], :] = before[1]

        ops.run(to_samples, self.groups)

        def to_logits(band: Chunk) -> None:
            place, rows = band
            here = (place, slice(None), rows, slice(None))
            p, slope = self.sample[here], self.smooth[here]
            factor = xp.astype(self.valid[here], self.dtype) / loss.tau
            slope = p * (slope - xp.sum(p * slope, axis=1, keepdims=True)) * factor
            self.smooth[here] = slope if upstream is None else slope * upstream

        ops.run(to_logits, self.bands)
        return self.smooth

    def _through_tops(self) -> Array:
        """The gradient through the maximum, shared evenly among its ties: what each of them gets, (N, 1, 1, 1)."""
        ops, xp = self.ops, self.ops.xp

        def task(group: Chunk, rows: slice) -> Array:
            edges, predicted, difference, weights = self._difference(group, rows)
            highest = xp.equal(edges.magnitude, self.tops[0][group[0], ...])
            parts = (weights * xp.sign(difference) * predicted, xp.astype(highest, self.dtype))
            return xp.stack([xp.sum(part, axis=(1, 2, 3), keepdims=True, dtype=xp.float64) for part in parts])

        sums = xp.zeros((2, *shape_of(self.tops[0])), dtype=xp.float64, device=ops.device(self.sample))
        for (place, _), found in self._in_strips(task):
            sums[:, place, ...] += found
        if self.loss.variant == "paddleseg":
            sums = xp.sum(sums, axis=1, keepdims=True) + xp.zeros_like(sums)
        return xp.astype(sums[0, ...] / sums[1, ...], self.dtype)

    def _back_to_samples(self, slope: Array, edges: _Edges) -> Array:
        """From the gradient by the squared magnitudes' halves back through the differences and the filter."""
        ops, replicate = self.ops, self.loss.variant == "corrected"
        smooth = central_difference_transposed(ops, slope * edges.across, -1, replicate)
        smooth = smooth + central_difference_transposed(ops, slope * edges.along, -2, replicate)
        return self.loss._smooth(ops, smooth)
