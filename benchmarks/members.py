"""Measures what several members cost beside one: seconds of an epoch, and memory of a fit.

The network and the rows are those of `python -m benchmarks adult`. Each fit has a process of its
own; the processes of one, two and four members take turns.
"""

import sys
from typing import NamedTuple

import numpy as np

from benchmarks.defaults.study import ARCHITECTURES
from benchmarks.shared import PLAIN, Report, table
from benchmarks.speed.clock import apart, held, peak_memory
from sk_mtl.datasets import fetch_adult

RUNS = 3
QUICK_RUNS = 1
MEMBERS = (1, 2, 4)
BATCHES = (256, 4096)
EPOCHS = 4
SETTINGS = (
    "Adult's train file as a raw frame, default architectures (bottom (128, 64)) without members' "
    f"other company: no dropout, constant rate, standardized numbers; the fastest of {EPOCHS} "
    "epochs, the least of the runs; memory beside what the process held before `fit`."
)


class Cost(NamedTuple):
    """Seconds of the fastest epoch, and MiB that `fit` held at most."""

    seconds: float
    memory: float


def measure(name: str, batch_size: int, n_members: int) -> Cost:
    """Fit in this process."""
    X, Y = fetch_adult(subset="train", return_X_y=True)
    own = {"bottom_units": (128, 64)} if name == "SharedBottom" else {}
    fixed = PLAIN | own | {"batch_size": batch_size, "n_members": n_members}
    for rows, epochs in ((slice(0, 1000), 1), (slice(None), EPOCHS)):
        before = held()
        model = ARCHITECTURES[name](**fixed | {"max_epochs": epochs}, random_state=0)
        model.fit(X[rows], Y[rows])
    return Cost(float(model.history_["dur"].min()), peak_memory() - before)


def run(runs: int, quick: bool) -> Report:
    report, lines = Report(SETTINGS), []
    for name in list(ARCHITECTURES)[: 1 if quick else None]:
        for batch in BATCHES:
            found: dict[int, list[Cost]] = {m: [] for m in MEMBERS}
            for _ in range(runs):
                for m, costs in found.items():
                    costs.append(apart(measure, name, batch, m))
                    print(name, batch, m, costs[-1], file=sys.stderr, flush=True)
            least = {m: np.min(costs, axis=0) for m, costs in found.items()}
            lines.append(
                [name, batch, f"{1000 * least[1][0]:.0f}"]
                + [f"{least[m][0] / least[1][0]:.2f}" for m in MEMBERS[1:]]
                + [f"{least[1][1]:.0f}"]
                + [f"{least[m][1] / least[1][1]:.2f}" for m in MEMBERS[1:]]
            )
    header = ["model", "batch", "ms an epoch, one", "two", "four", "MiB, one", "two", "four"]
    report.sections.append(table(header, lines) + "\n\nTwo and four members as ratios to one.")
    four = [float(line[4]) for line in lines]
    report.findings.append(f"Four members take {min(four):.1f} to {max(four):.1f} times one.")
    return report
