"""A user's own loss."""

import numpy as np
from checks.cases import CE, batch_for
from checks.own_inputs import *  # noqa: F403  each of its tests
from checks.own_loss import *  # noqa: F403  each of its tests
from checks.own_loss import FocalLoss


def test_a_number_beyond_int64_is_ignored_too():
    batch, largest = batch_for(CE), 2**64 - 1
    labels = np.where(batch.labels == 255, np.uint64(largest), batch.labels.astype(np.uint64))
    found = FocalLoss(ignore_index=largest)(batch.logits, labels)
    np.testing.assert_array_equal(found, FocalLoss()(batch.logits, batch.labels))
