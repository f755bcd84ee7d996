"""Losses in compiled, exported and transformed functions give the numbers that they give outside."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from checks.autograd import FLOAT32
from checks.cases import (
    BCE,
    CE,
    CLASS_ROWS,
    DICE,
    DUAL,
    HINGE,
    L1,
    OHEM,
    PLAIN_ROWS,
    RELAX,
    ROWS,
    batch_for,
    batch_of_row,
    named,
)
from checks.compare import assert_close, reference_of
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import unilossseg

pytestmark = pytest.mark.usefixtures("fresh_compiler")
every_row = pytest.mark.parametrize("row", ROWS, ids=named)
every_loss = pytest.mark.parametrize("row", PLAIN_ROWS, ids=named)
compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="torch's code generator needs a C++ compiler"
)
TOP_K = [(CE, {"top_k_percent_pixels": 0.3}), (CE, {"top_k_percent_pixels": 0.3, "variant": "corrected"})]


def total(value):
    """A number, of a list or an unreduced loss too."""
    return sum(value) if isinstance(value, list) else value.sum()


def check(driver, row, batch, call, dtype="float64"):
    """Value and gradient of `call` are those of the reference."""
    _, labels, further = driver.inputs(batch, dtype)
    leaf = driver.leaf(batch.logits, dtype)
    value = call(leaf, labels, further)
    total(value).backward()
    exact_value, exact = reference_of(*row, batch)
    assert_close(driver.numpy(value), exact_value, 1e-11 if dtype == "float64" else FLOAT32)
    assert_close(driver.gradient(leaf), exact, 1e-10 if dtype == "float64" else FLOAT32)


# ---------------------------------------------------------------------------------------------------- torch.compile


@every_row
def test_compiled_in_one_graph(driver, row):
    compiled = torch.compile(driver.make(*row), fullgraph=True, backend="aot_eager")
    check(driver, row, batch_of_row(row), lambda *inputs: driver.call(compiled, *inputs))


@every_loss
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_compiled_in_other_dtypes(driver, row, dtype):
    batch = batch_for(row[0], seed=2)
    loss = driver.make(*row)
    _, labels, further = driver.inputs(batch, dtype)
    results = []
    for call in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        leaf = driver.leaf(batch.logits, dtype)
        value = driver.call(call, leaf, labels, further)
        value.backward()
        results.append((value, leaf.grad))
    (value, gradient), (compiled_value, compiled_gradient) = results
    assert compiled_value.dtype == value.dtype == torch.float32
    assert compiled_gradient.dtype == gradient.dtype == getattr(torch, dtype)
    assert_close(driver.numpy(compiled_value), driver.numpy(value), FLOAT32)
    # Autograd casts the gradient once, as the closed form does; a last bit of float32 may tip that rounding.
    step = {"bfloat16": 2**-7, "float32": 0}[dtype]
    one, other = driver.numpy(gradient), driver.numpy(compiled_gradient)
    assert np.all(np.abs(one - other) <= step * np.abs(one) + FLOAT32 * np.max(np.abs(one)))


# The generator itself still uses what torch has deprecated.
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
@compiler
@pytest.mark.parametrize("name", [OHEM, DICE, HINGE, BCE, L1, RELAX, DUAL])
def test_compiled_by_the_code_generator(driver, name):
    """A loss of each family, by torch's default backend."""
    row = next(row for row in PLAIN_ROWS if row[0] == name)
    compiled = torch.compile(driver.make(*row), fullgraph=True)
    check(driver, row, batch_of_row(row), lambda *inputs: driver.call(compiled, *inputs))


@pytest.mark.parametrize("row", [*PLAIN_ROWS, *TOP_K], ids=named)
def test_other_sizes_compile_once_more_at_most(driver, row):
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(driver.make(*row), fullgraph=True, backend=counter)
    shapes = [(12, 14), (9, 13), (10, 17)]
    for seed, shape in enumerate(shapes):
        batch = batch_for(row[0], shape=shape, seed=seed)
        check(driver, row, batch, lambda *inputs: driver.call(compiled, *inputs))
    # The reference takes the number of pixels from a product in float32: that is a number to a compiler.
    by_size = row == TOP_K[0]
    assert counter.frame_count == (len(shapes) if by_size else 2)


