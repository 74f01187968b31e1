"""SingleTask, OMoE, ML-MMoE, cross-stitch and AdaTT: identities, isolation, public mistakes."""

import modules
import numpy as np
import pandas as pd
import pytest
import reference.adatt
import reference.cross_stitch
import reference.mlmmoe
import torch
from conftest import make_table, small
from modules import make_inputs, make_module, randn, randomize
from sklearn.exceptions import NotFittedError
from test_balancing import need
from test_nesting import assert_same_function, copy_parameters
from torch import nn
from torch.testing import assert_close

from sk_mtl import AdaTT, CrossStitch, MMoE, OMoE, SingleTask
from sk_mtl.architectures import (
    AdaTTBottom,
    CrossStitchBottom,
    MLMMoEBottom,
    MMoEBottom,
    OMoEBottom,
    SharedBottomBottom,
    SingleTaskBottom,
)
from sk_mtl.balancing import TorchJDBalancer
from sk_mtl.balancing.aggregators import AGGREGATORS
from sk_mtl.inspection import gate_weights, gradient_conflict, stitch_weights
from sk_mtl.nn import Gates, Stitch, mix

EXACT = {"rtol": 1e-12, "atol": 1e-12}
D, K, M, S, E, UNITS = 11, 3, 4, 6, 5, (9, 8)
TABLE = make_table()


def same_as(bottom, of_reference, activation=torch.tanh):
    """Check a bottom against a naive reference."""
    x = randn(7, D)
    expected = of_reference.bottom(bottom, list(x), activation)
    assert_close(bottom(x), torch.stack([torch.stack(row) for row in expected]), **EXACT)


def tell(bottom, wrong, of_reference):
    """Check that the reference tells a bottom with a mistake from ours."""
    same_as(bottom, of_reference)
    with pytest.raises(AssertionError, match="not close"):
        same_as(wrong, of_reference)


def fills(*shape):
    """Return a forward that gives zeros whatever it is given, (B, *shape)."""
    return lambda x: x.new_zeros(len(x), *shape)


# SingleTask ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shared_embedding", [False, True])
@pytest.mark.parametrize("n_members", [1, 2])
def test_single_tasks_are_networks_of_one_task(shared_embedding, n_members):
    bottom = randomize(SingleTaskBottom(D, K, units=UNITS, n_members=n_members))
    x = randn(7, D) if shared_embedding else randn(7, K, D)
    out = bottom(x).unflatten(1, (n_members, K))
    for k in range(K):
        alone = SharedBottomBottom(D, 1, units=UNITS, n_members=n_members).double()
        with torch.no_grad():
            for given, to in zip(bottom.parameters(), alone.parameters(), strict=True):
                to.copy_(given.unflatten(0, (n_members, K))[:, k])
        assert_close(out[:, :, k], alone(x if shared_embedding else x[:, k]), **EXACT)


def test_one_single_task_is_a_shared_bottom():
    single = make_module("SingleTask", kinds=("regression",), shared_embedding=True)
    shared = make_module("SharedBottom", kinds=("regression",), seed=1)
    copy_parameters(single, shared)
    assert_close(single(*make_inputs(7)), shared(*make_inputs(7)), **EXACT)


@pytest.mark.parametrize("task", range(K))
def test_no_single_task_reaches_another(task):
    module = make_module("SingleTask", kinds=("binary",) * K, tower_units=(12,))
    assert not list(module.shared_parameters())
    (tower,) = module.towers.towers
    stacked = [*module.bottom.parameters(), *tower.parameters()]
    tables = modules.own_tables(module.embedding)
    found = modules.gradients(module(*make_inputs(30))[:, task], [*stacked, *tables], randn(30))
    for gradient in found[: len(stacked)]:
        assert [bool(part.any()) for part in gradient] == [k == task for k in range(K)]
    for gradient in found[len(stacked) :]:  # a slot holds its vector for each task
        parts = gradient.unflatten(1, (K, -1)).unbind(1)
        assert [bool(part.any()) for part in parts] == [k == task for k in range(K)]


