"""The peak of a process's memory, reset through /proc/self/clear_refs and read as VmHWM."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
from collections.abc import Callable
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
#: What resets the peak, by proc(5).
_RESET_PEAK = "5"
#: More than any first call at the target's configuration takes; of much more, the system works on long after it was freed.
_BACKED = 256 << 20


class PeakUnavailableError(RuntimeError):
    """The peak cannot be reset here."""


def read_status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    raise PeakUnavailableError(f"/proc/self/status has no {field}: the peak of memory needs Linux")


def release_freed() -> None:
    """Gives memory that was freed back to the system: a call that took it up again would not show."""
    gc.collect()
    # A C library without it (musl) gives memory back by itself.
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def peak_extra(step: Callable[[], object]) -> int:
    """Bytes by which one call raises the resident memory at its peak."""
    release_freed()
    try:
        _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    except OSError as error:
        raise PeakUnavailableError(
            f"the peak of memory cannot be reset by writing {_RESET_PEAK} to {_CLEAR} ({error.strerror}): "
            "run where a process may do so (a container may forbid it)"
        ) from None
    before = read_status("VmRSS")
    step()
    return max(0, read_status("VmHWM") - before)


def back() -> None:
    """Writes once to memory and frees it, so that the machine itself has the memory that a call gets next.

    A virtual machine gives memory that is free for some seconds back to its host, and waits for each page when it is used
    again: up to 50 ms for the gradient of a first call, or nothing, by chance.
    """
    with mmap.mmap(-1, _BACKED, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, _BACKED, mmap.PAGESIZE):
            memory[at] = 1


def available() -> int:
    """Bytes that the machine can still give."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise PeakUnavailableError("/proc/meminfo has no MemAvailable: the benchmarks need Linux")
