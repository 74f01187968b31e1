"""Every listed balancer through real estimators: training, scikit-learn's protocol, files."""

import copy
import pickle
import sys
from typing import ClassVar

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import (
    ESTIMATORS,
    assert_equal_state,
    by_pickle,
    everywhere,
    make_table,
    small,
    spread,
)
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Callback
from test_balancing import NAMES, RANDOM, STATEFUL, close, need

from sk_mtl import ESMM, PLE, MMoE, SharedBottom, load
from sk_mtl.balancing import (
    BALANCERS,
    DWABalancer,
    EqualBalancer,
    FixedBalancer,
    GradientBalancer,
    GradNormBalancer,
    LossBalancer,
    MetaBalanceBalancer,
    RLWBalancer,
    ScheduleBalancer,
    TorchJDBalancer,
    UncertaintyBalancer,
)
from sk_mtl.balancing.aggregators import AGGREGATORS
from sk_mtl.tasks import OrdinalTask, RegressionTask

EVERY = pytest.mark.parametrize("name", NAMES)
TABLE = make_table(72)
TASKS = list(TABLE.Y)
TWO = ["income", "wage"]


def quick(cls=MMoE, balancer="equal", **params):
    """Return a small estimator with a balancer, by name or not."""
    if isinstance(balancer, str):
        need(balancer)
    return small(cls, balancer=balancer, **params)


def fitted(balancer, *, cls=MMoE, y=TABLE.Y, sample_weight=None, **params):
    return quick(cls, balancer, **params).fit(TABLE.X, y, sample_weight)


def state(model):
    """Return the balancer inside a fitted estimator."""
    return model.net_.criterion_.balancer


def weights(model):
    """Return the weights of all epochs, (epochs, K)."""
    return model.history_[[f"weight_{name}" for name in model.task_names_]].to_numpy()


def values(model):
    """Return all that a network says of the rows, as numbers."""
    return model._logits(TABLE.X).numpy()


def numbers(balancer):
    """Return what a balancer remembers: tensors, and counts of epochs."""
    tensors = {key: tensor.clone() for key, tensor in balancer.state_dict().items()}
    return {**tensors, "epoch": torch.tensor(getattr(balancer, "epoch", 0))}


# Training ---------------------------------------------------------------------------------------


def test_all_balancers_are_here():
    assert set(NAMES) == set(BALANCERS)
    assert len(NAMES) >= 22


@pytest.mark.parametrize(("name", "cls"), spread(NAMES, ESTIMATORS))
def test_every_architecture(name, cls):
    need(name)
    y = TABLE.targets(cls)
    model = fitted(name, cls=cls, y=y)
    assert model.predict(TABLE.X).shape == y.shape
    start = quick(cls, name, lr=1e-12).fit(TABLE.X, y)
    assert np.isfinite(values(model)).all()
    assert not np.allclose(values(model), values(start), rtol=1e-4)
    assert weights(model).shape == (2, y.shape[1])
    assert np.isfinite(weights(model)).all()


def every_kind():
    """Return targets of all six kinds, and the kinds by name."""
    rng, wage = np.random.default_rng(1), TABLE.Y["wage"]
    y = TABLE.Y.assign(
        visits=rng.poisson(np.exp((wage - wage.mean()) / 10)).astype(float),
        high=wage,
        rank=np.array(["a", "b", "c"])[np.digitize(wage, wage.quantile([0.3, 0.7]))],
    )
    kinds = {"visits": "count", "high": "quantile", "rank": OrdinalTask(order=["a", "b", "c"])}
    return y, {"income": "binary", "level": "multiclass", "wage": "regression", **kinds}


@EVERY
def test_every_kind_of_task(name):
    y, kinds = every_kind()
    model = fitted(name, y=y, task_types=kinds)
    found = {task.kind for task in model.tasks_}
    assert found >= {"binary", "multiclass", "regression", "count", "quantile", "ordinal"}
    assert np.isfinite(values(model)).all()
    assert np.isfinite(weights(model)).all()


