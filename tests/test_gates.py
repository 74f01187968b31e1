"""Gates: DSelect-k against its equations, the balance of experts, and what inspection shows."""

import copy
import pickle

import matplotlib as mpl
import numpy as np
import pytest
import reference.dselect
import torch
from conftest import ESTIMATORS, everywhere, make_table, small
from modules import gates_of, gradients, make_inputs, make_module, randn, randomize
from reference.parts import mlp
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from test_export import check_program, network
from torch.testing import assert_close

import sk_mtl
from sk_mtl import CGC, ESMM, PLE, MMoE, SharedBottom
from sk_mtl._checks import ParameterError
from sk_mtl.inspection import ExpertUseDisplay, GateDisplay, expert_use, gate_weights
from sk_mtl.nn import DSelectGates, DSelectK, ExpertBalance, Gates
from sk_mtl.persistence import trusted_types

BALANCED = [cls for cls in ESTIMATORS if "expert_balance" in cls().get_params(deep=False)]
balanced = pytest.mark.parametrize("cls", BALANCED)
dselect_classes = pytest.mark.parametrize("cls", [MMoE, CGC, PLE])
EXACT = {"rtol": 1e-10, "atol": 1e-10}
TABLE = make_table()


def dselect(n_gates=3, n_experts=5, seed=0, **given):
    """Return DSelect-k gates, float64 and random, that are not settled."""
    gates = DSelectGates(n_gates, 6, n_experts, **{"gamma": 8.0, **given})
    return randomize(gates, seed).train()


# DSelect-k ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("units", [(), (7,)])
@pytest.mark.parametrize(
    ("n_experts", "gamma"),
    # With a narrow step some selectors are settled, perhaps on a number that no expert has, whose
    # cost the equation has as infinite.
    [*((n, 8.0) for n in (2, 3, 4, 5, 8, 9)), *((n, 1.0) for n in (2, 4, 8))],
)
def test_weights_and_penalty_equal_the_references(n_experts, gamma, units):
    gates = dselect(n_experts=n_experts, gamma=gamma, units=units, entropy=0.3, n_selectors=3)
    x = randn(7, 6).requires_grad_()
    weights, penalty = gates(x), gates.selection.penalty()
    of_gates = gates_of(gates)
    expected, cost = [], 0.0
    for row in x:
        hidden = [mlp(row, gate["hidden"], torch.relu) for gate in of_gates]
        pairs = list(zip(hidden, of_gates, strict=True))
        expected.append(torch.stack([torch.stack(reference.dselect.gate(*pair)) for pair in pairs]))
        cost += sum(reference.dselect.penalty([h], [gate], 0.3) for h, gate in pairs) / len(x)
    expected = torch.stack(expected)
    assert_close(weights, expected, **EXACT)
    assert_close(penalty, cost, **EXACT)
    sources, functional = [x, *gates.parameters()], randn(weights.shape, seed=1)
    for ours, theirs in ((weights, expected), (penalty, cost)):
        given = functional if ours is weights else torch.ones(())
        assert_close(gradients(ours, sources, given), gradients(theirs, sources, given), **EXACT)


@pytest.mark.parametrize("conditioned", [True, False])
@pytest.mark.parametrize("n_experts", [5, 8])
def test_the_penalty_is_a_mean_over_rows(n_experts, conditioned):
    """The authors' code sums over rows: then the penalty grows with the batch."""
    gates, x = dselect(n_experts=n_experts, conditioned=conditioned, entropy=0.1), randn(7, 6)
    found = []
    for rows in (x, x.repeat(3, 1)):
        gates(rows)
        found.append(gates.selection.penalty())
    assert found[0] > 0
    assert_close(*found, **EXACT)


def test_every_gate_and_selector_pays_not_the_last_one_only():
    gates = dselect(n_experts=5, n_selectors=3)
    gates(randn(7, 6))
    gates.selection.penalty().backward()
    k, m = gates.n_selectors, gates.n_bits
    of_bits = gates.scores.weight.grad[:, : k * m].reshape(3, k, m, 6)
    assert (of_bits.abs().amax((2, 3)) > 0).all()
    assert (gates.scores.weight.grad[:, k * m :] == 0).all()  # how selectors mix costs nothing


