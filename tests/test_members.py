"""Members: several networks in one module are those networks, and predict their mean."""

from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pytest
import torch
from conftest import (
    ANY_TASK,
    ESTIMATORS,
    by_pickle,
    everywhere,
    known_to,
    make_table,
    said,
    small,
    spread,
)
from modules import (
    kinds_for,
    make_batch,
    make_estimator,
    make_inputs,
    make_labels,
    make_module,
    make_trainer,
    randn,
    randomize,
)
from skorch.callbacks import Callback
from test_balancing import need
from test_export import check_program, network
from torch import nn
from torch.testing import assert_close

import sk_mtl
from sk_mtl import CGC, ESMM, PLE, MMoE, SharedBottom
from sk_mtl._params import check_parameters
from sk_mtl._training import Objective
from sk_mtl.balancing import BALANCERS
from sk_mtl.inspection import GateDisplay, gate_weights, gradient_conflict, task_affinity
from sk_mtl.metrics import task_scorer
from sk_mtl.nn import Gates, StackedMLP, Towers, chain_rates, fold_members, mix, unfold_members
from sk_mtl.tasks import CountTask, OrdinalTask, QuantileTask, logit_slices, mean_blocks

M = 3
EXACT = {"rtol": 1e-10, "atol": 1e-12}
TABLE = make_table()


def fitted(cls=MMoE, **params):
    params = {"n_members": M, "dtype": "float64", **params}
    return small(cls, **params).fit(TABLE.X, TABLE.targets(cls))


# A module with members and the modules it stands for ----------------------------------------------


def part_of(tensor, member):
    """Return one member's part of what holds all members, one after the other."""
    return tensor.unflatten(0, (M, -1))[member]


def take_apart(module, build):
    """Return the members of a module as modules of their own, each with all of the embedding."""
    members = [build() for _ in range(M)]
    for m, alone in enumerate(members):
        state = {
            name: tensor
            if name.startswith("embedding.") or tensor.ndim == 0
            else part_of(tensor, m)
            for name, tensor in module.state_dict().items()
        }
        alone.load_state_dict(state)
    return members


def stacked_and_alone(name, kinds, **given):
    module = make_module(name, kinds=kinds, n_members=M, **given)
    return module, take_apart(module, lambda: make_module(name, kinds=kinds, seed=1, **given))


SHAPES = {
    "plain": {"activation": "relu"},
    "towers of two shapes": {"towers": 1},
    "gates with layers": {"gate_units": (10,), "n_levels": 3},
    "batch norm": {"batch_norm": True, "activation": "tanh"},
    "shared experts only": {"n_task_experts": 0, "activation": "relu"},
    "task experts only": {"n_shared_experts": 0},
}


def allowed(cls, shape):
    """Return whether an estimator may have a shape, and has one other than the plain one by it."""
    given = {name: value for name, value in shape.items() if name != "towers"}
    if given and not known_to(cls, given):
        return False
    try:
        estimator = make_estimator(cls, **given)
        check_parameters(estimator)
        estimator._check_architecture()
    except ValueError:
        return False
    return True


SHAPED = [
    pytest.param(cls, shape, id=f"{cls.__name__}-{name}")
    for cls in ESTIMATORS
    for name, shape in SHAPES.items()
    if allowed(cls, shape)
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("n_tasks", [1, 3])
@pytest.mark.parametrize(("cls", "shape"), SHAPED)
def test_outputs_are_those_of_the_members(cls, shape, n_tasks, training):
    module, alone = stacked_and_alone(cls, kinds_for(cls, n_tasks), **shape)
    inputs = make_inputs(7)
    for part in (module, *alone):
        part.train(training)
    actual = module(*inputs)
    assert_close(actual, torch.cat([each(*inputs) for each in alone], dim=1), **EXACT)
    towers = torch.cat([each.tower_logits(*inputs) for each in alone], dim=1)
    assert_close(module.tower_logits(*inputs), towers, **EXACT)
    for i in range(7) if not (training and shape.get("batch_norm")) else ():
        one = [part[i : i + 1] for part in inputs]
        assert_close(module(*one), actual[i : i + 1], **EXACT)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [SHAPES["plain"], SHAPES["gates with layers"]], ids=["a", "b"])
