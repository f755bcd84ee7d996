"""PyTorch: array-api-compat's namespace, autograd, and closed forms on views of CPU tensors."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import is_fake
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _disable_current_modes, is_traceable_wrapper_subclass

from unilossseg.backends import _torch_namespace as xp
from unilossseg.backends._backend import Array, Backend
from unilossseg.backends._bfloat16 import BFLOAT16
from unilossseg.backends._computation import Computation, begin, upstream_of
from unilossseg.backends._registry import get_backend
from unilossseg.backends._torch_gpu import kernels_on

# MKL sets up its vector functions at their first use; where two threads come first together, one of them gets exp and log
# of half the digits (3e-9 off in float64, seen in one of five fresh processes). One small call beforehand settles it.
for _dtype in (torch.float32, torch.float64):
    for _function in (torch.exp, torch.log, torch.log1p):
        _function(torch.ones(8, dtype=_dtype, device="cpu"))

# Now rather than in the first call: it takes a tenth of a second.
_NUMPY = get_backend("numpy")

_KINDS: dict[Any, tuple[Any, ...]] = {
    "bool": (torch.bool,),
    # Unsigned ones of more than a byte came late.
    "integral": tuple(getattr(torch, f"{sign}int{bits}", torch.int64) for sign in ("", "u") for bits in (8, 16, 32, 64)),
    "real floating": (torch.float16, torch.bfloat16, torch.float32, torch.float64),
}
#: The kinds of dtype that losses ask for, one by one and together.
_KINDS |= {
    some: tuple(itertools.chain.from_iterable(_KINDS[one] for one in some))
    for count in (2, 3)
    for some in itertools.permutations(_KINDS, count)
}
_HALF = (torch.float16, torch.bfloat16)
_is_compiling, _is_transformed = torch.compiler.is_compiling, torch._C._functorch.is_functorch_wrapped_tensor
#: How many modes look on, and those under which even a tensor with values gives none away: fake ones, and a tracer.
_modes, _mode = torch._C._len_torch_dispatch_stack, torch._C._get_dispatch_mode
_WITHHOLDING = (torch._C._TorchDispatchModeKey.FAKE, torch._C._TorchDispatchModeKey.PROXY)
_are_transforms_active = torch._C._are_functorch_transforms_active
# By `is_grads_batched`, which has a vmap of its own.
_is_batched = torch._C._functorch.is_legacy_batchedtensor


class TorchBackend(Backend):
    """torch.Tensor on any device."""

    assignable = True
    differentiable = True
    exact_numbers = True

    def device(self, x: Array) -> Any:
        """A torch.device."""
        return x.device

    def are_together(self, x: Array, y: Array) -> bool:
        """Devices compare."""
        return bool(x.device == y.device)

    def layout(self, x: Array) -> str:
        """Sparse, of a library's own, or nested."""
        return "" if x.layout is torch.strided and not x.is_nested else f"{x.layout}{' (nested)' * x.is_nested}"

    def is_dtype(self, x: Array, kind: str | tuple[str, ...]) -> bool:
        """Looked up: array-api-compat takes apart what it is asked, kind by kind."""
        known = _KINDS.get(kind)
        return super().is_dtype(x, kind) if known is None else x.dtype in known

    def reciprocal(self, x: Any) -> Any:
        """In one step, where `1 / x` takes two."""
        return x.reciprocal() if isinstance(x, torch.Tensor) else 1 / x

    def reshape(self, x: Array, shape: tuple[int, ...]) -> Array:
        """The method."""
        return x.reshape(shape)

    def traced(self, x: Array) -> bool:
        """By the compiler or a transform of torch.func; fake and meta tensors too."""
        return _is_symbolic(x)

    def readable(self, x: Array) -> bool:
        """In the CPU's memory, and neither traced nor transformed."""
        return x.is_cpu and not _is_symbolic(x)

    def constant(self, values: tuple[float, ...], like: Array) -> Array:
        """Not kept while tracing: a traced tensor belongs to its trace."""
        if _is_symbolic(like):
            return torch.tensor(values, dtype=like.dtype, device=like.device)
        kept = self._constants.get((values, like.dtype, like.device))
        if kept is not None:
            return kept
        # What is kept must serve training too: a tensor made in inference mode could never be saved for a backward.
        with torch.inference_mode(False):
            return super().constant(values, like)

    def stop_gradient(self, x: Array) -> Array:
        """Detached."""
        return x.detach()

    def wants_gradient(self, x: Array) -> bool:
        """As a leaf or as computed from one; or in forward mode."""
        return (bool(x.requires_grad) and torch.is_grad_enabled()) or _has_tangent(x)

    def custom_gradient(self, call: Computation, x: Array) -> Array:
        """An autograd.Function, or the bare value where no gradient is wanted."""
        # Forward mode knows no autograd.Function without a rule of its own, and a detached value would lose the tangent.
        if _has_tangent(x):
            with self.full_precision():
                return call.plain(x)
        if not self.wants_gradient(x):
            return call.fused(x, False, None)[0]
        return _apply(x, call)

    def full_precision(self) -> AbstractContextManager[None]:
        """Off with `torch.autocast`, for all devices; not in a compiled call, which cannot trace it."""
        if _is_compiling() or not torch._C._is_any_autocast_enabled():
            return super().full_precision()
        return torch._C._DisableAutocast()

    def value_and_grad(self, function: Callable[[Array], Array], x: Array, upstream: Array | None) -> tuple[Array, Array]:
        """By torch.autograd.grad on a detached leaf."""
        # Inference mode follows nothing, nor what was made in it.
        with torch.inference_mode(False), torch.enable_grad(), self.full_precision():
            leaf = _saveable(x).detach().requires_grad_(True)
            value = function(leaf)
            (gradient,) = torch.autograd.grad(value, leaf, torch.ones_like(value) if upstream is None else upstream)
        return value.detach(), gradient

    def kernel(self, x: Array) -> Backend | None:
        """NumPy in the CPU's memory, on a device torch with the kernels there are, the plain formula under a transform."""
        # Inside a transform of something else no tensor gives its memory away.
        if _is_symbolic(x) or _are_transforms_active():
            return None
        if x.is_cpu:
            return _NUMPY
        if x.is_mps:
            raise TypeError(
                "PyTorch's mps device has no float64, in which a loss adds up: move logits and labels to the CPU, .cpu()"
            )
        # The kernels compute in float32.
        return self if not x.is_cuda or x.dtype == torch.float64 else kernels_on(x.device) or self

    def to_kernel(self, x: Array, packed: bool = False) -> Array:
        """A view of a CPU tensor; bfloat16, which NumPy lacks, as float32 or as its bits."""
        if x.requires_grad:
            x = x.detach()
        # A sign that torch has only noted is not in the memory.
        x = x.resolve_neg()
        if not x.is_cpu:
            return x
        if x.dtype != torch.bfloat16:
            return x.numpy()
        return x.view(torch.int16).numpy().view(BFLOAT16) if packed else x.float().numpy()

    def settled(self, x: Any) -> Array:
        """No view: autograd would let nobody change it in place (`loss += other`)."""
        return x.detach() if isinstance(x, torch.Tensor) and x._is_view() else x

    def from_kernel(self, x: Array, dtype: Any = None) -> Array:
        """A tensor on the memory of a NumPy array."""
        if not isinstance(x, torch.Tensor):
            x = x if type(x) is np.ndarray else np.asarray(x)
            bits = x.dtype == BFLOAT16
            x = torch.from_numpy(x.view(np.int16) if bits else x)
            x = x.view(torch.bfloat16) if bits else x
        return x if dtype is None or x.dtype == dtype else x.to(dtype)

    def threads(self) -> int:
        """torch's own setting, which a data loader's worker has at 1."""
        return torch.get_num_threads()

    def scaled(self, gradient: Array, factor: Array) -> Array:
        """gradient * factor, in place."""
        kernel = self.kernel(gradient)
        if isinstance(kernel, TorchBackend) and kernel is not self:
            return kernel.scaled(gradient, factor)
        return gradient.mul_(factor)

    def keep_where(self, mask: Array, x: Array, other: float = 0) -> Array:
        """Without an array of the number, which a device would have to be filled with."""
        return torch.where(mask, x, self.constant((other,), x).reshape(()))

    def count(self, mask: Array, axis: int | None = None, keepdims: bool = False) -> Array:
        """A sum of booleans is one of int64."""
        return torch.sum(mask) if axis is None and not keepdims else torch.sum(mask, dim=axis, keepdim=keepdims)

    def exp_(self, x: Array) -> Array:
        """In place."""
        return x.exp_()

    def pick(self, x: Array, index: Array) -> Array:
        """gather."""
        return torch.gather(x, 1, index[:, None, :])[:, 0, :]

    def subtract_at(self, x: Array, index: Array, amount: Array) -> Array:
        """scatter_add, in place."""
        return x.scatter_add_(1, index[:, None, :], -amount[:, None, :])

    def argsort_descending(self, x: Array) -> Array:
        """The framework's stable sort."""
        return torch.sort(x, dim=-1, descending=True, stable=True).indices

    def unsort(self, x: Array, order: Array) -> Array:
        """scatter."""
        return torch.scatter(torch.empty_like(x), -1, order, x)

    def kth_largest(self, x: Array, k: int | Array) -> Array:
        """The last of the top k."""
        if not isinstance(k, int):
            return super().kth_largest(x, k)
        return torch.topk(x, k, dim=-1).values[..., k - 1 : k]

    def uniform(self, shape: tuple[int, ...], like: Array) -> Array:
        """From torch's generator of the device, which `torch.manual_seed` seeds."""
        return torch.rand(shape, dtype=self.work_dtype(like), device=like.device)


