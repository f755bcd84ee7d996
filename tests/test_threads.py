"""Chunks on threads: the same numbers with any count, after a fork, inside each other, and after an error."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import numpy as np
import pytest
from checks.forks import can_fork, of_a_child

import unilossseg
from unilossseg.backends import Backend, _threads, get_backend, num_threads, register, set_num_threads, unregister


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
        held = np.zeros(3)
        kept = weakref.ref(held)
        second = callers.submit(_threads.run, lambda item, held=held: item, range(2))
        try:
            assert second.result(timeout=30) == [0, 1]
            assert not first.done()
            # Nor does what is left behind keep the arrays of its call.
            del held, second
            gc.collect()
            assert kept() is None
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


def test_a_framework_s_setting_is_seen_outside_a_call_too(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Backend("mine", get_backend("numpy").xp)
    assert num_threads(mine) == num_threads() == num_threads("numpy")
    monkeypatch.setattr(mine, "threads", lambda: 7)
    register(mine)
    try:
        assert num_threads(mine) == num_threads("mine") == 7
        with get_backend("numpy").computing(3):
            assert (num_threads(), num_threads("mine")) == (3, 7)
        set_num_threads(2)
        assert num_threads("mine") == 2, "the user's setting comes first"
    finally:
        unregister("mine")
    with pytest.raises(ValueError, match=r"backend must be one of .* \(got 'mine'\)"):
        num_threads("mine")


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


class System:
    """Starts so many threads, and no others."""

    def __init__(self, left: int) -> None:
        self.left, self.starts = left, threading.Thread.start

    def start(self, thread: threading.Thread) -> None:
        if self.left == 0:
            raise RuntimeError("can't start new thread")
        self.left -= 1
        self.starts(thread)


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> System:
    """Starts none yet."""
    system = System(0)
    monkeypatch.setattr(threading.Thread, "start", lambda thread: system.start(thread))
    for name, value in (("_pool", None), ("_numbers", []), ("_told", False)):
        monkeypatch.setattr(_threads, name, value)
    return system


def test_where_no_thread_can_be_started_the_caller_does_it_all(system: System) -> None:
    set_num_threads(3)
    with pytest.warns(RuntimeWarning, match=r"no further thread \(can't start new thread\).*set_num_threads\(1\)"):
        assert _threads.run(lambda item: item * item, range(4)) == [0, 1, 4, 9]
    # Warnings are errors here: there is no second one.
    assert _threads.run(lambda item: item * item, range(4)) == [0, 1, 4, 9]
    system.left = 2
    together = threading.Barrier(3, timeout=30)
    assert _threads.run(lambda item: together.wait() in range(3), range(3)) == [True] * 3


def test_where_too_few_threads_can_be_started_these_share_the_work(system: System) -> None:
    set_num_threads(4)
    system.left = 1
    together = threading.Barrier(2, timeout=30)
    with pytest.warns(RuntimeWarning, match="fewer than the 4 that are wanted"):
        assert _threads.run(lambda item: together.wait() in (0, 1), range(4)) == [True] * 4
    assert _threads.run(lambda item: together.wait() in (0, 1), range(4)) == [True] * 4


@pytest.mark.parametrize("threads", [0, 1])
def test_a_call_that_fails_leaves_no_work_behind(system: System, threads: int) -> None:
    def task(item: int) -> None:
        seen.append(item)
        raise ValueError(f"item {item}")

    seen: list[int] = []
    set_num_threads(2)
    system.left, done = threads, threading.Event()
    pool = _threads._pool = ThreadPoolExecutor(2, initializer=_threads._enlist, initargs=(_threads._numbers,))
    held = [pool.submit(done.wait, 30) for _ in range(threads)]
    while len(_threads._numbers) < threads:
        time.sleep(0.001)
    kept = weakref.ref(task)
    with pytest.raises(ValueError, match="item 0"):
        _threads.run(task, range(4))
    done.set()
    assert [wait.result() for wait in held] == [True] * threads
    del task
    pool.shutdown()
    gc.collect()
    assert kept() is None
    assert seen == [0]


def test_the_handler_of_a_signal_computes_while_its_thread_hands_out_work() -> None:
    code = """
import signal
from unilossseg.backends import _threads, set_num_threads

def work():
    return _threads.run(lambda item: item * item, range(4))

set_num_threads(2)
signal.signal(signal.SIGINT, lambda *_: print(work()))
_threads.send_away = lambda numbers: signal.raise_signal(signal.SIGINT)
print(work())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[0, 1, 4, 9]\n" * 2, done.stderr
