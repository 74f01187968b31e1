"""AITM and ResFlow: ordered tasks, each of which builds on the one before."""

import warnings

import numpy as np
import pytest
import reference.aitm
import reference.resflow
import torch
from conftest import known_to, make_table, small
from modules import (
    build_module,
    layers_of,
    make_inputs,
    make_module,
    make_task,
    make_tasks,
    randn,
    randomize,
)
from sklearn.base import is_classifier, is_regressor
from torch.testing import assert_close

from sk_mtl import AITM, ESMM, MMoE, ResFlow, SingleTask
from sk_mtl._training import Criterion, Objective
from sk_mtl.architectures import AITMBottom, ResFlowBottom, SingleTaskBottom
from sk_mtl.balancing import EqualBalancer
from sk_mtl.inspection import transfer_weights
from sk_mtl.nn import CumulativeLogits, StackedMLP, StepAttention, StepTransfer
from sk_mtl.tasks import OrdinalTask

EXACT = {"rtol": 1e-10, "atol": 1e-12}
TABLE = make_table()


def longer():
    """Return a chain of three steps."""
    third = TABLE.chain["conversion"] * (np.arange(120) % 3 > 0)
    return TABLE.chain.assign(again=third.astype(int))


def gradient_of(output, parameters):
    """Return the largest gradient of each parameter, zero where no path leads to it."""
    found = torch.autograd.grad(output, list(parameters), allow_unused=True, retain_graph=True)
    return [0.0 if g is None else g.abs().max().item() for g in found]


# AITM's bottom ------------------------------------------------------------------------------------


def attention(features=5, **given):
    return randomize(StepAttention(features, **given))


def test_two_equal_vectors_give_their_own_value():
    """Whatever the weights are: they sum to one."""
    part, q = attention(), randn(7, 1, 5)
    expected = q[:, 0] @ part.maps.weight[2].T
    assert_close(part(q, q)[:, 0], expected, **EXACT)


@pytest.mark.parametrize("which", [0, 1])
def test_without_keys_or_queries_both_count_half(which):
    part, q, p = attention(), randn(7, 1, 5), randn(7, 1, 5, seed=1)
    with torch.no_grad():
        part.maps.weight[which] = 0.0
    expected = (q + p)[:, 0] @ part.maps.weight[2].T / 2
    assert_close(part(q, p)[:, 0], expected, **EXACT)


def test_scores_are_divided_by_the_root_of_the_width():
    part, q, p = attention(4), randn(7, 1, 4), randn(7, 1, 4, seed=1)
    seen = []
    part.share.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    part(q, p)
    w1, w2, _ = part.maps.weight
    own, handed = (((u @ w1.T) * (u @ w2.T)).sum(1) / 2 for u in (q[:, 0], p[:, 0]))
    assert_close(seen[0][:, 0], own - handed, **EXACT)


def test_each_member_attends_by_its_own_matrices():
    part = attention(n_members=3)
    q, p = randn(7, 3, 5), randn(7, 3, 5, seed=1)
    for m in range(3):
        alone = attention()
        with torch.no_grad():
            alone.maps.weight.copy_(part.maps.weight[3 * m : 3 * m + 3])
        assert_close(part(q, p)[:, m : m + 1], alone(q[:, m : m + 1], p[:, m : m + 1]), **EXACT)


def test_matrices_start_small_or_as_glorot_has_it():
    paper = StepAttention(64, generator=torch.Generator().manual_seed(0)).maps.weight
    assert paper.std().item() == pytest.approx(0.01, rel=0.05)
    assert paper.abs().max() > 0.03  # normal, not uniform
    glorot = StepAttention(64, init="glorot").maps.weight
    bound = (6 / 128) ** 0.5
    assert glorot.abs().max() <= bound
    assert glorot.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)
    given = build_module(AITM, ("binary",) * 2, bottom_units=(64,), attention_init=0.3).bottom
    assert given.transfer.attention.maps.weight.std().item() == pytest.approx(0.3, rel=0.05)


