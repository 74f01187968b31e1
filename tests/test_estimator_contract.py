"""The contract of every estimator beyond scikit-learn's checks: tasks, labels, weights, state."""

import copy
import json
import pickle
import pickletools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    CHAINS,
    ESTIMATORS,
    LONG_CHAINS,
    any_task,
    by_pickle,
    everywhere,
    is_chain,
    make_table,
    said,
    small,
    takes_anything,
)
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score, roc_auc_score
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from sk_mtl import MMoE, SharedBottom
from sk_mtl.balancing import EqualBalancer
from sk_mtl.data import hold_out

EXACT = {"dtype": "float64", "batch_size": None}
"""All rows in one batch and in double precision: what holds on paper holds to the last digits."""


@cache
def fitted(cls):
    """Return an estimator fitted to the tiny table; tests that change it take a copy."""
    table = make_table()
    return small(cls).fit(table.X, table.targets(cls))


def outputs(model, X):
    """Return everything that a model says about rows, as one array."""
    return np.column_stack([model.predict_proba(X), model.decision_function(X)])


# Predictions ----------------------------------------------------------------------------------


@any_task
class TestMixedTasks:
    def test_blocks(self, cls, table):
        model = fitted(cls)
        proba = model.predict_proba(table.X)
        assert proba.shape == (120, 7)
        assert proba.dtype == np.float64
        assert model.task_slices_ == {
            "income": slice(0, 2),
            "married": slice(2, 4),
            "level": slice(4, 7),
            "wage": slice(7, 7),
        }
        for name in ("income", "married", "level"):
            block = proba[:, model.task_slices_[name]]
            assert (block >= 0).all()
            assert_allclose(block.sum(axis=1), 1.0, rtol=1e-12)

    def test_names_of_columns(self, cls, table):
        model = fitted(cls)
        assert model.get_proba_names_out().tolist() == [
            "income=<=50K", "income=>50K", "married=0.0", "married=1.0",
            "level=high", "level=low", "level=mid",
        ]  # fmt: skip
        assert model.get_proba_names_out().dtype == object

    def test_probabilities_by_task(self, cls, table):
        model = fitted(cls)
        proba, by_task = model.predict_proba(table.X), model.predict_task_proba(table.X)
        assert list(by_task) == ["income", "married", "level"]
        for name, block in by_task.items():
            assert_array_equal(block, proba[:, model.task_slices_[name]])
        assert_array_equal(model.predict_log_proba(table.X), np.log(proba))

    def test_predicted_labels_are_the_likeliest(self, cls, table):
        model = fitted(cls)
        predicted, by_task = model.predict(table.X), model.predict_task_proba(table.X)
        assert predicted.shape == (120, 4)
        assert predicted.dtype == object
        for k, name in enumerate(model.task_names_[:3]):
            classes = model.tasks_[k].classes_
            assert_array_equal(predicted[:, k], classes[by_task[name].argmax(axis=1)])
        assert all(type(value) is float for value in predicted[:, 3])

    def test_decision_function(self, cls, table):
        model = fitted(cls)
        decision, proba = model.decision_function(table.X), model.predict_proba(table.X)
        assert decision.shape == (120, 5)  # one column for each pair of classes, three for three
        assert_allclose(1 / (1 + np.exp(-decision[:, :2])), proba[:, [1, 3]])
        odds = np.exp(decision[:, 2:])
        assert_allclose(odds / odds.sum(axis=1, keepdims=True), proba[:, 4:])

    def test_score_is_the_mean_over_tasks(self, cls, table):
        model, Y = fitted(cls), table.Y
        predicted, seen = model.predict(table.X), Y["married"].notna()
        parts = [
            accuracy_score(Y["income"], predicted[:, 0]),
            accuracy_score(Y["married"][seen].astype(int), predicted[seen, 1].astype(int)),
            accuracy_score(Y["level"], predicted[:, 2]),
            r2_score(Y["wage"], predicted[:, 3].astype(float)),
        ]
        assert model.score(table.X, Y) == pytest.approx(np.mean(parts), abs=1e-12)

    def test_attributes(self, cls, table):
        model = fitted(cls)
        assert model.task_names_ == ["income", "married", "level", "wage"]
        assert [task.kind for task in model.tasks_] == [
            "binary", "binary", "multiclass", "regression",
        ]  # fmt: skip
        assert model.n_features_in_ == 4
        assert model.feature_names_in_.tolist() == ["age", "hours", "city", "student"]
        assert not hasattr(model, "classes_")

    def test_learns_every_task(self, cls, table):
        model = small(cls, max_epochs=30).fit(table.X, table.Y)
        other = make_table(seed=1)
        scores = [
            roc_auc_score(other.Y["income"], model.predict_proba(other.X)[:, 1]),
            accuracy_score(other.Y["level"], model.predict(other.X)[:, 2].astype(str)) + 0.1,
            r2_score(other.Y["wage"], model.predict(other.X)[:, 3].astype(float)) + 0.2,
        ]
        seen = other.Y["married"].notna()
        block = model.predict_task_proba(other.X)["married"]
        scores.append(roc_auc_score(other.Y["married"][seen].astype(int), block[seen, 1]))
        assert min(scores) > 0.75, scores


def one_column(table, name, **params):
    return small(SharedBottom, **params).fit(table.X, table.Y[name])


