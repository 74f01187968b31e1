"""Tables, labels and weights as users hold them: the same values give the same numbers."""

import tracemalloc
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import make_table, small
from scipy import sparse
from sklearn.base import BaseEstimator, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris
from sklearn.metrics import get_scorer, log_loss, r2_score, roc_auc_score
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    KFold,
    TunedThresholdClassifierCV,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback, EarlyStopping, EpochScoring

from sk_mtl import MMoE, SharedBottom, load, predict_frame, predict_task_proba, save, task_view
from sk_mtl.data import check_rows, encoder, numbers
from sk_mtl.metrics import REPORTED, multi_task_report, multi_task_scorer, task_scorer
from sk_mtl.model_selection import cross_val_predict
from sk_mtl.tasks import Column, OrdinalTask, make_tasks

N = 400
RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(N, 2)), columns=["a", "b"])
Y = pd.DataFrame({"click": X["a"] > 0, "buy": X["b"] > 0}).astype(int)
SWAPPED = Y[["buy", "click"]]


@pytest.fixture(scope="module")
def model():
    return small(MMoE, max_epochs=15).fit(X, Y)


# Names --------------------------------------------------------------------------------------------


def test_labels_are_matched_by_name(model):
    assert model.score(X, SWAPPED) == model.score(X, Y) > 0.9
    assert model.score(X, Y.to_numpy()) == model.score(X, Y)
    assert model.score(X, pd.DataFrame(Y.to_numpy())) == model.score(X, Y)
    scorer = multi_task_scorer({"click": "roc_auc", "buy": "roc_auc"})
    assert scorer(model, X, SWAPPED) == scorer(model, X, Y)


def test_a_report_counts_the_labels_of_the_task(model):
    gaps = Y.astype(float)
    gaps.loc[:299, "buy"] = np.nan
    expected = multi_task_report(gaps, model, X)
    assert expected["n_labels"].to_dict() == {"click": 400, "buy": 100}
    pd.testing.assert_frame_equal(multi_task_report(gaps[["buy", "click"]], model, X), expected)


def weights():
    return pd.DataFrame({"click": 1.0, "buy": np.r_[np.zeros(390), np.ones(10)]})


def test_weights_are_matched_by_name():
    w = weights()
    expected = small(MMoE).fit(X, Y, sample_weight=w).predict_proba(X)
    for given in (w[["buy", "click"]], w.to_numpy(), pd.DataFrame(w.to_numpy())):
        found = small(MMoE).fit(X, Y, sample_weight=given).predict_proba(X)
        assert np.array_equal(found, expected)
    model = small(MMoE).fit(X, Y)
    assert model.score(X, SWAPPED, w) == model.score(X, Y, w)
    scorer = task_scorer("roc_auc", "buy")
    assert scorer(model, X, SWAPPED, w) == scorer(model, X, Y, w[["buy", "click"]])
    with pytest.raises(ValueError, match=r"`sample_weight` has the tasks \['click', 'price'\]"):
        small(MMoE).fit(X, Y, sample_weight=w.rename(columns={"buy": "price"}))


def test_going_on_matches_names():
    one, other = (small(MMoE, warm_start=True).fit(X, Y) for _ in range(2))
    for train in (MMoE.fit, MMoE.partial_fit):
        train(one, X, Y)
        train(other, X, SWAPPED)
        assert np.array_equal(one.predict_proba(X), other.predict_proba(X))
    held = small(MMoE).fit(X, Y, X_val=X, y_val=Y).history_["valid_loss_buy"]
    swapped = small(MMoE).fit(X, Y, X_val=X, y_val=SWAPPED).history_["valid_loss_buy"]
    assert held.tolist() == swapped.tolist()


@pytest.mark.parametrize("y", [Y.assign(more=1), Y.rename(columns={"buy": "price"})])
def test_other_names_are_refused(model, y):
    with pytest.raises(ValueError, match=r"y has the tasks .* fitted with \['click', 'buy'\]"):
        model.score(X, y)
    with pytest.raises(ValueError, match="y has the tasks"):
        multi_task_report(y, model, X)


