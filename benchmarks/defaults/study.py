"""Defaults beside one default booster per task: who, how well, how long."""

import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import r2_score, roc_auc_score

from benchmarks.defaults.sets import Split
from sk_mtl import CGC, PLE, MMoE, SharedBottom

ARCHITECTURES = {cls.__name__: cls for cls in (SharedBottom, MMoE, CGC, PLE)}
TREES = "HistGradientBoosting"
CAT_SETS = ("Adult", "Census college", "Census income")


class Score(NamedTuple):
    """The metric of each task, and the seconds of the fit."""

    tasks: dict[str, float]
    seconds: float

    @property
    def mean(self) -> float:
        return float(np.mean(list(self.tasks.values())))


def is_real(y: pd.Series) -> bool:
    """Whether a target is a value, for the boosters and for `task_types` alike."""
    return y.dtype.kind in "fi" and y.nunique() > 12


def metric(y: pd.Series, predicted: Any, classes: Any) -> float:
    """Return R², AUC, or the mean AUC of one class versus the rest."""
    seen = y.notna().to_numpy()
    y, predicted = y[seen], predicted[seen]
    if classes is None:
        return float(r2_score(y, predicted))
    found = [
        roc_auc_score(y == label, predicted[:, k])
        for k, label in enumerate(classes)
        if 0 < (y == label).sum() < len(y)
    ]
    return float(found[-1] if len(classes) == 2 else np.mean(found))


def boosted(make: Callable[[bool], Any], split: Split, n_categories: int | None = None) -> Score:
    """Fit a booster of its own for each task, with missing labels left out."""
    X, Y, X_test, Y_test = split
    X, X_test = as_categories(X, X_test, n_categories)
    tasks, seconds = {}, 0.0
    for name in Y:
        seen, real = Y[name].notna(), is_real(Y[name])
        start = time.perf_counter()
        model = make(real).fit(X[seen], Y[name][seen])
        seconds += time.perf_counter() - start
        predicted = model.predict(X_test) if real else model.predict_proba(X_test)
        tasks[name] = metric(Y_test[name], predicted, None if real else model.classes_)
    return Score(tasks, seconds)


def as_categories(
    X: pd.DataFrame, X_test: pd.DataFrame, most: int | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return columns of strings as categories, the same in both; those beyond `most` as missing."""
    X, X_test = X.copy(), X_test.copy()
    for name in X.select_dtypes(exclude="number"):
        known = pd.Index(X[name].astype(object).dropna().unique())[:most]
        for frame in (X, X_test):
            frame[name] = pd.Categorical(frame[name].astype(object), categories=known)
    return X, X_test


def ours(cls: Any, split: Split, seed: int, **parameters: Any) -> Score:
    """Fit one estimator to all tasks."""
    X, Y, X_test, Y_test = split
    kinds = {name: "regression" for name in Y if is_real(Y[name])}
    model = cls(task_types=kinds or "auto", random_state=seed, **parameters)
    start = time.perf_counter()
    model.fit(X, Y)
    seconds = time.perf_counter() - start
    values, blocks = model.predict(X_test), {}
    if len(kinds) < Y.shape[1]:
        blocks = model.predict_task_proba(X_test)
    tasks = {}
    for k, task in enumerate(model.tasks_):
        real = task.classes_ is None
        predicted = values[:, k].astype(float) if real else blocks[task.name]
        tasks[task.name] = metric(Y_test[task.name], predicted, task.classes_)
    return Score(tasks, seconds)


def contestants(name: str, seed: int) -> Iterator[tuple[str, Callable[[Split], Score]]]:
    """Yield who takes part: our four, scikit-learn's trees, and those boosters that are here.

    CatBoost, whose thousand trees take minutes, takes part where a target names it, once.
    """

    def trees(real: bool) -> Any:
        cls = HistGradientBoostingRegressor if real else HistGradientBoostingClassifier
        return cls(random_state=0)

    yield TREES, lambda split: boosted(trees, split, 255)
    if find_spec("lightgbm") is not None:
        import lightgbm

        def light(real: bool) -> Any:
            cls = lightgbm.LGBMRegressor if real else lightgbm.LGBMClassifier
            return cls(verbose=-1, random_state=0)

        yield "LightGBM", lambda split: boosted(light, split)
    if find_spec("catboost") is not None and name in CAT_SETS and seed == 0:
        yield "CatBoost", lambda split: boosted(_cat, split)
    for name, cls in ARCHITECTURES.items():
        yield name, lambda split, cls=cls: ours(cls, split, seed)


def _cat(real: bool) -> Any:
    import catboost

    cls = catboost.CatBoostRegressor if real else catboost.CatBoostClassifier

    class Named(cls):  # type: ignore[misc, valid-type]
        """CatBoost, told which columns are categories; it takes strings without gaps for them."""

        def fit(self, X: pd.DataFrame, y: pd.Series) -> Any:
            return super().fit(_words(X), y, cat_features=list(X.select_dtypes("category")))

        def predict(self, X: pd.DataFrame) -> Any:
            return super().predict(_words(X))

        def predict_proba(self, X: pd.DataFrame) -> Any:
            return super().predict_proba(_words(X))

    return Named(verbose=0, random_seed=0, allow_writing_files=False)


def _words(X: pd.DataFrame) -> pd.DataFrame:
    columns = X.select_dtypes("category").astype(object)
    return X.assign(**columns.where(columns.notna(), "missing").astype(str))
