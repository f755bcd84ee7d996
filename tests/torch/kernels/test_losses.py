"""Every loss by its closed form on the kernels, against the float64 reference."""

import numpy as np
import pytest
import torch
from checks.autograd import check_value_changed_in_place
from checks.cases import (
    BCE,
    CE,
    CLASS_ROWS,
    CORRECTED,
    DICE,
    HINGE,
    L1,
    LOVASZ,
    MIXED,
    MSE,
    PLAIN_ROWS,
    ROWS,
    batch_for,
    batch_of_row,
    named,
)
from checks.compare import assert_close, reference_of, scale_of
from checks.host_reads import check_two_steps
from checks.kernels import DEVICE, EPS, KERNELS, LEAST, STEP
from checks.own_loss import CodedLoss
from checks.rare_labels import WEIGHTS, check_rare, rare_batch
from checks.torch_driver import TorchDriver
from checks.torch_host_reads import no_host  # noqa: F401  a fixture

from unilossseg.backends import _torch_triton, _torch_triton_order

every_loss = pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
every_class_loss = pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
halves = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
#: A multiple of nothing, and more than one block of the kernels that losses of three channels launch.
ODD = (19, 31)


@pytest.fixture
def launched(accelerator, monkeypatch):
    """The names of the kernels that were launched."""
    names, original = [], _torch_triton.launch

    def launch(kernel, *arguments, **options):
        names.append(kernel.fn.__name__)
        original(kernel, *arguments, **options)

    for module in (_torch_triton, _torch_triton_order):
        monkeypatch.setattr(module, "launch", launch)
    return names


def rounded(driver, batch, dtype):
    """The batch as its arrays of that type have it."""
    logits, labels, further = driver.inputs(batch, dtype)
    numbers = {name: driver.numpy(x).astype(np.float64) for name, x in further.items()}
    return batch.changed(logits=driver.numpy(logits).astype(np.float64), labels=driver.numpy(labels), further=numbers)


def check(driver, row, batch, dtype):
    """Value and gradient of a call."""
    value, gradient = driver.value_and_gradient(driver.make(*row), batch, dtype)
    exact_value, exact = reference_of(*row, rounded(driver, batch, dtype))
    assert_close(value, exact_value, 1e-5)
    # Which of two near-equal errors comes first may differ from float64: the norm bears that, a single entry would not.
    assert np.linalg.norm(gradient - exact) <= (1e-3 + STEP[dtype]) * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("row", "dtype"),
    [(row, "float32") for row in ROWS] + [(row, "bfloat16") for row in ROWS if row[1].get("variant") != "corrected"],
    ids=lambda given: given if isinstance(given, str) else named(given),
)
def test_value_and_gradient(driver, accelerator, launched, row, dtype):
    batch = batch_of_row(row, seed=7)
    value, gradient = driver.value_and_gradient(driver.make(*row), batch, dtype)
    exact_value, exact = reference_of(*row, rounded(driver, batch, dtype))
    assert_close(value, exact_value, 1e-5)
    # A mixed loss's gradient is a sum of two that are each rounded.
    roundings = 3 if row[0] == MIXED else 1
    atol = LEAST[dtype] + 64 * EPS * scale_of(exact)
    np.testing.assert_allclose(gradient, exact, rtol=1e-4 + roundings * STEP[dtype], atol=atol)
    assert accelerator == []
    # Single values are not summed up by any kernel.
    assert launched or row[1].get("reduction") == "none"


@every_loss
@halves
def test_many_pixels(driver, accelerator, row, dtype):
    check(driver, row, batch_for(row[0], shape=ODD, seed=8), dtype)


@pytest.mark.parametrize("row", [row for row in ROWS if row[0] == BCE and "0.5" not in str(row)], ids=named)
@pytest.mark.parametrize("labels", ["one channel", "numbers", "flags"])
@halves
def test_a_label_for_each_logit(driver, accelerator, launched, row, labels, dtype):
    """The losses of single elements have a kernel of their own."""
    batch = batch_for(BCE, shape=(7, 9), seed=6, channels=1 if labels == "one channel" else 3)
    if labels != "one channel":
        rng = np.random.default_rng(6)
        numbers = rng.integers(0, 2, size=batch.logits.shape)
        batch = batch.changed(labels=numbers.astype(bool) if labels == "flags" else numbers)
    check(driver, row, batch, dtype)
    assert "binary_cross_entropy" in launched


