"""The training budget: rows per step, early stopping, learning rates and gradients' lengths."""

import ast
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import PLAIN, by_pickle, everywhere, make_table, small
from skorch.callbacks import Callback
from torch.testing import assert_close

from sk_mtl import MMoE, SharedBottom, load
from sk_mtl._training import auto_batch_size

TABLE = make_table()
LR = 0.01


class Steps(Callback):
    """Note the learning rate of each step."""

    def on_train_begin(self, net, **kwargs):
        if not hasattr(self, "rates_"):
            self.rates_ = []

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        if training:
            self.rates_.append(net.optimizer_.param_groups[0]["lr"])


class Gradients(Callback):
    """Note the gradients of the first step as the optimizer gets them."""

    def on_grad_computed(self, net, named_parameters, **kwargs):
        if not hasattr(self, "first_"):
            self.first_ = {
                name: p.grad.to_dense().clone()
                for name, p in named_parameters
                if p.grad is not None
            }


def noted(model, kind):
    """Return the callback of a kind that a fitted estimator holds."""
    return next(c for _, c in model.net_.callbacks_ if isinstance(c, kind))


def rates(epochs=4, **params):
    """Fit, and return the learning rates by epoch."""
    params = {"lr": LR, "max_epochs": epochs, "callbacks": [Steps()], **params}
    fit = params.pop("fit", {})
    model = small(SharedBottom, **params).fit(TABLE.X, TABLE.Y, **fit)
    found = np.array(noted(model, Steps).rates_).reshape(model.n_iter_, -1)
    return found, model


# Learning rates -----------------------------------------------------------------------------------


def test_constant():
    found, _ = rates(lr_schedule="constant")
    assert (found == LR).all()


def test_cosine_ends_at_zero_with_the_last_step():
    found, _ = rates(lr_schedule="cosine")
    step = np.arange(found.size)
    expected = LR / 2 * (1 + np.cos(np.pi * step / found.size))
    assert np.allclose(found.ravel(), expected, rtol=1e-9)
    assert found[0, 0] == LR


def test_cosine_goes_by_max_epochs_where_training_stops_before():
    X_val, Y_val = TABLE.X, TABLE.Y.sample(frac=1.0, random_state=0)
    found, model = rates(
        epochs=50, lr_schedule="cosine", early_stopping=True, n_iter_no_change=2,
        fit={"X_val": X_val, "y_val": Y_val},
    )  # fmt: skip
    assert model.n_iter_ < 50
    total = 50 * found.shape[1]
    expected = LR / 2 * (1 + math.cos(math.pi * (found.size - 1) / total))
    assert found[-1, -1] == pytest.approx(expected)


def test_one_cycle_rises_to_lr_and_falls():
    found, _ = rates(epochs=10, lr_schedule="one-cycle")
    found = found.ravel()
    top = int(found.argmax())
    assert found[top] == pytest.approx(LR, rel=0.05)
    assert found[0] == pytest.approx(LR / 25)
    assert found[-1] < LR / 1000
    assert (np.diff(found[: top + 1]) > 0).all()
    assert (np.diff(found[top:]) < 0).all()


def test_one_cycle_of_a_single_step():
    model = small(SharedBottom, lr_schedule="one-cycle", batch_size=None, max_epochs=1)
    assert model.fit(TABLE.X, TABLE.Y).n_iter_ == 1


def test_plateau_falls_after_three_epochs_without_a_better_one():
    # A wrong label for every held-out row: what is learned makes their loss worse.
    labels = pd.Series(np.arange(len(TABLE.X)) % 2, name="y")
    X = pd.DataFrame({"x": labels * 2.0 - 1.0})
    model = small(
        SharedBottom, lr=LR, lr_schedule="plateau", max_epochs=9, callbacks=[Steps()]
    ).fit(X, labels, X_val=X, y_val=1 - labels)
    losses = model.history_["valid_loss"]
    assert losses.is_monotonic_increasing
    found = np.array(noted(model, Steps).rates_).reshape(9, -1)[:, 0]
    assert np.allclose(found, [LR] * 5 + [0.3 * LR] * 4)


