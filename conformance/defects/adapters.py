"""Defects of the adapters: NumPy's operations beyond the standard, and how torch and Paddle differentiate."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from unilossseg.backends import Array, _bfloat16
from unilossseg.conformance.defects import _changes as changes
from unilossseg.conformance.defects._patching import Patches, defect


# ---------------------------------------------------------------------------------------------------- NumPy
@defect("LovaszSoftmaxLoss", "LovaszHingeLoss")
def numpy_sort_unstable(patches: Patches) -> None:
    """Equal values are sorted in reverse order."""

    def wrong(self: Any, x: Array) -> Array:
        return np.argsort(x, axis=-1, kind="stable")[..., ::-1]

    changes.without_loops(patches, "lovasz")
    patches.replace(changes.NUMPY, "argsort_descending", wrong)


@defect("CrossEntropyLoss", "OhemCrossEntropyLoss", "BootstrappedCrossEntropyLoss")
def numpy_kth_smallest(patches: Patches) -> None:
    """The k-th smallest in place of the k-th largest."""

    def wrong(self: Any, x: Array, k: Any) -> Array:
        return np.take_along_axis(np.sort(x, axis=-1), np.broadcast_to(np.asarray(k) - 1, (*x.shape[:-1], 1)), axis=-1)

    patches.replace(changes.NUMPY, "kth_largest", wrong)


@defect("LovaszSoftmaxLoss")
def numpy_unsort_sorts(patches: Patches) -> None:
    """Undoing a sort sorts once more."""
    changes.without_loops(patches, "lovasz")
    patches.replace(changes.NUMPY, "unsort", lambda self, x, order: np.take_along_axis(x, order, axis=-1))


@defect("DiceLoss")
def numpy_class_sums_of_the_batch(patches: Patches) -> None:
    """Sums by class are those of the first image."""
    changes.without_loops(patches, "softmax_totals")
    changes.result(patches, changes.NUMPY, "class_sums", lambda sums: np.repeat(sums[:1], sums.shape[0], axis=0))


@defect("CrossEntropyLoss", "DiceLoss")
def numpy_picks_of_the_first_image(patches: Patches) -> None:
    """Every image is read with the first one's classes."""
    changes.without_loops(patches, *changes.CROSS_ENTROPIES, "softmax_totals")
    changes.argument(patches, changes.NUMPY, "pick", 2, lambda index: np.repeat(index[:1], index.shape[0], axis=0))


# ---------------------------------------------------------------------------------------------------- autograd
def _adapter(backend: str) -> Any:
    # In the worker the framework is there already; elsewhere nobody plants these.
    return sys.modules[f"unilossseg.backends.{backend}"]


def _backward(patches: Patches, backend: str, change: Any) -> None:
    """Another backward of the closed form's node; `change` gets the right one, the context and the upstream gradient."""
    node = _adapter(backend)._ClosedForm
    right = node.backward
    patches.replace(node, "backward", staticmethod(lambda ctx, upstream: change(right, ctx, upstream)))


def _ones(upstream: Array) -> Array:
    return upstream * 0 + 1


@defect("CrossEntropyLoss", "DiceLoss", "L1Loss", backend="torch")
def torch_upstream_dropped(patches: Patches) -> None:
    """The autograd function does not multiply by the upstream gradient."""
    _backward(patches, "torch", lambda right, ctx, upstream: right(ctx, _ones(upstream)))


@defect("CrossEntropyLoss", "DiceLoss", "L1Loss", backend="paddle")
def paddle_upstream_dropped(patches: Patches) -> None:
    """The PyLayer does not multiply by the upstream gradient."""
    _backward(patches, "paddle", lambda right, ctx, upstream: right(ctx, _ones(upstream)))


@defect("CrossEntropyLoss", "LovaszHingeLoss", backend="torch")
def torch_half_rounded_twice(patches: Patches) -> None:
    """A half-precision gradient is rounded before the upstream gradient is in it."""
    patches.replace(_adapter("torch"), "_HALF", ())