@pytest.mark.parametrize("options", WEIGHTS, ids=str)
def test_a_rare_label(driver, accelerator, launched, options):
    check_rare(driver, options, rare_batch(0, 1, side=50), "float32")
    assert "binary_cross_entropy" in launched


@pytest.mark.parametrize("name", [HINGE, LOVASZ])
def test_one_channel(driver, accelerator, name):
    check(driver, (name, CORRECTED), batch_for(name, shape=ODD, channels=1), "float32")


@pytest.mark.parametrize("name", [CE, DICE, LOVASZ, BCE])
@pytest.mark.parametrize(("channels", "dtype"), [(19, "float16"), (150, "bfloat16")])
def test_many_classes(driver, accelerator, name, dtype, channels):
    row = next(row for row in PLAIN_ROWS if row[0] == name)
    check(driver, row, batch_for(name, shape=(3, 7), seed=9, channels=channels), dtype)


@pytest.mark.parametrize("row", [row for row in PLAIN_ROWS if row[0] in (CE, DICE, LOVASZ, HINGE, BCE, L1, MSE)], ids=named)
@pytest.mark.parametrize("layout", ["channels last", "turned", "part"])
def test_strided_logits(driver, accelerator, row, layout):
    batch = batch_for(row[0], shape=(9, 13), seed=5)
    x, labels, further = driver.inputs(batch, "float32")
    if layout == "turned":
        x = driver.turned(batch.logits, "float32")
    elif layout == "part":
        x = torch.nn.functional.pad(x, (3, 4), value=torch.nan)[..., 3:-4]
    else:
        x = x.to(memory_format=torch.channels_last)
    assert not x.is_contiguous()
    leaf = x.detach().requires_grad_(True)
    value = driver.call(driver.make(*row), leaf, labels, further)
    value.backward()
    exact_value, exact = reference_of(*row, batch)
    assert_close(driver.numpy(value), exact_value, 1e-5)
    assert np.linalg.norm(driver.gradient(leaf) - exact) <= 1e-3 * np.linalg.norm(exact)


@every_loss
@pytest.mark.parametrize(("factor", "dtype"), [(1024.0, "float32"), (1024.0, "float16"), (0.0, "bfloat16")])
def test_a_factor_before_the_backward_pass(driver, accelerator, row, dtype, factor):
    batch = batch_of_row(row, seed=3)
    exact = factor * reference_of(*row, rounded(driver, batch, dtype))[1]
    _, labels, further = driver.inputs(batch, dtype)
    leaf = driver.leaf(batch.logits, dtype)
    value = driver.call(driver.make(*row), leaf, labels, further)
    (sum(value) * factor if isinstance(value, list) else value * factor).backward()
    roundings = 3 if row[0] == MIXED else 1
    atol = roundings * LEAST[dtype] + 64 * EPS * scale_of(exact)
    np.testing.assert_allclose(driver.gradient(leaf), exact, rtol=1e-4 + roundings * STEP[dtype], atol=atol)
    assert accelerator == []


@pytest.mark.parametrize("row", ROWS, ids=named)
@halves
def test_a_value_may_be_changed_in_place(driver, accelerator, row, dtype):
    check_value_changed_in_place(driver, row, dtype)


@every_loss
def test_a_value_may_be_detached_in_place(driver, accelerator, row):
    leaf, labels, further = driver.inputs(batch_of_row(row), "float32")
    value = driver.call(driver.make(*row), leaf.requires_grad_(True), labels, further)
    assert value.requires_grad
    value.detach_()
    assert not value.requires_grad


@every_loss
@halves
def test_signs_that_torch_has_only_noted(driver, accelerator, row, dtype):
    """They are not in the memory that kernels read: of the inputs, and of the upstream gradient."""
    batch = batch_of_row(row, seed=3)
    logits, labels, further = driver.inputs(batch, dtype)
    upstream = torch.full((), 0.5, device=DEVICE)

    def noted(x):
        return torch._neg_view(-x) if x.is_floating_point() else x

    wanted = driver.backward(driver.make(*row), logits, labels, upstream, further)
    given = noted(logits), noted(labels), noted(upstream), {name: noted(x) for name, x in further.items()}
    found = driver.backward(driver.make(*row), *given)
    assert given[0].is_neg()
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(driver.numpy(one), driver.numpy(other))


