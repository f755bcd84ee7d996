"""Gradients inside Paddle's autograd."""

from checks.autograd import *  # noqa: F403  each of its tests
from checks.cases import CE, batch_for
from checks.compare import assert_close, reference_of


def test_whole_numbers_that_paddle_follows_keep_the_closed_form(driver, recwarn):
    batch = batch_for(CE)
    labels = driver.array(batch.labels)
    labels.stop_gradient = False
    value = driver.make(CE, {})(driver.leaf(batch.logits), labels)
    assert_close(driver.numpy(value), reference_of(CE, {}, batch)[0], 1e-12)
    assert not [warning for warning in recwarn if "want a gradient" in str(warning.message)]
