"""A namespace of the standard's functions and nothing else is a backend: every loss computes on it."""

import types

import array_api_strict
import numpy as np
import pytest
from checks.cases import DUAL, HINGE, ROWS, batch_for, batch_of_row, named
from checks.compare import assert_close, reference_of
from checks.drivers import ArrayDriver

import unilossseg
from unilossseg.backends import Backend, _registry, backend_of, get_backend, installed_backends, register, unregister

ToyArray = type(array_api_strict.asarray(0))


@pytest.fixture
def toy(monkeypatch):
    """The functions of array-api-strict, without the module and its adapter, as a backend of their own."""
    for table in ("_backends", "_by_type"):
        monkeypatch.setattr(_registry, table, dict(getattr(_registry, table)))
    used = set()

    class Namespace(types.SimpleNamespace):
        def __getattribute__(self, name):
            used.add(name)
            return super().__getattribute__(name)

    names = [name for name in array_api_strict.__all__ if not name.startswith("_")]
    namespace = Namespace(**{name: getattr(array_api_strict, name) for name in names})
    backend = register(Backend("toy", namespace), ToyArray)
    backend.used = used
    return backend


def value_of(row, batch):
    driver = ArrayDriver("strict")  # it makes the arrays; the registry decides whose they are
    return driver.value(driver.make(*row), batch)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_every_loss_computes(toy, row):
    batch = batch_of_row(row, seed=11)
    exact, _ = reference_of(*row, batch)
    assert_close(value_of(row, batch), exact, 1e-12)
    assert backend_of(array_api_strict.asarray(1.0)) is toy
    assert toy.used


def test_every_loss_computes_on_a_registered_backend_that_can_be_written_to(toy):
    class Assignable(Backend):
        assignable = True

    register(Assignable("toy", toy.xp), ToyArray)
    driver = ArrayDriver("strict")
    for row in ROWS:
        batch = batch_of_row(row, seed=12)
        exact_value, exact = reference_of(*row, batch)
        value, gradient = driver.value_and_gradient(driver.make(*row), batch)
        assert_close(value, exact_value, 1e-12)
        assert_close(gradient, exact, 1e-10)


def test_an_autograd_without_a_custom_gradient_follows_the_formula(toy):
    """A closed form writes into its arrays, which the autograd of a namespace that does not know it cannot follow."""
    followed = []

    class Followed(Backend):
        assignable = differentiable = True

        def value_and_grad(self, function, x, upstream):
            return function(x), x

    class Squares(unilossseg.Loss):
        class_labels = False

        def check_labels(self, backend, logits, labels):
            return labels

        def compute(self, ops, logits, labels):
            followed.append("formula")
            return ops.xp.mean((logits - labels) ** 2)

        def closed_form(self, ops, logits, labels, *, gradient, upstream):
            followed.append("closed form")
            return ops.xp.mean((logits - labels) ** 2), None

    register(Followed("toy", toy.xp), ToyArray)
    z = array_api_strict.ones((1, 2, 3), dtype=array_api_strict.float64)
    assert float(Squares()(z, 3 * z)) == 4
    assert float(unilossseg.value_and_grad(Squares())(z, 3 * z)[0]) == 4
    assert followed == ["formula"] * 2


def test_a_label_out_of_range_is_nan_where_nobody_can_read(toy):
    batch = batch_for("DiceLoss")
    batch.labels[0, 0, 0] = 9
    assert np.isnan(value_of(("DiceLoss", {}), batch))


def test_what_a_namespace_alone_cannot_do_says_so(toy):
    batch = batch_for("DiceLoss")
    driver = ArrayDriver("strict")
    with pytest.raises(TypeError, match=r"^DiceLoss: the toy backend has no autograd"):
        driver.value_and_gradient(driver.make("DiceLoss", {}), batch)
    with pytest.raises(TypeError, match=r"the toy backend has no random generator"):
        value_of((DUAL, {}), batch_for(DUAL).changed(further={}))
    with pytest.raises(TypeError, match="the toy backend has no autograd"):
        toy.value_and_grad(lambda x: x, array_api_strict.asarray(1.0), None)


def test_a_backend_is_found_by_name_until_it_is_unregistered(toy):
    assert get_backend("toy") is toy
    assert repr(toy) == "<backend toy>"
    unregister("toy")
    with pytest.raises(ValueError, match=r"backend must be one of .*got 'toy'"):
        get_backend("toy")
    assert backend_of(array_api_strict.asarray(1.0)).name == "strict"


def test_an_unknown_array_with_a_namespace_brings_its_backend():
    namespace = types.SimpleNamespace(__name__="elsewhere")

    class Elsewhere:
        def __array_namespace__(self):
            return namespace

    found = backend_of(Elsewhere())
    assert (found.name, found.xp) == ("elsewhere", namespace)
    assert backend_of(Elsewhere()) is found


def arrays_of(namespace):
    """Arrays of two types: what has values, and what stands for some in a trace and has no device."""

    class Elsewhere:
        device = "here"

        def __array_namespace__(self):
            return namespace

    class Tracer:
        device = None
        __array_namespace__ = Elsewhere.__array_namespace__

    return Elsewhere(), Tracer()


def test_two_types_of_arrays_of_one_namespace_have_one_backend(toy):
    values, traced = arrays_of(types.SimpleNamespace(__name__="elsewhere"))
    assert backend_of(values) is backend_of(traced)
    mine = Backend("mine", types.SimpleNamespace(__name__="elsewhere"))
    values, traced = arrays_of(mine.xp)
    register(mine, type(values))
    assert backend_of(traced) is mine


def test_an_array_without_a_device_is_where_the_others_are(toy):
    values, traced = arrays_of(types.SimpleNamespace(__name__="elsewhere"))
    backend = backend_of(values)
    assert backend.are_together(values, traced)
    assert backend.are_together(traced, values)
    elsewhere, _ = arrays_of(backend.xp)
    elsewhere.device = "there"
    assert not backend.are_together(values, elsewhere)


def test_a_known_framework_s_arrays_may_be_of_another_module(toy, monkeypatch):
    """Those of JAX are of jaxlib."""
    monkeypatch.setitem(_registry._BY_MODULE, "framework", "toy")
    values, _ = arrays_of(types.SimpleNamespace(__name__="framework.numpy"))
    assert backend_of(values) is toy


def test_a_subclass_of_a_known_array_has_its_backend():
    class Image(np.ndarray):
        pass

    logits = np.zeros((1, 2, 3)).view(Image)
    assert backend_of(logits) is get_backend("numpy")
    assert float(unilossseg.CrossEntropyLoss()(logits, np.zeros((1, 3), int))) == pytest.approx(np.log(2))


def test_installed_backends_are_known_without_importing_them():
    assert {"numpy", "strict"} <= set(installed_backends())


def test_the_hinge_of_two_channels_runs_in_the_standard_alone(toy):
    batch = batch_for(HINGE, channels=1)
    assert_close(value_of((HINGE, {}), batch), reference_of(HINGE, {}, batch)[0], 1e-12)
