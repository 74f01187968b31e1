"""Identities between architectures, weights copied, in float64."""

import pytest
import torch
from modules import (
    count_rows,
    estimates_of,
    make_inputs,
    make_module,
    make_task,
    parts_of,
    randn,
    randomize,
)
from torch import nn
from torch.testing import assert_close

from sk_mtl._training import Criterion, Objective
from sk_mtl.architectures import CGCBottom, MMoEBottom, PLEBottom, SharedBottomBottom
from sk_mtl.balancing import EqualBalancer
from sk_mtl.nn import ProbabilityChain

EXACT = {"rtol": 1e-12, "atol": 1e-12}
D, K, UNITS = 11, 3, (9, 8)


def copy_parameters(source, target):
    """Copy all parameters in order; shapes must agree."""
    pairs = list(zip(source.parameters(), target.parameters(), strict=True))
    with torch.no_grad():
        for given, to in pairs:
            assert given.shape == to.shape
            to.copy_(given)


def assert_same_function(one, other, x):
    """Equal values, and equal gradients of the input."""
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    values = [part(each) for part, each in zip((one, other), inputs, strict=True)]
    assert_close(*values, **EXACT)
    for value in values:
        (value * randn(*value.shape, seed=5)).sum().backward()
    assert_close(inputs[0].grad, inputs[1].grad, **EXACT)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("gate_units", [(), (10,)])
def test_mmoe_with_one_expert_is_shared_bottom(gate_units, batch_norm):
    mmoe = randomize(
        MMoEBottom(
            D, K, n_experts=1, expert_units=UNITS, gate_units=gate_units, batch_norm=batch_norm
        )
    )
    shared = SharedBottomBottom(D, K, units=UNITS, batch_norm=batch_norm).double()
    copy_parameters(mmoe.experts, shared.mlp)
    assert_same_function(mmoe, shared, randn(7, D))


@pytest.mark.parametrize(("m", "s"), [(4, 6), (0, 6), (4, 0)])
@pytest.mark.parametrize("gate_units", [(), (10,)])
def test_ple_with_one_level_is_cgc(gate_units, m, s):
    level = {
        "n_task_experts": m,
        "n_shared_experts": s,
        "expert_units": UNITS,
        "gate_units": gate_units,
    }
    ple = randomize(PLEBottom(D, K, n_levels=1, **level))
    cgc = CGCBottom(D, K, **level).double()
    copy_parameters(ple, cgc)
    assert_same_function(ple, cgc, randn(7, D))


@pytest.mark.parametrize("gate_units", [(), (10,)])
def test_cgc_without_task_experts_is_mmoe(gate_units):
    cgc = randomize(
        CGCBottom(
            D, K, n_task_experts=0, n_shared_experts=6, expert_units=UNITS, gate_units=gate_units
        )
    )
    mmoe = MMoEBottom(D, K, n_experts=6, expert_units=UNITS, gate_units=gate_units).double()
    copy_parameters(cgc.level.shared_experts, mmoe.experts)
    copy_parameters(cgc.level.task_gates, mmoe.gates)
    assert_same_function(cgc, mmoe, randn(7, D))


def test_cgc_without_shared_experts_is_a_mixture_per_task():
    cgc = randomize(CGCBottom(D, K, n_task_experts=4, n_shared_experts=0, expert_units=UNITS))
    x = randn(7, D)
    for k in range(K):
        alone = MMoEBottom(D, 1, n_experts=4, expert_units=UNITS).double()
        with torch.no_grad():
            own = cgc.level.task_experts.parameters()
            for given, to in zip(own, alone.experts.parameters(), strict=True):
                to.copy_(given[4 * k : 4 * (k + 1)])
            alone.gates.scores.weight.copy_(cgc.level.task_gates.scores.weight[k : k + 1])
        assert_close(cgc(x)[:, k : k + 1], alone(x), **EXACT)


def test_two_esmm_steps_are_a_product_of_sigmoids():
    module = make_module("ESMM", 2)
    numeric, codes = make_inputs(7)
    click, conversion = module.tower_logits(numeric, codes).sigmoid().unbind(1)
    expected = torch.stack([click, click * conversion], dim=1)
    assert_close(module(numeric, codes).sigmoid(), expected, **EXACT)


def test_a_chain_of_one_step_is_the_identity():
    logits = randn(7, 1)
    assert torch.equal(ProbabilityChain()(logits), logits)


def test_a_chain_begins_with_the_shorter_chain():
    logits = randn(7, 4)
    assert torch.equal(ProbabilityChain()(logits)[:, :3], ProbabilityChain()(logits[:, :3]))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "kinds",
    [
        ("binary", "binary", "binary"),
        ("regression", "regression"),
        ("multiclass", "binary", "multiclass", "regression", "binary"),
    ],
    ids="-".join,
)
def test_loss_of_many_tasks_is_the_losses_of_each(kinds, weighted):
    widths = [5 if kind == "multiclass" else 1 for kind in kinds]
    tasks = [make_task(kind, n_classes=5) for kind in kinds]
    logits = randn(9, sum(widths)).requires_grad_()
    labels = (randn(9, len(kinds)) > 0).double()
    weight = randn(9, len(kinds), seed=1).relu() if weighted else None

    def estimate(members, logits):
        criterion = Criterion(Objective([tasks[k] for k in members]), EqualBalancer())
        target, w = labels[:, members], None if weight is None else weight[:, members]
        # The rows to train on are those of the batch, and as many that weigh three times as much.
        count_rows(criterion, target.repeat(2, 1), None if w is None else torch.cat([w, 3 * w]))
        return estimates_of(criterion, logits, target, w)

    together = estimate(list(range(len(kinds))), logits)
    blocks = logits.split(widths, dim=1)
    alone = torch.cat([estimate([k], block) for k, block in enumerate(blocks)])
    assert_close(together, alone, **EXACT)
    (first,) = torch.autograd.grad(EqualBalancer()(together), logits, retain_graph=True)
    (second,) = torch.autograd.grad(alone.sum(), logits)
    assert_close(first, second, **EXACT)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_shared_bottom_with_one_task_is_a_plain_network(dropout):
    module = make_module(
        "SharedBottom", kinds=("regression",), tower_units=(12,), activation="tanh", dropout=dropout
    )
    D = module.embedding.out_features
    plain = nn.Sequential(
        *(nn.Linear(D, 9), nn.Tanh(), nn.Dropout(dropout)),
        *(nn.Linear(9, 8), nn.Tanh(), nn.Dropout(dropout)),
        *(nn.Linear(8, 12), nn.Tanh(), nn.Dropout(dropout)),
        nn.Linear(12, 1),
    ).double()
    stacked = [*module.bottom.parameters(), *module.towers.parameters()]
    with torch.no_grad():
        for given, to in zip(stacked, plain.parameters(), strict=True):
            to.copy_(given[0])
    inputs = make_inputs(7)
    x = module.embedding(parts_of(inputs))
    assert_close(module.eval()(*inputs), plain.eval()(x), **EXACT)
    if not dropout:
        assert_close(module.train()(*inputs), plain.train()(x), **EXACT)


def test_two_tasks_of_one_head_are_one_task_twice():
    # The same tower weights for both tasks, and gates alike: the same logits.
    module = make_module("MMoE", kinds=("binary", "binary"), tower_units=(12,))
    with torch.no_grad():
        for parameter in [*module.towers.parameters(), *module.bottom.gates.parameters()]:
            parameter[1] = parameter[0]
    logits = module(*make_inputs(7))
    assert_close(logits[:, 0], logits[:, 1], **EXACT)