@everywhere
def test_the_loss_is_the_mean_of_the_members_losses(cls, shape, weighted):
    """So are its gradients: of a member's weights, and of the embedding that all read."""
    kinds = kinds_for(cls, 3)
    module, alone = stacked_and_alone(cls, kinds, **shape)
    inputs, target = make_inputs(9), make_labels(kinds, 9)
    weight = None
    if weighted:
        weight = randn(9, len(kinds), seed=3).abs()
        weight[::2, 1], target[::2, 1] = 0.0, torch.nan
    found = []
    for part in (module, *alone):
        net = make_trainer(part.train(), kinds, loss_weights=[1.0, 2.0, 0.5][: len(kinds)])
        step = net.train_step_single(make_batch(part, inputs, target, weight))
        assert step["y_pred"].shape == (9, part.n_members * len(alone[0](*inputs)[0]))
        found.append(step)
    for key in ("sums", "weights", "losses", "loss"):
        expected = torch.stack([step[key] for step in found[1:]]).mean(0)
        assert_close(found[0][key], expected, **EXACT)
    separate = [dict(part.named_parameters()) for part in alone]
    for key, parameter in module.named_parameters():
        gradients = [part[key].grad / M for part in separate]
        if key.startswith("embedding."):
            assert_close(parameter.grad, sum(gradients), **EXACT)
        else:
            for m, gradient in enumerate(gradients):
                assert_close(part_of(parameter.grad, m), gradient, **EXACT)


class Distance(Objective):
    """The tasks' losses, and how far an output without a label is from one."""

    extra_outputs = 1

    def __init__(self, tasks):
        super().__init__(tasks)
        self.names, self.regression = (*self.names, "distance"), (*self.regression, True)

    def weigh(self, target, weight):
        weight = torch.ones_like(target) if weight is None else weight
        return torch.cat([weight, torch.ones_like(target[:, :1])], dim=1)

    def forward(self, tower_logits, logits, target, weight=None):
        assert tower_logits.shape[1] == logits.shape[1] + 1
        weights = self.weigh(target, weight)
        losses = self.row_losses(logits, torch.where(weights[:, :-1] > 0, target, 0.0))
        distance = (tower_logits[:, -1:] - 1).square()
        return (torch.cat([losses, distance], dim=1) * weights).sum(0), weights.sum(0)


@dataclass(kw_only=True, eq=False, repr=False)
class WithDistance(MMoE):
    """MMoE with this objective."""

    def _build_objective(self, tasks):
        return Distance(tasks)


@dataclass(kw_only=True, eq=False, repr=False)
class ChainWithDistance(ESMM):
    """ESMM with this objective: the head of a member sees that member's outputs alone."""

    def _build_objective(self, tasks):
        return Distance(tasks)


@pytest.mark.parametrize("cls", [WithDistance, ChainWithDistance])
@pytest.mark.parametrize("balancer", ["equal", "pcgrad"])
def test_an_objective_with_a_further_output_works_unchanged(cls, balancer):
    need(balancer)
    labels = TABLE.chain if cls is ChainWithDistance else TABLE.Y
    model = small(cls, n_members=M, balancer=balancer, max_epochs=15, lr=0.05)
    model.fit(TABLE.X, labels)
    assert model.history_["train_loss_distance"].iloc[-1] < 0.1
    each = model.predict_proba(TABLE.X, members=True)
    np.testing.assert_allclose(each.mean(0), model.predict_proba(TABLE.X))
    if cls is WithDistance:
        assert set(gate_weights(model, TABLE.X)) == {*labels, "<output 0>"}
    else:
        rates = model.predict_conversion_rate(TABLE.X)
        assert rates.shape == (len(TABLE.X),)  # the further output is no step


def test_members_start_apart():
    module = make_module("PLE", n_members=M)
    fresh = small(PLE, n_members=M, max_epochs=1, lr=1e-9).fit(TABLE.X, TABLE.Y).module_
    for part in (module, fresh):
        for name, parameter in part.named_parameters():
            if not name.startswith("embedding.") and name.endswith("weight"):
                pieces = parameter.detach().unflatten(0, (M, -1))
                assert not torch.equal(pieces[0], pieces[1]), name