@pytest.mark.parametrize("names", [[0, 1], [10, 20], [("u", "a"), ("u", "b")]])
def test_columns_of_any_names_are_matched(names):
    index = pd.MultiIndex.from_tuples(names) if isinstance(names[0], tuple) else names
    named = X.set_axis(index, axis=1)
    model = small(MMoE, max_epochs=5).fit(named, Y)
    reordered = named[named.columns[::-1]]
    assert np.array_equal(model.predict_proba(reordered), model.predict_proba(named))
    assert np.array_equal(model.predict_proba(reordered[:1]), model.predict_proba(named[:1]))


def test_a_column_of_another_name_is_refused():
    model = small(MMoE).fit(X.set_axis([10, 20], axis=1), Y)
    with pytest.raises(ValueError, match="no column 20"):
        model.predict(X.set_axis([10, 30], axis=1))


# Values of another type ---------------------------------------------------------------------------

CODES = np.random.default_rng(1).integers(0, 20, 600)
DECIDED = np.column_stack([CODES % 2, CODES > 9]).astype(int)


def of_codes(dtype, codes=CODES):
    return pd.DataFrame({"id": codes}).astype(dtype)


@pytest.mark.parametrize(
    ("at_fit", "later"),
    [
        ("int64", str), ("int64", "float64"), ("int64", "Int64"), ("int64", "category"),
        (str, "int64"), (str, "Int64"), (str, "category"), ("category", str), ("float64", str),
        ("float64", "int64"), ("Int64", str), (object, str), ("int64", object),
    ],
)  # fmt: skip
def test_a_number_is_the_same_category_as_its_digits(at_fit, later):
    fit = {"categorical_features": ["id"], "max_epochs": 5}
    model = small(SharedBottom, **fit).fit(of_codes(at_fit), DECIDED)
    expected = model.predict_proba(of_codes(at_fit))
    assert len(np.unique(expected, axis=0)) == 20
    for n in (600, 1):
        found = model.predict_proba(of_codes(later, CODES[:n]))
        np.testing.assert_allclose(found, expected[:n], rtol=1e-6)


@pytest.mark.parametrize("later", [bool, int, float, str, "boolean", "category", object])
def test_a_boolean_is_the_same_in_any_type(later):
    vip = pd.DataFrame({"vip": CODES % 2 == 1, "z": 0.0})
    model = small(SharedBottom, max_epochs=5).fit(vip, DECIDED)
    expected = model.predict_proba(vip)
    assert len(np.unique(expected, axis=0)) == 2
    found = model.predict_proba(vip.astype({"vip": later}))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    words = vip.assign(vip=vip["vip"].map({True: "true", False: "false"}))
    np.testing.assert_allclose(model.predict_proba(words), expected, rtol=1e-6)


def test_what_is_no_value_of_the_kind_stays_unknown():
    vip = pd.DataFrame({"vip": CODES % 2 == 1, "z": 0.0})
    model = small(SharedBottom, max_epochs=5).fit(vip, DECIDED)
    unknown = model.predict_proba(vip.assign(vip="maybe")[:5])
    for value in (2, 0.5, "yes", -1):
        found = model.predict_proba(vip.assign(vip=value)[:5])
        np.testing.assert_allclose(found, unknown, rtol=1e-6)


def test_a_column_without_a_known_value_is_told():
    table = make_table()
    model = small(MMoE).fit(table.X, table.Y)
    strange = table.X.assign(city="Atlantis")
    with pytest.warns(UserWarning, match=r"column 'city' has values such as 'Atlantis'") as told:
        model.predict(strange)
    assert len(told) == 1
    model.predict(strange[:5])  # a few unknown ones are nothing strange
    model.predict(table.X.assign(city=None))  # nor are missing ones


@pytest.mark.parametrize("frame", ["Int64", "object", "polars", "arrow"])
def test_large_ids_with_gaps_keep_their_digits(frame):
    ids = [None, *(2**60 + int(v) for v in CODES[1:])]
    if frame == "polars":
        rows = pl.DataFrame({"id": ids})
    elif frame == "arrow":
        rows = pytest.importorskip("pyarrow").table({"id": ids})
    else:
        rows = pd.DataFrame(
            {"id": pd.array(ids, "Int64") if frame == "Int64" else pd.Series(ids, dtype=object)}
        )
    fit = {"categorical_features": ["id"], "max_epochs": 30, "lr": 0.05}
    model = small(SharedBottom, **fit).fit(rows, DECIDED)
    assert model.score(rows, DECIDED) > 0.99