@EVERY
def test_batches_without_a_label_of_a_task(name):
    """Two labels in five batches: at least three of them have none."""
    y = TABLE.Y.copy()
    y.loc[y.index[2:], "wage"] = np.nan
    Counts.seen.clear()
    model = fitted(name, y=y, callbacks=[Counts()], batch_size=16, max_epochs=3)
    labels = np.array(Counts.seen)[:, TASKS.index("wage")]
    assert len(labels) == 3 * 5
    assert (labels == 0).sum() >= 3 * 3
    assert labels.sum() == 3 * 2
    assert np.isfinite(values(model)).all()
    assert np.isfinite(weights(model)).all()


class Counts(Callback):
    """Record how many labels of each task a batch has."""

    seen: ClassVar[list] = []

    def on_batch_begin(self, net, batch, **kwargs):
        _, target = batch
        self.seen.append((~target.isnan()).sum(0).tolist())


@EVERY
def test_an_epoch_without_a_label_of_a_task(name):
    """Its weight is not known (equal weights say one), and nothing else is lost."""
    model = fitted(name)
    before = weights(model)
    gone = TABLE.Y.assign(married=np.nan, wage=np.nan)
    model.partial_fit(TABLE.X, gone).partial_fit(TABLE.X, TABLE.Y)
    found = weights(model)
    assert np.array_equal(found[:2], before)
    unknown = np.isin(TASKS, ["married", "wage"]) & (name != "equal")
    assert np.array_equal(np.isnan(found[2]), unknown)
    assert np.isfinite(found[3]).all()
    assert np.isfinite(values(model)).all()


@EVERY
def test_weight_zero_equals_absence(name):
    rng = np.random.default_rng(2)
    sample_weight = rng.uniform(0.5, 2.0, TABLE.Y.shape)
    sample_weight[rng.random(TABLE.Y.shape) < 0.2] = 0.0
    weighted = fitted(name, sample_weight=sample_weight)
    masked = fitted(name, y=TABLE.Y.mask(sample_weight == 0), sample_weight=sample_weight)
    assert np.array_equal(values(weighted), values(masked))
    assert np.array_equal(weights(weighted), weights(masked))
    assert not np.array_equal(values(weighted), values(fitted(name)))


@EVERY
def test_a_task_of_loss_weight_zero(name):
    """It does not train, and no balancer brings it back."""
    model = fitted(name, loss_weights={"wage": 0.0, "income": 2.0})
    k = TASKS.index("wage")
    assert np.isnan(weights(model)[:, k]).all() == (name != "equal")
    assert np.isfinite(np.delete(weights(model), k, axis=1)).all()
    assert (model.history_["train_loss_wage"] > 0).all()
    y = TABLE.Y.assign(wage=-TABLE.Y["wage"])
    other = fitted(name, y=y, loss_weights={"wage": 0.0, "income": 2.0})
    assert np.array_equal(values(other)[:, :-1], values(model)[:, :-1])


def test_loss_weights_and_fixed_weights_differ_in_what_is_reported():
    given = {"income": 2.0, "wage": 0.5}
    inside = fitted("equal", loss_weights=given)
    fixed = fitted(FixedBalancer(given))
    assert np.allclose(values(inside), values(fixed), rtol=1e-5, atol=1e-6)
    factors = np.array([2.0, 1.0, 1.0, 0.5])
    for model, expected in ((inside, factors), (fixed, np.ones(4))):
        losses = model.history_[[f"train_loss_{name}" for name in TASKS]].to_numpy()
        assert np.allclose(model.history_["train_loss"], losses @ expected, rtol=1e-5)
    assert np.array_equal(weights(fixed), np.tile(factors, (2, 1)))
    assert (weights(inside) == 1).all()


LOADED = {"loss_weights": [3.0, 1.0, 1.0, 0.5]}


