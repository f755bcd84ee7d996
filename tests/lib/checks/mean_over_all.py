"""Cross entropy with class weights as a mean over all pixels, against PaddleSeg 2.8.0's class run on the same arrays.

Its integer mask and labels were multiplied as Paddle 2 does; Paddle 3 refuses to mix them.
"""

from __future__ import annotations

import numpy as np
import pytest
from checks.cases import CE, WEIGHT, Batch
from checks.compare import assert_close

#: By ignore_index and top_k_percent_pixels: the value, and the sum of the gradient's magnitudes. No label is 255, with which
#: PaddleSeg fails.
RECORDED = {
    (255, 1.0): (1.4153072834014893, 1.3504846096038818),
    (255, 0.4): (1.8576925992965698, 1.6203429698944092),
    (1, 1.0): (0.6067661046981812, 0.615265965461731),
    (1, 0.4): (1.584829568862915, 1.4964555501937866),
    (1, 0.9): (0.7244420051574707, 0.7345902919769287),
}
#: PaddleSeg's are float32.
TOLERANCE = 2e-6


@pytest.mark.parametrize("plain", [False, True], ids=["closed form", "formula"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("ignored", "share"), RECORDED)
def test_a_mean_over_all_pixels_with_class_weights(driver, ignored, share, dtype, plain):
    generator = np.random.default_rng(0)
    batch = Batch(generator.normal(size=(2, 3, 4, 5)).astype(np.float32), generator.integers(0, 3, (2, 4, 5)), {})
    loss = driver.make(
        CE, {"weight": WEIGHT, "ignore_index": ignored, "top_k_percent_pixels": share, "avg_non_ignore": False}
    )
    with driver.plain() if plain else driver.closed():
        value, gradient = driver.value_and_gradient(loss, batch, dtype)
    expected = RECORDED[ignored, share]
    assert_close(value, expected[0], TOLERANCE)
    assert_close(np.abs(gradient).sum(dtype=np.float64), expected[1], TOLERANCE)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ignored_pixels_count_as_one_in_a_mean_over_all(driver, dtype):
    # Two classes with even odds: the loss is log 2, times the weights 3 and 2; two of four pixels are ignored.
    logits, labels = np.zeros((1, 2, 4), np.float32), np.array([[0, 1, 255, 255]])
    loss = driver.make(CE, {"weight": [3.0, 2.0], "avg_non_ignore": False})
    value, _ = driver.value_and_gradient(loss, Batch(logits, labels, {}), dtype)
    assert_close(value, 5 * np.log(2) / 4 / (7 / 4 + 1e-8), TOLERANCE)
