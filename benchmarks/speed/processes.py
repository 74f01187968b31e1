"""Runs one measurement in a process of its own and reads what it wrote."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
STAT = Path("/proc/stat")
ATTEMPTS, DISTURBED, PATIENCE = 3, 0.05, 60.0
LIMIT = 400.0
"""Seconds after which a process is stopped."""


def measured(
    module: str, *arguments: Any, threads: int, attempts: int = ATTEMPTS
) -> dict[str, Any]:
    """Run ``python -m module arguments --out FILE`` and return the JSON object in the file.

    With several attempts it starts once other processes leave the CPUs alone, or after PATIENCE
    seconds. Under ``others`` stands the share of the CPUs that they took meanwhile: where that is
    more than DISTURBED the run is repeated, and the least disturbed of all attempts counts. A
    process that fails or lasts too long gives an ``error``.
    """
    tried: list[dict[str, Any]] = []
    while len(tried) < attempts and not any(n["others"] <= DISTURBED for n in tried):
        if attempts > 1:
            wait_until_quiet()
        before = cpu_seconds()
        numbers = once(module, arguments, threads)
        after = cpu_seconds()
        numbers["others"] = others_share(before, after)
        if "error" in numbers:
            return numbers
        tried.append(numbers)
    return min(tried, key=lambda numbers: numbers["others"])


def wait_until_quiet() -> None:
    """Wait until other processes leave the CPUs alone, for PATIENCE seconds at most."""
    begin = time.perf_counter()
    while time.perf_counter() - begin < PATIENCE:
        before = cpu_seconds()
        time.sleep(0.5)
        if others_share(before, cpu_seconds()) <= DISTURBED:
            return


def once(module: str, arguments: tuple[Any, ...], threads: int) -> dict[str, Any]:
    """Run the command once."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        command = [sys.executable, "-m", module, *map(str, arguments), "--out", str(out)]
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment(threads),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {LIMIT:.0f} s"}
        if out.exists():
            return json.loads(out.read_text())
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"process ended with status {done.returncode}: {last}"[:200]}


def environment(threads: int) -> dict[str, str]:
    """Return an environment in which every library uses this number of threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    names += ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
    return {**os.environ, **quiet, **dict.fromkeys(names, str(threads))}


def cpu_seconds() -> tuple[float, float, float]:
    """Return CPU seconds so far: of all CPUs, of these busy, of our own finished processes."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = usage.ru_utime + usage.ru_stime
    if not STAT.exists():
        return 0.0, 0.0, own
    fields = [int(field) for field in STAT.read_text().splitlines()[0].split()[1:9]]
    tick = os.sysconf("SC_CLK_TCK")
    idle = fields[3] + fields[4]
    return sum(fields) / tick, (sum(fields) - idle) / tick, own


def others_share(before: tuple[float, ...], after: tuple[float, ...]) -> float:
    """Return the share of the CPUs that others took between two readings, 0 where unknown."""
    total, busy, own = (b - a for a, b in zip(before, after, strict=True))
    return max(0.0, busy - own) / total if total > 0 else 0.0