@EVERY
def test_early_stopping_watches_the_plain_sum(name):
    options = {"early_stopping": True, "validation_fraction": 0.4, "max_epochs": 3}
    model = fitted(name, **options, **LOADED, n_iter_no_change=1, tol=9.0)
    assert model.n_iter_ == 2  # nothing falls by nine
    losses = model.history_[[f"valid_loss_{task}" for task in TASKS]].to_numpy()
    total = model.history_["valid_loss"]
    assert np.allclose(total, losses @ LOADED["loss_weights"], rtol=1e-6)
    best = int(total.idxmin()) + 1
    again = fitted(name, **{**options, "max_epochs": best, "early_stopping": False}, **LOADED)
    assert np.array_equal(values(model), values(again))


# Going on with training -------------------------------------------------------------------------


class Begin(Callback):
    """Record what the balancer knows when training begins."""

    seen: ClassVar[list] = []

    def on_train_begin(self, net, **kwargs):
        self.seen.append(numbers(net.criterion_.balancer))


@pytest.mark.parametrize("way", ["warm_start", "partial_fit"])
@EVERY
def test_training_goes_on_with_the_balancers_state(name, way):
    balancer = ScheduleBalancer(gamma=0.5) if name == "schedule" else name
    model = quick(balancer=balancer, callbacks=[Begin()], warm_start=True)
    model.fit(TABLE.X, TABLE.Y)
    end, start = numbers(state(model)), Begin.seen[-1]
    if way == "warm_start":
        model.fit(TABLE.X, TABLE.Y)
    else:
        model.partial_fit(TABLE.X, TABLE.Y)
    assert_equal_state(Begin.seen[-1], end)
    same = start.keys() == end.keys() and all(torch.equal(start[key], end[key]) for key in end)
    assert same == (name not in STATEFUL)


def test_another_balancer_begins_anew():
    model = quick(balancer=DWABalancer(), warm_start=True).fit(TABLE.X, TABLE.Y)
    model.set_params(balancer__temperature=0.5).fit(TABLE.X, TABLE.Y)
    assert np.allclose(weights(model), 1.0)
    model.fit(TABLE.X, TABLE.Y)
    assert (np.abs(weights(model)[4:] - 1) > 1e-4).any(axis=1).all()
    model.set_params(balancer="uncertainty", weight_decay=0.1).fit(TABLE.X, TABLE.Y)
    assert isinstance(state(model), UncertaintyBalancer)
    assert model.n_iter_ == 8
    model.set_params(balancer="equal").fit(TABLE.X, TABLE.Y)
    assert (weights(model)[8:] == 1).all()


@pytest.mark.parametrize("name", sorted(STATEFUL))
def test_a_fit_that_fails_leaves_the_balancer_as_it_was(name):
    model = fitted(name, warm_start=True)
    before, seen = numbers(state(model)), values(model)
    model.callbacks = [Stop()]
    with pytest.raises(RuntimeError, match="enough"):
        model.fit(TABLE.X, TABLE.Y)
    assert_equal_state(numbers(state(model)), before)
    assert np.array_equal(values(model), seen)