def fresh_bottom(n_tasks, **given):
    return randomize(AITMBottom(6, n_tasks, units=(9, 5), activation="tanh", **given))


def test_one_attention_and_no_bias_in_it():
    names = dict(fresh_bottom(4).named_parameters())
    assert {name for name in names if "attention" in name} == {"transfer.attention.maps.weight"}
    assert names["transfer.attention.maps.weight"].shape == (3, 5, 5)
    assert len([name for name in names if name.startswith("transfer.transfers")]) == 6


class FromOwn(StepTransfer):
    """Hands on the network before in place of the fused vector."""

    def forward(self, steps):
        before, fused = steps[0], [steps[0]]
        for own, transfer in zip(steps[1:], self.transfers, strict=True):
            fused.append(self.attention(own, transfer(before)))
            before = own
        return torch.stack(fused, dim=2)


class Linear(StepTransfer):
    """Hands on without an activation (MTReclib, MMLRec, STEM's port, NextRec)."""

    def forward(self, steps):
        for transfer in self.transfers:
            transfer.layers[1] = torch.nn.Identity()
        return super().forward(steps)


class Unscaled(StepAttention):
    """Does not divide the scores."""

    def forward(self, own, handed):
        factor = own.shape[-1] ** 0.25
        with torch.no_grad():
            self.maps.weight[:2] *= factor
        return super().forward(own, handed)


@pytest.mark.parametrize("wrong", [FromOwn, Linear, Unscaled, None])
def test_mistakes_are_seen_in_the_third_step(wrong):
    bottom, x = fresh_bottom(3), randn(7, 6)
    expected = torch.stack(
        [torch.stack(row) for row in reference.aitm.bottom(bottom, list(x), torch.tanh)]
    )
    if wrong is not None:
        part = bottom.transfer if issubclass(wrong, StepTransfer) else bottom.transfer.attention
        part.__class__ = wrong
    same = torch.allclose(bottom(x)[:, 2], expected[:, 2])
    assert same is (wrong is None)
    assert torch.allclose(bottom(x)[:, 0], expected[:, 0])


@pytest.mark.parametrize("n_tasks", [2, 3])
def test_a_loss_reaches_its_step_and_those_before(n_tasks):
    bottom = fresh_bottom(n_tasks)
    out = bottom(randn(7, 6))
    before = list(bottom.before.parameters())
    for t in range(n_tasks):
        found = torch.autograd.grad(out[:, t].sum(), before, retain_graph=True)
        for gradient in found:
            reached = [bool(piece.any()) for piece in gradient]
            assert reached == [k <= t for k in range(n_tasks - 1)]
        parts = [*bottom.transfer.transfers, bottom.last]
        reached = [max(gradient_of(out[:, t].sum(), part.parameters())) > 0 for part in parts]
        assert reached == [*(k < t for k in range(n_tasks - 1)), t == n_tasks - 1]


@pytest.mark.parametrize("n_tasks", [1, 2, 3])
def test_what_is_said_to_be_one_tasks_own(n_tasks):
    """Exactly those parameters that no loss but the last reaches."""
    bottom = fresh_bottom(n_tasks)
    out = bottom(randn(7, 6))
    everything = dict(bottom.named_parameters())
    own = {id(p) for p in bottom.own_parameters()}
    for name, parameter in everything.items():
        reached = [gradient_of(out[:, t].sum(), [parameter])[0] > 0 for t in range(n_tasks)]
        assert reached[-1], name
        assert (sum(reached) == 1) == (id(parameter) in own), name


def test_one_task_is_a_network_alone():
    bottom, x = fresh_bottom(1), randn(7, 6)
    single = SingleTaskBottom(6, 1, units=(9, 5), activation="tanh").double()
    single.load_state_dict(
        {name.replace("last", "mlps"): value for name, value in bottom.state_dict().items()}
    )
    assert torch.equal(bottom(x), single(x))
    given = {"bottom_units": (8,), "tower_units": (4,)}
    first = small(AITM, calibrator=0, **given).fit(TABLE.X, TABLE.Y["wage"])
    second = small(SingleTask, shared_embedding=True, **given).fit(TABLE.X, TABLE.Y["wage"])
    np.testing.assert_array_equal(first.predict(TABLE.X), second.predict(TABLE.X))


