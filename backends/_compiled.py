"""NumPy arrays with compiled loops: one pass over float32 pixels where NumPy needs several."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from unilossseg.backends import _loops, _threads
from unilossseg.backends._backend import Array, Chunk
from unilossseg.backends._bfloat16 import BFLOAT16, bits_of
from unilossseg.backends._buffers import SHELF
from unilossseg.backends._numpy import NumPyBackend, are_in_rows

_LABELS = tuple(np.dtype(kind) for kind in (np.int64, np.int32, np.int16, np.uint8))
_HALF = (BFLOAT16, np.dtype(np.float16))
_FLOATS = (np.dtype(np.float32), *_HALF)
_COUNTED = (*_LABELS, np.dtype(np.float32))
_NUMBERS = (*_FLOATS, *(np.dtype(kind) for kind in (np.int64, np.int32, np.uint8)))
# The logarithm, the division and the label of a pixel take as long as the exponentials of so many channels do.
_PER_PIXEL = 5
# Fewer keys are NumPy's to sort: counting their digits takes longer. Of a million, each takes it 51 ns on an AMD processor,
# where it has no vectorised sort, and the loop 7.
_FEW = 1 << 10

_threads.send_away = _loops.send_away
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_loops.forget_threads)


class CompiledBackend(NumPyBackend):
    """Takes the loops for float32 and half precision whose last axis is contiguous, and NumPy for all others."""

    def chunks(self, images: int, channels: int, pixels: int, *, small: bool = False) -> Sequence[Chunk]:
        """As if work were never small, since a loop has no temporaries beyond its blocks."""
        if small:
            return super().chunks(images, channels, pixels)
        return self.pieces(images, pixels, 5 * _threads.CHUNK_ELEMENTS // 4 // (channels + _PER_PIXEL))

    def class_chunks(self, x: Array) -> Sequence[Chunk]:
        """All at once, where the loops share themselves out."""
        if _are_pixels(x):
            return [(slice(0, x.shape[0]), slice(0, x.shape[2]))]
        return super().class_chunks(x)

    def cast(self, x: Array, dtype: Any) -> Array:
        """Half precision to float32 and back: NumPy converts float16 number by number, twenty times as slowly."""
        if dtype == np.float32 and x.dtype in _HALF and _has_rows(x):
            wide = SHELF.empty(x.shape, np.float32)
            _loops.widen(bits_of(x), wide)
            return wide
        if x.dtype == np.float32 and dtype in _HALF and _has_rows(x):
            narrow = SHELF.empty(x.shape, np.uint16 if dtype == BFLOAT16 else np.float16)
            _loops.narrow(x, narrow)
            return narrow.view(BFLOAT16) if dtype == BFLOAT16 else narrow
        return super().cast(x, dtype)

    def softmax_sums(self, x: Array) -> tuple[Array, Array]:
        """A block of pixels at a time."""
        x = self.upcast(x)
        if not _fits(x):
            return super().softmax_sums(x)
        norm, top = np.empty((2, x.shape[0], x.shape[2]), np.float32)
        _loops.softmax_sums(x, norm, top)
        return norm, top

    def cross_entropy(
        self, x: Array, index: Array, weights: Array | None = None, out: Array | None = None
    ) -> tuple[Array, Array | None]:
        """One pass, a block of pixels at a time."""
        if not (_are_pixels(x) and _indexes(index)):
            return super().cross_entropy(x, index, weights, out)
        losses, threads = SHELF.empty(index.shape, np.float32), _threads.threads_here()
        if weights is None:
            _loops.cross_entropy(bits_of(x), index, losses, None, None, threads)
            return losses, None
        out = _room(x, out)
        _loops.cross_entropy(bits_of(x), index, losses, _side_by_side(weights), bits_of(out), threads)
        return losses, out

    def plain_cross_entropy(
        self, x: Array, labels: Array, ignore_index: int, weight: Array | None, share: Array, out: Array | None
    ) -> Array | None:
        """One pass, which reads the labels as they are and writes nothing but the gradient."""
        if not (_are_pixels(x) and _are_classes(labels, ignore_index)) or not (out is None or _takes(out, x)):
            return None
        z, slopes, by_class = bits_of(x), bits_of(out), None if weight is None else _side_by_side(weight)
        threads = _threads.threads_here()
        return np.float64(_loops.plain_cross_entropy(z, labels, slopes, by_class, ignore_index, float(share), threads))

    def weight_sum(self, labels: Array, ignore_index: int, weight: Array) -> Array:
        """One pass."""
        if weight.dtype != np.float32 or not _are_classes(labels, ignore_index):
            return super().weight_sum(labels, ignore_index, weight)
        return np.float64(_loops.weight_sum(labels, _side_by_side(weight), ignore_index, _threads.threads_here()))

    def relaxed_cross_entropy(
        self, x: Array, near: Array, weights: Array | None = None, out: Array | None = None
    ) -> tuple[Array, Array | None]:
        """As `cross_entropy`."""
        if not (_fits(x) and are_in_rows(near)):
            return super().relaxed_cross_entropy(x, near, weights, out)
        losses = SHELF.empty((x.shape[0], x.shape[2]), np.float32)
        if weights is None:
            _loops.relaxed_cross_entropy(x, near, losses)
            return losses, None
        out = _room(x, out)
        _loops.relaxed_cross_entropy(x, near, losses, _side_by_side(weights), out)
        return losses, out

    def through_softmax(self, x: Array, slope: Array, weights: Array | None = None, out: Array | None = None) -> Array:
        """Exponentials twice rather than a place for them."""
        x = self.upcast(x)
        if not (_fits(x) and _fits(slope)):
            return super().through_softmax(x, slope, weights, out)
        out = _room(x, out)
        _loops.through_softmax(x, slope, None if weights is None else _side_by_side(weights), out)
        return out

    def through_softmax_by_class(
        self, x: Array, index: Array, by_class: Array, by_own: Array, weights: Array, out: Array | None = None
    ) -> Array:
        """Without an array of slopes."""
        if not (_are_pixels(x) and _indexes(index)):
            return super().through_softmax_by_class(x, index, by_class, by_own, weights, out)
        out = _room(x, out)
        by_class, by_own, weights = _side_by_side(by_class), _side_by_side(by_own), _side_by_side(weights)
        threads = _threads.threads_here()
        _loops.through_softmax_by_class(bits_of(x), index, by_class, by_own, weights, bits_of(out), threads)
        return out

    def softmax_totals(self, x: Array, index: Array, weights: Array) -> tuple[Array, Array, Array]:
        """One pass, a block of pixels at a time."""
        if not (_are_pixels(x) and _indexes(index)):
            return super().softmax_totals(x, index, weights)
        sums = np.zeros((x.shape[0], 3, x.shape[1]))
        _loops.softmax_totals(bits_of(x), index, _side_by_side(weights), sums, _threads.threads_here())
        return sums[:, 0], sums[:, 1], sums[:, 2]

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
        """One pass."""
        if not (_are_elements(x, labels, out) and _is_exact(ignore_index)):
            return None
        z, y, slopes, threads = bits_of(x), bits_of(labels), bits_of(out), _threads.threads_here()
        (v, w), p, share = map(float, weight), float(pos_weight), float(share)
        return np.float64(_loops.binary_cross_entropy(z, y, slopes, ignore_index, v, w, p, share, threads, None)[0])

    def counted_binary_cross_entropy(
        self, x: Array, labels: Array, ignore_index: int, most: float, share: Array, pos_weight: Array, out: Array | None
    ) -> tuple[Array, Array] | None:
        """One pass."""
        if not (_are_elements(x, labels, out) and labels.dtype in _COUNTED and _is_exact(ignore_index)):
            return None
        threads = _threads.threads_here()
        slopes, by = bits_of(out), (1.0, 1.0, float(pos_weight), float(share))
        found, tally = _loops.binary_cross_entropy(bits_of(x), labels, slopes, ignore_index, *by, threads, most)
        return np.float64(found), tally

    def differences(
        self, x: Array, labels: Array, ignore_index: int | None, squares: bool, share: Array, out: Array | None
    ) -> Array | None:
        """One pass."""
        found = self.counted_differences(x, labels, ignore_index, squares, share, out)
        return None if found is None else found[0]

    def counted_differences(
        self, x: Array, labels: Array, ignore_index: int | None, squares: bool, share: Array, out: Array | None
    ) -> tuple[Array, int] | None:
        """One pass."""
        if not (_are_elements(x, labels, out) and (ignore_index is None or _is_exact(ignore_index))):
            return None
        z, y, slopes, threads = bits_of(x), bits_of(labels), bits_of(out), _threads.threads_here()
        found, left_out = _loops.differences(z, y, slopes, ignore_index, squares, float(share), threads)
        return np.float64(found), x.size - left_out

    def softplus_and_sigmoid(self, x: Array) -> tuple[Array, Array]:
        """One pass."""
        if x.dtype != np.float32 or not _has_axes(x):
            return super().softplus_and_sigmoid(x)
        x = _side_by_side(x)
        above, rising = SHELF.empty(x.shape, np.float32), SHELF.empty(x.shape, np.float32)
        _loops.softplus_and_sigmoid(x, above, rising)
        return above, rising

    def keep_where(self, mask: Array, x: Array, other: float = 0) -> Array:
        """One pass."""
        fits = x.dtype == np.float32 and mask.dtype == np.bool_ and mask.shape == x.shape and _has_axes(x)
        if not (fits and x.flags.c_contiguous and mask.flags.c_contiguous and x.flags.aligned):
            return super().keep_where(mask, x, other)
        out = SHELF.empty(x.shape, np.float32)
        _loops.keep_where(mask, x, out, other, _threads.threads_here())
        return out

    def split_labels(self, labels: Array, ignore_index: int) -> tuple[Array, Array]:
        """One pass."""
        if labels.dtype not in _LABELS or not _has_axes(labels) or not -(2**63) <= ignore_index < 2**63:
            return super().split_labels(labels, ignore_index)
        labels = _side_by_side(labels, labels.dtype)
        index, valid = SHELF.empty(labels.shape, np.int32), SHELF.empty(labels.shape, np.bool_)
        _loops.split_labels(labels, index, valid, ignore_index)
        return index, valid

    def kth_largest(self, x: Array, k: int | Array) -> Array:
        """Without a copy, by the digits of the numbers."""
        if not isinstance(k, int) or not _are_rows(np.float32, x) or not 1 <= k <= x.shape[1] < 2**31:
            return super().kth_largest(x, k)
        found = np.empty((x.shape[0], 1), np.float32)
        _loops.kth_largest(x, found, k)
        return found

    def lovasz(self, errors: Array, foreground: Array, scale: Array) -> tuple[Array, Array]:
        """Sorts those pixels alone that weigh, seldom many of a trained network's."""
        if errors.dtype != np.float32 or not (are_in_rows(errors) and are_in_rows(foreground)) or errors.size >= 2**31:
            return super().lovasz(errors, foreground, scale)
        slopes, keys = SHELF.empty(errors.shape, np.float32), SHELF.empty(errors.shape, np.uint64)
        kept, marked = _loops.jaccard_keys(errors, foreground, keys)
        keys = _sorted(keys[:kept])
        return np.float64(_loops.lovasz(keys, slopes, marked, float(scale))), slopes

    def class_errors(
        self, x: Array, top: Array, norm: Array, index: Array, valid: Array, number: int
    ) -> tuple[Array, Array]:
        """One pass."""
        x = self.upcast(x)
        if not (_are_rows(np.float32, x, top, norm) and _are_rows(np.int32, index) and _are_rows(np.bool_, valid)):
            return super().class_errors(x, top, norm, index, valid, number)
        errors, marks = SHELF.empty(x.shape, np.float32), SHELF.empty(x.shape, np.bool_)
        _loops.class_errors(x, top, norm, index, valid, errors, marks, number)
        return errors, marks

    def hinge_errors(self, score: Array, index: Array, valid: Array) -> tuple[Array, Array]:
        """One pass."""
        if not (_are_rows(np.float32, score) and _are_rows(np.int32, index) and _are_rows(np.bool_, valid)):
            return super().hinge_errors(score, index, valid)
        errors, marks = SHELF.empty(score.shape, np.float32), SHELF.empty(score.shape, np.bool_)
        _loops.hinge_errors(score, index, valid, errors, marks)
        return errors, marks

    def tally(self, labels: Array, ignore_index: int | None, most: float) -> Array:
        """One pass."""
        if not (labels.dtype in _COUNTED and (ignore_index is None or _is_exact(ignore_index))):
            return super().tally(labels, ignore_index, most)
        counts = np.zeros(4, np.int64)
        _loops.tally(_side_by_side(labels, labels.dtype).reshape(-1), counts, ignore_index, most, _threads.threads_here())
        return counts