def _truncated(patches: Patches) -> None:
    """float32 numbers lose the digits that bfloat16 has no room for, whatever casts them."""

    def cut(x: Array) -> Array:
        return (np.asarray(x, np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16).view(_bfloat16.BFLOAT16)

    def make(original: Any) -> Any:
        def wrong(self: Any, x: Array, dtype: Any) -> Array:
            narrows = dtype == _bfloat16.BFLOAT16 and x.dtype != _bfloat16.BFLOAT16
            return cut(x) if narrows else original(self, x, dtype)

        return wrong

    patches.wrap(changes.NUMPY, "cast", make)
    changes.without_loops(patches, *changes.CROSS_ENTROPIES, "through_softmax_by_class")


@defect("CrossEntropyLoss", "DiceLoss", backend="torch")
def torch_bfloat16_truncated(patches: Patches) -> None:
    """bfloat16 gradients are cut off, not rounded."""
    _truncated(patches)


@defect("CrossEntropyLoss", "DiceLoss", backend="paddle")
def paddle_bfloat16_truncated(patches: Patches) -> None:
    """bfloat16 gradients are cut off, not rounded."""
    _truncated(patches)


@defect("CrossEntropyLoss", "OhemCrossEntropyLoss", backend="torch")
def torch_pick_detached(patches: Patches) -> None:
    """Autograd does not see the logit of the true class."""
    changes.result(patches, _adapter("torch").TorchBackend, "pick", lambda picked: picked.detach())


@defect("DiceLoss", "MSELoss", backend="torch")
def torch_logits_detached(patches: Patches) -> None:
    """The closed form's node passes a gradient of zeros."""

    def change(right: Any, ctx: Any, upstream: Array) -> Any:
        slope, *rest = right(ctx, upstream)
        return slope * 0, *rest

    _backward(patches, "torch", change)


@defect("LovaszSoftmaxLoss", "LovaszHingeLoss", backend="torch")
def torch_sort_unstable(patches: Patches) -> None:
    """Equal values are sorted in reverse order."""
    adapter = _adapter("torch")
    patches.replace(
        adapter.TorchBackend,
        "argsort_descending",
        lambda self, x: adapter.torch.sort(x, dim=-1, stable=True).indices.flip(-1),
    )


@defect("OhemCrossEntropyLoss", "OhemEdgeAttentionLoss", backend="torch")
def torch_kth_off_by_one(patches: Patches) -> None:
    """The (k+1)-th largest in place of the k-th."""

    def make(original: Any) -> Any:
        def wrong(self: Any, x: Array, k: Any) -> Array:
            return original(self, x, min(k + 1, x.shape[-1]) if isinstance(k, int) else k)

        return wrong

    patches.wrap(_adapter("torch").TorchBackend, "kth_largest", make)


@defect("CrossEntropyLoss", backend="torch")
def torch_strides_forgotten(patches: Patches) -> None:
    """The kernel sees a tensor's memory without its strides."""
    adapter = _adapter("torch")

    def make(original: Any) -> Any:
        def wrong(self: Any, x: Array, packed: bool = False) -> Any:
            memory = x.detach()
            size = memory.untyped_storage().nbytes() // memory.element_size()
            if not memory.is_contiguous() and size == memory.numel():
                memory = memory.as_strided((size,), (1,)).reshape(memory.shape)
            return original(self, memory, packed)

        return wrong

    patches.wrap(adapter.TorchBackend, "to_kernel", make)


@defect("CrossEntropyLoss", "DiceLoss", backend="paddle")
def paddle_strides_forgotten(patches: Patches) -> None:
    """The kernel sees a tensor's memory without its strides."""

    def make(original: Any) -> Any:
        def wrong(x: Array) -> Any:
            seen = original(x)
            return seen if seen.flags.c_contiguous else np.ravel(seen, order="K").reshape(seen.shape)

        return wrong

    patches.wrap(_adapter("paddle"), "_view", make)


@defect("DualTaskLoss", backend="paddle")
def paddle_first_of_the_maxima(patches: Patches) -> None:
    """Of several equal maxima one gets the whole gradient, as of paddle.max in some releases."""
    adapter = _adapter("paddle")

    def wrong(x: Array, /, *, axis: Any = None, keepdims: bool = False) -> Array:
        if axis is None or isinstance(axis, int):
            return right(x, axis=axis, keepdims=keepdims)
        rows = x.reshape([x.shape[0] if 0 not in axis else 1, -1])
        return adapter.paddle.topk(rows, 1, axis=-1)[0].reshape([-1, *[1] * (x.ndim - 1)])

    right = adapter.xp.max
    patches.replace(adapter.xp, "max", wrong)


@defect("LovaszSoftmaxLoss", "LovaszHingeLoss", backend="paddle")
def paddle_sort_unstable(patches: Patches) -> None:
    """Equal values are sorted in reverse order."""
    adapter = _adapter("paddle")
    patches.replace(
        adapter.PaddleBackend, "argsort_descending", lambda self, x: adapter.xp.argsort(x, axis=-1, stable=True).flip(-1)
    )


# ---------------------------------------------------------------------------------------------------- faces
def _inputs_dropped(patches: Patches, backend: str, name: str) -> None:
    face = getattr(importlib.import_module(f"unilossseg.{backend}"), name)
    # A face's classes may each have a `forward` of their own.
    for one in (face, *face.__subclasses__()):
        if "forward" in vars(one):
            patches.wrap(one, "forward", lambda right: lambda self, logits, labels, **inputs: right(self, logits, labels))


@defect("CrossEntropyLoss", "DualTaskLoss", backend="torch")
def torch_face_drops_inputs(patches: Patches) -> None:
    """The Module passes logits and labels alone to its loss: no weights of pixels, no noise."""
    _inputs_dropped(patches, "torch", "TorchLoss")


@defect("CrossEntropyLoss", "DualTaskLoss", backend="paddle")
def paddle_face_drops_inputs(patches: Patches) -> None:
    """The Layer passes logits and labels alone to its loss: no weights of pixels, no noise."""
    _inputs_dropped(patches, "paddle", "PaddleLoss")
