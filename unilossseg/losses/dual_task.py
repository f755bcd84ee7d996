"""The edges of the predicted segmentation against those of the labels."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import NamedTuple

from unilossseg import _errors
from unilossseg._loss import Loss
from unilossseg._neighbourhood import central_difference, central_difference_transposed, dilate, triangle
from unilossseg._pixels import as_weights, ratio, shape_of, shifted_logits, softmax, split_labels, total, upcast
from unilossseg.backends import Array, Backend

NOISE_EPS = 1e-10
MAGNITUDE_EPS = 1e-6
THRESHOLD = 1e-8
# Radius of the triangle filter, and with the central difference of 1 the reach of an edge magnitude.
RADIUS = 4


class _Edges(NamedTuple):
    across: Array
    along: Array
    magnitude: Array
    top: Array
    relative: Array


@dataclass(eq=False)
class DualTaskLoss(Loss):
    r"""The difference of two edge maps: of a Gumbel-softmax sample of the logits, and of the one-hot labels.

    .. math:: L = \tfrac12 \frac{\sum d\,[G > 10^{-8}]}{\#[G > 10^{-8}]}
                + \tfrac12 \frac{\sum d\,[\hat G > 10^{-8}]}{\#[\hat G > 10^{-8}]}, \qquad d = m\,|G - \hat G|

    G is the gradient magnitude (triangle filter of radius 4 with symmetric padding, central differences, zero beyond the
    edge), divided by its maximum. The sample is softmax((m z + g) / tau), g = -log(1e-10 - log(u + 1e-10)), u uniform.

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
    without it the framework's own generator draws. Returns a scalar, float32, or float64 for float64 logits.

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
    call_inputs = ("noise",)

    def __post_init__(self) -> None:
        """Checks the parameters."""
        super().__post_init__()
        self.tau = _errors.number(self.name, "tau", self.tau, above=0)
        _errors.variant(self.name, self.variant)

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
        if backend.readable(value) and not bool(backend.read(backend.xp.all(~((value < 0) | (value > 1))))):
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

    def _masks(self, ops: Backend, logits: Array, labels: Array) -> tuple[Array, Array, Array]:
        """One-hot labels (N, C, H, W), the mask of valid pixels and that of counted ones (N, 1, H, W)."""
        xp = ops.xp
        images, channels, height, width = shape_of(logits)
        pixels = split_labels(ops, labels, self.ignore_index)
        onehot = xp.reshape(ops.one_hot(pixels.index, channels), (images, channels, height, width))
        valid = xp.reshape(pixels.valid, (images, 1, height, width))
        counted = valid
        if self.variant == "corrected":
            wide = dilate(ops, ~valid, RADIUS, RADIUS + 1)
            counted = ~(wide | dilate(ops, ~valid, RADIUS + 1, RADIUS))
        return tuple(as_weights(ops, mask, logits) for mask in (onehot, valid, counted))  # type: ignore[return-value]

    def _sample(self, ops: Backend, logits: Array, valid: Array, gumbel: Array) -> Array:
        # The noise is added to differences of logits: to logits of 1e4 it would lose its digits in float32.
        z = shifted_logits(ops, logits * valid) + gumbel
        # The largest is taken off before the division: a small tau then overflows to a probability of 0, not to NaN.
        return softmax(ops, ops.xp.divide(shifted_logits(ops, z), self.tau))

    def _edges(self, ops: Backend, p: Array) -> _Edges:
        xp, replicate = ops.xp, self.variant == "corrected"
        smooth = triangle(ops, triangle(ops, p, -1, RADIUS), -2, RADIUS)
        across = central_difference(ops, smooth, -1, replicate)
        along = central_difference(ops, smooth, -2, replicate)
        magnitude = xp.sqrt(across * across + along * along + MAGNITUDE_EPS)
        axes = (1, 2, 3) if self.variant == "corrected" else (0, 1, 2, 3)
        top = xp.max(magnitude, axis=axes, keepdims=True)
        return _Edges(across, along, magnitude, top, magnitude / top)

    def _weights(self, ops: Backend, predicted: Array, wanted: Array, counted: Array) -> Array:
        """What each |G - G^| counts: half by the predicted edges, half by the labels'."""
        xp = ops.xp
        a = xp.zeros_like(predicted)
        everywhere = xp.ones_like(a) if self.variant == "paddleseg" else counted + xp.zeros_like(a)
        for edges in (predicted, wanted):
            there = as_weights(ops, edges > THRESHOLD, a)
            number = total(ops, there * everywhere)
            a = a + there * ratio(ops, xp.ones_like(number) * 0.5, number)
        return a * counted

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        onehot, valid, counted = self._masks(ops, logits, labels)
        gumbel = self._noise(ops, logits, inputs["noise"])
        predicted = self._edges(ops, self._sample(ops, logits, valid, gumbel)).relative
        wanted = self._edges(ops, onehot).relative
        weights = self._weights(ops, ops.stop_gradient(predicted), wanted, counted)
        return total(ops, weights * ops.xp.abs(predicted - wanted))

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
        xp = ops.xp
        z = upcast(ops, logits)
        onehot, valid, counted = self._masks(ops, z, labels)
        p = self._sample(ops, z, valid, self._noise(ops, z, noise))
        edges, wanted = self._edges(ops, p), self._edges(ops, onehot).relative
        weights = self._weights(ops, edges.relative, wanted, counted)
        difference = edges.relative - wanted
        value = total(ops, weights * xp.abs(difference))
        if not gradient:
            return value, None
        slope = weights * xp.sign(difference)
        if upstream is not None:
            slope = slope * upstream
        slope = self._back_to_samples(ops, slope, edges)
        slope = p * (slope - xp.sum(p * slope, axis=1, keepdims=True))
        return value, slope * valid / self.tau

    def _back_to_samples(self, ops: Backend, slope: Array, edges: _Edges) -> Array:
        xp, replicate = ops.xp, self.variant == "corrected"
        axes = (1, 2, 3) if self.variant == "corrected" else (0, 1, 2, 3)
        highest = as_weights(ops, ops.xp.equal(edges.magnitude, edges.top), slope)
        # The maximum's gradient, shared evenly among its ties.
        through_top = xp.sum(slope * edges.relative, axis=axes, keepdims=True) / xp.sum(highest, axis=axes, keepdims=True)
        by_magnitude = (slope - highest * through_top) / (edges.top * edges.magnitude)
        smooth = central_difference_transposed(ops, by_magnitude * edges.across, -1, replicate)
        smooth = smooth + central_difference_transposed(ops, by_magnitude * edges.along, -2, replicate)
        return triangle(ops, triangle(ops, smooth, -1, RADIUS), -2, RADIUS)