def test_one_member_is_the_network_as_it_was():
    one, default = (small(MMoE, **given) for given in ({"n_members": 1}, {}))
    one.fit(TABLE.X, TABLE.Y), default.fit(TABLE.X, TABLE.Y)
    for name, tensor in one.module_.state_dict().items():
        assert torch.equal(tensor, default.module_.state_dict()[name]), name
    each = one.predict_proba(TABLE.X, members=True)
    assert each.shape == (1, *default.predict_proba(TABLE.X).shape)
    assert np.array_equal(each[0], default.predict_proba(TABLE.X))
    (first, *_), (second, *_) = (gate_weights(m, TABLE.X)["income"] for m in (one, default))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 5)])
def test_folding_gives_each_member_a_row(shape):
    x = randn(*shape)
    rows = fold_members(x, M)
    assert rows.shape == (12, 2, *shape[2:])
    assert torch.equal(rows[5], x[1, 4:6])  # the last member of the second row
    assert torch.equal(unfold_members(rows, M), x)
    assert fold_members(x, 1) is x
    assert unfold_members(x, 1) is x
    assert fold_members(x[:0], M).shape == (0, 2, *shape[2:])


def test_gates_mix_the_experts_of_their_own_member():
    gates = randomize(Gates(2, 4, 5, n_members=M))
    experts = randomize(StackedMLP(5, 4, (6,), n_members=M))
    x = randn(7, 4)
    weights, values = gates(x), experts(x)
    assert weights.shape == (7, M * 2, 5)
    assert values.shape == (7, M * 5, 6)
    expected = [mix(weights[:, 2 * m : 2 * m + 2], values[:, 5 * m : 5 * m + 5]) for m in range(M)]
    assert_close(mix(weights, values), torch.cat(expected, dim=1), **EXACT)


class Alone(nn.Module):
    """A bottom that has one representation of each task, whatever it is told of members."""

    def __init__(self, in_features, n_tasks, **network):
        super().__init__()
        self.mlp = StackedMLP(n_tasks, in_features, (4,))
        self.out_features = 4

    def forward(self, x):
        return self.mlp(x)


@dataclass(kw_only=True, eq=False, repr=False)
class Forgetful(SharedBottom):
    """An architecture that does not pass `n_members` on."""

    def _build_bottom(self, in_features, n_tasks, **network):
        return Alone(in_features, n_tasks)


def test_a_bottom_without_members_is_refused():
    small(Forgetful).fit(TABLE.X, TABLE.Y)
    with pytest.raises(ValueError, match=r"gives 4 representations for 12 towers.*`n_members`"):
        small(Forgetful, n_members=M).fit(TABLE.X, TABLE.Y)
    with pytest.raises(ValueError, match="gives 2 representations for 3 towers"):
        Towers(4, [(), (), ()], [1, 1, 1])(randn(7, 2, 4).float())


# Predictions --------------------------------------------------------------------------------------

KINDS = {
    "level": OrdinalTask(order=["low", "mid", "high"]),
    "grade": "ordinal",
    "half": QuantileTask(),
    "visits": CountTask(),
}


def every_kind():
    """Return labels of every kind of task, and what their kinds are."""
    Y = TABLE.Y.copy()
    rng = np.random.default_rng(0)
    Y["city"] = np.array(["x", "y", "z"])[np.arange(len(Y)) % 3]
    Y["grade"] = (Y["wage"] > 20).astype(int)
    Y["half"] = Y["wage"] + rng.normal(size=len(Y))
    Y["visits"] = rng.poisson(np.exp(TABLE.X["hours"] / 40))
    return Y