class Stop(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise RuntimeError("enough")


# scikit-learn's protocol ------------------------------------------------------------------------


@EVERY
def test_the_given_instance_stays_as_it_is(name):
    need(name)
    given = BALANCERS[name]()
    params, attributes = given.get_params(), set(vars(given))
    models = [fitted(given), fitted(given, y=TABLE.Y[TWO])]  # one serves several estimators
    assert given.get_params() == params
    assert set(vars(given)) == attributes
    assert not list(given.state_dict())
    assert all(state(model) is not given for model in models)
    assert state(models[1]).names == ("income", "wage")
    assert np.array_equal(values(models[0]), values(fitted(name)))


@EVERY
def test_clone_and_parameters(name):
    need(name)
    model = fitted(BALANCERS[name](), max_epochs=1)
    twin = clone(model)
    assert twin.balancer is not model.balancer
    assert repr(twin) == repr(model)
    own = {key for key in model.get_params() if key.startswith("balancer__")}
    assert own == {f"balancer__{key}" for key in model.balancer.get_params()}
    twin.set_params(**{key: twin.get_params()[key] for key in own})
    assert np.array_equal(values(twin.fit(TABLE.X, TABLE.Y)), values(model))
    with pytest.raises(ValueError, match="has no parameter 'charm'"):
        twin.set_params(balancer__charm=1)


def test_set_params_reaches_the_training():
    model = quick(balancer=GradNormBalancer())
    model.set_params(balancer__alpha=0.5, balancer__lr=0.5).fit(TABLE.X, TABLE.Y)
    assert (state(model).alpha, state(model).lr) == (0.5, 0.5)
    assert model.balancer.alpha == 0.5
    with pytest.raises(ValueError, match=r"`balancer__alpha` must be a finite number of at least"):
        model.set_params(balancer__alpha=-1).fit(TABLE.X, TABLE.Y)


def test_searches():
    y = TABLE.Y[["income", "wage"]]
    model = quick(max_epochs=1)
    grid = [
        {"balancer": ["equal", "gradnorm", MetaBalanceBalancer("wage")]},
        {"balancer": [DWABalancer()], "balancer__temperature": [0.5, 4.0]},
    ]
    search = GridSearchCV(model, grid, cv=KFold(2)).fit(TABLE.X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    found = search.cv_results_["params"]
    assert [p.get("balancer__temperature") for p in found] == [None] * 3 + [0.5, 4.0]
    best = search.best_estimator_
    alone = clone(model).set_params(**search.best_params_).fit(TABLE.X, y)
    assert np.array_equal(values(best), values(alone))


def test_names_in_a_pipeline():
    X = TABLE.X[["age", "hours"]].fillna(40)
    pipeline = make_pipeline(StandardScaler(), quick(balancer=DWABalancer()))
    assert pipeline.get_params()["mmoe__balancer__temperature"] == 2.0
    pipeline.set_params(mmoe__balancer__temperature=0.25, mmoe__max_epochs=3).fit(X, TABLE.Y)
    losses = pipeline[-1].history_[[f"train_loss_{name}" for name in TASKS]].to_numpy()
    expected = np.exp(losses[1] / losses[0] / 0.25)
    assert np.allclose(weights(pipeline[-1])[2], 4 * expected / expected.sum(), rtol=1e-5)


# Files ------------------------------------------------------------------------------------------


def dumped(model, path):
    joblib.dump(model, path / "model.joblib")
    return joblib.load(path / "model.joblib")


def saved(model, path):
    pytest.importorskip("safetensors", reason="an extra that save and load need")
    model.save(path / "model.safetensors")
    return load(path / "model.safetensors")


@pytest.mark.parametrize("way", [by_pickle, dumped, saved])
@EVERY
def test_files(name, way, tmp_path):
    need(name)
    model = fitted(BALANCERS[name](), max_epochs=1)
    again = way(model, tmp_path)
    assert repr(again) == repr(model)
    assert np.array_equal(values(again), values(model))
    pd.testing.assert_frame_equal(again.history_, model.history_)
    again.partial_fit(TABLE.X, TABLE.Y)
    assert again.n_iter_ == 2
    assert np.isfinite(weights(again)).all()
    assert type(state(again)) is type(state(model))


def test_prediction_needs_no_torchjd(monkeypatch):
    model = fitted("mgda", max_epochs=1)
    text = pickle.dumps(model)
    monkeypatch.setitem(sys.modules, "torchjd", None)
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    again = pickle.loads(text)
    assert np.array_equal(values(again), values(model))
    with pytest.raises(ImportError, match=r'pip install "sk_mtl\[torchjd\]"'):
        again.partial_fit(TABLE.X, TABLE.Y)
    assert np.array_equal(values(again), values(model))


# Random numbers ---------------------------------------------------------------------------------


@EVERY
def test_random_state_decides_on_the_bits(name):
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        model = fitted(name, dropout=0.2, batch_norm=True)
        assert torch.equal(torch.get_rng_state(), before[0])
        assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
        found.append((values(model), weights(model)))
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], found[1][1])
    other = fitted(name, dropout=0.2, batch_norm=True, random_state=1)
    assert not np.array_equal(values(other), found[0][0])


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_drawn_weights_do_not_repeat_from_fit_to_fit(name):
    model = fitted(name, warm_start=True, max_epochs=1, lr=1e-12)
    first = weights(model.fit(TABLE.X, TABLE.Y))
    assert not np.allclose(first[0], first[1], rtol=1e-3)


