"""PaddlePaddle: a namespace of our own, autograd, and closed forms on views of CPU tensors. Works on 2.6.2 and 3."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import paddle

from unilossseg.backends import _paddle_namespace as xp
from unilossseg.backends._backend import Array, Backend, is_dtype_kept
from unilossseg.backends._bfloat16 import BFLOAT16, rounded, widened
from unilossseg.backends._computation import Computation, begin
from unilossseg.backends._paddle_tracing import is_traced, place_of
from unilossseg.backends._registry import get_backend

# Now rather than in the first call: it takes a tenth of a second.
get_backend("numpy")

_CPU = paddle.CPUPlace()


class PaddleBackend(Backend):
    """paddle.Tensor on any place."""

    assignable = True
    differentiable = True

    device = staticmethod(place_of)  # type: ignore[assignment]

    def layout(self, x: Array) -> str:
        """Sparse, in coordinates or compressed rows; or distributed."""
        if is_traced(x) or x.is_dense():
            return ""
        return "distributed" if x.is_dist() else "sparse"

    def is_dtype(self, x: Array, kind: str | tuple[str, ...]) -> bool:
        """Asked once for each dtype: two of them are compared in half a microsecond, and there are a dozen."""
        return is_dtype_kept(xp, x.dtype, kind)

    traced = staticmethod(is_traced)  # type: ignore[assignment]

    def readable(self, x: Array) -> bool:
        """In the CPU's memory, and not traced."""
        return not is_traced(x) and bool(x.place.is_cpu_place())

    def constant(self, values: tuple[float, ...], like: Array) -> Array:
        """Not kept while tracing: what is made there belongs to its program."""
        if is_traced(like):
            # Number by number: Paddle 2 rounds a list to float32 on its way into a program.
            return xp.stack([xp.full((), value, dtype=like.dtype) for value in values])
        return super().constant(values, like)

    def stop_gradient(self, x: Array) -> Array:
        """Detached."""
        if not is_traced(x):
            return x.detach()
        # A program has no kernel to detach half types with.
        out = paddle.assign(x)
        out.stop_gradient = True
        return out

    def wants_gradient(self, x: Array) -> bool:
        """As a leaf or as computed from one. Whole numbers have none, though Paddle follows them too where it is told to."""
        return not x.stop_gradient and paddle.is_grad_enabled() and self.is_dtype(x, "real floating")

    def custom_gradient(self, call: Computation, x: Array) -> Array:
        """A PyLayer, or the bare value where no gradient is wanted."""
        # Inside a PyLayer's forward neither question has an answer.
        if not self.wants_gradient(x):
            return call.fused(x, False, None)[0]
        # Paddle drops what a hook on a PyLayer's own output returns, and crashes where a second backward pass begins
        # there. It does neither after an operation of its own.
        return _ClosedForm.apply(x, call).scale_(1.0)

    def full_precision(self) -> AbstractContextManager[None]:
        """Off with `paddle.amp.auto_cast`: its level O2 casts all that is not on a list to the half type."""
        return _FullPrecision()

    def value_and_grad(self, function: Callable[[Array], Array], x: Array, upstream: Array | None) -> tuple[Array, Array]:
        """By paddle.grad on a detached leaf."""
        leaf = x.detach()
        leaf.stop_gradient = False
        with paddle.enable_grad():
            value = function(leaf)
        (gradient,) = paddle.grad([value], [leaf], None if upstream is None else [upstream])
        return value.detach(), gradient

    def kernel(self, x: Array) -> Backend | None:
        """NumPy in the CPU's memory, Paddle itself on a device, the plain formula while a program is traced."""
        if is_traced(x):
            return None
        return get_backend("numpy") if x.place.is_cpu_place() else self

    def to_kernel(self, x: Array, packed: bool = False) -> Array:
        """A view of a CPU tensor; bfloat16, which NumPy lacks, as float32 or as its bits."""
        if not x.place.is_cpu_place():
            return x.detach()
        seen = _view(x)
        if x.dtype != paddle.bfloat16:
            return seen
        return seen.view(BFLOAT16) if packed else widened(seen.view(BFLOAT16))

    def from_kernel(self, x: Array, dtype: Any = None) -> Array:
        """A tensor on the memory of a NumPy array."""
        if isinstance(x, paddle.Tensor):
            return x if dtype is None else xp.astype(x, dtype, copy=False)
        x = np.asarray(x)
        if dtype == paddle.bfloat16:
            bits = x if x.dtype == BFLOAT16 else rounded(x)
            if bits.ndim and bits.flags.writeable:
                # NumPy has no bfloat16, and Paddle no uint16. Nor has it views where FLAGS_use_stride_kernel is off.
                with contextlib.suppress(RuntimeError):
                    return paddle.view(_on_memory_of(bits.view(np.int16)), "bfloat16")
            # Paddle 2 truncates where the dtype's conversion should round.
            out = paddle.to_tensor(np.zeros(x.shape, np.uint16), place=_CPU)
            _view(out)[...] = bits.view(np.uint16)
            return out
        if dtype is not None:
            x = x.astype(_dtype_of_memory(dtype), copy=False)
        if x.flags.writeable:
            return _on_memory_of(x)
        return paddle.to_tensor(x, place=_CPU)

    def nan_if(self, condition: Array) -> Array:
        """Computed: Paddle cannot load a program with a NaN in it that it has saved."""
        holds_not = xp.astype(xp.logical_not(condition), xp.float32)
        return holds_not / holds_not

    def exp_(self, x: Array) -> Array:
        """In place."""
        return x.exp_()

    def argsort_descending(self, x: Array) -> Array:
        """Stable by the namespace's care."""
        return xp.argsort(x, axis=-1, descending=True, stable=True)

    def kth_largest(self, x: Array, k: int | Array) -> Array:
        """The last of the top k."""
        if not isinstance(k, int):
            return super().kth_largest(x, k)
        return paddle.topk(x, k, axis=-1)[0][..., k - 1 : k]

    def uniform(self, shape: tuple[int, ...], like: Array) -> Array:
        """From Paddle's generator of the current place, which `paddle.seed` seeds."""
        drawn = paddle.rand(list(shape), dtype=self.work_dtype(like))
        return drawn if place_of(drawn) == place_of(like) else drawn._to(like.place)


