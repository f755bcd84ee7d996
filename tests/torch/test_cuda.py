"""Losses on a GPU: the same numbers, no wait for the device, and a step that a CUDA graph can hold.

The same is tried on the CPU by test_devices.py and test_host_reads.py, where there is no GPU.
"""

import contextlib
import warnings

import numpy as np
import pytest
import torch
from checks.autograd import FLOAT32, check_value_changed_in_place
from checks.cases import BCE, CE, DICE, HINGE, L1, LOVASZ, OHEM, PLAIN_ROWS, RELAX, ROWS, batch_for, batch_of_row, named
from checks.compare import assert_close, reference_of
from checks.devices import *  # noqa: F403  each of its tests
from checks.host_reads import check_two_steps
from checks.torch_driver import TorchDriver

from unilossseg import torch as torch_losses
from unilossseg.backends import get_backend

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

every_row = pytest.mark.parametrize("row", ROWS, ids=named)
every_loss = pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
#: A multiple of nothing, and more than one block of any kernel.
ODD = (61, 67)


@pytest.fixture(scope="module")
def driver():
    return TorchDriver("cuda")


@pytest.fixture
def accelerator(driver, monkeypatch):
    """The values that were read, as test_devices.py counts them; nothing has to be pretended here."""
    adapter = type(get_backend(driver.name))
    reads, original = [], adapter.read
    monkeypatch.setattr(adapter, "read", lambda self, x: reads.append(x) or original(self, x))
    return reads


@contextlib.contextmanager
def waiting_is_an_error():
    """A wait for the device, or a copy to or from the host that waits, raises."""
    torch.cuda.synchronize()
    try:
        with warnings.catch_warnings():
            # It says, once, that the mode is a prototype.
            warnings.simplefilter("ignore")
            torch.cuda.set_sync_debug_mode("error")
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def no_waiting(function, writing):
    with contextlib.nullcontext() if writing else waiting_is_an_error():
        return function()