# What is equal to what --------------------------------------------------------------------------

SCALED = {"log", "stch", "uncertainty"}
"""Those that change the size of a single task's step."""

EXACT = {"optimizer": "sgd", "dtype": "float64", "lr": 0.1}


@pytest.mark.parametrize("cls", [SharedBottom, PLE])
@EVERY
def test_a_single_task_has_nothing_to_balance(name, cls):
    # One batch: a balancer that draws takes a number from the generator that shuffles.
    options = {**EXACT, "cls": cls, "y": TABLE.Y["level"], "batch_size": None}
    plain, model = (fitted(b, **options) for b in ("equal", name))
    assert np.allclose(values(model), values(plain), rtol=1e-9, atol=1e-12) == (name not in SCALED)


@pytest.mark.parametrize("cls", [ESMM, MMoE])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "graddrop"])
def test_sparse_tables_train_as_dense_ones(name, cls, monkeypatch):
    """A table of more slots than SPARSE_SLOTS passes sparse gradients; here that is any table.

    GradDrop is left out: it draws for each entry that there is.
    """
    y = TABLE.targets(cls)
    need(name)
    balancer = BALANCERS[name]()
    if "on" in balancer.get_params():
        balancer.set_params(on="parameters")
    options = {**EXACT, "balancer": balancer, "cls": cls, "y": y}
    dense = fitted(**options)
    monkeypatch.setattr("sk_mtl.nn.blocks.tables.SPARSE_SLOTS", 0)
    sparse = fitted(**options)
    assert all(sparse.module_.embedding.blocks["categorical"].sparse)
    assert not any(dense.module_.embedding.blocks["categorical"].sparse)
    tolerance = close(name)
    assert np.allclose(values(sparse), values(dense), **tolerance)
    assert np.allclose(weights(sparse), weights(dense), **tolerance)
    adam = fitted(balancer, cls=cls, y=y)
    assert np.isfinite(values(adam)).all()


# The weights in the history ---------------------------------------------------------------------


def test_weights_that_are_given():
    assert (weights(fitted("equal")) == 1).all()
    assert np.array_equal(
        weights(fitted(FixedBalancer({"level": 3.0, "wage": 0.5}))), [[1, 1, 3, 0.5]] * 2
    )
    found = weights(fitted(ScheduleBalancer(2.0, gamma={"wage": 0.5}), max_epochs=3))
    assert np.array_equal(found, [[2, 2, 2, 2], [2, 2, 2, 1], [2, 2, 2, 0.5]])


def test_weights_of_dwa():
    model = fitted("dwa", max_epochs=4, loss_weights=[3.0, 1.0, 1.0, 1.0])
    losses = model.history_[[f"train_loss_{name}" for name in TASKS]].to_numpy()
    found = weights(model)
    assert (found[:2] == 1).all()
    for epoch in (2, 3):
        expected = np.exp(losses[epoch - 1] / losses[epoch - 2] / 2.0)
        assert np.allclose(found[epoch], 4 * expected / expected.sum(), rtol=1e-5)


def test_weights_of_uncertainty():
    """They begin at 1 and 1/2, and the optimizer moves them towards those of small losses."""
    model = fitted("uncertainty", max_epochs=6, batch_size=None, lr=0.05)
    found = weights(model)
    assert np.allclose(found[0], [1, 1, 1, 0.5])
    assert (np.abs(np.diff(found, axis=0)) > 1e-4).all()
    scale = np.array([1, 1, 1, 0.5])
    # Adam's first step is of length lr, against the sign of the gradient 1/2 - c L.
    first = model.history_[[f"train_loss_{name}" for name in TASKS]].to_numpy()[0]
    step = -0.05 * np.sign(0.5 - scale * first)
    assert np.allclose(found[1], scale * np.exp(-step), rtol=1e-4)