def _program_casts() -> Any:
    """What holds the automatic casts of a program that is traced; Paddle 2 casts such programs by itself, afterwards."""
    core = paddle.framework.core
    return core._get_amp_attrs() if hasattr(core, "_get_amp_attrs") else None


class _FullPrecision:
    """Not auto_cast(enable=False), which forgets the dtype that it found; nor a generator's context, five times as slow."""

    def __enter__(self) -> None:
        self._owner = paddle.framework._dygraph_tracer() if paddle.in_dynamic_mode() else _program_casts()
        if self._owner is not None:
            self._level = self._owner._amp_level
            self._owner._amp_level = type(self._level).O0

    def __exit__(self, *_: object) -> None:
        if self._owner is not None:
            self._owner._amp_level = self._level


class _Memory:
    """Offers a tensor's memory to NumPy and keeps the tensor alive as long as the view."""

    def __init__(self, tensor: Array, dtype: np.dtype[Any]) -> None:
        self.tensor = tensor
        self.__array_interface__ = {
            "version": 3,
            "shape": tuple(tensor.shape),
            "typestr": dtype.str,
            "strides": tuple(map(dtype.itemsize.__mul__, tensor.strides)),
            "data": (tensor.data_ptr(), False),
        }


def _on_memory_of(x: np.ndarray[Any, Any]) -> Array:
    """A tensor on an array's memory, strides and all.

    Not through DLPack: Paddle lets go of what came that way with a lock held and waits for Python's, while another thread
    has Python's and waits for that lock.
    """
    if x.flags.c_contiguous:
        return paddle.Tensor(value=x, place=_CPU, zero_copy=True)
    # The constructor copies what is not in one piece; a turned tensor is a view.
    order = sorted(range(x.ndim), key=lambda axis: -x.strides[axis])
    turned = x.transpose(order)
    whole = paddle.Tensor(value=turned, place=_CPU, zero_copy=True)
    return whole.transpose([order.index(axis) for axis in range(x.ndim)])