class TestOneDimension:
    def test_two_classes(self, table):
        model = one_column(table, "income")
        assert model.predict(table.X).shape == (120,)
        assert model.predict_proba(table.X).shape == (120, 2)
        assert model.decision_function(table.X).shape == (120,)
        assert_array_equal(model.classes_, ["<=50K", ">50K"])
        likely = model.decision_function(table.X) > 0
        assert_array_equal(model.predict(table.X), model.classes_[likely.astype(int)])

    def test_three_classes(self, table):
        model = one_column(table, "level")
        assert model.predict_proba(table.X).shape == (120, 3)
        assert model.decision_function(table.X).shape == (120, 3)
        assert_array_equal(model.classes_, ["high", "low", "mid"])

    def test_two_classes_declared_multiclass(self, table):
        model = one_column(table, "income", task_types="multiclass")
        assert model.predict_proba(table.X).shape == (120, 2)
        assert model.decision_function(table.X).shape == (120,)
        likely = model.decision_function(table.X) > 0
        assert_array_equal(model.predict(table.X), model.classes_[likely.astype(int)])

    def test_regression_has_no_probabilities(self, table):
        model = one_column(table, "wage")
        assert model.predict(table.X).shape == (120,)
        assert model.predict(table.X).dtype == np.float64
        assert model.task_slices_ == {"wage": slice(0, 0)}
        for name in (
            "predict_proba", "predict_log_proba", "predict_task_proba", "decision_function",
            "get_proba_names_out", "classes_",
        ):  # fmt: skip
            assert not hasattr(model, name), name

    def test_names(self, table):
        y = table.Y["income"]
        assert small(MMoE).fit(table.X, y).task_names_ == ["income"]
        assert small(MMoE).fit(table.X, y.to_numpy()).task_names_ == ["y"]

    def test_missing_labels_are_refused(self, table):
        with pytest.raises(ValueError, match="y contains NaN"):
            one_column(table, "married")


@everywhere
def test_all_binary_tasks(cls, table):
    model = small(cls).fit(table.X, table.chain)
    assert model.classes_.dtype == object
    assert model.classes_.shape == (2,)
    for classes in model.classes_:
        assert_array_equal(classes, [0, 1])
    decision, proba = model.decision_function(table.X), model.predict_proba(table.X)
    assert decision.shape == (120, 2)
    assert proba.shape == (120, 4)
    assert_allclose(proba[:, [0, 2]] + proba[:, [1, 3]], 1.0, rtol=1e-12)
    assert model.predict(table.X).dtype == np.int64
    assert_array_equal(model.predict(table.X), decision > 0)


@any_task
def test_names_of_tasks_without_names(cls, table):
    model = small(cls).fit(table.X, table.chain.to_numpy())
    assert model.task_names_ == ["task_0", "task_1"]
    assert model.get_proba_names_out()[3] == "task_1=1"


LABELS = {
    # how labels are held: (labels of the two classes, dtype of what predict returns)
    "strings": (np.array(["no", "yes"]), np.dtype(object)),
    "integers": (np.array([1, 2], dtype=np.int32), np.dtype(np.int32)),
    "negative": (np.array([-1, 1]), np.dtype(np.int64)),
    "booleans": (np.array([False, True]), np.dtype(bool)),
    "floats": (np.array([0.0, 1.0]), np.dtype(np.float64)),
    "categories": (pd.Categorical(["no", "yes"]), np.dtype(object)),
    "nullable": (pd.array([3, 4], dtype="Int64"), np.dtype(np.int64)),
    "objects": (np.array([7, 9], dtype=object), np.dtype(np.int64)),
}


@pytest.mark.parametrize("form", LABELS)
def test_labels_come_back_as_they_were(form, table):
    labels, dtype = LABELS[form]
    click = table.chain["click"].to_numpy()
    y = pd.Series(labels[click], name="y")
    model = small(SharedBottom, task_types="classification").fit(table.X, y)
    assert model.predict(table.X).dtype == dtype
    assert_array_equal(model.classes_, np.asarray(labels))
    Y = pd.DataFrame({"a": y, "b": y})
    both = small(SharedBottom, task_types="classification").fit(table.X, Y).predict(table.X)
    assert both.dtype == dtype
    assert set(both.ravel().tolist()) <= set(np.asarray(labels).tolist())


def test_kinds_of_labels_that_cannot_share_a_dtype(table):
    Y = pd.DataFrame({"a": table.Y["income"], "b": table.chain["click"] == 1, "c": table.Y["wage"]})
    predicted = small(SharedBottom, max_epochs=1).fit(table.X, Y).predict(table.X)
    assert predicted.dtype == object
    assert {type(value) for value in predicted[:, 0]} == {str}
    assert {type(value) for value in predicted[:, 1]} == {bool}
    assert {type(value) for value in predicted[:, 2]} == {float}


# Missing labels and weights -------------------------------------------------------------------


def with_gaps(form, click):
    """Return 0/1 labels with every third missing, held in one of the usual ways."""
    gaps = np.arange(len(click)) % 3 == 0
    if form == "NaN":
        return pd.Series(np.where(gaps, np.nan, click))
    if form == "None":
        return pd.Series(np.where(gaps, None, click.astype(object)))
    if form == "Int64":
        return pd.Series(click, dtype="Int64").mask(gaps)
    if form == "pd.NA among objects":
        return pd.Series(click, dtype=object).mask(gaps, pd.NA)
    if form == "boolean":
        return pd.Series(click == 1, dtype="boolean").mask(gaps)
    return pd.Series(np.array(["0", "1"])[click], dtype=form).mask(gaps)


