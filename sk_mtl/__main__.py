"""The main job: fit every architecture on mixed columns, tune, save, load back, draw.

``python -m sk_mtl`` runs it on a synthetic census, ``--data adult`` or ``--data census-income`` on
the real files.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder
from skorch.callbacks import Callback
from tqdm import tqdm

from sk_mtl import CGC, ESMM, PLE, MMoE, SharedBottom
from sk_mtl.base import MultiTaskEstimator
from sk_mtl.datasets import fetch_adult, fetch_census_income, make_census_like
from sk_mtl.inspection import GateDisplay, LossDisplay

ARCHITECTURES = (SharedBottom, ESMM, MMoE, CGC, PLE)

RELOAD = """
import sys, joblib, numpy as np
folder = sys.argv[1]
model, X = joblib.load(folder + "/best.joblib"), joblib.load(folder + "/test_rows.joblib")
np.save(folder + "/reloaded.npy", model.predict_proba(X))
"""
"""What the fresh process does with the saved pipeline."""


class EpochBar(Callback):
    """One progress bar per fit, a tick per epoch."""

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Open the bar."""
        self.bar_ = tqdm(total=net.max_epochs, unit="epoch")

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Tick, and show the losses."""
        last = net.history[-1]
        self.bar_.set_postfix(train_loss=last["train_loss"], valid_loss=last["valid_loss"])
        self.bar_.update()

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Close the bar."""
        self.bar_.close()
        del self.bar_


def load(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows and targets of a data set by name."""
    if name == "synthetic":
        return make_census_like(random_state=0)
    if name == "adult":
        return fetch_adult(subset="all", return_X_y=True)
    return fetch_census_income(subset="test", return_X_y=True)


def chain(Y: pd.DataFrame) -> pd.DataFrame:
    """Return the two binary tasks as the nested steps that ESMM takes: the first, then both."""
    first, second = (name for name in Y if Y[name].nunique() == 2)
    return pd.DataFrame({first: Y[first], f"{first} & {second}": Y[first] * Y[second]})


def make_pipeline(estimator: MultiTaskEstimator, X: pd.DataFrame) -> Pipeline:
    """Return preprocessing and estimator: ordinal codes go on to embeddings, numbers as they are.

    A raw DataFrame would do without any of this; the pipeline shows that it need not be raw.
    """
    is_number = make_column_selector(dtype_include="number")
    categorical = [name for name in X if name not in is_number(X)]
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    )
    columns = ColumnTransformer(
        [("numbers", "passthrough", is_number), ("categories", encoder, categorical)],
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    estimator.set_params(categorical_features=categorical)
    return Pipeline([("columns", columns), ("model", estimator)])


def evaluate(model: Pipeline, X: pd.DataFrame, Y: pd.DataFrame) -> dict[str, float]:
    """Return AUC per binary task and R² per regression."""
    estimator, values = model[-1], model.predict(X)
    blocks = model.predict_proba(X)
    scores = {}
    for k, name in enumerate(estimator.task_names_):
        block = blocks[:, estimator.task_slices_[name]]
        if block.shape[1]:
            scores[f"{name} (AUC)"] = roc_auc_score(Y[name], block[:, 1])
        else:
            scores[f"{name} (R²)"] = r2_score(Y[name], values[:, k].astype(float))
    return scores


def compare(X: pd.DataFrame, Y: pd.DataFrame, max_epochs: int) -> dict[str, Pipeline]:
    """Fit every architecture, print the table of scores and speeds, and return the models."""
    models, lines = {}, []
    for architecture in ARCHITECTURES:
        name = architecture.__name__
        targets = chain(Y) if architecture is ESMM else Y
        X_train, X_test, Y_train, Y_test = train_test_split(X, targets, random_state=0)
        estimator = architecture(
            max_epochs=max_epochs,
            early_stopping=True,
            n_iter_no_change=2,
            callbacks=[EpochBar()],
            random_state=0,
        )
        print(f"\n{name}: {', '.join(targets)}", flush=True)
        models[name] = make_pipeline(estimator, X).fit(X_train, Y_train)
        scores = evaluate(models[name], X_test, Y_test)
        speed = len(X_train) / models[name][-1].history_["dur"].median()
        lines += [(name, task, score, speed) for task, score in scores.items()]
    print(f"\n{'architecture':<14}{'task':<40}{'score':>8}{'rows/s of fit':>16}")
    for name, task, score, speed in lines:
        print(f"{name:<14}{task:<40}{score:>8.4f}{speed:>16,.0f}")
    return models


def tune(X: pd.DataFrame, Y: pd.DataFrame, max_epochs: int) -> GridSearchCV:
    """Search over a pipeline of MMoE."""
    estimator = MMoE(max_epochs=max(1, max_epochs // 2), random_state=0)
    grid = {"model__n_experts": [4, 8], "model__expert_units": [(32,), (64,)]}
    search = GridSearchCV(make_pipeline(estimator, X), grid, cv=2).fit(X, Y)
    print("\nGridSearchCV of MMoE, mean over tasks of accuracy and R²:")
    for params, mean in zip(
        search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True
    ):
        print(f"  {mean:.4f}  {params}")
    return search


def save_and_reload(model: Pipeline, X: pd.DataFrame, folder: Path) -> None:
    """Save a pipeline, load it in a fresh process, and compare the predictions."""
    joblib.dump(model, folder / "best.joblib")
    joblib.dump(X, folder / "test_rows.joblib")
    subprocess.run([sys.executable, "-c", RELOAD, str(folder)], check=True)
    if not np.array_equal(np.load(folder / "reloaded.npy"), model.predict_proba(X)):
        raise SystemExit("The reloaded pipeline predicts something else.")
    print(f"\nSaved {folder / 'best.joblib'}; a fresh process predicts the same, bit for bit.")


def draw(model: Pipeline, X: pd.DataFrame, path: Path) -> None:
    """Draw MMoE's learning curves and the use of its experts by each task."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
    LossDisplay.from_estimator(model[-1], ax=left)
    left.set_title("MMoE: learning curves per task")
    GateDisplay.from_estimator(model[-1], model[:-1].transform(X), axes=right)
    right.set_title("MMoE: mean weight of each expert in each task's gate")
    figure.savefig(path, dpi=120)
    print(f"Drew {path}.")


def main(arguments: list[str] | None = None) -> None:
    """Run the main job."""
    parser = argparse.ArgumentParser(prog="python -m sk_mtl", description=__doc__)
    parser.add_argument(
        "--data", choices=["synthetic", "adult", "census-income"], default="synthetic"
    )
    parser.add_argument("--max-epochs", type=int, default=5, help="per architecture")
    parser.add_argument(
        "--output", type=Path, default=Path("sk_mtl_demo"), help="folder to write to"
    )
    options = parser.parse_args(arguments)
    try:
        import matplotlib as _  # noqa: F401 - before the work, not after it
    except ImportError:
        raise SystemExit('The picture needs matplotlib: pip install "sk_mtl[plot]".') from None

    options.output.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    X, Y = load(options.data)
    print(f"{options.data}: {len(X):,} rows, {X.shape[1]} columns, tasks {', '.join(Y)}")
    models = compare(X, Y, options.max_epochs)
    search = tune(X, Y, options.max_epochs)
    save_and_reload(search.best_estimator_, X, options.output)
    draw(models["MMoE"], X, options.output / "mmoe.png")
    print(f"Done in {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
