"""Row-wise Adagrad: one number of state per slot of a table, Adam for everything else."""

import copy

import numpy as np
import pytest
import torch
from conftest import assert_equal_state, by_pickle, everywhere, make_table, small
from hypothesis import given, settings
from hypothesis import strategies as st
from modules import normal as randn
from skorch.callbacks import Callback
from torch.testing import assert_close

from sk_mtl import STEM, MMoE, SharedBottom, load
from sk_mtl._training import LazyAdam
from sk_mtl._training.optim_rowwise import RowwiseAdagrad
from sk_mtl._training.snapshot import Snapshot, bytes_of, optimizer_state
from sk_mtl.balancing import BALANCERS

TABLE = make_table(120)
X, Y = TABLE.X, TABLE.Y
ROWWISE = {"optimizer": "rowwise_adagrad", "sparse_embeddings": True}
EXACT = {"rtol": 1e-12, "atol": 1e-12}


def sparse_gradient(slots, values, shape):
    indices = torch.as_tensor(slots).unsqueeze(0)
    return torch.sparse_coo_tensor(indices, values, shape, check_invariants=False)


def naive_step(table, sums, slots, values, rate, eps):
    """Do one step slot by slot: the paper's rule, in a loop."""
    for slot in set(slots):
        g = [0.0] * table.shape[1]
        for own, value in zip(slots, values.tolist(), strict=True):
            if own == slot:
                g = [x + y for x, y in zip(g, value, strict=True)]
        sums[slot] += sum(x * x for x in g) / len(g)
        for j, x in enumerate(g):
            table[slot, j] -= rate * x / (sums[slot] ** 0.5 + eps)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_step_equals_a_loop_over_slots(data):
    n, width = data.draw(st.integers(1, 7)), data.draw(st.integers(1, 4))
    lr, factor = data.draw(st.sampled_from([0.01, 0.5])), data.draw(st.sampled_from([1.0, 10.0]))
    p = torch.nn.Parameter(randn(n, width))
    table, sums = p.detach().numpy().copy(), np.zeros(n)
    optimizer = RowwiseAdagrad([p], lr=lr, eps=1e-6, table_factor=factor)
    read = set()
    for step in range(data.draw(st.integers(1, 4))):
        slots = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=8))
        read |= set(slots)
        values = randn(len(slots), width, seed=step + 1)
        p.grad = sparse_gradient(slots, values, p.shape)
        optimizer.step()
        naive_step(table, sums, slots, values, lr * factor, 1e-6)
    assert_close(p.detach(), torch.tensor(table), **EXACT)
    assert_close(optimizer.state[p]["sum"][:, 0], torch.tensor(sums), **EXACT)
    others = [slot for slot in range(n) if slot not in read]
    assert torch.equal(p.detach()[others], randn(n, width)[others])


def test_dense_gradients_of_a_table_do_the_same():
    p, twin = (torch.nn.Parameter(randn(5, 3)) for _ in range(2))
    optimizers = [RowwiseAdagrad([q], lr=0.1) for q in (p, twin)]
    order = [3, 0, 4, 1, 2]
    for step in range(4):
        values = randn(5, 3, seed=step)
        p.grad = sparse_gradient(order, values[order], p.shape)
        # The first gradient says that it is a table.
        twin.grad = p.grad if step == 0 else values
        for optimizer in optimizers:
            optimizer.step()
    assert_close(p, twin, **EXACT)


def test_a_table_of_one_number_per_slot_is_under_adagrad():
    p, twin = (torch.nn.Parameter(randn(6, 1)) for _ in range(2))
    ours = RowwiseAdagrad([p], lr=0.05, eps=1e-7, table_factor=2.0)
    theirs = torch.optim.Adagrad([twin], lr=0.1, eps=1e-7)
    for step in range(5):
        values = randn(3, 1, seed=step)
        p.grad = sparse_gradient([step, 0, step], values, p.shape)
        twin.grad = p.grad.to_dense()
        ours.step()
        theirs.step()
    assert_close(p, twin, **EXACT)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_everything_else_is_under_adam(weight_decay):
    params, twins = ([torch.nn.Parameter(randn(3, 4, seed=s)) for s in range(2)] for _ in range(2))
    table = torch.nn.Parameter(randn(9, 2))
    ours = RowwiseAdagrad([*params, table], lr=0.03, weight_decay=weight_decay)
    theirs = LazyAdam(twins, lr=0.03, weight_decay=weight_decay)
    for step in range(4):
        for k, (p, q) in enumerate(zip(params, twins, strict=True)):
            p.grad = q.grad = randn(3, 4, seed=10 * step + k)
        table.grad = sparse_gradient([0, 8], randn(2, 2, seed=step), table.shape)
        ours.step()
        theirs.step()
    for p, q in zip(params, twins, strict=True):
        assert torch.equal(p, q)
    assert torch.equal(table[1:8], randn(9, 2)[1:8])  # nothing decays slots