@every_class_loss
@pytest.mark.parametrize(("number", "dtype"), [(-1, "float32"), (3, "bfloat16"), (2**33, "float32")])
def test_a_label_out_of_range_makes_value_and_gradient_nan(driver, accelerator, row, dtype, number):
    batch = batch_for(row[0], ignored=0.1)
    batch.labels[1, 3, 2] = number
    value, gradient = driver.value_and_gradient(driver.make(*row), batch, dtype)
    assert np.all(np.isnan(value))
    assert np.all(np.isnan(gradient))
    assert accelerator == []


@every_class_loss
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32"])
def test_narrow_labels(driver, accelerator, row, dtype):
    batch = batch_for(row[0], ignored=0.0)
    good = batch.changed(labels=batch.labels.astype(dtype))
    assert_close(driver.value_and_gradient(driver.make(*row), good, "float32")[0], reference_of(*row, good)[0], 1e-5)
    batch.labels[0, 0, 0] = 100
    bad = batch.changed(labels=batch.labels.astype(dtype))
    assert np.all(np.isnan(driver.value_and_gradient(driver.make(*row), bad, "float32")[0]))


@pytest.mark.parametrize("name", [CE, DICE, LOVASZ, BCE, L1])
@pytest.mark.parametrize("ignored", [-1, 0, 40_000, 2**40])
def test_other_numbers_for_ignored_pixels(driver, accelerator, name, ignored):
    batch = batch_for(name, ignore_index=ignored)
    row = (name, {"ignore_index": ignored})
    if name == L1 and ignored == 2**40:
        batch.labels[batch.labels == ignored] = 0.5
    check(driver, row, batch, "float32")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "int32", "int64"])
def test_a_loss_of_ones_own_gets_wide_labels(driver, accelerator, dtype):
    """Narrow ones are for the kernels."""
    batch = batch_for(CE, ignored=0.0)
    batch = batch.changed(labels=batch.labels % 2 if dtype == "bool" else batch.labels)
    logits, labels, _ = driver.inputs(batch.changed(labels=batch.labels.astype(dtype)), "float32")
    value, gradient = driver.backward(CodedLoss(), logits, labels, None, {})
    exact_value, exact = CodedLoss.exact(batch)
    assert_close(driver.numpy(value), exact_value, 1e-5)
    assert_close(driver.numpy(gradient), exact, 1e-5)


def soft_labels(driver, of_logits):
    """Value and gradients of a call whose labels, up to both ends of their range, want one."""
    rng = np.random.default_rng(6)
    logits, numbers = rng.normal(size=(2, 3, 4, 5)), rng.uniform(size=(2, 3, 4, 5))
    numbers[0, 0, 0, :2] = 0, 1
    x, labels = driver.array(logits, "float32").requires_grad_(of_logits), driver.leaf(numbers, "float32")
    with pytest.warns(UserWarning, match="^BCELoss: labels, pixel weights or the loss's own parameters want a gradient"):
        value = driver.make(BCE, {})(x, labels)
    value.backward()
    return [driver.numpy(found) for found in (value, labels.grad, *[x.grad] * of_logits)]


@pytest.mark.parametrize("of_logits", [False, True])
def test_labels_that_want_a_gradient_get_that_of_the_formula(driver, request, of_logits):
    wanted = soft_labels(TorchDriver(), of_logits)
    request.getfixturevalue("accelerator")
    for found, exact in zip(soft_labels(driver, of_logits), wanted, strict=True):
        assert np.any(exact)
        assert_close(found, exact, 1e-6)


def test_labels_out_of_range_that_want_a_gradient_make_the_value_nan(driver, accelerator):
    labels = driver.leaf(np.array([[[0.5, 1.5]]]), "float32")
    with driver.plain():
        value = driver.make(BCE, {})(driver.array(np.zeros((1, 1, 2)), "float32"), labels)
    assert np.isnan(driver.numpy(value))


