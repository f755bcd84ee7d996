"""Faces against the published contract and against the core dataclasses."""

from __future__ import annotations

import ast
import copy
import inspect
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from checks.cases import (
    BCE,
    BOOT,
    CE,
    DICE,
    DUAL,
    EDGE,
    HINGE,
    IGNORED,
    L1,
    LOVASZ,
    MIXED,
    MSE,
    OHEM,
    OHEM_EDGE,
    PLAIN_ROWS,
    RELAX,
    ROWS,
    WEIGHT,
    batch_for,
    named,
)
from checks.compare import assert_close, reference_of

import unilossseg

DOCUMENT = Path(__file__).parents[2] / "golden" / "losses_reference.md"
EMPTY = inspect.Parameter.empty
every_loss = pytest.mark.parametrize("name", list(unilossseg.LOSSES))


def documented():
    """Arguments and defaults of each class, from the code blocks of the contract."""
    found = {}
    for block in re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL):
        name, arguments = re.fullmatch(r"class paddleseg\.models\.losses\.(\w+)\((.*)\)\s*", block, re.DOTALL).groups()
        spec = ast.parse(f"def f({arguments}): pass").body[0].args
        missing = [EMPTY] * (len(spec.args) - len(spec.defaults))
        defaults = [*missing, *(ast.literal_eval(default) for default in spec.defaults)]
        found[name] = [(arg.arg, default) for arg, default in zip(spec.args, defaults, strict=True)]
    return found


CONTRACT = documented()


def parameters_of(cls):
    return list(inspect.signature(cls).parameters.values())


def test_the_contract_names_the_losses():
    assert set(CONTRACT) == set(unilossseg.LOSSES)
    assert CONTRACT["BCELoss"] == [("weight", None), ("pos_weight", None), ("ignore_index", 255), ("edge_label", False)]
    assert CONTRACT["MixedLoss"] == [("losses", EMPTY), ("coef", EMPTY)]


@every_loss
def test_arguments_and_defaults_are_the_contract(driver, name):
    parameters = parameters_of(getattr(driver.losses, name))
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [(p.name, p.default) for p in positional] == CONTRACT[name]
    assert [type(p.default) for p in positional] == [type(default) for _, default in CONTRACT[name]]
    further = [p for p in parameters if p not in positional]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not EMPTY for p in further)


@every_loss
def test_a_face_has_the_signature_and_the_documentation_of_the_core(driver, name):
    face, core = getattr(driver.losses, name), unilossseg.LOSSES[name]
    assert inspect.signature(face) == inspect.signature(core)
    assert face.__doc__ == core.__doc__
    assert face.__name__ == name
    assert issubclass(face, core)


@pytest.mark.parametrize("row", ROWS, ids=named)
def test_copies_and_pickles_give_the_same_value(driver, row):
    loss = driver.make(*row)
    batch = batch_for(row[0])
    value = driver.value(loss, batch)
    for twin in (copy.deepcopy(loss), copy.copy(loss), pickle.loads(pickle.dumps(loss))):  # noqa: S301  our own bytes
        assert type(twin) is type(loss)
        assert repr(twin) == repr(loss)
        np.testing.assert_array_equal(driver.value(twin, batch), value)


@every_loss
def test_repr_shows_every_parameter(driver, name):
    options = {BOOT: {"min_K": 7, "loss_th": 0.5}, MIXED: {"losses": [(CE, {})], "coef": 0.25}}.get(name, {})
    loss = driver.make(name, options)
    text = repr(loss)
    assert text.startswith(f"{name}(")
    shown = [p.name for p in parameters_of(type(loss)) if p.name != "validate"]
    assert all(f"{parameter}=" in text for parameter in shown)


