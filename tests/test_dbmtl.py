"""DBMTL: which way features and gradients travel, what it equals without edges, names of tasks."""

import modules
import pytest
import torch
from conftest import small
from modules import make_inputs, make_module, randn, randomize
from torch import nn
from torch.testing import assert_close

from sk_mtl import DBMTL
from sk_mtl.architectures import DBMTLBottom, SharedBottomBottom
from sk_mtl.nn import StackedLinear, StackedMLP, TaskGraph

EXACT = {"rtol": 1e-10, "atol": 1e-10}
D, K = 11, 4
PARENTS = [[], [0], [0, 1], []]  # 0 -> 1 -> 2, 0 -> 2, and 3 alone
ANCESTORS = [{0}, {0, 1}, {0, 1, 2}, {3}]
SIZES = {"units": (9, 8), "task_units": (7,), "relation_units": (6, 5), "activation": "tanh"}


def make_bottom(parents=PARENTS, **given):
    return randomize(DBMTLBottom(D, K, parents=parents, **{**SIZES, **given}))


def reached(loss, graph, stacks):
    """Return the tasks whose networks, of one of two stacks, a loss reaches at all."""
    found = set()
    for tasks, mlp in zip(graph.groups, stacks, strict=True):
        parameters = list(mlp.parameters())
        for gradient in modules.gradients(loss, parameters, torch.ones(()).double()):
            assert len(gradient) == len(tasks)
            found |= {k for k, piece in zip(tasks, gradient, strict=True) if (piece != 0).any()}
    return found


def check_directions(bottom):
    """A task's loss reaches itself and whatever it reads, and nothing that reads it."""
    out, graph = bottom(randn(7, D)), bottom.graph
    for k in range(K):
        loss = (out[:, k] * randn(7, 5, seed=1)).sum()
        assert reached(loss, graph, graph.task_mlps) == ANCESTORS[k]
        assert reached(loss, graph, graph.relation_mlps) == ANCESTORS[k]


@pytest.mark.parametrize("n_members", [1, 2])
def test_losses_reach_parents_and_never_children(n_members):
    bottom = make_bottom(n_members=n_members)
    if n_members == 1:
        check_directions(bottom)
    assert bottom(randn(7, D)).shape == (7, n_members * K, 5)


def test_features_that_travel_detached_would_be_noticed():
    bottom = make_bottom()
    bottom.graph.relation_mlps[0].register_forward_hook(lambda _m, _i, out: out.detach())
    with pytest.raises(AssertionError):
        check_directions(bottom)


def test_probabilities_that_travel_would_be_noticed():
    """Hidden features travel: a child sees every one of them, not a single number."""
    bottom = make_bottom()
    x = randn(7, D)
    before = bottom(x)
    handle = bottom.graph.relation_mlps[0].register_forward_hook(
        lambda _m, _i, out: out + torch.tensor([1.0, -1.0, 0.0, 0.0, 0.0]).double()
    )
    after = bottom(x)
    handle.remove()
    assert bottom.graph.groups[0] == [0]
    assert_close(after[:, 0].sum(-1), before[:, 0].sum(-1), **EXACT)
    assert not torch.allclose(after[:, 1], before[:, 1])
    assert not torch.allclose(after[:, 2], before[:, 2])
    assert torch.equal(after[:, 3], before[:, 3])


def test_without_edges_and_joining_networks_it_is_a_shared_bottom_with_towers():
    bottom, x = make_bottom([], relation_units=()), randn(7, D)
    shared = SharedBottomBottom(D, K, units=(9, 8), activation="tanh").double()
    shared.mlp.load_state_dict(bottom.mlp.state_dict())
    towers = StackedMLP(K, 8, (7,), activation="tanh").double()
    (own,) = bottom.graph.task_mlps
    towers.load_state_dict(own.state_dict())
    assert_close(bottom(x), towers(shared(x)), **EXACT)


