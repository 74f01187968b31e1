"""Measures two processes that train one network beside one process with both cores.

Each run has processes of its own, and the second epoch counts. A rank waits in an exchange for the
other one too, so that the share of communication holds what one rank is slower than the other.
What networks of some speed would make of it is arithmetic, from the bytes that a step sends.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from skorch.callbacks import Callback

from benchmarks.shared import PLAIN, Report, table
from benchmarks.speed.workloads import WORKLOADS, random_table
from sk_mtl import MMoE

RUNS = 3
QUICK_RUNS = 1
W3 = WORKLOADS["w3"]
SIZES = W3.models["mmoe"]
LABELS = ["click", "buy"]
ROWS, BATCHES = 400_000, (1024, 4096, 16_384)
BALANCERS = ("equal", "pcgrad")
GBITS, SIZES_OF_GROUPS = (1, 10, 25), (2, 4, 8)
SETTINGS = (
    f"MMoE of W3's sizes: {SIZES.n_experts} experts of {SIZES.experts}, 26 columns of ids (up to "
    f"a million of them, embeddings of {W3.embedding_dim}, sparse gradients above 50,000 slots), "
    "13 numbers, two labels; the batch is that of both processes together. The median of the runs."
)


class Traffic(Callback):
    """What the last epoch took, and sent."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.seconds = self.bytes = self.gathered = self.calls = 0
        ranks = net.ranks
        if ranks is None:
            return
        wait, gather = ranks._wait, ranks.gather

        def timed_wait(work: Any, tensor: torch.Tensor) -> None:
            start = time.perf_counter()
            wait(work, tensor)
            self.seconds += time.perf_counter() - start
            self.bytes += tensor.nbytes
            self.calls += 1

        def counted_gather(*tensors: torch.Tensor) -> Any:
            self.gathered += sum(tensor.nbytes for tensor in tensors)
            return gather(*tensors)

        ranks._wait, ranks.gather = timed_wait, counted_gather

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        self.seconds = self.bytes = self.gathered = self.calls = 0

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        steps = net.history[-1]["train_batch_count"]
        self.found_ = {
            "waited": self.seconds,
            "calls": self.calls / steps,
            "dense": (self.bytes - self.gathered) / steps,
            "sparse": self.gathered / steps,
        }


def one(folder: str, rows: str, batch: str, balancer: str, threads: str) -> None:
    """Fit, and write what it took: what a process of a run does."""
    torch.set_num_threads(int(threads))
    n = int(rows)
    made = random_table(n, np.logspace(1, 6, 26).astype(int), 13)
    columns = {f"c{j}": own for j, own in enumerate(made.categorical.T)}
    X = pd.DataFrame(columns | {f"x{j}": own for j, own in enumerate(made.numeric.T)})
    Y = pd.DataFrame(made.labels, columns=LABELS)
    traffic = Traffic()
    params = PLAIN | {
        "categorical_features": list(columns), "embedding_dim": W3.embedding_dim,
        "batch_size": int(batch), "max_epochs": 2, "random_state": 0, "balancer": balancer,
        "callbacks": [traffic],
    }  # fmt: skip
    model = MMoE(
        n_experts=SIZES.n_experts, expert_units=SIZES.experts, tower_units=SIZES.towers, **params
    ).fit(X, Y)  # fmt: skip
    seconds = model.history_["dur"].iloc[-1]
    found = {"rate": n / seconds, "seconds": seconds, "loss": model.history_["train_loss"].iloc[-1]}
    traffic = next(c for c in model.net_.callbacks if isinstance(c, Traffic))
    found |= traffic.found_ | {"share": traffic.found_["waited"] / seconds}
    rank = os.environ.get("RANK", "0")
    (Path(folder) / f"{rank}.json").write_text(json.dumps(found))


def measure(n_processes: int, threads: int, *args: Any) -> dict[str, float]:
    """Return what a run took: the first rank's numbers."""
    with tempfile.TemporaryDirectory() as folder:
        launch = [sys.executable, "-m"]
        if n_processes > 1:
            launch += ["torch.distributed.run", f"--nproc_per_node={n_processes}", "--standalone"]
            launch += ["-m"]
        command = [*launch, "benchmarks.ranks", folder, *map(str, args), str(threads)]
        env = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
        found = json.loads((Path(folder) / "0.json").read_text())
    print(n_processes, threads, *args, found, file=sys.stderr, flush=True)
    return found


def median(runs: int, *args: Any) -> dict[str, float]:
    found = [measure(*args) for _ in range(runs)]
    return {name: float(np.median([run[name] for run in found])) for name in found[0]}


def expected(
    alone: dict[str, float], two: dict[str, float], steps: int, gbit: float, n: int
) -> float:
    """Return the speed of n machines beside one, from the bytes of a step.

    A ring sends 2 (n - 1) / n times a dense gradient, and receives n - 1 shares of sparse entries.
    A share of n rows has 2 / n of the entries that one of two has. Nothing is sent while a
    machine computes.
    """
    step = alone["seconds"] / steps
    sent = 2 * (n - 1) / n * two["dense"] + (n - 1) * two["sparse"] * 2 / n
    return step / (step / n + 8 * sent / (gbit * 1e9))


def run(runs: int, quick: bool) -> Report:
    report = Report(SETTINGS)
    rows, batches = (40_000, BATCHES[1:2]) if quick else (ROWS, BATCHES)
    lines, sent, ratios, shares = [], [], [], []
    for batch in batches:
        for balancer in BALANCERS:
            case = rows, batch, balancer
            alone, two = median(runs, 1, 2, *case), median(runs, 2, 1, *case)
            single = median(runs, 1, 1, *case)
            steps = -(-rows // batch)
            ratio = two["rate"] / alone["rate"]
            ratios.append(ratio)
            shares.append(two["share"])
            difference = abs(two["loss"] - alone["loss"])
            lines.append(
                [f"{batch:,}", balancer, f"{single['rate']:,.0f}", f"{alone['rate']:,.0f}",
                 f"{two['rate']:,.0f} ({ratio:.2f})", f"{two['share']:.0%}", f"{two['calls']:.0f}",
                 f"{two['dense'] / 2**20:.2f} + {two['sparse'] / 2**20:.2f}", f"{difference:.0e}"]
            )  # fmt: skip
            if balancer == "equal":
                for gbit in GBITS:
                    speeds = [expected(alone, two, steps, gbit, n) for n in SIZES_OF_GROUPS]
                    sent.append([f"{batch:,}", f"{gbit}", *(f"{speed:.1f}" for speed in speeds)])
    header = ["batch", "balancer", "one process, one thread, rows/s", "one process, two threads",
              "two processes, one thread each", "of it in exchanges", "exchanges a step",
              "MiB a step: dense + sparse", "losses differ by"]  # fmt: skip
    report.sections.append("## Two cores of one machine\n\n" + table(header, lines))
    header = ["batch", "Gbit/s", *(f"{n} machines" for n in SIZES_OF_GROUPS)]
    report.sections.append(
        "## Several machines: arithmetic, not measured\n\nHow many times as fast as one machine of "
        "this kind, if nothing but bytes took time:\n\n" + table(header, sent)
    )
    report.findings += [
        f"Two processes train {min(ratios):.2f} to {max(ratios):.2f} times as many rows per second "
        "as one process with both cores.",
        f"They are in exchanges for {min(shares):.0%} to {max(shares):.0%} of the time.",
    ]
    return report


if __name__ == "__main__":
    one(*sys.argv[1:])