@pytest.mark.parametrize("kind", ["list", "tuple", "ndarray", "float32", "own", "own bfloat16"])
@pytest.mark.parametrize(("name", "options"), [(CE, {}), (BOOT, {"min_K": 3, "loss_th": 0.1}), (DICE, {})])
def test_class_weights_come_as_any_sequence_or_array(driver, name, options, kind):
    if kind == "own bfloat16" and not driver.autograd:
        pytest.skip("NumPy has no bfloat16")
    given = {
        "list": list(WEIGHT),
        "tuple": tuple(WEIGHT),
        "ndarray": np.array(WEIGHT),
        "float32": np.array(WEIGHT, np.float32),
        "own": driver.array(np.array(WEIGHT)),
        "own bfloat16": driver.array(np.array(WEIGHT), *["bfloat16"] * driver.autograd),
    }[kind]
    loss = driver.make(name, {**options, "weight": given})
    assert loss.weight == tuple(WEIGHT)
    batch = batch_for(name)
    exact, _ = reference_of(name, {**options, "weight": WEIGHT}, batch)
    assert_close(driver.value(loss, batch), exact, 1e-12)


@pytest.mark.parametrize("kind", ["list", "ndarray", "own"])
@pytest.mark.parametrize(
    ("name", "options"), [(CE, {}), (BOOT, {"min_K": 3, "loss_th": 0.1}), (DICE, {}), (OHEM, {"min_kept": 2}), (BCE, {})]
)
def test_weights_that_are_set_later_count_as_if_given(driver, name, options, kind):
    batch, loss = batch_for(name), driver.make(name, options)
    numbers = WEIGHT if name != BCE else (0.5, 2.0, 1.5)[: len(batch.logits)]
    given = {"list": list, "ndarray": np.array, "own": lambda x: driver.array(np.array(x))}[kind](numbers)
    driver.value(loss, batch)
    loss.weight = given
    exact, _ = reference_of(name, {**options, "weight": numbers}, batch)
    assert_close(driver.value(loss, batch), exact, 1e-12)
    assert loss.weight == tuple(numbers)
    with pytest.raises(ValueError, match=r"weight\[0\] must be"):
        loss.weight = [-1.0]
    assert loss.weight == tuple(numbers)


def test_classes_that_are_set_later_count_as_if_given(driver):
    batch = batch_for(LOVASZ)
    loss = driver.make(LOVASZ, {})
    for classes in ("all", [1, 2], (0,), "present"):
        loss.classes = classes
        exact, _ = reference_of(LOVASZ, {"classes": classes}, batch)
        assert_close(driver.value(loss, batch), exact, 1e-12)
    for given in (np.array([1, 2]), driver.array(np.array([1, 2]))):
        loss.classes = given
        assert loss.classes == (1, 2)
    loss.classes = [7]
    with pytest.raises(ValueError, match="classes name 7 and logits have"):
        driver.value(loss, batch)
    with pytest.raises(ValueError, match="classes must be 'present', 'all' or a list of class numbers"):
        loss.classes = "none"
    assert loss.classes == (7,)


#: What a loss without defaults needs.
NEEDED = {BOOT: {"min_K": 3, "loss_th": 0.1}, MIXED: {"losses": [(CE, {})], "coef": 1.0}}


@every_loss
def test_every_parameter_that_is_set_later_is_checked(driver, name):
    loss = driver.make(name, NEEDED.get(name, {}))
    before, value = repr(loss), object()
    for parameter in parameters_of(type(loss)):
        # These two belong together, and a call looks at them.
        if parameter.name not in ("losses", "coef"):
            with pytest.raises(TypeError, match=f"^{name}: {parameter.name} must be .* .got .*object"):
                setattr(loss, parameter.name, value)
    assert repr(loss) == before


@pytest.mark.parametrize(
    ("name", "parameter", "value"),
    [
        (CE, "ignore_index", 1.5),
        (CE, "validate", "yes"),
        (CE, "top_k_percent_pixels", 2.0),
        (CE, "data_format", "nhwc"),
        (BOOT, "min_K", -3),
        (BOOT, "loss_th", float("nan")),
        (OHEM, "min_kept", 2.5),
        (OHEM_EDGE, "thresh", "0.7"),
        (EDGE, "edge_threshold", None),
        (DICE, "smooth", "1"),
        (HINGE, "variant", "fixed"),
        (BCE, "pos_weight", -1),
        (BCE, "edge_label", 1),
        (L1, "reduction", "Mean"),
        (MSE, "variant", "Corrected"),
        (RELAX, "border", -1),
        (RELAX, "upper_bound", -0.5),
        (DUAL, "tau", 0),
        (MIXED, "reduction", "List"),
    ],
)
def test_what_is_refused_in_the_constructor_is_refused_later(driver, name, parameter, value):
    needed = NEEDED.get(name, {})
    loss = driver.make(name, needed)
    before = repr(loss)
    with pytest.raises((ValueError, TypeError), match=f"^{name}: {parameter} must be") as given:
        driver.make(name, {**needed, parameter: value})
    with pytest.raises(given.type, match=f"^{re.escape(str(given.value))}$"):
        setattr(loss, parameter, value)
    assert repr(loss) == before