def test_gamma_counts():
    """Scores and gamma may grow together; gamma alone moves the weights."""
    one, wide = (dselect(gamma=gamma, conditioned=False) for gamma in (8.0, 16.0))
    x = randn(2, 6)
    assert (one(x) - wide(x)).abs().max() > 1e-3
    with torch.no_grad():
        wide.bias[:, : wide.n_selectors * wide.n_bits] *= 2
    assert_close(one(x), wide(x), **EXACT)


@pytest.mark.parametrize("conditioned", [True, False])
def test_a_gate_of_a_task_is_its_own(conditioned):
    """PaddleRec has one gate for all tasks."""
    gates = dselect(conditioned=conditioned)
    weights = gates(randn(7, 6))
    assert (weights[:, 0] - weights[:, 1]).abs().max() > 1e-2
    (weights[:, 1] * randn(7, 5)).sum().backward()
    for parameter in gates.parameters():
        assert parameter.grad[1].abs().max() > 0
        assert (parameter.grad[[0, 2]] == 0).all()


@pytest.mark.parametrize("n_experts", [4, 5, 8])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_settled_selectors_leave_at_most_k_experts(k, n_experts):
    gates = dselect(n_experts=n_experts, conditioned=False, n_selectors=k, gamma=1.0)
    with torch.no_grad():
        gates.bias[:, : k * gates.n_bits].sign_().mul_(0.5)
    weights = gates(randn(4, 6))
    assert ((weights > 0).sum(2) <= k).all()
    if n_experts != 5:
        assert_close(weights.sum(2), torch.ones(4, 3).double(), **EXACT)
        if k == 1:
            assert ((weights == 0) | (weights == 1)).all()
            assert (weights.sum(2) == 1).all()
    (weights * randn(4, 3, n_experts)).sum().backward()
    assert (gates.bias.grad[:, : k * gates.n_bits] == 0).all()  # settled, it stays put


def test_expert_numbers_are_read_from_the_most_significant_bit():
    gates = dselect(n_gates=1, n_experts=8, conditioned=False, n_selectors=1, gamma=1.0)
    with torch.no_grad():
        gates.bias[0] = torch.tensor([1.0, 1.0, -1.0, 0.0])  # 110
    assert gates(randn(1, 6))[0, 0].argmax() == 6


@pytest.mark.parametrize(("n_experts", "m"), [(2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4)])
def test_scores_of_zero_give_even_weights(n_experts, m):
    gates = dselect(n_experts=n_experts)
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter[:, : gates.n_selectors * m] = 0.0
    weights = gates(randn(7, 6))
    assert_close(weights, torch.full((7, 3, n_experts), 0.5**m).double(), **EXACT)


@pytest.mark.parametrize("n_experts", [2, 3, 4, 6, 8])
def test_weights_sum_to_one_if_every_number_has_an_expert(n_experts):
    """Else to less, as far as a selector points to none; nothing normalizes them."""
    sums = dselect(n_experts=n_experts)(randn(50, 6)).sum(2)
    if n_experts in (2, 4, 8):
        assert_close(sums, torch.ones(50, 3).double(), **EXACT)
    else:
        assert (sums < 1).all()
        assert sums.std() > 0.01


@pytest.mark.parametrize("n_experts", [4, 5])
def test_a_conditioned_gate_without_a_kernel_is_static(n_experts):
    gates = dselect(n_experts=n_experts, entropy=0.2)
    static = dselect(n_experts=n_experts, entropy=0.2, conditioned=False)
    with torch.no_grad():
        gates.scores.weight.zero_()
        static.bias.copy_(gates.scores.bias)
    x = randn(7, 6)
    assert_close(gates(x), static(x), **EXACT)
    assert_close(gates.selection.penalty(), static.selection.penalty(), **EXACT)


