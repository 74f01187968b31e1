"""Estimators end to end on the real files: raw frames and the three forms of a ColumnTransformer.

The floors lie a little under what a short fit reaches, and far over what a broken one would.
"""

import functools

import joblib
import numpy as np
import pandas as pd
import pytest
from conftest import ESTIMATORS, need, said, spread, takes_anything
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from sk_mtl.datasets import fetch_adult, fetch_census_income

FETCH = {
    "adult": (fetch_adult, "adult-test"),
    "census-income": (fetch_census_income, "census-test"),
}
FLOORS = {"adult": (0.88, 0.94), "census-income": (0.91, 0.98)}
NUMBERS = make_column_selector(dtype_include="number")
CATEGORIES = make_column_selector(dtype_exclude="number")
N_TRAIN, N_TEST = 10_000, 5_000


@functools.cache
def split(name):
    """Return (X_train, Y_train, X_test, Y_test): rows of the test file, in its order."""
    fetch, key = FETCH[name]
    X, Y = fetch(subset="test", data_home=need(key), download_if_missing=False, return_X_y=True)
    train, test = slice(0, N_TRAIN), slice(len(X) - N_TEST, None)
    return X[train], Y[train], X[test], Y[test]


def as_chain(Y):
    """Return the tasks as click and click-and-conversion: a chain's targets nest."""
    first, second = Y.columns
    return pd.DataFrame({first: Y[first], second: Y[first] * Y[second]})


def problem(cls, name):
    """Return what `split` does, with targets that suit the estimator, and the AUCs' floors."""
    X, Y, X_test, Y_test = split(name)
    if not takes_anything(cls):
        return X, as_chain(Y), X_test, as_chain(Y_test), (FLOORS[name][0], 0.7)
    return X, Y, X_test, Y_test, FLOORS[name]


def short(cls):
    given = {"max_epochs": 4, "batch_size": 256, "lr": 3e-3, "random_state": 0}
    return cls(**given | said(cls, "OPTIONS", {}))


def dense(model):
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, min_frequency=20)
    columns = make_column_transformer((StandardScaler(), NUMBERS), (encoder, CATEGORIES))
    return make_pipeline(columns, model)


def sparse(model):
    encoder = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer(
        (StandardScaler(), NUMBERS), (encoder, CATEGORIES), sparse_threshold=1.0
    )
    return make_pipeline(columns, model)


def frame(model):
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    )
    columns = make_column_transformer(
        (StandardScaler(), NUMBERS), (encoder, CATEGORIES), verbose_feature_names_out=False
    ).set_output(transform="pandas")
    names = CATEGORIES(split("adult")[0])
    return make_pipeline(columns, model.set_params(categorical_features=names))


def check(model, Y, X_test, Y_test, floors):
    proba = model.predict_proba(X_test)
    for k, (task, floor) in enumerate(zip(Y, floors, strict=True)):
        positive = proba[:, 2 * k + 1]
        auc = roc_auc_score(Y_test[task], positive)
        assert auc > floor, (task, auc)
        assert positive.mean() == pytest.approx(Y_test[task].mean(), abs=0.04), task


@pytest.mark.parametrize(("name", "cls"), spread(FETCH, ESTIMATORS, every=2))
def test_raw_frame(name, cls):
    X, Y, X_test, Y_test, floors = problem(cls, name)
    check(short(cls).fit(X, Y), Y, X_test, Y_test, floors)


@pytest.mark.parametrize(("form", "cls"), spread([dense, sparse, frame], ESTIMATORS))
def test_pipeline(form, cls, tmp_path):
    X, Y, X_test, Y_test, floors = problem(cls, "adult")
    model = form(short(cls)).fit(X, Y)
    check(model, Y, X_test, Y_test, floors)
    joblib.dump(model, tmp_path / "model.joblib", compress=3)
    back = joblib.load(tmp_path / "model.joblib")
    np.testing.assert_array_equal(back.predict_proba(X_test), model.predict_proba(X_test))
