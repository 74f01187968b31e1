"""The user's skorch callbacks work, and early stopping restores the best epoch."""

import os
import signal
import time
from typing import ClassVar

import numpy as np
import pytest
import sklearn
import torch
from conftest import PLAIN
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.utils.fixes import parse_version
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
    ProgressBar,
)

from sk_mtl import MMoE
from sk_mtl.datasets import make_census_like

before_1_9 = pytest.mark.skipif(
    parse_version(sklearn.__version__) < parse_version("1.9"),
    reason="scorers of older scikit-learn take a net, which is of no type, for a regressor",
)


@pytest.fixture(scope="module")
def world():
    X, Y = make_census_like(500, random_state=0)
    return X, Y[["high_income", "married"]]


def network(**params):
    return MMoE(n_experts=2, expert_units=(8,), random_state=0, **PLAIN | params)


def test_early_stopping_of_skorch(world):
    stop = EarlyStopping(patience=1, threshold=10.0, threshold_mode="abs", sink=lambda *_: None)
    model = network(max_epochs=20, validation_fraction=0.2, callbacks=[stop]).fit(*world)
    assert model.n_iter_ == 2
    assert hasattr(stop, "dynamic_threshold_")  # the user's own instance was used


def test_lr_scheduler(world):
    schedule = LRScheduler("StepLR", step_size=1, gamma=0.1)
    model = network(max_epochs=3, lr=0.01, callbacks=[schedule]).fit(*world)
    assert model.net_.optimizer_.param_groups[0]["lr"] == pytest.approx(1e-5)


def test_checkpoint(world, tmp_path):
    keep = Checkpoint(dirname=str(tmp_path), load_best=True)
    model = network(max_epochs=4, lr=0.05, validation_fraction=0.3, callbacks=[keep]).fit(*world)
    assert (tmp_path / "params.pt").exists()
    best = torch.load(tmp_path / "params.pt")
    for name, tensor in model.module_.named_parameters():
        if "tables" not in name:  # rows of unseen categories are filled in after training
            assert torch.equal(best[name], tensor), name


@before_1_9
@pytest.mark.parametrize("on_train", [True, False])
def test_epoch_scoring_by_name(world, on_train):
    X, Y = world
    score = EpochScoring("roc_auc", lower_is_better=False, on_train=on_train, name="auc")
    model = network(max_epochs=5, lr=0.02, validation_fraction=0.3, callbacks=[score]).fit(X, Y)
    assert model.history_["auc"].between(0.3, 1).all()
    assert model.history_["auc"].iloc[-1] > 0.5


def test_epoch_scoring_by_a_callable_gets_probabilities_and_labels(world):
    X, Y = world
    seen = []

    def married(net, rows, y):
        blocks = net.predict_proba(rows)
        seen.append((blocks.shape, y.shape))
        assert np.allclose(blocks[:, :2].sum(1), 1)
        return roc_auc_score(y[:, 1], blocks[:, 3])

    score = EpochScoring(married, lower_is_better=False, name="auc")
    model = network(max_epochs=2, validation_fraction=0.3, callbacks=[("auc", score)]).fit(X, Y)
    assert seen == [((150, 4), (150, 2))] * 2
    assert model.history_["auc"].between(0, 1).all()


def test_progress_bar(world, capsys):
    network(max_epochs=3, callbacks=[ProgressBar()]).fit(*world)
    assert "0/2" in capsys.readouterr().err


def test_gradient_clipping(world):
    free = network(max_epochs=1).fit(*world)
    clip = GradientNormClipping(gradient_clip_value=1e-12)
    model = network(max_epochs=1, optimizer="sgd", lr=1.0, callbacks=[clip]).fit(*world)
    again = network(max_epochs=1, optimizer="sgd", lr=1e-12).fit(*world)
    for (name, p), q in zip(
        model.module_.named_parameters(), again.module_.parameters(), strict=True
    ):
        if "tables" not in name:
            assert torch.allclose(p, q, atol=1e-6), name  # no step worth the name was taken
    assert not np.allclose(free.predict_proba(world[0]), model.predict_proba(world[0]))


@pytest.mark.parametrize("held_out", [None, 0.2])
def test_verbose_prints_a_line_per_epoch(world, capsys, held_out):
    X, Y = world
    Y = Y.rename(columns={Y.columns[0]: "a name that is longer than a line has room for it"})
    network(max_epochs=3, verbose=1, validation_fraction=held_out).fit(X, Y)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all(len(line) <= 100 for line in lines)
    assert lines[0].startswith("epoch 1: train ")
    assert ("valid" in lines[0]) == (held_out is not None)
    assert all("married 0." in line and line.endswith(" s") for line in lines)


def test_verbose_tells_what_early_stopping_did(world, capsys):
    stops = {"early_stopping": True, "validation_fraction": 0.4, "lr": 0.05, "verbose": 1}
    model = network(max_epochs=60, n_iter_no_change=3, **stops).fit(*world)
    best = model.history_["valid_loss"].argmin() + 1
    *_, last = capsys.readouterr().out.splitlines()
    assert last == f"Early stopping: valid_loss no longer improved; epoch {best} is restored."
    network(max_epochs=1, **stops).fit(*world)
    assert "all epochs were run; epoch 1 is" in capsys.readouterr().out