@every_row
@pytest.mark.parametrize("way", ["closed", "plain"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float64"])
def test_nothing_waits_for_the_device_after_the_first_call(driver, row, way, dtype):
    check_two_steps(driver, no_waiting, row, way, dtype)


def test_a_wait_is_seen():
    x = torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError), waiting_is_an_error():
        x.sum().item()


@every_row
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_pixels_of_an_odd_shape(driver, row, dtype):
    batch = batch_for(row[0], shape=ODD, seed=8)
    value, gradient = driver.value_and_gradient(driver.make(*row), batch, dtype)
    exact_value, exact = reference_of(*row, batch)
    assert_close(value, exact_value, 1e-5 if dtype == "float32" else 1e-11)
    # Which of two near-equal errors comes first may differ from float64: the norm bears that, a single entry would not.
    assert np.linalg.norm(gradient - exact) <= (1e-3 if dtype == "float32" else 1e-10) * np.linalg.norm(exact)


@pytest.mark.parametrize("row", [row for row in PLAIN_ROWS if row[0] in (CE, OHEM, DICE, LOVASZ, RELAX)], ids=named)
@pytest.mark.parametrize("channels", [2, 33, 150, 1100])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_few_classes_and_many(driver, row, channels, dtype):
    """1100 are more than a kernel takes."""
    batch = batch_for(row[0], shape=(7, 9), seed=6, channels=channels)
    logits = driver.numpy(driver.array(batch.logits, dtype)).astype("float64")
    value, gradient = driver.value_and_gradient(driver.make(*row), batch, dtype)
    exact_value, exact = reference_of(*row, batch.changed(logits=logits))
    assert_close(value, exact_value, 1e-5)
    assert_close(gradient, exact, 1e-4 if dtype == "float32" else 2**-8)


@every_row
def test_a_value_may_be_changed_in_place(driver, row):
    check_value_changed_in_place(driver, row, "float32")


@every_row
def test_the_same_bits_each_time(driver, row):
    batch = batch_for(row[0], shape=ODD, seed=10)
    first, again = (driver.value_and_gradient(driver.make(*row), batch, "float32") for _ in range(2))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


@every_row
def test_the_closed_form_and_autograd_agree(driver, row):
    batch = batch_for(row[0], shape=ODD, seed=9)
    value, gradient = driver.value_and_gradient(driver.make(*row), batch, "float32")
    with driver.plain():
        plain_value, plain_gradient = driver.value_and_gradient(driver.make(*row), batch, "float32")
    assert_close(value, plain_value, 1e-5)
    assert np.linalg.norm(gradient - plain_gradient) <= 1e-3 * np.linalg.norm(plain_gradient)


@every_row
@pytest.mark.parametrize("way", ["closed", "plain"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_a_captured_step_follows_its_inputs(driver, row, way, dtype):
    """Forward and backward in one CUDA graph, replayed with the numbers of another batch: bit for bit those of a call."""
    shape = None if row[0] == "DualTaskLoss" else ODD
    first, second = (batch_of_row(row, seed=seed, **({} if shape is None else {"shape": shape})) for seed in (0, 1))
    loss = driver.make(*row)
    with getattr(driver, way)():
        logits, labels, further = driver.inputs(first, dtype)
        logits.requires_grad_(True)

        def step(logits, labels, further):
            value = driver.call(loss, logits, labels, further)
            value = sum(value) if isinstance(value, list) else value.sum()
            return value, torch.autograd.grad(value, logits)[0]

        # Beforehand and on a stream of its own, as torch's guide asks.
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                step(logits, labels, further)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step(logits, labels, further)
        new_logits, new_labels, new_further = driver.inputs(second, dtype)
        expected = step(new_logits.requires_grad_(True), new_labels, new_further)
        with torch.no_grad():
            logits.copy_(new_logits)
            labels.copy_(new_labels)
            for name, x in further.items():
                x.copy_(new_further[name])
        graph.replay()
        torch.cuda.synchronize()
    assert torch.isfinite(captured[0])
    assert_close(driver.numpy(captured[0]), driver.numpy(expected[0]), 1e-6)
    assert_close(driver.numpy(captured[1]), driver.numpy(expected[1]), 1e-6 if dtype == "float32" else 2**-8)


@every_loss
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_call_on_another_stream(driver, row, dtype):
    batch = batch_of_row(row, seed=3)
    logits, labels, further = driver.inputs(batch, dtype)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        value, gradient = driver.backward(driver.make(*row), logits, labels, None, further)
    torch.cuda.synchronize()
    exact_value, exact = reference_of(*row, batch)
    assert_close(driver.numpy(value), exact_value, 1e-5 if dtype == "float32" else 1e-11)
    assert_close(driver.numpy(gradient), exact, 1e-4 if dtype == "float32" else 1e-10)


@every_loss
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_autocast_changes_nothing(driver, row, dtype):
    batch = batch_of_row(row, seed=4)
    outside = driver.value_and_gradient(driver.make(*row), batch, "float32")
    with torch.autocast("cuda", dtype=getattr(torch, dtype)):
        inside = driver.value_and_gradient(driver.make(*row), batch, "float32")
    for one, other in zip(inside, outside, strict=True):
        assert_close(one, other, 1e-6)


# torch's own code generator asks torch for what torch will give up.
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", [CE, LOVASZ, BCE])
def test_compiled_by_the_code_generator(driver, name):
    row = next(row for row in PLAIN_ROWS if row[0] == name)
    batch = batch_for(name, shape=ODD)
    _, labels, further = driver.inputs(batch, "float32")
    leaf = driver.leaf(batch.logits, "float32")
    value = driver.call(torch.compile(driver.make(*row), fullgraph=True), leaf, labels, further)
    value.backward()
    exact_value, exact = reference_of(*row, batch)
    assert_close(driver.numpy(value), exact_value, FLOAT32)
    assert np.linalg.norm(driver.gradient(leaf) - exact) <= 1e-3 * np.linalg.norm(exact)


@pytest.mark.parametrize("row", [row for row in PLAIN_ROWS if row[0] in (CE, DICE, LOVASZ, HINGE, BCE, L1)], ids=named)
def test_strided_logits(driver, row):
    batch = batch_for(row[0], shape=ODD, seed=5)
    _, labels, further = driver.inputs(batch, "float32")
    exact_value, exact = reference_of(*row, batch)
    leaf = driver.turned(batch.logits, "float32").requires_grad_(True)
    assert not leaf.is_contiguous()
    value = driver.call(driver.make(*row), leaf, labels, further)
    value.backward()
    assert_close(driver.numpy(value), exact_value, 1e-5)
    assert np.linalg.norm(driver.gradient(leaf) - exact) <= 1e-3 * np.linalg.norm(exact)


def test_labels_elsewhere_are_refused(driver):
    with pytest.raises(ValueError, match=r"labels are on device cpu and logits on cuda:0: move them to cuda:0"):
        driver.make(CE, {})(torch.zeros(1, 2, 3, device="cuda"), torch.zeros(1, 3, dtype=torch.int64))


def test_a_graph_replays_the_same_after_many_constants():
    """What it was captured with has not been let go to make room."""
    loss, other = torch_losses.CrossEntropyLoss(weight=[1.0, 2.0, 3.0]), torch_losses.CrossEntropyLoss
    logits = torch.randn(2, 3, 64, 64, device="cuda", requires_grad=True)
    labels = torch.randint(0, 3, (2, 64, 64), device="cuda")

    def step():
        return torch.autograd.grad(loss(logits, labels), logits)[0]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    graph.replay()
    before = found.clone()
    for number in range(300):
        other(weight=[1.0, 2.0, float(number)])(logits, labels)
    # Takes the place of what would have been freed.
    junk = [torch.full((9,), 7.0, device="cuda") for _ in range(600)]
    graph.replay()
    torch.cuda.synchronize()
    assert len(junk) == 600
    assert torch.equal(before, found)


def test_images_of_new_sizes_do_not_wait():
    losses = [torch_losses.MSELoss(), torch_losses.L1Loss(), torch_losses.CrossEntropyLoss(avg_non_ignore=False)]
    losses += [torch_losses.DiceLoss(), torch_losses.DiceLoss(weight=[1.0, 2.0, 3.0], variant="corrected")]
    first = torch.randn(1, 3, 8, 8, device="cuda", requires_grad=True)
    sizes = [*((1, width) for width in range(9, 14)), (2, 8), (5, 8), (3, 9)]
    others = [torch.randn(images, 3, 8, width, device="cuda", requires_grad=True) for images, width in sizes]
    for loss in losses:
        for logits in (first, *others):
            dense = isinstance(loss, torch_losses.MSELoss | torch_losses.L1Loss)
            labels = torch.zeros_like(logits) if dense else torch.zeros_like(logits[:, 0], dtype=torch.int64)
            with contextlib.nullcontext() if logits is first else waiting_is_an_error():
                loss(logits, labels).backward()
            assert logits.grad.shape == logits.shape


def test_two_to_the_31_pixels_in_one_image():
    logits = torch.zeros(1, 1, 2**31 + 512, dtype=torch.bfloat16, device="cuda")
    with torch.no_grad():
        value = torch_losses.CrossEntropyLoss()(logits, torch.zeros(1, 2**31 + 512, dtype=torch.uint8, device="cuda"))
    assert value.item() == 0


def test_labels_that_lie_far_apart():
    labels = torch.zeros(2**31 + 64, dtype=torch.uint8, device="cuda").as_strided((1, 3), (3 * 2**30, 2**30))
    logits, loss = torch.randn(1, 4, 3, device="cuda"), torch_losses.CrossEntropyLoss()
    assert loss(logits, labels, validate=True).item() == loss(logits, labels).item()