def test_plateau_watches_the_training_loss_where_nothing_is_held_out():
    found, _ = rates(epochs=12, lr_schedule="plateau", lr=1e-6)
    assert found[0, 0] == 1e-6
    assert found[-1, -1] < 1e-6  # steps of that size hardly change the loss


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "plateau"])
def test_a_fit_that_goes_on_begins_the_schedule_anew(schedule):
    _, model = rates(lr_schedule=schedule, warm_start=True)
    assert model.net_.optimizer_.param_groups[0]["lr"] == LR
    model.fit(TABLE.X, TABLE.Y)
    found = np.array(noted(model, Steps).rates_).reshape(8, -1)[4:]
    fresh, _ = rates(lr_schedule=schedule)
    assert np.allclose(found, fresh)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "plateau"])
def test_a_stream_keeps_the_rate(schedule):
    model = small(SharedBottom, lr=LR, lr_schedule=schedule, callbacks=[Steps()])
    for _ in range(3):
        model.partial_fit(TABLE.X, TABLE.Y)
    assert set(noted(model, Steps).rates_) == {LR}
    model = small(SharedBottom, lr=LR, lr_schedule=schedule, callbacks=[Steps()])
    model.fit(TABLE.X, TABLE.Y)
    before = len(noted(model, Steps).rates_)
    model.partial_fit(TABLE.X, TABLE.Y)
    assert set(noted(model, Steps).rates_[before:]) == {LR}


@everywhere
def test_cosine_learns(cls):
    model = small(cls, lr_schedule="cosine", lr=0.02, max_epochs=10).fit(
        TABLE.X, TABLE.targets(cls)
    )
    losses = model.history_["train_loss"]
    assert losses.iloc[-1] < 0.95 * losses.iloc[0]


# Lengths of gradients -----------------------------------------------------------------------------


def steps(cls, **params):
    """Return the gradient of a step without a limit, and the step that was taken with one of 0.01.

    Only entries with a gradient: a fit also sets those of categories that it has not seen. A step
    is taken at the rate of all, where a parameter has one of its own.
    """
    params |= {"optimizer": "sgd", "max_epochs": 1, "batch_size": None, "dtype": "float64"}
    Y = TABLE.targets(cls)
    start = small(cls, **params, lr=1e-300, callbacks=[Gradients()]).fit(TABLE.X, Y)
    end = small(cls, **params, lr=1.0, clip_norm=0.01).fit(TABLE.X, Y)
    free, before = noted(start, Gradients).first_, dict(start.module_.named_parameters())
    moved, factors = {}, end.module_.rate_factors()
    for name, p in end.module_.named_parameters():
        if name in free:
            step = (before[name] - p).detach() / factors.get(p, 1.0)
            moved[name] = step * (free[name] != 0)
    return free, moved


def length(found):
    return math.sqrt(sum(float((g**2).sum()) for g in found.values()))


@everywhere
def test_clip_norm_shortens_and_keeps_the_direction(cls):
    free, moved = steps(cls)
    assert length(free) > 0.1
    assert length(moved) == pytest.approx(0.01, rel=1e-3)
    for name, gradient in free.items():
        assert_close(moved[name], 0.01 / length(free) * gradient, rtol=1e-3, atol=1e-12)


def test_clip_norm_leaves_short_gradients_alone():
    free = small(MMoE).fit(TABLE.X, TABLE.Y)
    limited = small(MMoE, clip_norm=1e6).fit(TABLE.X, TABLE.Y)
    for name, value in free.module_.state_dict().items():
        assert torch.equal(value, limited.module_.state_dict()[name]), name


def test_clip_norm_shortens_sparse_gradients_with_the_others():
    free, moved = steps(MMoE, sparse_embeddings=True)
    dense = {name: g for name, g in free.items() if not name.startswith("embedding")}
    assert len(dense) < len(free)
    for name, gradient in free.items():
        assert_close(moved[name], 0.01 / length(dense) * gradient, rtol=1e-3, atol=1e-12)


# Rows per step and rows held out ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "size"),
    [(1, 4), (300, 4), (301, 8), (1_400, 8), (2_800, 16), (6_000, 32), (12_000, 64), (30_000, 128),
     (200_000, 256), (200_001, 1024), (10**9, 1024)],
)  # fmt: skip
def test_auto_batch_size(rows, size):
    assert auto_batch_size(rows) == size


