"""How a worker makes a framework's arrays and computes a case with them in each mode; imports the framework asked for."""

from __future__ import annotations

import contextlib
import importlib
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

import unilossseg
from unilossseg.backends import KNOWN, _backend, _threads, get_backend
from unilossseg.conformance import capabilities, devices, modules, natives
from unilossseg.conformance.cases import Array, strided_axis
from unilossseg.conformance.protocol import CLOSED_FORM, FACE, NATIVE, Outcome


class OverwrittenError(Exception):
    """A loss has written into an array that it was given."""


class Framework:
    """NumPy, or another namespace without autograd."""

    #: Exceptions that the backend brings beside those of the capability table.
    exceptions: tuple[capabilities.Exemption, ...] = ()
    #: How its cross entropy is told that the classes are axis 1.
    classes_first: Mapping[str, Any] = MappingProxyType({})
    #: Where its arrays live.
    device: str = devices.CPU

    def __init__(self, name: str, device: str = devices.CPU) -> None:
        self.name = name
        self.xp = get_backend(name).xp
        self.module = importlib.import_module(KNOWN[name][0])
        self.device = devices.place(name, self.module, device)
        self.version = str(getattr(self.module, "__version__", ""))
        self.modes = capabilities.modes(name, self.version)
        self.dtypes = capabilities.dtypes(name, self.version)
        #: Whether the framework has an autograd: if not, plain formulas give a value alone.
        self.differentiates = capabilities.supports(name, capabilities.AUTOGRAD, self.version)

    # ------------------------------------------------------------------------------------------------ arrays
    def array(self, x: Array, dtype: str, strided: bool) -> Any:
        """An array of the framework; `strided`: a view that no framework holds in one piece, where there is one."""
        return _strided(x) if strided else np.array(x, order="C")

    def to_numpy(self, x: Any) -> Array:
        """Its values; those of bfloat16 in float32."""
        return np.asarray(x)

    def dtype_of(self, x: Any) -> str:
        """The dtype's name."""
        return str(x.dtype).rpartition(".")[2]

    # ------------------------------------------------------------------------------------------------ losses
    def losses(self, face: bool) -> Mapping[str, type]:
        """The losses' classes by name."""
        return unilossseg.LOSSES

    def build(self, name: str, parameters: Mapping[str, Any], face: bool = False) -> Any:
        """A loss; those in a MixedLoss are `[name, parameters]` pairs."""
        if ":" in name:
            return self._build_named(name, face)
        arguments = dict(parameters)
        if "losses" in arguments:
            arguments["losses"] = [self.build(inner, inside, face) for inner, inside in arguments["losses"]]
        return self.losses(face)[name](**arguments)

    def _build_named(self, spec: str, face: bool) -> Any:
        """A loss that is not of this package."""
        from unilossseg.conformance import thirdparty

        made = thirdparty.loss(spec)
        return thirdparty.face(made, self.losses(True)[f"{type(self).__name__}Loss"]) if face else made

    def run(self, request: Mapping[str, Any], arrays: Mapping[str, Array]) -> dict[str, Outcome]:
        """A case in every mode; what goes wrong in one is its outcome."""
        with _chunks_of(int(request.get("chunk", 0))):
            found = {mode: self._outcome(mode, request, arrays) for mode in self.modes}
        # float64 is held against an absolute bound alone.
        native = None if request["arrays"]["logits"] == "float64" else self.native(request, arrays)
        return found if native is None else {**found, NATIVE: native}

    def native(self, request: Mapping[str, Any], arrays: Mapping[str, Array]) -> Outcome | None:
        """What the framework's own functional gives; None where it has none with the same definition, or it fails."""
        functional = self.functional()
        if functional is None:
            return None
        dtype = str(request["arrays"]["logits"])
        native = natives.Native(
            functional,
            self.classes_first,
            # The dtypes that NumPy has not got are made from float32.
            lambda x: self.array(x.astype("float32" if dtype == "bfloat16" else dtype), dtype, strided=False),
            lambda x: self.array(x, "int64", strided=False),
        )
        started = time.perf_counter()
        try:
            name, loss = natives.functional_of(native, request["loss"], request["parameters"], arrays)
            if not name:
                return None
            tensors = {
                key: self.array(arrays[key], request["arrays"][key], strided=False)
                for key in ("logits", "upstream")
                if key in arrays
            }
            value, gradient = self.through_face(
                lambda logits, labels: loss(logits), tensors["logits"], None, None, tensors.get("upstream"), {}
            )
            return Outcome(
                self.to_numpy(value),
                self.dtype_of(value),
                self.to_numpy(gradient),
                self.dtype_of(gradient),
                time.perf_counter() - started,
                name=f"{functional.__name__}.{name}",
            )
        except Exception:
            # A functional need not know every dtype: Paddle's have no float16 on the CPU.
            return None

    def functional(self) -> Any:
        """The module of the framework's functionals, if it has one."""
        return None

    def _outcome(self, mode: str, request: Mapping[str, Any], arrays: Mapping[str, Array]) -> Outcome:
        started = time.perf_counter()
        try:
            value, gradient = self._compute(mode, request, arrays)
            value = self._stacked(value)
            return Outcome(
                self.to_numpy(value),
                self.dtype_of(value),
                None if gradient is None else self.to_numpy(gradient),
                "" if gradient is None else self.dtype_of(gradient),
                time.perf_counter() - started,
            )
        except Exception as error:
            message = f"{type(error).__name__}: {error}".strip()
            return Outcome(seconds=time.perf_counter() - started, error="\n".join((message, *_places(error))))

    def _compute(self, mode: str, request: Mapping[str, Any], arrays: Mapping[str, Array]) -> tuple[Any, Any]:
        strided = request["layout"] == "non_contiguous"
        inputs = {
            name: self.array(array, request["arrays"][name], strided and name in ("logits", "labels"))
            for name, array in arrays.items()
        }
        given = dict(inputs)
        found = self._called(mode, request, inputs)
        for name, array in given.items():
            if not np.array_equal(self.to_numpy(array), arrays[name], equal_nan=True):
                raise OverwrittenError(f"{name}, the caller's own, are not what they were before the call")
        return found

    def _called(self, mode: str, request: Mapping[str, Any], inputs: dict[str, Any]) -> tuple[Any, Any]:
        logits, labels, upstream = inputs.pop("logits"), inputs.pop("labels"), inputs.pop("upstream", None)
        # Losses of this package take them in a pair with the logits; to anybody else's they are an input like any other.
        edges = None if ":" in request["loss"] else inputs.pop("edge_logits", None)
        loss = self.build(request["loss"], request["parameters"], face=mode == FACE)
        if mode == FACE:
            return self.through_face(loss, logits, edges, labels, upstream, inputs)
        given = logits if edges is None else (logits, edges)
        if mode == CLOSED_FORM:
            return unilossseg.value_and_grad(loss)(given, labels, upstream=upstream, **inputs)
        with unilossseg.plain_formula():
            if self.differentiates:
                return unilossseg.value_and_grad(loss)(given, labels, upstream=upstream, **inputs)
            return loss(given, labels, **inputs), None

    def _stacked(self, value: Any) -> Any:
        """The list of a MixedLoss as one array."""
        return self.xp.stack(_flattened(value)) if isinstance(value, list) else value

    def through_face(
        self, loss: Any, logits: Any, edges: Any, labels: Any, upstream: Any, inputs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """The loss as the framework's users call it, and its own backward."""
        raise NotImplementedError(f"conformance/frameworks.py does not say how {self.name} differentiates a loss")

    # ------------------------------------------------------------------------------------------------ who it is
    def describe(self) -> dict[str, Any]:
        """What goes into the record: the framework that was really imported, its version, where it computed."""
        model = devices.model(self.name, self.module, self.device)
        return {
            "framework": self.module.__name__,
            "version": self.version,
            "distribution": self._distribution(),
            "file": modules.file(self.module),
            "revision": modules.revision(self.module),
            "device": self.device,
            **({"device_name": model} if model else {}),
            "threads": modules.threads(self.name, self.module),
            "modes": list(self.modes),
            "dtypes": list(self.dtypes),
            "differentiates": self.differentiates,
            "exceptions": [entry.as_json() for entry in self.exceptions],
        }

    def _distribution(self) -> str:
        return modules.distribution(self.name)


class Strict(Framework):
    """array-api-strict: the standard's dtypes alone."""

    def array(self, x: Array, dtype: str, strided: bool) -> Any:
        """Around the NumPy array, strides and all."""
        return self.xp.asarray(super().array(x, dtype, strided))


class Torch(Framework):
    """PyTorch."""

    def losses(self, face: bool) -> Mapping[str, type]:
        """Modules, as the face."""
        return vars(importlib.import_module("unilossseg.torch")) if face else unilossseg.LOSSES

    def array(self, x: Array, dtype: str, strided: bool) -> Any:
        """A tensor of its own memory on the device; a view is made there."""
        axis = strided_axis(x) if strided else None
        whole = np.array(x if axis is None else np.moveaxis(x, axis, 0), order="C")
        tensor = self.module.from_numpy(whole).to(self.device)
        if dtype == "bfloat16":
            tensor = tensor.to(self.module.bfloat16)
        return tensor if axis is None else _checked_view(tensor.movedim(0, axis))

    def to_numpy(self, x: Any) -> Array:
        """Detached, and copied from a device."""
        x = x.detach()
        return np.asarray((x.float() if x.dtype == self.module.bfloat16 else x).cpu().numpy())

    def through_face(
        self, loss: Any, logits: Any, edges: Any, labels: Any, upstream: Any, inputs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """A Module, `backward()`, `.grad`."""
        logits.requires_grad_(True)
        value = self._stacked(loss(logits if edges is None else (logits, edges), labels, **inputs))
        (value if upstream is None else value * upstream).sum().backward()
        return value, logits.grad

    def functional(self) -> Any:
        """torch.nn.functional."""
        return self.module.nn.functional


class Paddle(Framework):
    """PaddlePaddle, which computes where `set_device` says."""

    classes_first = MappingProxyType({"axis": 1})

    def losses(self, face: bool) -> Mapping[str, type]:
        """Layers, as the face."""
        return vars(importlib.import_module("unilossseg.paddle")) if face else unilossseg.LOSSES

    def array(self, x: Array, dtype: str, strided: bool) -> Any:
        """A tensor of its own memory."""
        axis = strided_axis(x) if strided else None
        tensor = self.module.to_tensor(np.array(x if axis is None else np.moveaxis(x, axis, 0), order="C"))
        if dtype == "bfloat16":
            tensor = tensor.astype("bfloat16")
        if axis is None:
            return tensor
        return _checked_view(tensor.transpose([*range(1, axis + 1), 0, *range(axis + 1, x.ndim)]))

    def to_numpy(self, x: Any) -> Array:
        """bfloat16 through float32."""
        return np.asarray((x.astype("float32") if x.dtype == self.module.bfloat16 else x).numpy())

    def through_face(
        self, loss: Any, logits: Any, edges: Any, labels: Any, upstream: Any, inputs: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """A Layer, `backward()`, `.grad`."""
        logits.stop_gradient = False
        value = self._stacked(loss(logits if edges is None else (logits, edges), labels, **inputs))
        (value if upstream is None else value * upstream).sum().backward()
        return value, logits.grad

    def functional(self) -> Any:
        """paddle.nn.functional."""
        return self.module.nn.functional


FRAMEWORKS: dict[str, type[Framework]] = {"numpy": Framework, "strict": Strict, "torch": Torch, "paddle": Paddle}


def framework_of(name: str, device: str = devices.CPU) -> Framework:
    """The framework of a backend's name on a device, or of somebody else's `package.module:BACKEND`.

    Raises RecordError where the framework cannot use the device.
    """
    if ":" not in name:
        return FRAMEWORKS[name](name, device)
    from unilossseg.conformance.thirdparty import ThirdParty

    return ThirdParty(name)


@contextlib.contextmanager
def _chunks_of(elements: int) -> Iterator[None]:
    """Inside it, closed forms work on so few elements of the logits at once; 0 changes nothing."""
    right = _threads.CHUNK_ELEMENTS, _backend.LARGE_CHUNK
    if elements:
        _threads.CHUNK_ELEMENTS = _backend.LARGE_CHUNK = elements
    try:
        yield
    finally:
        _threads.CHUNK_ELEMENTS, _backend.LARGE_CHUNK = right


def _strided(x: Array) -> Array:
    """The same numbers in the last place of a wider array, the first axis innermost: steps of two, and no row whole."""
    if x.ndim == 0:
        return x
    wide = np.zeros((*x.shape[1:], 2 * x.shape[0]), dtype=x.dtype)
    wide[..., ::2] = np.moveaxis(x, 0, -1)
    return np.moveaxis(wide[..., ::2], -1, 0)


def _checked_view(tensor: Any) -> Any:
    """The tensor; a framework that quietly copied it would not be tried with strides at all."""
    if tensor.is_contiguous():
        raise RuntimeError(f"a tensor of shape {tuple(tensor.shape)} should be a strided view and is contiguous")
    return tensor


def _flattened(values: Sequence[Any]) -> list[Any]:
    return [leaf for value in values for leaf in (_flattened(value) if isinstance(value, list) else [value])]


def _places(error: BaseException) -> list[str]:
    """The last places in this package that an error came through, by module: files' paths differ from machine to machine."""
    frames = [(frame.f_globals.get("__name__", ""), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    ours = [f"at {name}, line {line}" for name, line in frames if name.startswith("unilossseg.") and name != __name__]
    return ours[-3:]
