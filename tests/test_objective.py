"""The objective: unbiased at any batch size, in named terms, with a penalty beside it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_table, per_row, small, takes_anything

from sk_mtl import MMoE, SharedBottom
from sk_mtl._training import Criterion, Objective
from sk_mtl.balancing import BALANCERS, EqualBalancer, LossBalancer
from sk_mtl.data import Batches, Rows
from sk_mtl.tasks import KINDS, BinaryTask, Column, CountTask, OrdinalTask, QuantileTask, make_tasks


def gradient(criterion, z, rows, batch_size, *, own_ratio=False):
    """Return the mean of the batches' gradients over one epoch in order."""
    found, batches = [], list(Batches(rows, batch_size))
    for batch in batches:
        logits = z[batch.parts["position"][:, 0]]
        sums, weights = criterion(logits, logits, batch.target, batch.weight)
        if own_ratio:
            losses = sums / torch.where(weights > 0, weights, 1.0)
        else:
            losses = criterion.estimate(sums, batch.n_rows)
        (g,) = torch.autograd.grad(losses.sum(), [z])
        found.append(g)
    return torch.stack(found).mean(0)


def every_kind(n, seed=0):
    """Return labels of every kind of task, with gaps, classes out of balance and weights."""
    rng = np.random.default_rng(seed)
    labels = {
        "binary": (rng.random(n) < 0.1).astype(int),
        "balanced": (rng.random(n) < 0.02).astype(int),
        "rare": rng.integers(0, 2, n),
        "multiclass": rng.choice(["a", "b", "c"], n, p=[0.8, 0.15, 0.05]),
        "ordinal": rng.integers(0, 4, n),
        "regression": rng.normal(size=n),
        "quantile": rng.normal(size=n),
        "count": rng.poisson(2.0, n),
    }
    kinds = ["binary", BinaryTask(class_weight="balanced"), "binary", "multiclass", OrdinalTask(),
             "regression", QuantileTask(quantile=0.8), CountTask()]  # fmt: skip
    seen = rng.random((n, len(labels))) < 0.7
    seen[:, 2] = rng.random(n) < 0.03
    weight = rng.lognormal(0, 2, (n, len(labels))) * seen
    columns = [
        Column(name, values[where], where)
        for (name, values), where in zip(labels.items(), seen.T, strict=True)
    ]
    tasks = make_tasks(columns, kinds, weight)
    assert {task.kind for task in tasks} == set(KINDS)
    targets = np.full(seen.shape, np.nan)
    for k, (task, column) in enumerate(zip(tasks, columns, strict=True)):
        targets[column.observed, k] = task.encode(column.values)
        factor = task.label_weight(targets[column.observed, k])
        if factor is not None:
            weight[column.observed, k] *= factor
    return tasks, targets, weight


@pytest.mark.parametrize("batch_size", [2, 16, 64, 256])
@pytest.mark.parametrize("own_ratio", [False, True])
def test_the_batches_gradients_average_to_the_full_one(batch_size, own_ratio):
    """Weights, class weights, gaps, every kind of task: no batch size changes what is minimized.

    The mean of ratios (what DeepCTR-Torch, torch-rechub and 0.1 of this package do) is another
    gradient: the same check finds it.
    """
    n = 512
    tasks, targets, weight = every_kind(n)
    rows = Rows({"position": np.arange(n)[:, None]}, targets, weight, dtype=torch.float64)
    criterion = Criterion(Objective(tasks), EqualBalancer()).double()
    criterion.count(rows, "cpu")
    torch.manual_seed(0)
    z = torch.randn(n, sum(task.n_logits for task in tasks), dtype=torch.float64)
    z.requires_grad_()
    full = gradient(criterion, z, rows, n)
    exact = gradient(criterion, z, rows, n, own_ratio=True)
    assert torch.allclose(full, exact, rtol=1e-9, atol=0)  # all rows: the weighted mean itself
    found = gradient(criterion, z, rows, batch_size, own_ratio=own_ratio)
    assert torch.allclose(full, found, rtol=1e-9, atol=1e-15) is not own_ratio