# AITM's penalty -----------------------------------------------------------------------------------


def criterion_of(n_tasks=3, calibrator=0.6):
    objective = AITM(calibrator=calibrator)._build_objective(make_tasks(("binary",) * n_tasks))
    criterion = Criterion(objective, EqualBalancer()).double()
    criterion.n_rows, criterion.row_weight = 1, 1.0
    return criterion


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_tasks", [2, 3])
def test_the_penalty_equals_the_loops(n_tasks, weighted):
    criterion, z = criterion_of(n_tasks), randn(9, n_tasks).requires_grad_()
    weight = randn(9, n_tasks, seed=2).abs() if weighted else None
    weights = [1.0] * 9
    if weighted:
        weight[::2, 1] = 0.0  # of a missing label: the row weighs what its others do
        weights = weight.amax(1).tolist()
        criterion.n_rows, criterion.row_weight = 9, sum(weights)
    actual = criterion.penalty(z, z, weight)
    expected = reference.aitm.penalty(list(z), weights, 0.6)
    assert actual > 0
    assert_close(actual, expected, **EXACT)
    assert_close(*(torch.autograd.grad(one, z)[0] for one in (actual, expected)), **EXACT)


def test_the_penalty_is_a_mean_that_copies_of_a_batch_leave():
    """One public port sums it over the batch."""
    criterion, z = criterion_of(), randn(9, 3)
    twice = torch.cat([z, z])
    once = criterion.penalty(z, z, None)
    assert_close(criterion.penalty(twice, twice, None), once, **EXACT)
    summed = criterion.objective.row_penalty(twice, twice).sum()
    assert not torch.allclose(summed, criterion.objective.row_penalty(z, z).sum())
    # Nor is it a mean over pairs (NextRec).
    assert_close(once, 0.6 * z.sigmoid().diff(dim=1).clamp(min=0).mean(0).sum(), **EXACT)


def test_no_penalty_where_probabilities_fall():
    falling = randn(9, 3).sort(1, descending=True).values.requires_grad_()
    penalty = criterion_of().penalty(falling, falling, None)
    assert penalty == 0
    (gradient,) = torch.autograd.grad(penalty, falling)
    assert torch.equal(gradient, torch.zeros(9, 3).double())


def test_the_penalty_lifts_the_step_before_and_lowers_the_step_after():
    z = torch.tensor([[-1.0, 1.0]]).double().requires_grad_()
    (gradient,) = torch.autograd.grad(criterion_of(2).penalty(z, z, None), z)
    slope = z.sigmoid() * (1 - z.sigmoid())
    expected = 0.6 * slope * torch.tensor([[-1.0, 1.0]])
    assert_close(gradient, expected, **EXACT)


def test_without_a_calibrator_there_is_no_penalty():
    criterion = criterion_of(calibrator=0.0)
    assert type(criterion.objective) is Objective
    assert criterion.penalty(randn(9, 3), randn(9, 3), None) is None


def violation(model):
    proba = model.predict_proba(TABLE.X)
    return np.maximum(proba[:, 3] - proba[:, 1], 0).mean()


def test_training_with_the_calibrator_keeps_the_order():
    """Labels of the steps are mostly missing: nothing but the penalty ties them."""
    Y = TABLE.chain.astype(float)
    Y.loc[Y.index % 2 == 0, "click"] = np.nan
    Y.loc[Y.index % 2 == 1, "conversion"] = np.nan
    Y.loc[(Y["conversion"] == 1), "click"] = 1
    Y.loc[(Y["click"] == 0), "conversion"] = 0
    given = {"max_epochs": 8, "lr": 0.02}
    free = small(AITM, calibrator=0, **given).fit(TABLE.X, Y)
    bound = small(AITM, calibrator=20.0, **given).fit(TABLE.X, Y)
    assert violation(free) > 1e-3
    assert violation(bound) < 0.2 * violation(free)
    assert "train_penalty" in bound.history_
    assert "train_penalty" not in free.history_