def test_a_float_that_may_be_several_ids_is_none_of_them():
    ids = pd.DataFrame({"id": np.tile([2**60, 2**60 + 1], 300)})
    model = small(SharedBottom, categorical_features=["id"]).fit(ids, DECIDED)
    unknown = model.predict_proba(pd.DataFrame({"id": [5]}))
    for rows in (ids[:1].astype(float), ids[:1].astype(float).astype(str)):
        assert np.array_equal(model.predict_proba(rows), unknown)


def test_strings_among_numbers_are_known_by_their_value():
    cells = pd.DataFrame({"c": pd.Series([1, 2.5, "x", None] * 150, dtype=object)})
    model = small(SharedBottom, max_epochs=5).fit(cells, DECIDED)
    words = pd.DataFrame({"c": ["1", "2.5", "x", None] * 150})
    found = model.predict_proba(words)
    np.testing.assert_allclose(found, model.predict_proba(cells), rtol=1e-6)


def test_an_arrow_table_is_a_table():
    pa = pytest.importorskip("pyarrow")
    table = make_table()
    model = small(MMoE).fit(table.X, table.Y)
    arrow = pa.Table.from_pandas(table.X)
    assert np.array_equal(model.predict_proba(arrow), model.predict_proba(table.X))
    again = small(MMoE).fit(arrow, pa.Table.from_pandas(table.Y))
    assert again.task_names_ == list(table.Y)
    assert again.feature_names_in_.tolist() == list(table.X)
    assert np.array_equal(again.predict_proba(table.X), model.predict_proba(table.X))


def test_a_relation_of_duckdb_is_a_table():
    duckdb = pytest.importorskip("duckdb", reason="an extra that nothing else needs")
    table = make_table()
    model = small(MMoE).fit(table.X, table.Y)
    rows, labels = table.X, table.Y
    relation = duckdb.sql("select * from rows")
    assert np.array_equal(model.predict_proba(relation), model.predict_proba(table.X))
    again = small(MMoE).fit(relation, duckdb.sql("select * from labels"))
    assert again.task_names_ == list(labels)
    assert np.array_equal(again.predict_proba(rows), model.predict_proba(rows))


class Interchanged:
    """A table that has nothing but the older interchange protocol."""

    def __init__(self, table):
        self.table = table

    def __dataframe__(self, *args, **kwargs):
        return self.table.__dataframe__(*args, **kwargs)


class Streamed:
    """A table that has nothing but Arrow's protocol."""

    def __init__(self, table):
        self.table = table

    def __arrow_c_stream__(self, *args, **kwargs):
        return self.table.__arrow_c_stream__(*args, **kwargs)


class Lazy:
    """A table that is yet to be computed."""

    columns = dtypes = None

    def compute(self):
        raise AssertionError


def test_an_interchanged_table_is_a_table(model):
    pa = pytest.importorskip("pyarrow")
    for form in (Interchanged, Streamed):
        rows = form(pa.Table.from_pandas(X))
        assert np.array_equal(model.predict_proba(rows), model.predict_proba(X))
    with pytest.raises(TypeError, match=r"pass what its compute\(\) returns"):
        model.predict(Lazy())


def test_an_array_of_strings_has_numbers():
    rng = np.random.default_rng(0)
    age, code = rng.normal(40, 10, 300), rng.choice(list("xyz"), 300)
    y = (age > 40).astype(int)
    mixed = np.array([[v, w] for v, w in zip(age, code, strict=True)], dtype=object)
    strings = np.array([[v, w] for v, w in zip(age, code, strict=True)])
    assert strings.dtype.kind == "U"
    model = small(SharedBottom, max_epochs=5).fit(mixed, y)
    again = small(SharedBottom, max_epochs=5).fit(strings, y)
    assert np.array_equal(again.predict_proba(strings), model.predict_proba(mixed))
    assert np.array_equal(model.predict_proba(strings), model.predict_proba(mixed))


