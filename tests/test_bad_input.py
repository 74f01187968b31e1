"""Bad input raises before training, naming what is wrong, the value, and the remedy."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from skorch.callbacks import Callback

from sk_mtl import CGC, ESMM, PLE, MMoE, NonFiniteLossError, SharedBottom

RNG = np.random.default_rng(0)
N = 60


class Untouched(Callback):
    """Fails the test if training begins."""

    def on_train_begin(self, net, **kwargs):
        raise AssertionError("training began")


def rows():
    return pd.DataFrame({"a": RNG.normal(size=N), "b": RNG.normal(size=N), "c": ["u", "v"] * 30})


def labels():
    return pd.DataFrame(
        {"one": [0, 1] * 30, "two": ["n", "y", "y"] * 20, "val": RNG.normal(size=N)}
    )


def refuse(match, X=None, y=None, weight=None, cls=SharedBottom, error=ValueError, **params):
    model = cls(callbacks=[Untouched()], **params)
    with pytest.raises(error, match=match):
        model.fit(rows() if X is None else X, labels() if y is None else y, sample_weight=weight)
    assert not hasattr(model, "net_")


def put(frame, column, value, row=3):
    frame = frame.astype({column: object}) if not isinstance(value, float) else frame.copy()
    frame.loc[row, column] = value
    return frame


def test_rows_without_samples_or_features():
    refuse("0 sample", X=rows()[:0], y=labels()[:0])
    refuse("0 feature", X=rows()[[]])
    refuse("0 sample", X=np.empty((0, 3)), y=labels()[:0])


def test_lengths_differ():
    refuse("inconsistent numbers of samples", y=labels()[:-1])


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (put(rows(), "b", np.inf), "infinity.*'b'"),
        (np.full((N, 2), -np.inf), "infinity.*column 0"),
        (sparse.csr_matrix(np.where(np.eye(N)[:, :3] > 0, np.inf, 0)), "infinity.*column 0"),
        (rows().assign(b=1j), "'b'.*complex|[Cc]omplex"),
        (rows().assign(b=pd.Timestamp("2020-01-01")), "'b' has dtype datetime.*time since"),
        (rows().assign(b=pd.Timedelta(1)), "'b' has dtype timedelta"),
        (pd.concat([rows(), rows()[["a"]]], axis=1), "more than one column named 'a'"),
    ],
)
def test_columns_that_cannot_be_used(X, match):
    refuse(match, X=X)


def test_cells_that_cannot_be_hashed():
    X = rows()
    X["c"] = [{"k": 1}] * N
    refuse("'c' holds a dict", X=X, error=TypeError)


@pytest.mark.parametrize(
    ("y", "match"),
    [
        (labels().assign(one=1), "'one' has one class only, 1"),
        (labels().assign(two=None), "'two' has no observed label"),
        (labels().assign(val=np.inf), "infinity.*'val'"),
        (labels().assign(one=pd.Timestamp("2020-01-01")), "'one'.*datetime"),
        (put(labels(), "two", 7), "'two' holds labels of mixed"),
        (labels().assign(one=np.arange(N * 2)[::2] * 1), None),
        (np.where(np.arange(N) == 3, np.nan, np.arange(N) % 2), "contains NaN"),
        (np.zeros((N, 2, 2)), "one or two dimensions"),
        (sparse.eye(N).tocsr(), "sparse"),
    ],
)
def test_labels_that_cannot_be_used(y, match):
    if match is None:  # 60 whole numbers are classes
        with pytest.warns(UserWarning, match=r"'one' are 60 distinct ones.*'one': 'regression'"):
            SharedBottom(max_epochs=1).fit(rows(), y)
        return
    refuse(match, y=y)


def test_no_labels():
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        SharedBottom().fit(rows(), None)


@pytest.mark.parametrize("dtype", [int, float])
def test_too_many_whole_numbers_for_auto(dtype):
    X, y = pd.concat([rows()] * 3), np.arange(3 * N).astype(dtype)
    refuse(r"180 distinct whole numbers.*task_types=\{'y': 'regression'\}", X=X, y=y)


@pytest.mark.parametrize(
    ("task_types", "match"),
    [
        (["binary"], "has 1 entries and y has 3 tasks"),
        ("ranking", "kind 'ranking'; pass one of"),
        ({"three": "binary"}, "names the task 'three'"),
        ({"val": "classification"}, "'val' is declared a classification and has the continuous"),
        (
            {"two": "regression"},
            "'two' is declared 'regression' and has labels that are no numbers",
        ),
    ],
)
def test_task_types(task_types, match):
    refuse(match, task_types=task_types)


def test_binary_with_three_classes():
    refuse("'binary' and has 3 classes", y=np.arange(N) % 3, task_types="binary")


def weights(value, shape=(N, 3)):
    out = np.ones(shape)
    out.flat[-1] = value
    return out


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (weights(-1.0), "task 'val' is -1.0 in row 59"),
        (weights(np.nan), "task 'val' is nan"),
        (weights(np.inf), "task 'val' is inf"),
        (weights(-1.0, N), "Negative values"),
        (weights(np.nan, N), "NaN"),
        (np.ones((N, 2)), r"shape \(60, 2\); pass \(60,\)"),
        (np.ones(N - 1), "sample_weight"),
        (np.zeros(N), "non-zero"),
        (np.zeros((N, 3)), "non-zero"),
    ],
)
def test_weights(weight, match):
    refuse(match, weight=weight)


@pytest.mark.parametrize(
    ("cls", "params", "match"),
    [
        (SharedBottom, {"loss_weights": {"three": 1}}, "`loss_weights` names the task 'three'"),
        (SharedBottom, {"loss_weights": [1, 2]}, "`loss_weights` has 2 entries"),
        (SharedBottom, {"loss_weights": [1, -2, 1]}, "task 'two' must be a finite number.*-2"),
        (SharedBottom, {"loss_weights": [0, 0, 0]}, "all zero"),
        (SharedBottom, {"tower_units": {"three": (4,)}}, "`tower_units` names the task 'three'"),
        (SharedBottom, {"tower_units": [(4,), (4,)]}, "`tower_units` has 2 entries"),
        (SharedBottom, {"tower_units": (4, -1)}, "`tower_units`.*positive integers"),
        (SharedBottom, {"bottom_units": ()}, "'bottom_units'.*non-empty.*Got"),
        (SharedBottom, {"bottom_units": (8, 0)}, "'bottom_units'.*positive integers"),
        (SharedBottom, {"bottom_units": (8.5,)}, "'bottom_units'.*positive integers"),
        (SharedBottom, {"bottom_units": 8}, "'bottom_units'.*tuple or list"),
        (MMoE, {"n_experts": 0}, "'n_experts'.*Got 0"),
        (MMoE, {"n_experts": 2.5}, "'n_experts'.*Got 2.5"),
        (MMoE, {"expert_units": ()}, "'expert_units'.*non-empty"),
        (MMoE, {"gate_units": (-1,)}, "'gate_units'.*positive"),
        (CGC, {"n_task_experts": 0, "n_shared_experts": 0}, "both 0"),
        (PLE, {"n_levels": 0}, "'n_levels'.*Got 0"),
        (SharedBottom, {"dropout": 1.5}, "'dropout'"),
        (SharedBottom, {"activation": "mish"}, "'activation'.*'relu'"),
        (SharedBottom, {"optimizer": "lion"}, "'optimizer'.*'adam'"),
        (SharedBottom, {"balancer": "fair"}, "'balancer'.*'equal'"),
        (SharedBottom, {"dtype": "float16"}, "'dtype'"),
        (SharedBottom, {"lr": 0}, "'lr'"),
        (SharedBottom, {"max_epochs": 0}, "'max_epochs'"),
        (SharedBottom, {"device": "warp"}, "`device` is 'warp'"),
        (SharedBottom, {"embedding_dim": {"d": 4}}, "`embedding_dim` names 'd'"),
        (SharedBottom, {"embedding_dim": [4, 4]}, "`embedding_dim` has 2 entries"),
        (SharedBottom, {"embedding_dim": 0}, "'embedding_dim'"),
        (SharedBottom, {"categorical_features": [True, False]}, "mask of 2 entries"),
        (SharedBottom, {"categorical_features": [7]}, "index 7"),
        (SharedBottom, {"categorical_features": ["d"]}, "names 'd', which is no column"),
        (SharedBottom, {"categorical_features": ["a", "c"]}, "'a' is declared categorical"),
        (SharedBottom, {"categorical_features": None}, "'c' should hold numbers"),
        (SharedBottom, {"validation_fraction": 0.999, "batch_norm": True}, "too few"),
    ],
)
def test_parameters(cls, params, match):
    refuse(match, cls=cls, **params)


def test_names_of_columns_that_an_array_does_not_have():
    refuse("has no column names", X=RNG.normal(size=(N, 2)), categorical_features=["a"])


def test_batch_norm_of_one_row():
    refuse("too few", X=rows()[:1], y=[0.5], task_types="regression", batch_norm=True)


@pytest.mark.parametrize("y", [[0.5], [[0.5, 0.1]]])
def test_one_row_cannot_be_split(y):
    given = {"task_types": "regression", "validation_fraction": 0.5}
    refuse("1 rows are too few", X=rows()[:1], y=np.array(y), **given)


def test_esmm():
    y = labels()
    refuse("binary tasks only, and task 'val'.*'regression'", y=y[["one", "val"]], cls=ESMM)
    three = y[["one"]].assign(three=np.arange(N) % 3)
    refuse("binary tasks only, and task 'three'.*'multiclass'", y=three, cls=ESMM)
    refuse("at least two tasks", y=y["one"], cls=ESMM)


def test_esmm_warns_once_of_labels_that_are_not_nested():
    y = pd.DataFrame({"click": [1, 0] * 30, "buy": [1, 1, 0, 0] * 15})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ESMM(max_epochs=1).fit(rows(), y)
    (warning,) = caught
    assert "15 rows" in str(warning.message)
    assert "click -> buy" in str(warning.message)


# At predict ---------------------------------------------------------------------------------


def test_columns_at_predict():
    X = rows()
    model = SharedBottom(max_epochs=1, random_state=0).fit(X, labels())
    assert np.array_equal(model.predict_proba(X[["c", "a", "b"]]), model.predict_proba(X))
    with pytest.raises(ValueError, match=r"(?s)unseen at fit time.*- d"):
        model.predict(X.assign(d=1))
    with pytest.raises(ValueError, match=r"(?s)now missing.*- b"):
        model.predict(X.drop(columns="b"))
    with pytest.raises(ValueError, match=r"infinity.*'a'"):
        model.predict(put(X, "a", np.inf))


# Going on -----------------------------------------------------------------------------------


def test_partial_fit():
    X, y = rows(), labels()
    model = SharedBottom(random_state=0).partial_fit(X, y)
    with pytest.raises(ValueError, match=r"'two' has the label 'z'.*Pass `classes` at the first"):
        model.partial_fit(X, y.assign(two=["n", "z"] * 30))
    with pytest.raises(ValueError, match="y has the tasks"):
        model.partial_fit(X, y[["one", "val"]])
    with pytest.raises(ValueError, match="early_stopping"):
        SharedBottom(early_stopping=True).partial_fit(X, y)
    assert model.partial_fit(X, y).n_iter_ == 2


def test_warm_start_of_another_network():
    model = MMoE(warm_start=True, max_epochs=1, random_state=0).fit(rows(), labels())
    with pytest.raises(ValueError, match="`n_experts` was 8 at the first fit and is 3 now"):
        model.set_params(n_experts=3).fit(rows(), labels())


def test_infinite_loss_names_the_task_and_leaves_nothing():
    X = rows()
    model = SharedBottom(optimizer="sgd", lr=1e25, max_epochs=3, random_state=0)
    with pytest.raises(NonFiniteLossError, match=r"task '.*' became .* in epoch \d.*learning rate"):
        model.fit(X, labels())
    assert not [name for name in vars(model) if name.endswith("_")]


@pytest.mark.parametrize("how", ["warm_start", "partial_fit"])
def test_infinite_loss_leaves_a_fitted_estimator_as_it_was(how):
    X, y = rows(), labels()
    model = SharedBottom(warm_start=True, optimizer="sgd", max_epochs=3, random_state=0).fit(X, y)
    before, history = model.predict_proba(X), model.history_.copy()
    go_on = model.fit if how == "warm_start" else model.partial_fit
    bad = y.assign(val=1e30)
    with pytest.raises(NonFiniteLossError, match="'val'"):
        go_on(X, bad)
    assert np.array_equal(model.predict_proba(X), before)
    pd.testing.assert_frame_equal(model.history_, history)
    assert go_on(X, y).n_iter_ > len(history)


def test_large_vocabulary_trains_with_sparse_gradients():
    n = 120_000
    X = pd.DataFrame({"id": np.arange(n).astype(str), "a": RNG.normal(size=n)})
    y = (X["a"] > 0).astype(int)
    named = {"categorical_features": ["id"], "embedding_dim": 4}
    model = SharedBottom(**named, max_epochs=1, batch_size=8192, random_state=0).fit(X, y)
    assert model.module_.embedding.blocks["categorical"].sparse == (True,)
    assert model.score(X, y) > 0.8