def predicted(model, Y):
    return model.fit(TABLE.X, Y).predict(TABLE.X)[:, 0].astype(float)


@pytest.mark.parametrize("shared_embedding", [False, True])
def test_labels_of_another_task_say_nothing_to_a_single_task(shared_embedding):
    model = small(SingleTask, shared_embedding=shared_embedding, dtype="float64")
    Y = TABLE.Y[["wage", "income"]]
    other = Y.assign(income=Y["income"].to_numpy()[::-1])
    same = np.allclose(predicted(model, Y), predicted(model, other), rtol=1e-9)
    assert same == (not shared_embedding)


@pytest.mark.parametrize("name", ["metabalance", *AGGREGATORS])
def test_combiners_of_gradients_leave_single_tasks_alone(name):
    """There is no shared parameter: each task keeps its gradient, and the weight 1 is reported."""
    need(name)
    Y = TABLE.Y[["wage", "income"]]
    # All rows at once: a balancer that draws seeds moves the order of the rows.
    given = {"dtype": "float64", "batch_size": None, "max_epochs": 5}
    model = small(SingleTask, balancer=name, **given)
    plain = predicted(small(SingleTask, **given), Y)
    np.testing.assert_allclose(predicted(model, Y), plain, rtol=1e-9)
    assert (model.history_[["weight_wage", "weight_income"]] == 1).all(axis=None)


def test_single_tasks_have_no_gradients_to_compare():
    model = small(SingleTask).fit(TABLE.X, TABLE.Y)
    with pytest.raises(ValueError, match="This SingleTask has no parameters that several tasks"):
        gradient_conflict(model, TABLE.X, TABLE.Y)


# OMoE ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate_units", [(), (10,)])
def test_omoe_is_an_mmoe_whose_gates_agree(gate_units):
    sizes = {"n_experts": E, "expert_units": UNITS, "gate_units": gate_units}
    one, many = randomize(OMoEBottom(D, K, **sizes)), MMoEBottom(D, K, **sizes).double()
    copy_parameters(one.experts, many.experts)
    with torch.no_grad():
        for given, to in zip(one.gate.parameters(), many.gates.parameters(), strict=True):
            to.copy_(given.expand(to.shape))
    assert_same_function(one, many, randn(7, D))


def test_omoe_with_one_expert_is_shared_bottom():
    one = randomize(OMoEBottom(D, K, n_experts=1, expert_units=UNITS))
    shared = SharedBottomBottom(D, K, units=UNITS).double()
    copy_parameters(one.experts, shared.mlp)
    assert_same_function(one, shared, randn(7, D))


@pytest.mark.parametrize("n_members", [1, 2])
def test_omoe_gives_all_tasks_one_representation(n_members):
    module = make_module("OMoE", n_members=n_members)
    out = module.bottom(randn(7, modules.N_FEATURES)).unflatten(1, (n_members, K))
    assert_close(out, out[:, :, :1].expand_as(out), rtol=0, atol=0)
    assert module.one_representation == (n_members == 1)


@pytest.mark.parametrize("on", ["features", "parameters"])
def test_gradients_are_compared_at_omoes_representation(on):
    need("mgda")
    model = small(OMoE, balancer=TorchJDBalancer("mgda", on=on)).fit(TABLE.X, TABLE.Y)
    assert np.isfinite(model.predict_task_proba(TABLE.X)["income"]).all()


def test_omoes_gate_belongs_to_no_task():
    model = small(OMoE).fit(TABLE.X, TABLE.Y)
    (level,) = gate_weights(model, TABLE.X)["<shared>"]
    assert set(gate_weights(model, TABLE.X)) == {"<shared>"}
    assert level.shape == (len(TABLE.X), 4)