def test_an_ordered_categorical_gives_its_order():
    order = ["low", "medium", "high", "very high"]
    level = pd.cut(X["a"], [-9, -1, 0, 1, 9], labels=order)
    y = Y.assign(level=level)
    model = small(SharedBottom, task_types={"level": "ordinal"}, max_epochs=5).fit(X, y)
    told = OrdinalTask(order=order)
    other = small(SharedBottom, task_types={"level": told}, max_epochs=5).fit(
        X, y.astype({"level": str})
    )
    assert np.array_equal(model.predict_proba(X), other.predict_proba(X))
    given = pl.from_pandas(y.astype({"level": str})).with_columns(
        pl.col("level").cast(pl.Enum(order))
    )
    third = small(SharedBottom, task_types={"level": "ordinal"}, max_epochs=5).fit(X, given)
    assert np.array_equal(third.predict_proba(X), other.predict_proba(X))
    loose = y.assign(level=level.cat.as_unordered())
    plain = small(SharedBottom, task_types={"level": "ordinal"}, max_epochs=5).fit(X, loose)
    assert not np.array_equal(model.predict_proba(X), plain.predict_proba(X))


# Scores of slices ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def three():
    y = Y.assign(level=np.digitize(X["a"] + X["b"], [-1, 0, 1]))
    return small(MMoE, max_epochs=3).fit(X, y), y


def test_a_slice_that_lacks_a_class(three):
    model, y = three
    rows = (y["level"] != 3).to_numpy()
    report = multi_task_report(y[rows], model, X[rows])
    assert np.isnan(report.loc["level", "roc_auc_ovr"])
    p = model.predict_task_proba(X[rows])["level"]
    expected = -log_loss(y["level"][rows], p, labels=[0, 1, 2, 3])
    assert report.loc["level", "neg_log_loss"] == pytest.approx(expected)
    assert report.loc[["click", "buy"], REPORTED["binary"]].notna().all(axis=None)


@pytest.mark.parametrize("rows", [slice(0, 1), slice(0, 2)])
def test_a_report_of_few_rows(three, rows):
    model, y = three
    report = multi_task_report(y[rows], model, X[rows])
    assert report["accuracy"].notna().all()
    assert report["neg_log_loss"].notna().all()


def test_a_slice_of_one_class(three):
    model, y = three
    rows = (y["buy"] == 0).to_numpy()
    report = multi_task_report(y[rows], model, X[rows]).loc["buy"]
    assert report[["roc_auc", "average_precision"]].isna().all()
    assert report[["accuracy", "neg_log_loss", "neg_brier_score"]].notna().all()
    p = model.predict_task_proba(X[rows])["buy"]
    found = task_scorer("neg_log_loss", "buy")(model, X[rows], y[rows])
    assert found == pytest.approx(-log_loss(y["buy"][rows], p, labels=[0, 1]))


def test_groups_of_cross_validated_predictions():
    groups = np.arange(N) // 9
    found = cross_val_predict(small(MMoE), X, Y, cv=GroupKFold(3), groups=groups)
    passed = cross_val_predict(small(MMoE), X, Y, cv=GroupKFold(3), params={"groups": groups})
    assert np.array_equal(found, passed)


# Clients ------------------------------------------------------------------------------------------


def test_our_scorers_inside_epoch_scoring():
    train, held = slice(0, 300), slice(300, None)
    scorers = {
        "auc": task_scorer("roc_auc", "buy"),
        "mean": multi_task_scorer({"click": "roc_auc", "buy": "neg_log_loss"}),
    }
    watch = [EpochScoring(s, name=name, lower_is_better=False) for name, s in scorers.items()]
    model = small(MMoE, max_epochs=3, callbacks=watch)
    model.fit(X[train], Y[train], X_val=X[held], y_val=Y[held])
    for name, scorer in scorers.items():
        assert model.history_[name].iloc[-1] == pytest.approx(scorer(model, X[held], Y[held]))
    p = model.predict_task_proba(X[held])["buy"][:, 1]
    assert model.history_["auc"].iloc[-1] == pytest.approx(roc_auc_score(Y["buy"][held], p))


def test_our_scorers_on_training_rows_are_refused():
    watch = EpochScoring(task_scorer("roc_auc", "buy"), name="auc", on_train=True)
    with pytest.raises(ValueError, match="score the rows held out"):
        small(MMoE, callbacks=[watch], validation_fraction=0.2).fit(X, Y)


def test_a_view_is_its_own_clone(model):
    view = model.task_view("click")
    assert clone(view) is view
    assert view._estimator_type == "classifier"
    fixed = FixedThresholdClassifier(view, threshold=0.3, response_method="predict_proba")
    p = view.predict_proba(X)[:, 1]
    assert np.array_equal(fixed.fit(X, Y["click"]).predict(X), (p >= 0.3).astype(int))
    tuned = TunedThresholdClassifierCV(view, cv=2).fit(X, Y["click"])
    assert tuned.score(X, Y["click"]) > 0.9


