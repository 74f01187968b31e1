"""Measures test AUC per task on Adult, in the set-up of the seed repository's first example.

The tasks are income above 50K and never married; training is on the train file (32,561 rows),
the test on the test file (16,281 rows). The seed's numbers are of one run each.
"""

import warnings

import numpy as np
import pandas as pd
from sklearn.preprocessing import minmax_scale

from benchmarks.report import Report, aucs, compared, mean_std, table
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


def models() -> list:
    common = {"numeric_features": "passthrough", "embedding_dim": 16, "max_epochs": 5}
    common |= {"lr": 1e-3, "batch_size": 256}
    gated = common | {"expert_units": (64, 64), "tower_units": (32, 32)}
    split = gated | {"n_task_experts": 8, "n_shared_experts": 4, "gate_units": (16, 16)}
    return [
        SharedBottom(bottom_units=(128, 128), tower_units=(64, 32), **common),
        MMoE(n_experts=8, gate_units=(32, 32), **gated),
        CGC(**split),
        PLE(n_levels=2, **split),
        ESMM(tower_units=(64, 64), **common),
    ]


def run(runs: int, quick: bool) -> Report:
    warnings.filterwarnings("ignore", message=".* without the step before")
    X, Y = load()
    train = slice(0, 5_000 if quick else N_TRAIN)
    rows, report = [], Report(SETTINGS)
    for model in models():
        name = type(model).__name__
        scores = np.empty((runs, len(Y.columns)))
        for seed in range(runs):
            model.set_params(random_state=seed).fit(X[train], Y[train])
            scores[seed] = aucs(model, X[N_TRAIN:], Y[N_TRAIN:])
        cells = [
            cell
            for k in range(len(Y.columns))
            for cell in (
                mean_std(scores[:, k]),
                f"{SEED[name][k]:.4f}",
                f"{RERUN[name][k]:.4f}",
            )
        ]
        rows.append([name, *cells])
        report.findings.append(
            f"{name} against the seed's published run: "
            + "; ".join(f"{t} {compared(scores[:, k], SEED[name][k])}" for k, t in enumerate(Y))
            + "."
        )
    header = [f"{task}{part}" for task in Y for part in ("", ", seed", ", seed rerun")]
    report.sections.append(table(["model", *header], rows))
    report.sections.append(
        f"AUC, mean ± standard deviation of {runs} random states. *Seed*: the one run it "
        "published; *seed rerun*: one run of its code with today's TensorFlow."
    )
    return report