@pytest.mark.parametrize("conditioned", [True, False])
def test_one_expert_weighs_one(conditioned):
    gates = DSelectGates(3, 6, 1, conditioned=conditioned, balance=1.0, entropy=1.0).train()
    assert torch.equal(gates(torch.zeros(7, 6)), torch.ones(7, 3, 1))
    assert not list(gates.parameters())
    assert not list(gates.children())


def test_rows_do_not_depend_on_one_another():
    gates, x = DSelectGates(3, 6, 5, (8,)).eval(), torch.randn(33, 6)
    with torch.no_grad():
        whole = gates(x)
        for i in (0, 13, 32):
            assert torch.equal(whole.flip(0)[i], gates(x.flip(0))[i])
            assert_close(gates(x[i : i + 1])[0], whole[i], rtol=0.0, atol=1e-6)


def test_a_selector_that_points_to_no_expert_costs_much_and_not_everything():
    gates = dselect(n_experts=5, conditioned=False, n_selectors=2, gamma=1.0)
    with torch.no_grad():
        gates.bias[:, :3] = 1.0  # 111: there is no expert 7
    weights, penalty = gates(randn(2, 6)), gates.selection.penalty()
    assert penalty > 1e6
    (penalty + weights.sum()).backward()
    assert gates.bias.grad.isfinite().all()


@pytest.mark.parametrize(
    ("n_experts", "entropy", "pays"), [(4, 0.0, False), (4, 0.1, True), (5, 0.0, True)]
)
def test_what_there_is_to_pay_for(n_experts, entropy, pays):
    gate = DSelectK(entropy=entropy)
    module = make_module(MMoE, gate=gate, n_experts=n_experts)
    assert len(module.penalized) == pays
    assert (module.penalty() if not pays else None) is None


def test_initial_scores():
    gates = DSelectGates(200, 30, 8, gamma=3.0, generator=torch.Generator().manual_seed(0))
    cut = gates.n_selectors * gates.n_bits
    for scores in (gates.scores.weight, gates.scores.bias):
        for part, bound in ((scores[:, :cut], 0.03), (scores[:, cut:], 0.05)):
            assert bound * 0.95 < part.abs().max() <= bound
            assert abs(part.std() / (bound / 3**0.5) - 1) < 0.05
    static = DSelectGates(200, 30, 8, gamma=3.0, conditioned=False)
    assert 0.028 < static.bias[:, :cut].abs().max() <= 0.03


@pytest.mark.parametrize("conditioned", [True, False])
def test_members_are_gates_side_by_side(conditioned):
    given = {"conditioned": conditioned, "entropy": 0.1, "n_experts": 5, "balance": 0.7}
    gates, x = dselect(n_gates=2, n_members=3, **given), randn(7, 6)
    weights, costs = gates(x), [gates.selection.penalty(), gates.balance.penalty()]
    alone = []
    for m in range(3):
        one = dselect(n_gates=2, **given)
        one.load_state_dict({k: v[2 * m : 2 * m + 2] for k, v in gates.state_dict().items()})
        assert_close(one(x), weights[:, 2 * m : 2 * m + 2], **EXACT)
        alone.append(torch.stack([one.selection.penalty(), one.balance.penalty()]))
    assert_close(torch.stack(alone).mean(0), torch.stack(costs), **EXACT)


def test_scores_that_are_parameters_are_not_decayed():
    module = make_module(MMoE, gate=DSelectK(conditioned=False))
    undecayed = {id(p) for p in module.undecayed_parameters()}
    assert id(module.bottom.gates.bias) in undecayed
    assert id(module.bottom.experts.layers[0].weight) not in undecayed


@dselect_classes
def test_what_is_shared_does_not_hang_on_the_kind_of_gate(cls):
    modules = [make_module(cls, gate=gate) for gate in ("softmax", "dselect_k")]
    names = [
        {n for n, p in m.named_parameters() if any(p is s for s in m.shared_parameters())}
        for m in modules
    ]
    assert {n.replace(".bias", ".weight") for n in names[1] if "gate" in n} == {
        n for n in names[0] if "gate" in n
    }