def test_silence_is_the_default(world, capsys, monkeypatch):
    # Others replace `print`; skorch's table takes that for a sink of the user's.
    printed = []
    monkeypatch.setattr("builtins.print", lambda *args, **kwargs: printed.append(args))
    network(max_epochs=1).fit(*world)
    assert printed == []
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("max_epochs", "patience"), [(60, 3), (7, 50)])
def test_best_weights_are_restored(world, max_epochs, patience):
    X, Y = world
    params = {"max_epochs": max_epochs, "n_iter_no_change": patience, "lr": 0.05}
    model = network(early_stopping=True, validation_fraction=0.4, **params).fit(X, Y)
    losses = model.history_["valid_loss"]
    assert losses.iloc[-1] > losses.min()  # it went on past the best epoch
    if patience == 3:
        assert model.n_iter_ < max_epochs
    # A net stopped at the best epoch has the same weights.
    best = int(losses.argmin()) + 1
    twin = network(validation_fraction=0.4, **params | {"max_epochs": best}).fit(X, Y)
    assert np.allclose(twin.predict_proba(X), model.predict_proba(X), atol=1e-6)


class Watch(Callback):
    """Note the epochs that end; raise or signal an interrupt at a moment of an epoch."""

    ended: ClassVar[list] = []

    def __init__(self, epoch=None, moment=None, interrupt=None):
        self.epoch, self.moment, self.interrupt = epoch, moment, interrupt

    def on_batch_end(self, net, training, **kwargs):
        if training:
            self.meet(net, "batch")

    def on_epoch_end(self, net, **kwargs):
        self.ended.append(len(net.history))
        self.meet(net, "epoch")

    def meet(self, net, moment):
        if (len(net.history), moment) == (self.epoch, self.moment):
            self.interrupt()


@pytest.fixture
def ended():
    Watch.ended.clear()
    return Watch.ended


def end_quietly():
    raise KeyboardInterrupt


def press_ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(5)  # the signal comes within this time


def test_callbacks_see_the_epoch_that_early_stopping_ends_with(world, ended):
    stop = {"early_stopping": True, "tol": 5.0, "n_iter_no_change": 2, "max_epochs": 20}
    model = network(**stop, callbacks=[Watch()]).fit(*world)
    assert ended == [1, 2, 3]
    assert model.n_iter_ == 3


@pytest.mark.parametrize(("moment", "n_epochs"), [("epoch", 2), ("batch", 1)])
def test_a_callback_ends_training_by_an_interrupt(world, ended, moment, n_epochs):
    """After the epoch at its end; in the midst of an epoch at once, and it does not count."""
    watch = [Watch(2, moment, end_quietly), ("last", Watch())]
    model = network(max_epochs=5, callbacks=watch).fit(*world)
    assert model.n_iter_ == n_epochs
    # Both callbacks see each whole epoch.
    assert ended == [epoch for epoch in range(1, n_epochs + 1) for _ in watch]


@pytest.mark.parametrize("moment", ["epoch", "batch"])
def test_ctrl_c_goes_up_and_leaves_the_last_whole_epoch(world, ended, moment):
    model = network(max_epochs=5, callbacks=[Watch(3, moment, press_ctrl_c)])
    with pytest.raises(KeyboardInterrupt):
        model.fit(*world)
    assert model.n_iter_ == 2
    twin = network(max_epochs=2).fit(*world)
    assert np.array_equal(model.predict_proba(world[0]), twin.predict_proba(world[0]))


def test_ctrl_c_in_the_first_epoch_leaves_nothing(world):
    model = network(callbacks=[Watch(1, "batch", press_ctrl_c)])
    with pytest.raises(KeyboardInterrupt):
        model.fit(*world)
    with pytest.raises(NotFittedError):
        model.predict(world[0])


def test_tolerance(world):
    model = network(early_stopping=True, tol=5.0, n_iter_no_change=2, max_epochs=20).fit(*world)
    assert model.n_iter_ == 3


class Record(Callback):
    """Losses of all epochs of all fits."""

    def on_epoch_end(self, net, **kwargs):
        self.losses_ = [*getattr(self, "losses_", []), net.history[-1, "train_loss"]]


class Told(Callback):
    """An argument kept under another name: scikit-learn cannot clone it."""

    def __init__(self, prefix):
        self._prefix = prefix

    def on_train_begin(self, net, **kwargs):
        self.begun_ = f"{self._prefix}!"


def test_callbacks_are_the_users_own(world):
    record, told = Record(), Told("x")
    callbacks = [record, ("told", told)]
    model = network(max_epochs=2, callbacks=callbacks).fit(*world)
    assert record.losses_ == model.history_["train_loss"].tolist()
    assert told.begun_ == "x!"
    assert model.callbacks is callbacks
    model.fit(*world)
    assert len(record.losses_) == 4


def test_options_of_callbacks_can_be_searched(world):
    callbacks = [("es", EarlyStopping(patience=9)), LRScheduler("StepLR", step_size=1)]
    model = network(max_epochs=4, validation_fraction=0.2, callbacks=callbacks)
    model.set_params(callbacks__LRScheduler__step_size=3, lr=0.5)
    assert (callbacks[1].step_size, model.lr) == (3, 0.5)
    search = GridSearchCV(model, {"callbacks__es__patience": [1, 2]}, cv=KFold(2)).fit(*world)
    assert search.best_estimator_.callbacks[0][1].patience in (1, 2)
    assert callbacks[0][1].patience == 9
    with pytest.raises(ValueError, match=r"0 callbacks named 'stop'.*\['es', 'LRScheduler'\]"):
        model.set_params(callbacks__stop__patience=1)


def test_a_search_gives_each_fit_copies(world):
    record = Record()
    search = GridSearchCV(
        network(max_epochs=1, callbacks=[record]), {"lr": [0.1, 0.01]}, cv=KFold(2)
    )
    search.fit(*world)
    assert not hasattr(record, "losses_")
    (copy,) = search.best_estimator_.callbacks
    assert len(copy.losses_) == 1
