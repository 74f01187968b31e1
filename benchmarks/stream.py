"""Measures a stream beside a fit: AUC on Adult in 64 chunks, and what a call costs by table size.

The stream's chunks are the train file's rows in random order, seen once; the fit does one epoch
over the same rows. A call trains 256 rows on a network whose one embedding table has 10,000 to
1,000,000 slots of 32 numbers.
"""

import sys
import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.shared import PLAIN, Report, aucs, mean_std, table
from sk_mtl import PLE, MMoE, SharedBottom
from sk_mtl.datasets import fetch_adult

RUNS = 5
N_CHUNKS = 64
ROWS = 256
CALLS = 20
SIZES = (10_000, 100_000, 400_000, 1_000_000)
MODELS = (SharedBottom, MMoE, PLE)
SETTINGS = (
    "one member, batch 256, one epoch, default sizes but a bottom of (128, 64); "
    f"{N_CHUNKS} chunks; calls of {ROWS} rows, the median of {CALLS}."
)


def run(runs: int, quick: bool) -> Report:
    X, Y = fetch_adult(subset="all", return_X_y=True)
    n_train = 32_561
    test = X[n_train:], Y[n_train:]
    rows = np.arange(3_000 if quick else n_train)
    scores: dict[str, list[Any]] = {}
    for seed in range(runs):
        order = np.random.default_rng(seed).permutation(rows)
        for cls in MODELS:
            sizes = {"bottom_units": (128, 64)} if cls is SharedBottom else {}
            fitted = cls(**PLAIN | sizes | {"max_epochs": 1}, random_state=seed).fit(
                X.iloc[rows], Y.iloc[rows]
            )
            stream = cls(**PLAIN | sizes, random_state=seed)
            for part in np.array_split(order, max(2, N_CHUNKS * len(rows) // n_train)):
                stream.partial_fit(X.iloc[part], Y.iloc[part], classes=[[0, 1], [0, 1]])
            pair = aucs(fitted, *test), aucs(stream, *test)
            scores.setdefault(cls.__name__, []).append(pair)
            print(cls.__name__, seed, pair, file=sys.stderr, flush=True)
    lines, gaps = [], []
    for name, pairs in scores.items():
        found = np.array(pairs)  # (runs, way, task)
        for k, task in enumerate(Y):
            gap = found[:, 1, k] - found[:, 0, k]
            gaps.append(gap.mean())
            ways = (mean_std(found[:, way, k]) for way in (0, 1))
            lines.append((name, task, *ways, f"{gap.mean():+.4f}", f"{gap.min():+.4f}"))
    costs = {size: cost(size) for size in SIZES}
    report = Report(SETTINGS)
    header = ["model", "task", "fit, one epoch", "stream", "mean difference", "worst run"]
    report.sections = [
        table(header, lines),
        table(
            ["slots of the table", "milliseconds per call", "beside 10,000 slots"],
            [(f"{n:,}", f"{c:.1f}", f"{c / costs[SIZES[0]]:.2f}") for n, c in costs.items()],
        ),
    ]
    report.findings = [
        f"The largest difference of a mean AUC is {max(map(abs, gaps)):.4f} (asked for: 0.005).",
        f"At 400,000 slots a call takes {costs[400_000] / costs[10_000]:.2f} of its time at 10,000 "
        "(asked for: 3 at most).",
    ]
    return report


def cost(size: int) -> float:
    """Return the milliseconds of a call by the size of the table."""
    ids = np.arange(size)
    X, y = pd.DataFrame({"id": ids}), ids % 2
    options = PLAIN | {"embedding_dim": 32, "batch_size": ROWS, "bottom_units": (128, 64)}
    model = SharedBottom(categorical_features=["id"], random_state=0, **options)
    model.set_params(batch_size=65_536).partial_fit(X, y).set_params(batch_size=ROWS)
    times = []
    for call in range(CALLS + 3):
        few = slice(call * ROWS, (call + 1) * ROWS)
        start = time.perf_counter()
        model.partial_fit(X[few], y[few])
        times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times[3:]))