class Holder(BaseEstimator):
    """A meta-estimator as others write them: what it fitted is an attribute among others."""

    def __init__(self, model):
        self.model = model

    def fit(self, X, y):
        self.fitted_ = {"models": [clone(self.model).fit(X, y)]}
        return self

    def predict(self, X):
        return self.fitted_["models"][0].predict(X)

    def predict_proba(self, X):
        return self.fitted_["models"][0].predict_proba(X)


def test_scorers_look_through_any_meta_estimator(model):
    holder = Holder(small(MMoE, max_epochs=15)).fit(X, Y)
    scorer = task_scorer("roc_auc", "buy")
    assert scorer(holder, X, Y) == scorer(model, X, Y)
    assert multi_task_report(Y, holder, X).equals(multi_task_report(Y, model, X))
    assert np.array_equal(task_view(holder, "buy").predict(X), model.task_view("buy").predict(X))
    with pytest.raises(TypeError, match="holds a fitted one"):
        task_view(Holder(small(MMoE)), "buy")


def test_scorers_look_through_transformed_targets():
    y = np.exp(X["a"])
    inner = small(MMoE, task_types="regression", max_epochs=40, lr=0.03)
    model = TransformedTargetRegressor(inner, func=np.log, inverse_func=np.exp).fit(X, y)
    assert task_scorer("r2", 0)(model, X, y) == pytest.approx(r2_score(y, model.predict(X)))
    scores = cross_val_score(model, X, y, cv=2, scoring=task_scorer("r2", 0))
    assert (scores > 0.5).all()


