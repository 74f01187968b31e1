"""Every architecture against its naive reference, and what all architectures must keep.

`tests/reference/__init__.py` says what a reference holds; nothing here names an architecture but
what is about one of them.
"""

import copy
import decimal
import fnmatch
import importlib.util
import itertools
import math

import modules
import pytest
import reference.embedding
import reference.esmm
import reference.loss
import reference.parts
import torch
from conftest import (
    ESTIMATORS,
    everywhere,
    is_chain,
    is_ordered,
    reference_name,
    reference_of,
    said,
    takes_tasks,
    unordered,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from modules import N_FEATURES, kinds_for, make_inputs, make_module, randn, randomize
from numpy.testing import assert_allclose
from torch import nn
from torch.testing import assert_close

from sk_mtl import architectures
from sk_mtl._training import Objective
from sk_mtl.nn import (
    Dropout,
    FeatureEmbedding,
    Gates,
    NumbersBlock,
    ProbabilityChain,
    StackedLinear,
    StackedMLP,
    Towers,
    logit_of_product,
)

GATED = [cls for cls in ESTIMATORS if hasattr(cls, "gate_units")]
EXACT = {"rtol": 1e-10, "atol": 1e-10}


# References ---------------------------------------------------------------------------------------


def reference_logits(cls, module, numeric, codes, activation):
    """Return the whole network's outputs, row by row; probabilities if the reference says so."""
    of_class = reference_of(cls)
    rows = modules.row_vectors(module.embedding, numeric, codes, reference.embedding.embed)
    towers = modules.towers_of(module.towers)
    hidden = of_class.bottom(module.bottom, rows, activation)
    logits = reference.parts.towers(hidden, towers, activation)
    if hasattr(of_class, "head"):
        logits = [of_class.head(of_row) for of_row in logits]
    return torch.stack(logits)[:, : module.n_logits]


def outputs(cls, module, numeric, codes):
    """Return what `reference_logits` says, from our network."""
    logits = module(numeric, codes)
    return logits.sigmoid() if said(cls, "PROBABILITIES") else logits


SAID = {
    *("ORDERED", "PROBABILITIES", "OPTIONS", "VARIANTS", "KINDS"),
    *("UNTRAINED", "CONSTANT", "MEMORIZED", "SHARES_NOTHING", "OWN_LOSS", "PER_BATCH"),
}
"""What a reference may say in capitals, see `tests/reference/__init__.py`."""


@everywhere
def test_every_architecture_has_a_reference(cls):
    name = reference_name(cls)
    path = f"tests/{name.replace('.', '/')}.py"
    assert importlib.util.find_spec(name), (
        f"{cls.__name__} has no reference: write {path}, see tests/reference/__init__.py"
    )
    of_class = reference_of(cls)
    assert hasattr(of_class, "bottom"), (
        f"{path} has no bottom(bottom, rows, activation): write it as loops from the paper"
    )
    assert hasattr(of_class, "by_task") or is_ordered(cls), (
        f"{path} has no by_task(bottom, n_tasks): return each task's views of the bottom's "
        "parameters and the rest, or set ORDERED = True if the order of tasks means something"
    )
    unread = {name for name in vars(of_class) if name.isupper()} - SAID
    assert not unread, f"{path}: nothing reads {unread}"
    given = [getattr(of_class, "OPTIONS", {}), *getattr(of_class, "VARIANTS", [])]
    unknown = {name for options in given for name in options} - set(cls().get_params(deep=False))
    assert not unknown, f"{path}: {cls.__name__} has no parameters {unknown}"
    names = [name for name, _ in make_module(cls).named_parameters()]
    for pattern in getattr(of_class, "UNTRAINED", ()):
        assert fnmatch.filter(names, pattern), f"{path}: no parameter is called {pattern!r}"


# A draw of its own for every combination; the activation goes round with them.
COMBINATIONS = list(itertools.product([1, 2, 3], [1, 7], [(), (10,)], [1, 2]))


def shape(gate_units, depth, seed):
    """Return widths and activation of one combination."""
    units = (9, 8)[-depth:]
    return {
        "gate_units": gate_units,
        "expert_units": units,
        "bottom_units": units,
        "activation": ("silu", "tanh", "relu")[seed % 3],
        "n_levels": 2 + seed % 2,
    }


def cases(cls):
    """Return the parameters of comparisons with a reference, one variant after the other.

    For each number of tasks four of the eight combinations of rows, gate and depth run by default:
    each pair of their values is among them. A variant runs with the most tasks only; of one that
    names tasks, in a dict, nothing else is possible.
    """
    found = []
    variants = said(cls, "VARIANTS", [])
    for v, variant in enumerate([{}, *variants]):
        for seed, (n_tasks, n_rows, gate_units, depth) in enumerate(COMBINATIONS):
            if not takes_tasks(cls, n_tasks):
                continue
            half = (n_rows == 7) + bool(gate_units) + (depth == 2)
            most = not takes_tasks(cls, n_tasks + 1) or n_tasks == 3
            if not most and any(isinstance(value, dict) for value in variant.values()):
                continue
            default = half % 2 == 1 and (v == 0 or most)
            given = shape(gate_units, depth, seed) | variant
            name = f"{cls.__name__}-K{n_tasks}-B{n_rows}-{seed}" + f"-variant{v}" * (v > 0)
            marks = () if default else pytest.mark.slow
            found.append(pytest.param(cls, n_tasks, n_rows, given, seed, id=name, marks=marks))
    return found


compared = pytest.mark.parametrize(
    ("cls", "n_tasks", "n_rows", "given", "seed"),
    [case for cls in ESTIMATORS for case in cases(cls)],
)


def assert_same_gradients(actual, expected, sources, seed):
    """Check that a random functional of two outputs has the same gradients."""
    functional = randn(actual.shape, seed=seed + 1)
    assert_close(
        modules.gradients(actual, sources, functional),
        modules.gradients(expected, sources, functional),
        **EXACT,
    )


@compared
def test_bottom_equals_reference(cls, n_tasks, n_rows, given, seed):
    module = make_module(cls, n_tasks, seed=seed, **given)
    bottom = module.bottom
    n_copies = len(modules.copies_of(module.embedding))
    axes = (n_copies, N_FEATURES) if module.embedding.n_own else (N_FEATURES,)
    x = randn(n_rows, *axes, seed=seed).requires_grad_()
    actual = bottom(x)
    activation = modules.FUNCTIONS[given["activation"]]
    hidden = reference_of(cls).bottom(bottom, list(x), activation)
    expected = torch.stack([torch.stack(row) for row in hidden])
    n_towers = len(modules.towers_of(module.towers))
    assert actual.shape == (n_rows, n_towers, bottom.out_features)
    assert_close(actual, expected, **EXACT)
    assert_same_gradients(actual, expected, [x, *bottom.parameters()], seed)


@compared
def test_module_equals_reference(cls, n_tasks, n_rows, given, seed):
    module = make_module(cls, n_tasks, seed=seed, towers=seed // 3 % 2, **given)
    numeric, codes = make_inputs(n_rows, seed)
    numeric.requires_grad_()
    actual = outputs(cls, module, numeric, codes)
    activation = modules.FUNCTIONS[given["activation"]]
    expected = reference_logits(cls, module, numeric, codes, activation)
    n_logits = sum(task.n_logits for task in modules.make_tasks(kinds_for(cls, n_tasks)))
    assert actual.shape == (n_rows, n_logits)
    assert_close(actual, expected, **EXACT)
    assert_same_gradients(actual, expected, [numeric, *module.parameters()], seed)


# Loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_rows", [1, 9])
@pytest.mark.parametrize(
    "kinds",
    [
        ("binary",),
        ("binary", "binary"),
        ("regression", "regression", "regression"),
        ("multiclass", "multiclass"),
        ("multiclass", "binary", "regression", "multiclass", "binary"),
    ],
    ids="-".join,
)
def test_loss_equals_reference(kinds, n_rows, weighted, seed):
    widths = [4 + k if kind == "multiclass" else 1 for k, kind in enumerate(kinds)]
    tasks = [modules.make_task(kind, kind, w) for kind, w in zip(kinds, widths, strict=True)]
    logits = randn(n_rows, sum(widths), seed=seed).requires_grad_()
    draws = randn(n_rows, len(kinds), seed=seed + 10)
    labels = draws.clone()
    for k, kind in enumerate(kinds):
        if kind != "regression":
            labels[:, k] = (draws[:, k].abs() * 1000).long() % max(widths[k], 2)
    weight = None
    if weighted:
        weight = randn(n_rows, len(kinds), seed=seed + 20).abs()
        missing = randn(n_rows, len(kinds), seed=seed + 30) > 0.5
        labels[missing], weight[missing] = torch.nan, 0.0
    actual, total = modules.sums_of(Objective(tasks), logits, labels, weight)
    weights = None if weight is None else weight.tolist()
    sums, totals = reference.loss.task_sums(kinds, widths, list(logits), labels.tolist(), weights)
    expected = torch.stack(sums)
    assert_close(actual, expected, **EXACT)
    assert_close(total, torch.tensor(totals, dtype=torch.float64), **EXACT)
    functional = randn(len(kinds), seed=seed)
    assert_close(
        modules.gradients(actual, [logits], functional),
        modules.gradients(expected, [logits], functional),
        **EXACT,
    )


def test_fixed_loss_weights_multiply_the_losses():
    kinds, losses = ("binary",) * 3, torch.tensor([0.5, 1.0, 2.0])
    weighted = modules.make_criterion(kinds, loss_weights=[2.0, 0.0, 0.5])
    assert_close(weighted.weigh(losses.double()), torch.tensor([1.0, 0.0, 1.0]).double())
    assert_close(modules.make_criterion(kinds).weigh(losses), losses)


@pytest.mark.parametrize("n_tasks", [2, 3])
def test_esmm_loss_equals_the_papers(n_tasks):
    module = make_module("ESMM", n_tasks)
    numeric, codes = make_inputs(7)
    labels = torch.ones(7, n_tasks).double().cumprod(1)
    for i in range(7):
        labels[i, i % (n_tasks + 1) :] = 0.0
    criterion = modules.make_criterion(("binary",) * n_tasks)
    actual = modules.estimates_of(criterion, module(numeric, codes), labels).sum()
    logits = module.tower_logits(numeric, codes)
    expected = reference.esmm.loss([list(row) for row in logits], labels.tolist())
    assert_close(actual, expected, **EXACT)
    assert_same_gradients(actual, expected, list(module.parameters()), 0)


# Parts --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [None, 1, 3, 6])
@pytest.mark.parametrize("bias", [True, False])
def test_stacked_linear_equals_linear_layers(groups, bias):
    linears = [nn.Linear(4, 5, bias=bias).double() for _ in range(6)]
    stacked = StackedLinear.from_linears(linears)
    x = randn(7, 4) if groups is None else randn(7, groups, 4)
    for i, linear in enumerate(linears):
        read = x if groups is None else x[:, i * groups // 6]
        assert_close(stacked(x)[:, i], linear(read), **EXACT)


def test_stacked_linear_starts_as_separate_layers_do():
    weight = StackedLinear(300, 6, 10, generator=torch.Generator().manual_seed(0)).weight
    bound = math.sqrt(6 / 16)  # Glorot over the fans of a slice, not over those of the stack
    assert weight.abs().max() <= bound
    assert_close(weight.std().item(), bound / math.sqrt(3), rtol=0.02, atol=0.0)


def test_embedding_of_every_code_equals_reference():
    embedding = randomize(make_module("ESMM", 1).embedding)
    n = max(modules.N_CATEGORIES) + 2
    codes = torch.stack([torch.arange(n) % (k + 2) for k in modules.N_CATEGORIES], dim=1)
    numeric = randn(n, modules.N_NUMERIC)
    numeric[::2, 4] = torch.nan
    numeric[1, :] = torch.nan
    expected = modules.row_vectors(embedding, numeric, codes, reference.embedding.embed)
    actual = embedding(modules.parts_of((numeric, codes)))
    assert actual.shape == (n, embedding.out_features) == (n, N_FEATURES)
    assert_close(actual, torch.stack(expected), **EXACT)


def embed_numbers(block, numbers):
    return FeatureEmbedding({"numeric": block})({"numeric": numbers})


def test_embedding_standardizes_before_it_rounds():
    # Seconds since 1970: float32 would only tell steps of two minutes.
    start = 1.7e9
    stamps = torch.tensor([[start], [start + 1.0]], dtype=torch.float64)
    block = NumbersBlock(1, mean=[start], scale=[1.0]).float()
    assert embed_numbers(block, stamps).tolist() == [[0.0], [1.0]]


@pytest.mark.xfail(strict=True, reason="NumbersBlock rounds `fill` to the default dtype, for good")
def test_embedding_fills_in_the_precision_of_the_network():
    mean = 1.7e9 + 0.1  # numeric_features="passthrough" fills with the column's mean
    block = NumbersBlock(1, fill=torch.tensor([mean], dtype=torch.float64)).double()
    missing = torch.tensor([[torch.nan]], dtype=torch.float64)
    assert embed_numbers(block, missing).item() == mean


def test_a_column_that_was_constant_is_held_at_its_fill():
    block = NumbersBlock(2, mean=[1.0, 5.0], scale=[2.0, math.nan], fill=[0.0, 0.5]).double()
    numbers = torch.tensor([[3.0, 5.0], [torch.nan, 7.0], [1.0, torch.nan]], dtype=torch.float64)
    assert embed_numbers(block, numbers).tolist() == [[1.0, 0.5], [0.0, 0.5], [0.0, 0.5]]


@pytest.mark.parametrize("groups", [None, 3, 6])
def test_batch_norm_is_per_network(groups):
    n, width = 6, 5
    mlp = StackedMLP(n, 4, (width,), activation="silu", batch_norm=True)
    randomize(mlp)
    separate = []
    (norm,) = [layer.norm for layer in mlp.layers if hasattr(layer, "norm")]
    for i, ((weight, bias),) in enumerate(modules.layers_of(mlp)):
        network = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.SiLU()).double()
        part = slice(i * width, (i + 1) * width)
        with torch.no_grad():
            network[0].weight.copy_(weight)
            network[0].bias.copy_(bias)
            network[1].weight.copy_(norm.weight[part])
            network[1].bias.copy_(norm.bias[part])
        separate.append(network)
    for seed in range(3):  # three steps move the running statistics
        x = randn(8, 4, seed=seed) if groups is None else randn(8, groups, 4, seed=seed)
        x.requires_grad_()
        actual = mlp(x)
        expected = torch.stack(
            [
                network(x if groups is None else x[:, i * groups // n])
                for i, network in enumerate(separate)
            ],
            dim=1,
        )
        assert_close(actual, expected, **EXACT)
        functional = randn(*actual.shape, seed=seed)
        assert_close(
            modules.gradients(actual, [x], functional),
            modules.gradients(expected, [x], functional),
            **EXACT,
        )
    mlp.eval()
    x = randn(1, 4, seed=9) if groups is None else randn(1, groups, 4, seed=9)
    for i, network in enumerate(separate):
        read = x if groups is None else x[:, i * groups // n]
        assert_close(mlp(x)[:, i], network.eval()(read), **EXACT)


def test_dropout_draws_from_its_generator_only():
    dropout, x = Dropout(0.3), torch.ones(200, 500)
    state = torch.random.get_rng_state()
    draws = []
    for seed in (0, 0, 1):
        dropout.generator = torch.Generator().manual_seed(seed)
        draws.append(dropout(x))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    kept = torch.tensor(2**16 / round(0.7 * 2**16)).item()  # the share kept is of 2**-16ths
    assert set(draws[0].unique().tolist()) == {0.0, kept}
    assert_allclose(kept, 1 / 0.7, rtol=2**-15)
    assert_allclose((draws[0] == 0).float().mean(), 0.3, atol=0.01)
    assert_allclose(draws[0].mean(), 1.0, atol=0.01)
    assert torch.equal(x, torch.ones(200, 500))
    assert torch.equal(Dropout(1.0)(x), torch.zeros(200, 500))
    assert dropout.eval()(x) is x


@pytest.mark.parametrize("distance", [1, 2, 3, 4])
def test_dropout_decides_on_every_element_by_itself(distance):
    kept = Dropout(0.3)(torch.ones(400, 500).t()).flatten() > 0
    assert_allclose((kept[distance:] & kept[:-distance]).float().mean(), 0.7**2, atol=0.01)


@pytest.mark.parametrize("p", [1e-9, 1 - 1e-9])
def test_dropout_at_its_ends_stays_finite(p):
    x = torch.ones(10, 3).expand(2, 10, 3)
    assert Dropout(p)(x).isfinite().all()
    assert Dropout(p)(x[:, :0]).shape == (2, 0, 3)


def test_dropout_without_a_generator_draws_from_the_global_one():
    dropout, x = Dropout(0.5), torch.ones(20, 20)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = dropout(x)
        second = dropout(x)
        torch.manual_seed(0)
        assert torch.equal(first, dropout(x))
    assert not torch.equal(first, second)


@everywhere
def test_generator_reaches_every_dropout_layer(cls):
    module = make_module(cls, dropout=0.5)
    layers = [layer for layer in module.modules() if isinstance(layer, Dropout)]
    assert layers
    generator = torch.Generator().manual_seed(0)
    module.set_generator(generator)
    assert all(layer.generator is generator for layer in layers)
    inputs, state = make_inputs(7), torch.random.get_rng_state()
    first, second = module(*inputs), module(*inputs)
    generator.manual_seed(0)
    assert torch.equal(module(*inputs), first)
    assert not torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)
    module.set_generator(None)
    assert all(layer.generator is None for layer in layers)


# What every architecture keeps --------------------------------------------------------------------


@pytest.mark.parametrize("gate_units", [(), (10,)])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
@everywhere
def test_every_parameter_gets_a_gradient(cls, activation, gate_units):
    module = make_module(cls, activation=activation, gate_units=gate_units, n_levels=3)
    n = max(modules.N_CATEGORIES) + 2
    numeric, codes = make_inputs(n)
    for column, k in enumerate(modules.N_CATEGORIES):  # every row of every table
        codes[:, column] = torch.arange(n) % (k + 2)
    logits = module.tower_logits(numeric, codes)
    total = (module.join(logits) * randn(*module.join(logits).shape)).sum()
    if module.n_logits is not None:  # outputs that no label belongs to: an objective reads them
        total = total + (logits * randn(*logits.shape, seed=1)).sum()
    total.backward()
    patterns = said(cls, "UNTRAINED", ())
    for key, parameter in module.named_parameters():
        if any(fnmatch.fnmatch(key, pattern) for pattern in patterns):
            continue
        assert parameter.grad is not None, key
        assert (parameter.grad != 0).all(), key


@pytest.mark.parametrize("training", [False, True])
@everywhere
def test_rows_are_independent(cls, training):
    # Batch norm ties the rows of a batch in training, by definition; nothing else may.
    module = make_module(cls, gate_units=(10,), batch_norm=not training).train(training)
    numeric, codes = make_inputs(7)
    whole = module(numeric, codes)
    for i in range(7):
        assert_close(module(numeric[i : i + 1], codes[i : i + 1]), whole[i : i + 1], **EXACT)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    assert_close(module(numeric[order], codes[order]), whole[order], **EXACT)


def parts_by_task(cls, module, n_tasks):
    """Views of the parameters that belong to one task, to none, and to a pair of tasks."""
    of_task, rest, *of_pairs = reference_of(cls).by_task(module.bottom, n_tasks)
    of_task, rest = [list(views) for views in of_task], list(rest)
    for k, (hidden, output) in enumerate(modules.towers_of(module.towers)):
        of_task[k].extend(itertools.chain(*hidden, output))
    embedding = module.embedding
    for k, copy_ in enumerate(modules.copies_of(embedding)):
        (of_task[k] if k < embedding.n_own else rest).extend(copy_)
    return of_task, rest, [*itertools.chain(*of_pairs)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3)))[1:], ids=str)
@pytest.mark.parametrize("cls", unordered())
def test_permuting_tasks_permutes_outputs_only(cls, order):
    # Not where tasks are the steps of a chain, or one reads another's.
    kinds, given = kinds_for(cls, 3), {"gate_units": (10,)}
    units = modules.TOWER_UNITS[1]
    module = make_module(cls, kinds=kinds, tower_units=list(units), **given)
    permuted = make_module(
        cls,
        kinds=[kinds[k] for k in order],
        tower_units=[units[k] for k in order],
        seed=1,
        **given,
    )
    both = (parts_by_task(cls, m, 3) for m in (module, permuted))
    (old, old_rest, old_pairs), (new, new_rest, new_pairs) = both
    counted = sum(view.numel() for view in itertools.chain(*old, old_rest, old_pairs))
    assert counted == sum(parameter.numel() for parameter in module.parameters())
    with torch.no_grad():
        for position, k in enumerate(order):
            for to, given_view in zip(new[position], old[k], strict=True):
                to.copy_(given_view)
        for to, given_view in zip(new_rest, old_rest, strict=True):
            to.copy_(given_view)
        for to, given_view in zip(new_pairs, old_pairs, strict=True):
            to.copy_(given_view[list(order)][:, list(order)])
    numeric, codes = make_inputs(7)
    widths = [task.n_logits for task in modules.make_tasks(kinds)]
    blocks = module(numeric, codes).split(widths, dim=1)
    expected = torch.cat([blocks[k] for k in order], dim=1)
    assert_close(permuted(numeric, codes), expected, **EXACT)


@everywhere
def test_state_dict_round_trip(cls):
    given = {"batch_norm": True, "gate_units": (10,), "towers": 1}
    first, second = make_module(cls, seed=0, **given), make_module(cls, seed=1, **given)
    inputs = make_inputs(7)
    first(*inputs)  # moves the running statistics
    first.eval(), second.eval()
    assert not torch.allclose(first(*inputs), second(*inputs))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*inputs), second(*inputs))


