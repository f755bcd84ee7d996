"""A conformance run on a device: Paddle's tensors live where they are told to, and their numbers come back."""

import numpy as np
import paddle
import pytest

from unilossseg.conformance import cases, protocol
from unilossseg.conformance.frameworks import Paddle
from unilossseg.conformance.records.errors import RecordError
from unilossseg.conformance.run import Prepared

HAS_GPU = paddle.device.cuda.device_count() > 0
needs_gpu = pytest.mark.skipif(not HAS_GPU, reason="there is no GPU that Paddle can use")
DEVICES = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=needs_gpu)])


@pytest.fixture(autouse=True)
def back_on_the_cpu():
    yield
    paddle.set_device("cpu")


@DEVICES
@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64"])
def test_an_array_lives_on_the_device(device, dtype):
    framework = Paddle("paddle", device)
    x = np.arange(120).reshape(2, 3, 4, 5).astype("float32" if dtype == "bfloat16" else dtype)
    for strided in (False, True):
        tensor = framework.array(x, dtype, strided)
        assert tensor.place.is_gpu_place() == (device != "cpu")
        assert tensor.is_contiguous() == (not strided)
        np.testing.assert_array_equal(framework.to_numpy(tensor), x)


@DEVICES
def test_a_case_is_computed_on_the_device(device, tmp_path, monkeypatch):
    framework, on_gpu = Paddle("paddle", device), set()
    to_numpy = framework.to_numpy
    monkeypatch.setattr(framework, "to_numpy", lambda x: on_gpu.add(x.place.is_gpu_place()) or to_numpy(x))
    (case, *_) = cases.selected(["CrossEntropyLoss"], "strided-memory/float32")
    outcomes = framework.run(Prepared(0, case, tmp_path).request("paddle"), case.arrays)
    assert {mode: outcome.error for mode, outcome in outcomes.items()} == dict.fromkeys(
        (*protocol.MODES, protocol.NATIVE), ""
    )
    assert on_gpu == {device != "cpu"}
    said = framework.describe()
    assert said["device"] == device
    assert bool(said.get("device_name")) == (device != "cpu")


@pytest.mark.parametrize("device", ["nonsense", pytest.param("cuda", marks=pytest.mark.skipif(HAS_GPU, reason="a GPU"))])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(RecordError, match=f"--device {device}: paddle fails with .*; expected a device that the framework"):
        Paddle("paddle", device)
