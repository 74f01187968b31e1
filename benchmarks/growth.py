"""Measures how quality, seconds and memory grow with tasks and rows, beside trees per task.

One default `SharedBottom` for all tasks, and one default HistGradientBoosting for each. The
generated tasks read six factors that they share, smooth ones, a step and a product, through
weights of their own. Each fit has a process of its own.
"""

import sys
import time
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from benchmarks.shared import Report, table
from benchmarks.speed.clock import apart, held, peak_memory
from sk_mtl import SharedBottom

RUNS = 1
QUICK_RUNS = 1
TASKS = (1, 2, 4, 12, 40)
TASK_ROWS = 240_000
ROWS = (1_000, 10_000, 100_000, 1_000_000)
ROW_TASKS = 4
N_TEST = 50_000
N_NUMBERS, N_INTEGERS, N_CATEGORIES = 12, 6, 8
SETTINGS = (
    f"{N_NUMBERS} normal or heavy-tailed columns, {N_INTEGERS} of whole numbers and "
    f"{N_CATEGORIES} of 5 to 250 categories; defaults throughout; AUC of {N_TEST:,} further rows, "
    f"mean over tasks; growth in tasks at {TASK_ROWS:,} rows, in rows with {ROW_TASKS} tasks."
)


class Found(NamedTuple):
    """Mean AUC, seconds of `fit`, and MiB that it held at most beside what was there before."""

    auc: float
    seconds: float
    memory: float


def make(n: int, n_tasks: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Generate rows and binary tasks; the first tasks are the same whatever their number."""
    rng, world = np.random.default_rng(seed), np.random.default_rng(1_000)
    normal = rng.normal(size=(n, N_NUMBERS))
    integers = rng.poisson(np.linspace(2, 30, N_INTEGERS), (n, N_INTEGERS))
    sizes = np.geomspace(5, 250, N_CATEGORIES).astype(int)
    codes = np.column_stack([rng.zipf(1.3, n) % size for size in sizes])
    seen = np.column_stack(
        [normal, (integers - integers.mean(0)) / integers.std(0)]
        + [world.normal(size=size)[code] for size, code in zip(sizes, codes.T, strict=True)]
    )
    mixed = seen @ world.normal(size=(seen.shape[1], 8)) / np.sqrt(seen.shape[1])
    factors = np.column_stack(
        [*np.tanh(1.5 * mixed[:, :3]).T, np.sin(2 * mixed[:, 3]), mixed[:, 4] > 0.5,
         mixed[:, 5] * mixed[:, 6]]
    )  # fmt: skip
    shown = normal.copy()
    shown[:, N_NUMBERS // 2 :] = np.exp(1.5 * normal[:, N_NUMBERS // 2 :])
    X = pd.DataFrame(np.column_stack([shown, integers])).add_prefix("n").astype("float32")
    for j, code in enumerate(codes.T):
        X[f"c{j}"] = pd.Categorical(code)
    Y = {}
    for k in range(n_tasks):
        logit = factors @ world.normal(size=factors.shape[1]) * 1.5 + 0.4 * mixed[:, 7] - 1.0
        noise = np.random.default_rng([seed, k]).random(n)
        Y[f"task_{k}"] = (noise < 1 / (1 + np.exp(-logit))).astype(int)
    return X, pd.DataFrame(Y)


def measure(who: str, n: int, n_tasks: int, seed: int) -> Found:
    """Fit one contestant in this process."""
    ours = who == "SharedBottom"
    X, Y = make(n + N_TEST, n_tasks, seed)
    test, rows = (X[n:], Y[n:]), (X[:n].copy(), Y[:n].copy())
    for warm in (False, True):  # imports and pools of threads are not what grows
        X, Y = rows if warm else (rows[0][:500], rows[1][:500])
        before, start = held(), time.perf_counter()
        fit = _one_for_all if ours else _one_each
        predict = fit(X, Y, seed)
        seconds = time.perf_counter() - start
    memory = peak_memory() - before
    probabilities = predict(test[0])
    auc = np.mean([roc_auc_score(test[1][name], probabilities[name]) for name in Y])
    return Found(float(auc), seconds, memory)


def _one_for_all(X: pd.DataFrame, Y: pd.DataFrame, seed: int) -> Any:
    names, labels = list(Y), Y.squeeze(axis=1)
    model = SharedBottom(random_state=seed).fit(X, labels)

    def predict(X: pd.DataFrame) -> dict[str, NDArray]:
        blocks = model.predict_task_proba(X).values()
        return {name: block[:, 1] for name, block in zip(names, blocks, strict=True)}

    return predict


def _one_each(X: pd.DataFrame, Y: pd.DataFrame, seed: int) -> Any:
    models = {name: _tree().fit(X, Y[name]) for name in Y}
    return lambda X: {name: model.predict_proba(X)[:, 1] for name, model in models.items()}


def _tree() -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(categorical_features="from_dtype", random_state=0)


def run(runs: int, quick: bool) -> Report:
    tasks = [(TASK_ROWS, k) for k in TASKS] if not quick else [(2_000, 1), (2_000, 4)]
    rows = [(n, ROW_TASKS) for n in ROWS] if not quick else [(1_000, 2)]
    found = {
        (case, who): [_apart(who, *case, seed) for seed in range(runs)]
        for case in dict.fromkeys([*tasks, *rows])
        for who in ("SharedBottom", "HistGradientBoosting")
    }
    report = Report(SETTINGS)
    for title, label, cases in (("tasks", 1, tasks), ("rows", 0, rows)):
        lines = [_line(found, case, f"{case[label]:,}") for case in cases]
        header = [title, "AUC", "trees", "seconds", "trees", "ratio", "MiB", "trees"]
        report.sections.append(f"## Growth in {title}\n\n{table(header, lines)}")
        ours, trees = (
            [np.mean([f.seconds for f in found[case, who]]) for case in (cases[0], cases[-1])]
            for who in ("SharedBottom", "HistGradientBoosting")
        )
        report.findings.append(
            f"From {cases[0][label]:,} to {cases[-1][label]:,} {title} the seconds grow "
            f"{ours[1] / ours[0]:.1f} times, the trees' {trees[1] / trees[0]:.1f} times."
        )
    return report


def _line(found: dict[Any, list[Found]], case: tuple[int, int], label: str) -> list[str]:
    ours, trees = (
        np.mean(found[case, who], axis=0) for who in ("SharedBottom", "HistGradientBoosting")
    )
    cells = [f"{ours[0]:.4f}", f"{trees[0]:.4f}", f"{ours[1]:.1f}", f"{trees[1]:.1f}"]
    return [label, *cells, f"{ours[1] / trees[1]:.1f}", f"{ours[2]:.0f}", f"{trees[2]:.0f}"]


def _apart(*case: Any) -> Found:
    found = apart(measure, *case)
    print(*case, found, file=sys.stderr, flush=True)
    return found