def test_a_slot_without_gradient_does_not_move():
    p = torch.nn.Parameter(randn(4, 2))
    optimizer = RowwiseAdagrad([p], lr=0.1)
    p.grad = sparse_gradient([1, 2], torch.zeros(2, 2, dtype=p.dtype), p.shape)
    optimizer.step()
    assert torch.equal(p.detach(), randn(4, 2))


# In an estimator ----------------------------------------------------------------------------------


def tables_of(model):
    """Return the names of the embedding tables and their shapes."""
    named = model.module_.named_parameters()
    return {f"module.{name}": p.shape for name, p in named if ".tables." in name}


def states(model):
    found = {
        f"{name}_{key}": entry if isinstance(entry, torch.Tensor) else torch.tensor(entry)
        for name, state in optimizer_state(model.net_).items()
        for key, entry in state.items()
    }
    return {**model.module_.state_dict(), **found}


@everywhere
def test_tables_keep_one_number_per_slot(cls):
    model = small(cls, **ROWWISE).fit(X, TABLE.targets(cls))
    tables, found = tables_of(model), optimizer_state(model.net_)
    assert tables
    assert tables.keys() <= found.keys()
    for name, state in found.items():
        if name in tables:
            assert {key: entry.shape for key, entry in state.items()} == {
                "sum": (tables[name][0], 1)
            }
            assert state["sum"].any()
        else:
            assert {"exp_avg", "exp_avg_sq"} < state.keys()


@pytest.mark.parametrize("name", BALANCERS)
def test_every_balancer_moves_tables(name):
    model = small(MMoE, balancer=name, **ROWWISE).fit(X, Y)
    found = optimizer_state(model.net_)
    assert all(found[table]["sum"].any() for table in tables_of(model))


def test_without_sparse_gradients_it_is_adam():
    params = {"sparse_embeddings": False}
    ours = small(STEM, optimizer="rowwise_adagrad", **params).fit(X, TABLE.targets(STEM))
    adam = small(STEM, optimizer="adam", **params).fit(X, TABLE.targets(STEM))
    assert_equal_state(states(ours), states(adam))


def test_a_state_is_a_few_bytes_beside_adams():
    few = {"embedding_dim": 32, "sparse_embeddings": True, "bottom_units": (4,)}
    own, adam = (
        bytes_of(small(SharedBottom, optimizer=name, **few).fit(X, Y).net_)
        for name in ("rowwise_adagrad", "adam")
    )
    model = small(SharedBottom, optimizer="adam", **few).fit(X, Y)
    entries = sum(shape.numel() for shape in tables_of(model).values())
    slots = sum(shape[0] for shape in tables_of(model).values())
    assert adam - own == 8 * entries - 4 * slots


@pytest.mark.parametrize("copied", [by_pickle, copy.deepcopy])
def test_a_stream_goes_on_from_copies(copied):
    model = small(MMoE, batch_size=16, **ROWWISE).partial_fit(X[:60], Y[:60])
    other = copied(model)
    for one in (model, other):
        one.partial_fit(X[60:], Y[60:])
    assert_equal_state(states(other), states(model))


def test_a_saved_estimator_predicts_the_same_and_goes_on(tmp_path):
    model = small(MMoE, **ROWWISE).fit(X, Y)
    model.save(tmp_path / "model.safetensors")
    other = load(tmp_path / "model.safetensors")
    assert other.optimizer == "rowwise_adagrad"
    assert np.array_equal(other.predict(X), model.predict(X))
    other.partial_fit(X, Y)
    assert all("sum" in optimizer_state(other.net_)[name] for name in tables_of(other))


