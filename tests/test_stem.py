"""STEM: what each task's loss reaches, what it equals at its corners, and public mistakes."""

import modules
import pytest
import torch
from modules import make_inputs, make_module, randn
from torch.testing import assert_close

from sk_mtl import STEM
from sk_mtl.architectures import CGCBottom, MMoEBottom, STEMBottom
from sk_mtl.nn import mix

EXACT = {"rtol": 1e-10, "atol": 1e-10}
D, K, M, S, H = 11, 3, 4, 6, 8  # all different
SIZES = {"n_task_experts": M, "n_shared_experts": S, "expert_units": (9, H), "activation": "tanh"}


def make_bottom(**given):
    return modules.randomize(STEMBottom(D, K, **{**SIZES, **given}))


def reached(loss, parameter, per_task):
    """Return which tasks' slices of a stacked parameter a loss reaches at all, exactly."""
    (found,) = modules.gradients(loss, [parameter], torch.ones(()).double())
    assert len(found) == K * per_task
    return [bool((piece != 0).any()) for piece in found.split(per_task)]


def check_isolation(bottom, level):
    """A task's loss reaches its own gate and experts, all shared ones, and no other task's."""
    out = bottom(randn(7, K + 1, D))
    for k in range(K):
        loss = (out[:, k] * randn(7, H, seed=1)).sum()
        alone = [j == k for j in range(K)]
        for parameter in level.task_experts.parameters():
            assert reached(loss, parameter, M) == alone
        for parameter in level.gates.parameters():
            assert reached(loss, parameter, 1) == alone
        shared = list(level.shared_experts.parameters())
        for found in modules.gradients(loss, shared, torch.ones(()).double()):
            assert all((expert != 0).any() for expert in found)


def test_a_tasks_loss_trains_no_other_tasks_experts():
    bottom = make_bottom(gate_units=(5,))
    check_isolation(bottom, bottom.level)


def without_stops(level, task_x, shared_x):
    """The level's equations without a stopped gradient."""
    experts = torch.cat([level.task_experts(task_x), level.shared_experts(shared_x)], dim=1)
    return mix(level.gates(task_x + shared_x.unsqueeze(1)), experts)


def test_other_tasks_experts_are_not_stopped():
    """The same check finds it where nothing is stopped, although no output moves."""
    bottom, level, x = make_bottom(), make_bottom().level, randn(7, K + 1, D)
    level.forward = lambda task_x, shared_x: without_stops(level, task_x, shared_x)
    assert_close(level(x[:, :-1], x[:, -1]), bottom(x), **EXACT)
    wrong = make_bottom()
    wrong.level = level
    with pytest.raises(AssertionError):
        check_isolation(wrong, level)


def test_shared_experts_are_stopped():
    """MultiTab's STEM compares the stream's index with -1: shared experts never learn there."""
    bottom = make_bottom()
    bottom.level.shared_experts.register_forward_hook(lambda _m, _i, out: out.detach())
    with pytest.raises(AssertionError):
        check_isolation(bottom, bottom.level)


@pytest.mark.parametrize("k", range(K))
def test_a_tasks_loss_moves_no_other_tasks_embeddings(k):
    module = make_module(STEM, kinds=("binary",) * K, gate_units=(5,))
    logits = module(*make_inputs(7))
    functional = randn(7, seed=1)
    copies = modules.own_tables(module.embedding)
    for table in copies:
        (found,) = modules.gradients(logits[:, k], [table], functional)
        by_copy = found.unflatten(1, (K, -1))
        assert [bool((by_copy[:, j] != 0).any()) for j in range(K)] == [j == k for j in range(K)]
    shared = [t for t in modules.tables_in(module) if not any(t is own for own in copies)]
    assert len(shared) == len(copies)
    assert all((g != 0).any() for g in modules.gradients(logits[:, k], shared, functional))


def test_own_and_shared_parameters_are_told_apart():
    module = make_module(STEM, kinds=("binary",) * K)
    shared = {id(p) for p in module.shared_parameters()}
    level = module.bottom.level
    expected = [*module.embedding.blocks.parameters(), *level.shared_experts.parameters()]
    assert shared == {id(p) for p in expected}


def test_gates_learn_what_other_tasks_experts_say():
    """The gate's gradient is that of a gate over experts that are constants."""
    bottom, x = make_bottom(), randn(7, K + 1, D)
    weight = bottom.level.gates.scores.weight
    functional = randn(7, K, H, seed=1)
    (actual,) = modules.gradients(bottom(x), [weight], functional)
    stopped = make_bottom().level
    wanted = without_stops(stopped, x[:, :-1], x[:, -1])
    (expected,) = modules.gradients(wanted, [stopped.gates.scores.weight], functional)
    assert_close(actual, expected, **EXACT)
    assert (actual.unflatten(2, (-1, 1)) != 0).all()


def test_gates_read_the_sum_of_own_and_shared_copies():
    bottom, x = make_bottom(gate_units=(5,)), randn(7, K + 1, D)
    seen = []
    bottom.level.gates.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    bottom(x)
    assert_close(seen[0], x[:, :-1] + x[:, -1:], **EXACT)


def test_without_task_experts_it_is_an_mmoe_on_the_shared_copy():
    """Its gates read x_k + x_s; with x_k = 0 they read what an MMoE's do."""
    bottom = make_bottom(n_task_experts=0)
    mmoe = MMoEBottom(D, K, n_experts=S, expert_units=(9, H), activation="tanh").double()
    mmoe.experts.load_state_dict(bottom.level.shared_experts.state_dict())
    mmoe.gates.load_state_dict(bottom.level.gates.state_dict())
    x = randn(7, K + 1, D)
    x[:, :-1] = 0.0
    assert_close(bottom(x), mmoe(x[:, -1]), **EXACT)


def test_without_foreign_experts_it_is_a_cgc_on_own_embeddings():
    """With foreign columns of the gates at minus infinity; a CGC reads one x in all its parts."""
    bottom = make_bottom()
    scores = bottom.level.gates.scores
    scores.register_forward_hook(
        lambda _m, _i, out: out.masked_fill(bottom.level.trained == 0, -torch.inf)
    )
    cgc = CGCBottom(D, K, **SIZES).double()
    cgc.level.task_experts.load_state_dict(bottom.level.task_experts.state_dict())
    cgc.level.shared_experts.load_state_dict(bottom.level.shared_experts.state_dict())
    with torch.no_grad():
        for k in range(K):
            own = scores.weight[k, k * M : (k + 1) * M]
            cgc.level.task_gates.scores.weight[k] = torch.cat([own, scores.weight[k, K * M :]])
    x = randn(7, D)
    # Gates read x + x here and x there: weights of half the size are the same gates.
    with torch.no_grad():
        scores.weight.mul_(0.5)
    bottom.level.gates.hidden.then = lambda x, output, _last: output(x).softmax(-1)
    assert_close(bottom(x.unsqueeze(1).expand(-1, K + 1, -1)), cgc(x), **EXACT)


def test_experts_must_be_somewhere():
    with pytest.raises(ValueError, match="`n_task_experts` and `n_shared_experts` are both 0"):
        STEM(n_task_experts=0, n_shared_experts=0).fit(randn(8, 2).numpy(), [0, 1] * 4)
