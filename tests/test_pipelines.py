"""Estimators inside scikit-learn's pipelines, searches and cross-validation."""

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import fields

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import ESTIMATORS, any_task, everywhere, small, spread
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import BaggingRegressor
from sklearn.inspection import permutation_importance
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    RandomizedSearchCV,
    cross_val_score,
    cross_validate,
    learning_curve,
    train_test_split,
)
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from sk_mtl import MMoE, SharedBottom
from sk_mtl.base import MultiTaskEstimator

NUMBERS, CATEGORIES = ["age", "hours"], ["city", "student"]


def columns(categories, **params):
    """Return a ColumnTransformer of the tiny table."""
    return make_column_transformer(
        (StandardScaler(), NUMBERS),
        (categories, CATEGORIES),
        verbose_feature_names_out=False,
        **params,
    )


def dense(cls):
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return Pipeline([("columns", columns(encoder)), ("model", small(cls))])


def sparse(cls):
    encoder = OneHotEncoder(handle_unknown="ignore")
    return Pipeline([("columns", columns(encoder, sparse_threshold=1.0)), ("model", small(cls))])


def frame(cls):
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    )
    transformer = columns(encoder).set_output(transform="pandas")
    model = small(cls, categorical_features=CATEGORIES)
    return Pipeline([("columns", transformer), ("model", model)])


FORMS = [dense, sparse, frame]

forms = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)


@everywhere
@forms
def test_column_transformer(cls, form, table):
    Y = table.targets(cls)
    pipeline = form(cls).fit(table.X, Y)
    assert pipeline.predict(table.X).shape == Y.shape
    proba = pipeline.predict_proba(table.X)
    assert np.isfinite(proba).all()
    assert_allclose(proba[:, :2].sum(axis=1), 1.0)
    assert np.isfinite(pipeline.score(table.X, Y))
    unseen = table.X.assign(city="Atlantis")
    told = pytest.warns(UserWarning, match="'city' has values such as -1.0")
    with told if form is frame else nullcontext():
        assert np.isfinite(pipeline.predict_proba(unseen)).all()
    model = pipeline[-1]
    if form is frame:
        assert model.feature_names_in_.tolist() == NUMBERS + CATEGORIES
        encoder = model._fitted_.encoder
        assert encoder.encoders[1].names_ == CATEGORIES
    else:
        assert model.n_features_in_ == 2 + 5 + 2


def test_dense_and_sparse_columns_are_the_same_rows(table):
    exact = {"model__dtype": "float64", "model__numeric_features": "passthrough"}
    X = table.X.fillna({"age": 40.0})
    first = dense(MMoE).set_params(**exact).fit(X, table.Y).predict_proba(X)
    second = sparse(MMoE).set_params(**exact).fit(X, table.Y).predict_proba(X)
    assert_allclose(first, second, rtol=1e-9)


LOAD = """
import sys, warnings
warnings.simplefilter("error")
import joblib
import numpy as np
folder = sys.argv[1]
X = joblib.load(folder + "/X.joblib")
for name, pipeline in joblib.load(folder + "/pipelines.joblib").items():
    np.save(f"{folder}/{name}.npy", pipeline.predict_proba(X))
"""


def test_a_pipeline_in_a_fresh_process(table, tmp_path):
    pipelines = {
        f"{cls.__name__}_{form.__name__}": form(cls).fit(table.X, table.targets(cls))
        for cls in ESTIMATORS
        for form in FORMS
    }
    joblib.dump(pipelines, tmp_path / "pipelines.joblib", compress=3)
    joblib.dump(table.X, tmp_path / "X.joblib")
    subprocess.run([sys.executable, "-c", LOAD, str(tmp_path)], check=True)
    for name, pipeline in pipelines.items():
        assert_array_equal(np.load(tmp_path / f"{name}.npy"), pipeline.predict_proba(table.X), name)


@everywhere
def test_pipeline_params(cls, table):
    pipeline = frame(cls).set_params(model__lr=0.5, model__tower_units=[(3,), ()])
    assert pipeline[-1].lr == 0.5
    twin = clone(pipeline)
    assert twin.get_params()["model__tower_units"] == [(3,), ()]
    weight = np.ones(120)
    weight[::2] = 0
    pipeline.fit(table.X, table.chain, model__sample_weight=weight)
    assert cls.__name__ in pipeline._repr_html_()


# Search and cross-validation ------------------------------------------------------------------


SCORINGS = [None, "roc_auc", "average_precision", "accuracy", "r2"]


