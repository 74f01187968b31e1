"""Threads side by side: the same results as one after the other, and no setting that moves."""

import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import joblib
import numpy as np
import pytest
import torch
from conftest import assert_equal_state, make_table, small, untouched_generators
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback
from test_balancing import need

from sk_mtl import CGC, PLE, MMoE, SharedBottom
from sk_mtl._training import memory
from sk_mtl.balancing import TorchJDBalancer
from sk_mtl.balancing.aggregators import OwnDraws
from sk_mtl.inspection import gate_weights
from sk_mtl.nn import threads
from sk_mtl.nn.threads import _setter, on_one_thread

TABLE = make_table(72)
DRAWING = ["pcgrad", "graddrop", "rlw"]
"""Balancers that draw random numbers."""


@pytest.fixture
def two_threads():
    """Let torch use two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@contextmanager
def beside(work):
    """Repeat `work` in another thread while the block runs; raise what it raises."""
    stop, errors, done = threading.Event(), [], threading.Event()

    def repeat():
        try:
            while not stop.is_set():
                work()
                done.set()
        except BaseException as error:
            errors.append(error)
            done.set()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        done.wait(60)
        yield
    finally:
        stop.set()
        thread.join()
    if errors:
        raise errors[0]


def in_new_thread(function):
    """Return what a function returns in a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join()
    return found[0]


# Fits ---------------------------------------------------------------------------------------------


def fit(balancer, seed, cls=SharedBottom):
    return small(cls, balancer=balancer, random_state=seed, dropout=0.1).fit(TABLE.X, TABLE.Y)


@pytest.mark.parametrize("cls", [SharedBottom, MMoE])
@pytest.mark.parametrize("balancer", DRAWING)
def test_fits_in_threads_equal_fits_in_a_row(balancer, cls):
    need(balancer)
    in_a_row = [fit(balancer, seed, cls) for seed in range(4)]
    with untouched_generators():
        in_threads = joblib.Parallel(n_jobs=4, backend="threading")(
            joblib.delayed(fit)(balancer, seed, cls) for seed in range(4)
        )
    for expected, found in zip(in_a_row, in_threads, strict=True):
        assert_equal_state(found.module_.state_dict(), expected.module_.state_dict())
        assert_array_equal(found.predict_proba(TABLE.X), expected.predict_proba(TABLE.X))
    assert not np.array_equal(
        in_a_row[0].predict_proba(TABLE.X), in_a_row[1].predict_proba(TABLE.X)
    )


@pytest.mark.parametrize("balancer", DRAWING)
def test_draws_beside_a_fit_are_what_they_were(balancer):
    need(balancer)
    expected = fit(balancer, 0).module_.state_dict()
    torch.manual_seed(7)
    alone = [torch.rand(3) for _ in range(1000)]
    torch.manual_seed(7)
    found = []
    with beside(lambda: fit(balancer, 0)):
        found += [torch.rand(3) for _ in range(1000)]
    assert torch.equal(torch.stack(found), torch.stack(alone))
    # Nor does a fit hear of what others draw.
    with beside(lambda: torch.rand(3)):
        assert_equal_state(fit(balancer, 0).module_.state_dict(), expected)


def test_an_aggregator_of_ones_own_draws_from_the_fit():
    aggregation = pytest.importorskip("torchjd.aggregation")
    balancer = TorchJDBalancer(aggregation.Random())
    with untouched_generators():
        first = fit(balancer, 0)
        with beside(lambda: fit(balancer, 1)):
            second = fit(balancer, 0)
    assert_equal_state(second.module_.state_dict(), first.module_.state_dict())


@pytest.mark.parametrize("balancer", ["equal", *DRAWING])
def test_no_thread_sees_another_number_of_threads(balancer, two_threads):
    need(balancer)
    seen = set()

    def look():
        seen.add(torch.get_num_threads())
        seen.add(in_new_thread(torch.get_num_threads))

    with beside(look):
        for seed in range(3):
            model = fit(balancer, seed)
            model.predict(TABLE.X)
            model.partial_fit(TABLE.X, TABLE.Y)
            assert torch.get_num_threads() == 2
    assert seen == {2}


def test_fits_set_no_number_of_threads(monkeypatch, two_threads):
    def refuse(n):
        raise AssertionError("a fit sets the process's number of threads")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "set_num_threads", refuse)
        fit("equal", 0).predict(TABLE.X)


# One operation on one thread ----------------------------------------------------------------------

can_set = pytest.mark.skipif(
    _setter() is None, reason="OpenMP's number of threads cannot be set from Python"
)