# ML-MMoE ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gate_units", [(), (10,)])
def test_mlmmoe_with_one_level_is_mmoe(gate_units):
    sizes = {"n_experts": E, "expert_units": UNITS, "gate_units": gate_units}
    many = randomize(MLMMoEBottom(D, K, n_levels=1, **sizes))
    one = MMoEBottom(D, K, **sizes).double()
    copy_parameters(many, one)
    assert_same_function(many, one, randn(7, D))


def test_mlmmoe_with_one_expert_is_a_deep_shared_bottom():
    many = randomize(MLMMoEBottom(D, K, n_levels=3, n_experts=1, expert_units=(9,)))
    shared = SharedBottomBottom(D, K, units=(9, 9, 9)).double()
    copy_parameters(many.experts, shared.mlp)
    assert_same_function(many, shared, randn(7, D))


def make_mlmmoe(cls=MLMMoEBottom):
    """Three levels as wide as their input, so that one can be taken for the other."""
    sizes = {"n_levels": 3, "n_experts": E, "expert_units": (D,), "activation": "tanh"}
    return randomize(cls(D, K, **sizes))


def test_mlmmoe_has_a_gate_for_each_next_expert_and_then_for_each_task():
    bottom = make_mlmmoe()
    assert [gates.scores.weight.shape for gates in bottom.gates] == [(E, E, D)] * 2 + [(K, E, D)]
    assert bottom.gates[2].streams == (0, 1, 2)
    assert bottom.gates[0].streams[1] == "<level 2, expert 1>"


class GatesReadTheirLevel(MLMMoEBottom):
    """MLMMoE whose gates read the mean of what the experts read, as PLE's read their level."""

    def forward(self, x):
        h = x
        for experts, gates in zip(self.experts, self.gates, strict=True):
            h = mix(gates(h if h.ndim == 2 else h.mean(1)), experts(h))
        return h


class OneMixture(MLMMoEBottom):
    """MLMMoE whose next experts all read one mixture."""

    def forward(self, x):
        h = x
        for experts, gates in zip(self.experts, self.gates, strict=True):
            h = mix(gates(x), experts(h if h.ndim == 2 else h[:, 0]))
        return h


@pytest.mark.parametrize("wrong", [GatesReadTheirLevel, OneMixture])
def test_mlmmoes_gates_read_the_input_and_its_experts_their_mixture(wrong):
    tell(make_mlmmoe(), make_mlmmoe(wrong), reference.mlmmoe)


# Cross-stitch -------------------------------------------------------------------------------------


def make_stitched(n_tasks=K, cls=CrossStitchBottom, **given):
    return randomize(cls(D, n_tasks, units=UNITS, **{"activation": "tanh", **given}))


def set_alpha(bottom, alpha):
    with torch.no_grad():
        for stitch in bottom.stitches:
            like = stitch.alpha
            stitch.alpha.copy_(alpha if like.ndim == 2 else alpha.unsqueeze(2).expand_as(like))


@pytest.mark.parametrize("alpha_unit", ["layer", "unit"])
def test_cross_stitch_with_the_identity_is_single_task(alpha_unit):
    stitched = make_stitched(alpha_unit=alpha_unit)
    single = SingleTaskBottom(D, K, units=UNITS, activation="tanh").double()
    set_alpha(stitched, torch.eye(K))
    copy_parameters(stitched.layers, single)
    assert_same_function(stitched, single, randn(7, D))


@pytest.mark.parametrize("alpha_unit", ["layer", "unit"])
def test_equal_rows_give_every_task_the_same_next_input(alpha_unit):
    stitched, seen = make_stitched(alpha_unit=alpha_unit), []
    set_alpha(stitched, torch.tensor([0.2, 0.5, 0.3]).expand(K, K))
    stitched.layers[1].register_forward_hook(lambda _m, inputs, _out: seen.append(inputs[0]))
    out = stitched(randn(7, D))
    for x in (*seen, out):
        assert_close(x, x[:, :1].expand_as(x), **EXACT)


def test_equal_weights_of_units_are_those_of_a_layer():
    by_unit, by_layer = make_stitched(alpha_unit="unit"), make_stitched()
    alpha = randn(K, K, seed=3)
    copy_parameters(by_unit.layers, by_layer.layers)
    set_alpha(by_unit, alpha), set_alpha(by_layer, alpha)
    assert_same_function(by_unit, by_layer, randn(7, D))