def test_numbers_that_are_set_later_are_kept_as_those_given(driver):
    loss = driver.make(OHEM, {})
    loss.thresh, loss.min_kept, loss.ignore_index = np.float32(0.5), np.int64(10), np.uint8(7)
    assert [type(x) for x in (loss.thresh, loss.min_kept, loss.ignore_index)] == [float, int, int]
    assert repr(loss) == repr(driver.make(OHEM, {"thresh": 0.5, "min_kept": 10, "ignore_index": 7}))


def test_coefficients_that_are_set_later_count_as_if_given(driver):
    parts, batch = [(CE, {}), (DICE, {"smooth": 1.0})], batch_for(CE)
    loss = driver.make(MIXED, {"losses": parts, "coef": [0.5, 3]})
    exact = [float(reference_of(*part, batch)[0]) for part in parts]
    loss.coef = 0.25
    assert_close([float(value) for value in driver.value(loss, batch)], [0.25 * value for value in exact], 1e-12)
    loss.coef = [1.0]
    with pytest.raises(ValueError, match="coef has 1 entries and losses 2"):
        driver.value(loss, batch)


def test_integer_class_weights_work(driver):
    loss = driver.make(CE, {"weight": np.array([1, 2, 3])})
    exact, _ = reference_of(CE, {"weight": [1, 2, 3]}, batch_for(CE))
    assert_close(driver.value(loss, batch_for(CE)), exact, 1e-12)


# ---- MixedLoss


def test_mixed_loss_is_a_list_of_weighted_losses(driver):
    parts = [(CE, {}), (DICE, {"smooth": 1.0})]
    batch = batch_for(CE)
    loss = driver.make(MIXED, {"losses": parts, "coef": [0.5, 3]})
    exact = [float(reference_of(*part, batch)[0]) for part in parts]
    result = driver.call(loss, *driver.inputs(batch, "float64"))
    assert isinstance(result, list)
    assert_close(driver.numpy(result), [0.5 * exact[0], 3 * exact[1]], 1e-12)


def test_mixed_loss_sums(driver):
    parts = [(CE, {}), (LOVASZ, {})]
    batch = batch_for(CE)
    loss = driver.make(MIXED, {"losses": parts, "coef": 2, "reduction": "sum"})
    exact, slope = reference_of(MIXED, {"losses": parts, "coef": 2, "reduction": "sum"}, batch)
    value, gradient = driver.value_and_gradient(loss, batch)
    assert value.shape == ()
    assert_close(value, exact, 1e-12)
    assert_close(gradient, slope, 1e-10)


@pytest.mark.parametrize("inner", ["list", "sum"])
def test_mixed_losses_nest(driver, inner):
    parts = [(MIXED, {"losses": [(CE, {}), (DICE, {})], "coef": [1, 2], "reduction": inner}), (LOVASZ, {})]
    batch = batch_for(CE)
    ce, dice, lovasz = (float(reference_of(name, {}, batch)[0]) for name in (CE, DICE, LOVASZ))
    listed = driver.call(driver.make(MIXED, {"losses": parts, "coef": [10, 1]}), *driver.inputs(batch, "float64"))
    first = driver.numpy(listed[0])
    assert_close(first, [10 * ce, 20 * dice] if inner == "list" else 10 * (ce + 2 * dice), 1e-12)
    assert_close(driver.numpy(listed[1]), lovasz, 1e-12)
    summed = driver.make(MIXED, {"losses": parts, "coef": [10, 1], "reduction": "sum"})
    value, gradient = driver.value_and_gradient(summed, batch)
    assert_close(value, 10 * (ce + 2 * dice) + lovasz, 1e-12)
    slopes = [reference_of(name, {}, batch)[1] for name in (CE, DICE, LOVASZ)]
    assert_close(gradient, 10 * (slopes[0] + 2 * slopes[1]) + slopes[2], 1e-10)