@everywhere
def test_deepcopy_is_independent(cls):
    module, inputs = make_module(cls), make_inputs(7)
    before = module(*inputs)
    twin = copy.deepcopy(module)
    assert torch.equal(twin(*inputs), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert torch.equal(module(*inputs), before)


@everywhere
def test_compiles_without_graph_breaks(cls):
    module, inputs = make_module(cls, gate_units=(10,), towers=1), make_inputs(7)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="eager", fullgraph=True)
    assert_close(compiled(*inputs), module(*inputs), **EXACT)


@everywhere
def test_memorizes_64_rows(cls):
    x = randn(64, 8).float().numpy()
    kinds = kinds_for(cls, 3)
    labels = randn(64, len(kinds), seed=1) > 0
    labels = labels.cumprod(1) if is_chain(cls) else labels
    estimator = modules.make_estimator(
        cls,
        bottom_units=(32,),
        expert_units=(32,),
        n_experts=2,
        n_task_experts=1,
        n_shared_experts=1,
        batch_size=None,
        max_epochs=250,
        lr=0.01,
        random_state=0,
    )
    loss = estimator.fit(x, labels.int().numpy()).history_["train_loss"]
    assert loss.iloc[-1] < said(cls, "MEMORIZED", 0.1) * loss.iloc[0]