FORMS = ["NaN", "None", "Int64", "pd.NA among objects", "boolean", "str", "category", "object"]


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_missing_labels(form, table):
    click = table.chain["click"].to_numpy()

    def proba(labels):
        Y = pd.DataFrame({"income": table.Y["income"], "gaps": labels})
        return small(SharedBottom).fit(table.X, Y).predict_proba(table.X)

    assert_array_equal(proba(with_gaps(form, click)), proba(with_gaps("NaN", click)))


def test_missing_labels_in_an_object_array(table):
    Y = np.array(table.Y[["income", "married"]].astype(object))
    Y[0, 0], Y[1, 1] = None, pd.NA
    model = small(SharedBottom, max_epochs=1).fit(table.X, Y)
    assert model.classes_[0].tolist() == ["<=50K", ">50K"]
    assert model.classes_[1].tolist() == [0, 1]


@everywhere
def test_rows_without_a_label_train_the_other_tasks(cls, table):
    Y = table.chain.astype(float)
    gaps = np.arange(120) % 2 == 0
    Y.loc[gaps, "click"] = np.nan
    model = small(cls, **EXACT, max_epochs=1).fit(table.X, Y)
    Y.loc[gaps, "conversion"] = 1 - Y.loc[gaps, "conversion"]
    other = small(cls, **EXACT, max_epochs=1).fit(table.X, Y)
    first, second = model.module_.state_dict(), other.module_.state_dict()
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert np.isfinite(model.history_.to_numpy()).all()


@any_task
def test_the_loss_of_a_task_is_the_mean_over_its_labels(cls, table):
    # Before the first step a task's loss is that of the initial network: labels of another task,
    # missing or not, must not change it. (Means of numbers do depend on them: here are none.)
    X, names = table.X[["city", "student"]], ["income", "married"]
    whole = small(cls, **EXACT, max_epochs=1).fit(X, table.Y[names])
    Y = table.Y[names].copy()
    Y.loc[5:60, "income"] = None
    gappy = small(cls, **EXACT, max_epochs=1).fit(X, Y)
    column = "train_loss_married"
    assert_allclose(gappy.history_[column], whole.history_[column], rtol=1e-10)
    assert gappy.history_["train_loss_income"][0] != whole.history_["train_loss_income"][0]


@everywhere
def test_a_row_without_any_label_is_no_row(cls, table):
    Y = table.chain.astype(float)
    Y.loc[[3, 70]] = np.nan
    X = table.X.copy()
    X.loc[3, ["age", "city"]] = [1e6, "Atlantis"]
    model = small(cls).fit(X, Y)
    keep = Y.notna().any(axis=1)
    removed = small(cls).fit(X[keep], Y[keep])
    assert_array_equal(outputs(model, table.X), outputs(removed, table.X))
    weighted = small(cls).fit(X, Y, sample_weight=np.ones(120))
    assert_array_equal(outputs(model, table.X), outputs(weighted, table.X))


@everywhere
class TestSampleWeight:
    def test_one_column_of_weights_is_all_columns(self, cls, table):
        Y, w = table.targets(cls), np.random.default_rng(0).uniform(0.5, 2, 120)
        by_row = small(cls).fit(table.X, Y, sample_weight=w)
        by_label = small(cls).fit(table.X, Y, sample_weight=np.tile(w[:, None], Y.shape[1]))
        assert_array_equal(outputs(by_row, table.X), outputs(by_label, table.X))
        plain = small(cls).fit(table.X, Y)
        assert not np.allclose(outputs(by_row, table.X), outputs(plain, table.X))

    def test_zero_weight_removes_the_row(self, cls, table):
        Y, keep = table.targets(cls), np.arange(120) % 4 > 0
        X = table.X.copy()
        X.loc[0, ["age", "city"]] = [1e6, "Atlantis"]  # must not reach statistics or categories
        zero = small(cls).fit(X, Y, sample_weight=keep.astype(float))
        removed = small(cls).fit(X[keep], Y[keep], sample_weight=np.ones(keep.sum()))
        without = small(cls).fit(X[keep], Y[keep])
        assert_array_equal(outputs(zero, table.X), outputs(removed, table.X))
        assert_allclose(outputs(zero, table.X), outputs(without, table.X), rtol=1e-4, atol=1e-5)

    def test_zero_weight_removes_the_label(self, cls, table):
        Y = table.chain.astype(float)
        weight = np.ones((120, 2))
        weight[::3, 1] = 0
        zero = small(cls).fit(table.X, Y, sample_weight=weight)
        both = small(cls).fit(table.X, Y.where(weight > 0), sample_weight=weight)
        assert_array_equal(outputs(zero, table.X), outputs(both, table.X))
        if is_chain(cls):  # after no click a missing label is known; one of zero weight is left out
            weight[Y["click"] == 0, 1] = 1
            zero = small(cls).fit(table.X, Y, sample_weight=weight)
        missing = small(cls).fit(table.X, Y.where(weight > 0))
        assert_array_equal(outputs(zero, table.X), outputs(missing, table.X))

    def test_weights_equal_copies(self, cls, table):
        Y, times = table.targets(cls), np.random.default_rng(0).integers(0, 4, 120)
        weighted = small(cls, **EXACT).fit(table.X, Y, sample_weight=times)
        index = np.repeat(np.arange(120), times)
        copied = small(cls, **EXACT).fit(table.X.iloc[index], Y.iloc[index])
        assert_allclose(outputs(weighted, table.X), outputs(copied, table.X), rtol=1e-6, atol=1e-9)

    def test_score(self, cls, table):
        Y = table.Y[["income", "level"]] if takes_anything(cls) else table.chain
        model = small(cls).fit(table.X, Y)
        weight = np.random.default_rng(0).uniform(0, 2, (120, 2)).round()
        predicted = model.predict(table.X)
        parts = [np.average(Y.iloc[:, k] == predicted[:, k], weights=weight[:, k]) for k in (0, 1)]
        assert model.score(table.X, Y, sample_weight=weight) == pytest.approx(np.mean(parts))
        by_row = np.average((predicted == Y).mean(axis=1), weights=weight[:, 0])
        assert model.score(table.X, Y, sample_weight=weight[:, 0]) == pytest.approx(by_row)


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (np.zeros(120), "non-zero"),
        (-np.ones(120), "[Nn]egative"),
        (np.full((120, 2), np.nan), "finite"),
        (np.ones((120, 3)), r"\(120,\), one weight per row, or \(120, 2\)"),
        (np.ones(7), "7"),
    ],
)
def test_unusable_weights(weight, match, table):
    with pytest.raises(ValueError, match=match):
        small(SharedBottom).fit(table.X, table.chain, sample_weight=weight)