@pytest.mark.parametrize("cls", per_row())
def test_through_estimators(cls):
    """An epoch with a learning rate of nearly zero: the mean step is the full step."""
    table = make_table(n=128)
    Y = table.targets(cls).copy()
    weight = np.random.default_rng(0).lognormal(0, 2, len(Y))
    kinds = "auto" if takes_anything(cls) else BinaryTask(class_weight="balanced")
    moves = {}
    for batch_size in (8, 32, 128):
        model = small(cls, batch_size=batch_size, max_epochs=1, optimizer="sgd", lr=1e-9,
                      dtype="float64", task_types=kinds, sparse_embeddings=False)  # fmt: skip
        model.fit(table.X, Y, weight)
        fresh = model._build_module(
            model.tasks_, model._fitted_.encoder.spec_,
            torch.Generator().manual_seed(model._fitted_.seed),
        ).double()  # fmt: skip
        steps = 128 // batch_size
        moves[batch_size] = torch.cat(
            [
                ((q - p) / steps).flatten().detach()
                for (name, p), q in zip(
                    fresh.named_parameters(), model.module_.parameters(), strict=True
                )
                if "tables" not in name  # special slots are set at the end
            ]
        )
    for batch_size in (8, 32):
        scale = moves[128].abs().max()
        assert torch.allclose(moves[batch_size], moves[128], rtol=1e-3, atol=1e-4 * scale)


@pytest.mark.parametrize("batch_size", [64, 256, None])
def test_the_prior_of_weighted_labels_is_learned_at_any_batch_size(batch_size):
    """0.5 % positives that weigh as much as the rest: 0.5, where a ratio per batch gives 0.23."""
    n = 10_000
    y = (np.arange(n) % 200 == 0).astype(int)
    X = np.random.default_rng(0).standard_normal((n, 2))
    epochs = {64: 8, 256: 20, None: 400}[batch_size]
    params = {"bottom_units": (4,), "tower_units": (), "lr": 1e-2, "random_state": 0}
    model = SharedBottom(
        task_types=BinaryTask(class_weight="balanced"),
        max_epochs=epochs, batch_size=batch_size, **params,
    ).fit(X, y)  # fmt: skip
    assert 0.45 < model.predict_proba(X)[:, 1].mean() < 0.55


def test_history_tells_the_weighted_mean_over_all_rows():
    """With a network that does not move, whatever the batch size."""
    table = make_table()
    weight = np.random.default_rng(0).lognormal(0, 2, len(table.Y))
    losses = []
    for batch_size in (7, 120):
        model = small(MMoE, optimizer="sgd", lr=1e-12, batch_size=batch_size, dtype="float64")
        losses.append(
            model.fit(table.X, table.Y, weight).history_.iloc[0].filter(like="train_loss")
        )
    pd.testing.assert_series_equal(*losses, rtol=1e-6)


# Terms --------------------------------------------------------------------------------------------


class TwoTerms(Objective):
    """The labels' mean loss, and how far a third output without a label is from the first."""

    extra_outputs = 1

    def __init__(self, tasks):
        super().__init__(tasks)
        self.names, self.regression = ("labels", "distance"), (False, True)

    def weigh(self, target, weight):
        ones = torch.ones_like(target[:, :1]) if weight is None else weight.amax(1, keepdim=True)
        return ones.expand(-1, 2)

    def forward(self, tower_logits, logits, target, weight=None):
        assert tower_logits.shape[1] == 3
        assert logits.shape[1] == 2
        weights = self.weigh(target, weight)
        known = torch.where(target.isnan(), 0.0, target)
        labels = (self.row_losses(logits, known) * ~target.isnan()).mean(1)
        distance = (tower_logits[:, 2] - tower_logits[:, 0].detach() - 1).square()
        losses = torch.stack([labels, distance], dim=1)
        return (losses * weights).sum(0), weights.sum(0)


@dataclass(kw_only=True, eq=False, repr=False)
class TwoTermBottom(SharedBottom):
    """Shared-Bottom with this objective."""

    def _build_objective(self, tasks):
        return TwoTerms(tasks)


@dataclass(kw_only=True, eq=False, repr=False)
class TwoTermMMoE(MMoE):
    """MMoE with this objective."""

    def _build_objective(self, tasks):
        return TwoTerms(tasks)


@pytest.fixture
def binary():
    table = make_table(n=160)
    return table.X, table.Y[["income", "married"]]


@pytest.mark.parametrize("cls", [TwoTermBottom, TwoTermMMoE])
@pytest.mark.parametrize("balancer", sorted(BALANCERS))
def test_two_terms_over_three_outputs(binary, cls, balancer):
    """Balancers, history and fixed weights go by term; the third output is not predicted."""
    X, Y = binary
    model = small(cls, balancer=balancer, loss_weights={"distance": 2.0}).fit(X, Y)
    names = {name for name in model.history_ if name.startswith(("train_loss_", "weight_"))}
    assert names >= {"train_loss_labels", "train_loss_distance", "weight_labels"}
    assert model.predict_proba(X).shape == (160, 4)
    assert model.decision_function(X).shape == (160, 2)
    assert model.module_.towers(model.module_.represent(prepared(model, X))).shape == (160, 3)