@pytest.mark.parametrize("n_tasks", [1, 2, 3])
@pytest.mark.parametrize("units", [None, 8])
def test_stitches_start_convex_and_near_the_identity(n_tasks, units):
    """AdaTT's library starts from a random `Linear(K, K)`, LibMTL from ones."""
    alpha = Stitch(n_tasks, units, n_members=2).alpha.detach()
    assert alpha.shape == (2 * n_tasks, n_tasks, *([] if units is None else [units]))
    for of_member in alpha.reshape(2, n_tasks, n_tasks, -1).unbind(0):
        for row, of_task in enumerate(of_member):
            own = 0.9 if n_tasks > 1 else 1.0
            assert_close(of_task[row], torch.full_like(of_task[row], own))
            others = of_task[[j for j in range(n_tasks) if j != row]]
            assert_close(others, torch.full_like(others, 0.1 / max(n_tasks - 1, 1)))


def test_a_stitch_has_no_more_numbers_than_pairs_of_tasks():
    """MMLRec learns a matrix over the units of all tasks, (K H, K H)."""
    bottom = make_stitched()
    assert [stitch.alpha.numel() for stitch in bottom.stitches] == [K * K] * 2
    by_unit = make_stitched(alpha_unit="unit")
    assert [stitch.alpha.numel() for stitch in by_unit.stitches] == [K * K * n for n in UNITS]
    expected = SingleTaskBottom(D, K, units=UNITS)
    count = sum(p.numel() for p in bottom.parameters()) - 2 * K * K
    assert count == sum(p.numel() for p in expected.parameters())


class Transposed(CrossStitchBottom):
    """Tasks give what they should take."""

    def forward(self, x):
        for layer, stitch in zip(self.layers, self.stitches, strict=True):
            x = torch.einsum("jk,bjh->bkh", stitch.alpha, layer(x))
        return x


class Unstitched(CrossStitchBottom):
    """The last layer is not combined."""

    def forward(self, x):
        for layer, stitch in zip(self.layers, self.stitches, strict=True):
            x = layer(x) if layer is self.layers[-1] else stitch(layer(x))
        return x


class BeforeActivation(CrossStitchBottom):
    """The combination stands before the activation."""

    def forward(self, x):
        for layer, stitch in zip(self.layers, self.stitches, strict=True):
            linear, activation = layer.layers
            x = activation(stitch(linear(x)))
        return x


@pytest.mark.parametrize("wrong", [Transposed, Unstitched, BeforeActivation])
def test_activations_of_every_layer_are_combined_row_by_row(wrong):
    tell(make_stitched(), make_stitched(cls=wrong), reference.cross_stitch)


def test_a_tasks_row_of_the_last_stitch_is_its_own():
    bottom, x = make_stitched(), randn(7, D)
    last, first = bottom.stitches[-1].alpha, bottom.stitches[0].alpha
    for k in range(K):
        loss = (bottom(x)[:, k] * randn(7, UNITS[-1])).sum()
        of_last, of_first = torch.autograd.grad(loss, [last, first])
        assert [bool(row.any()) for row in of_last] == [j == k for j in range(K)]
        assert (of_first != 0).all()
    assert [*bottom.own_parameters()] == [last]


def groups_of(model):
    """Return the groups of a fitted optimizer that alpha is in."""
    alphas = {id(p) for name, p in model.module_.named_parameters() if name.endswith("alpha")}
    groups = model.net_.optimizer_.param_groups
    return [g for g in groups if alphas & {id(p) for p in g["params"]}], len(alphas)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_alpha_learns_at_its_own_rate_and_does_not_decay(optimizer, weight_decay):
    given = {"optimizer": optimizer, "weight_decay": weight_decay, "alpha_rate": 7.0, "lr": 1e-3}
    model = small(CrossStitch, bottom_units=(8, 6), **given).fit(TABLE.X, TABLE.Y)
    (group,), n = groups_of(model)
    assert len(group["params"]) == n == 2
    assert group["lr"] == pytest.approx(7e-3)
    assert group["weight_decay"] == 0.0


