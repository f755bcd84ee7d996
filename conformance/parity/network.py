"""The network that every framework trains, as shapes and initial weights in NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unilossseg.conformance.cases import Array

#: Three 3x3 convolutions with a ReLU after each, then a 1x1 convolution per head: about 10 000 parameters.
WIDTH = 22
DEPTH = 3


def initial_weights(heads: Sequence[int], seed: int) -> dict[str, Array]:
    """He-normal weights and zero biases by name, float32; `heads` are the channels of each output."""
    draw = np.random.RandomState(seed)
    shapes = {f"conv{at + 1}": (WIDTH, 1 if at == 0 else WIDTH, 3, 3) for at in range(DEPTH)}
    shapes |= {f"head{at + 1}": (channels, WIDTH, 1, 1) for at, channels in enumerate(heads)}
    weights = {}
    for name, shape in shapes.items():
        spread = np.sqrt((2 if name.startswith("conv") else 1) / np.prod(shape[1:]))
        weights[f"{name}.weight"] = (draw.standard_normal(shape) * spread).astype(np.float32)
        weights[f"{name}.bias"] = np.zeros(shape[:1], np.float32)
    return weights
