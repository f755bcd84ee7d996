"""What a child of this process finds."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Callable
from typing import Any

import pytest

can_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this platform cannot fork")


def of_a_child(function: Callable[[], Any]) -> Any:
    """function() in a forked child, which must end well."""
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    with warnings.catch_warnings():
        # Python warns of what is tested here: forking a process that has threads.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = context.Process(target=lambda: queue.put(function()))
        child.start()
    found = queue.get(timeout=120)
    child.join(timeout=60)
    assert child.exitcode == 0
    return found