def test_a_task_without_a_label_is_named(table):
    Y = table.Y.assign(married=np.nan)
    with pytest.raises(ValueError, match="'married' has no observed label"):
        small(SharedBottom).fit(table.X, Y)


def test_a_task_with_one_class_is_named(table):
    with pytest.raises(ValueError, match="'married' has one class only"):
        small(SharedBottom).fit(table.X, table.Y.assign(married=1))


# Parameters -----------------------------------------------------------------------------------


def n_tower_parameters(model):
    return sum(p.numel() for p in model.module_.towers.parameters())


@any_task
def test_tower_units_per_task(cls, table):
    Y = table.Y[["income", "wage"]]

    def count(units):
        return n_tower_parameters(small(cls, max_epochs=1, tower_units=units).fit(table.X, Y))

    wide, narrow = count((9,)), count((3,))
    by_list, by_name = count([(9,), (3,)]), count({"income": (9,), "wage": (3,)})
    assert narrow < by_list < wide
    assert by_list == by_name == (wide + narrow) // 2
    default = cls().tower_units
    assert count({"income": (9,)}) == (wide + count(default)) // 2  # the other has the default
    assert count([(9, 5), ()]) > count(())


@pytest.mark.parametrize("units", [[(4,)], {"nobody": (4,)}, [(4,), (0,)], [4, 4.5], (0,)])
def test_unusable_tower_units(units, table):
    with pytest.raises(ValueError, match="tower_units"):
        small(SharedBottom, tower_units=units).fit(table.X, table.chain)


@any_task
def test_a_task_of_loss_weight_zero_has_no_say(cls, table):
    Y = table.Y[["wage", "income"]]
    turned = Y.assign(income=Y["income"].to_numpy()[::-1])

    def wage(targets, **params):
        return small(cls, **EXACT, **params).fit(table.X, targets).predict(table.X)[:, 0]

    alone = wage(Y, loss_weights={"income": 0}).astype(float)
    assert_allclose(wage(turned, loss_weights=[1, 0]).astype(float), alone, rtol=1e-9)
    apart = said(cls, "SHARES_NOTHING")
    both = wage(Y).astype(float)
    assert np.allclose(both, alone, rtol=1e-5) == apart
    assert np.allclose(wage(turned).astype(float), both, rtol=1e-5) == apart


@everywhere
def test_history_weighs_the_losses(cls, table):
    model = small(cls, loss_weights=[0.5, 3], validation_fraction=0.2, max_epochs=3)
    history = model.fit(table.X, table.chain).history_
    assert list(history.columns.drop("train_penalty", errors="ignore")) == [
        "epoch", "train_loss", "train_loss_click", "train_loss_conversion",
        "weight_click", "weight_conversion",
        "valid_loss", "valid_loss_click", "valid_loss_conversion", "dur",
    ]  # fmt: skip
    assert (history[["weight_click", "weight_conversion"]] == 1).all(axis=None)
    assert history["epoch"].tolist() == [1, 2, 3]
    assert model.n_iter_ == 3
    for part in ("train", "valid"):
        first, second = history[f"{part}_loss_click"], history[f"{part}_loss_conversion"]
        assert_allclose(history[f"{part}_loss"], 0.5 * first + 3 * second, rtol=1e-5)


@pytest.mark.parametrize("weights", [[1], [0, 0], [1, -1], [1, np.nan], {"nobody": 1}])
def test_unusable_loss_weights(weights, table):
    with pytest.raises(ValueError, match="loss_weights"):
        small(SharedBottom, loss_weights=weights).fit(table.X, table.chain)


@everywhere
def test_early_stopping(cls, table):
    params = {"early_stopping": True, "n_iter_no_change": 2, "validation_fraction": 0.3}
    model = small(cls, max_epochs=60, lr=0.05, **params).fit(table.X, table.targets(cls))
    valid = model.history_["valid_loss"]
    assert model.n_iter_ == len(valid) < 60
    assert valid.idxmin() < len(valid) - 1
    assert (valid.iloc[-2:] > valid.min() - 1e-4).all()


def test_early_stopping_restores_the_best_weights(table):
    params = {"validation_fraction": 0.3, "lr": 0.05}
    stopped = small(MMoE, early_stopping=True, n_iter_no_change=3, max_epochs=60, **params)
    stopped.fit(table.X, table.Y)
    best = int(stopped.history_["valid_loss"].idxmin()) + 1
    straight = small(MMoE, max_epochs=best, **params).fit(table.X, table.Y)
    assert_array_equal(outputs(stopped, table.X), outputs(straight, table.X))


