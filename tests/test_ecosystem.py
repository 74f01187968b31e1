"""What scikit-learn's own tools do with a fitted estimator and with views of its tasks."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import PLAIN
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import PartialDependenceDisplay, permutation_importance
from sklearn.metrics import RocCurveDisplay, accuracy_score, r2_score, roc_auc_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    TunedThresholdClassifierCV,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

from sk_mtl import MMoE, SharedBottom, TaskView
from sk_mtl.datasets import make_census_like
from sk_mtl.metrics import (
    multi_task_report,
    multi_task_scorer,
    relative_gain,
    task_scorer,
    task_scorers,
)
from sk_mtl.model_selection import MultiTaskStratifiedKFold, cross_val_predict

mpl.use("Agg")


@pytest.fixture(scope="module")
def world():
    X, Y = make_census_like(600, random_state=0)
    Y["married"] = Y["married"].map({0: "no", 1: "yes"})
    Y["level"] = pd.cut(Y["log_wage"], 3, labels=["low", "mid", "top"]).astype(object)
    gaps = np.random.default_rng(0).random(Y.shape) < 0.2
    return X, Y, Y.mask(gaps)


def network(**params):
    params = {"bottom_units": (16,), "tower_units": (8,), "max_epochs": 4, "lr": 0.02} | params
    return SharedBottom(random_state=0, **PLAIN | params)


@pytest.fixture(scope="module")
def fitted(world):
    X, Y, _ = world
    return network().fit(X, Y)


# Scorers ------------------------------------------------------------------------------------


def test_task_scorer_equals_the_metric_on_observed_labels(world, fitted):
    X, _, gaps = world
    seen = gaps["married"].notna()
    expected = roc_auc_score(
        gaps["married"][seen], fitted.predict_task_proba(X)["married"][seen, 1]
    )
    assert task_scorer("roc_auc", "married")(fitted, X, gaps) == pytest.approx(expected)
    assert task_scorer("roc_auc", 1)(fitted, X, gaps) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("metric", "task"),
    [("neg_log_loss", "level"), ("f1_macro", "level"), ("r2", "log_wage"), ("accuracy", "married")],
)
def test_any_metric_of_any_task_is_finite(world, fitted, metric, task):
    X, _, gaps = world
    assert np.isfinite(task_scorer(metric, task)(fitted, X, gaps))


def test_scorer_takes_weights_per_label(world, fitted):
    X, Y, _ = world
    weight = np.zeros(Y.shape)
    weight[:100] = 1.0
    first = task_scorer("r2", "log_wage")(fitted, X[:100], Y[:100])
    assert task_scorer("r2", "log_wage")(fitted, X, Y, weight) == pytest.approx(first)


def test_scorer_without_labels_is_nan(world, fitted):
    X, Y, _ = world
    empty = Y.assign(married=None)
    assert np.isnan(task_scorer("roc_auc", "married")(fitted, X, empty))


def test_scorer_of_an_unknown_task_or_metric_raises(world, fitted):
    X, Y, _ = world
    with pytest.raises(ValueError, match=r"no task 'age'.*'married'"):
        task_scorer("r2", "age")(fitted, X, Y)
    with pytest.raises(ValueError, match="rock_auc"):
        task_scorer("rock_auc", "married")
    with pytest.raises(ValueError, match=r"y has the tasks .* and the estimator was fitted"):
        task_scorer("roc_auc", "married")(fitted, X, Y.drop(columns="married"))


def test_multi_task_scorer_is_the_weighted_mean(world, fitted):
    X, Y, _ = world
    scorer = multi_task_scorer({"married": "roc_auc", "log_wage": "r2"}, weights={"married": 3})
    auc = task_scorer("roc_auc", "married")(fitted, X, Y)
    r2 = task_scorer("r2", "log_wage")(fitted, X, Y)
    assert scorer(fitted, X, Y) == pytest.approx((3 * auc + r2) / 4)
    with pytest.raises(ValueError, match="names 'age'"):
        multi_task_scorer({"married": "roc_auc"}, weights={"age": 1})


def test_search_with_a_scorer_per_task_and_missing_labels(world):
    X, _, gaps = world
    search = GridSearchCV(
        make_pipeline(network()),
        {"sharedbottom__bottom_units": [(4,), (16,)]},
        scoring=task_scorers("accuracy", ["married", "level"]),
        refit="level",
        cv=KFold(2),
        n_jobs=2,
    ).fit(X, gaps)
    assert np.isfinite(search.cv_results_["mean_test_married"]).all()
    assert search.best_score_ == max(search.cv_results_["mean_test_level"])


def test_report(world, fitted):
    X, _, gaps = world
    report = multi_task_report(gaps, make_pipeline(fitted), X)
    assert list(report.index) == ["high_income", "married", "log_wage", "level"]
    assert list(report["kind"]) == ["binary", "binary", "regression", "multiclass"]
    assert (report["n_labels"] == gaps.notna().sum()).all()
    assert report.loc["married", "roc_auc"] == task_scorer("roc_auc", "married")(fitted, X, gaps)
    assert np.isnan(report.loc["log_wage", "roc_auc"])
    assert np.isfinite(report.loc["log_wage", "r2"])


def test_relative_gain_signs():
    assert relative_gain({"a": 0.9}, {"a": 0.6}) == pytest.approx(0.5)
    assert relative_gain({"a": 3.0}, {"a": 2.0}, greater_is_better=False) == pytest.approx(-0.5)
    with pytest.raises(ValueError, match="tasks differ"):
        relative_gain({"a": 1.0}, {"b": 1.0})


# Metadata routing ---------------------------------------------------------------------------


def test_weights_are_routed_to_fit_and_scorer(world):
    X, Y, _ = world
    weight = np.random.default_rng(0).random(Y.shape) + 0.1
    seen = []

    class Spy(SharedBottom):
        def fit(self, X, y, sample_weight=None):
            seen.append(np.shape(sample_weight))
            return super().fit(X, y, sample_weight)

    with sklearn.config_context(enable_metadata_routing=True):
        model = make_pipeline(Spy(max_epochs=1, random_state=0).set_fit_request(sample_weight=True))
        scorer = task_scorer("r2", "log_wage").set_score_request(sample_weight=True)
        out = cross_validate(
            model,
            X,
            Y,
            cv=KFold(2),
            scoring=scorer,
            params={"sample_weight": weight},
            return_estimator=True,
        )
    assert seen == [(300, 4), (300, 4)]
    by_hand = scorer(out["estimator"][0], X[:300], Y[:300], weight[:300])
    assert out["test_score"][0] == pytest.approx(by_hand)


# Model selection ----------------------------------------------------------------------------


@pytest.mark.parametrize("resource", ["n_samples", "max_epochs"])
def test_halving_search(world, resource):
    X, _, gaps = world
    limits = {"max_resources": 4, "min_resources": 2} if resource == "max_epochs" else {}
    search = HalvingGridSearchCV(
        network(),
        {"bottom_units": [(4,), (16,)]},
        resource=resource,
        factor=2,
        cv=KFold(2),
        scoring=task_scorer("r2", "log_wage"),
        random_state=0,
        **limits,
    ).fit(X, gaps)
    assert len(search.n_resources_) == 2
    if resource == "max_epochs":
        assert search.n_resources_ == [2, 4]
        assert search.best_estimator_.n_iter_ == 4


def test_curves_and_permutation_test(world):
    X, Y, _ = world
    scorer = task_scorer("r2", "log_wage")
    sizes, _, test = learning_curve(network(), X, Y, cv=2, train_sizes=[0.5, 1.0], scoring=scorer)
    assert list(sizes) == [150, 300]
    assert test.shape == (2, 2)
    _, test = validation_curve(
        network(), X, Y, param_name="max_epochs", param_range=[1, 8], cv=2, scoring=scorer
    )
    assert test[1].mean() > test[0].mean()
    score, _, p_value = permutation_test_score(
        network(), X, Y, cv=2, n_permutations=4, scoring=scorer, random_state=0
    )
    assert score > 0.1
    assert p_value == pytest.approx(0.2)  # better than all four shuffles


@pytest.mark.parametrize(
    "scoring",
    ["roc_auc", "average_precision", "accuracy", "f1_macro", "r2", "neg_mean_squared_error"],
)
def test_built_in_scorers_on_binary_tasks(world, scoring):
    X, Y, _ = world
    binary = Y[["high_income"]].assign(married=(Y["married"] == "yes").astype(int))
    out = cross_validate(network(), X, binary, cv=KFold(2), scoring=scoring, error_score="raise")
    assert np.isfinite(out["test_score"]).all()


# Cross-validation ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_cross_val_predict_equals_a_loop_over_folds(world, method):
    X, _, gaps = world
    folds = MultiTaskStratifiedKFold(3, shuffle=True, random_state=1)
    out = cross_val_predict(network(), X, gaps, cv=folds, method=method)
    train, test = next(iter(folds.split(X, gaps)))
    model = network().fit(X.iloc[train], gaps.iloc[train])
    assert np.array_equal(out[test], getattr(model, method)(X.iloc[test]))


def test_cross_val_predict_gives_a_missing_class_probability_zero():
    X = np.random.default_rng(0).normal(size=(60, 3))
    y = np.column_stack([np.repeat(["a", "b", "c"], 20), np.tile(["u", "v"], 30)])
    out = cross_val_predict(network(), X, y, cv=KFold(3), method="predict_proba")
    assert out.shape == (60, 5)
    for fold in range(3):  # the fold's own class was not in its training rows
        rows = slice(20 * fold, 20 * fold + 20)
        assert (out[rows, fold] == 0).all()
    assert np.allclose(out[:, :3].sum(1), 1)
    with pytest.raises(ValueError, match="lacks a class"):
        cross_val_predict(network(), X, y, cv=KFold(3), method="decision_function")


def test_cross_val_predict_keeps_values_as_they_are(world):
    X, Y, _ = world
    out = cross_val_predict(network(max_epochs=15), X, Y, cv=3)
    assert r2_score(Y["log_wage"], out[:, 2].astype(float)) > 0.3
    assert set(out[:, 1]) == {"no", "yes"}


def test_cross_val_predict_cuts_weights_and_refuses_nonsense(world):
    X, Y, _ = world
    weight = np.ones(Y.shape)
    weight[:, 0] = np.random.default_rng(0).random(len(Y)) + 0.1
    plain = cross_val_predict(network(), X, Y, cv=2, method="predict_proba")
    weighted = cross_val_predict(
        network(), X, Y, cv=2, method="predict_proba", params={"sample_weight": weight}
    )
    assert not np.array_equal(plain, weighted)
    with pytest.raises(ValueError, match="`method` is 'transform'"):
        cross_val_predict(network(), X, Y, method="transform")
    with pytest.raises(ValueError, match="exactly one test fold"):
        cross_val_predict(network(), X, Y, cv=[(np.arange(300), np.arange(300, 400))])


@pytest.mark.parametrize("shuffle", [False, True])
def test_stratified_folds_share_every_label(world, shuffle):
    X, _, gaps = world
    rare = gaps.assign(rare=(np.arange(len(gaps)) % 60 == 0).astype(int))
    folds = MultiTaskStratifiedKFold(5, shuffle=shuffle, random_state=0 if shuffle else None)
    tests = [test for _, test in folds.split(X, rare)]
    assert np.array_equal(np.sort(np.concatenate(tests)), np.arange(len(X)))
    assert max(map(len, tests)) - min(map(len, tests)) <= 4
    assert [rare["rare"].iloc[test].sum() for test in tests] == [2] * 5
    for name in ("married", "level", "high_income"):
        for value in gaps[name].dropna().unique():
            counts = [(gaps[name].iloc[test] == value).sum() for test in tests]
            assert max(counts) - min(counts) <= 5, (name, value, counts)


# One task as an estimator -------------------------------------------------------------------


def test_view_is_a_fitted_classifier(world, fitted):
    X, Y, _ = world
    view = fitted.task_view("married")
    assert isinstance(view, TaskView)
    assert sklearn.base.is_classifier(view)
    assert list(view.classes_) == ["no", "yes"]
    assert view.score(X, Y["married"]) == accuracy_score(Y["married"], fitted.predict(X)[:, 1])
    assert np.array_equal(view.predict(X), fitted.predict(X)[:, 1])
    with pytest.raises(ValueError, match="no task 'age'"):
        fitted.task_view("age")


def test_view_is_a_fitted_regressor(world, fitted):
    X, Y, _ = world
    view = fitted.task_view("log_wage")
    assert sklearn.base.is_regressor(view)
    assert not hasattr(view, "predict_proba")
    assert not hasattr(view, "classes_")
    assert view.score(X, Y["log_wage"]) == pytest.approx(r2_score(Y["log_wage"], view.predict(X)))


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibration(world, fitted, method):
    if method == "temperature" and parse_version(sklearn.__version__) < parse_version("1.8"):
        pytest.skip("temperature scaling came with scikit-learn 1.8")
    X, Y, _ = world
    frozen = FrozenEstimator(fitted.task_view("married"))
    calibrated = CalibratedClassifierCV(frozen, method=method).fit(X, Y["married"])
    assert roc_auc_score(Y["married"], calibrated.predict_proba(X)[:, 1]) > 0.7


def test_threshold_tuning(world, fitted):
    X, Y, _ = world
    tuned = TunedThresholdClassifierCV(
        FrozenEstimator(fitted.task_view("high_income")), cv="prefit", refit=False
    ).fit(X, Y["high_income"])
    assert 0 < tuned.best_threshold_ < 1


def test_displays(world, fitted):
    X, Y, _ = world
    view = fitted.task_view("married")
    assert RocCurveDisplay.from_estimator(view, X, Y["married"]).roc_auc > 0.7
    age = X.select_dtypes("number").columns[0]
    rows = X.dropna().astype({age: float})
    display = PartialDependenceDisplay.from_estimator(view, rows, [age], grid_resolution=5)
    assert display.axes_.size == 1


def test_voting_over_views(world, fitted):
    X, Y, _ = world
    other = network(lr=0.01).fit(X, Y)
    members = [
        (name, FrozenEstimator(model.task_view("married")))
        for name, model in {"a": fitted, "b": other}.items()
    ]
    vote = VotingClassifier(members, voting="soft").fit(X, Y["married"])
    mean = (fitted.predict_task_proba(X)["married"] + other.predict_task_proba(X)["married"]) / 2
    assert np.allclose(vote.predict_proba(X), mean)


def test_permutation_importance_with_a_task_scorer(world, fitted):
    X, _, gaps = world
    out = permutation_importance(
        fitted, X, gaps, scoring=task_scorer("r2", "log_wage"), n_repeats=2, random_state=0
    )
    assert out.importances_mean.max() > 0.01


# scikit-learn's callbacks -------------------------------------------------------------------


def test_sklearn_callbacks_see_every_epoch_and_can_stop(world):
    pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    X, Y, _ = world

    class Recorder:
        def __init__(self, stop_after):
            self.stop_after, self.names, self.scores = stop_after, [], []

        def setup(self, estimator, context):
            self.names.append("setup")

        def teardown(self, estimator, context):
            self.names.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            self.names.append(f"begin {context.task_name}")

        def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
            self.names.append(f"end {context.task_name}")
            self.scores.append(fitted_estimator.score(X, y))
            return context.task_name == "epoch" and len(self.scores) == self.stop_after

    recorder = Recorder(stop_after=3)
    model = network(max_epochs=10).set_callbacks(recorder).fit(X, Y)
    epochs = ["begin epoch", "end epoch"] * 3
    assert recorder.names == ["setup", "begin fit", *epochs, "end fit", "teardown"]
    assert model.n_iter_ == 3
    assert recorder.scores[-1] == model.score(X, Y)
    assert len(set(recorder.scores[:3])) > 1  # the estimator of that epoch, not the last one


def test_sklearn_callbacks_do_not_change_the_fit(world):
    pytest.importorskip("sklearn.callback", reason="callbacks came with scikit-learn 1.9")
    from sklearn.callback import ScoringMonitor

    X, Y, _ = world
    Y = Y[["high_income"]].assign(older=(X.select_dtypes("number").iloc[:, 0] > 40).astype(int))
    monitor = ScoringMonitor(scoring="roc_auc")
    watched = MMoE(n_experts=2, max_epochs=3, dropout=0.1, random_state=0).set_callbacks(monitor)
    plain = MMoE(n_experts=2, max_epochs=3, dropout=0.1, random_state=0)
    assert np.array_equal(watched.fit(X, Y).predict_proba(X), plain.fit(X, Y).predict_proba(X))


def test_standard_scaler_before_the_estimator(world):
    X, Y, _ = world
    numbers = X.select_dtypes("number").fillna(0)
    model = make_pipeline(StandardScaler(), network()).fit(numbers, Y)
    scores = multi_task_scorer({"log_wage": "r2", "married": "accuracy"})(model, numbers, Y)
    assert np.isfinite(scores)