@dselect_classes
@pytest.mark.parametrize("n_members", [1, 2])
def test_estimators_learn_with_it(cls, n_members):
    model = small(cls, gate=DSelectK(), n_members=n_members, max_epochs=30).fit(TABLE.X, TABLE.Y)
    losses = model.history_["train_loss"] - model.history_.get("train_penalty", 0.0)
    assert losses.iloc[-1] < 0.8 * losses.iloc[0]
    module = model.module_
    assert all(isinstance(g, DSelectGates) for g in module.modules() if hasattr(g, "streams"))


def test_training_settles_on_few_experts():
    model = small(MMoE, gate=DSelectK(n_selectors=1, entropy=1.0, conditioned=False), n_experts=4)
    model.set_params(max_epochs=100, lr=0.05).fit(TABLE.X, TABLE.Y)
    for (weights,) in gate_weights(model, TABLE.X).values():
        assert sorted(weights[0].round(3).tolist()) == [0.0, 0.0, 0.0, 1.0]


def test_dselect_k_by_name_has_the_default_options():
    weights = [
        gate_weights(small(MMoE, gate=gate).fit(TABLE.X, TABLE.Y), TABLE.X)["income"][0]
        for gate in ("dselect_k", DSelectK(), DSelectK(n_selectors=3))
    ]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (
            DSelectK(n_selectors=0),
            "`gate__n_selectors` must be .* at least 1, got 0",
        ),
        (DSelectK(n_selectors=1.5), "`gate__n_selectors`"),
        (DSelectK(gamma=0), "`gate__gamma` must be a finite number above 0, got 0"),
        (DSelectK(entropy=-1), "`gate__entropy` must be a finite number of at least 0, got -1"),
        (DSelectK(conditioned="no"), "`gate__conditioned` must be True or False, got 'no'"),
        ("top_k", "'gate' parameter of"),
        (3, "'gate' parameter of"),
    ],
)
@dselect_classes
def test_wrong_options(cls, gate, message):
    with pytest.raises(ValueError, match=message):
        small(cls, gate=gate).fit(TABLE.X, TABLE.Y)


@dselect_classes
def test_a_gate_that_reads_nothing_has_no_hidden_layers(cls):
    model = small(cls, gate=DSelectK(conditioned=False), gate_units=(3,))
    with pytest.raises(ParameterError, match=r"`gate_units` is \(3,\).*Pass `gate_units=\(\)`"):
        model.fit(TABLE.X, TABLE.Y)


@dselect_classes
def test_options_are_parameters(cls, tmp_path):
    model = small(cls, gate=DSelectK(gamma=0.7))
    assert model.get_params()["gate__gamma"] == 0.7
    twin = clone(model).set_params(gate__n_selectors=1, gate__gamma=0.9)
    assert (model.gate.gamma, twin.gate.gamma, twin.gate.n_selectors) == (0.7, 0.9, 1)
    model.fit(TABLE.X, TABLE.Y)
    model.save(tmp_path / "model")
    again = sk_mtl.load(tmp_path / "model")
    assert again.gate.get_params() == model.gate.get_params()
    for other in (again, pickle.loads(pickle.dumps(model))):
        found, expected = (m.predict_proba(TABLE.X) for m in (other, model))
        assert np.array_equal(found, expected)
    assert "sk_mtl.nn.dselect.DSelectK" in trusted_types()
    with pytest.raises(ValueError, match="has no option 'k'"):
        model.set_params(gate__k=3)


