"""Loops that share themselves out: any number of threads, several callers, a fork, the interpreter's end, and cores."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from checks import plain_loops as plain
from checks.compiled import loops as _loops
from checks.forks import can_fork, of_a_child

from unilossseg.backends import _threads
from unilossseg.backends._bfloat16 import BFLOAT16, rounded, widened

#: More than a hundred pieces of what is large enough for as many; the last of them is shorter.
ELEMENTS = 64 * 32 * 512 + 3
HAS_CORES = hasattr(os, "sched_setaffinity") and len(os.sched_getaffinity(0)) > 1


def given(seed=3):
    """Logits and labels, flat and as (N, C, S)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(1, 1, ELEMENTS)).astype(np.float32)
    return z, rng.integers(0, 3, z.shape), z[..., :-3].reshape(2, 4, -1), rng.integers(0, 4, (2, ELEMENTS // 8))


def results(threads, arrays):
    """Of each loop that shares itself out, in float32 and for the last in bfloat16 too."""
    z, y, pixels, labels = arrays
    slopes, counts = np.empty_like(z), np.zeros(4, np.int64)
    yield _loops.binary_cross_entropy(z, y, slopes, 2, 0.5, 0.75, 4.0, 2.0, threads, None)[0]
    yield slopes.copy()
    for squares in (False, True):
        yield _loops.differences(z, y, slopes, 2, squares, 0.5, threads)[0]
        yield slopes.copy()
    _loops.tally(y, counts, 2, 1, threads)
    yield counts
    _loops.keep_where(y == 1, z, slopes, -1, threads)
    yield slopes.copy()
    weight = np.array([0.5, 3, 0, 1], np.float32)
    for x in (pixels, rounded(pixels)["bfloat16"]):
        out = np.empty_like(x)
        yield _loops.plain_cross_entropy(x, labels, out, weight, 3, 0.5, threads)
        yield out
    yield _loops.weight_sum(labels, weight, 3, threads)
    index, weights, by_class = labels.astype(np.int32), (labels < 3).astype(np.float32), np.ones((2, 4), np.float32)
    for x in (pixels, rounded(pixels)["bfloat16"]):
        outs, losses, sums = (
            (np.empty_like(x), np.empty_like(x)),
            np.empty((2, *labels.shape), np.float32),
            np.zeros((2, 3, 4)),
        )
        _loops.cross_entropy(x, index, losses[0], None, None, threads)
        _loops.cross_entropy(x, index, losses[1], weights, outs[0], threads)
        _loops.softmax_totals(x, index, weights, sums, threads)
        _loops.through_softmax_by_class(x, index, by_class, by_class * 3, weights, outs[1], threads)
        yield from (losses, sums, *outs)


def same(found, wanted):
    """Bit for bit."""
    found, wanted = list(found), list(wanted)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def arrays():
    return given()


@pytest.fixture(scope="module")
def alone(arrays):
    return list(results(1, arrays))


def test_against_plain_loops(arrays):
    z, y, pixels, labels = arrays
    exact, slopes = plain.binary_cross_entropy(z, y, 2, (0.5, 0.75), 2.0, 4.0)
    found = list(results(3, arrays))
    np.testing.assert_allclose(found[0], exact, rtol=1e-6)
    np.testing.assert_allclose(found[1], slopes, rtol=1e-5, atol=1e-6)
    for at, squares in ((2, False), (4, True)):
        exact, slopes = plain.differences(z, y, 2, squares, 0.5)
        np.testing.assert_allclose(found[at], exact, rtol=1e-6)
        np.testing.assert_allclose(found[at + 1], slopes, rtol=1e-6, atol=1e-6)
    assert found[6].tolist() == [np.sum(y < 2), np.sum(y == 1), np.sum(y == 0), 0]
    np.testing.assert_array_equal(found[7], np.where(y == 1, z, np.float32(-1)))
    weight = np.array([0.5, 3, 0, 1], np.float32)
    exact, slopes = plain.plain_cross_entropy(pixels, labels, 3, 0.5, weight)
    np.testing.assert_allclose(found[8], exact, rtol=1e-6)
    np.testing.assert_allclose(found[9], slopes, rtol=1e-5, atol=1e-6)
    exact, slopes = plain.plain_cross_entropy(widened(rounded(pixels)), labels, 3, 0.5, weight)
    np.testing.assert_allclose(found[10], exact, rtol=1e-6)
    np.testing.assert_allclose(widened(found[11].view(BFLOAT16)), slopes, rtol=2**-8, atol=1e-5)
    assert found[12] == np.sum(np.where(labels == 3, 0, weight[labels]), dtype=np.float64)
    weights = (labels < 3).astype(np.float64)
    losses, slopes = plain.cross_entropy(pixels, labels, weights)
    np.testing.assert_allclose(found[13], [losses, losses], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[14], np.stack(plain.softmax_totals(pixels, labels, weights), axis=1), rtol=1e-6)
    np.testing.assert_allclose(found[15], slopes, rtol=1e-5, atol=1e-6)
    slopes = plain.through_softmax_by_class(pixels, labels, np.ones((2, 4)), np.full((2, 4), 3.0), weights)
    np.testing.assert_allclose(found[16], slopes, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threads", [2, 3, 8, 100, 10**9])
def test_any_number_of_threads_gives_the_same_bits(arrays, alone, threads):
    for _ in range(3):
        same(results(threads, arrays), alone)


def test_fewer_threads_after_more(arrays, alone):
    # Those that are too many have been called before, and may come late.
    for threads in (6, 2, 6, 1, 3, 2) * 5:
        same(results(threads, arrays), alone)


def test_several_callers_at_once(arrays, alone):
    found, start = [None] * 4, threading.Barrier(4)

    def call(at):
        start.wait()
        found[at] = [list(results(3, arrays)) for _ in range(3)]

    callers = [threading.Thread(target=call, args=(at,)) for at in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=120)
    for one in found:
        for again in one:
            same(again, alone)


def test_a_team_grows_beside_a_loop(arrays, alone):
    """A caller that asks for more threads than there are starts them while another one's loop runs."""
    grown, wrong = threading.Event(), []

    def call():
        while not grown.is_set():
            for one, other in zip(results(2, arrays), alone, strict=True):
                if not np.array_equal(one, other):
                    wrong.append(one)

    caller, labels = threading.Thread(target=call), np.zeros(8, np.int64)
    caller.start()
    try:
        for threads in range(2, 60):
            counts = np.zeros(4, np.int64)
            _loops.tally(labels, counts, 2, 1, threads)
            assert counts.tolist() == [8, 0, 8, 0]
    finally:
        grown.set()
        caller.join(timeout=120)
    assert not wrong


@pytest.mark.parametrize("threads", [0, -1, -(2**70)])
def test_no_threads(arrays, threads):
    y = arrays[1]
    with pytest.raises((ValueError, OverflowError)):
        _loops.tally(y, np.zeros(4, np.int64), 2, 1, threads)


def test_inside_a_shared_task_a_loop_works_alone():
    # The task of each thread asks, of which there are two.
    _threads.set_num_threads(2)
    try:
        assert _threads.threads_here() == 2
        assert _threads.run(lambda item: _threads.threads_here(), range(4)) == [1] * 4
    finally:
        _threads.set_num_threads(None)


@can_fork
def test_after_a_fork(arrays, alone):
    same(results(3, arrays), alone)

    def firsts(found):
        return [np.asarray(one).ravel()[:5].tolist() for one in found]

    assert of_a_child(lambda: firsts(results(3, given()))) == firsts(alone)


def test_the_interpreter_ends():
    code = (
        "import numpy as np, threading; from unilossseg.backends import _loops\n"
        "y = np.zeros(1 << 22, np.int64)\n"
        "def count(): _loops.tally(y, np.zeros(4, np.int64), 255, 1, 4)\n"
        "count(); threads = [threading.Thread(target=count, daemon=True) for _ in range(4)]\n"
        "[thread.start() for thread in threads]; print('here')\n"
    )
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "here\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows takes no size of a stack that no memory has room for")
def test_where_no_thread_can_be_started_the_caller_does_it_all():
    code = (
        "import numpy as np, threading, warnings; from unilossseg.backends import _loops\n"
        "threading.stack_size(1 << 60)\n"
        "warnings.simplefilter('always')\n"
        "y, counts = np.arange(1 << 20) % 3, np.zeros((2, 4), np.int64)\n"
        "with warnings.catch_warnings(record=True) as warned:\n"
        "    for each in counts: _loops.tally(y, each, 2, 1, 4)\n"
        "print(counts.tolist(), [str(one.message).partition(':')[0] for one in warned])\n"
        "warnings.simplefilter('error')\n"
        "_loops.tally(y, counts[0], 2, 1, 4)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    y = np.arange(1 << 20) % 3
    counted = [int(np.sum(y < 2)), int(np.sum(y == 1)), int(np.sum(y == 0)), 0]
    assert done.stdout == f"{[counted] * 2} ['the system starts no further thread']\n", done.stderr
    assert done.returncode == 0, done.stderr


@pytest.fixture
def waiting():
    """The number of a thread that waits."""
    number, found, end = [], threading.Event(), threading.Event()

    def wait():
        number.append(threading.get_native_id())
        found.set()
        end.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    assert found.wait(timeout=30)
    yield number[0]
    end.set()
    thread.join(timeout=30)


@pytest.mark.skipif(not HAS_CORES, reason="threads have cores on Linux, and there must be two of them")
def test_threads_are_kept_off_their_callers_core(waiting):
    own = os.sched_getaffinity(0)
    _loops.send_away([waiting])
    found = os.sched_getaffinity(waiting)
    assert found < own
    assert len(found) == len(own) - 1


@pytest.mark.skipif(not HAS_CORES, reason="threads have cores on Linux, and there must be two of them")
def test_a_caller_with_one_core_sends_nobody_away(waiting):
    own = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(own)})
        _loops.send_away([waiting])
    finally:
        os.sched_setaffinity(0, own)
    assert os.sched_getaffinity(waiting) == own


@pytest.mark.parametrize("threads", [["text"], (1,), None, [1 << 2000]])
def test_no_threads_to_send_away(threads):
    with pytest.raises((TypeError, OverflowError)):
        _loops.send_away(threads)