@pytest.mark.parametrize(("scoring", "cls"), spread(SCORINGS, ESTIMATORS))
def test_grid_search(scoring, cls, table):
    grid = {"model__lr": [0.01, 0.03]}
    X = table.X.fillna({"age": 40.0})
    search = GridSearchCV(frame(cls), grid, scoring=scoring, cv=2).fit(X, table.chain)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert search.best_params_["model__lr"] in grid["model__lr"]
    assert np.isfinite(search.score(X, table.chain))
    assert search.predict(X).shape == (120, 2)
    assert search.predict_proba(X).shape == (120, 4)


@everywhere
def test_scorers_mean_what_they_say(cls, table):
    # roc_auc and average_precision of several binary tasks: the mean over the tasks.
    X, Y = table.X, table.chain
    model = small(cls, max_epochs=5).fit(X, Y)
    proba = model.predict_proba(X)[:, [1, 3]]
    cv = [(np.arange(120), np.arange(120))]
    scored = cross_validate(
        small(cls, max_epochs=5), X, Y, cv=cv, scoring=["roc_auc", "average_precision", "accuracy"]
    )
    per_task = [roc_auc_score(Y.iloc[:, k], proba[:, k]) for k in (0, 1)]
    assert scored["test_roc_auc"][0] == pytest.approx(np.mean(per_task))
    per_task = [average_precision_score(Y.iloc[:, k], proba[:, k]) for k in (0, 1)]
    assert scored["test_average_precision"][0] == pytest.approx(np.mean(per_task))
    exact_match = (model.predict(X) == Y.to_numpy()).all(axis=1).mean()
    assert scored["test_accuracy"][0] == pytest.approx(exact_match)


GRIDS = {
    "ESMM": {"tower_units": [(4,), [(4,), (3,)]]},
    "MMoE": {"n_experts": [2, 3], "gate_units": [(), (4,)]},
    "CGC": {"n_task_experts": [0, 1], "expert_units": [(4,), (4, 4)]},
    "PLE": {"n_levels": [1, 2]},
}


def grid_of(cls):
    """Return a grid: one from above, or the ends of the first parameter that is the class's own."""
    if cls.__name__ in GRIDS:
        return GRIDS[cls.__name__]
    common = MultiTaskEstimator.__dataclass_fields__
    for field in fields(cls):
        what = field.metadata["search"]
        if field.name not in common and what is not None:
            ends = (what[0], what[-1]) if isinstance(what, list) else (what.low, what.high)
            return {field.name: list(ends)}
    return {"tower_units": [(4,), (3,)]}


@everywhere
def test_grid_over_the_architecture(cls, table):
    grid = grid_of(cls)
    search = GridSearchCV(small(cls), grid, cv=2).fit(table.X, table.chain)
    assert len(search.cv_results_["params"]) == np.prod([len(v) for v in grid.values()])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    for name in grid:
        assert getattr(search.best_estimator_, name) == search.best_params_[name]