def test_options_in_a_search_and_inside_another_estimator():
    y = (TABLE.Y["income"] == ">50K").astype(int)
    search = GridSearchCV(small(MMoE, gate=DSelectK()), {"gate__n_selectors": [1, 2]}, cv=2)
    assert search.fit(TABLE.X, y).best_params_["gate__n_selectors"] in (1, 2)
    chain = small(ESMM, bottom=MMoE(gate=DSelectK(), n_experts=3, expert_units=(4,)))
    chain.set_params(bottom__gate__n_selectors=1).fit(TABLE.X, TABLE.chain)
    assert expert_use(chain, TABLE.X)["expert"].max() == 2
    assert chain.module_.bottom.gates.n_selectors == 1


def test_options_count_from_the_next_fit():
    model = small(MMoE, gate=DSelectK(), warm_start=True).fit(TABLE.X, TABLE.Y)
    model.set_params(gate__gamma=0.5)
    with pytest.raises(ValueError, match="`gate` was"):
        model.fit(TABLE.X, TABLE.Y)


# Balance ------------------------------------------------------------------------------------------


def balance_by_hand(weights, experts):
    """Squared coefficient of variation of the loads, expert by expert; weights (B, n_gates, n)."""
    given = {}
    for row in weights:
        for of_gate, numbers in zip(row, experts, strict=True):
            for weight, number in zip(of_gate, numbers, strict=True):
                given.setdefault(number, []).append(weight)
    loads = [sum(found) / len(found) for found in given.values()]
    mean = sum(loads) / len(loads)
    return sum((load - mean) ** 2 for load in loads) / len(loads) / mean**2


LEVEL = {"gate_units": (), "n_task_experts": 2, "n_shared_experts": 3}
# Of three tasks: each its own two of six, then the three shared ones; the shared gate has all.
OWN_AND_SHARED = [[2 * k, 2 * k + 1, 6, 7, 8] for k in range(3)]


@pytest.mark.parametrize("gate", ["softmax", "dselect_k"])
@pytest.mark.parametrize("n_members", [1, 3])
@dselect_classes
def test_balance_by_hand(cls, n_members, gate):
    module = make_module(
        cls, **LEVEL, expert_balance=0.6, n_members=n_members, gate=gate, n_experts=4
    )
    module.bottom.train()
    seen = []
    gates = [part for part in module.bottom.modules() if hasattr(part, "streams")]
    for part in gates:
        part.register_forward_hook(lambda _part, _x, out: seen.append(out))
    module.bottom(randn(7, 26))
    assert len(seen) == len(gates) == {MMoE: 1, CGC: 1, PLE: 3}[cls]
    for part, weights in zip(gates, seen, strict=True):
        experts = {3: OWN_AND_SHARED, 1: [range(9)]}[len(part.streams)]
        experts = [range(4)] * 3 if cls is MMoE else experts
        members = weights.unflatten(1, (n_members, -1)).unbind(1)
        expected = 0.6 * sum(balance_by_hand(m, experts) for m in members) / n_members
        actual = part.balance.penalty()
        assert_close(actual, expected, **EXACT)
        sources = [p for p in part.parameters() if p.requires_grad]
        found = [
            torch.autograd.grad(v, sources, retain_graph=True, allow_unused=True)
            for v in (actual, expected)
        ]
        assert_close(*found, **EXACT)


def test_tasks_may_keep_to_experts_of_their_own():
    """Gate by gate the penalty would be large; what counts is that each expert has a task."""
    balance = ExpertBalance([range(3)] * 3, 1.0)
    balance(torch.eye(3).expand(5, -1, -1))
    assert balance.penalty() == 0
    balance(torch.eye(3)[[0, 0, 1]].expand(5, -1, -1))
    assert balance.penalty() > 0.5


def test_even_gates_cost_nothing_where_experts_have_unequal_readers():
    """Sums over gates would call an expert that all tasks share overloaded."""
    balance = ExpertBalance(OWN_AND_SHARED, 1.0)
    balance(torch.full((4, 3, 5), 0.2))
    assert_close(balance.penalty(), torch.tensor(0.0), rtol=0.0, atol=1e-12)


@balanced
def test_without_a_weight_there_is_no_balance(cls):
    module = make_module(cls, n_experts=4)
    assert not module.penalized
    assert not [part for part in module.modules() if isinstance(part, ExpertBalance)]
    model = small(cls).fit(TABLE.X, TABLE.targets(cls))
    assert "train_penalty" not in model.history_


