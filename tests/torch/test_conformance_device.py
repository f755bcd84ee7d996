"""A conformance run on a device: torch's tensors live where they are told to, and their numbers come back."""

import json

import numpy as np
import pytest
import torch
from checks.conformance_cli import unilossseg

from unilossseg.conformance import cases, protocol
from unilossseg.conformance.frameworks import Torch
from unilossseg.conformance.records.errors import RecordError
from unilossseg.conformance.run import Prepared

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
#: The meta device has places and no values.
PLACES = pytest.mark.parametrize("device", ["cpu", "meta", pytest.param("cuda:0", marks=needs_gpu)])
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=needs_gpu)])
DTYPES = ("bool", "uint8", "uint16", "uint32", "int8", "int16", "int32", "int64", "float16", "float32", "float64")


def framework_on(device):
    framework = Torch("torch")
    framework.device = device
    return framework


@PLACES
@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3), (7,), ()])
def test_an_array_lives_on_the_device(device, dtype, shape):
    framework = framework_on(device)
    x = np.arange(int(np.prod(shape))).reshape(shape).astype("float32" if dtype == "bfloat16" else dtype)
    for strided in (False, True):
        tensor = framework.array(x, dtype, strided)
        assert str(tensor.device) == device
        assert framework.dtype_of(tensor) == dtype
        assert tensor.shape == x.shape
        # Moved before it was made a view: a copy to a device need not keep strides.
        assert tensor.is_contiguous() == (not strided or len(shape) < 2)
        if device != "meta":
            np.testing.assert_array_equal(framework.to_numpy(tensor), x)


@DEVICES
@pytest.mark.parametrize("loss", ["BCELoss", "CrossEntropyLoss", "L1Loss", "LovaszSoftmaxLoss", "MixedLoss"])
def test_a_case_is_computed_on_the_device(device, loss, tmp_path, monkeypatch):
    framework, seen = Torch("torch", device), set()
    to_numpy = framework.to_numpy
    monkeypatch.setattr(framework, "to_numpy", lambda x: seen.add(str(x.device)) or to_numpy(x))
    (case, *_) = cases.selected([loss], "strided-memory/float32")
    outcomes = framework.run(Prepared(0, case, tmp_path).request("torch"), case.arrays)
    assert [outcome.error for outcome in outcomes.values()] == [""] * len(outcomes)
    assert set(protocol.MODES) <= set(outcomes)
    assert (protocol.NATIVE in outcomes) == (loss in ("BCELoss", "CrossEntropyLoss", "L1Loss"))
    # Inputs, values and gradients, the native functional's too.
    assert seen == {device}


@DEVICES
def test_inputs_that_a_loss_overwrites_are_seen_there(device, tmp_path, monkeypatch):
    framework = Torch("torch", device)
    monkeypatch.setattr(framework, "build", lambda *arguments, **options: careless)

    def careless(logits, labels):
        labels[0] = 1 - labels[0]
        return logits.mean()

    (case, *_) = cases.selected(["DiceLoss"], "plain/float32")
    outcomes = framework.run(Prepared(0, case, tmp_path).request("torch"), case.arrays)
    assert outcomes[protocol.FACE].error.startswith("OverwrittenError: labels")


@DEVICES
def test_the_framework_says_where_it_is(device):
    said = Torch("torch", device).describe()
    assert said["device"] == device
    assert said.get("device_name", "") == (torch.cuda.get_device_name(0) if device == "cuda:0" else "")


@pytest.mark.parametrize("device", ["meta", "nonsense", "", pytest.param("cuda", marks=without_gpu)])
def test_a_device_without_values_is_refused(device):
    with pytest.raises(RecordError, match=f"--device {device}: torch fails with .*; expected a device that the framework"):
        Torch("torch", device)


@without_gpu
def test_a_run_without_a_gpu_is_refused(tmp_path):
    done = unilossseg("conformance", "run", "--backend", "torch", "--device", "cuda", "--loss", "L1Loss", "--out", tmp_path)
    assert done.exit_code == 2
    assert "the torch worker is refused: --device cuda: torch fails with " in done.stderr
    assert not (tmp_path / "results.jsonl").exists()


@needs_gpu
def test_a_run_on_a_gpu_conforms_and_says_so(tmp_path):
    losses = ["--loss", "CrossEntropyLoss", "--loss", "DiceLoss", "--loss", "L1Loss"]
    out, where = tmp_path / "report", ["--backend", "numpy", "--backend", "torch", "--device", "cuda"]
    done = unilossseg("conformance", "run", *where, *losses, "--quick", "--out", out)
    assert done.exit_code == 0, done.stdout + done.stderr
    header, *lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert header["backends"]["numpy"]["device"] == "cpu"
    assert header["backends"]["torch"]["device"] == "cuda:0"
    assert header["backends"]["torch"]["device_name"] == torch.cuda.get_device_name(0)
    for line in lines:
        if line["type"] == "result":
            assert line["repeat"].endswith("--device cuda:0") == (line["backend"] == "torch")
    assert torch.cuda.get_device_name(0) in (out / "index.html").read_text()
