"""Memory of a training run, kept from one step to the next."""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's names of its settings, from malloc.h."""

KEPT, USUAL = 2**30, 2**25
"""Bytes: what a run keeps, and the most that glibc chooses by itself."""

_lock, _running = threading.Lock(), 0


def _set_by_user() -> bool:
    """Whether the environment tells the C library how to keep memory."""
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name.startswith("MALLOC_") for name in os.environ)


@contextmanager
def keep_memory() -> Iterator[None]:
    """Let the C library keep freed memory while the block runs, and give it back at the end.

    Every step allocates the same tensors. glibc asks the system for each one above 32 MiB anew,
    and the system clears its pages: at a batch of 4096 rows that took a sixth of a step. Nothing
    is changed where the user has set glibc's allocator in the environment (``MALLOC_...``,
    ``GLIBC_TUNABLES``), or where the C library has no such setting.

    What remains afterwards: glibc adapts its threshold to the program until one is set; from then
    on it stays at 32 MiB, the largest that it would have chosen itself.
    """
    global _running
    libc = ctypes.CDLL(None) if sys.platform == "linux" and not _set_by_user() else None
    if libc is None or not hasattr(libc, "mallopt"):
        yield
        return
    with _lock:
        _running += 1
        if _running == 1:
            libc.malloc_trim(0)  # what reading and encoding left behind
            libc.mallopt(M_MMAP_THRESHOLD, KEPT)
            libc.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                libc.mallopt(M_MMAP_THRESHOLD, USUAL)
                libc.mallopt(M_TRIM_THRESHOLD, 2 * USUAL)
                libc.malloc_trim(0)
