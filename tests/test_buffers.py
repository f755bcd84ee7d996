"""Memory that is used again."""

import gc
import mmap
import sys
import threading

import numpy as np
import pytest
from checks.forks import can_fork, of_a_child

import unilossseg
from unilossseg.backends import _buffers, release_memory
from unilossseg.backends._buffers import LARGE_PAGE, LEAST_BYTES, SHELF, Shelf

large_pages = pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="this platform has no large pages to ask for")


@pytest.fixture
def shelf():
    return Shelf(0)


def address(x):
    return x.__array_interface__["data"][0]


def test_memory_comes_back_when_the_last_array_on_it_is_gone(shelf):
    x = shelf.empty((LEAST_BYTES,), np.float32)
    place, part = address(x), x[3:5]
    del x
    assert shelf.kept == 0
    assert address(shelf.empty((LEAST_BYTES,), np.float32)) != place
    del part
    assert address(shelf.empty((2, LEAST_BYTES // 2), np.int32)) == place


def test_arrays_in_use_share_nothing(shelf):
    arrays = [shelf.empty((LEAST_BYTES,), np.float32) for _ in range(4)]
    for number, x in enumerate(arrays):
        x[...] = number
    assert [float(x.min()) for x in arrays] == [float(x.max()) for x in arrays] == [0, 1, 2, 3]


def test_an_array_is_whole_writable_and_aligned(shelf):
    for dtype in (np.float32, np.float64, np.int64, np.bool_):
        x = shelf.empty((3, LEAST_BYTES), dtype)
        assert x.shape == (3, LEAST_BYTES)
        assert x.dtype == dtype
        assert x.flags.writeable
        assert x.flags.aligned
        assert x.flags.c_contiguous


@pytest.mark.parametrize("size", [LARGE_PAGE - 1, LARGE_PAGE, 3 * LARGE_PAGE + 5])
def test_large_memory_is_whole_and_comes_back(shelf, size):
    x = shelf.empty((size,), np.uint8)
    place, x[...] = address(x), 7
    assert x.nbytes == size
    assert x.min() == 7
    del x
    assert shelf.kept == size
    assert address(shelf.empty((size,), np.uint8)) == place


@large_pages
def test_a_kernel_without_large_pages(shelf, monkeypatch):
    class Refusing(mmap.mmap):
        def madvise(self, *_):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(_buffers.mmap, "mmap", Refusing)
    x = shelf.empty((LARGE_PAGE,), np.uint8)
    x[...] = 7
    assert x.min() == 7
    del x
    assert shelf.kept == LARGE_PAGE


def out_of_memory(*_, **__):
    raise OSError(12, "Cannot allocate memory")


@large_pages
def test_memory_that_only_numpy_finds(shelf, monkeypatch):
    monkeypatch.setattr(_buffers.mmap, "mmap", out_of_memory)
    x = shelf.empty((LARGE_PAGE,), np.uint8)
    assert x.nbytes == LARGE_PAGE
    assert x.flags.writeable


def test_memory_that_nobody_finds(shelf):
    """More than a process can address. It is no reason to keep more afterwards."""
    with pytest.raises(MemoryError):
        shelf.empty((1 << 60,), np.uint8)
    x = shelf.empty((LEAST_BYTES,), np.uint8)
    others = [shelf.empty((LEAST_BYTES,), np.uint8) for _ in range(5)]
    del x, others
    gc.collect()
    assert shelf.kept == 2 * LEAST_BYTES


@can_fork
def test_a_child_of_a_fork_keeps_memory():
    def kept():
        x = SHELF.empty((LEAST_BYTES,), np.uint8)
        place = address(x)
        del x
        # Not by a second array's address: the allocator may have given the same memory out again.
        return place in SHELF._kept

    assert kept()
    assert of_a_child(kept)


# What interrupts a finalizer is reported, and goes no further.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("where", ["empty", "_take", "_find", "put"])
def test_an_interruption_anywhere_leaves_a_shelf_that_keeps_memory(shelf, where):
    """At each line in turn: it is raised between two steps, wherever the signal comes."""

    def interrupting(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename != _buffers.__file__ or frame.f_code.co_name != where:
            return None
        if event == "line":
            left -= 1
            if left == 0:
                raise KeyboardInterrupt
        return interrupting

    interrupted = 0
    for lines in range(1, 12):
        left = lines
        sys.settrace(interrupting)
        try:
            x = shelf.empty((LEAST_BYTES,), np.uint8)
            del x
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        interrupted += left <= 0
        x = shelf.empty((LEAST_BYTES,), np.uint8)
        place = address(x)
        del x
        assert address(shelf.empty((LEAST_BYTES,), np.uint8)) == place
    assert interrupted


def test_no_more_is_kept_than_two_and_a_half_of_the_largest(shelf):
    arrays = [shelf.empty((4 * LEAST_BYTES,), np.uint8) for _ in range(5)]
    arrays += [shelf.empty((LEAST_BYTES,), np.uint8) for _ in range(5)]
    del arrays
    gc.collect()
    assert 8 * LEAST_BYTES <= shelf.kept <= 10 * LEAST_BYTES


def test_two_gradients_that_waited_together_are_kept_both(shelf):
    """Of two heads, or of a MixedLoss; and what else was needed for them."""
    gradients = [shelf.empty((4 * LEAST_BYTES,), np.uint8) for _ in range(2)]
    other = shelf.empty((LEAST_BYTES,), np.uint8)
    places = {address(x) for x in (*gradients, other)}
    del gradients, other
    gc.collect()
    again = [shelf.empty((size * LEAST_BYTES,), np.uint8) for size in (4, 1, 4)]
    assert {address(x) for x in again} == places


def test_something_is_kept_of_small_arrays_too():
    shelf = Shelf(8 * LEAST_BYTES)
    arrays = [shelf.empty((LEAST_BYTES,), np.uint8) for _ in range(12)]
    del arrays
    gc.collect()
    assert shelf.kept == 8 * LEAST_BYTES


def test_sizes_of_the_past_make_room(shelf):
    """Large arrays of one shape of logits, then small ones of another: these are kept all the same."""
    large = [shelf.empty((size * LEAST_BYTES,), np.uint8) for size in (40, 39, 18)]
    while large:
        del large[0]
    assert shelf.kept == (40 + 39 + 18) * LEAST_BYTES
    small = [shelf.empty((2 * LEAST_BYTES,), np.uint8) for _ in range(3)]
    del small
    # The first of the large ones has gone, and none of the small ones.
    assert shelf.kept == (39 + 18 + 3 * 2) * LEAST_BYTES


def test_memory_is_let_go_of():
    shelf = Shelf(2 * LEAST_BYTES)
    used, other = (shelf.empty((8 * LEAST_BYTES,), np.uint8) for _ in range(2))
    del other
    assert shelf.kept == 8 * LEAST_BYTES
    shelf.release()
    assert shelf.kept == 0
    # What was in use is the system's when it comes back, being more than is kept from now on.
    used[...] = 7
    del used
    assert shelf.kept == 0
    small = [shelf.empty((LEAST_BYTES,), np.uint8) for _ in range(4)]
    del small
    assert shelf.kept == 2 * LEAST_BYTES
    large = shelf.empty((8 * LEAST_BYTES,), np.uint8)
    del large
    assert shelf.kept >= 8 * LEAST_BYTES


def test_memory_is_let_go_of_beside_calls(shelf):
    wrong = []

    def work(number):
        for _ in range(200):
            x = shelf.empty((LEAST_BYTES,), np.uint8)
            x[...] = number
            if x.min() != number or x.max() != number:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        shelf.release()
    assert wrong == []
    shelf.release()
    assert shelf.kept == 0


def test_a_user_lets_go_of_it():
    logits, labels = np.zeros((1, 4, 1024, 1024), np.float32), np.zeros((1, 1024, 1024), np.int64)
    value, gradient = unilossseg.value_and_grad(unilossseg.CrossEntropyLoss())(logits, labels)
    del value, gradient
    assert SHELF.kept >= logits.nbytes
    release_memory()
    assert SHELF.kept == 0


def test_much_larger_memory_does_not_serve(shelf):
    large = shelf.empty((8 * LEAST_BYTES,), np.uint8)
    place = address(large)
    del large
    small = shelf.empty((LEAST_BYTES,), np.uint8)
    assert address(small) != place
    assert shelf.kept == 8 * LEAST_BYTES


def test_small_arrays_are_the_allocators(shelf):
    small = shelf.empty((LEAST_BYTES - 1,), np.uint8)
    del small
    assert shelf.kept == 0


def test_threads_get_memory_of_their_own(shelf):
    wrong = []

    def work(number):
        for _ in range(50):
            x = shelf.empty((LEAST_BYTES,), np.uint8)
            x[...] = number
            if x.min() != number or x.max() != number:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_gradient_outlives_later_calls():
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(2, 8, 300, 300)).astype("float32"), rng.integers(0, 8, size=(2, 300, 300))
    grad = unilossseg.value_and_grad(unilossseg.CrossEntropyLoss())
    _, first = grad(logits, labels)
    kept = first.copy()
    for _ in range(3):
        grad(logits[:, ::-1], labels)
    assert np.array_equal(first, kept)
