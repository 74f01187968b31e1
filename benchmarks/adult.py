"""Measures test AUC per task on Adult, in the set-up of the seed repository's first example.

The tasks are income above 50K and never married; training is on the train file (32,561 rows),
the test on the test file (16,281 rows). The seed's numbers are of one run each.
"""

import warnings
from itertools import chain
from typing import Any

import pandas as pd
from sklearn.preprocessing import minmax_scale

from benchmarks.shared import PLAIN, Report, compared, fit_over_seeds, mean_std, table
from sk_mtl import CGC, ESMM, PLE, MMoE, SharedBottom
from sk_mtl.datasets import fetch_adult

RUNS = 5
N_TRAIN = 32_561
NUMBERS = ["fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
SETTINGS = (
    "numbers min-max scaled over both files and passed through; all else, age included, "
    "categorical with embeddings of width 16; Adam 1e-3, batch 256, 5 epochs, no validation; "
    "Shared-Bottom bottom (128, 128), towers (64, 32); MMoE 8 experts (64, 64), gates (32, 32), "
    "towers (32, 32); CGC 8 task and 4 shared experts (64, 64), gates (16, 16), towers (32, 32); "
    "PLE the same with 2 levels; ESMM towers (64, 64), income as click and never married as "
    "click-and-conversion, which are not nested, so low by construction."
)
SEED = {
    "SharedBottom": (0.9098, 0.9635),
    "MMoE": (0.9091, 0.9638),
    "CGC": (0.9094, 0.9636),
    "PLE": (0.9103, 0.9635),
    "ESMM": (0.7838, 0.9559),
}
RERUN = {
    "SharedBottom": (0.9097, 0.9636),
    "MMoE": (0.9098, 0.9640),
    "CGC": (0.9096, 0.9637),
    "PLE": (0.9095, 0.9641),
    "ESMM": (0.8141, 0.9534),
}


def load() -> tuple[pd.DataFrame, pd.DataFrame]:
    X, Y = fetch_adult(subset="all", return_X_y=True)
    X[NUMBERS] = minmax_scale(X[NUMBERS].astype(float))
    return X.astype({"age": "category"}), Y


def models(seed: int) -> dict[str, Any]:
    common = PLAIN | {"numeric_features": "passthrough", "embedding_dim": 16}
    common |= {"random_state": seed, "max_epochs": 5}
    gated = common | {"expert_units": (64, 64), "tower_units": (32, 32)}
    split = gated | {"n_task_experts": 8, "n_shared_experts": 4, "gate_units": (16, 16)}
    return {
        "SharedBottom": SharedBottom(bottom_units=(128, 128), tower_units=(64, 32), **common),
        "MMoE": MMoE(n_experts=8, gate_units=(32, 32), **gated),
        "CGC": CGC(**split),
        "PLE": PLE(n_levels=2, **split),
        "ESMM": ESMM(tower_units=(64, 64), **common),
    }


def run(runs: int, quick: bool) -> Report:
    warnings.filterwarnings("ignore", message=".* without the step before")
    X, Y = load()
    train = slice(0, 5_000 if quick else N_TRAIN)
    scores = fit_over_seeds(models, (X[train], Y[train]), (X[N_TRAIN:], Y[N_TRAIN:]), runs)
    report = Report(SETTINGS)
    rows = []
    for name, values in scores.items():
        tasks = list(zip(Y.columns, values.T, SEED[name], RERUN[name], strict=True))
        cells = [(mean_std(v), f"{seed:.4f}", f"{rerun:.4f}") for _, v, seed, rerun in tasks]
        rows.append([name, *chain(*cells)])
        said = "; ".join(f"{task} {compared(v, seed)}" for task, v, seed, _ in tasks)
        report.findings.append(f"{name} against the seed's published run: {said}.")
    header = [f"{task}{part}" for task in Y for part in ("", ", seed", ", seed rerun")]
    report.sections = [
        table(["model", *header], rows),
        f"AUC, mean ± standard deviation of {runs} random states. *Seed*: the one run it "
        "published; *seed rerun*: one run of its code with today's TensorFlow.",
    ]
    return report
