"""CUDA tensors with Triton kernels: one pass over float32 or half-precision pixels where torch's operations need several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from unilossseg.backends import _triton_elements as elements
from unilossseg.backends import _triton_softmax as pixels
from unilossseg.backends._backend import Array, Chunk
from unilossseg.backends._torch_grids import (
    INTEGERS,
    LONG_ROW,
    MOST_CHANNELS,
    MOST_IMAGES,
    are_readable,
    as_bytes,
    as_elements,
    fits,
    grid_of,
    is_int64,
    room_for,
    row_of,
    without_gaps,
)
from unilossseg.backends._torch_launch import launch
from unilossseg.backends._torch_numbers import Number, calculated
from unilossseg.backends._torch_triton_order import OrderKernels

#: Four counts of 0 in float64, which is what is calculated with them in, and a poison of 1: what labels begin with.
_NOTHING_COUNTED = (0.0,) * 8 + (1.0,)
#: Compute capability of the oldest GPUs of NVIDIA's that Triton compiles all of the kernels for.
OLDEST_GPU = (7, 0)
#: The largest number of narrow labels.
_SHORT = 2**15 - 1


class TritonBackend(OrderKernels):
    """Takes the kernels for float32 and half precision, and torch's operations for all others."""

    one_pass = True

    def chunks(self, images: int, channels: int, pixels: int, *, small: bool = False) -> Sequence[Chunk]:
        """All at once: the kernels have no temporaries."""
        if small or channels > MOST_CHANNELS or images > MOST_IMAGES:
            return super().chunks(images, channels, pixels)
        return [(slice(0, images), slice(0, pixels))]

    def try_out(self, device: torch.device) -> None:
        """Launches a small kernel; raises where Triton can compile none, or none for this device."""
        # Asked for: Triton prints all of a program that it cannot assemble, atomic sums for an older GPU, say.
        capability = torch.cuda.get_device_capability(device)
        if capability < OLDEST_GPU and not torch.version.hip:
            raise RuntimeError(f"it has compute capability {capability[0]}.{capability[1]}")
        Number.of(torch.zeros((), device=device)).tensor()

    # ------------------------------------------------------------------------------------------------ numbers
    def numbers(self, x: Array, count: int) -> list[Any]:
        """Written down, to be calculated by one kernel."""
        return [Number.of(x, k) for k in range(count)] if x.is_contiguous() else super().numbers(x, count)

    def cast(self, x: Array, dtype: Any) -> Array:
        """A number stays one: what is calculated from it comes out as float32, the working dtype of all kernels."""
        return x if isinstance(x, Number) else super().cast(x, dtype)

    def settled(self, x: Any) -> Array:
        """Calculated."""
        return x.tensor() if isinstance(x, Number) else super().settled(x)

    def _placed(self, numbers: Sequence[Any], like: Array) -> list[Array]:
        """Numbers where a kernel can read them."""
        written = [number for number in numbers if isinstance(number, Number)]
        found = iter(calculated(written) if written else ())
        return [next(found) if isinstance(number, Number) else self._number(number, like) for number in numbers]

    def _share(self, share: Any, like: Array, out: Array | None) -> Any:
        """What a gradient is multiplied by, where a kernel can read it; 1 where there is none.

        A number that differs from size to size goes with the launch: a copy to the device would wait for it.
        """
        if out is None:
            return 1.0
        return self._placed([share], like)[0] if isinstance(share, Number | torch.Tensor) else float(share)

    def _number(self, number: Any, like: Array) -> Array:
        if isinstance(number, torch.Tensor):
            return number
        return self._kept_at(like.device, (float(number),))

    def _kept_at(self, device: torch.device, values: tuple[float, ...]) -> Array:
        """A constant of float32, without an array to tell where and what where it is there already."""
        kept = self._constants.get((values, torch.float32, device))
        return self.constant(values, torch.empty(0, dtype=torch.float32, device=device)) if kept is None else kept

    # ------------------------------------------------------------------------------------------------ labels
    @property
    def index_dtype(self) -> Any:
        """Half as wide as elsewhere."""
        return torch.int32

    def checked_labels(
        self, labels: Array, ignore_index: int | None, limit: int, dense: bool
    ) -> tuple[Array, Array, Array, Array] | None:
        """One pass."""
        if not are_readable(labels, ignore_index):
            return None
        labels, safe = labels.contiguous(), None
        if not dense and labels.dtype != torch.bool:
            fits = limit <= _SHORT and (ignore_index is None or abs(ignore_index) <= _SHORT)
            dtype = torch.int16 if fits and labels.dtype in (torch.int32, torch.int64) else labels.dtype
            safe = torch.empty_like(labels, dtype=dtype)
        tally, poison = self._counted(labels, safe, ignore_index, limit - 1)
        safe = labels if safe is None else safe
        return safe, tally, safe, poison

    def tally(self, labels: Array, ignore_index: int | None, most: float) -> Array:
        """One pass."""
        if not are_readable(labels, ignore_index):
            return super().tally(labels, ignore_index, most)
        return self._counted(without_gaps(labels), None, ignore_index, most)[0]

    def _counted(self, labels: Array, safe: Array | None, ignore_index: int | None, most: float) -> tuple[Array, Array]:
        begun = self._kept_at(labels.device, _NOTHING_COUNTED).clone()
        counts, poison = begun[:8].view(torch.float64), begun[8]
        size, row, y = labels.numel(), row_of(labels.numel()), as_bytes(labels)
        masks = ignore_index is not None
        launch(
            elements.check_labels, (-(-size // row),),
            y, y if safe is None else safe, counts, poison, size, ignore_index or 0, most, masks, safe is not None, row,
        )  # fmt: skip
        return counts, poison

    def split_labels(self, labels: Array, ignore_index: int) -> tuple[Array, Array]:
        """One pass."""
        if not are_readable(labels, ignore_index) or labels.is_floating_point():
            return super().split_labels(labels, ignore_index)
        labels, row = labels.contiguous(), row_of(labels.numel())
        index = torch.empty(labels.shape, dtype=torch.int32, device=labels.device)
        valid = torch.empty(labels.shape, dtype=torch.bool, device=labels.device)
        size = labels.numel()
        launch(elements.split_labels, (-(-size // row),), as_bytes(labels), index, as_bytes(valid), size, ignore_index, row)
        return index, valid

    def presence(self, index: Array, valid: Array, first: int, classes: int) -> Array:
        """One pass."""
        present = torch.zeros(first + classes, dtype=torch.float32, device=index.device)
        index, valid, size = index.contiguous(), valid.contiguous(), index.numel()
        row = row_of(size)
        launch(elements.presence, (-(-size // row),), index, as_bytes(valid), present, size, first + classes, row)
        return present[first:]

    def pick(self, x: Array, index: Array) -> Array:
        """gather knows wide indices alone."""
        return super().pick(x, index.long())

    def look_up(self, table: Array, index: Array) -> Array:
        """As `pick`."""
        return super().look_up(table, index.long())

    def subtract_at(self, x: Array, index: Array, amount: Array) -> Array:
        """As `pick`."""
        return super().subtract_at(x, index.long(), amount)

    # ------------------------------------------------------------------------------------------------ pixels
    def softmax_sums(self, x: Array) -> tuple[Array, Array]:
        """One pass."""
        if not fits(x):
            return super().softmax_sums(x)
        (images, channels, count), (grid, tile, warps) = x.shape, grid_of(x)
        norm, top = torch.empty((2, images, count), dtype=torch.float32, device=x.device)
        launch(pixels.softmax_sums, grid, x, norm, top, channels, count, *x.stride(), *tile, num_warps=warps)
        return norm, top

    def cross_entropy(
        self, x: Array, index: Array, weights: Array | None = None, out: Array | None = None
    ) -> tuple[Array, Array | None]:
        """One pass."""
        if not fits(x):
            return super().cross_entropy(x, index, weights, out)
        images, channels, count = x.shape
        losses = torch.empty((images, count), dtype=torch.float32, device=x.device)
        slopes, a = room_for(x, weights, out), losses if weights is None else weights
        grid, tile, warps = grid_of(x, index, a, slopes)
        launch(
            pixels.cross_entropy, grid, x, index, a, losses, slopes, channels, count,
            *x.stride(), *index.stride(), *a.stride(), *slopes.stride(), weights is not None, *tile, num_warps=warps,
        )  # fmt: skip
        return losses, None if weights is None else slopes

    def plain_cross_entropy(
        self, x: Array, labels: Array, ignore_index: int, weight: Array | None, share: Array, out: Array | None
    ) -> Array | None:
        """One pass, which reads the labels as they are and writes nothing but the gradient."""
        if not (fits(x) and labels.dtype in INTEGERS and is_int64(ignore_index)):
            return None
        (_, channels, count), labels, slopes = x.shape, labels.contiguous(), x if out is None else out
        grid, tile, warps = grid_of(x, labels, slopes)
        parts, share = torch.empty(grid[0] * grid[1], dtype=torch.float64, device=x.device), self._share(share, x, out)
        by_class = parts if weight is None else weight
        launch(
            pixels.plain_cross_entropy, grid, x, labels, by_class, share, parts, slopes, channels, count, ignore_index,
            *x.stride(), *labels.stride(), *slopes.stride(),
            weight is not None, isinstance(share, torch.Tensor), out is not None, *tile, num_warps=warps,
        )  # fmt: skip
        return Number.total(parts)

    def relaxed_cross_entropy(
        self, x: Array, near: Array, weights: Array | None = None, out: Array | None = None
    ) -> tuple[Array, Array | None]:
        """One pass."""
        if not fits(x):
            return super().relaxed_cross_entropy(x, near, weights, out)
        images, channels, count = x.shape
        losses = torch.empty((images, count), dtype=torch.float32, device=x.device)
        slopes, a = room_for(x, weights, out), losses if weights is None else weights
        grid, tile, warps = grid_of(x, near, a, slopes)
        # Rounded one by one: the gradient is the difference of two products, 0 where all classes are near.
        launch(
            pixels.relaxed_cross_entropy, grid, x, as_bytes(near), a, losses, slopes, channels, count,
            *x.stride(), *near.stride(), *a.stride(), *slopes.stride(), weights is not None, *tile, num_warps=warps,
            fused=False,
        )  # fmt: skip
        return losses, None if weights is None else slopes

    def softmax_totals(self, x: Array, index: Array, weights: Array) -> tuple[Array, Array, Array]:
        """One pass; a program sums up several blocks of pixels."""
        if not fits(x):
            return super().softmax_totals(x, index, weights)
        (images, channels, count), (grid, tile, warps) = x.shape, grid_of(x, index, weights)
        # A power of 2, since a kernel is compiled for each.
        steps = min(64, 1 << max(0, (grid[0] * images // 1024).bit_length() - 1))
        programs = -(-grid[0] // steps)
        parts = torch.empty((3, images, programs, channels), dtype=torch.float64, device=x.device)
        launch(
            pixels.softmax_totals, (programs, images), x, index, weights, parts, channels, count,
            *x.stride(), *index.stride(), *weights.stride(), steps, *tile, num_warps=warps,
        )  # fmt: skip
        mass, inside, counts = torch.sum(parts, dim=2)
        return mass, inside, counts

    def through_softmax(self, x: Array, slope: Array, weights: Array | None = None, out: Array | None = None) -> Array:
        """One pass."""
        if not fits(x):
            return super().through_softmax(x, slope, weights, out)
        out, a = torch.empty_like(slope) if out is None else out, slope[:, 0, :] if weights is None else weights
        (_, channels, count), (grid, tile, warps) = x.shape, grid_of(x, slope, a, out)
        launch(
            pixels.through_softmax, grid, x, slope, a, out, channels, count,
            *x.stride(), *slope.stride(), *a.stride(), *out.stride(), weights is not None, *tile, num_warps=warps,
        )  # fmt: skip
        return out

    def through_softmax_by_class(
        self, x: Array, index: Array, by_class: Array, by_own: Array, weights: Array, out: Array | None = None
    ) -> Array:
        """One pass."""
        if not fits(x):
            return super().through_softmax_by_class(x, index, by_class, by_own, weights, out)
        out = torch.empty_like(x, dtype=torch.float32) if out is None else out
        (_, channels, count), (grid, tile, warps) = x.shape, grid_of(x, index, weights, out)
        launch(
            pixels.through_softmax_by_class, grid,
            x, index, by_class.contiguous(), by_own.contiguous(), weights, out, channels, count,
            *x.stride(), *index.stride(), *weights.stride(), *out.stride(), *tile, num_warps=warps,
        )  # fmt: skip
        return out

    # ------------------------------------------------------------------------------------------------ elements
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
        found = as_elements(x, labels, out) if are_readable(labels, ignore_index) else None
        if found is None:
            return None
        x, labels, out = found
        # Nothing reads a gradient's where there is none.
        numbers = self._placed((*weight, pos_weight, 1.0 if out is None else share), x)
        size, row, slopes = x.numel(), row_of(x.numel()), x if out is None else out
        parts = torch.empty(-(-size // row), dtype=torch.float64, device=x.device)
        launch(
            elements.binary_cross_entropy, parts.shape,
            x, as_bytes(labels), *numbers, parts, slopes, size, ignore_index, out is not None, row,
        )  # fmt: skip
        return Number.total(parts)

    def differences(
        self, x: Array, labels: Array, ignore_index: int | None, squares: bool, share: Array, out: Array | None
    ) -> Array | None:
        """One pass."""
        found = as_elements(x, labels, out) if are_readable(labels, ignore_index) else None
        if found is None:
            return None
        x, labels, out = found
        size, row, slopes, masks = x.numel(), row_of(x.numel()), x if out is None else out, ignore_index is not None
        parts, share = torch.empty(-(-size // row), dtype=torch.float64, device=x.device), self._share(share, x, out)
        launch(
            elements.differences, parts.shape,
            x, as_bytes(labels), share, parts, slopes, size, ignore_index or 0,
            masks, squares, isinstance(share, torch.Tensor), out is not None, row,
        )  # fmt: skip
        return Number.total(parts)

    # ------------------------------------------------------------------------------------------------ gradients
    def scaled(self, gradient: Array, factor: Array) -> Array:
        """Where the factor is 1, as it mostly is, the gradient is not even read."""
        dense = gradient.is_contiguous() or gradient.is_contiguous(memory_format=torch.channels_last)
        if gradient.dtype != torch.float32 or factor.ndim > 0 or not dense:
            return super().scaled(gradient, factor)
        size = gradient.numel()
        # The upstream gradient is whatever autograd made of it: a sign that torch has only noted is not in the memory.
        launch(elements.scale, (-(-size // LONG_ROW),), gradient, factor.resolve_neg(), size, LONG_ROW)
        return gradient