def plain(n, **params):
    """Fit a tiny network to n rows."""
    X = np.random.default_rng(0).normal(size=(n, 2))
    labels = (X[:, 0] > 0).astype(int)
    params = {**PLAIN, "bottom_units": (2,), "tower_units": (), "max_epochs": 1, **params}
    return SharedBottom(**params, random_state=0), X, labels


@pytest.mark.parametrize("n", [100, 310, 1_500])
def test_auto_batch_size_in_a_fit_goes_by_the_rows_trained_on(n):
    model, X, y = plain(n, batch_size="auto")
    assert model.fit(X, y).net_.batch_size == auto_batch_size(n)
    model, X, y = plain(n, batch_size="auto", validation_fraction=0.1)
    assert model.fit(X, y).net_.batch_size == auto_batch_size(int(0.9 * n))


def test_auto_batch_size_of_a_stream():
    model, X, y = plain(20, batch_size="auto")
    assert model.partial_fit(X, y).net_.batch_size == 256


@pytest.mark.parametrize(("n", "stops"), [(10_000, False), (10_001, True)])
def test_auto_early_stopping_goes_by_the_rows(n, stops):
    model, X, y = plain(n, early_stopping="auto", batch_size=None)
    model.fit(X, y)
    assert ("valid_loss" in model.history_) == stops
    assert model.history_["valid_loss"].notna().all() if stops else True
    # Like a stream, whose rows all count.
    model.partial_fit(X, y)
    assert model.n_iter_ == 2


def test_auto_early_stopping_with_few_rows_records_what_is_held_out_and_goes_on():
    model, X, y = plain(
        100, early_stopping="auto", validation_fraction=0.2, max_epochs=8, n_iter_no_change=1,
        lr=1.0, batch_size=4,
    )  # fmt: skip
    model.fit(X, y)
    assert model.n_iter_ == 8
    assert model.history_["valid_loss"].notna().all()


@pytest.mark.parametrize(("n", "members"), [(60, 4), (10_000, 4), (10_001, 1)])
def test_auto_members_go_by_the_rows(n, members):
    model, X, y = plain(n, n_members="auto", batch_size=None)
    assert model.fit(X, y).module_.n_members == members
    assert model.predict(X[:5], members=True).shape == (members, 5)


def test_auto_members_stay_as_they_were(tmp_path):
    model, X, y = plain(60, n_members="auto", warm_start=True)
    model.fit(X, y)
    expected = model.predict_proba(X, members=True)
    path = tmp_path / "model.safetensors"
    model.save(path)
    for copy in (by_pickle(model), load(path)):
        assert copy.get_params()["n_members"] == "auto"
        assert np.array_equal(copy.predict_proba(X, members=True), expected)
    # A later fit on other rows goes on with the members that there are.
    more = np.repeat(X, 200, axis=0), np.repeat(y, 200)
    assert model.fit(*more).module_.n_members == 4
    assert model.partial_fit(X, y).module_.n_members == 4


def test_auto_members_of_a_stream():
    model, X, y = plain(60, n_members="auto")
    assert model.partial_fit(X, y).module_.n_members == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("lr_schedule", "step"), ("lr_schedule", None), ("clip_norm", 0.0), ("clip_norm", -1.0),
     ("n_members", 0), ("n_members", "many"), ("batch_size", "small"),
     ("early_stopping", "sometimes"), ("early_stopping", None)],
)  # fmt: skip
def test_bad_values_are_named(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of MMoE must be"):
        small(MMoE, **{name: value}).fit(TABLE.X, TABLE.Y)


# What is documented -------------------------------------------------------------------------------


@everywhere
def test_documented_defaults_are_the_defaults(cls):
    declared = dict(re.findall(r"^    (\w+) : [^\n]*, default=(.+)$", cls.__doc__, re.MULTILINE))
    defaults = cls().get_params(deep=False)
    assert declared.keys() == defaults.keys()
    for name, text in declared.items():
        assert ast.literal_eval(text) == defaults[name], name
