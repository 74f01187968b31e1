"""Memory of a training run, kept from one step to the next."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""glibc's names of its settings, from malloc.h."""

KEPT, USUAL = 2**30, 2**25
"""Bytes: what a run keeps, and the most that glibc chooses by itself."""


@contextmanager
def keep_memory() -> Iterator[None]:
    """Let the C library keep freed memory while the block runs, and give it back at the end.

    Every step allocates the same tensors. glibc asks the system for each one above 32 MiB anew,
    and the system clears its pages: at a batch of 4096 rows that took a sixth of a step. Nothing
    is changed where the C library has no such setting.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if not hasattr(libc, "mallopt") or libc is None:
        yield
        return
    libc.mallopt(M_MMAP_THRESHOLD, KEPT)
    libc.mallopt(M_TRIM_THRESHOLD, KEPT)
    try:
        yield
    finally:
        libc.mallopt(M_MMAP_THRESHOLD, USUAL)
        libc.mallopt(M_TRIM_THRESHOLD, 2 * USUAL)
        libc.malloc_trim(0)