def test_functions_reach_through_pipelines_and_searches(model, tmp_path):
    pipeline = make_pipeline(StandardScaler().set_output(transform="pandas"), small(MMoE))
    search = GridSearchCV(pipeline, {"mmoe__lr": [0.01]}, cv=KFold(2)).fit(X, Y)
    inner = search.best_estimator_[-1]
    rows = search.best_estimator_[0].transform(X)
    proba = predict_task_proba(search, X)
    assert list(proba) == ["click", "buy"]
    for name, block in inner.predict_task_proba(rows).items():
        assert np.array_equal(proba[name], block)
    assert np.array_equal(task_view(search, "buy").predict(X), search.predict(X)[:, 1])
    with pytest.warns(UserWarning, match="holds the MMoE alone, nothing else of the GridSearchCV"):
        save(search, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert np.array_equal(again.predict_proba(rows), search.predict_proba(X))
    save(model, tmp_path / "m.safetensors")
    assert np.array_equal(load(tmp_path / "m.safetensors").predict(X), model.predict(X))


def test_predictions_as_a_frame():
    y = Y.assign(click=Y["click"].map({0: "no", 1: "yes"}), value=X["a"] * 2)
    rows = X.set_axis([f"r{k}" for k in range(N)])
    y.index = rows.index
    model = make_pipeline(small(SharedBottom)).fit(rows, y)
    found = predict_frame(model, rows)
    assert found.columns.tolist() == ["click", "buy", "value"]
    assert found.index.equals(rows.index)
    assert found["buy"].dtype.kind == "i"
    assert found["value"].dtype.kind == "f"
    assert (found.to_numpy(dtype=object) == model.predict(rows)).all()
    proba = predict_frame(model, rows, "predict_proba")
    assert proba.columns.tolist() == ["click=no", "click=yes", "buy=0", "buy=1"]
    assert np.array_equal(proba, model.predict_proba(rows))
    plain = small(SharedBottom).fit(rows.to_numpy(), y)
    assert predict_frame(plain, rows.to_numpy()).index.equals(pd.RangeIndex(N))
    with pytest.raises(ValueError, match="pass 'predict'"):
        predict_frame(model, rows, "score")


def test_a_frame_of_predictions_keeps_each_label_s_dtype():
    y = pd.DataFrame({"n": Y["buy"], "b": Y["click"] == 1, "value": X["a"]})
    model = small(SharedBottom).fit(X, y)
    for rows in (X, X[:0]):
        found = predict_frame(model, rows)
        assert found.dtypes.map(lambda dtype: dtype.kind).tolist() == ["i", "b", "f"]
        assert len(found) == len(rows)


def test_a_column_of_ids_is_told_of_at_fit():
    rng = np.random.default_rng(0)
    n = 600
    ids = pd.DataFrame({"id": [f"L{k}" for k in range(n)], "kind": rng.choice(["a", "b"], n)})
    label = rng.integers(0, 2, n)
    with pytest.warns(UserWarning, match=r"as rows are embedded.* 'id' has 600 in 600 rows"):
        small(SharedBottom).fit(ids, label)
    small(SharedBottom, categorical_features=["id", "kind"]).fit(ids, label)  # it is meant
    few = ids.assign(id=ids["id"].str[:3])
    small(SharedBottom).fit(few, label)


def test_numbers_that_were_read_as_text_are_told_of():
    amounts = [f"{k},000" for k in range(150)]
    columns = [Column("amount", np.array(amounts, dtype=object), np.ones(150, bool))]
    with pytest.warns(UserWarning, match=r"task 'amount' are 150 distinct ones.*read as text"):
        make_tasks(columns, "auto")
    make_tasks(columns, "classification")


def test_one_row_as_a_series_is_refused_with_the_way_out():
    model = small(SharedBottom).fit(X, Y)
    with pytest.raises(ValueError, match=r"X is a Series; .* X\.iloc\[\[i\]\]"):
        model.predict(X.iloc[0])


def test_a_metric_of_probabilities_does_not_suit_values():
    def fails(estimator, rows, labels):
        raise AttributeError("of its own")

    model = small(SharedBottom).fit(X, Y.assign(value=X["a"]))
    with pytest.raises(ValueError, match="'roc_auc' wants probabilities, and task 'value' is"):
        task_scorer("roc_auc", "value")(model, X, Y.assign(value=X["a"]))
    with pytest.raises(AttributeError, match="of its own"):
        task_scorer(fails, "value")(model, X, Y.assign(value=X["a"]))
    with pytest.raises(TypeError, match="`metrics` is 'roc_auc'; pass a metric of each task"):
        multi_task_scorer("roc_auc")


def test_the_scores_of_a_metric_by_name_in_training():
    # Of a value they are in its own unit, and with several members of what these predict.
    y = Y.assign(value=1000 + 50 * X["a"])
    train, held = slice(0, 300), slice(300, None)
    cases = {"value": ("neg_mean_squared_error", y["value"]), "click": ("accuracy", y["click"])}
    for metric, labels in cases.values():
        watch = EpochScoring(metric, name="score", lower_is_better=False)
        model = small(SharedBottom, n_members=2, max_epochs=3, callbacks=[watch])
        model.fit(X[train], labels[train], X_val=X[held], y_val=labels[held])
        expected = get_scorer(metric)(model, X[held], labels[held])
        assert model.history_["score"].iloc[-1] == pytest.approx(expected, rel=1e-4)
    watch = EpochScoring("roc_auc", name="score", lower_is_better=False)
    model = small(SharedBottom, n_members=2, max_epochs=3, callbacks=[watch])
    model.fit(X[train], Y[train], X_val=X[held], y_val=Y[held])
    expected = roc_auc_score(Y[held], model.predict_proba(X[held])[:, [1, 3]])
    assert model.history_["score"].iloc[-1] == pytest.approx(expected)


def test_a_tool_may_set_the_names_of_a_view(model):
    view = model.task_view("click")
    assert view.feature_names_in_.tolist() == ["a", "b"]
    view.feature_names_in_ = None
    assert model.feature_names_in_.tolist() == ["a", "b"]


# Messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([Y["click"], Y["buy"]], r"list of 2 arrays of 400 labels; pass np.column_stack\(y\)"),
        ({"click": Y["click"], "buy": Y["buy"]}, r"dict of \['click', 'buy'\]; pass pd.DataFrame"),
        (Y.to_records(index=False), r"records \['click', 'buy'\]; pass pd.DataFrame"),
    ],
)
def test_labels_in_the_forms_of_others(y, message):
    with pytest.raises(ValueError, match=message):
        small(MMoE).fit(X, y)


def test_rows_of_named_values(model):
    for rows in ([{"a": 1.0, "b": 2.0}], {"a": [1.0], "b": [2.0]}, X.to_records(index=False)):
        with pytest.raises(ValueError, match=r"pass pd.DataFrame\(X\)"):
            model.predict(rows)


def test_decimals_are_numbers():
    y = Y.assign(amount=[Decimal(k) / 4 for k in range(N)])
    model = small(SharedBottom).fit(X, y)
    assert model.tasks_[2].kind == "regression"


