"""A thread pool for chunks of pixels: NumPy's loops and sorts release the interpreter's lock."""

from __future__ import annotations

import contextvars
import os
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from unilossseg.backends._backend import Backend
from unilossseg.backends._registry import get_backend

# About this many elements of logits a chunk: large enough that the interpreter's lock is rarely asked for, small enough
# that the temporaries stay near a core's cache. Cross entropy with two threads: 2^16 22 ms, 2^17 16, 2^18 13, 2^19 13;
# DualTaskLoss: 620, 444, 332, 546.
CHUNK_ELEMENTS = 1 << 18

_limit: contextvars.ContextVar[int | None] = contextvars.ContextVar("threads", default=None)
_chosen: int | None = None
_inside = threading.local()
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
# The system's numbers of the pool's threads.
_numbers: list[int] = []
# Whether the warning has been given.
_told = False
#: Keeps threads off the core of the one that calls them now; where there are compiled loops, they do.
send_away: Callable[[list[int]], Any] = lambda numbers: None  # noqa: E731  it is replaced


def _forget_pool() -> None:
    """A forked child has no threads: it starts its own pool when it needs one."""
    global _pool, _pool_size, _numbers, _lock
    _pool, _pool_size, _numbers, _lock = None, 0, [], threading.Lock()
    _inside.__dict__.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)


def set_num_threads(count: int | None) -> None:
    """Sets how many threads losses of CPU arrays use, in the whole process.

    None, the default: as many as the framework is set to (`torch.get_num_threads()`), else one per core of the process.

    Raises
    ------
    TypeError, ValueError
        Where `count` is neither None nor a whole number at least 1.

    Examples
    --------
    >>> from unilossseg.backends import num_threads, set_num_threads
    >>> set_num_threads(2)
    >>> num_threads()
    2
    >>> set_num_threads(None)
    """
    global _chosen
    if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
        raise TypeError(f"set_num_threads: count must be an integer at least 1 or None (got {count!r})")
    if count is not None and count < 1:
        raise ValueError(f"set_num_threads: count must be an integer at least 1 or None (got {count!r})")
    _chosen = count


class Limited:
    """Inside it and another context, calls use no more threads than the framework that they are for."""

    # A class of its own: every call enters one or two, and a generator's context takes five times as long.
    def __init__(self, count: int | None, other: AbstractContextManager[Any]) -> None:
        self._count, self._other = count, other

    # The other context is the inner one: of what an interruption between the two would leave behind, NumPy's silence would
    # stay for good, where the next call sets a limit of its own.
    def __enter__(self) -> None:
        self._token = _limit.set(self._count)
        self._other.__enter__()

    def __exit__(self, *_: object) -> None:
        self._other.__exit__(None, None, None)
        _limit.reset(self._token)


def num_threads(backend: str | Backend | None = None) -> int:
    """How many threads a call uses now: what `set_num_threads` has set, else what the framework is set to, else one per core
    of the process.

    Parameters
    ----------
    backend
        Whose arrays are called with, a backend or its name. None: NumPy's, which has no setting; inside a call, those of
        that call.

    Raises
    ------
    ValueError, BackendNotInstalledError
        Where `backend` names none, or one whose framework is not installed.

    Examples
    --------
    >>> from unilossseg.backends import num_threads
    >>> num_threads("numpy") == num_threads()
    True
    """
    if isinstance(backend, str):
        backend = get_backend(backend)
    if _chosen is not None:
        return _chosen
    limit = _limit.get() if backend is None else backend.threads()
    if limit is not None:
        return limit
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_here() -> int:
    """How many threads a loop that shares itself out uses now: one where `run` has shared out the work around it."""
    return 1 if getattr(_inside, "busy", False) else num_threads()


def run(
    task: Callable[[Any], Any], items: Iterable[Any], around: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> list[Any]:
    """Calls `task` on every item with the pool, each thread inside a context of its own; the caller's takes its share."""
    items = list(items)
    # In this order: asking for the number of cores takes longer than a small task.
    count = 1 if len(items) <= 1 or getattr(_inside, "busy", False) else min(num_threads(), len(items))
    if count == 1:
        with around():
            return [task(item) for item in items]
    results: list[Any] = [None] * len(items)
    turn = iter(range(len(items)))
    take = threading.Lock()

    def work() -> None:
        _inside.busy = True
        try:
            with around():
                while True:
                    with take:
                        at = next(turn, None)
                    if at is None:
                        return
                    results[at] = task(items[at])
        finally:
            _inside.busy = False

    # In a list, from which it is taken at the end: the pool holds on to what it was given until a thread of it wakes up, and
    # with the work to the arrays of this call.
    shared, helpers = [work], list[Future[None]]()
    try:
        refused = _hand_out(shared, count - 1, helpers)
        work()
    finally:
        # Also after an error: no helper may still write when the caller's arrays are gone. One that still waits behind
        # another caller's work has nothing left to do, and that work may take seconds.
        failures = [None if helper.cancel() else helper.exception() for helper in helpers]
        shared.clear()
    for failure in failures:
        if failure is not None:
            raise failure
    if refused is not None:
        _tell_once(refused)
    return results


def _hand_out(work: list[Callable[[], None]], size: int, helpers: list[Future[None]]) -> RuntimeError | None:
    """Gives the work to so many threads of the pool, or to fewer and returns why the system started no other."""
    global _pool, _pool_size, _numbers
    # The handler of a signal that computes a loss meanwhile does so alone: it would wait for the lock of its own thread.
    _inside.busy = True
    try:
        # All of it under the lock: a larger pool, which another thread may ask for, ends this one.
        with _lock:
            if _pool is None or _pool_size < size:
                if _pool is not None:
                    _pool.shutdown(wait=False)
                # A list of its own: the threads of an older pool end, and their numbers may become others'.
                _numbers, _pool_size = [], size
                _pool = ThreadPoolExecutor(size, "unilossseg", initializer=_enlist, initargs=(_numbers,))
            send_away(_numbers)
            for _ in range(size):
                # Not the pool's own: where it finds no thread it keeps the work, for one that may come to it later, and
                # raises instead of giving its own.
                helper: Future[None] = Future()
                helpers.append(helper)
                try:
                    _pool.submit(_help, helper, work)
                except RuntimeError as error:
                    # While the interpreter ends, threads that still run and functions of atexit get no helper.
                    if "shutdown" in str(error):
                        return None
                    if not _numbers:
                        # Nobody would ever look at what it keeps, a call's arrays.
                        _pool.shutdown(wait=False, cancel_futures=True)
                        _pool = None
                    return error
    finally:
        _inside.busy = False
    return None


def _help(helper: Future[None], work: list[Callable[[], None]]) -> None:
    """What a thread of the pool does, unless the caller is through already."""
    if not helper.set_running_or_notify_cancel():
        return
    try:
        work[0]()
    except BaseException as error:
        helper.set_exception(error)
    else:
        helper.set_result(None)


def _tell_once(refused: RuntimeError) -> None:
    """Warns that there are fewer threads than asked for, in the first call that this happens to."""
    global _told
    if not _told:
        _told = True
        warnings.warn(
            f"the system starts no further thread ({refused}): fewer than the {num_threads()} that are wanted share the "
            "work of losses, which takes longer; set_num_threads(1) asks for no other",
            RuntimeWarning,
            stacklevel=3,
        )


def _enlist(numbers: list[int]) -> None:
    numbers.append(threading.get_native_id())