@every_class_loss
@halves
def test_an_ignored_batch_is_exactly_zero(driver, accelerator, row, dtype):
    batch = batch_for(row[0], ignored=1.1)
    value, gradient = driver.value_and_gradient(driver.make(*row), batch, dtype)
    assert not np.any(value)
    assert not np.any(gradient)


@pytest.mark.parametrize("row", [row for row in PLAIN_ROWS if row[0] in (CE, DICE, LOVASZ, HINGE, BCE)], ids=named)
def test_labels_of_one_channel_may_be_1(driver, accelerator, row):
    """Which then is no channel's number."""
    name = row[0]
    batch = batch_for(name, channels=1)
    if name in (CE, DICE):
        batch.labels[batch.labels == 1] = 0
    check(driver, row, batch, "float32")


@every_loss
def test_a_logit_that_is_not_a_number(driver, accelerator, row):
    """It is seen in the value where its pixel counts, as in the formula's."""
    batch = batch_for(row[0], ignored=0.0)
    batch.logits[1, 0, 2, 3] = np.nan
    loss = driver.make(*row)
    value = driver.value(loss, batch, "float32")
    with driver.plain():
        assert np.isnan(value).tolist() == np.isnan(driver.value(loss, batch, "float32")).tolist()


@pytest.mark.skipif(DEVICE != "cpu", reason="test_cuda.py asks the device itself")
@every_loss
@pytest.mark.parametrize("dtype", ["bfloat16"])
def test_the_host_reads_no_value(driver, accelerator, no_host, row, dtype):  # noqa: F811
    check_two_steps(driver, no_host, row, "closed", dtype)
    assert accelerator == []


@pytest.mark.skipif(DEVICE != "cpu", reason="test_cuda.py asks the device itself")
def test_a_batch_of_a_new_size_writes_nothing(driver, accelerator, no_host, monkeypatch):  # noqa: F811
    monkeypatch.setattr(KERNELS, "_constants", {})
    loss, batch = driver.make(DICE, {}), batch_for(DICE)
    for images in (2, 1):
        logits, labels, _ = driver.inputs(
            batch.changed(logits=batch.logits[:images], labels=batch.labels[:images]), "float32"
        )
        no_host(lambda given=(logits, labels): driver.backward(loss, *given, None, {}), writing=images == 2)


def test_float64_goes_to_torch(driver, accelerator, launched):
    batch = batch_for(CE)
    assert_close(driver.value_and_gradient(driver.make(CE, {}), batch)[0], reference_of(CE, {}, batch)[0], 1e-11)
    assert launched == []


def test_each_kernel_is_launched_by_some_loss(driver, accelerator, launched):
    for row in ROWS:
        driver.value_and_gradient(driver.make(*row), batch_of_row(row), "float32")
    driver.value_and_gradient(driver.make(BCE, {}), batch_for(BCE, channels=1), "float32")
    assert set(launched) == {
        "binary_cross_entropy",
        "check_labels",
        "class_errors",
        "count_digits",
        "count_hits",
        "count_ties",
        "cross_entropy",
        "differences",
        "hinge_errors",
        "kth_largest",
        "mark_largest",
        "plain_cross_entropy",
        "presence",
        "relaxed_cross_entropy",
        "scale",
        "softmax_sums",
        "softmax_totals",
        "split_labels",
        "steps",
        "through_softmax",
        "through_softmax_by_class",
    }


def test_the_backend_in_use_has_the_kernels(accelerator):
    from unilossseg.backends import torch as adapter

    assert type(adapter.BACKEND.kernel(torch.zeros(1, device=DEVICE))) is type(KERNELS)


def test_more_pixels_without_spatial_axes_than_a_grid_has_rows(accelerator, launched):
    from unilossseg.torch import CrossEntropyLoss

    logits = torch.randn((66_000, 2), generator=torch.Generator().manual_seed(1)).to(DEVICE).requires_grad_()
    labels = torch.arange(66_000, device=DEVICE) % 2
    CrossEntropyLoss()(logits, labels).backward()
    assert "plain_cross_entropy" in launched
    # One after the other, as torch's autograd has them.
    exact = (torch.softmax(logits.detach(), 1) - torch.nn.functional.one_hot(labels, 2)) / 66_000
    torch.testing.assert_close(logits.grad, exact, rtol=1e-4, atol=1e-10)
    assert logits.grad.is_contiguous()