def _is_symbolic(x: Array) -> bool:
    """Whether the tensor has no values of its own: traced, transformed by torch.func, fake or meta."""
    if _is_compiling() or x.is_meta or _is_transformed(x):
        return True
    if _modes() and any(_mode(kind) is not None for kind in _WITHHOLDING):
        return True
    # A plain tensor is none of the subclasses that the others look for, one after the other.
    if type(x) is torch.Tensor:
        return torch._is_functional_tensor(x) and is_fake(x)
    return is_fake(x) or is_traceable_wrapper_subclass(x)


def _has_tangent(x: Array) -> bool:
    """Whether forward mode follows it."""
    return forward_ad._current_level >= 0 and forward_ad.unpack_dual(x).tangent is not None


class _ClosedForm(torch.autograd.Function):
    """Value and gradient in the forward pass; the gradient waits in a buffer of its own."""

    @staticmethod
    def forward(ctx: Any, x: Array, call: Computation) -> Array:
        if not _modes():
            return _forward(ctx, x, call)
        # A mode would see what this pass is made of: a selective checkpoint keeps the gradient, which the backward pass
        # then changes, and misses in the pass that it repeats what the first one did for another factor.
        with _disable_current_modes():
            return _forward(ctx, x, call)

    @staticmethod
    def backward(ctx: Any, upstream: Array) -> tuple[Array | None, ...]:
        if torch.is_grad_enabled() or _are_transforms_active() or _has_tangent(upstream):
            return _differentiable_gradient(ctx, upstream), None
        compiled = _is_compiling()
        batched = not compiled and _is_batched(upstream)
        # Half precision is to be rounded after the upstream gradient, and a compiler of the backward pass knows no NumPy.
        if ctx.half and (batched or compiled):
            ctx.gradient = ctx.finish = None
            return _differentiable_gradient(ctx, upstream), None
        if batched:
            # Several upstream gradients at once, which cannot come into one gradient's place.
            x, call = _held(ctx, ctx.saved_tensors)
            gradient = call.fused(x, True, None)[1]
            return (gradient * upstream).to(x.dtype), None
        # The buffer is handed over once, so that it may be scaled in place and torch need not copy it; and so is what the
        # forward pass has kept for a gradient to come. A second backward through a retained graph computes it again.
        (gradient, ctx.gradient), (finish, ctx.finish) = (ctx.gradient, None), (ctx.finish, None)
        # One comparison instead of a pass over the buffer.
        factor = upstream.item() if upstream.ndim == 0 and BACKEND.readable(upstream) else None
        if ctx.half and factor is not None:
            ctx.call.remember(factor)
        if gradient is not None and factor == ctx.expected:
            return gradient, None
        if gradient is not None and not ctx.half:
            return _scaled(ctx, gradient, upstream), None
        # Asked for in any case: that is where torch sees whether logits or labels have changed.
        # Once: a checkpoint gives them once.
        saved = ctx.saved_tensors
        # What the forward pass has begun reads the memory that it saw: not where a graph's copies stand for it.
        if finish is not None and _places(saved) == ctx.places:
            return finish(upstream), None
        x, call = _held(ctx, saved)
        if ctx.half:
            return call.fused(x, True, upstream)[1], None
        # As the first time, to the last bit.
        gradient = call.fused(x, True, upstream_of(BACKEND, ctx.expected, x))[1]
        return gradient if factor == ctx.expected else _scaled(ctx, gradient, upstream), None


