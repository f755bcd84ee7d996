"""How wide the offsets of kernels over pixels are, for images and arrays that would fill gigabytes: without memory."""

import pytest
import torch
import triton
import triton.language as tl
from checks.kernels import INTERPRETED, KERNELS
from triton.runtime import interpreter

from unilossseg import RelaxBoundaryLoss
from unilossseg.backends import _torch_triton
from unilossseg.backends import _triton_softmax as pixels


def test_offsets_are_wide_where_an_image_has_2_to_the_31_numbers():
    for wide, shape, strides in (
        (True, (1, 2, 2**30), (2**31, 2**30, 1)),
        # The last programs reach beyond the end.
        (True, (1, 1, 2**31 - 2**15), (2**31, 2**31, 1)),
        (False, (1, 2, 2**30 - 2**17), (2**31, 1, 0)),
        (True, (1, 1, 4), (2**31, 1, 2**29)),
        (True, (1, 4, 1), (2**31, 2**29, 1)),
    ):
        assert _torch_triton.grid_of(torch.empty_strided(shape, strides, device="meta"))[1][0] == wide


#: What each kernel is given with strides of its own, beside the logits.
STRIDED = {
    "cross_entropy": ("index", "weights", "out"),
    "plain_cross_entropy": ("out",),
    "relaxed_cross_entropy": ("near", "weights", "out"),
    "softmax_totals": ("index", "weights"),
    "through_softmax": ("slope", "weights", "out"),
    "through_softmax_by_class": ("index", "weights", "out"),
}
#: What else it takes.
BESIDE = {
    "plain_cross_entropy": {
        "labels": torch.empty((1, 4), dtype=torch.int64, device="meta"), "ignore_index": 255, "weight": None, "share": 1.0
    },
    "through_softmax_by_class": dict.fromkeys(("by_class", "by_own"), torch.empty((1, 2), device="meta")),
}  # fmt: skip


@pytest.fixture
def wide(monkeypatch):
    """Whether the offsets of each launched kernel over pixels are wide; nothing is launched."""
    found = []
    monkeypatch.setattr(
        _torch_triton, "launch", lambda kernel, grid, *given, **more: len(grid) == 2 and found.append(given[-3])
    )
    return found


@pytest.mark.parametrize("kernel", STRIDED)
def test_offsets_are_as_wide_as_each_array_needs(wide, kernel):
    shapes = {name: (1, 4) if name in ("index", "weights") else (1, 2, 4) for name in STRIDED[kernel]}
    usual = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    launch, x = getattr(KERNELS, kernel), torch.empty(1, 2, 4, device="meta")
    launch(x, **usual, **BESIDE.get(kernel, {}))
    assert wide == [False]
    for name, shape in shapes.items():
        for axis in range(1, len(shape)):
            strides = [2**31 // shape[axis] if k == axis else 1 for k in range(len(shape))]
            far = torch.empty_strided(shape, strides, device="meta")
            launch(x, **{**usual, name: far}, **BESIDE.get(kernel, {}))
            assert wide.pop(), f"{name} lies far apart along axis {axis}"


def test_a_piece_of_half_precision_has_the_offsets_of_what_lies_beside_it(monkeypatch):
    """It is a dense copy in float32, while the mask and the gradient are parts of whole images."""
    launched = []
    monkeypatch.setattr(_torch_triton, "launch", lambda kernel, *given, **more: launched.append((kernel, given[-3])))
    logits = torch.empty(1, 2, 2**15, 2**15, dtype=torch.bfloat16, device="meta")
    labels = torch.empty(1, 2**15, 2**15, dtype=torch.uint8, device="meta")
    RelaxBoundaryLoss().closed_form(KERNELS, logits, labels, gradient=True, upstream=None)
    found = [wide for kernel, wide in launched if kernel is pixels.relaxed_cross_entropy]
    assert len(found) > 1
    assert all(found)


@triton.jit
def places_of(out, exists, count, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """What a program takes for its pixels."""
    _, s, there = pixels.pixel_block(count, WIDE, BLOCK)
    tl.store(out + tl.arange(0, BLOCK), s)
    tl.store(exists + tl.arange(0, BLOCK), there.to(tl.int8))


@pytest.mark.skipif(not INTERPRETED, reason="only an interpreter can be told which of so many programs it runs")
def test_the_last_pixels_of_a_wide_image_have_their_places(monkeypatch):
    block, last = 512, 2**31 // 512
    kind = type(interpreter.interpreter_builder)
    original = kind.set_grid_idx
    monkeypatch.setattr(kind, "set_grid_dim", lambda self, *length: setattr(self, "grid_dim", (last + 1, 1, 1)))
    monkeypatch.setattr(kind, "set_grid_idx", lambda self, x, y, z: original(self, x + last, y, z))
    out, exists = torch.zeros(block, dtype=torch.int64), torch.zeros(block, dtype=torch.int8)
    places_of[(1,)](out, exists, 2**31 + 5, True, block)
    assert out.tolist() == list(range(2**31, 2**31 + block))
    assert exists.sum() == 5
