"""What sorts and selects on CUDA tensors with Triton kernels."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from unilossseg.backends import _triton_order as order_kernels
from unilossseg.backends import _triton_select as selection
from unilossseg.backends._backend import Array
from unilossseg.backends._torch_grids import FLOATS, LONG_ROW, ROW, are_rows, as_bytes, fits, grid_of
from unilossseg.backends._torch_launch import launch
from unilossseg.backends.torch import TorchBackend

#: Bytes that sorting takes for a pixel of a class (its error, sorted too, its place, and the sort's own room), and how many
#: a group of classes may take in any case.
_SORTING, _ROOM = 40, 64 << 20
#: Of the classes that are sorted at once: more would need more memory than all the rest of the loss.
_GROUPS = 6


class OrderKernels(TorchBackend):
    """The part of the backend with kernels that looks for the largest, and sorts."""

    def class_groups(self, channels: int, pixels: int) -> Sequence[slice]:
        """Several classes are sorted by one call."""
        step = min(channels, max(1, channels // _GROUPS, _ROOM // (_SORTING * pixels)))
        return [slice(a, min(a + step, channels)) for a in range(0, channels, step)]

    def kth_largest(self, x: Array, k: int | Array) -> Array:
        """By its digits."""
        if not are_rows(x):
            return super().kth_largest(x, k)
        counts, k = self._digits(x.contiguous(), k)
        out = torch.empty((x.shape[0], 1), dtype=torch.float32, device=x.device)
        launch(selection.kth_largest, (x.shape[0],), counts, k, out, isinstance(k, torch.Tensor))
        return out

    def top_k_mask(self, x: Array, k: int | Array) -> Array:
        """By the digits of the k-th largest, and a count of its equals."""
        if not are_rows(x):
            return super().top_k_mask(x, k)
        x, (rows, length) = x.contiguous(), x.shape
        counts, k = self._digits(x, k)
        grid, per_row = (-(-length // ROW), rows), isinstance(k, torch.Tensor)
        ties = torch.empty(grid[::-1], dtype=torch.int32, device=x.device)
        mask = torch.empty(x.shape, dtype=torch.bool, device=x.device)
        launch(selection.count_ties, grid, x, k, counts, ties, length, per_row, ROW)
        ends = torch.cumsum(ties.reshape(-1), 0, dtype=torch.int32)
        launch(selection.mark_largest, grid, x, k, counts, ends, as_bytes(mask), length, per_row, ROW)
        return mask

    def _digits(self, x: Array, k: int | Array) -> tuple[Array, int | Array]:
        """How many numbers of each row begin as its k-th largest does, digit by digit; and k as the kernels take it."""
        rows, length = x.shape
        k = k.expand(rows, 1).reshape(-1).long().contiguous() if isinstance(k, torch.Tensor) else k
        counts = torch.zeros((rows, 4, 256), dtype=torch.int32, device=x.device)
        for digit in range(4):
            grid = (-(-length // LONG_ROW), rows)
            launch(selection.count_digits, grid, x, k, counts, length, isinstance(k, torch.Tensor), digit, LONG_ROW)
        return counts, k

    def hinge_errors(self, score: Array, index: Array, valid: Array) -> tuple[Array, Array]:
        """One pass; a formula's, which autograd must see, in operations."""
        if score.requires_grad or score.dtype not in FLOATS:
            return super().hinge_errors(score, index, valid)
        score, index, valid = score.contiguous(), index.contiguous(), valid.contiguous()
        errors = torch.empty(score.shape, dtype=torch.float32, device=score.device)
        foreground, size = torch.empty(score.shape, dtype=torch.bool, device=score.device), score.numel()
        blocks = -(-size // ROW)
        launch(
            order_kernels.hinge_errors, (blocks,),
            score, index, as_bytes(valid), errors, as_bytes(foreground), size, ROW,
        )  # fmt: skip
        return errors, foreground

    def lovasz(self, errors: Array, foreground: Array, scale: Array) -> tuple[Array, Array]:
        """Sorted by torch; from there on two passes."""
        if errors.dtype != torch.float32 or errors.numel() >= 2**31:
            return super().lovasz(errors, foreground, scale)
        errors = errors.contiguous()
        slopes = torch.empty_like(errors)
        rows = errors.reshape(1, -1), foreground.reshape(1, -1)
        return torch.sum(self._steps(*rows, scale.reshape(1), slopes.reshape(1, 1, -1), True)), slopes

    def lovasz_classes(
        self,
        x: Array,
        sums: tuple[Array, Array],
        labels: tuple[Array, Array],
        first: int,
        shares: Array,
        slopes: Array | None,
    ) -> Array:
        """All classes of the group in one sort."""
        images, classes, count = x.shape
        (norm, top), (index, valid) = ([each.contiguous() for each in two] for two in (sums, labels))
        if not (fits(x) and classes * images * count < 2**31):
            return super().lovasz_classes(x, sums, labels, first, shares, slopes)
        grid, tile, warps = grid_of(x)
        errors = torch.empty((classes, images * count), dtype=torch.float32, device=x.device)
        foreground = torch.empty(errors.shape, dtype=torch.bool, device=x.device)
        launch(
            order_kernels.class_errors, grid, x, top, norm, index, as_bytes(valid), errors, as_bytes(foreground),
            classes, count, first, *x.stride(), *tile, num_warps=warps,
        )  # fmt: skip
        parts = self._steps(errors, foreground, shares, x if slopes is None else slopes, slopes is not None)
        return torch.sum(parts.sum(dim=1) * shares)

    def _steps(self, errors: Array, foreground: Array, scale: Array, slopes: Array, writes: bool) -> Array:
        """Sums of errors times steps of each block, (rows, blocks); the slopes of row c go to slopes[:, c, :], if any."""
        rows, length = errors.shape
        ordered, order = torch.sort(errors, dim=-1, descending=True, stable=True)
        grid, marks = (-(-length // ROW), rows), as_bytes(foreground.contiguous())
        counts = torch.empty((rows, grid[0]), dtype=torch.int32, device=errors.device)
        parts = torch.empty((rows, grid[0]), dtype=torch.float64, device=errors.device)
        launch(order_kernels.count_hits, grid, marks, order, counts, length, ROW)
        ends = torch.cumsum(counts.reshape(-1), 0, dtype=torch.int32)
        launch(
            order_kernels.steps, grid, ordered, marks, order, ends, scale, slopes, parts, length, slopes.shape[2],
            *slopes.stride(), scale.stride(0), writes, ROW,
        )  # fmt: skip
        return parts
