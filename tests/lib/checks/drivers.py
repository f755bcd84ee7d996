"""How a test calls a loss, whatever the framework: NumPy arrays in, value and gradient as NumPy arrays out."""

from __future__ import annotations

import contextlib
import contextvars

import numpy as np
import pytest

import unilossseg
from unilossseg import _call
from unilossseg.backends import get_backend


class Driver:
    """Losses of one framework; `losses` is the module that has them, `backend` the name of its adapter."""

    #: Whether values have gradients by a `backward` of the framework's own.
    autograd = False
    label_dtypes = ("uint8", "int8", "int16", "int32", "int64", "uint16", "uint32")

    def __init__(self, backend, losses):
        self.name = backend
        self.losses = losses

    def __repr__(self):
        return self.name

    def array(self, x, dtype=None):
        """A NumPy array as one of the framework's, copied."""
        raise NotImplementedError

    def numpy(self, x):
        """An array of the framework as a NumPy one; half types as float32 or float64."""
        raise NotImplementedError

    def own_loss(self, loss):
        """The face of a loss that a test defines."""
        return loss

    def parameter(self, x):
        """A number that is learned, of a framework with autograd."""
        raise NotImplementedError

    def has(self, dtype):
        """Skips a test where the framework lacks a dtype."""

    def needs(self, dtype):
        """Skips a test where the framework's own CPU kernels lack a dtype."""

    def contiguous(self, x):
        """Whether an array's memory is in the order of its axes."""
        raise NotImplementedError

    def flags(self, x):
        """What else an array has that a call must not change."""
        raise NotImplementedError

    def backward(self, loss, logits, labels, upstream, further):
        """Value and gradient by the framework's way, all in its own arrays."""
        raise NotImplementedError

    def leaf(self, x, dtype=None):
        """An array that gathers a gradient, of a framework with autograd."""
        raise NotImplementedError

    def gradient(self, leaf):
        """What a leaf has gathered, as a NumPy array."""
        return self.numpy(leaf.grad)

    def turned(self, x, dtype=None):
        """The array with memory in the order of its reversed axes: not contiguous."""
        array = self.array(np.ascontiguousarray(x.T), dtype)
        return get_backend(self.name).xp.permute_dims(array, tuple(reversed(range(x.ndim))))

    def halve_one_more(self, value):
        """Makes (value + 1) / 2 of a value in its place, in a framework with autograd."""
        value += 1
        value /= 2

    def fill(self, x, number):
        """Overwrites an array in place."""
        x[...] = number

    def make(self, name, parameters):
        """A loss from its name and parameters; those of a MixedLoss hold (name, parameters) pairs."""
        parameters = dict(parameters)
        if name == "MixedLoss":
            parameters["losses"] = [self.make(*inner) for inner in parameters["losses"]]
        return getattr(self.losses, name)(**parameters)

    def inputs(self, batch, dtype):
        """The batch's logits, labels and further inputs as the framework's arrays."""
        further = {name: self.array(x, dtype) for name, x in batch.further.items()}
        labels = self.array(batch.labels, dtype if batch.labels.dtype.kind == "f" else None)
        return self.array(batch.logits, dtype), labels, further

    def call(self, loss, logits, labels, further):
        """The loss's own call."""
        further = dict(further)
        if "edge_logits" in further:
            logits = (logits, further.pop("edge_logits"))
        return loss(logits, labels, **further)

    def value(self, loss, batch, dtype="float64"):
        """The value alone."""
        return self.numpy(self.call(loss, *self.inputs(batch, dtype)))

    def value_and_gradient(self, loss, batch, dtype="float64", upstream=None):
        """Value and gradient of sum(upstream * value)."""
        logits, labels, further = self.inputs(batch, dtype)
        work = "float64" if dtype == "float64" else "float32"
        value, gradient = self.backward(
            loss, logits, labels, None if upstream is None else self.array(upstream, work), further
        )
        assert gradient.dtype == logits.dtype
        return self.numpy(value), self.numpy(gradient)

    def plain(self):
        """A context in which losses are computed by their formula."""
        return unilossseg.plain_formula()

    def closed(self):
        """A context that changes nothing."""
        return contextlib.nullcontext()


class ArrayDriver(Driver):
    """NumPy or array-api-strict: values and gradients by `unilossseg.value_and_grad`."""

    def __init__(self, backend):
        super().__init__(backend, unilossseg)
        self.by_formula = False
        self.xp = get_backend(backend).xp

    def array(self, x, dtype=None):
        x = np.array(x, dtype=dtype)
        return x if self.name == "numpy" else self.xp.asarray(x)

    def numpy(self, x):
        if isinstance(x, list):
            return np.stack([self.numpy(one) for one in x])
        return np.asarray(x)

    def flags(self, x):
        return x.flags.writeable if self.name == "numpy" else None

    def has(self, dtype):
        if dtype == "bfloat16" or (dtype == "float16" and self.name == "strict"):
            pytest.skip(f"{self.name} has no {dtype}")

    def contiguous(self, x):
        return np.asarray(x).flags.c_contiguous

    def own(self, x):
        """A value as an array; NumPy returns a number that nothing can be written to."""
        return np.array(x) if isinstance(x, np.generic) else x

    def backward(self, loss, logits, labels, upstream, further):
        further = dict(further)
        if "edge_logits" in further:
            logits = (logits, further.pop("edge_logits"))
        # Without autograd only the closed form has a gradient: it is asked for outside of `plain_formula()`.
        outside = contextvars.copy_context()
        outside.run(_call._plain.set, False)
        both = outside.run(lambda: unilossseg.value_and_grad(loss)(logits, labels, upstream=upstream, **further))
        return (loss(logits, labels, **further), both[1]) if self.by_formula else both

    @contextlib.contextmanager
    def plain(self):
        self.by_formula = True
        try:
            with super().plain():
                yield
        finally:
            self.by_formula = False