def test_mixed_loss_passes_inputs_to_those_that_take_them(driver):
    batch = batch_for("DualTaskLoss")
    loss = driver.make(MIXED, {"losses": [("DualTaskLoss", {}), (DICE, {})], "coef": 1})
    exact = [float(reference_of(name, {}, batch)[0]) for name in ("DualTaskLoss",)]
    dice, _ = reference_of(DICE, {}, batch.changed(further={}))
    assert_close(driver.value(loss, batch), [*exact, float(dice)], 1e-12)


def test_mixed_loss_of_edge_losses(driver):
    batch = batch_for(EDGE)
    loss = driver.make(MIXED, {"losses": [(EDGE, {}), ("OhemEdgeAttentionLoss", {})], "coef": 1})
    exact = [float(reference_of(name, {}, batch)[0]) for name in (EDGE, "OhemEdgeAttentionLoss")]
    assert_close(driver.value(loss, batch), exact, 1e-12)


def test_mixed_loss_takes_any_callable(driver):
    batch = batch_for(CE)
    logits, labels, _ = driver.inputs(batch, "float64")
    loss = driver.losses.MixedLoss([lambda z, y: (z * z)[0, 0, 0, 0], driver.losses.CrossEntropyLoss()], coef=[2.0, 1.0])
    values = driver.numpy(loss(logits, labels))
    assert_close(values, [2 * batch.logits[0, 0, 0, 0] ** 2, float(reference_of(CE, {}, batch)[0])], 1e-12)


# ---- configurations


def test_build_makes_the_losses_of_a_configuration(driver):
    config = {
        "types": [
            {"type": MIXED, "losses": [{"type": CE}, {"type": LOVASZ, "classes": "all"}], "coef": [0.8, 0.2]},
            {"type": "OhemCrossEntropyLoss", "min_kept": 10},
        ],
        "coef": [1, 0.4],
    }
    built = unilossseg.build({"loss": config}, backend=driver.name if driver.autograd else None)
    assert built["coef"] == [1, 0.4]
    first, second = built["types"]
    assert type(first) is driver.losses.MixedLoss
    assert [type(loss) for loss in first.losses] == [driver.losses.CrossEntropyLoss, driver.losses.LovaszSoftmaxLoss]
    assert second.min_kept == 10
    batch = batch_for(CE)
    assert_close(
        driver.value(first, batch),
        [
            0.8 * float(reference_of(CE, {}, batch)[0]),
            0.2 * float(reference_of(LOVASZ, {"classes": "all"}, batch)[0]),
        ],
        1e-12,
    )


def test_build_uses_one_type_for_every_output(driver):
    config = {"types": [{"type": CE}], "coef": [1, 0.4, 0.4]}
    built = unilossseg.build(config, backend=driver.name if driver.autograd else None)
    assert [type(loss) for loss in built["types"]] == [driver.losses.CrossEntropyLoss] * 3


@pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
def test_calls_by_keyword(driver, row):
    name, options = row
    batch = batch_for(name)
    logits, labels, further = driver.inputs(batch, "float64")
    edge = further.pop("edge_logits", None)
    loss = driver.make(name, options)
    exact, _ = reference_of(name, options, batch)
    value = loss(logits=logits if edge is None else (logits, edge), labels=labels, **further)
    assert_close(driver.numpy(value), exact, 1e-12)


def test_edge_losses_take_a_list_as_well(driver):
    batch = batch_for(EDGE)
    logits, labels, further = driver.inputs(batch, "float64")
    value = driver.make(EDGE, {})([logits, further["edge_logits"]], labels)
    assert_close(driver.numpy(value), reference_of(EDGE, {}, batch)[0], 1e-12)
    assert IGNORED in batch.labels
