"""When steps ended, when a run has been long enough, and what memory a process holds."""

import math
import multiprocessing
import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


class Clock:
    """Take the time after every step; stop training by a KeyboardInterrupt.

    The warm-up ends with the first epoch or, where that lasts longer, with the first step after
    half of `seconds`. What follows is measured for `seconds`, two steps at the least.

    Parameters
    ----------
    rows, batch : int
        Rows of an epoch and of a step.
    seconds : float
        How long to measure after the warm-up.
    """

    def __init__(self, rows: int, batch: int, seconds: float) -> None:
        self.rows, self.batch, self.seconds = rows, batch, seconds
        self.steps_per_epoch = math.ceil(rows / batch)
        self.times: list[float] = []
        self.warm: int | None = None
        self.begin = time.perf_counter()

    def tick(self, *_: Any) -> None:
        """Note the end of a step; any arguments of a hook are ignored."""
        now = time.perf_counter()
        times = self.times
        times.append(now)
        if self.warm is None:
            if len(times) == self.steps_per_epoch or now - times[0] > self.seconds / 2:
                self.warm = len(times) - 1
        elif now - times[self.warm] >= self.seconds and len(times) > self.warm + 2:
            raise KeyboardInterrupt

    @property
    def first(self) -> float:
        """Seconds from the call of fit to the end of the first step."""
        return self.times[0] - self.begin

    @property
    def rate(self) -> float:
        """Rows per second after the warm-up."""
        warm, last = self.warm, len(self.times) - 1
        if warm is None or last <= warm:
            raise RuntimeError(f"Training ended after {last + 1} steps, before it was measured.")
        rest = self.rows - (self.steps_per_epoch - 1) * self.batch
        n_last = (last + 1) // self.steps_per_epoch - (warm + 1) // self.steps_per_epoch
        rows = (last - warm) * self.batch - n_last * (self.batch - rest)
        return rows / (self.times[last] - self.times[warm])


def peak_memory() -> float:
    """Return this process's largest resident memory so far, MiB."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss starts at what the parent process held
        lines = status.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def held() -> float:
    """Return this process's resident memory, MiB; where that is unknown, the largest so far."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_memory()
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def apart(measure: Callable[..., Any], *case: Any) -> Any:
    """Return what a function returns in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measure, *case).result()
