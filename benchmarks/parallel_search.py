"""Measures how long a grid search on Adult takes with one job and with two.

The two alternate, so that both see the same machine; a first search of each, which starts worker
processes and imports, is not counted.
"""

import time

import numpy as np
import torch
from joblib import Parallel, delayed
from sklearn.model_selection import GridSearchCV

from benchmarks.shared import PLAIN, Report, mean_std, table
from sk_mtl import MMoE
from sk_mtl.datasets import fetch_adult

RUNS = 5
GRID = {"n_experts": [4, 8], "expert_units": [(32,), (64,)]}
SETTINGS = (
    "GridSearchCV of MMoE over 4 candidates in 3 folds of the train file's raw frame, then the "
    "refit; batch 256, 3 epochs."
)


def run(runs: int, quick: bool) -> Report:
    X, Y = fetch_adult(subset="train", return_X_y=True)
    rows = slice(0, 3_000 if quick else None)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    scores = {}
    for turn in range(-1, runs):
        for n_jobs, times in seconds.items():
            search = GridSearchCV(
                MMoE(**PLAIN | {"max_epochs": 3}, random_state=0), GRID, cv=3, n_jobs=n_jobs
            )
            start = time.perf_counter()
            search.fit(X[rows], Y[rows])
            if turn >= 0:
                times.append(time.perf_counter() - start)
            scores[n_jobs] = search.cv_results_["mean_test_score"]
    ratio = np.array(seconds[2]) / np.array(seconds[1])
    threads = {n: Parallel(n_jobs=n)([delayed(torch.get_num_threads)()])[0] for n in seconds}
    report = Report(SETTINGS)
    header = ["jobs", "threads of torch in each", "seconds"]
    report.sections = [
        table(header, [(n, threads[n], mean_std(times, 2)) for n, times in seconds.items()]),
        f"Mean ± standard deviation of {runs} searches.",
    ]
    gap = np.abs(scores[1] - scores[2]).max()
    report.findings = [
        f"Two jobs take {np.median(ratio):.2f} of one job's time (median; {ratio.min():.2f} to "
        f"{ratio.max():.2f}).",
        f"The largest difference between the two searches' mean scores is {gap:.1e}.",
    ]
    return report
