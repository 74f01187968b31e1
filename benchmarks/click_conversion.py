"""Measures what learning from all impressions does for a conversion model.

In a world with known propensities ESMM's pCVR, for every row, clicked or not, is compared with a
network of the same towers trained on the clicked rows only. Truth is each row's own conversion
rate, which no model sees.
"""

import numpy as np
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

from benchmarks.shared import PLAIN, Report, mean_std, spread, table
from sk_mtl import ESMM, SharedBottom
from sk_mtl.datasets import make_click_conversion

RUNS = 5
N_TRAIN, N_TEST = 50_000, 50_000
WORLDS = ((0.6, 0.2), (0.9, 0.2), (0.6, 0.05), (0.9, 0.05))  # confounding, click rate
SETTINGS = (
    f"make_click_conversion, {N_TRAIN:,} rows to train and {N_TEST:,} to test, "
    "conversion rate 0.1 over all rows; both sides: hidden layers of 64 and 32, Adam 1e-3, batch "
    "256 for the clicked rows and 1024 for all rows (about as many steps), up to 40 epochs, early "
    "stopping with patience 3 on 10 % of the rows, best weights restored."
)
MEASURES = {
    "calibration error": min,
    "error of the mean": min,
    "squared error": min,
    "Spearman": max,
    "AUC": max,
}


def measure(predicted: np.ndarray, world: dict, rows: np.ndarray) -> list[float]:
    true = world["conversion_rate"][rows]
    order = np.argsort(predicted)
    bins = np.array_split(order, 20)
    calibration = np.mean([abs(predicted[b].mean() - true[b].mean()) for b in bins])
    return [
        calibration,
        abs(predicted.mean() / true.mean() - 1),
        np.mean((predicted - true) ** 2),
        spearmanr(predicted, true).statistic,
        roc_auc_score(world["latent_conversion"][rows], predicted),
    ]


def run(runs: int, quick: bool) -> Report:
    report = Report(SETTINGS)
    common = PLAIN | {"tower_units": (64, 32), "max_epochs": 40, "early_stopping": True}
    common |= {"n_iter_no_change": 3}
    n_train, n_test = (5_000, 5_000) if quick else (N_TRAIN, N_TEST)
    for confounding, click_rate in WORLDS:
        scores: dict[str, list] = {"ESMM, all rows": [], "clicked rows only": []}
        for seed in range(runs):
            world = make_click_conversion(
                n_train + n_test, confounding=confounding, click_rate=click_rate, random_state=seed
            )
            X, Y, rows = world.data, world.target, np.arange(n_train, n_train + n_test)
            esmm = ESMM(**common | {"batch_size": 1024}, random_state=seed)
            esmm.fit(X[:n_train], Y[:n_train])
            predicted = esmm.predict_conversion_rate(X.iloc[rows])
            scores["ESMM, all rows"].append(measure(predicted, world, rows))
            clicked = np.flatnonzero(Y.iloc[:n_train, 0])
            alone = SharedBottom(bottom_units=(64,), random_state=seed, **common)
            alone.set_params(tower_units=(32,)).fit(X.iloc[clicked], Y.iloc[clicked, 1])
            predicted = alone.predict_proba(X.iloc[rows])[:, 1]
            scores["clicked rows only"].append(measure(predicted, world, rows))
        arrays = {name: np.array(values) for name, values in scores.items()}
        lines = [
            [name, *(mean_std(values[:, m]) for m in range(len(MEASURES)))]
            for name, values in arrays.items()
        ]
        ours, theirs = arrays.values()
        report.sections.append(
            f"## confounding {confounding}, click rate {click_rate}\n\n"
            + table(["model", *MEASURES], lines)
        )
        for m, (measured, best) in enumerate(MEASURES.items()):
            difference = ours[:, m] - theirs[:, m]
            better = difference < 0 if best is min else difference > 0
            report.findings.append(
                f"confounding {confounding}, click rate {click_rate}, {measured}: ESMM better in "
                f"{better.sum()} of {runs} runs; difference {difference.mean():+.4f} "
                f"± {spread(difference):.4f}."
            )
    report.sections.append(
        f"Against the true rate of every test row; mean ± standard deviation of {runs} worlds. "
        "Error of the mean: |mean predicted / mean true - 1|. Calibration error: mean over 20 "
        "equal bins of |mean predicted - mean true|."
    )
    return report
