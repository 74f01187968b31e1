"""Measures one point of a scaling curve, or one share, in this process.

``python -m benchmarks.speed.scaling PART VALUE``: an estimator's step against the size of its
table (vocabulary), the rows, the tasks or the experts; what a step spends outside the network
(overhead), or the time of the import.
"""

import argparse
import contextlib
import functools
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.speed.clock import Clock, peak_memory
from benchmarks.speed.workloads import (
    ADULT_VOCABULARIES,
    WORKLOADS,
    Job,
    Sizes,
    Table,
    Workload,
    random_table,
)

BATCH = 1024
VALUES = {
    "vocabulary": (10_000, 100_000, 1_000_000, 10_000_000),
    "rows": (10_000, 30_000, 100_000, 300_000, 1_000_000),
    "tasks": (1, 2, 4, 8, 16, 32),
    "experts": (2, 4, 8, 16, 32, 64),
}
QUICK_VALUES = {"vocabulary": (10_000, 100_000)}
OVERHEAD = ("w1", "w2")
ROUNDS = 3


def vocabulary_job(value: int) -> Job:
    """Return a Shared-Bottom whose ten columns have a tenth of the table each, all ids seen."""
    rng = np.random.default_rng(0)
    size = value // 10
    rows = max(size, 100_000)
    ids = np.column_stack([rng.permutation(np.arange(rows) % size) for _ in range(10)])
    numeric = rng.random((rows, 5))
    labels = (rng.random((rows, 2)) < numeric[:, :2]).astype(np.int64)
    sizes = Sizes(bottom=(64,), towers=(32,))
    return job("shared_bottom", Table(ids, numeric, labels, np.full(10, size)), sizes)


def mmoe_job(rows: int = 100_000, tasks: int = 2, experts: int = 8) -> Job:
    """Return an MMoE on random rows of Adult's vocabularies."""
    table = random_table(rows, ADULT_VOCABULARIES, 5)
    noise = np.random.default_rng(1).random((rows, tasks))
    labels = (table.numeric[:, :1] > noise).astype(np.int64)
    sizes = Sizes(n_experts=experts, experts=(64,), towers=(32,))
    return job("mmoe", table._replace(labels=labels), sizes)


def job(model: str, table: Table, sizes: Sizes) -> Job:
    workload = Workload(lambda _: table, len(table.labels), BATCH, 1e-3, 16, {model: sizes})
    return Job(workload, model, table)


JOBS: dict[str, Callable[[int], Job]] = {
    "vocabulary": vocabulary_job,
    "rows": lambda value: mmoe_job(rows=value),
    "tasks": lambda value: mmoe_job(tasks=value),
    "experts": lambda value: mmoe_job(experts=value),
}


def step(job: Job, seconds: float) -> dict[str, float]:
    """Return the time of a training step, of all that comes before the second, and memory."""
    from benchmarks.speed.contenders.frames import Contender

    contender = Contender(job)
    clock = Clock(len(job.table.labels), job.workload.batch, seconds)
    with contextlib.suppress(KeyboardInterrupt):
        contender.fit(clock)
    milliseconds = 1e3 * job.workload.batch / clock.rate
    return {"step": milliseconds, "first": clock.first, "memory": peak_memory()}


def overhead(name: str, rows: int | None, seconds: float) -> dict[str, float]:
    """Return the time of a step, and of its forward, loss, backward and optimizer.

    Both are taken in the same steps. What is neither holds skorch, the batches, the record of
    losses.
    """
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from benchmarks.speed.contenders import frames

    workload = replace(WORKLOADS[name], batch=BATCH)
    table = workload.make(rows or workload.rows)
    contender = frames.Contender(Job(workload, "mmoe", table))
    clock, watch, inside = Clock(len(table.labels), BATCH, seconds), Stopwatch(), []

    def tick(*_: Any) -> None:
        inside.append(watch.total)
        clock.tick()

    for owner, method in parts_of_step():
        watch.wrap(owner, method)
    register_optimizer_step_post_hook(tick)
    with contextlib.suppress(KeyboardInterrupt):
        contender.model.fit(contender.X, contender.Y)
    steps = len(inside) - 1 - clock.warm
    return {
        "step": 1e3 * (clock.times[-1] - clock.times[clock.warm]) / steps,
        "inside": 1e3 * (inside[-1] - inside[clock.warm]) / steps,
    }


def parts_of_step() -> list[tuple[Any, str]]:
    """Return what a step of the network itself consists of, as functions and their owners."""
    import torch

    from sk_mtl._training import OPTIMIZERS, Criterion
    from sk_mtl.nn import MultiTaskModule, Towers

    optimizer = OPTIMIZERS["adam"][0]
    return [
        (MultiTaskModule, "represent"),
        (Towers, "forward"),
        (MultiTaskModule, "join"),
        (Criterion, "forward"),
        (Criterion, "estimate"),
        (torch.autograd, "backward"),
        (optimizer, "zero_grad"),
        (optimizer, "step"),
    ]


class Stopwatch:
    """Add up the time spent in functions, a call within a call counted once."""

    def __init__(self) -> None:
        self.total, self.depth = 0.0, 0

    def wrap(self, owner: Any, name: str) -> None:
        """Replace a function by one that is timed."""
        function = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self.depth += 1
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                if self.depth == 0:
                    self.total += time.perf_counter() - start

        setattr(owner, name, timed)


def imports(rounds: int) -> dict[str, float]:
    """Return the seconds that sk_mtl's import adds to torch and scikit-learn.

    All of scikit-learn's modules that sk_mtl loads are imported before, and with them whatever
    they import; `own` has pandas and skorch imported before, too.
    """
    listed = "import sys, sk_mtl; print(*(m for m in sys.modules if m.split('.')[0] == 'sklearn'))"
    before = f"import torch, {', '.join(_python(listed).split())}"
    timed = "import time; t = time.perf_counter(); import sk_mtl; print(time.perf_counter() - t)"
    scripts = {"added": f"{before}; {timed}", "own": f"{before}, pandas, skorch; {timed}"}
    return {
        name: median(float(_python(script)) for _ in range(rounds))
        for name, script in scripts.items()
    }


def _python(script: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=[*JOBS, "overhead", "import"])
    parser.add_argument("value", nargs="?", default="")
    parser.add_argument("--rows", type=int, help="rows of the table; default: the workload's")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    if args.part == "import":
        numbers = imports(ROUNDS if args.seconds >= 1 else 1)
    elif args.part == "overhead":
        numbers = overhead(args.value, args.rows, args.seconds)
    else:
        numbers = step(JOBS[args.part](int(args.value)), args.seconds)
    args.out.write_text(json.dumps(numbers))


if __name__ == "__main__":
    main()
