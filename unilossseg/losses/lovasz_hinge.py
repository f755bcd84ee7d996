"""The Lovász extension of the Jaccard loss with hinge errors, for binary masks."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from unilossseg import _errors
from unilossseg._loss import Loss
from unilossseg._pixels import flat, lovasz_weights, shape_of, softmax, split_labels, total, upcast
from unilossseg.backends import Array, Backend

EPS = 1e-9


@dataclass(eq=False)
class LovaszHingeLoss(Loss):
    r"""The Lovász hinge over the valid pixels of the whole batch.

    .. math:: L = \overline{\Delta_J}(\max(0, 1 - s_i (2 y_i - 1)))

    with the Lovász extension of the Jaccard loss of the foreground; equal errors are ordered by pixel. s is the logit of
    the one channel; two channels are turned into one logit first. A batch whose pixels are all ignored has loss 0.

    Parameters
    ----------
    ignore_index
        The label of pixels that count nowhere.
    variant
        The reference turns two channels into `log(p1 + 1e-9 / (1 - p1 + 1e-9))`; 'corrected' into `z1 - z0`, their
        log odds.

    Shapes and dtypes
    -----------------
    logits (N, 1, *S) or (N, 2, *S); labels (N, *S) or (N, 1, *S), integers 0, 1 or `ignore_index`. Returns a scalar,
    float32, or float64 for float64 logits.

    Raises
    ------
    ValueError, TypeError
        Where a parameter, shape, dtype or label does not fit.

    References
    ----------
    Yu, Blaschko, "The Lovász Hinge: A Novel Convex Surrogate for Submodular Losses", arXiv:1512.07797.

    Examples
    --------
    >>> import numpy as np
    >>> from unilossseg import LovaszHingeLoss
    >>> round(float(LovaszHingeLoss()(np.array([[[3.0, 0.5]]]), np.array([[1, 0]]))), 6)
    0.75
    """

    ignore_index: int = 255
    _: KW_ONLY
    variant: str = "paddleseg"

    packed_logits = defers = joins_images = True
    parameter_checks: ClassVar[_errors.Checks] = {"variant": _errors.variant}

    def class_limit(self, channels: int, dense: bool) -> int:
        """A mask."""
        return 2

    def check_channels(self, channels: int) -> None:
        """One or two."""
        if channels not in (1, 2):
            raise ValueError(
                f"{self.name}: logits have {channels} channels, expected 1 or 2: use LovaszSoftmaxLoss for classes"
            )

    def compute(self, ops: Backend, logits: Array, labels: Array, **inputs: Array) -> Array:
        """Differentiable formula."""
        xp, z, pixels = ops.xp, flat(ops, logits), split_labels(ops, labels, self.ignore_index)
        score = self._score(ops, *(z[:, c, :] for c in range(int(z.shape[1]))))
        errors, foreground = (xp.reshape(x, (1, -1)) for x in ops.hinge_errors(score, pixels.index, pixels.valid))
        return total(ops, lovasz_weights(ops, ops.stop_gradient(errors), foreground) * errors)

    def _score(self, ops: Backend, first: Array, second: Array | None = None) -> Array:
        """One logit per pixel, (N, S), from those of one or two channels."""
        first = upcast(ops, first)
        if second is None:
            return first
        second = upcast(ops, second)
        if self.variant == "corrected":
            return second - first
        p = softmax(ops, ops.xp.stack([first, second], axis=1))
        return ops.xp.log(p[:, 1, :] + EPS / ops.xp.add(p[:, 0, :], EPS))

    def _by_channels(self, ops: Backend, slope: Array, first: Array, second: Array) -> tuple[Array, Array]:
        """The derivative by the two channels' logits from that by the score."""
        if self.variant == "paddleseg":
            p = softmax(ops, ops.xp.stack([upcast(ops, first), upcast(ops, second)], axis=1))
            p0, p1 = p[:, 0, :], p[:, 1, :]
            away = ops.xp.add(p0, EPS)
            slope = slope * p0 * p1 * (1 + EPS / (away * away)) / (p1 + EPS / away)
        return -slope, slope

    def closed_form(  # type: ignore[override]
        self,
        ops: Backend,
        logits: Array,
        labels: Array,
        *,
        gradient: bool,
        upstream: Array | None,
        later: bool = False,
    ) -> tuple[Array, Any]:
        """Linear in the errors once they are sorted; then back through the score."""
        xp, pixels = ops.xp, split_labels(ops, labels, self.ignore_index)
        z = [logits[:, c, :] for c in range(int(logits.shape[1]))]
        score = upcast(ops, z[0]) if len(z) == 1 else ops.elementwise(lambda *two: self._score(ops, *two), *z)
        errors, foreground = ops.hinge_errors(score, pixels.index, pixels.valid)
        scale = xp.ones_like(score[0, 0]) if upstream is None else upstream
        value, slope = ops.lovasz(xp.reshape(errors, (-1,)), xp.reshape(foreground, (-1,)), scale)
        slope = xp.reshape(slope, shape_of(score))

        def finish(upstream: Array | None) -> Array:
            by_score = slope if upstream is None else slope * upstream
            if len(z) == 1:
                return by_score[:, None, :]
            return xp.stack(ops.elementwise(lambda *arrays: self._by_channels(ops, *arrays), by_score, *z), axis=1)

        found: Any = finish if later else finish(None) if gradient else None
        return ops.cast(value, score.dtype), found