@balanced
@pytest.mark.parametrize("n_members", [1, 2])
def test_balance_evens_the_loads_of_every_architecture(cls, n_members):
    spreads = []
    for weight in (0.0, 20.0):
        model = small(cls, expert_balance=weight, n_members=n_members, max_epochs=40)
        model.fit(TABLE.X, TABLE.targets(cls))
        use = expert_use(model, TABLE.X)
        loads = use.groupby(["level", "member", "expert"])["load"].mean()
        spreads.append(loads.groupby(["level", "member"]).std().mean())
        assert ("train_penalty" in model.history_) == (weight > 0)
    assert spreads[1] < 0.5 * spreads[0]


def test_balance_revives_a_dead_expert():
    gates = Gates(2, 6, 4, balance=1.0).double().train()
    x = torch.cat([randn(64, 5), torch.ones(64, 1).double()], dim=1)
    with torch.no_grad():
        gates.scores.weight[:, 0, -1] -= 6.0
    assert gates(x).mean(0)[:, 0].max() < 0.01
    optimizer = torch.optim.Adam(gates.parameters(), 0.1)
    for _ in range(200):
        optimizer.zero_grad()
        gates(x)
        gates.balance.penalty().backward()
        optimizer.step()
    assert (gates(x).mean((0, 1)) - 0.25).abs().max() < 0.02


def test_penalties_are_of_training_and_are_taken_once():
    gates, x = Gates(2, 6, 4, balance=1.0), torch.randn(5, 6)
    gates.eval()(x)
    with pytest.raises(RuntimeError, match="no batch"):
        gates.balance.penalty()
    gates.train()(x)
    for other in (copy.deepcopy(gates), pickle.loads(pickle.dumps(gates))):
        assert_close(other.eval()(x), gates.eval()(x))  # the graph of the batch is not copied
    gates.balance.penalty()
    with pytest.raises(RuntimeError, match="no batch"):
        gates.balance.penalty()


@balanced
def test_balance_is_checked(cls):
    with pytest.raises(ValueError, match="'expert_balance' parameter"):
        small(cls, expert_balance=-0.1).fit(TABLE.X, TABLE.targets(cls))


@pytest.mark.parametrize("balancer", ["pcgrad", "uncertainty", "gradnorm"])
def test_penalties_beside_a_balancer(balancer):
    model = small(PLE, gate=DSelectK(entropy=0.1), expert_balance=0.1, balancer=balancer)
    history = model.fit(TABLE.X, TABLE.Y).history_
    assert np.isfinite(history["train_loss"]).all()
    assert (history["train_penalty"] > 0).all()


# Inspection ---------------------------------------------------------------------------------------


@everywhere
def test_every_gate_is_found(cls):
    """Any part with streams has gates; every architecture that says it has experts shows them."""
    model = small(cls, n_members=2).fit(TABLE.X, TABLE.targets(cls))
    gated = any(hasattr(part, "streams") for part in model.module_.modules())
    if cls in BALANCED:
        assert gated
    if not gated:
        with pytest.raises(ValueError, match=f"{cls.__name__} has no gates"):
            gate_weights(model, TABLE.X)
        return
    for levels in gate_weights(model, TABLE.X).values():
        for weights in levels:
            assert len(weights) == len(TABLE.X)
            assert ((weights >= 0) & (weights <= 2)).all()
            if cls in BALANCED:
                assert np.allclose(weights.sum(1), 1.0)