def _sorted(keys: Array) -> Array:
    """By errors; as they come from the loop, equal ones are in the order of their pixels already."""
    if keys.size < _FEW:
        keys.sort()
        return keys
    room = SHELF.empty(keys.shape, np.uint64)
    return room if _loops.sort_keys(keys, room) else keys


def _fits(x: Any) -> bool:
    """float32 (N, C, S) with pixels side by side."""
    return x.dtype == np.float32 and _are_pixels(x)


def _are_pixels(x: Any) -> bool:
    """The same, or half precision."""
    return x.dtype in _FLOATS and x.ndim == 3 and are_in_rows(x)


def _are_classes(labels: Any, ignore_index: int) -> bool:
    """(N, S), and read as they are."""
    return labels.dtype in _LABELS and are_in_rows(labels) and -(2**63) <= ignore_index < 2**63


def _takes(out: Any, x: Any) -> bool:
    """Whether the loops can put the gradient of x there."""
    return out.dtype == x.dtype and are_in_rows(out)


def _room(x: Array, out: Array | None) -> Array:
    """Where a gradient goes: `out` if it takes it, or memory for float32."""
    return out if out is not None and _takes(out, x) else SHELF.empty(x.shape, np.float32)


def _indexes(x: Any) -> bool:
    return x.dtype in (np.int32, np.int64) and are_in_rows(x)