def test_held_out_rows_do_not_train(table):
    # Rows that are held out have no influence on the network: they may hold anything.
    params = {"validation_fraction": 0.25, "max_epochs": 1, "warm_start": True}
    first = small(SharedBottom, **params).fit(table.X, table.chain)
    held = hold_out(first._fitted_.hold_out, np.ones((120, 2), dtype=bool), np.arange(120))
    assert held.sum() == 30
    X, Y = table.X.copy(), table.chain.copy()
    Y.loc[held] = 1 - Y.loc[held]
    X.loc[held, "age"], X.loc[held, "city"] = 1e6, "Atlantis"
    second = small(SharedBottom, **params).fit(X, Y)
    assert_array_equal(outputs(first, table.X), outputs(second, table.X))


@everywhere
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype(cls, dtype, table):
    model = small(cls, dtype=dtype, max_epochs=1).fit(table.X, table.targets(cls))
    assert {p.dtype for p in model.module_.parameters()} == {getattr(torch, dtype)}
    assert model.predict_proba(table.X).dtype == np.float64
    assert model.decision_function(table.X).dtype == np.float64


def test_device(table):
    on_cpu = small(SharedBottom, device="cpu").fit(table.X, table.chain)
    assert {p.device.type for p in on_cpu.module_.parameters()} == {"cpu"}
    with pytest.raises(ValueError, match="`device` is 'mainframe'"):
        small(SharedBottom, device="mainframe").fit(table.X, table.chain)


@everywhere
def test_clone_and_nested_params(cls):
    balancer = EqualBalancer()
    model = small(cls, balancer=balancer, tower_units=[(4,), (2,)], callbacks=[])
    twin = clone(model)
    assert set(twin.get_params()) == set(model.get_params())
    assert isinstance(twin.balancer, EqualBalancer)
    assert twin.balancer is not balancer
    assert not hasattr(clone(fitted(cls)), "module_")
    pipeline = make_pipeline("passthrough", model)
    name = cls.__name__.lower()
    pipeline.set_params(**{f"{name}__lr": 0.5, f"{name}__balancer": "equal"})
    assert (model.lr, model.balancer) == (0.5, "equal")
    with pytest.raises(ValueError, match="Invalid parameter 'momentum'"):
        model.set_params(momentum=0.9)


@everywhere
def test_repr(cls):
    assert repr(cls()) == f"{cls.__name__}()"
    assert repr(cls(lr=0.5)) == f"{cls.__name__}(lr=0.5)"
    for model in (cls(), fitted(cls)):
        page = model._repr_html_()
        assert cls.__name__ in page
        assert "max_epochs" in page


@everywhere
@pytest.mark.parametrize(
    "params",
    [
        {"lr": 0}, {"lr": "fast"}, {"max_epochs": 0}, {"batch_size": 0}, {"dropout": 1.0},
        {"activation": "sine"}, {"optimizer": "magic"}, {"balancer": "magic"}, {"dtype": "int8"},
        {"early_stopping": "yes"}, {"validation_fraction": 1.5}, {"task_types": "ranking"},
        {"random_state": "x"}, {"tower_units": 8}, {"numeric_features": "log"},
        {"embedding_dim": 0}, {"weight_decay": -1}, {"tol": -1}, {"n_iter_no_change": 0},
    ],
    ids=lambda params: next(iter(params)),
)  # fmt: skip
def test_unusable_parameters_are_named_at_fit(cls, params, table):
    model = small(cls).set_params(**params)
    with pytest.raises(ValueError, match=next(iter(params))):
        model.fit(table.X, table.chain)


# State ----------------------------------------------------------------------------------------


@everywhere
def test_before_fit(cls, table):
    model = small(cls)
    for method in ("predict", "predict_proba", "decision_function", "predict_task_proba"):
        with pytest.raises(NotFittedError):
            getattr(model, method)(table.X)
    with pytest.raises(NotFittedError):
        model.score(table.X, table.chain)
    for name in ("n_iter_", "history_", "tasks_", "classes_", "module_", "feature_names_in_"):
        assert not hasattr(model, name), name


@everywhere
def test_column_names(cls, table):
    model = fitted(cls)
    turned = table.X[table.X.columns[::-1]]
    assert_array_equal(model.predict_proba(turned), model.predict_proba(table.X))
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(table.X.rename(columns={"age": "years"}))
    numbers = small(cls, max_epochs=1).fit(table.X[["hours"]].to_numpy(), table.chain)
    assert not hasattr(numbers, "feature_names_in_")


@everywhere
def test_refit_forgets(cls, table):
    model = copy.deepcopy(fitted(cls)).set_params(max_epochs=1)
    model.fit(table.X[["hours", "age"]], table.chain)
    fresh = small(cls, max_epochs=1).fit(table.X[["hours", "age"]], table.chain)
    assert_array_equal(
        outputs(model, table.X[["hours", "age"]]), outputs(fresh, table.X[fresh.feature_names_in_])
    )
    assert model.n_iter_ == len(model.history_) == 1
    assert model.task_names_ == ["click", "conversion"]


