"""What is written for speed gives what the plain way gives."""

import itertools
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from modules import normal as randn
from torch.testing import assert_close

from sk_mtl._training import LazyAdam
from sk_mtl.data import Batches, Rows
from sk_mtl.nn import FeatureEmbedding, Gates, NumbersBlock, StackedMLP, TablesBlock
from sk_mtl.nn.blocks.tables import lookup, sum_slots
from sk_mtl.nn.chain import relu_chain


def layers(n, widths, biases=True):
    pairs = itertools.pairwise(widths)
    return [
        (
            randn(n, out, into, seed=i).requires_grad_(),
            randn(n, out, seed=10 + i).requires_grad_() if biases or i < len(widths) - 2 else None,
        )
        for i, (into, out) in enumerate(pairs)
    ]


def plain(x, chain, last):
    """One network, layer and row-block at a time."""
    n = chain[0][0].shape[0]
    per_network = []
    for k in range(n):
        h = x if x.ndim == 2 else x[:, k * x.shape[1] // n]
        for index, (w, b) in enumerate(chain):
            h = h @ w[k].T if b is None else h @ w[k].T + b[k]
            if index < len(chain) - 1 or last == "relu":
                h = h.relu()
        per_network.append(h.softmax(-1) if last == "softmax" else h)
    return torch.stack(per_network, dim=1)


@pytest.mark.parametrize("last", ["relu", "linear", "softmax"])
@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("widths", [(5, 4), (5, 4, 3), (5, 6, 4, 3)])
@pytest.mark.parametrize(("n", "groups"), [(1, 0), (1, 1), (6, 0), (6, 1), (6, 2), (6, 6)])
def test_a_chain_equals_its_layers(n, groups, widths, biases, last):
    x = randn(7, widths[0], seed=30) if groups == 0 else randn(7, groups, widths[0], seed=30)
    x.requires_grad_()
    chain = layers(n, widths, biases)
    actual, expected = relu_chain(x, chain, last), plain(x, chain, last)
    assert actual.shape == (7, n, widths[-1])
    assert_close(actual, expected, rtol=1e-12, atol=1e-12)
    sources = [x, *(part for layer in chain for part in layer if part is not None)]
    functional = randn(*actual.shape, seed=40)
    assert_close(
        torch.autograd.grad(actual, sources, functional),
        torch.autograd.grad(expected, sources, functional),
        rtol=1e-12,
        atol=1e-12,
    )


def test_a_chain_spares_the_gradient_of_an_input_that_needs_none():
    chain = layers(3, (5, 4, 2))
    out = relu_chain(randn(7, 5), chain)
    out.sum().backward()
    assert all(part.grad is not None for layer in chain for part in layer)


@pytest.mark.parametrize("units", [(), (4,)])
def test_gates_are_alike_with_and_without_a_graph(units):
    gates = Gates(3, 5, 4, units).double()
    x = randn(9, 5)
    with torch.no_grad():
        alone = gates(x)
    assert_close(gates(x), alone, rtol=1e-12, atol=1e-14)


def test_a_chain_compiles_to_the_same(monkeypatch):
    mlp = StackedMLP(3, 5, (4, 2)).double()
    x = randn(7, 5)
    expected = mlp(x)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert_close(mlp(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
def test_lookup_equals_embedding(sparse):
    rows = torch.tensor([3, 0, 3, 3, 7, 0])
    table, twin = (randn(9, 4).requires_grad_() for _ in range(2))
    functional = randn(6, 4, seed=1)
    assert torch.equal(lookup(table, rows, sparse), F.embedding(rows, twin))
    (actual,) = torch.autograd.grad(lookup(table, rows, sparse), table, functional)
    (expected,) = torch.autograd.grad(F.embedding(rows, twin), twin, functional)
    assert actual.is_sparse == sparse
    assert_close(actual.to_dense(), expected)


@pytest.mark.parametrize("decoupled", [False, True])
def test_lazy_adam_equals_adam(decoupled):
    kind = torch.optim.AdamW if decoupled else torch.optim.Adam
    parameters = [randn(3, 4), randn(5, seed=1)]
    twins = [torch.nn.Parameter(p.clone()) for p in parameters]
    parameters = [torch.nn.Parameter(p) for p in parameters]
    options = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-6, "weight_decay": 0.1}
    ours = LazyAdam(parameters, decoupled_weight_decay=decoupled, **options)
    theirs = kind(twins, **options)
    for step in range(5):
        for i, (p, q) in enumerate(zip(parameters, twins, strict=True)):
            # The second parameter misses a step: each counts its own.
            p.grad = None if i and step == 2 else randn(*p.shape, seed=10 * step + i)
            q.grad = p.grad
        ours.step()
        theirs.step()
    assert_close(parameters, twins, rtol=1e-12, atol=1e-12)


def test_moments_never_become_subnormal():
    p, twin = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    ours, theirs = LazyAdam([p], lr=0.1), torch.optim.Adam([twin], lr=0.1)
    tiny = torch.finfo(p.dtype).tiny
    subnormal = 0
    for step in range(1000):
        # The second entry has one gradient, the third none.
        p.grad = twin.grad = torch.tensor([1.0, float(step == 0), 0.0])
        ours.step()
        theirs.step()
        for optimizer, q in ((ours, p), (theirs, twin)):
            mean = optimizer.state[q]["exp_avg"]
            found = ((mean > 0) & (mean < tiny)).any()
            assert optimizer is theirs or not found
            subnormal += found
    assert subnormal > 100  # else the loop is too short to show anything
    assert_close(p, twin)


def test_lazy_adam_equals_sparse_adam():
    table, twin = (torch.nn.Parameter(randn(9, 4)) for _ in range(2))
    # They put eps at different places; it is Adam's that ours keeps.
    options = {"lr": 0.03, "eps": 1e-15}
    ours, theirs = LazyAdam([table], **options), torch.optim.SparseAdam([twin], **options)
    for step in range(5):
        rows = torch.tensor([step, 0, step + 1, 0])
        for p, optimizer in ((table, ours), (twin, theirs)):
            p.grad = None
            (F.embedding(rows, p, sparse=True) * randn(4, 4, seed=step)).sum().backward()
            optimizer.step()
    assert_close(table, twin, rtol=1e-10, atol=1e-10)
    assert torch.equal(table[6:], randn(9, 4)[6:])


def test_a_closure_is_evaluated_with_a_graph():
    p = torch.nn.Parameter(torch.ones(2))
    optimizer = LazyAdam([p], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert_close(p.data, torch.full((2,), 0.9))


def test_a_fit_does_not_import_the_compiler():
    """What torch.optim puts around its methods does, and takes two seconds for it."""
    script = (
        "import sys; from sk_mtl import MMoE; from sk_mtl.datasets import make_census_like;"
        "MMoE(max_epochs=1).fit(*make_census_like(100, random_state=0));"
        "print('torch._dynamo' in sys.modules)"
    )
    command = [sys.executable, "-c", script]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("width", [3, 40])
def test_sums_of_slots(threads, width):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        values, slots = randn(9000, width), torch.arange(9000) % 7
        sums = sum_slots(values, slots, 8)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    expected = torch.stack([values[slots == slot].sum(0) for slot in range(8)])
    assert_close(sums, expected)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32, torch.int64])
def test_prepared_batches_hold_what_the_embedding_makes(dtype):
    blocks = {
        "numeric": NumbersBlock(2, missing_columns=[1]),
        "categorical": TablesBlock([3, 4, 5], [2, 4, 2]),
    }
    embedding = FeatureEmbedding(blocks).double()
    numeric, codes = randn(50, 2), torch.randint(0, 5, (50, 3), dtype=dtype)
    numeric[3, 1] = torch.nan
    parts = {"numeric": numeric, "categorical": codes}
    rows = Rows({name: part.numpy() for name, part in parts.items()})
    batches = Batches(rows, 16, True, torch.Generator().manual_seed(0))
    batches.prepare = embedding.prepare
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    made = torch.cat([embedding.embed(batch.parts) for batch in batches])
    assert_close(made, embedding(parts)[order])