def test_on_one_thread_changes_nothing_that_others_see(two_threads):
    def inside(number):
        return number, torch.get_num_threads(), in_new_thread(torch.get_num_threads)

    number, here, there = on_one_thread(inside, 3)
    assert number == 3
    assert there == 2
    assert here == (2 if _setter() is None else 1)
    assert torch.get_num_threads() == 2
    assert in_new_thread(torch.get_num_threads) == 2


@can_set
def test_on_one_thread_puts_the_number_back_after_an_error(two_threads):
    def fail():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        on_one_thread(fail)
    assert torch.get_num_threads() == 2


@can_set
def test_on_one_thread_in_several_threads(two_threads):
    gate = threading.Barrier(3, timeout=60)

    def inside():
        gate.wait()  # all are inside
        found = torch.get_num_threads()
        gate.wait()
        return found

    def work(alone):
        before = torch.get_num_threads()
        found = on_one_thread(inside) if alone else inside()
        return before, found, torch.get_num_threads()

    found = joblib.Parallel(n_jobs=3, backend="threading")(
        joblib.delayed(work)(alone) for alone in (True, True, False)
    )
    assert found == [(2, 1, 2), (2, 1, 2), (2, 2, 2)]


def test_on_one_thread_where_it_cannot_be_had(monkeypatch, two_threads):
    without_openmp = SimpleNamespace(CDLL=lambda name: object())
    monkeypatch.setattr(threads, "ctypes", without_openmp)
    _setter.cache_clear()
    try:
        assert _setter() is None
        assert on_one_thread(torch.get_num_threads) == 2
    finally:
        _setter.cache_clear()


# Random numbers of one's own ----------------------------------------------------------------------


def draws():
    return [
        torch.rand(3),
        torch.randn(2, 2, dtype=torch.float64),
        torch.randint(9, (4,)),
        torch.randperm(6),
        torch.rand(2, device="cpu"),
    ]


def test_own_draws_come_from_the_generator():
    def drawn(seed):
        with OwnDraws(torch.Generator().manual_seed(seed)):
            return draws()

    with untouched_generators():
        first, second, other = drawn(1), drawn(1), drawn(2)
    for a, b, c in zip(first, second, other, strict=True):
        assert torch.equal(a, b)
        assert a.shape == c.shape
        assert a.dtype == c.dtype
    torch.manual_seed(1)
    for a, b in zip(first, draws(), strict=True):
        assert torch.equal(a, b)  # as if the global generator had that seed


def test_own_draws_leave_draws_from_other_generators():
    mine, other = torch.Generator().manual_seed(1), torch.Generator().manual_seed(2)
    before = mine.get_state()
    with OwnDraws(mine):
        torch.rand(3, generator=other)
    assert torch.equal(mine.get_state(), before)