class Break(Callback):
    """Fail in the second epoch."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise RuntimeError("broken")


@everywhere
def test_a_fit_that_fails_leaves_an_unfitted_estimator_that_can_be_fitted(cls, table):
    Y = table.targets(cls)
    model = small(cls, callbacks=[Break()])
    with pytest.raises(RuntimeError, match="broken"):
        model.fit(table.X, Y)
    with pytest.raises(NotFittedError):
        model.predict(table.X)
    model.set_params(callbacks=None).fit(table.X, Y)
    assert_array_equal(outputs(model, table.X), outputs(fitted(cls), table.X))


@everywhere
def test_a_warm_start_that_fails_leaves_the_estimator_as_it_was(cls, table):
    Y = table.targets(cls)
    model = small(cls, warm_start=True).fit(table.X, Y)
    before, history = outputs(model, table.X), model.history_
    with pytest.raises(RuntimeError, match="broken"):
        model.set_params(callbacks=[Break()]).fit(table.X, Y)
    assert_array_equal(outputs(model, table.X), before)
    assert model.history_.equals(history)
    with pytest.raises(ValueError, match="tasks"):
        model.set_params(callbacks=None).fit(table.X, Y.rename(columns={Y.columns[0]: "other"}))
    assert_array_equal(outputs(model, table.X), before)
    assert model.fit(table.X, Y).n_iter_ == 4


# Determinism ----------------------------------------------------------------------------------

RANDOM = {"dropout": 0.2, "batch_norm": True}


@everywhere
@pytest.mark.parametrize("params", [{}, RANDOM], ids=["plain", "dropout and batch norm"])
def test_the_same_seed_gives_the_same_bits(cls, params, table):
    Y, seen = table.targets(cls), []
    for global_seed in (1, 2):
        torch.manual_seed(global_seed)
        np.random.seed(global_seed)  # noqa: NPY002
        seen.append(outputs(small(cls, **params).fit(table.X, Y), table.X))
    assert_array_equal(*seen)
    other = small(cls, random_state=1, **params).fit(table.X, Y)
    assert not np.array_equal(seen[0], outputs(other, table.X))


@pytest.mark.parametrize("params", [{}, RANDOM], ids=["plain", "dropout and batch norm"])
def test_random_state_instance(params, table):
    first, second = (
        small(MMoE, random_state=np.random.RandomState(3), **params).fit(table.X, table.Y)
        for _ in range(2)
    )
    assert_array_equal(outputs(first, table.X), outputs(second, table.X))


@everywhere
def test_no_global_state_is_touched(cls, table):
    def state():
        return (
            torch.get_rng_state().tolist(),
            [str(part) for part in np.random.get_state()],  # noqa: NPY002
            torch.get_num_threads(),
            torch.get_num_interop_threads(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            torch.are_deterministic_algorithms_enabled(),
        )

    before = state()
    model = small(cls, early_stopping=True, **RANDOM).fit(table.X, table.targets(cls))
    assert state() == before
    outputs(model, table.X)
    model.score(table.X, table.targets(cls))
    pickle.loads(pickle.dumps(model))
    assert state() == before
    small(cls, **RANDOM).partial_fit(table.X, table.targets(cls))
    assert state() == before


@everywhere
def test_fits_in_threads_equal_fits_in_a_row(cls, table):
    Y = table.targets(cls)

    def fit(seed):
        model = small(cls, random_state=seed, **RANDOM).fit(table.X, Y)
        return outputs(model, table.X)

    in_a_row = [fit(seed) for seed in range(4)]
    with ThreadPoolExecutor(2) as pool:
        in_threads = list(pool.map(fit, range(4)))
    for expected, found in zip(in_a_row, in_threads, strict=True):
        assert_array_equal(found, expected)


def test_prediction_in_threads(table):
    model = fitted(MMoE)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: outputs(model, table.X), range(8)))
    for one in found:
        assert_array_equal(one, found[0])


def test_prediction_changes_nothing(table):
    model = small(SharedBottom, **RANDOM).fit(table.X, table.Y)
    before = pickle.dumps(model)
    first = outputs(model, table.X)
    assert_array_equal(outputs(model, table.X), first)
    assert pickle.dumps(model) == before


# Going on -------------------------------------------------------------------------------------


@everywhere
def test_warm_start_goes_on(cls, table):
    Y = table.targets(cls)
    whole = small(cls, max_epochs=6, **EXACT).fit(table.X, Y)
    parts = small(cls, max_epochs=2, warm_start=True, **EXACT)
    for n_epochs in (2, 4, 6):
        parts.fit(table.X, Y)
        assert parts.n_iter_ == len(parts.history_) == n_epochs
    assert parts.history_["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert parts.history_["train_loss"].is_monotonic_decreasing
    # The same steps in the end: weights and the optimizer's moments were carried over. (Only the
    # order of rows within the one batch differs, and with it the rounding.)
    assert_allclose(parts.history_["train_loss"], whole.history_["train_loss"], rtol=1e-7)
    assert_allclose(outputs(parts, table.X), outputs(whole, table.X), rtol=1e-5, atol=1e-7)


@everywhere
def test_partial_fit_goes_on(cls, table):
    Y = table.targets(cls)
    whole = small(cls, max_epochs=3, **EXACT).fit(table.X, Y)
    parts = small(cls, **EXACT)
    for n_epochs in (1, 2, 3):
        assert parts.partial_fit(table.X, Y) is parts
        assert parts.n_iter_ == n_epochs
    assert_allclose(parts.history_["train_loss"], whole.history_["train_loss"], rtol=1e-7)
    assert_allclose(outputs(parts, table.X), outputs(whole, table.X), rtol=1e-5, atol=1e-7)


def test_optimizer_state_is_carried(table):
    model = small(MMoE, warm_start=True, max_epochs=3).fit(table.X, table.Y).fit(table.X, table.Y)
    steps = {int(state["step"]) for state in model.net_.optimizer_.state.values()}
    assert steps == {6 * 4}  # epochs times batches


def test_training_parameters_may_change_between_warm_starts(table):
    model = small(MMoE, warm_start=True).fit(table.X, table.Y)
    changes = {"lr": 0.001, "batch_size": 16, "optimizer": "sgd", "loss_weights": [1, 2, 3, 4]}
    assert model.set_params(max_epochs=1, **changes).fit(table.X, table.Y).n_iter_ == 3
    with pytest.raises(ValueError, match="`n_experts` was 3"):
        model.set_params(n_experts=5).fit(table.X, table.Y)
    assert model.predict(table.X).shape == (120, 4)


class TestPartialFit:
    def test_classes_by_list_dict_and_array(self, table):
        Y = table.Y[["income", "level", "wage"]]
        few = Y["level"] != "low"
        known = {"level": ["high", "low", "mid"]}
        for classes in (known, [None, known["level"], None]):
            model = small(SharedBottom).partial_fit(table.X[few], Y[few], classes=classes)
            assert_array_equal(model.tasks_[1].classes_, ["high", "low", "mid"])
            model.partial_fit(table.X, Y)
            assert model.predict_proba(table.X).shape == (120, 5)
        model = small(SharedBottom)
        model.partial_fit(table.X[few], Y["level"][few], classes=known["level"])
        assert_array_equal(model.classes_, ["high", "low", "mid"])

    def test_a_label_that_was_not_announced(self, table):
        few = table.Y["level"] != "low"
        model = small(SharedBottom).partial_fit(table.X[few], table.Y[few])
        before = outputs(model, table.X)
        with pytest.raises(ValueError, match=r"'level' has the label 'low'.*Pass `classes`"):
            model.partial_fit(table.X, table.Y)
        assert_array_equal(outputs(model, table.X), before)

    def test_a_batch_with_one_class_only(self, table):
        model = small(SharedBottom).partial_fit(table.X, table.chain)
        rows = table.chain["click"] == 0
        assert model.partial_fit(table.X[rows], table.chain[rows]).n_iter_ == 2

    def test_a_new_category_counts_as_unknown(self, table):
        model = small(SharedBottom).partial_fit(table.X, table.Y)
        before = copy.deepcopy(model)
        moved = table.X.assign(city="Atlantis")
        with pytest.warns(UserWarning, match="'city' has values such as 'Atlantis'"):
            model.partial_fit(moved, table.Y)
        other = table.X.assign(city="Another one")[:9]
        assert_array_equal(outputs(model, moved[:9]), outputs(model, other))
        assert not np.array_equal(outputs(model, moved[:9]), outputs(before, moved[:9]))

    def test_early_stopping_is_refused(self, table):
        with pytest.raises(ValueError, match="early_stopping"):
            small(SharedBottom, early_stopping=True).partial_fit(table.X, table.Y)

    def test_other_columns_are_refused(self, table):
        model = small(SharedBottom).partial_fit(table.X, table.Y)
        with pytest.raises(ValueError, match="tasks"):
            model.partial_fit(table.X, table.chain)
        with pytest.raises(ValueError, match="feature"):
            model.partial_fit(table.X[["age"]], table.Y)


# Copies and files -----------------------------------------------------------------------------


def by_oldest_pickle(model, folder):
    return pickle.loads(pickle.dumps(model, protocol=2))


def by_cloudpickle(model, folder):
    cloudpickle = pytest.importorskip("cloudpickle")
    return cloudpickle.loads(cloudpickle.dumps(model))


def by_compressed_joblib(model, folder):
    joblib.dump(model, folder / "model.joblib", compress=3)
    return joblib.load(folder / "model.joblib")


def by_mapped_joblib(model, folder):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib", mmap_mode="r")


def by_deepcopy(model, folder):
    return copy.deepcopy(model)


COPIES = [
    by_pickle, by_oldest_pickle, by_cloudpickle, by_compressed_joblib, by_mapped_joblib,
    by_deepcopy,
]  # fmt: skip


@everywhere
@pytest.mark.parametrize("way", COPIES, ids=lambda way: way.__name__)
def test_a_copy_predicts_the_same_bits(cls, way, table, tmp_path):
    model = fitted(cls)
    twin = way(model, tmp_path)
    assert_array_equal(outputs(twin, table.X), outputs(model, table.X))
    assert_array_equal(twin.predict(table.X), model.predict(table.X))
    assert twin.get_params() == model.get_params()
    assert twin.history_.equals(model.history_)
    # The copy goes on training, and leaves the original alone.
    before = outputs(model, table.X)
    twin.partial_fit(table.X, table.targets(cls))
    assert twin.n_iter_ == model.n_iter_ + 1
    assert not np.array_equal(outputs(twin, table.X), before)
    assert_array_equal(outputs(model, table.X), before)


LOAD = """
import json, sys, warnings
warnings.simplefilter("error")
import joblib
import numpy as np
folder = sys.argv[1]
X = joblib.load(folder + "/X.joblib")
for name in json.loads(sys.argv[2]):
    model = joblib.load(f"{folder}/{name}.joblib")
    said = np.column_stack([model.predict_proba(X), model.decision_function(X)])
    np.save(f"{folder}/{name}.npy", said)
