"""The user's skorch callbacks work, and early stopping restores the best epoch."""

import copy
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
    assert not hasattr(stop, "best_epoch_")  # the user's own instance was copied


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


def test_verbose_prints_a_table(world, capsys):
    network(max_epochs=1, verbose=1).fit(*world)
    assert "train_loss_married" in capsys.readouterr().out


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


@before_1_9
def test_callbacks_are_copied(world):
    callbacks = [LRScheduler("StepLR", step_size=1), ("bar", EpochScoring("roc_auc"))]
    before = [copy.deepcopy(vars(c[1] if isinstance(c, tuple) else c)) for c in callbacks]
    model = network(max_epochs=1, validation_fraction=0.3, callbacks=callbacks).fit(*world)
    after = [vars(c[1] if isinstance(c, tuple) else c) for c in callbacks]
    assert [set(state) for state in before] == [set(state) for state in after]
    assert model.callbacks is callbacks