# Products of probabilities ------------------------------------------------------------------------


def exact_logit_of_product(a, b):
    """logit(sigmoid(a) sigmoid(b)), with digits enough for the product to differ from one."""
    with decimal.localcontext() as context:
        context.prec = 60 + int((abs(a) + abs(b)) / math.log(10))
        p = 1 / (1 + (-decimal.Decimal(a)).exp()) / (1 + (-decimal.Decimal(b)).exp())
        return float((p / (1 - p)).ln())


steady = settings(max_examples=60, deadline=None, derandomize=True, database=None)
logits_up_to = {bound: st.floats(-bound, bound) for bound in (12, 200)}


@steady
@given(logits_up_to[12], logits_up_to[12])
def test_logit_of_product_equals_direct_formula(a, b):
    pair = torch.tensor([a, b], dtype=torch.float64)
    p = pair.sigmoid().prod()
    assert_close(logit_of_product(*pair), p.log() - (1 - p).log(), rtol=1e-9, atol=1e-9)


@steady
@given(logits_up_to[200], logits_up_to[200])
def test_logit_of_product_is_exact(a, b):
    pair = torch.tensor([a, b], dtype=torch.float64)
    assert_allclose(
        logit_of_product(*pair).item(), exact_logit_of_product(a, b), rtol=1e-14, atol=1e-14
    )