def test_every_kind_of_task_predicts_the_mean_of_its_members():
    Y = every_kind()
    model = small(CGC, n_members=M, task_types=KINDS, max_epochs=10, dtype="float64")
    model.fit(TABLE.X, Y)
    logits = model._logits(TABLE.X)
    width = sum(task.n_logits for task in model.tasks_)
    assert logits.shape == (len(Y), M * width)
    predicted, decisions = model.predict(TABLE.X), model.decision_function(TABLE.X)
    each = model.predict(TABLE.X, members=True)
    assert each.shape == (M, *predicted.shape)
    by_name, start = model.predict_task_proba(TABLE.X, members=True), 0
    for k, (task, where) in enumerate(zip(model.tasks_, logit_slices(model.tasks_), strict=True)):
        blocks = [task.link(logits[:, m * width :][:, where]).numpy() for m in range(M)]
        assert not np.allclose(blocks[0], blocks[1])
        mean = np.mean(blocks, axis=0)
        assert np.array_equal(predicted[:, k], task.decode(mean).astype(object))
        for m, block in enumerate(blocks):
            assert np.array_equal(each[m, :, k], task.decode(block).astype(object))
        if task.classes_ is None:
            assert task.name not in by_name
            continue
        np.testing.assert_array_equal(by_name[task.name], blocks)
        np.testing.assert_allclose(model.predict_task_proba(TABLE.X)[task.name], mean, rtol=1e-14)
        found = decisions[:, start : start + (1 if len(task.classes_) == 2 else len(task.classes_))]
        start += found.shape[1]
        expected = np.log(mean[:, 1:]) - np.log(mean[:, :1]) if len(mean[0]) == 2 else np.log(mean)
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
        choice = (found[:, 0] > 0).astype(int) if found.shape[1] == 1 else found.argmax(1)
        assert np.array_equal(task.classes_[choice], predicted[:, k])
    assert start == decisions.shape[1]
    assert 0.0 < model.score(TABLE.X, Y) < 1.0


@everywhere
def test_members_of_predict_proba(cls):
    model = fitted(cls)
    each, mean = model.predict_proba(TABLE.X, members=True), model.predict_proba(TABLE.X)
    assert each.shape == (M, *mean.shape)
    assert each.std(0).max() > 1e-3
    np.testing.assert_allclose(each.mean(0), mean, rtol=1e-12)
    np.testing.assert_allclose(np.log(mean), model.predict_log_proba(TABLE.X), rtol=1e-12)
    for i in (0, 5):  # one row takes another way
        row = model.predict_proba(TABLE.X[i : i + 1], members=True)
        np.testing.assert_allclose(row, each[:, i : i + 1], rtol=1e-10)


def test_a_single_task():
    y = TABLE.Y["income"]
    model = small(SharedBottom, n_members=2, max_epochs=10).fit(TABLE.X, y)
    decision = model.decision_function(TABLE.X)
    assert decision.shape == (len(y),)
    assert np.array_equal(model.classes_[(decision > 0).astype(int)], model.predict(TABLE.X))
    assert model.score(TABLE.X, y) > 0.7
    each = model.predict(TABLE.X, members=True)
    assert each.shape == (2, len(y))
    assert set(each.ravel()) <= set(model.classes_)


def test_members_of_predict_spread_around_the_mean_of_values():
    model = fitted(SharedBottom)
    each, mean = model.predict(TABLE.X, members=True), model.predict(TABLE.X)
    k = next(k for k, task in enumerate(model.tasks_) if task.classes_ is None)
    values = each[:, :, k].astype(float)
    assert values.std(0).max() > 1e-3
    np.testing.assert_allclose(values.mean(0), mean[:, k].astype(float), rtol=1e-12)
    one = fitted(SharedBottom, n_members=1)
    assert np.array_equal(one.predict(TABLE.X, members=True)[0], one.predict(TABLE.X))


def test_decisions_of_sure_members_are_finite():
    model = fitted(SharedBottom)
    with torch.no_grad():
        for name, parameter in model.module_.towers.named_parameters():
            if name.endswith("bias"):
                parameter += 1e4
    assert (model.predict_proba(TABLE.X) == 0).any()
    assert np.isfinite(model.decision_function(TABLE.X)).all()


def test_conversion_rates_are_weighed_by_the_members_clicks():
    model = fitted(ESMM)
    each = model._logits(TABLE.X, "tower_logits").sigmoid().numpy()
    assert each.shape == (len(TABLE.X), M * 2)
    clicks, conversions = each[:, ::2], each[:, 1::2]
    rates = model.predict_conversion_rate(TABLE.X)
    expected = (clicks * conversions).sum(1) / clicks.sum(1)
    np.testing.assert_allclose(rates, expected, rtol=1e-12)
    proba = model.predict_proba(TABLE.X)
    np.testing.assert_allclose(proba[:, 3], proba[:, 1] * rates, rtol=1e-12)


def test_conversion_rates_of_clicks_that_are_next_to_impossible():
    logits = torch.tensor([[[-900.0, 2.0], [-800.0, -1.0]]], dtype=torch.float64)
    expected = torch.tensor(-1.0, dtype=torch.float64).sigmoid()
    torch.testing.assert_close(chain_rates(logits)[0, 1], expected)


