"""Measures one contender in this process: ``python -m benchmarks.speed.measure``.

Writes one JSON object to `--out`: the numbers, or under ``error`` why there are none.
"""

import argparse
import contextlib
import json
import time
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.clock import Clock, peak_memory
from benchmarks.speed.contenders import CONTENDERS
from benchmarks.speed.workloads import WORKLOADS, Job, Table

BULK_ROWS = 65_536
SINGLE_CALLS = 500


def measure(job: Job, name: str, seconds: float) -> dict[str, Any]:
    """Return the contender's numbers; a part that fails leaves its error in their place."""
    module = import_module(f"benchmarks.speed.contenders.{CONTENDERS[name]}")
    contender = module.Contender(job)
    batch = len(job.table.labels) if contender.by_epoch else job.workload.batch
    clock = Clock(len(job.table.labels), batch, seconds)
    with contextlib.suppress(KeyboardInterrupt):
        contender.fit(clock)
    numbers: dict[str, Any] = {"fit": clock.rate, "steps": len(clock.times)}
    if not contender.by_epoch:
        numbers["first"] = clock.first
    numbers["memory"] = peak_memory()
    n = min(BULK_ROWS, len(job.table.labels))
    for part, rows in (("bulk", n), ("single", 1)):
        try:
            inputs = contender.inputs(0, rows)
            taken = timed(lambda inputs=inputs: contender.predict(inputs), seconds / 2)
            numbers[part] = n / taken if part == "bulk" else taken * 1e3
        except Exception as error:
            numbers[f"{part}_error"] = said(error)
    return numbers


def timed(call: Callable[[], Any], seconds: float) -> float:
    """Return the median time of a call after a first one, over `seconds` or SINGLE_CALLS."""
    call()
    times: list[float] = []
    begin = time.perf_counter()
    while not times or (time.perf_counter() - begin < seconds and len(times) < SINGLE_CALLS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


def said(error: BaseException) -> str:
    """Return an error in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("model")
    parser.add_argument("contender", choices=CONTENDERS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the saved table")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    job = Job(WORKLOADS[args.workload], args.model, Table.load(args.data))
    try:
        numbers = measure(job, args.contender, args.seconds)
    except Exception as error:
        numbers = {"error": said(error)}
    args.out.write_text(json.dumps(numbers))


if __name__ == "__main__":
    main()
