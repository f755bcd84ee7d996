"""The recordings on NumPy and array-api-strict."""

from checks.golden import test_recorded_case as test_recorded_case
from checks.golden import test_there_are_recordings_of_every_loss as test_there_are_recordings_of_every_loss