@balanced
@pytest.mark.parametrize("n_members", [1, 2])
def test_expert_use_by_hand(cls, n_members):
    model = small(cls, n_members=n_members, dtype="float64").fit(TABLE.X, TABLE.targets(cls))
    use, weights = expert_use(model, TABLE.X), gate_weights(model, TABLE.X)
    columns = ["level", "task", "member", "expert", "load", "entropy_of_mean", "mean_entropy"]
    assert list(use) == [*columns, "dead"]
    assert not use.duplicated(["level", "task", "member", "expert"]).any()
    for name, levels in weights.items():
        of_task = use[use["task"] == name]
        for level, found in zip(of_task["level"].unique(), levels, strict=True):
            of_level = of_task[of_task["level"] == level]
            assert len(of_level) == found.shape[1]
            for member, part in enumerate(np.split(found * n_members, n_members, axis=1)):
                rows = of_level[of_level["member"] == member]
                mean = np.zeros(part.shape[1])
                entropy = 0.0
                for row in part:
                    mean += row / len(part)
                    entropy -= sum(w * np.log(w) for w in row) / len(part)
                assert np.allclose(rows["load"], mean, rtol=1e-10)
                assert np.allclose(rows["mean_entropy"], entropy, rtol=1e-10)
                assert np.allclose(rows["entropy_of_mean"], -(mean * np.log(mean)).sum())


def test_levels_are_those_of_the_network():
    model = small(PLE, n_levels=3, n_task_experts=2, n_shared_experts=1).fit(TABLE.X, TABLE.Y)
    use = expert_use(model, TABLE.X)
    assert use.groupby("level")["task"].nunique().tolist() == [5, 5, 4]
    first = use[use["level"] == 1].groupby("task", sort=False)["expert"].agg(list)
    assert first["income"] == [0, 1, 8]
    assert first["wage"] == [6, 7, 8]
    assert first["<shared>"] == list(range(9))
    if hasattr(sk_mtl, "MLMMoE"):
        use = expert_use(small(sk_mtl.MLMMoE, n_experts=3).fit(TABLE.X, TABLE.Y), TABLE.X)
        assert use.groupby("level")["task"].nunique().tolist() == [3, 4]
        assert set(use.loc[use["level"] == 2, "task"]) == set(TABLE.Y)


def settle(model, choose):
    """Make static DSelect-k gates choose: `choose` gives the position of each one's expert."""
    with torch.no_grad():
        for name, part in model.module_.named_modules():
            if isinstance(part, DSelectGates):
                for gate, position in enumerate(choose(name)):
                    digits = format(position, f"0{part.n_bits}b")
                    scores = torch.tensor([float(d) - 0.5 for d in digits])
                    part.bias[gate, : part.n_bits] = scores * 2 * part.gamma


def test_dead_experts():
    gate = DSelectK(n_selectors=1, conditioned=False)
    model = small(MMoE, gate=gate, n_experts=4).fit(TABLE.X, TABLE.Y)
    settle(model, lambda _: [0, 2, 2, 0])
    use = expert_use(model, TABLE.X)
    assert use.groupby("expert")["dead"].agg(["min", "max"]).to_numpy().tolist() == [
        [False, False], [True, True], [False, False], [True, True],
    ]  # fmt: skip
    assert use.groupby(["task", "expert"])["load"].first()["married"].tolist() == [0, 0, 1, 0]
    assert (use[["entropy_of_mean", "mean_entropy"]] == 0).all(axis=None)


def test_an_expert_that_the_shared_gate_alone_reads_is_not_dead():
    gate = DSelectK(n_selectors=1, conditioned=False)
    model = small(PLE, gate=gate, n_task_experts=1, n_shared_experts=1).fit(TABLE.X, TABLE.Y)
    # Tasks read the shared expert; in the first level the shared gate reads the second task's.
    settle(model, lambda name: [1] if "shared" in name else [1, 1, 1, 1])
    dead = expert_use(model, TABLE.X).groupby(["level", "expert"])["dead"].first()
    assert dead[1].tolist() == [True, False, True, True, False]
    assert dead[2].tolist() == [True, True, True, True, False]