@pytest.mark.parametrize("row", CLASS_ROWS, ids=named)
def test_a_label_out_of_range_is_nan_when_compiled(driver, row):
    batch = batch_for(row[0], ignored=0.0)
    batch.labels[1, 3, 2] = 100
    _, labels, further = driver.inputs(batch, "float64")
    leaf = driver.leaf(batch.logits)
    value = driver.call(torch.compile(driver.make(*row), fullgraph=True, backend="aot_eager"), leaf, labels, further)
    value.backward()
    assert torch.isnan(value)
    # Where the formula leaves a pixel out its gradient stays 0.
    assert torch.isnan(leaf.grad).any()


def test_a_network_with_its_loss_compiles(driver):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3, padding=1)
            self.loss = driver.make("MixedLoss", {"losses": [(CE, {}), (DICE, {})], "coef": [1.0, 2.0], "reduction": "sum"})

        def forward(self, x, labels):
            return self.loss(self.layer(x), labels)

    torch.manual_seed(0)
    net, x, labels = Net().double(), torch.randn(2, 3, 6, 7).double(), torch.randint(0, 4, (2, 6, 7))
    eager = net(x, labels)
    wanted = torch.autograd.grad(eager, list(net.parameters()))
    value = torch.compile(net, fullgraph=True, backend="aot_eager")(x, labels)
    got = torch.autograd.grad(value, list(net.parameters()))
    torch.testing.assert_close(value, eager, rtol=0, atol=1e-12)
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


def test_a_loss_that_is_no_module_compiles(driver):
    batch = batch_for(DICE)
    logits, labels, _ = driver.inputs(batch, "float64")
    value = torch.compile(unilossseg.DiceLoss(), fullgraph=True, backend="aot_eager")(logits, labels)
    assert_close(value.numpy(), reference_of(DICE, {}, batch)[0], 1e-12)


@pytest.mark.parametrize("logits", ["torch.zeros(1, 3, 2)", "torch.nn.Parameter(torch.zeros(1, 3, 2))"])
def test_the_first_call_of_a_process_may_be_a_compiled_one(logits):
    code = (
        "import torch; from unilossseg.torch import DiceLoss\n"
        "loss = torch.compile(DiceLoss(), fullgraph=True, backend='eager')\n"
        f"print(loss({logits}, torch.tensor([[0, 2]])).item())\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(0.733333, abs=1e-6)


def test_labels_cannot_be_validated_in_a_trace(driver):
    logits, labels, _ = driver.inputs(batch_for(CE), "float64")
    with pytest.raises(ValueError, match=f"^{CE}: validate is True, and the labels of a traced or transformed call"):
        torch.func.vmap(driver.make(CE, {"validate": True}))(logits[None], labels[None])


# ---------------------------------------------------------------------------------------------------- export


class Exported(nn.Module):
    """A loss with its inputs as plain arguments."""

    def __init__(self, driver, loss):
        super().__init__()
        self.driver, self.loss = driver, loss

    def forward(self, logits, labels, further):
        return self.driver.call(self.loss, logits, labels, further)


@every_row
def test_exported(driver, row):
    batch = batch_of_row(row)
    program = torch.export.export(Exported(driver, driver.make(*row)), driver.inputs(batch, "float64")).module()
    for seed in (0, 1):
        batch = batch_of_row(row, seed=seed)
        assert_close(driver.numpy(program(*driver.inputs(batch, "float64"))), reference_of(*row, batch)[0], 1e-11)


# ---------------------------------------------------------------------------------------------------- torch.func


@every_row
def test_vmap_and_gradients_of_every_sample(driver, row):
    batches = [batch_of_row(row, seed=seed) for seed in range(3)]
    inputs = [driver.inputs(batch, "float64") for batch in batches]
    logits, labels = (torch.stack([each[at] for each in inputs]) for at in (0, 1))
    further = {name: torch.stack([each[2][name] for each in inputs]) for name in inputs[0][2]}
    loss = driver.make(*row)

    def value_of(z, y, more):
        return total(driver.call(loss, z, y, more))

    values = torch.func.vmap(value_of)(logits, labels, further)
    gradients = torch.func.vmap(torch.func.grad(value_of))(logits, labels, further)
    for value, gradient, batch in zip(values, gradients, batches, strict=True):
        exact_value, exact = reference_of(*row, batch)
        assert_close(value.numpy(), np.sum(exact_value), 1e-11)
        assert_close(gradient.numpy(), exact, 1e-10)