def test_weights_that_sum_to_a_number():
    for name, total in (("gradnorm", 4.0), ("rlw", 1.0), ("famo", 1.0)):
        y = TABLE.Y.assign(married=TABLE.Y["married"] == True)  # noqa: E712
        found = weights(fitted(name, y=y, max_epochs=3))
        assert np.allclose(found.sum(1), total, rtol=1e-5), name
        assert not np.allclose(found[0], found[2], rtol=1e-3), name
        assert (found > 0).all(), name


def test_weights_relative_to_the_losses():
    """Of one batch of all rows: 1 / L for the logarithm, the mean of all over L / K for GLS."""
    y = TABLE.Y
    for name in ("log", "gls"):
        model = fitted(name, y=y, batch_size=None)
        losses = model.history_[[f"train_loss_{task}" for task in TASKS]].to_numpy()
        total = 1.0 if name == "log" else np.exp(np.log(losses).mean(1, keepdims=True)) / 4
        assert np.allclose(weights(model), total / losses, rtol=1e-5), name


def test_weights_of_pcgrad_and_metabalance():
    """The target's gradient keeps its size; a projection adds to what is projected onto."""
    found = weights(fitted(MetaBalanceBalancer("level")))
    assert np.isfinite(found).all()
    assert not np.allclose(found, 1.0, rtol=1e-2)
    need("pcgrad")
    assert (weights(fitted("pcgrad", lr=1e-12)) >= 1 - 1e-3).all()


# Errors -----------------------------------------------------------------------------------------


@everywhere
@pytest.mark.parametrize("balancer", [GradNormBalancer, TorchJDBalancer])
def test_features_where_there_is_no_one_representation(balancer, cls):
    need("mgda" if balancer is TorchJDBalancer else "gradnorm")
    first = {"aggregator": "mgda"} if balancer is TorchJDBalancer else {}
    y = TABLE.targets(cls)
    model = quick(cls, balancer(**first, on="features"))
    if fitted("equal", cls=cls, y=y).module_.one_representation:
        model.fit(TABLE.X, y)
        auto = fitted(balancer(**first), cls=cls, y=y)
        assert np.array_equal(values(model), values(auto))
        return
    with pytest.raises(ValueError, match=r"`balancer__on` is 'features', but this architecture"):
        model.fit(TABLE.X, y)
    with pytest.raises(NotFittedError):
        model.predict(TABLE.X)
    model.set_params(balancer__on="auto").fit(TABLE.X, y)
    assert np.isfinite(values(model)).all()


@pytest.mark.parametrize("cls", [SharedBottom, ESMM])
def test_features_and_parameters_are_two_places(cls):
    found = [
        fitted(TorchJDBalancer("mgda", on=on), cls=cls, y=TABLE.targets(cls))
        for on in ("auto", "features", "parameters")
    ]
    assert np.array_equal(values(found[0]), values(found[1]))
    assert not np.allclose(values(found[0]), values(found[2]), rtol=1e-4)


