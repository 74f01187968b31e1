"""Training runs: how they end, what they go back to, how they go on."""

import os
import pickle
import signal
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ANY_TASK, ESTIMATORS, assert_equal_state, by_pickle, make_table, small
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_validate
from skorch.callbacks import Callback, EarlyStopping, EpochScoring

from sk_mtl import MMoE, NonFiniteLossError, SharedBottom
from sk_mtl._training.progress import optimizer_state
from sk_mtl._training.snapshot import bytes_of
from sk_mtl.balancing import BALANCERS
from sk_mtl.metrics import multi_task_scorer, task_scorer

everywhere = pytest.mark.parametrize("cls", ESTIMATORS, ids=lambda cls: cls.__name__)


def state_of(model):
    """Return everything that a further step depends on."""
    found = {name: t.clone() for name, t in model.module_.state_dict().items()}
    for name, state in optimizer_state(model.net_).items():
        found |= {f"{name}.{key}": torch.as_tensor(value).clone() for key, value in state.items()}
    found["generator"] = model.net_.iterator_train__generator.get_state()
    return found


def noisy(n=400, width=30, seed=0):
    """Return rows with little signal: a network overfits them within some epochs."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, width))
    return X, (X[:, 0] + rng.standard_normal(n) > 0).astype(int)


# Ctrl-C -------------------------------------------------------------------------------------------


class CtrlC(Callback):
    """Press Ctrl-C in a given epoch, at a given moment."""

    def __init__(self, epoch, moment="on_batch_end", how="signal"):
        self.epoch, self.moment, self.how = epoch, moment, how

    def press(self, net, moment):
        if moment == self.moment and len(net.history) == self.epoch:
            if self.how == "raise":
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)

    def on_epoch_begin(self, net, **kwargs):
        self.press(net, "on_epoch_begin")

    def on_batch_end(self, net, **kwargs):
        self.press(net, "on_batch_end")

    def on_epoch_end(self, net, **kwargs):
        self.press(net, "on_epoch_end")


MOMENTS = ("on_epoch_begin", "on_batch_end", "on_epoch_end")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_ctrl_c_goes_up_and_leaves_the_last_whole_epoch(moment, early_stopping):
    table = make_table()
    params = {"early_stopping": early_stopping, "balancer": "uncertainty"}
    model = small(MMoE, callbacks=[CtrlC(4, moment)], max_epochs=9, **params)
    with pytest.raises(KeyboardInterrupt):
        model.fit(table.X, table.Y)
    twin = small(MMoE, max_epochs=3, **params).fit(table.X, table.Y)
    assert model.n_iter_ == 3
    assert np.array_equal(model.predict(table.X), twin.predict(table.X))
    columns = [name for name in twin.history_ if name != "dur"]
    pd.testing.assert_frame_equal(model.history_[columns], twin.history_[columns])
    if not early_stopping:
        assert_equal_state(state_of(model), state_of(twin))


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_in_the_first_epoch_leaves_nothing(moment):
    table = make_table()
    model = small(MMoE, callbacks=[CtrlC(1, moment)], max_epochs=9)
    with pytest.raises(KeyboardInterrupt):
        model.fit(table.X, table.Y)
    assert not [name for name in vars(model) if name.endswith("_")]


def test_ctrl_c_of_a_warm_fit_and_of_a_stream_leaves_what_was():
    table = make_table()
    model = small(MMoE, warm_start=True, max_epochs=2).fit(table.X, table.Y)
    before = state_of(model)
    model.set_params(callbacks=[CtrlC(1)])
    for method in (model.fit, model.partial_fit):
        with pytest.raises(KeyboardInterrupt):
            method(table.X, table.Y)
        assert_equal_state(state_of(model), before)
        assert model.n_iter_ == 2


def test_ctrl_c_stops_a_search_and_a_cross_validation():
    X, y = noisy()
    model = small(SharedBottom, callbacks=[CtrlC(2)], max_epochs=5)
    with pytest.raises(KeyboardInterrupt):
        GridSearchCV(model, {"lr": [1e-3, 1e-2]}, cv=2).fit(X, y)
    with pytest.raises(KeyboardInterrupt):
        cross_validate(model, X, y, cv=2)


def test_the_signal_handler_is_what_it_was():
    X, y = noisy()
    before = signal.getsignal(signal.SIGINT)
    small(SharedBottom).fit(X, y)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_callback_ends_training_as_in_skorch(moment):
    """By raising KeyboardInterrupt: no error, and the others see the epoch to its end."""
    X, y = noisy()
    seen = []
    watch = EpochScoring(lambda net, X, y: seen.append(1) or 1.0, name="mine", use_caching=False)
    stop = CtrlC(3, moment, how="raise")
    model = small(SharedBottom, callbacks=[stop, watch], max_epochs=9, validation_fraction=0.2).fit(
        X, y
    )
    whole = 2 if moment == "on_batch_end" else 3
    assert model.n_iter_ == whole
    assert len(seen) == whole
    assert model.history_["mine"].notna().all()


# The last epoch, and the best ---------------------------------------------------------------------


class Count(Callback):
    seen = 0

    def on_epoch_end(self, net, **kwargs):
        type(self).seen += 1


def test_the_users_callbacks_see_the_last_epoch():
    X, y = noisy(200, 20)
    Count.seen = 0
    quiet = {"sink": lambda *_: None}
    stop = EarlyStopping(patience=30, **quiet)
    model = small(
        SharedBottom, early_stopping=True, n_iter_no_change=2, max_epochs=50,
        callbacks=[Count(), stop, Count()],
    ).fit(X, y)  # fmt: skip
    assert model.n_iter_ < 50
    assert Count.seen == 2 * model.n_iter_


def test_warm_start_is_never_worse_on_the_same_held_out_rows():
    X, y = noisy()
    X_test, y_test = noisy(4000, seed=1)
    model = small(
        SharedBottom, early_stopping=True, warm_start=True, n_iter_no_change=3, lr=5e-3,
        max_epochs=30,
    )  # fmt: skip
    model.fit(X, y)
    best, test = model.history_["valid_loss"].min(), log_loss(y_test, model.predict_proba(X_test))
    for _ in range(3):
        n = model.n_iter_
        model.fit(X, y)
        new = model.history_["valid_loss"].min()
        assert model.n_iter_ > n
        assert new <= best
        if new == best:  # nothing was better: the state of before came back
            assert log_loss(y_test, model.predict_proba(X_test)) == pytest.approx(test, abs=1e-7)
        best = new


def test_optimizer_and_balancer_go_back_with_the_weights():
    """What stopped early goes on like one that stopped at the best epoch."""
    table = make_table()
    params = {"balancer": "dwa", "lr": 0.05, "validation_fraction": 0.3}
    early = small(MMoE, early_stopping=True, n_iter_no_change=4, max_epochs=60, **params)
    early.fit(table.X, table.Y)
    best = int(early.history_["valid_loss"].argmin()) + 1
    assert best < early.n_iter_
    plain = small(MMoE, max_epochs=best, **params).fit(table.X, table.Y)
    for model in (early, plain):
        model.set_params(early_stopping=False).partial_fit(table.X, table.Y)
    assert np.allclose(early.predict_proba(table.X), plain.predict_proba(table.X), atol=1e-6)


@pytest.mark.parametrize("monitor", ["valid_loss_married", "roc_auc", "several"])
def test_monitor(monitor):
    """The best epoch is that of the column or the scorer named."""
    table = make_table(n=300)
    scorers = {
        "roc_auc": task_scorer("roc_auc", "married"),
        "several": multi_task_scorer({"income": "neg_log_loss", "wage": "r2"}),
    }
    given = scorers.get(monitor, monitor)
    params = {"lr": 0.05, "validation_fraction": 0.3, "tol": 0.0}
    model = small(
        MMoE, early_stopping=True, monitor=given, n_iter_no_change=3, max_epochs=30, **params
    ).fit(table.X, table.Y)
    values = model.history_[monitor if monitor.startswith("valid") else "valid_score"]
    best = int(values.argmin() if monitor.startswith("valid") else values.argmax()) + 1
    twin = small(MMoE, max_epochs=best, **params).fit(table.X, table.Y)
    assert np.allclose(model.predict_proba(table.X), twin.predict_proba(table.X), atol=1e-6)


def test_a_scorer_gets_the_labels_as_they_were_passed():
    table = make_table()
    held = []

    def score(estimator, X, y, sample_weight=None):
        held.append((y, sample_weight))
        assert estimator.predict(X).shape == (len(y), 4)
        assert estimator.predict_proba(X).shape[0] == len(X)
        return (
            estimator.score(X, y)
            if False
            else float((estimator.predict(X)[:, 0] == y["income"]).mean())
        )

    X_val, Y_val = table.X[:30], table.Y[:30]
    weight = np.arange(30.0) + 1
    small(MMoE, early_stopping=True, monitor=score).fit(
        table.X, table.Y, X_val=X_val, y_val=Y_val, sample_weight_val=weight
    )
    y, sample_weight = held[0]
    assert y["income"].tolist() == Y_val["income"].tolist()
    assert y["wage"].tolist() == Y_val["wage"].tolist()
    assert y["married"].isna().tolist() == Y_val["married"].isna().tolist()
    assert np.array_equal(sample_weight[:, 0], weight)


def test_a_monitor_that_gives_nan_is_an_error():
    table = make_table()
    with pytest.raises(ValueError, match="gives NaN for the rows held out"):
        small(MMoE, early_stopping=True, monitor=lambda *_, **__: np.nan).fit(table.X, table.Y)


def test_an_unknown_monitor_is_named():
    table = make_table()
    with pytest.raises(
        ValueError, match=r"`monitor` is 'valid_loss_x'; pass one of .*valid_loss_wage"
    ):
        small(MMoE, early_stopping=True, monitor="valid_loss_x").fit(table.X, table.Y)


@everywhere
def test_rows_of_the_users_own_to_validate_on(cls):
    table = make_table()
    Y = table.targets(cls)
    model = small(cls, early_stopping=True).fit(table.X, Y, X_val=table.X[:40], y_val=Y[:40])
    plain = small(cls).fit(table.X, Y)  # all rows of X are trained on
    assert model.history_["train_loss"].iloc[0] == plain.history_["train_loss"].iloc[0]
    assert model.history_["valid_loss"].notna().all()
    same = small(cls).fit(table.X, Y, X_val=table.X, y_val=Y)
    assert same.history_["valid_loss"].iloc[0] != same.history_["train_loss"].iloc[0]


def test_rows_to_validate_on_are_checked():
    table = make_table()
    model = small(MMoE)
    with pytest.raises(ValueError, match="`X_val` is given and `y_val` is None"):
        model.fit(table.X, table.Y, X_val=table.X)
    with pytest.raises(ValueError, match="`y_val` has the tasks"):
        model.fit(table.X, table.Y, X_val=table.X, y_val=table.Y[["wage"]].assign(income=1))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(table.X, table.Y, X_val=table.X, y_val=table.Y[:5])
    with pytest.raises(ValueError, match="feature names"):
        model.fit(table.X, table.Y, X_val=table.X.drop(columns="age"), y_val=table.Y)


# Errors -------------------------------------------------------------------------------------------


@everywhere
def test_a_last_step_that_diverges_is_an_error(cls):
    table = make_table()
    with pytest.raises(NonFiniteLossError, match=r"(weights|predictions)"):
        small(cls, lr=1e30, batch_size=None, max_epochs=1).fit(table.X, table.targets(cls))


def test_a_stream_that_diverges_is_as_it_was():
    table = make_table()
    model = small(MMoE).fit(table.X, table.Y)
    before, p = state_of(model), model.predict_proba(table.X)
    model.set_params(lr=1e30, batch_size=None)
    with pytest.raises(NonFiniteLossError):
        model.partial_fit(table.X, table.Y)
    assert_equal_state(state_of(model), before)
    assert np.array_equal(model.predict_proba(table.X), p)
    model.set_params(lr=0.01).partial_fit(table.X, table.Y)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_stream_that_fails_midway_is_as_it_was(sparse):
    """Whatever it has touched by then: weights, moments, statistics, counts."""
    table = make_table()

    class Fail(Callback):
        def on_batch_end(self, net, **kwargs):
            if len(net.history[-1]["batches"]) == 2:
                raise RuntimeError("midway")

    params = {"sparse_embeddings": sparse, "batch_size": 16}
    model, twin = (small(MMoE, **params).partial_fit(table.X[:60], table.Y[:60]) for _ in range(2))
    model.set_params(callbacks=[Fail()])
    with pytest.raises(RuntimeError, match="midway"):
        model.partial_fit(table.X[60:], table.Y[60:])
    assert_equal_state(state_of(model), state_of(twin))
    for one in (model, twin):
        one.set_params(callbacks=None).partial_fit(table.X[60:], table.Y[60:])
    assert_equal_state(state_of(model), state_of(twin))


OPTIMIZERS = [
    (torch.optim.LBFGS, "evaluates the loss several times"),
    (torch.optim.SparseAdam, "takes sparse gradients only"),
]


@pytest.mark.parametrize(("optimizer", "why"), OPTIMIZERS, ids=lambda v: getattr(v, "__name__", ""))
def test_optimizers_that_cannot_train_here_are_named(optimizer, why):
    table = make_table()
    with pytest.raises(ValueError, match=f"`optimizer` is {optimizer.__name__}, which {why}"):
        small(MMoE, optimizer=optimizer).fit(table.X, table.Y)


def test_an_optimizer_that_refuses_the_parameters_is_named():
    table = make_table()

    class Picky(torch.optim.SGD):
        def __init__(self, params, lr):
            raise ValueError("only two axes")

    with pytest.raises(ValueError, match=r"`optimizer` is Picky.*\(only two axes\)"):
        small(MMoE, optimizer=Picky).fit(table.X, table.Y)
    with pytest.raises(ValueError, match=r"`weight_decay` is 0.1 and `optimizer` Picky has none"):
        small(MMoE, optimizer=Picky, weight_decay=0.1).fit(table.X, table.Y)


@pytest.mark.parametrize("cls", ANY_TASK, ids=lambda cls: cls.__name__)
def test_weight_decay_leaves_scales_biases_and_embeddings_alone(cls):
    table = make_table()
    model = small(cls, weight_decay=0.1, batch_norm=True).fit(table.X, table.Y)
    names = {id(p): name for name, p in model.module_.named_parameters()}
    groups = model.net_.optimizer_.param_groups
    decayed = {names[id(p)] for group in groups if group["weight_decay"] for p in group["params"]}
    assert not [n for n in decayed if "norm" in n or n.endswith("bias") or "tables" in n]
    assert sum(len(group["params"]) for group in groups) == len(names)
    matrices = {n for n in names.values() if n.endswith("weight") and "norm" not in n}
    assert matrices
    assert matrices <= decayed


@pytest.mark.parametrize(("a", "b"), [(0.0, 1e-4), (1e-4, 0.0), (1e-4, 1e-3)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_moments_stay_with_their_parameters(a, b, batch_norm):
    """Adam's moments are matched by name when the groups of parameters change."""
    table = make_table()
    params = {"batch_norm": batch_norm, "warm_start": True, "balancer": "uncertainty"}
    model = small(MMoE, weight_decay=a, **params).fit(table.X, table.Y)
    before = optimizer_state(model.net_)
    seen = []

    class Look(Callback):
        def on_train_begin(self, net, **kwargs):
            seen.append({n: s["exp_avg"].clone() for n, s in optimizer_state(net).items()})

    model.set_params(weight_decay=b, callbacks=[Look()]).fit(table.X, table.Y)
    assert list(seen[0]) == list(before)
    for name, state in before.items():
        assert torch.equal(seen[0][name], state["exp_avg"]), name