def test_alpha_moves_by_its_rate():
    """A step of plain gradient descent is as many times longer."""
    moves = []
    for rate in (1.0, 50.0):
        given = {"optimizer": "sgd", "alpha_rate": rate, "max_epochs": 1, "batch_size": None}
        model = small(CrossStitch, dtype="float64", **given).fit(TABLE.X, TABLE.Y)
        (alpha,) = stitch_weights(model)
        moves.append(alpha.to_numpy() - Stitch(4).alpha.double().numpy(force=True))
    assert np.abs(moves[0]).max() > 1e-6
    np.testing.assert_allclose(moves[1], 50 * moves[0], rtol=1e-5, atol=1e-9)


def test_one_task_is_stitched_to_itself_alone():
    model = small(CrossStitch).fit(TABLE.X, TABLE.Y["income"])
    (alpha,) = stitch_weights(model)
    assert alpha.shape == (1, 1)
    assert model.predict(TABLE.X).shape == (len(TABLE.X),)


@pytest.mark.parametrize("n_members", [1, 2])
def test_stitch_weights_are_alpha_by_name(n_members):
    model = small(CrossStitch, bottom_units=(8, 6), n_members=n_members).fit(TABLE.X, TABLE.Y)
    names, found = list(TABLE.Y), stitch_weights(model)
    assert len(found) == 2
    for stitch, weights in zip(model.module_.bottom.stitches, found, strict=True):
        assert weights.shape == (n_members * 4, 4)
        for m in range(n_members):
            for k, task in enumerate(names):
                for j, other in enumerate(names):
                    assert weights.loc[(m, task), other] == stitch.alpha[4 * m + k, j].item()
    before = stitch_weights(model)[0]
    found[0].loc[:, :] = 0.0  # no view of the network's weights
    pd.testing.assert_frame_equal(stitch_weights(model)[0], before)


def test_stitch_weights_of_units():
    model = small(CrossStitch, bottom_units=(8, 6), alpha_unit="unit").fit(TABLE.X, TABLE.Y)
    first, second = stitch_weights(model)
    assert (first.shape, second.shape) == ((4, 4 * 8), (4, 4 * 6))
    alpha = model.module_.bottom.stitches[1].alpha
    assert second.loc[(0, "level"), ("income", 5)] == alpha[2, 0, 5].item()


def test_stitch_weights_of_others():
    with pytest.raises(NotFittedError):
        stitch_weights(small(CrossStitch))
    with pytest.raises(ValueError, match="MMoE combines no layers of several tasks; CrossStitch"):
        stitch_weights(small(MMoE).fit(TABLE.X, TABLE.Y))


@pytest.mark.parametrize(
    ("given", "message"),
    [({"alpha_unit": "channel"}, "'alpha_unit'.*'channel'"), ({"alpha_rate": 0}, "'alpha_rate'")],
)
def test_parameters_of_cross_stitch_are_checked(given, message):
    with pytest.raises(ValueError, match=message):
        small(CrossStitch, **given).fit(TABLE.X, TABLE.Y)


# AdaTT --------------------------------------------------------------------------------------------


def make_adatt(n_task_experts=M, n_shared_experts=S, n_tasks=K, **given):
    given = {"expert_units": UNITS, "activation": "tanh", **given}
    sizes = {"n_task_experts": n_task_experts, "n_shared_experts": n_shared_experts}
    return randomize(AdaTTBottom(D, n_tasks, **sizes, **given))


