"""Chunks on threads: the same numbers with any count, after a fork, inside each other, and after an error."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import numpy as np
import pytest
from checks.forks import can_fork, of_a_child

import unilossseg
from unilossseg.backends import _threads, get_backend, num_threads, set_num_threads


@pytest.fixture(autouse=True)
def default_threads() -> Iterator[None]:
    yield
    set_num_threads(None)


def gradients() -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(3, 5, 400, 300)).astype(np.float32), rng.integers(0, 5, (3, 400, 300))
    losses = (unilossseg.CrossEntropyLoss(), unilossseg.DiceLoss(), unilossseg.LovaszSoftmaxLoss())
    return [np.asarray(part) for loss in losses for part in unilossseg.value_and_grad(loss)(logits, labels)]


def test_any_number_of_threads_gives_the_same_bits() -> None:
    set_num_threads(1)
    alone = gradients()
    for count in (2, 5):
        set_num_threads(count)
        assert num_threads() == count
        assert all(np.array_equal(a, b) for a, b in zip(alone, gradients(), strict=True))


def test_results_come_in_the_order_of_the_items() -> None:
    set_num_threads(4)
    assert _threads.run(lambda item: item * item, range(100)) == [item * item for item in range(100)]


def test_the_work_is_really_shared() -> None:
    set_num_threads(2)
    together = threading.Barrier(2, timeout=30)
    # Each of two items waits for the other: on one thread neither would ever end.
    assert _threads.run(lambda item: together.wait() in (0, 1), range(2)) == [True, True]


def test_a_caller_whose_work_is_done_does_not_wait_for_anothers() -> None:
    set_num_threads(2)
    inside, done = threading.Barrier(3, timeout=30), threading.Event()

    def hold(item: int) -> bool:
        inside.wait()
        return done.wait(30)

    # One caller has the pool's only thread; what another hands out stays behind it.
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(_threads.run, hold, range(2))
        inside.wait()
        second = callers.submit(_threads.run, lambda item: item, range(2))
        try:
            assert second.result(timeout=30) == [0, 1]
            assert not first.done()
        finally:
            done.set()
        assert first.result(timeout=30) == [True, True]


def test_an_interruption_on_the_way_in_leaves_numpy_as_it_was() -> None:
    def between(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
        """Raises at the second line of `Limited.__enter__`."""
        nonlocal lines
        if frame.f_code is not _threads.Limited.__enter__.__code__:
            return None
        lines += event == "line"
        if lines == 2:
            raise KeyboardInterrupt
        return between

    lines, before = 0, np.geterr()
    sys.settrace(between)
    try:
        with pytest.raises(KeyboardInterrupt), get_backend("numpy").computing(2):
            pass
    finally:
        sys.settrace(None)
    assert lines == 2
    assert np.geterr() == before


def test_a_task_may_run_tasks() -> None:
    set_num_threads(3)
    assert _threads.run(lambda item: sum(_threads.run(lambda inner: inner, range(item))), range(6)) == [0, 0, 1, 3, 6, 10]


def test_an_error_comes_out_and_leaves_the_pool_in_order() -> None:
    set_num_threads(3)

    def task(item: int) -> int:
        if item == 7:
            raise RuntimeError("item 7")
        return item

    with pytest.raises(RuntimeError, match="item 7"):
        _threads.run(task, range(20))
    assert _threads.run(lambda item: item, range(20)) == list(range(20))


def test_users_who_need_pools_of_other_sizes() -> None:
    """A larger pool ends the one before, which another user may be about to give work to."""
    set_num_threads(16)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            _threads._forget_pool()
            with ThreadPoolExecutor(14) as users:
                found = list(users.map(lambda size: _threads.run(lambda item: item, range(size)), range(2, 16)))
            assert found == [list(range(size)) for size in range(2, 16)]
    finally:
        sys.setswitchinterval(interval)


def test_a_framework_limits_its_calls() -> None:
    with get_backend("numpy").computing(1):
        assert num_threads() == 1
        set_num_threads(6)
        assert num_threads() == 6, "the user's setting comes first"
    set_num_threads(None)
    with get_backend("numpy").computing(3):
        assert num_threads() == 3
    assert num_threads() >= 1


@can_fork
def test_after_a_fork() -> None:
    set_num_threads(2)

    def firsts() -> list[float]:
        return [float(part.ravel()[0]) for part in gradients()]

    wanted = firsts()
    assert of_a_child(firsts) == wanted


@pytest.mark.parametrize(
    ("count", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)]
)
def test_a_bad_count_is_refused(count: object, error: type[Exception]) -> None:
    with pytest.raises(error, match="set_num_threads: count must be an integer at least 1 or None"):
        set_num_threads(count)  # type: ignore[arg-type]


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("where", ["atexit.register(compute)", "threading.Thread(target=compute).start()"])
def test_while_the_interpreter_ends_a_loss_still_computes(warm: bool, where: str) -> None:
    code = f"""
import atexit, threading, time
from unilossseg.backends import _threads, set_num_threads

set_num_threads(2)

def compute():
    time.sleep(0.3)
    print(_threads.run(lambda item: item * item, range(4)))

if {warm}:
    compute()
{where}
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[0, 1, 4, 9]\n" * (1 + warm), done.stderr


def test_an_error_of_the_system_is_none_of_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    class Exhausted(ThreadPoolExecutor):
        def submit(self, *_: object, **__: object) -> None:
            raise RuntimeError("can't start new thread")

    set_num_threads(2)
    monkeypatch.setattr(_threads, "_pool", Exhausted(1))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        _threads.run(lambda item: item, range(2))