def _forward(ctx: Any, x: Array, call: Computation) -> Array:
    """The value; what the backward pass needs is kept."""
    ctx.half = x.dtype in _HALF
    value, ctx.gradient, ctx.finish, ctx.expected = begin(BACKEND, call, x, ctx.half)
    # By the graph, which lets them go after its backward pass however long the value lives.
    kept = (x, *call.hand_over())
    ctx.save_for_backward(x, *map(_saveable, kept[1:]))
    ctx.call, ctx.places = call, () if ctx.finish is None else _places(kept)
    return value


# Past `Function.apply`, whose steps of Python are a tenth of a call's: it looks whether torch.func transforms a thing, which
# has been looked at, and for tensors that it once transformed, which count as symbolic and never come here.
_apply = super(torch.autograd.Function, _ClosedForm).apply


def _scaled(ctx: Any, gradient: Array, upstream: Array) -> Array:
    """The gradient of the upstream gradient that came, in place, from that of the one expected."""
    return BACKEND.scaled(gradient, upstream if ctx.expected == 1 else upstream / ctx.expected)


def _saveable(x: Array) -> Array:
    """What inference mode has made is none of what a graph may save."""
    return x.clone() if x.is_inference() else x


def _places(arrays: tuple[Array, ...]) -> tuple[int, ...]:
    """Where they lie."""
    return tuple(x.data_ptr() for x in arrays)


def _held(ctx: Any, saved: tuple[Array, ...]) -> tuple[Array, Any]:
    """The logits, and the call with the arrays that the graph has kept for it."""
    x, *arrays = saved
    return x, ctx.call.holding(arrays)


def _differentiable_gradient(ctx: Any, upstream: Array) -> Array:
    """With create_graph=True the gradient must itself be differentiable, and under a transform its upstream gradient is no
    number: through the plain formula.
    """
    x, call = _held(ctx, ctx.saved_tensors)
    again = torch.is_grad_enabled()
    with BACKEND.full_precision():
        with torch.enable_grad():
            # By another tensor: hooks on x are for the pass that asks for all this, and not for the one in here. A compiled
            # pass, which follows nothing, takes a view for x itself; its hooks it does not see.
            alias = x.view_as(x) if again or not _is_compiling() else x.detach().requires_grad_(True)
            value = call.plain(alias)
        return torch.autograd.grad(value, alias, upstream, create_graph=again)[0]


BACKEND = TorchBackend("torch", xp)