def test_the_net_predicts_blocks_too():
    model = fitted(MMoE)
    logits = model._logits(TABLE.X)
    blocks = model.net_._get_predict_nonlinearity()(logits)
    expected = torch.cat(mean_blocks(model.tasks_, logits), dim=1).numpy()
    np.testing.assert_array_equal(blocks, expected)
    np.testing.assert_array_equal(
        np.delete(expected, -1, axis=1), model.predict_proba(TABLE.X)
    )  # the last task has values


def test_views():
    model = fitted(MMoE)
    for name in TABLE.Y:
        view = model.task_view(name)
        column = model.predict(TABLE.X)[:, list(TABLE.Y).index(name)]
        assert np.array_equal(view.predict(TABLE.X).astype(object), column)
        if name != "wage":
            part = model.predict_task_proba(TABLE.X)[name]
            assert np.array_equal(view.predict_proba(TABLE.X), part)


# Training -----------------------------------------------------------------------------------------


SEVERAL = ["equal", "uncertainty", "gradnorm", "pcgrad", "famo"]


@pytest.mark.parametrize(("balancer", "cls"), spread(SEVERAL, ESTIMATORS))
def test_balancers(balancer, cls):
    need(balancer)
    model = fitted(cls, balancer=balancer, max_epochs=5)
    losses = model.history_["train_loss"]
    assert losses.iloc[-1] < losses.iloc[0]
    weights = model.history_.filter(like="weight_")
    assert np.isfinite(weights.to_numpy()).all()
    assert weights.shape[1] == len(model.task_names_)


def test_gradients_are_compared_at_the_parameters():
    """The members' representations differ, so there is none that all tasks share."""
    need("mgda")
    for balancer in ("mgda", "gradnorm"):
        assert BALANCERS[balancer]().on == "auto"
        options = {"balancer": balancer, "optimizer": "sgd"}
        auto = fitted(SharedBottom, **options)
        there = small(SharedBottom, **options, n_members=M, dtype="float64")
        there.set_params(balancer=BALANCERS[balancer]().set_params(on="parameters"))
        there.fit(TABLE.X, TABLE.Y)
        for name, tensor in auto.module_.state_dict().items():
            assert torch.equal(tensor, there.module_.state_dict()[name]), name
        there.set_params(balancer__on="features")
        with pytest.raises(ValueError, match="n_members=1"):
            there.fit(TABLE.X, TABLE.Y)


@pytest.mark.parametrize("monitor", ["valid_loss", "valid_loss_level", "scorer"])
def test_early_stopping(monitor):
    if monitor == "scorer":
        monitor = task_scorer("roc_auc", "income")
    params = {"early_stopping": True, "n_iter_no_change": 3, "max_epochs": 40, "lr": 0.05}
    model = fitted(MMoE, monitor=monitor, validation_fraction=0.3, **params)
    assert model.n_iter_ < 40
    name = monitor if isinstance(monitor, str) else "valid_score"
    assert np.isfinite(model.history_[name]).all()


def test_early_stopping_restores_the_best_epoch():
    X_val, Y_val = TABLE.X[80:], TABLE.Y[80:]
    params = {"early_stopping": True, "n_iter_no_change": 3, "max_epochs": 40, "lr": 0.05}
    model = small(MMoE, n_members=M, **params, monitor=task_scorer("r2", "wage"))
    model.fit(TABLE.X[:80], TABLE.Y[:80], X_val=X_val, y_val=Y_val)
    score = task_scorer("r2", "wage")(model, X_val, Y_val)
    assert score == pytest.approx(model.history_["valid_score"].max())


@everywhere
def test_partial_fit(cls):
    model, labels = small(cls, n_members=M, lr=0.05), TABLE.targets(cls)
    before = model.partial_fit(TABLE.X[:60], labels[:60]).score(TABLE.X, labels)
    for _ in range(8):
        model.partial_fit(TABLE.X, labels)
    assert model.n_iter_ == 9
    assert model.score(TABLE.X, labels) > before