# AITM as an estimator -----------------------------------------------------------------------------


def test_without_a_calibrator_it_takes_any_tasks():
    model = small(AITM, calibrator=0).fit(TABLE.X, TABLE.Y)
    assert model.predict(TABLE.X).shape == (120, 4)
    assert set(transfer_weights(model, TABLE.X)) == {"married", "level", "wage"}
    with pytest.raises(ValueError, match="AITM takes binary tasks only, and task 'level'"):
        small(AITM).fit(TABLE.X, TABLE.Y)
    with pytest.raises(ValueError, match="AITM needs at least two tasks"):
        small(AITM).fit(TABLE.X, TABLE.chain["click"])


@pytest.mark.parametrize(
    ("task_types", "classifier", "regressor"),
    [("auto", False, False), ("binary", True, False), ("regression", False, True)],
)
def test_without_a_calibrator_its_type_follows_the_tasks(task_types, classifier, regressor):
    model = AITM(calibrator=0, task_types=task_types)
    assert (is_classifier(model), is_regressor(model)) == (classifier, regressor)
    assert is_classifier(AITM(task_types=task_types))


def test_without_a_calibrator_no_label_is_filled_in():
    gappy = TABLE.chain.astype(float)
    gappy.loc[gappy["click"] == 0, "conversion"] = np.nan
    models = {
        (calibrator, name): small(AITM, calibrator=calibrator).fit(TABLE.X, Y)
        for calibrator in (0, 0.6)
        for name, Y in (("gappy", gappy), ("whole", TABLE.chain))
    }
    proba = {key: model.predict_proba(TABLE.X) for key, model in models.items()}
    np.testing.assert_array_equal(proba[0.6, "gappy"], proba[0.6, "whole"])
    assert not np.allclose(proba[0, "gappy"], proba[0, "whole"], rtol=1e-4)
    turned = TABLE.chain.assign(click=1 - TABLE.chain["click"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small(AITM, calibrator=0).fit(TABLE.X, turned)
    with pytest.warns(UserWarning, match="rows have come to a step"):
        small(AITM).fit(TABLE.X, turned)


@pytest.mark.parametrize(
    "given", [{"calibrator": -1.0}, {"attention_init": 0.0}, {"attention_init": "xavier"}], ids=str
)
def test_wrong_parameters_are_named(given):
    (name,) = given
    with pytest.raises(ValueError, match=f"'{name}' parameter of AITM"):
        small(AITM, **given).fit(TABLE.X, TABLE.chain)


@pytest.mark.parametrize("cls", [AITM, ResFlow])
def test_towers_are_linear_by_default(cls):
    plain = {"max_epochs": 1, "bottom_units": (8,), "n_members": 1}
    model = cls(**plain).fit(TABLE.X, TABLE.chain)
    assert [name for name, _ in model.module_.towers.named_parameters()] == [
        "towers.0.1.weight",
        "towers.0.1.bias",
    ]
    assert cls.__doc__.count("\n    tower_units : ") == 1
    assert "default=()" in cls.__doc__
    assert ESMM.__doc__.count("\n    tower_units : tuple of int, list of tuples or dict, def") == 1


# transfer_weights ---------------------------------------------------------------------------------


def test_transfer_weights_are_the_attentions():
    model = small(AITM, dtype="float64", max_epochs=4).fit(TABLE.X, longer())
    weights = transfer_weights(model, TABLE.X)
    assert list(weights) == ["conversion", "again"]
    bottom = model.module_.bottom
    seen = []
    bottom.register_forward_hook(lambda _m, inputs, _o: seen.append(inputs[0]))
    model.predict(TABLE.X)
    x = seen[0].clone()  # of a prediction's own kind, which autograd does not take
    first, second, third = bottom.before(x)[:, 0], bottom.before(x)[:, 1], bottom.last(x)[:, 0]
    w1, w2, w3 = bottom.transfer.attention.maps.weight
    z = first
    for t, (name, q) in enumerate(zip(weights, (second, third), strict=True)):
        p = bottom.transfer.transfers[t](z)[:, 0]
        scores = torch.stack([(u @ w1.T * (u @ w2.T)).sum(1) for u in (q, p)], dim=1)
        expected = (scores / first.shape[1] ** 0.5).softmax(1)
        np.testing.assert_allclose(weights[name], expected.detach().numpy(), rtol=1e-10)
        z = expected[:, :1] * (q @ w3.T) + expected[:, 1:] * (p @ w3.T)


@pytest.mark.parametrize("n_members", [1, 3])
def test_transfer_weights_row_by_row(n_members):
    model = small(AITM, n_members=n_members, attention_init=1.0).fit(TABLE.X, longer())
    whole = transfer_weights(model, TABLE.X)
    for name, weights in whole.items():
        assert weights.shape == (120, 2)
        np.testing.assert_allclose(weights.sum(1), 1.0, rtol=1e-6)
        assert weights.std() > 0
        parts = [transfer_weights(model, TABLE.X[rows])[name] for rows in
                 (slice(0, 50), slice(50, 120))]  # fmt: skip
        np.testing.assert_allclose(np.concatenate(parts), weights, rtol=1e-5)


def test_transfer_weights_of_more_rows_than_one_batch():
    model = small(AITM).fit(TABLE.X, longer())
    many = TABLE.X.iloc[np.arange(5000) % 120]
    whole, once = transfer_weights(model, many), transfer_weights(model, TABLE.X)
    for name, weights in whole.items():
        np.testing.assert_allclose(weights, once[name][np.arange(5000) % 120], rtol=1e-5)


def test_transfer_weights_leave_the_model_alone():
    model = small(AITM).fit(TABLE.X, TABLE.chain)
    transfer_weights(model, TABLE.X)
    assert not model.module_.bottom.transfer.attention.share._forward_hooks


@pytest.mark.parametrize("cls", [MMoE, ESMM])
def test_transfer_weights_of_others(cls):
    with pytest.raises(ValueError, match=f"This {cls.__name__} has no attention between steps"):
        transfer_weights(small(cls).fit(TABLE.X, TABLE.chain), TABLE.X)


# ResFlow ------------------------------------------------------------------------------------------


def flow(n_tasks=3, activation="relu"):
    return make_module(
        ResFlow,
        kinds=("binary",) * n_tasks,
        bottom_units=(9, 8),
        tower_units=(5,),
        activation=activation,
    )


def silence(*, module, hidden, logits):
    """Make the first task's layers, or its logit, all zero: it has nothing to hand on."""
    with torch.no_grad():
        if hidden:
            for layer in module.bottom.layers:
                for parameter in layer.parameters():
                    parameter[0] = 0.0
        if logits:
            for tower in module.towers.towers:
                for parameter in tower[1].parameters():
                    parameter[0] = 0.0


def alone(module, k, numeric, codes):
    """Return the last layer of one task's network, run without the others."""
    x = module.embedding({"numeric": numeric, "categorical": codes})
    for layer in module.bottom.layers:
        weight, bias = layers_of(layer)[k][0]
        x = torch.relu(x @ weight.T + bias)
    return x


def logit(module, k, h):
    (tower,) = module.towers.towers
    return h @ tower[1].weight[k, 0] + tower[1].bias[k, 0]


def linear_towers():
    return make_module(
        ResFlow, kinds=("binary",) * 2, bottom_units=(9, 8), tower_units=(), activation="relu"
    )


def test_with_nothing_to_hand_on_it_is_single_tasks():
    module, inputs = linear_towers(), make_inputs(7)
    silence(module=module, hidden=True, logits=True)
    expected = logit(module, 1, alone(module, 1, *inputs))
    assert_close(module(*inputs)[:, 1], expected, **EXACT)


def test_logits_alone_flow_where_hidden_layers_do_not():
    module, inputs = linear_towers(), make_inputs(7)
    silence(module=module, hidden=True, logits=False)
    first = logit(module, 0, alone(module, 0, *inputs))  # its bias: its layers are zero
    expected = logit(module, 1, alone(module, 1, *inputs)) + first
    assert_close(module(*inputs)[:, 1], expected, **EXACT)


def test_hidden_layers_alone_flow_where_logits_do_not():
    module, inputs = linear_towers(), make_inputs(7)
    silence(module=module, hidden=False, logits=True)
    x = module.embedding({"numeric": inputs[0], "categorical": inputs[1]})
    h = [x, x]
    for layer in module.bottom.layers:
        (w0, b0), (w1, b1) = (layers_of(layer)[k][0] for k in (0, 1))
        first = torch.relu(h[0] @ w0.T + b0)
        h = [first, first + torch.relu(h[1] @ w1.T + b1)]
    assert_close(module(*inputs)[:, 1], logit(module, 1, h[1]), **EXACT)
    assert not torch.allclose(module(*inputs)[:, 1], logit(module, 1, alone(module, 1, *inputs)))


@pytest.mark.parametrize("n_tasks", [2, 3])
def test_a_loss_does_not_reach_later_networks(n_tasks):
    module = flow(n_tasks, "tanh")
    logits = module(*make_inputs(7))
    weights = [layer.layers[0].weight for layer in module.bottom.layers]
    weights.append(module.towers.towers[0][1].weight)
    for k in range(n_tasks):
        for gradient in torch.autograd.grad(logits[:, k].sum(), weights, retain_graph=True):
            reached = [bool((piece != 0).any()) for piece in gradient]
            assert reached == [j <= k for j in range(n_tasks)]
            for piece in gradient[k + 1 :]:
                assert torch.equal(piece, torch.zeros_like(piece))


class NotCumulative(ResFlowBottom):
    """Hands on what a task adds of its own, without what it was given."""

    def forward(self, x):
        for layer in self.layers:
            h = layer(x)
            x = h + torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], dim=1)
        return x