@pytest.mark.parametrize("shared", [0, 1])
def test_adatt_without_its_gates_is_single_task(shared):
    """One expert of each task, on a shared embedding."""
    bottom = make_adatt(1, shared)
    for level in bottom.levels:
        n_units = len(level.gates.streams)
        level.gates.forward = fills(n_units, K + shared)
    single = SingleTaskBottom(D, K, units=UNITS, activation="tanh").double()
    copy_parameters(nn.ModuleList(level.task_experts for level in bottom.levels), single)
    assert_same_function(bottom, single, randn(7, D))


def test_adatt_without_residual_is_an_mmoe_of_all_experts():
    bottom = make_adatt(n_shared_experts=0, expert_units=(8,))
    (level,) = bottom.levels
    with torch.no_grad():
        level.task_factors.zero_()
    mmoe = MMoEBottom(D, K, n_experts=K * M, expert_units=(8,), activation="tanh").double()
    copy_parameters(level.task_experts, mmoe.experts)
    copy_parameters(level.gates, mmoe.gates)
    assert_same_function(bottom, mmoe, randn(7, D))


def test_adatt_without_shared_experts_has_no_shared_unit():
    bottom = make_adatt(n_shared_experts=0)
    for level in bottom.levels:
        assert level.shared_experts is None
        assert level.shared_factors is None
        assert level.gates.streams == (0, 1, 2)


def test_adatt_whose_shared_experts_are_zero_and_unread_is_adatt_sp():
    """The shared unit is all that the full model adds."""
    full, sp = make_adatt(), make_adatt(n_shared_experts=0)
    for of_full, of_sp in zip(full.levels, sp.levels, strict=True):
        copy_parameters(of_full.task_experts, of_sp.task_experts)
        scores = of_full.gates.scores.weight
        with torch.no_grad():
            of_sp.task_factors.copy_(of_full.task_factors)
            of_sp.gates.scores.weight.copy_(scores[:K, : K * M])
        of_full.gates.forward = without_shared(of_full.gates)
    assert_same_function(full, sp, randn(7, D))


def without_shared(gates):
    """Return a forward that spreads the softmax over the tasks' experts alone."""

    def forward(x):
        scores = gates.scores(x)
        scores[:, :, K * M :] = -torch.inf
        return scores.softmax(-1)

    return forward


@pytest.mark.parametrize("widths", [(8,), (9, 8)])
def test_one_expert_of_one_task_counts_twice(widths):
    bottom, expected = make_adatt(1, 0, n_tasks=1, expert_units=widths), randn(7, D)
    x = expected.clone()
    for level in bottom.levels:
        expected = 2 * level.task_experts(expected)
    assert_close(bottom(x), expected, **EXACT)


def test_the_last_level_has_no_shared_gate():
    bottom = make_adatt(expert_units=(9, 8, 7))
    streams = [level.gates.streams for level in bottom.levels]
    assert streams == [(0, 1, 2, "<shared>")] * 2 + [(0, 1, 2)]
    assert [level.shared_factors is None for level in bottom.levels] == [False, False, True]
    for level in bottom.levels:
        assert level.shared_experts.layers[0].n == S
        # Over all experts, the own ones too; without a bias.
        assert level.gates.scores.weight.shape[:2] == (len(level.gates.streams), K * M + S)
        assert level.gates.scores.bias is None


@pytest.mark.parametrize(("m", "s"), [(1, 0), (1, 1), (1, 2), (2, 1), (2, 0), (4, 6)])
def test_the_residual_is_learned_where_a_unit_has_several_experts(m, s):
    """The authors' code learns it everywhere as soon as one unit has several."""
    sizes = {"n_task_experts": m, "n_shared_experts": s, "expert_units": UNITS, "n_members": 50}
    bottom = AdaTTBottom(D, K, **sizes)
    first, last = bottom.levels
    for level in (first, last):
        residual = level.residual().detach().unflatten(0, (50, -1))
        assert residual.shape == (50, K + (s > 0 and level is first), K * m + s)
        for u in range(residual.shape[1]):
            n, start = (m, u * m) if u < K else (s, K * m)
            own = residual[:, u, start : start + n]
            assert (residual[:, u].count_nonzero(1) == n).all()
            if n == 1:
                assert (own == 1).all()
            else:
                assert 0.9 / n**0.5 < own.abs().max() <= 1 / n**0.5
                assert own.min() < 0 < own.max()
    names = {name.rsplit(".", 1)[-1] for name, _ in bottom.named_parameters()}
    assert ("task_factors" in names, "shared_factors" in names) == (m > 1, s > 1)