"""


def test_a_fresh_process_predicts_the_same_bits(table, tmp_path):
    joblib.dump(table.X, tmp_path / "X.joblib")
    for cls in ESTIMATORS:
        joblib.dump(fitted(cls), tmp_path / f"{cls.__name__}.joblib")
    names = json.dumps([cls.__name__ for cls in ESTIMATORS])
    subprocess.run([sys.executable, "-c", LOAD, str(tmp_path), names], check=True)
    for cls in ESTIMATORS:
        said = np.load(tmp_path / f"{cls.__name__}.npy")
        assert_array_equal(said, outputs(fitted(cls), table.X))


def pickled_modules(data):
    """Return the names of the modules whose objects a pickle holds."""
    modules, strings = set(), []
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in ("GLOBAL", "INST"):
            modules.add(argument.split()[0])
        elif opcode.name == "STACK_GLOBAL":
            # Module and name were pushed last, at once or from the memo.
            modules.update(strings[-2:])
        elif isinstance(argument, str):
            strings.append(argument)
    return modules


@everywhere
@pytest.mark.parametrize("protocol", [2, pickle.HIGHEST_PROTOCOL])
def test_a_pickle_holds_no_object_of_torch(cls, protocol):
    tops = {name.split(".")[0] for name in pickled_modules(pickle.dumps(fitted(cls), protocol))}
    assert "sk_mtl" in tops
    assert not tops & {"torch", "skorch"}


@everywhere
def test_a_pickle_is_small(cls):
    model = fitted(cls)
    weights = sum(p.numel() * p.element_size() for p in model.module_.state_dict().values())
    assert len(pickle.dumps(model)) < weights + 10_000


def test_an_unfitted_estimator_is_copied(tmp_path):
    model = small(MMoE, balancer=EqualBalancer())
    for way in COPIES:
        twin = way(model, tmp_path)
        assert not hasattr(twin, "module_")
        assert repr(twin) == repr(model)


def test_parameters_set_after_fit_do_not_reach_a_copy(table, tmp_path):
    model = copy.deepcopy(fitted(MMoE)).set_params(n_experts=11, tower_units=(77,), dtype="float64")
    twin = by_pickle(model, tmp_path)
    assert_array_equal(outputs(twin, table.X), outputs(fitted(MMoE), table.X))
    assert twin.n_experts == 11


def test_a_copy_of_a_model_on_a_device_that_is_not_there(table):
    model = copy.deepcopy(fitted(MMoE))
    model._fitted_.params["device"] = "cuda:7"
    data = pickle.dumps(model)
    with pytest.warns(UserWarning, match="Using the CPU"):
        twin = pickle.loads(data)
    assert_array_equal(outputs(twin, table.X), outputs(fitted(MMoE), table.X))


# Other forms of X -----------------------------------------------------------------------------


@everywhere
def test_sparse_equals_dense(cls, table):
    from scipy import sparse

    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 6)) * (rng.random((120, 6)) < 0.3)
    params = {**EXACT, "numeric_features": "passthrough"}
    dense = small(cls, **params).fit(X, table.chain)
    for form in (sparse.csr_matrix, sparse.csr_array, sparse.csc_matrix):
        model = small(cls, **params).fit(form(X), table.chain)
        assert_allclose(outputs(model, form(X)), outputs(dense, X), rtol=1e-9)
        assert_allclose(outputs(dense, form(X)), outputs(dense, X), rtol=1e-9)


def test_unseen_and_missing_values_at_predict(table):
    model = fitted(MMoE)
    X = table.X.copy()
    X["age"], X["hours"], X["city"] = np.nan, np.nan, "Atlantis"
    with pytest.warns(UserWarning, match="'city' has values such as 'Atlantis'"):
        assert np.isfinite(outputs(model, X)).all()
    X["city"] = None
    assert np.isfinite(outputs(model, X)).all()


@everywhere
@pytest.mark.parametrize("n", [1, 2, 7])
def test_rows_do_not_see_each_other(cls, n, table):
    model = fitted(cls)
    few = table.X.iloc[:n]
    assert_allclose(outputs(model, few), outputs(model, table.X)[:n], rtol=1e-4, atol=1e-6)


def test_inputs_stay_as_they_were(table):
    X, Y, weight = table.X.copy(), table.Y.copy(), np.ones((120, 4))
    weight[3] = 0
    before = weight.copy()
    model = small(MMoE).fit(X, Y, sample_weight=weight)
    model.score(X, Y, sample_weight=weight)
    pd.testing.assert_frame_equal(X, table.X)
    pd.testing.assert_frame_equal(Y, table.Y)
    assert_array_equal(weight, before)


def test_read_only_arrays():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(40, 3)), rng.integers(0, 2, (40, 2))
    weight = np.ones((40, 2))
    for array in (X, Y, weight):
        array.flags.writeable = False
    model = small(MMoE).fit(X, Y, sample_weight=weight)
    assert model.predict(X).shape == (40, 2)


@pytest.mark.parametrize("cls", [c for c in CHAINS if hasattr(c, "predict_conversion_rate")])
def test_conversion_rate(cls, table):
    model = fitted(cls)
    rate = model.predict_conversion_rate(table.X)
    proba = model.predict_proba(table.X)
    assert rate.shape == (120,)
    assert_allclose(proba[:, 3], proba[:, 1] * rate, rtol=1e-5)
    if cls in LONG_CHAINS:
        longer = table.chain.assign(again=table.chain["conversion"] * (np.arange(120) % 2))
        model = small(cls).fit(table.X, longer)
        assert model.predict_conversion_rate(table.X).shape == (120, 2)


@pytest.mark.parametrize("cls", CHAINS)
def test_steps_that_do_not_nest_are_told(cls, table):
    with pytest.warns(UserWarning, match="rows have come to a step"):
        small(cls).fit(table.X, table.chain.assign(click=1 - table.chain["click"]))