def test_warm_start():
    model = fitted(CGC, warm_start=True, max_epochs=1)
    weights = model.module_.towers.towers[0][1].weight.detach().clone()
    model.set_params(lr=1e-12).fit(TABLE.X, TABLE.Y)
    assert_close(model.module_.towers.towers[0][1].weight.detach(), weights)
    model.set_params(n_members=2)
    with pytest.raises(ValueError, match="n_members"):
        model.fit(TABLE.X, TABLE.Y)


@everywhere
def test_copies_predict_the_same(cls, tmp_path):
    model = fitted(cls)
    model.save(tmp_path / "m.safetensors")
    expected = model.predict_proba(TABLE.X, members=True)
    for copy in (by_pickle(model), sk_mtl.load(tmp_path / "m.safetensors")):
        assert np.array_equal(copy.predict_proba(TABLE.X, members=True), expected)
        assert copy.module_.n_members == copy.n_members == M


def test_a_pickle_goes_on_where_it_was():
    model = fitted(PLE, warm_start=True, balancer="uncertainty")
    copy = by_pickle(model)
    for each in (model, copy):
        each.fit(TABLE.X, TABLE.Y)
    assert np.array_equal(copy.predict_proba(TABLE.X), model.predict_proba(TABLE.X))


def test_dropout_and_batch_norm():
    model = fitted(MMoE, dropout=0.2, batch_norm=True, max_epochs=10)
    assert model.history_["train_loss"].iloc[-1] < model.history_["train_loss"].iloc[0]


@pytest.mark.parametrize("n_members", [0, True, 1.5, "2"])
def test_the_number_of_members_is_checked(n_members):
    with pytest.raises(ValueError, match=r"'n_members' parameter .* must be"):
        small(MMoE, n_members=n_members).fit(TABLE.X, TABLE.Y)


def test_predictions_that_are_not_finite_are_found_in_any_member():
    class Last(Callback):
        def on_train_end(self, net, **kwargs):
            with torch.no_grad():  # finite itself; its product is not
                net.module_.towers.towers[0][1].weight[-1] = 3e38

    with pytest.raises(sk_mtl.NonFiniteLossError, match=r"predictions of task 'income'"):
        small(MMoE, n_members=2, callbacks=[Last()], tower_units=()).fit(TABLE.X, TABLE.Y["income"])


# Inspection and export ----------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [MMoE, CGC, PLE])
def test_gate_weights_of_all_members_sum_to_one(cls):
    model = fitted(cls)
    found = gate_weights(model, TABLE.X)
    assert set(found) - {"<shared>"} == set(TABLE.Y)
    first = next(part for part in model.module_.modules() if isinstance(part, Gates))
    rows = []
    handle = first.register_forward_hook(lambda _m, _i, out: rows.append(out.detach().numpy()))
    model.predict(TABLE.X)
    handle.remove()
    (raw,) = rows
    n_tasks, n_experts = len(model.task_names_), raw.shape[2]
    for k, name in enumerate(TABLE.Y):
        for weights in found[name]:
            assert weights.shape[0] == len(TABLE.X)
            assert weights.shape[1] % M == 0
            np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-12)
        for m in range(M):
            part = found[name][0][:, m * n_experts : (m + 1) * n_experts]
            np.testing.assert_array_equal(part, raw[:, m * n_tasks + k] / M)
    if cls is PLE:
        np.testing.assert_allclose(found["<shared>"][0].sum(1), 1.0, rtol=1e-12)


def test_gate_display():
    mpl.use("Agg")
    display = GateDisplay.from_estimator(fitted(MMoE), TABLE.X)
    assert all(len(mean[0]) == 3 * M for mean in display.means.values())


@pytest.mark.parametrize("cls", [cls for cls in ANY_TASK if not said(cls, "SHARES_NOTHING")])
def test_diagnostics_of_tasks(cls):
    model = fitted(cls)
    conflict = gradient_conflict(model, TABLE.X, TABLE.Y)
    assert np.allclose(np.diag(conflict.cosine), 1.0)
    affinity = task_affinity(model, TABLE.X, TABLE.Y, lr=1e-3, random_state=0)
    assert (np.diag(affinity) > 0).all()


@everywhere
def test_export(cls):
    check_program(*network(cls, n_members=2))


@everywhere
def test_compiles_without_graph_breaks(cls):
    module, inputs = make_module(cls, gate_units=(10,), towers=1, n_members=M), make_inputs(7)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    assert_close(compiled(*inputs), module(*inputs), **EXACT)