def _are_rows(dtype: Any, *arrays: Any) -> bool:
    """(N, S) with pixels side by side."""
    return all(x.dtype == dtype and x.ndim == 2 and are_in_rows(x) for x in arrays)


def _has_rows(x: Any) -> bool:
    """As many axes as the loops count with, and the last in rows."""
    return _has_axes(x) and are_in_rows(x)


def _has_axes(x: Any) -> bool:
    """As many as the loops count with."""
    return 1 <= x.ndim <= 3


def _side_by_side(x: Any, dtype: Any = np.float32) -> Any:
    """The array, or a copy: contiguous and aligned, as the loops read it."""
    flags = x.flags
    return x if x.dtype == dtype and flags.c_contiguous and flags.aligned else np.require(x, dtype, ("C", "A"))


def _are_elements(x: Any, labels: Any, out: Any) -> bool:
    """Logits and labels that the loops read, row by row, and a place of theirs for the gradient, if any."""
    known = x.dtype in _FLOATS and labels.dtype in _NUMBERS
    return known and _has_rows(x) and are_in_rows(labels) and (out is None or _takes(out, x))


def _is_exact(ignore_index: int) -> bool:
    """The loops compare labels as double, where 2^53 + 1 is 2^53."""
    return abs(ignore_index) < 2**53