def leave_out_own(level):
    """The gate weighs other tasks' experts only."""
    gates, others = level.gates.forward, 1 - level.own

    def forward(x):
        weights = gates(x) * others
        return weights / weights.sum(-1, keepdim=True)

    level.gates.forward = forward


def leave_out_activations(level):
    """The experts end in a linear layer."""
    for experts in (level.task_experts, level.shared_experts):
        experts.layers = experts.layers[:-1]


def add_the_mean(level):
    """The residual is the mean of the own experts."""
    level.residual = lambda: level.own / level.own.sum(1, keepdim=True)


def add_nothing(level):
    """There is no residual."""
    level.residual = lambda: 0.0


@pytest.mark.parametrize(
    "mistake", [leave_out_own, leave_out_activations, add_the_mean, add_nothing]
)
def test_gates_of_adatt_weigh_all_experts_and_own_ones_count_once_more(mistake):
    wrong = make_adatt()
    for level in wrong.levels:
        mistake(level)
    tell(make_adatt(), wrong, reference.adatt)


@pytest.mark.parametrize(("m", "s"), [(1, 1), (1, 2), (2, 1), (1, 0), (2, 0)])
def test_nothing_of_adatt_stays_on_another_device(m, s):
    """The authors' code adds a tensor of the CPU where all units have one expert."""
    bottom = make_adatt(m, s).to("meta")
    assert bottom(torch.empty(7, D, device="meta", dtype=torch.float64)).is_meta


def test_widths_given_to_adatt_stay_as_they_are():
    """The authors' full version appends to its caller's list."""
    units = [9, 8]
    model = small(AdaTT, expert_units=units, n_shared_experts=2).fit(TABLE.X, TABLE.Y)
    assert units == [9, 8]
    assert len(model.module_.bottom.levels) == 2
    assert model.module_.bottom.out_features == 8


def test_adatts_residual_does_not_decay():
    module = make_module("AdaTT", n_task_experts=2, n_shared_experts=3)
    spared = {id(p) for p in module.undecayed_parameters()}
    factors = [p for name, p in module.named_parameters() if name.endswith("_factors")]
    assert len(factors) == 3
    assert all(id(p) in spared for p in factors)
    weights = [part.weight for part in module.modules() if hasattr(part, "weight")]
    assert not any(id(weight) in spared for weight in weights)


def test_each_level_of_adatt_can_be_inspected():
    model = small(AdaTT, expert_units=(8, 6), n_shared_experts=2).fit(TABLE.X, TABLE.Y)
    weights = gate_weights(model, TABLE.X)
    assert {name: len(levels) for name, levels in weights.items()} == {
        **dict.fromkeys(TABLE.Y, 2),
        "<shared>": 1,
    }
    assert weights["income"][1].shape == (len(TABLE.X), 4 * 2 + 2)


# All of them --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "n"),
    [("OMoE", {}, 1), ("MLMMoE", {"n_levels": 3}, 3), ("AdaTT", {"expert_units": (9, 8)}, 2)],
)
def test_expert_balance_adds_a_penalty_for_each_level(name, given, n):
    balanced = make_module(name, expert_balance=0.5, **given)
    plain = make_module(name, **given)
    inputs = make_inputs(7)
    assert_close(balanced(*inputs), plain(*inputs), rtol=0, atol=0)
    assert plain.penalty() is None
    assert len(balanced.penalized) == n
    gates = [part for part in balanced.modules() if isinstance(part, Gates)]
    penalty = balanced.penalty()
    assert penalty > 0
    for gate in gates:
        (found,) = torch.autograd.grad(penalty, [gate.scores.weight], retain_graph=True)
        assert found.any()
