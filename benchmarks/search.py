"""Measures what 30 trials of `sk_mtl.search_space` buy over the defaults.

`RandomizedSearchCV` looks for the parameters of one member on training rows alone; what it finds,
with four members again, and the defaults are then fitted to all training rows. On the test rows,
mean metric of the tasks: AUC of classes, R² of values.
"""

import sys
import time

import numpy as np
from sklearn.model_selection import RandomizedSearchCV, ShuffleSplit

from benchmarks.defaults.sets import SETS, Split
from benchmarks.defaults.study import is_real, ours
from benchmarks.shared import Report, table
from sk_mtl import SharedBottom, search_space
from sk_mtl.metrics import multi_task_scorer

RUNS = 2
QUICK_RUNS = 1
N_TRIALS = 30
NAMES = ("Student", "Online shoppers")
SETTINGS = (
    f"SharedBottom; {N_TRIALS} draws, each fitted twice to 75 % of the training rows and scored "
    "on the others (mean of AUC and R² over tasks); splits and seeds 0, 1, ..."
)


def run(runs: int, quick: bool) -> Report:
    report, lines = Report(SETTINGS), []
    for name in NAMES[:1] if quick else NAMES:
        gains, seconds = [], 0.0
        for index in range(runs):
            split, start = SETS[name].load(index), time.perf_counter()
            best = find(split, index, 3 if quick else N_TRIALS)
            seconds += time.perf_counter() - start
            plain, tuned = (
                ours(SharedBottom, split, index),
                ours(SharedBottom, split, index, **best),
            )
            gains.append(tuned.mean - plain.mean)
            lines.append([name, index, f"{plain.mean:.4f}", f"{tuned.mean:.4f}", _shown(best)])
            print(*lines[-1], file=sys.stderr, flush=True)
        report.findings.append(
            f"{name}: {np.mean(gains):+.4f} (each: {', '.join(f'{g:+.4f}' for g in gains)}), for "
            f"{seconds / runs:.0f} s of search."
        )
    header = ["set", "split", "defaults", "searched", "found"]
    report.sections.append(table(header, lines))
    return report


def find(split: Split, seed: int, n_trials: int) -> dict:
    """Return the best parameters for one member."""
    X, Y, *_ = split
    kinds = {name: "regression" for name in Y if is_real(Y[name])}
    model = SharedBottom(n_members=1, task_types=kinds or "auto", random_state=seed)
    search = RandomizedSearchCV(
        model,
        search_space(model),
        n_iter=n_trials,
        cv=ShuffleSplit(2, test_size=0.25, random_state=seed),
        scoring=multi_task_scorer({name: "r2" if name in kinds else AUC for name in Y}),
        refit=False,
        random_state=seed,
        error_score="raise",
    )
    return search.fit(X, Y).best_params_


AUC = "roc_auc_ovr"


def _shown(best: dict) -> str:
    return ", ".join(
        f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in sorted(best.items())
    )