def test_without_edges_joining_networks_are_further_layers():
    bottom, x = make_bottom([]), randn(7, D)
    h = bottom.mlp(x)
    for own, joining in zip(bottom.graph.task_mlps, bottom.graph.relation_mlps, strict=True):
        h = joining(own(h))
    assert_close(bottom(x), h, **EXACT)


def test_members_are_graphs_of_their_own():
    pair, x = make_bottom(n_members=2), randn(7, D)
    one = make_bottom()
    with torch.no_grad():
        for of_pair, of_one in zip(pair.parameters(), one.parameters(), strict=True):
            n = len(of_pair) // 2
            of_one.copy_(of_pair[n:])
    assert_close(pair(x)[:, K:], one(x), **EXACT)


def test_a_task_may_stand_before_its_parents():
    """EasyRec and TorchEasyRec need parents listed before their children."""
    last = TaskGraph(2, D, [[1], []], task_units=(7,), relation_units=(6,)).double()
    first = TaskGraph(2, D, [[], [0]], task_units=(7,), relation_units=(6,)).double()
    assert last.groups == [[1], [0]]
    assert first.groups == [[0], [1]]
    first.load_state_dict(last.state_dict())
    h = randn(7, 1, D)
    assert torch.equal(last(h), first(h).flip(1))


def test_own_parameters_are_those_of_tasks_that_nothing_reads():
    parents = {"task_1": ["task_0"]}
    module = make_module(DBMTL, kinds=("binary",) * 3, parents=parents)
    shared = {id(p) for p in module.shared_parameters()}
    logits = module(*make_inputs(7))
    for part in (module.bottom, module.embedding):
        for parameter in part.parameters():
            by_task = [modules.gradients(logits[:, k], [parameter], randn(7))[0] for k in range(3)]
            moved = [(found != 0).flatten(1).any(1) for found in by_task]
            several = sum(found.int() for found in moved) > 1
            assert several.any() == (id(parameter) in shared)
    assert module.bottom.graph.groups == [[0], [2], [1]]


def test_towers_are_linear_by_default(table):
    module = DBMTL(max_epochs=1, random_state=0).fit(table.X, table.Y).module_
    layers = [part for part in module.towers.modules() if isinstance(part, StackedLinear)]
    assert sum(layer.n for layer in layers) == 4 * module.n_members
    assert not any(isinstance(part, nn.ReLU) for part in module.towers.modules())


# Names --------------------------------------------------------------------------------------------


def test_parents_by_name(table):
    parents = {"wage": "level", "level": ["income", "married"]}
    model = small(DBMTL, parents=parents).fit(table.X, table.Y)
    assert model.module_.bottom.graph.parents == [[], [], [0, 1], [2]]


def test_parents_of_unnamed_tasks():
    Y = (randn(20, 2) > 0).int().numpy()
    X = randn(20, 3).numpy()
    graph = small(DBMTL, parents={"task_0": ["task_1"]}).fit(X, Y).module_.bottom.graph
    assert graph.parents == [[1], []]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"parents": {"pay": ["level"]}}, "`parents` names the task 'pay', which y does not have"),
        ({"parents": {"level": ["pay"]}}, "`parents` names the task 'pay'.* its tasks are"),
        ({"parents": {"level": ["level"]}}, "in a circle, 'level' -> 'level'"),
        (
            {"parents": {"level": ["wage"], "wage": ["married"], "married": ["level"]}},
            "`parents` goes round in a circle, '(level|wage|married)' -> ",
        ),
        ({"parents": {"wage": ["level"]}, "relation_units": ()}, "`relation_units` is empty"),
        ({"parents": ["level"]}, "'parents' parameter of DBMTL must be"),
    ],
)
def test_graphs_that_are_none(table, given, message):
    model = small(DBMTL, **given)
    with pytest.raises(ValueError, match=message):
        model.fit(table.X, table.Y)
    assert not hasattr(model, "module_")
