"""What Triton kernels take of torch's tensors, and how their work is shared out among programs."""

from __future__ import annotations

import warnings

import torch

from unilossseg.backends._backend import Array

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
#: Up to where each of them has all whole numbers.
_LARGEST = {torch.float32: 2**24, torch.float16: 2**11, torch.bfloat16: 2**8}
#: A program holds a pixel with all its channels.
MOST_CHANNELS = 1024
#: CUDA's limit for the second axis of a grid.
MOST_IMAGES = 2**16 - 1
#: Numbers of a warp that takes pixels with their channels, and the least pixels of a program, half a line of memory. Of few
#: channels, more warps with fewer numbers each are faster.
_WARP, _LEAST_PIXELS, _FEW_CHANNELS = 1024, 16, 512
#: Offsets below it are int32; the last programs reach some blocks beyond the end.
_NARROW = 2**31 - 2**17
#: Numbers of a program that takes them one by one.
ROW, LONG_ROW = 1024, 4096


def fits(x: Array) -> bool:
    """(N, C, S) of a dtype that the kernels compute in float32, with as many images and channels as they take."""
    if x.dtype not in FLOATS or x.ndim != 3:
        return False
    images, channels, _ = x.shape
    if images <= MOST_IMAGES and channels <= MOST_CHANNELS:
        return True
    warnings.warn(
        f"UniLossSeg's kernels for the GPU take up to {MOST_CHANNELS} channels and {MOST_IMAGES} images, and these logits "
        f"have {channels} and {images}: torch's own operations do their work, and the loss takes several times as long",
        RuntimeWarning,
        # Two kernels of one loss are told once.
        stacklevel=1,
    )
    return False


def grid_of(x: Array, *others: Array) -> tuple[tuple[int, int], tuple[bool, int, int], int]:
    """Programs for the pixels of each image; how wide their offsets are, their channels and pixels; and their warps.

    `others` are all arrays beside x that the kernel takes with strides of their own, (N, C, S) or (N, S): x may be a dense
    copy of a piece where they are parts of whole images. A warp takes all channels of its pixels while 32 numbers a thread
    allow it: what goes over a warp's border takes time.
    """
    images, channels, count = x.shape
    width = 1 << max(0, channels - 1).bit_length()
    block = _FEW_CHANNELS if width <= 4 else max(_LEAST_PIXELS, _WARP // width)
    warps = 4 if width <= 4 else max(1, width * block // _WARP)
    wide = channels * count >= _NARROW
    for array in (x, *others):
        if not array.is_contiguous():
            strides = array.stride()
            wide |= count * strides[-1] + (channels * strides[1] if len(strides) == 3 else 0) >= _NARROW
    return (-(-count // block), images), (wide, width, block), warps


def row_of(size: int) -> int:
    """Numbers of a program that takes them one by one."""
    return ROW if size < 1 << 22 else LONG_ROW


def room_for(x: Array, weights: Array | None, out: Array | None) -> Array:
    """Where a gradient goes."""
    if weights is None:
        return x
    return torch.empty_like(x, dtype=torch.float32) if out is None else out


def as_elements(x: Array, labels: Array, out: Array | None) -> tuple[Array, Array, Array | None] | None:
    """Logits, labels and gradient one element after the other, in the order that the logits have in memory.

    A copy of labels in another order, as one-hot ones with their classes last mostly are, and of logits with gaps costs far
    less than to compute them piece by piece. None: not a kernel's dtype, or a gradient that lies otherwise.
    """
    if x.dtype not in FLOATS or x.shape != labels.shape:
        return None
    if not x.is_contiguous():
        axes = memory_order(x)
        if axes is None:
            x = x.contiguous()
        else:
            x, labels = x.permute(axes), labels.permute(axes)
            out = None if out is None else out.permute(axes)
    return (x, labels.contiguous(), out) if out is None or out.is_contiguous() else None


def memory_order(x: Array) -> list[int] | None:
    """The axes in the order in which their entries lie without gaps; None: there are gaps, or entries lie on each other."""
    axes = sorted(range(x.ndim), key=x.stride, reverse=True)
    return axes if x.permute(axes).is_contiguous() else None


def without_gaps(x: Array) -> Array:
    """All entries, in any order."""
    axes = None if x.is_contiguous() else memory_order(x)
    return x.contiguous() if axes is None else x.permute(axes)


def are_rows(x: Array) -> bool:
    """(rows, length) whose places and counts are int32."""
    return x.dtype == torch.float32 and x.ndim == 2 and x.shape[0] <= MOST_IMAGES and x.numel() < 2**31


def are_readable(labels: Array, ignore_index: int | None) -> bool:
    """Labels that a kernel compares as they are."""
    if labels.dtype in INTEGERS or labels.dtype == torch.bool:
        return ignore_index is None or is_int64(ignore_index)
    # As float32; what their own dtype rounds to another number is torch's to compare.
    return labels.dtype in FLOATS and (ignore_index is None or abs(ignore_index) < _LARGEST[labels.dtype])


def is_int64(number: int) -> bool:
    """Whether a kernel can be given the number."""
    return -(2**63) <= number < 2**63


def as_bytes(x: Array) -> Array:
    """A mask as bytes."""
    return x.view(torch.int8) if x.dtype == torch.bool else x