@pytest.mark.parametrize("cells", [[[1, 2]] * N, [{"k": 1}] * N])
def test_nested_cells_are_named(cells):
    with pytest.raises(TypeError, match="Column 'tags' holds a"):
        small(MMoE).fit(pl.DataFrame({"a": X["a"].to_list(), "tags": cells}), Y)


def test_labels_of_another_type_to_score(model):
    words = Y.astype(str)
    with pytest.raises(
        ValueError, match=r"'click' has labels such as '[01]' to score, and classes"
    ):
        model.score(X, words)
    with pytest.raises(ValueError, match="pass labels of that type"):
        task_scorer("accuracy", "buy")(model, X, words)


def test_sorted_rows_are_told():
    rows, y = load_iris(return_X_y=True)
    with pytest.warns(UserWarning, match="If the rows are sorted by class"):
        scores = cross_val_score(small(SharedBottom), rows, y, cv=3)
    assert scores.max() == 0
    model = small(SharedBottom, max_epochs=20, lr=0.03, task_types="classification")
    assert cross_val_score(model, rows, y, cv=3).min() > 0.8


def test_a_callback_without_rows_held_out():
    with pytest.raises(ValueError, match="EarlyStopping needs losses of rows held out"):
        small(MMoE, callbacks=[EarlyStopping()]).fit(X, Y)


def test_batches_of_one_row_have_no_statistic():
    with pytest.raises(ValueError, match="`batch_norm` is True and `batch_size` 1"):
        small(MMoE, batch_norm=True, batch_size=1).fit(X, Y)


def test_the_first_part_of_a_stream():
    with pytest.raises(ValueError, match="with partial_fit pass `classes`"):
        small(MMoE).partial_fit(X, Y.assign(buy=0))
    seconds = pd.DataFrame({"secs": np.arange(N) % 7})
    model = small(MMoE).partial_fit(X, Y.join(seconds))
    with pytest.raises(ValueError, match=r"pass task_types=\{'secs': 'regression'\}"):
        model.partial_fit(X, Y.join(seconds + 0.5))


@pytest.mark.parametrize("then", [np.nan, 3.0])
def test_a_column_that_comes_alive_is_held_and_told(then):
    model = small(MMoE, max_epochs=5).fit(X.assign(pay=then), Y)
    expected = model.predict_proba(X.assign(pay=then))
    what = "no value" if np.isnan(then) else "only the value 3"
    with pytest.warns(UserWarning, match=f"column 'pay' had {what}") as told:
        found = model.predict_proba(X.assign(pay=50_000.0))
    assert len(told) == 1
    assert np.array_equal(found, expected)
    some = np.where(np.arange(N) < 10, 5.0, then)
    model.predict_proba(X.assign(pay=some))  # a few are nothing strange


# Size ---------------------------------------------------------------------------------------------


@pytest.fixture
def in_pieces(monkeypatch):
    """Let 64 rows be encoded at once, and tables of that size count as large."""
    for module in (encoder, numbers):
        monkeypatch.setattr(module, "CHUNK_BYTES", 8 * 64)
    monkeypatch.setattr(numbers, "LARGE_BYTES", 8 * 64)
    monkeypatch.setattr(encoder, "CHUNK_ROWS", 64)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pieces_give_what_the_whole_gives(in_pieces, monkeypatch, dtype):
    table = make_table()
    y = table.Y.assign(word=np.where(table.X["age"] > 40, "old", "young"))
    model = small(MMoE, dtype=dtype, numeric_features="auto", n_members=2).fit(table.X, y)
    methods = ("predict", "predict_proba", "predict_task_proba", "decision_function")
    found = {method: getattr(model, method)(table.X) for method in methods}
    each = model.predict(table.X, members=True), model.predict_proba(table.X, members=True)
    score = model.score(table.X, y)
    monkeypatch.setattr(encoder, "CHUNK_ROWS", 10_000)
    assert np.array_equal(found.pop("predict"), model.predict(table.X))
    assert np.array_equal(each[0], model.predict(table.X, members=True))
    np.testing.assert_allclose(each[1], model.predict_proba(table.X, members=True), rtol=1e-5)
    for name, block in model.predict_task_proba(table.X).items():
        np.testing.assert_allclose(found["predict_task_proba"][name], block, rtol=1e-5)
    for method in ("predict_proba", "decision_function"):
        expected = getattr(model, method)(table.X)
        np.testing.assert_allclose(found[method], expected, rtol=1e-4, atol=1e-6)
    assert score == model.score(table.X, y)