def test_parameters_are_compared_by_value():
    """Of long arrays too, whose `repr` is cut."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 3, (60, 1500)), rng.integers(0, 2, 60)
    mask = np.arange(1500) == 700
    model = small(SharedBottom, warm_start=True, categorical_features=mask).fit(X, y)
    model.set_params(categorical_features=mask.copy()).fit(X, y)
    with pytest.raises(ValueError, match="`categorical_features` was"):
        model.set_params(categorical_features=np.arange(1500) == 800).fit(X, y)


# The stream ---------------------------------------------------------------------------------------


def chunks(table, size):
    for start in range(0, len(table.X), size):
        yield table.X[start : start + size], table.Y[start : start + size]


@pytest.mark.parametrize("sparse", [False, True])
def test_an_unknown_category_reads_all_that_was_seen(sparse):
    rng = np.random.default_rng(0)
    n = 4000
    c = rng.integers(0, 10, n)
    y = (rng.random(n) < np.where(c == 7, 0.95, 0.2)).astype(int)
    X = pd.DataFrame({"c": [f"c{v}" for v in c]})
    model = SharedBottom(random_state=0, lr=1e-2, sparse_embeddings=sparse)
    for start in range(0, n, 500):
        model.partial_fit(X[start : start + 500], y[start : start + 500])
    new = pd.DataFrame({"c": ["never seen"]})
    before = model.predict_proba(new)[0, 1]
    model.partial_fit(X[X["c"] == "c7"].iloc[:1], np.array([1]))
    assert model.predict_proba(new)[0, 1] == pytest.approx(before, abs=0.05)
    table = model.module_.embedding.blocks["categorical"].tables[0].detach()
    counts = torch.tensor([(c == v).sum() for v in range(10)], dtype=torch.float64)
    counts[7] += 1
    mean = counts @ table[2:].double() / counts.sum()
    assert torch.allclose(table[1].double(), mean, atol=1e-5)


def test_statistics_are_those_of_all_rows_so_far():
    table = make_table(n=600)
    stream = small(SharedBottom)
    for X, Y in chunks(table, 50):
        stream.partial_fit(X, Y)
    whole = small(SharedBottom).fit(table.X, table.Y)
    a, b = (m.module_.embedding.blocks["numeric"] for m in (stream, whole))
    assert torch.allclose(a.mean, b.mean, rtol=1e-10)
    assert torch.allclose(a.scale, b.scale, rtol=1e-10)


@pytest.mark.parametrize("first", ["constant", "empty"])
def test_a_column_without_variance_so_far_does_no_harm(first):
    """It is held at its fill until it moves, and then gets its scale from what came."""
    rng = np.random.default_rng(0)
    n = 2000
    moved = np.r_[
        np.full(200, 0.0 if first == "constant" else np.nan), rng.uniform(0, 1e6, n - 200)
    ]
    X = np.column_stack([rng.standard_normal(n), moved])
    y = (X[:, 0] + np.nan_to_num(X[:, 1]) / 1e6 > 0.5).astype(int)
    model = small(SharedBottom, batch_size=64)
    model.partial_fit(X[:200], y[:200], classes=[0, 1])
    held = model.predict_proba(X[1000:1001])
    other = X[1000:1001] * [1.0, 0.5]
    assert np.array_equal(model.predict_proba(other), held)
    for _ in range(3):
        for start in range(0, n, 200):
            model.partial_fit(X[start : start + 200], y[start : start + 200])
    assert model.history_["train_loss"].max() < 2
    assert model.score(X, y) > 0.9


@pytest.mark.parametrize("kind", ["regression", "quantile", "count"])
def test_a_target_that_was_constant_gets_its_scale_when_it_moves(kind):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 2))
    y = np.r_[np.zeros(100), np.round(1e5 * (X[100:, 0] + 5).clip(0))]
    model = small(SharedBottom, task_types=kind, batch_size=64, max_epochs=1)
    model.partial_fit(X[:100], y[:100])
    for _ in range(20):
        for start in range(100, 600, 100):
            model.partial_fit(X[start : start + 100], y[start : start + 100])
    assert model.history_["train_loss"].max() < 10
    assert model.score(X[100:], y[100:]) > 0.5


def test_classes_suffice_for_a_label_not_seen_yet():
    table = make_table()
    Y = table.Y.assign(married=np.nan)
    classes = {"income": ["<=50K", ">50K"], "married": [0.0, 1.0], "level": ["high", "low", "mid"]}
    model = small(MMoE).partial_fit(table.X, Y, classes=classes)
    before = model.predict_task_proba(table.X)["married"]
    model.partial_fit(table.X, table.Y)
    assert not np.array_equal(model.predict_task_proba(table.X)["married"], before)
    with pytest.raises(ValueError, match="'married' has no observed label"):
        small(MMoE).partial_fit(table.X, Y)


def test_a_fit_on_a_sample_begins_a_stream():
    """Its statistics, counts and weights count beside those of what follows."""
    table = make_table(n=400)
    model = small(SharedBottom).fit(table.X[:100], table.Y[:100])
    for start in range(100, 400, 100):
        model.partial_fit(table.X[start : start + 100], table.Y[start : start + 100])
    whole = small(SharedBottom).fit(table.X, table.Y)
    a, b = (m.module_.embedding.blocks["numeric"] for m in (model, whole))
    assert torch.allclose(a.mean, b.mean, rtol=1e-10)
    assert model.net_.criterion_.n_rows == 400
    assert model.module_.embedding.blocks["categorical"].totals[1] == 400


def test_weights_of_calls_count_beside_each_other():
    """Not only within a call: one without weights weighs one for each row."""
    X, y = noisy(200, 3)
    model = small(SharedBottom).partial_fit(X, y, sample_weight=np.full(200, 5.0))
    model.partial_fit(X, y)
    criterion, scale = model.net_.criterion_, model._fitted_.weight_scale
    assert criterion.total_weight.item() * scale == pytest.approx(200 * 5 + 200)


@pytest.mark.parametrize(
    "balancer", ["equal", "uncertainty", "gradnorm", "nash_mtl", "rlw", "stch"]
)
@pytest.mark.parametrize("way", ["stream", "warm"])
def test_a_pickle_goes_on_exactly_where_it_was(balancer, way):
    """Optimizer, balancer, generator, counts: the same bits as without the pickle."""
    table = make_table()
    assert balancer in BALANCERS
    params = {"balancer": balancer, "dropout": 0.2, "lr": 0.02, "sparse_embeddings": True}
    if way == "warm":
        model = small(MMoE, warm_start=True, **params).fit(table.X, table.Y)
    else:
        model = small(MMoE, **params)
        for X, Y in chunks(table, 40):
            model.partial_fit(X, Y)
    twin = by_pickle(model)
    for one in (model, twin):
        for _ in range(2):
            if way == "warm":
                one.fit(table.X, table.Y)
            else:
                one.partial_fit(table.X[:50], table.Y[:50])
    assert_equal_state(state_of(model), state_of(twin))
    columns = [name for name in model.history_ if name != "dur"]
    pd.testing.assert_frame_equal(model.history_[columns], twin.history_[columns])
    assert np.array_equal(model.predict_proba(table.X), twin.predict_proba(table.X))


def test_a_plain_pickle_holds_little_beside_the_parameters(tmp_path):
    rng = np.random.default_rng(0)
    X = pd.DataFrame({"id": rng.integers(0, 20_000, 40_000), "x": rng.normal(size=40_000)})
    params = {"categorical_features": ["id"], "embedding_dim": 16, "max_epochs": 1}
    model = small(SharedBottom, batch_size=4096, **params).fit(X, rng.integers(0, 2, 40_000))
    size = sum(p.nbytes for p in model.module_.parameters())
    categories = 20_000 * 8
    assert len(pickle.dumps(model)) < 1.1 * size + categories
    going_on = pickle.dumps(model.partial_fit(X[:100], rng.integers(0, 2, 100)))
    assert len(going_on) > 2.5 * size
    model.save(tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").stat().st_size < 1.1 * size + 2 * categories
    assert bytes_of(model.net_) > 2.9 * size


def test_no_warning_in_a_plain_run():
    table = make_table()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(MMoE, early_stopping=True).fit(table.X, table.Y).predict(table.X)