def test_grid_search_of_mixed_tasks_with_missing_labels(table):
    # scikit-learn asks `type_of_target` of a classifier's y only; a mixed model has none.
    search = GridSearchCV(small(MMoE), {"n_experts": [2, 3]}, cv=2).fit(table.X, table.Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert search.predict(table.X).dtype == object


def test_grid_search_of_a_classifier_with_missing_labels(table):
    Y = table.Y[["income", "married"]]
    search = GridSearchCV(
        small(MMoE, task_types="classification"), {"lr": [0.01, 0.02]}, cv=KFold(2)
    )
    assert np.isfinite(search.fit(table.X, Y).best_score_)


def test_grid_search_of_regressions(table):
    Y = table.Y[["wage"]].assign(double=2 * table.Y["wage"])
    for scoring in (None, "r2", "neg_mean_squared_error"):
        search = GridSearchCV(
            small(MMoE, task_types="regression"), {"lr": [0.01, 0.02]}, cv=2, scoring=scoring
        )
        assert np.isfinite(search.fit(table.X, Y).cv_results_["mean_test_score"]).all()


def test_grid_search_with_sample_weight(table):
    weight = np.random.default_rng(0).uniform(0.5, 2, (120, 2))
    search = GridSearchCV(small(MMoE), {"lr": [0.01, 0.02]}, cv=2)
    assert np.isfinite(search.fit(table.X, table.chain, sample_weight=weight).best_score_)


@everywhere
def test_randomized_search(cls, table):
    space = {"lr": np.geomspace(1e-3, 1e-1, 20), "dropout": [0.0, 0.1, 0.2]}
    search = RandomizedSearchCV(small(cls), space, n_iter=2, cv=2, random_state=0)
    search.fit(table.X, table.chain)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@any_task
def test_cross_validate(cls, table):
    found = cross_validate(
        small(cls), table.X, table.Y, cv=2, return_estimator=True, return_train_score=True
    )
    assert np.isfinite(found["test_score"]).all()
    assert np.isfinite(found["train_score"]).all()
    for model in found["estimator"]:
        assert model.predict(table.X).shape == (120, 4)


def test_two_jobs_equal_one(table):
    scores = [
        cross_val_score(frame(MMoE), table.X, table.Y, cv=2, n_jobs=n_jobs) for n_jobs in (None, 2)
    ]
    assert_allclose(*scores, rtol=1e-5)
    with joblib.parallel_config("threading"):
        in_threads = cross_val_score(frame(MMoE), table.X, table.Y, cv=2, n_jobs=2)
    assert_array_equal(in_threads, scores[0])


def test_learning_curve(table):
    sizes, train, test = learning_curve(small(MMoE), table.X, table.Y, train_sizes=[0.5, 1.0], cv=2)
    assert sizes.tolist() == [30, 60]
    assert np.isfinite(train).all()
    assert np.isfinite(test).all()


@pytest.mark.parametrize("targets", ["Y", "chain"])
def test_permutation_importance(targets, table):
    Y = getattr(table, targets)
    X = table.X.assign(noise=np.random.default_rng(5).normal(size=120))
    model = small(SharedBottom, max_epochs=30).fit(X, Y)
    means = permutation_importance(model, X, Y, n_repeats=2, random_state=0).importances_mean
    assert means.argmax() == list(X).index("age")


def test_train_test_split(table):
    X, X_test, Y, Y_test = train_test_split(table.X, table.Y, random_state=0)
    assert np.isfinite(small(MMoE).fit(X, Y).score(X_test, Y_test))


def test_other_meta_estimators(table):
    X = table.X.assign(city=table.X["city"].astype("category").cat.codes).fillna(0).astype(float)
    each = MultiOutputClassifier(small(SharedBottom, max_epochs=1)).fit(X, table.chain)
    assert each.predict(X).shape == (120, 2)
    wages = table.Y[["wage"]].assign(double=2 * table.Y["wage"])
    bag = BaggingRegressor(small(SharedBottom, max_epochs=1), 2, random_state=0).fit(X, wages)
    assert bag.predict(X).shape == (120, 2)


# polars ---------------------------------------------------------------------------------------


def to_polars(frame):
    """Return a polars DataFrame of the same content, with nulls for what is missing."""
    held = {name: frame[name].astype(object).where(frame[name].notna(), None) for name in frame}
    return pl.DataFrame({name: values.tolist() for name, values in held.items()})


@everywhere
def test_polars_equals_pandas(cls, table):
    X, Y = to_polars(table.X), to_polars(table.targets(cls))
    assert X.null_count().sum_horizontal().item() > 0
    model = small(cls).fit(X, Y)
    expected = small(cls).fit(table.X, table.targets(cls))
    assert model.feature_names_in_.tolist() == list(table.X)
    assert model.task_names_ == expected.task_names_
    assert_array_equal(model.predict_proba(X), expected.predict_proba(table.X))
    assert_array_equal(model.predict_proba(table.X), expected.predict_proba(X))
    assert model.score(X, Y) == expected.score(table.X, table.targets(cls))


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Enum(["Bern", "Cluj", "Oslo", "Riga"])])
def test_polars_categories(dtype, table):
    X = to_polars(table.X).with_columns(pl.col("city").cast(dtype))
    model, expected = small(MMoE).fit(X, table.Y), small(MMoE).fit(table.X, table.Y)
    assert_array_equal(model.predict_proba(X), expected.predict_proba(table.X))


def test_polars_through_a_column_transformer(table):
    X = to_polars(table.X.fillna({"city": "nowhere"}))
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
    transformer = columns(encoder).set_output(transform="polars")
    model = small(MMoE, categorical_features=CATEGORIES)
    pipeline = Pipeline([("columns", transformer), ("model", model)]).fit(X, to_polars(table.Y))
    assert pipeline.predict(X).shape == (120, 4)
    assert pipeline[-1].feature_names_in_.tolist() == NUMBERS + CATEGORIES


def test_polars_series_as_y(table):
    y = pl.Series("income", table.Y["income"].tolist())
    model = small(MMoE).fit(to_polars(table.X), y)
    assert model.task_names_ == ["income"]
    assert set(model.predict(table.X)) <= {"<=50K", ">50K"}


def test_selectors_find_the_columns(table):
    # The usual way to write a ColumnTransformer: columns by dtype.
    transformer = make_column_transformer(
        (StandardScaler(), make_column_selector(dtype_include="number")),
        ("passthrough", make_column_selector(dtype_exclude="number")),
        verbose_feature_names_out=False,
    ).set_output(transform="pandas")
    pipeline = Pipeline([("columns", transformer), ("model", small(MMoE))])
    pipeline.fit(table.X, table.Y)
    encoder = pipeline[-1]._fitted_.encoder
    assert encoder.encoders[1].names_ == CATEGORIES
    assert isinstance(transformer.transform(table.X), pd.DataFrame)
