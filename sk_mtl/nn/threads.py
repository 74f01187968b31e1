"""One operation on one thread, without a change of settings that others could see."""

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Any

import torch


@functools.cache
def _setter() -> Callable[[int], Any] | None:
    """Return OpenMP's function that sets the calling thread's number of threads, or None.

    `torch.set_num_threads` sets the process's too: threads that start meanwhile would keep it.
    """
    try:
        set_threads = ctypes.CDLL(None).omp_set_num_threads
    except (OSError, AttributeError, TypeError):
        return None
    usual = torch.get_num_threads()
    set_threads(usual + 1)
    is_torchs = torch.get_num_threads() == usual + 1  # and not that of another copy of OpenMP
    set_threads(usual)
    return set_threads if is_torchs else None


def on_one_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of torch on the calling thread alone, where that can be had."""
    set_threads, usual = _setter(), torch.get_num_threads()
    if set_threads is None or usual == 1:
        return function(*args)
    set_threads(1)
    try:
        return function(*args)
    finally:
        set_threads(usual)


def _one_thread_after_fork() -> None:
    """Let a forked child compute on one thread.

    The threads of OpenMP do not live on in a child, but it waits for them: every operation on
    several threads would hang for ever. torch does the same in the workers of its data loader.
    """
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_one_thread_after_fork)