@steady
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=5), st.booleans())
def test_joint_probability_is_at_most_each(logits, double):
    dtype = torch.float64 if double else torch.float32
    z = torch.tensor([logits], dtype=dtype)
    joint = ProbabilityChain()(z)
    slack = 4 * torch.finfo(dtype).eps * z.abs().max()
    assert (joint <= z.cummin(1).values + slack).all()
    assert (joint.diff(dim=1) <= slack).all()
    assert torch.equal(joint[:, 0], z[:, 0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_chain_is_finite_at_extreme_logits(dtype):
    corners = torch.tensor(list(itertools.product([-1e3, 0.0, 1e3], repeat=4)), dtype=dtype)
    corners.requires_grad_()
    joint = ProbabilityChain()(corners)
    assert joint.isfinite().all()
    for label in (0.0, 1.0):
        loss = nn.functional.binary_cross_entropy_with_logits(joint, torch.full_like(joint, label))
        (gradient,) = torch.autograd.grad(loss, corners, retain_graph=True)
        assert loss.isfinite()
        assert gradient.isfinite().all()


# Construction -------------------------------------------------------------------------------------


def built(cls, seed=0, **given):
    """A module as an estimator builds it, its first weights left alone."""
    return modules.build_module(cls, kinds_for(cls, 3), seed=seed, **given)


@everywhere
def test_experts_gates_and_towers_differ_after_construction(cls):
    module = built(cls, gate_units=(10,), n_levels=3, tower_units=(12,))
    constant = said(cls, "CONSTANT", ())
    weights = [
        layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, StackedLinear)
        and not any(fnmatch.fnmatch(name, pattern) for pattern in constant)
    ]
    slices = [piece for weight in weights for piece in weight]
    for one, other in itertools.combinations(slices, 2):
        assert one.shape != other.shape or not torch.equal(one, other)
    # Within one, no unit is another's twin.
    assert all(len(piece.unique()) == piece.numel() for piece in slices)
    for table in modules.tables_in(module):
        trained = [row for row in table.detach() if row.any()]
        assert len(torch.stack(trained).unique(dim=0)) == len(trained)


@everywhere
def test_construction_draws_from_the_generator_only(cls):
    state = torch.random.get_rng_state()
    first, same, other = built(cls, 0), built(cls, 0), built(cls, 1)
    assert torch.equal(torch.random.get_rng_state(), state)
    for key, value in first.state_dict().items():
        assert torch.equal(value, same.state_dict()[key]), key
    assert any(
        not torch.equal(value, other.state_dict()[key]) for key, value in first.state_dict().items()
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("cls", GATED)
def test_gate_rows_are_convex_weights(cls, training):
    module = make_module(cls, gate_units=(10,), n_levels=3, dropout=0.5, batch_norm=True)
    seen = []
    for part in module.modules():
        if isinstance(part, Gates):
            part.register_forward_hook(lambda _m, _i, out: seen.append(out))
    module.train(training)(*make_inputs(7))
    assert seen
    for weights in seen:
        assert (weights >= 0).all()
        assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]).double(), **EXACT)


def test_towers_keep_task_order():
    # Towers of equal shape run together; their logits still stand in task order.
    units, widths = [(5,), (), (5,), (6,), ()], [2, 1, 2, 3, 1]
    towers = randomize(Towers(4, units, widths))
    h = randn(7, 5, 4)
    rows = [list(row) for row in h]
    expected = reference.parts.towers(rows, modules.towers_of(towers), torch.relu)
    assert_close(towers(h), torch.stack(expected), **EXACT)


def test_architectures_export_what_they_define():
    assert all(hasattr(architectures, name) for name in architectures.__all__)