def prepared(model, X):
    from sk_mtl.data.checks import check_rows

    parts = model._fitted_.encoder.transform(check_rows(model, X, model._fitted_.encoder.names_))
    return model.module_.prepare(Rows(parts).parts)


def test_the_output_without_a_label_learns_its_term(binary):
    X, Y = binary
    model = small(TwoTermBottom, max_epochs=60, lr=0.02).fit(X, Y)
    logits = model.module_.towers(model.module_.represent(prepared(model, X)))
    assert (logits[:, 2] - logits[:, 0] - 1).square().mean() < 0.2
    assert model.history_["train_loss_distance"].iloc[-1] < 0.2


def test_loss_weights_name_terms(binary):
    with pytest.raises(ValueError, match="names the task 'income'"):
        small(TwoTermBottom, loss_weights={"income": 2.0}).fit(*binary)


def test_monitor_names_terms(binary):
    X, Y = binary
    model = small(TwoTermBottom, early_stopping=True, monitor="valid_loss_distance").fit(X, Y)
    assert "valid_loss_distance" in model.history_
    with pytest.raises(ValueError, match="valid_loss_income"):
        small(TwoTermBottom, early_stopping=True, monitor="valid_loss_income").fit(X, Y)


# Penalty ------------------------------------------------------------------------------------------


@dataclass(kw_only=True, eq=False, repr=False)
class Penalized(SharedBottom):
    """Shared-Bottom that pays for large activations of its bottom."""

    price: float = 0.0

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any):
        bottom = super()._build_bottom(in_features, n_tasks, **network)
        price = self.price

        class WithPenalty(type(bottom)):
            def forward(self, x):
                out = super().forward(x)
                self.last = out if self.training else None
                return out

            def penalty(self):
                return price * self.last.square().mean()

        if price:
            bottom.__class__ = WithPenalty
        return bottom


Penalized.__dataclass_fields__["price"].metadata = {"constraints": [object]}


@pytest.mark.parametrize("balancer", ["equal", "uncertainty", "gradnorm", "famo", "pcgrad"])
def test_a_penalty_counts_in_training_only(balancer):
    table = make_table()
    models = [
        small(Penalized, price=price, balancer=balancer, max_epochs=5, validation_fraction=0.2).fit(
            table.X, table.Y
        )
        for price in (0.0, 100.0)
    ]
    sizes = [
        model.module_.represent(prepared(model, table.X)).square().mean().item() for model in models
    ]
    assert sizes[1] < 0.5 * sizes[0]
    assert "train_penalty" not in models[0].history_
    assert models[1].history_["train_penalty"].is_monotonic_decreasing
    assert set(models[0].history_) == set(models[1].history_) - {"train_penalty"}


# Absence ------------------------------------------------------------------------------------------


class Present(LossBalancer):
    """Note which tasks each step has."""

    def __init__(self):
        super().__init__()
        vars(self)["seen"] = []

    def forward(self, losses, present=None):
        self.seen.append(None if present is None else present.tolist())
        assert torch.equal(losses[present] > 0, torch.ones_like(losses[present], dtype=torch.bool))
        return losses.sum()


class Simple(LossBalancer):
    """Take the losses alone."""

    def forward(self, losses):
        return (losses + 1).log().sum()


def test_a_task_is_absent_by_its_weight():
    X = np.random.default_rng(0).normal(size=(64, 3))
    Y = np.column_stack([np.arange(64) % 2, np.full(64, np.nan)]).astype(float)
    Y[::16, 1] = [0, 1, 0, 1]
    model = small(SharedBottom, balancer=Present(), batch_size=8, max_epochs=1).fit(X, Y)
    seen = model.net_.criterion_.balancer.seen
    assert [True, False] in seen
    assert [True, True] in seen
    assert model.history_["weight_task_1"].iloc[0] == 1.0  # the mean over steps that have it


def test_a_balancer_may_take_the_losses_alone():
    X = np.random.default_rng(0).normal(size=(64, 3))
    Y = np.column_stack([np.arange(64) % 2, np.full(64, np.nan)]).astype(float)
    Y[:4, 1] = [0, 1, 0, 1]
    model = small(SharedBottom, balancer=Simple(), batch_size=8).fit(X, Y)
    assert np.isfinite(model.history_["train_loss"]).all()