class LastOnly(ResFlowBottom):
    """Adds up the last layer alone."""

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x.cumsum(1)


@pytest.mark.parametrize("wrong", [NotCumulative, LastOnly, None])
@pytest.mark.parametrize("n_tasks", [2, 3])
def test_what_flows_is_cumulative_and_in_every_layer(n_tasks, wrong):
    bottom, x = flow(n_tasks).bottom, randn(7, 26)
    rows = reference.resflow.bottom(bottom, list(x), torch.relu)
    expected = torch.stack([torch.stack(row) for row in rows])
    if wrong is not None:
        bottom.__class__ = wrong
    # Two tasks cannot tell a cumulative flow from another.
    same = wrong is None or (wrong is NotCumulative and n_tasks == 2)
    assert torch.allclose(bottom(x), expected) is same


@pytest.mark.parametrize("n_members", [1, 2])
def test_it_has_no_parameter_beside_single_tasks(n_members):
    given = {"bottom_units": (9, 8), "tower_units": (), "n_members": n_members}
    kinds = ("binary",) * 3
    one = build_module(ResFlow, kinds, **given)
    other = build_module(SingleTask, kinds, shared_embedding=True, **given)
    counts = [sorted(p.shape for p in module.parameters()) for module in (one, other)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize("widths", [[1], [1, 1, 1], [3], [1, 4, 1, 2], [3, 1]], ids=str)
def test_only_first_logits_add_up(widths):
    z = randn(7, sum(widths)).requires_grad_()
    actual = CumulativeLogits(widths)(z)
    starts, total, expected = np.cumsum([0, *widths[:-1]]).tolist(), 0.0, []
    for c in range(sum(widths)):
        if c in starts:
            total = total + z[:, c]
            expected.append(total)
        else:
            expected.append(z[:, c])
    expected = torch.stack(expected, dim=1)
    assert_close(actual, expected, **EXACT)
    functional = randn(7, sum(widths), seed=1)
    found = [torch.autograd.grad((one * functional).sum(), z)[0] for one in (actual, expected)]
    assert_close(*found, **EXACT)


def test_the_estimators_head_knows_the_tasks_widths():
    kinds = ("binary", "ordinal", "binary")
    module, inputs = make_module(ResFlow, kinds=kinds, bottom_units=(9,)), make_inputs(7)
    towers, logits = module.tower_logits(*inputs), module(*inputs)
    last = towers.shape[1] - 1
    expected = towers.clone()
    expected[:, 1] += towers[:, 0]
    expected[:, last] += expected[:, 1]
    assert last > 3
    assert_close(logits, expected, **EXACT)


def test_all_thresholds_of_an_ordinal_task_shift_alike():
    task, binary = make_task("ordinal", n_classes=5), randn(7, 1)
    z = torch.cat([binary, randn(7, 4, seed=1)], dim=1)

    def thresholds(logits):
        above = task.link(logits).flip(1).cumsum(1).flip(1)[:, 1:]  # P(y > j)
        return above.log() - (1 - above).log()

    flowed = CumulativeLogits([1, 4])(z)[:, 1:]
    shift = thresholds(flowed) - thresholds(z[:, 1:])
    assert_close(shift, binary.expand(7, 4), rtol=1e-8, atol=1e-8)


def test_ordinal_tasks_beside_binary_ones():
    Y = TABLE.Y[["income", "level"]].copy()
    kinds = {"level": OrdinalTask(order=["low", "mid", "high"])}
    model = small(ResFlow, task_types=kinds, max_epochs=20).fit(TABLE.X, Y)
    assert model.predict_proba(TABLE.X).shape == (120, 5)
    assert model.score(TABLE.X, Y) > 0.6
    with pytest.raises(ValueError, match=r"ResFlow takes binary and ordinal tasks only.*'level'"):
        small(ResFlow).fit(TABLE.X, Y)
    with pytest.raises(ValueError, match=r"ResFlow takes binary and ordinal tasks only.*'wage'"):
        small(ResFlow).fit(TABLE.X, TABLE.Y[["income", "wage"]])


@pytest.mark.parametrize("kind", ["binary", "ordinal"])
def test_labels_are_filled_in_only_where_all_tasks_are_binary(kind):
    gappy = TABLE.chain.astype(float)
    gappy.loc[gappy["click"] == 0, "conversion"] = np.nan
    first, second = (
        small(ResFlow, task_types={"conversion": kind}).fit(TABLE.X, Y).predict_proba(TABLE.X)
        for Y in (TABLE.chain, gappy)
    )
    assert np.allclose(first, second, rtol=1e-6) is (kind == "binary")


# Both ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [AITM, ResFlow])
@pytest.mark.parametrize("n_members", [1, 2])
def test_longer_chains_fit(cls, n_members):
    model = small(cls, n_members=n_members, max_epochs=20, lr=0.02).fit(TABLE.X, longer())
    assert model.score(TABLE.X, longer()) > 0.7


@pytest.mark.parametrize("cls", [AITM, ResFlow])
def test_networks_pass_activation_dropout_and_batch_norm_on(cls):
    options = known_to(cls, {"activation": "gelu", "dropout": 0.2, "batch_norm": True})
    module = build_module(cls, ("binary",) * 3, **options)
    stacks = [part for part in module.bottom.modules() if isinstance(part, StackedMLP)]
    assert len(stacks) == (4 if cls is AITM else 2)
    for stack in stacks:
        kinds = [type(layer).__name__ for layer in stack.layers][:4]
        assert kinds == ["StackedLinear", "StackedBatchNorm", "GELU", "Dropout"]
