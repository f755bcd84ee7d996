"""Triton's kernels for tests: on the GPU, or without one on CPU tensors in Triton's interpreter (TRITON_INTERPRET=1).

Triton looks at that variable when it is imported, and `torch.compile` imports it too: a process has either its compiler or
its interpreter. `make test` gives these tests a process of their own. In any other without a GPU a module that imports this
is skipped.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from checks.torch_driver import TorchDriver

pytest.importorskip("triton", reason="Triton is not installed")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
if not INTERPRETED and not torch.cuda.is_available():
    pytest.skip("there is no GPU, and TRITON_INTERPRET=1 is not set before Triton is imported", allow_module_level=True)

# Only where they can run.
from unilossseg.backends import _torch_triton  # noqa: E402
from unilossseg.backends import torch as adapter  # noqa: E402

KERNELS = _torch_triton.TritonBackend("torch", adapter.xp)
#: The operations as they are without kernels.
PLAIN = adapter.BACKEND
DEVICE = "cpu" if INTERPRETED else "cuda"
if INTERPRETED:
    # A GPU rounds a product and a sum once, the interpreter both. float64 holds the product of two float32 whole.
    from triton.runtime import interpreter

    def _fused(self, x, y, z):
        wide = x.data.astype(np.float64) * y.data + z.data
        return interpreter.TensorHandle(wide.astype(x.data.dtype), z.dtype.scalar)

    interpreter.InterpreterBuilder.create_fma = _fused
DRIVER = TorchDriver(DEVICE)

EPS = float(np.finfo(np.float32).eps)
FLOATS = ("float32", "bfloat16", "float16")
#: From one number of a type to the next, relative to it. A kernel's result is rounded to half precision at its end, which
#: costs half a step; the interpreter may cut off instead, which costs a whole one.
STEP = {"float32": 0.0, "bfloat16": 2.0**-7, "float16": 2.0**-10}
#: The least float16 above 0, where steps are no longer relative.
LEAST = {"float32": 0.0, "bfloat16": 0.0, "float16": 2.0**-24}


def near(got, wanted, roundings=8.0, scale=1.0):
    """Not more roundings of float32 off than that, of the number itself or of `scale`; and one of its own half type."""
    kind = str(got.dtype).removeprefix("torch.")
    wanted = np.asarray(wanted, np.float64)
    rtol, atol = roundings * EPS + STEP.get(kind, 0.0), roundings * EPS * scale + LEAST.get(kind, 0.0)
    np.testing.assert_allclose(DRIVER.numpy(got).astype(np.float64), wanted, rtol=rtol, atol=atol)


def sum_of(found):
    """What a loop has summed up in float64, before anybody calculates with it."""
    tensor, place = found.operands
    assert (tensor.dtype, place) == (torch.float64, 0)
    return tensor.sum()


def same(got, wanted):
    """The same numbers, NaN too."""
    np.testing.assert_array_equal(DRIVER.numpy(got), wanted)


def logits(rng, shape, dtype, layout="dense", most=8.0):
    """Random logits (N, C, S), and the numbers that they are once rounded to their dtype, in float64."""
    x = laid_out(DRIVER.array(rng.uniform(-most, most, size=shape).astype(np.float32), dtype), layout)
    return x, DRIVER.numpy(x).astype(np.float64)


def laid_out(x, layout):
    """The same numbers in memory otherwise: channels last, as part of a larger array, or with its axes turned."""
    if layout == "dense":
        return x
    if layout == "channels last":
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    if layout == "turned":
        return x.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert layout == "part"
    return part_of(x)


def part_of(x, number=7):
    """As a chunk of pixels lies in its array, from an odd place on; around it a number that nothing may change."""
    whole = torch.full((*x.shape[:-1], x.shape[-1] + 9), number, dtype=x.dtype, device=x.device)
    whole[..., 3 : 3 + x.shape[-1]] = x
    return whole[..., 3 : 3 + x.shape[-1]]


def assert_rest(part, number=7):
    """Nothing was written beside a `part_of`."""
    strides, length = part.stride(), part.shape[-1]
    whole = part.as_strided((*part.shape[:-1], length + 9), strides, part.storage_offset() - 3)
    assert bool(torch.all(whole[..., :3] == number))
    assert bool(torch.all(whole[..., 3 + length :] == number))


def room_for(x, dtype=None):
    """A place for a gradient, part of a larger array, with numbers that must all be overwritten."""
    return part_of(torch.full(tuple(x.shape), 5, dtype=x.dtype if dtype is None else dtype, device=x.device))