@pytest.mark.parametrize("name", list(AGGREGATORS))
def test_torchjd_is_missed_at_fit(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchjd", None)
    monkeypatch.setitem(sys.modules, "torchjd.aggregation", None)
    model = small(MMoE, balancer=name)
    assert clone(model).get_params()["balancer"] == name
    message = rf"balancer '{name}' needs the package torchjd: pip install \"sk_mtl\[torchjd\]\""
    with pytest.raises(ImportError, match=message):
        model.fit(TABLE.X, TABLE.Y)
    assert not hasattr(model, "net_")


@pytest.mark.parametrize(
    ("balancer", "message"),
    [
        (FixedBalancer([1.0, 2.0]), r"`balancer__task_weights` has 2 entries and y has 4 tasks"),
        (FixedBalancer({"buy": 2.0}), r"`balancer__task_weights` names the task 'buy', which y"),
        (MetaBalanceBalancer("buy"), r"`balancer__target` is 'buy', which is no task; pass one of"),
        (DWABalancer(temperature=0), r"`balancer__temperature` must be a finite number above 0"),
    ],
)
def test_wrong_parameters_are_named_at_fit(balancer, message):
    model = quick(balancer=balancer)
    with pytest.raises(ValueError, match=message):
        model.fit(TABLE.X, TABLE.Y)
    assert not hasattr(model, "net_")
    going_on = fitted("equal", warm_start=True)
    seen = values(going_on)
    with pytest.raises(ValueError, match=message):
        going_on.set_params(balancer=balancer).fit(TABLE.X, TABLE.Y)
    assert np.array_equal(values(going_on), seen)


@pytest.mark.parametrize("balancer", ["magic", 3, None, DWABalancer])
def test_no_balancer(balancer):
    with pytest.raises(ValueError, match="The 'balancer' parameter of MMoE must be"):
        small(MMoE, balancer=balancer).fit(TABLE.X, TABLE.Y)


# A user's own -----------------------------------------------------------------------------------


class Halves(LossBalancer):
    """A balancer of one line."""

    def forward(self, losses):
        return losses.sum() / 2


class Silent(EqualBalancer):
    """A balancer that reports no weights."""

    def backward(self, losses, step):
        losses.sum().backward()
        return losses.sum().detach()


class LargestGradient(GradientBalancer):
    """The gradient of the largest norm, for each shared tensor."""

    def combine(self, rows, present):
        return [g[g.norm(dim=1).argmax()] for g in rows]


@everywhere
def test_balancers_of_a_users_own(cls):
    y = TABLE.targets(cls)
    half = fitted(Halves(), cls=cls, y=y, **EXACT)
    assert (weights(half) == 0.5).all()
    slow = fitted("equal", cls=cls, y=y, **{**EXACT, "lr": EXACT["lr"] / 2})
    if "train_penalty" not in slow.history_:  # a penalty is outside the balancer
        assert np.allclose(values(half), values(slow), rtol=1e-9, atol=1e-12)
    largest = fitted(LargestGradient(), cls=cls, y=y)
    assert np.isfinite(values(largest)).all()
    assert np.isfinite(weights(largest)).all()


def test_a_balancer_that_reports_no_weights():
    model, plain = fitted(Silent(), **EXACT), fitted("equal", **EXACT)
    assert np.allclose(values(model), values(plain), rtol=1e-9, atol=1e-12)
    assert not [column for column in model.history_ if column.startswith("weight_")]


class Below(RegressionTask):
    """A kind whose loss may be below zero."""

    def loss(self, logits, target):
        return super().loss(logits, target) - 10


def test_a_loss_below_zero_is_named():
    y = TABLE.Y.iloc[:, :1].assign(wage=np.arange(len(TABLE.Y)) / 7)
    for balancer in ("gls", "dwa", "famo"):
        with pytest.raises(ValueError, match=r"'wage' is -.*below zero"):
            fitted(balancer, y=y, task_types={"wage": Below})
    fitted("equal", y=y, task_types={"wage": Below})


def test_instances_in_memory_do_not_share_state():
    """A copy of a fitted estimator trains by itself."""
    model = fitted("gradnorm")
    twin = copy.deepcopy(model)
    before = numbers(state(model))
    twin.partial_fit(TABLE.X, TABLE.Y)
    assert_equal_state(numbers(state(model)), before)


def test_rlw_draws_from_the_seed():
    same, other = fitted(RLWBalancer()), fitted(RLWBalancer(), random_state=5)
    assert np.array_equal(weights(same), weights(fitted("rlw")))
    assert not np.allclose(weights(same), weights(other), rtol=1e-3)