def test_strange_categories_are_told_of_all_rows(in_pieces):
    rows = pd.DataFrame({"city": ["old"] * 100 + ["new"] * 100})
    model = small(MMoE, categorical_features=["city"]).fit(rows[50:150], Y[:100])
    model.predict(rows.assign(city=["old"] * 100 + ["other"] * 100))  # a piece knows none
    with pytest.warns(UserWarning, match="column 'city'"):
        model.predict(rows.assign(city="other"))


def test_numbers_of_large_tables_are_kept_in_four_bytes(in_pieces):
    rng = np.random.default_rng(0)
    n = 300
    exact = {"whole": rng.integers(0, 9, n), "half": rng.integers(0, 9, n) / 2}
    wide = {"id": rng.integers(0, 9, n) + 2**40, "far": 1e6 + rng.normal(size=n)}
    rows = pd.DataFrame({**exact, **wide, "plain": rng.normal(size=n)})
    y = (rows["plain"] > 0).astype(int)
    model = small(SharedBottom, numeric_features="auto").fit(rows, y)
    fitted = model._fitted_.encoder
    (coder, _) = fitted.encoders
    assert [coder.names_[k] for k in coder.rounded_] == ["plain"]
    stored = fitted.encode(check_rows(model, rows, list(rows)))["numeric"]
    assert [coder.names_[k] for k in stored.wide] == ["id", "far"]
    values = rows.to_numpy(dtype=np.float64)
    values[:, 4] = values[:, 4].astype(np.float32)
    order = rng.permutation(n)
    assert np.array_equal(stored[:].numpy(), values)
    assert np.array_equal(stored[order].numpy(), values[order])
    few = fitted.transform(check_rows(model, rows[:1], list(rows)))["numeric"]
    assert np.array_equal(few, values[:1])


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csr_array, np.asarray, np.float32])
def test_large_tables_without_names(in_pieces, form):
    rows = np.random.default_rng(0).normal(size=(300, 3)) * (np.arange(900) % 4 > 0).reshape(300, 3)
    y = (rows[:, 0] > 0).astype(int)
    model = small(SharedBottom, max_epochs=30, lr=0.03).fit(form(rows), y)
    assert model.score(form(rows), y) > 0.95
    found = model.predict_proba(form(rows))
    np.testing.assert_allclose(found, model.predict_proba(rows), rtol=1e-4, atol=1e-6)


def test_a_prediction_holds_little_beside_its_result():
    n = 300_000
    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(n, 26))).rename(columns=str)
    y = (rows[:500] > 0)[["0", "1"]].astype(int)
    model = small(SharedBottom).fit(rows[:500], y)
    tracemalloc.start()
    try:
        result = model.predict_proba(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak - result.nbytes < 50 * 2**20 < rows.memory_usage().sum()


def test_a_fit_holds_little_beside_the_rows():
    n, held = 200_000, []

    class Watch(Callback):
        def on_epoch_begin(self, net, **kwargs):
            held.append(tracemalloc.get_traced_memory()[0])

    rows = pd.DataFrame(np.random.default_rng(0).normal(size=(n, 26))).rename(columns=str)
    y = (rows > 0)[["0", "1"]].astype(np.int8)
    model = small(SharedBottom, max_epochs=1, batch_size=4096, callbacks=[Watch()])
    tracemalloc.start()
    try:
        model.fit(rows, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    encoded = 4 * 26 * n
    assert held[0] < 1.3 * encoded
    assert peak < 3 * encoded


def test_long_arrays_of_a_file(tmp_path):
    n = 1500
    names = [f"é{k}\ud800" if k % 7 else f"user {k}" for k in range(n)]
    rows = pd.DataFrame({"id": np.arange(n) * 3, "name": pd.Series(names, dtype=object)})
    y = np.arange(n) % 2
    model = small(SharedBottom, categorical_features=["id", "name"]).fit(rows, y)
    model.save(tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors")
    assert np.array_equal(again.predict_proba(rows), model.predict_proba(rows))
    assert np.array_equal(again.predict_proba(rows[3:4]), model.predict_proba(rows[3:4]))