def _view(x: Array) -> np.ndarray[Any, Any]:
    """The memory of a CPU tensor, strides and all; bfloat16 as the bits of uint16.

    Not through DLPack: Paddle 2 forgets the strides there, and bool and bfloat16 are lost.
    """
    dtype = _dtype_of_memory(x.dtype)
    # Not x.size, which takes as long as all of this.
    return np.empty(tuple(x.shape), dtype) if 0 in x.shape else np.asarray(_Memory(x, dtype))


@functools.cache
def _dtype_of_memory(dtype: Any) -> np.dtype[Any]:
    name = str(dtype).rpartition(".")[2].lower()
    return np.dtype("uint16" if name == "bfloat16" else name)


def _versions(arrays: Sequence[Array]) -> list[tuple[int, int]]:
    """Where they lie, and how often each has changed there; what hooks of a graph have kept elsewhere lies elsewhere."""
    return [(x.data_ptr(), x.inplace_version) for x in arrays]


class _ClosedForm(paddle.autograd.PyLayer):
    """Value and gradient in the forward pass; the gradient waits in a buffer of its own."""

    @staticmethod
    def forward(ctx: Any, x: Array, call: Computation) -> Array:
        ctx.half = x.dtype in (paddle.float16, paddle.bfloat16)
        value, ctx.gradient, ctx.finish, ctx.expected = begin(BACKEND, call, x, ctx.half)
        # Else the gradient is there, and Paddle crashes in a second backward pass through a PyLayer.
        ctx.call, kept = (call, (x, *call.hand_over())) if ctx.half else (None, ())
        ctx.save_for_backward(*kept)
        ctx.versions = _versions(kept)
        return value

    @staticmethod
    def backward(ctx: Any, upstream: Array) -> Array:
        # It is with create_graph=True alone. The formula's gradient cannot be asked for from here, as on torch: Paddle
        # crashes where one backward pass starts another.
        if paddle.is_grad_enabled():
            raise RuntimeError(
                "the gradient of a loss was asked for with create_graph=True, and Paddle cannot differentiate a closed form "
                "again: compute the loss inside unilossseg.plain_formula()"
            )
        (gradient, ctx.gradient), (finish, ctx.finish) = (ctx.gradient, None), (ctx.finish, None)
        # One comparison instead of a pass over the buffer.
        factor = upstream.item() if upstream.ndim == 0 and BACKEND.readable(upstream) else None
        if ctx.half and factor is not None:
            ctx.call.remember(factor)
        if gradient is not None and factor == ctx.expected:
            return gradient
        if not ctx.half:
            if gradient is None:
                raise RuntimeError(
                    "a second backward pass through one loss: expected one, or the loss inside unilossseg.plain_formula()"
                )
            if ctx.expected != 1:
                upstream = upstream / ctx.expected
            # The buffer is nobody else's: it is scaled in place.
            return gradient.multiply_(upstream)
        x, *arrays = kept = ctx.saved_tensor()
        # torch looks by itself; a PyLayer would return the gradient at other logits, or of other labels.
        now = _versions(kept)
        if any(
            place == where and count != before for (where, count), (place, before) in zip(now, ctx.versions, strict=True)
        ):
            raise RuntimeError(
                f"{ctx.call.loss.name}: logits or labels have been modified by an inplace operation since the forward pass, "
                "and the gradient of half-precision logits needs them: expected them as they were; change a clone, or call "
                "backward before"
            )
        with BACKEND.full_precision():
            # What the forward pass has begun reads the memory that it saw: not where copies of a graph's stand for it.
            if finish is not None and now == ctx.versions:
                return finish(upstream)
            return ctx.call.holding(arrays).fused(x, True, upstream)[1]


BACKEND = PaddleBackend("paddle", xp)

# What Paddle sets up when a shape is first asked for, and memory first taken over, takes up to two milliseconds: here, and
# not in the first call.
if paddle.in_dynamic_mode():
    BACKEND.to_kernel(BACKEND.from_kernel(np.ones(1, np.float32)))