def test_threshold_is_a_share_of_an_even_load():
    model = small(MMoE, n_experts=4).fit(TABLE.X, TABLE.Y)
    use = expert_use(model, TABLE.X)
    most = use.groupby("expert")["load"].max() * 4
    for threshold in (0.0, most.min() * 0.999, most.min() * 1.001, most.max() * 1.001):
        found = expert_use(model, TABLE.X, threshold=threshold).groupby("expert")["dead"].first()
        assert found.tolist() == (most < threshold).tolist()
    with pytest.raises(ValueError, match="`threshold` must be a finite number of at least 0"):
        expert_use(model, TABLE.X, threshold=-1)


def test_models_without_gates_over_experts():
    with pytest.raises(ValueError, match="SharedBottom has no gates; AdaTT, CGC"):
        expert_use(small(SharedBottom).fit(TABLE.X, TABLE.Y), TABLE.X)
    if hasattr(sk_mtl, "PEPNet"):
        model = small(sk_mtl.PEPNet).fit(TABLE.X, TABLE.Y)
        with pytest.raises(ValueError, match="gates of PEPNet weigh no experts"):
            expert_use(model, TABLE.X)


def test_expert_use_display():
    mpl.use("Agg")
    gate = DSelectK(n_selectors=1, conditioned=False)
    model = small(PLE, gate=gate, n_task_experts=1, n_shared_experts=1).fit(TABLE.X, TABLE.Y)
    settle(model, lambda name: [1] if "shared" in name else [1, 1, 1, 1])
    display = ExpertUseDisplay.from_estimator(model, TABLE.X)
    ticks = [[label.get_text() for label in ax.get_xticklabels()] for ax in display.axes_]
    assert ticks[0] == ["0\ndead", "1", "2\ndead", "3\ndead", "4"]
    assert [len(ax.containers) for ax in display.axes_] == [5, 4]
    heights = [bar.get_height() for bar in display.axes_[0].containers[0]]
    assert heights == [0, 0, 0, 0, 1]
    with pytest.raises(ValueError, match="`axes` has 1 axes and there are 2 levels"):
        display.plot(axes=display.axes_[0])
    several = ExpertUseDisplay.from_estimator(
        small(MMoE, n_experts=2, n_members=2).fit(TABLE.X, TABLE.Y), TABLE.X
    )
    labels = [label.get_text() for label in several.axes_[0].get_xticklabels()]
    assert labels == ["0.0", "0.1", "1.0", "1.1"]


@everywhere
def test_gate_display_of_every_architecture(cls):
    mpl.use("Agg")
    model = small(cls).fit(TABLE.X, TABLE.targets(cls))
    if not any(hasattr(part, "streams") for part in model.module_.modules()):
        return
    display = GateDisplay.from_estimator(model, TABLE.X)
    weights = gate_weights(model, TABLE.X)
    assert list(display.means) == list(weights)
    for name, levels in display.means.items():
        found = [mean for mean in levels if mean is not None]
        for mean, of_task in zip(found, weights[name], strict=True):
            assert np.allclose(mean, of_task.mean(axis=0))
    mpl.pyplot.close("all")


def test_gates_say_which_experts_they_read():
    assert Gates(2, 6, 4).experts == DSelectGates(2, 6, 4).experts == ((0, 1, 2, 3),) * 2
    level = make_module(CGC, **LEVEL).bottom.level
    assert [list(of_gate) for of_gate in level.task_gates.experts] == OWN_AND_SHARED


@dselect_classes
@pytest.mark.parametrize("conditioned", [True, False])
def test_dselect_k_can_be_exported(cls, conditioned):
    check_program(*network(cls, gate=DSelectK(conditioned=conditioned), n_members=2))


@dselect_classes
@pytest.mark.parametrize("training", [True, False])
def test_penalties_compile_without_graph_breaks(cls, training):
    given = {"gate": DSelectK(entropy=0.1), "gate_units": (10,), "expert_balance": 0.1}
    module, inputs = make_module(cls, n_members=2, **given).train(training), make_inputs(7)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    found = []
    for network_ in (compiled, module):
        found.append([network_(*inputs)])
        if training:
            found[-1].append(module.penalty())
    assert_close(*found, **EXACT)