def test_own_draws_are_those_of_one_thread():
    mine = torch.Generator().manual_seed(1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with OwnDraws(mine):
        before = mine.get_state()
        found = in_new_thread(lambda: torch.rand(3))
        assert torch.equal(mine.get_state(), before)
    assert torch.equal(found, expected)


# Gates and predictions ----------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [MMoE, CGC, PLE])
def test_gate_weights_while_others_predict(cls):
    model = small(cls).fit(TABLE.X, TABLE.Y)
    few = TABLE.X[:7]
    expected, predicted = gate_weights(model, TABLE.X), model.predict_proba(few)
    hooks = [len(part._forward_hooks) for part in model.module_.modules()]

    def predict():
        assert_array_equal(model.predict_proba(few), predicted)

    def weigh_few():
        for name, levels in gate_weights(model, few).items():
            for level, whole in zip(levels, expected[name], strict=True):
                np.testing.assert_allclose(level, whole[:7], rtol=1e-5)

    with beside(predict), beside(predict), beside(weigh_few):
        for _ in range(20):
            found = gate_weights(model, TABLE.X)
            assert found.keys() == expected.keys()
            for name, levels in expected.items():
                for level, again in zip(levels, found[name], strict=True):
                    assert_array_equal(again, level)
    assert [len(part._forward_hooks) for part in model.module_.modules()] == hooks


def test_gate_weights_while_a_copy_is_trained():
    model = small(MMoE).fit(TABLE.X, TABLE.Y)
    expected = gate_weights(model, TABLE.X)
    state = {name: tensor.clone() for name, tensor in model.module_.state_dict().items()}
    with beside(lambda: small(MMoE).fit(TABLE.X, TABLE.Y)):
        found = gate_weights(model, TABLE.X)
    assert_array_equal(found["wage"][0], expected["wage"][0])
    assert_equal_state(model.module_.state_dict(), state)


# Memory -------------------------------------------------------------------------------------------

SET = [("malloc_trim", 0), ("mallopt", memory.M_MMAP_THRESHOLD, memory.KEPT)]
SET += [("mallopt", memory.M_TRIM_THRESHOLD, memory.KEPT)]
RESTORE = [("mallopt", memory.M_MMAP_THRESHOLD, memory.USUAL)]
RESTORE += [("mallopt", memory.M_TRIM_THRESHOLD, 2 * memory.USUAL), ("malloc_trim", 0)]


@pytest.fixture
def calls(monkeypatch):
    """Return a list of what the C library is told, in an environment that sets nothing."""
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    seen = []
    libc = SimpleNamespace(
        mallopt=lambda *given: seen.append(("mallopt", *given)),
        malloc_trim=lambda *given: seen.append(("malloc_trim", *given)),
    )
    monkeypatch.setattr(memory, "ctypes", SimpleNamespace(CDLL=lambda name: libc))
    monkeypatch.setattr(memory, "sys", SimpleNamespace(platform="linux"))
    return seen


def test_a_fit_keeps_memory_and_gives_it_back(calls):
    fit("equal", 0)
    assert calls == SET + RESTORE


def test_a_fit_that_fails_gives_memory_back(calls):
    class Fail(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        small(SharedBottom, callbacks=[Fail()]).fit(TABLE.X, TABLE.Y)
    assert calls == SET + RESTORE


def test_a_stream_and_predictions_keep_no_memory(calls):
    model = small(SharedBottom)
    for _ in range(3):
        model.partial_fit(TABLE.X, TABLE.Y)
    model.predict(TABLE.X)
    assert calls == []


def test_a_stream_after_a_fit_keeps_no_memory(calls):
    model = fit("equal", 0)
    del calls[:]
    model.partial_fit(TABLE.X, TABLE.Y)
    assert calls == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MALLOC_ARENA_MAX", "2"),
        ("MALLOC_MMAP_THRESHOLD_", "131072"),
        ("MALLOC_TRIM_THRESHOLD_", "0"),
        ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=128"),
        ("GLIBC_TUNABLES", "glibc.pthread.rseq=0:glibc.malloc.arena_max=1"),
    ],
)
def test_what_the_user_has_set_is_left_alone(calls, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    fit("equal", 0)
    assert calls == []


def test_tunables_of_something_else_do_not_count(calls, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
    fit("equal", 0)
    assert calls == SET + RESTORE


@pytest.mark.parametrize("what", ["another system", "another C library"])
def test_where_there_is_no_such_setting(calls, monkeypatch, what):
    if what == "another system":
        monkeypatch.setattr(memory, "sys", SimpleNamespace(platform="darwin"))
    else:
        monkeypatch.setattr(memory, "ctypes", SimpleNamespace(CDLL=lambda name: object()))
    fit("equal", 0)
    assert calls == []


def test_nested_runs_restore_once(calls):
    class Nest(Callback):
        def on_epoch_begin(self, net, **kwargs):
            fit("equal", 1)

    small(SharedBottom, callbacks=[Nest()]).fit(TABLE.X, TABLE.Y)
    assert calls == SET + RESTORE


def test_runs_side_by_side_restore_once(calls):
    gate = threading.Barrier(3, timeout=60)

    def run(_):
        with memory.keep_memory():
            gate.wait()  # all are inside
            assert calls == SET
            gate.wait()

    joblib.Parallel(n_jobs=3, backend="threading")(joblib.delayed(run)(k) for k in range(3))
    assert calls == SET + RESTORE
    with memory.keep_memory():
        assert calls == SET + RESTORE + SET
    assert calls == (SET + RESTORE) * 2


def test_a_variable_set_in_the_midst_of_a_run(calls, monkeypatch):
    # What was changed is given back, whatever the environment says by then.
    with memory.keep_memory():
        monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert calls == SET + RESTORE


FORKED = """
from multiprocessing import get_context
from sk_mtl import MMoE
from sk_mtl.datasets import make_census_like

X, Y = make_census_like(500, random_state=0)
model = MMoE(max_epochs=1, random_state=0).fit(X, Y)
expected = model.predict_proba(X)

def fit(seed):
    return MMoE(max_epochs=1, random_state=seed).fit(X, Y).predict_proba(X)

with get_context("fork").Pool(2) as pool:
    (found,) = pool.map_async(model.predict_proba, [X]).get(timeout=60)
    (fitted,) = pool.map_async(fit, [0]).get(timeout=60)
assert abs(found - expected).max() < 1e-6
assert abs(fitted - expected).max() < 1e-4
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_worker_works_after_a_fit_with_threads():
    env = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", FORKED], env=env, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has the setting")
def test_the_real_library_takes_it():
    with memory.keep_memory():
        kept = np.ones(10**6)
    assert kept.sum() == 10**6
