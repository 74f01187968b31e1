"""Tables, labels and weights as users hold them: the same values give the same numbers."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from conftest import make_table, small
from sklearn.base import clone
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import FixedThresholdClassifier, GroupKFold, TunedThresholdClassifierCV
from skorch.callbacks import EpochScoring

from sk_mtl import MMoE, SharedBottom
from sk_mtl.metrics import REPORTED, multi_task_report, multi_task_scorer, task_scorer
from sk_mtl.model_selection import cross_val_predict
from sk_mtl.tasks import OrdinalTask

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