def test_a_warm_start_keeps_the_sums():
    fit = small(MMoE, warm_start=True, max_epochs=1, lr_schedule="constant", **ROWWISE)
    fit.fit(X, Y)
    before = {name: optimizer_state(fit.net_)[name]["sum"].clone() for name in tables_of(fit)}
    fit.fit(X, Y)
    for name, sums in before.items():
        now = optimizer_state(fit.net_)[name]["sum"]
        assert (now >= sums).all()
        assert (now > sums).any()


@pytest.mark.parametrize("pair", [(True, False), (False, True)])
def test_what_moves_a_table_stays_the_same(pair):
    before, after = pair
    model = small(MMoE, optimizer="rowwise_adagrad", sparse_embeddings=before, warm_start=True)
    model.fit(X, Y)
    kinds = {name: set(state) for name, state in optimizer_state(model.net_).items()}
    model.set_params(sparse_embeddings=after).fit(X, Y)
    assert {name: set(state) for name, state in optimizer_state(model.net_).items()} == kinds
    table = next(iter(tables_of(model)))
    assert ("sum" in kinds[table]) == before


class Fail(Callback):
    def on_batch_end(self, net, **kwargs):
        if len(net.history[-1]["batches"]) == 2:
            raise RuntimeError("midway")


def test_a_stream_that_fails_midway_is_as_it_was():
    params = {"batch_size": 16, **ROWWISE}
    model, twin = (small(MMoE, **params).partial_fit(X[:60], Y[:60]) for _ in range(2))
    model.set_params(callbacks=[Fail()])
    with pytest.raises(RuntimeError, match="midway"):
        model.partial_fit(X[60:], Y[60:])
    assert_equal_state(states(model), states(twin))
    first = small(MMoE, callbacks=[Fail()], **params)
    with pytest.raises(RuntimeError, match="midway"):
        first.partial_fit(X[:60], Y[:60])  # there was no state at all
    for one in (model, twin):
        one.set_params(callbacks=None).partial_fit(X[60:], Y[60:])
    assert_equal_state(states(model), states(twin))


def test_a_snapshot_of_some_slots_copies_their_sums_only():
    model = small(SharedBottom, **ROWWISE).fit(X, Y)
    net, table = model.net_, next(iter(tables_of(model)))
    slots = torch.tensor([1, 3])
    name, sums = table.removeprefix("module."), optimizer_state(net)[table]["sum"]
    few, everything = Snapshot(net, {name: slots}), Snapshot(net)
    width = tables_of(model)[table][1]
    saved = sum(c.numel() for c in everything.copies) - sum(c.numel() for c in few.copies)
    assert saved == (len(sums) - 2) * (width + 1)
    before = states(model)
    before = {key: entry.clone() for key, entry in before.items()}
    with torch.no_grad():
        sums[slots] += 1.0
        model.module_.get_parameter(name)[slots] += 1.0
    few.restore(net)
    assert_equal_state(states(model), before)


def test_early_stopping_restores_the_sums_of_the_best_epoch():
    """The state is that of a fit that ends with the best epoch."""
    params = {"lr": 0.3, "early_stopping": True, "lr_schedule": "constant", "random_state": 3}
    model = small(MMoE, max_epochs=12, n_iter_no_change=3, **params, **ROWWISE).fit(X, Y)
    best = int(model.history_["valid_loss"].argmin()) + 1
    assert best < model.n_iter_
    twin = small(MMoE, max_epochs=best, n_iter_no_change=3, **params, **ROWWISE).fit(X, Y)
    assert_equal_state(states(model), states(twin))


@pytest.mark.filterwarnings("ignore")
def test_states_of_rows_and_columns_go_on_with_a_warm_start():
    """Adafactor's factors have one row or one column, like the sums here."""
    model = small(MMoE, optimizer=torch.optim.Adafactor, warm_start=True, max_epochs=1)
    model.fit(X, Y)
    steps = {name: float(s["step"]) for name, s in optimizer_state(model.net_).items()}
    model.fit(X, Y)
    for name, state in optimizer_state(model.net_).items():
        assert float(state["step"]) == 2 * steps[name], name
