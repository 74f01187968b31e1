"""Several processes train one network: what they come to, and how they end.

The fits are in `rank_cases.py`. Processes take seconds to start, so many fits share a start.
"""

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_cases import ALIKE, CASES, EQUAL, ERRORS
from torch import nn

from sk_mtl import RankError, SharedBottom
from sk_mtl._training import ranks as ranks_file
from sk_mtl._training.exchange import Exchange
from sk_mtl._training.ranks import Ranks, find_ranks
from sk_mtl.data.rows import Batches, Rows

SCRIPT = Path(__file__).with_name("rank_cases.py")
SECONDS = 280
TOLERANCE = 1e-9
"""In float64, where it tells rounding from mistakes. In float32 rounding may make methods that
compare with zero (metabalance) take another branch, in one process as in several."""


def environment(**more):
    own = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
    inherited = {name: value for name, value in os.environ.items() if name not in own}
    return {**inherited, "OMP_NUM_THREADS": "1", **more}


def results(folder, n):
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(n)]


def torchrun(folder, n, *names):
    """Run cases in n processes of torchrun; return what each rank wrote."""
    folder.mkdir()
    command = ["-m", "torch.distributed.run", f"--nproc_per_node={n}", "--standalone", str(SCRIPT)]
    run = subprocess.run(
        [sys.executable, *command, str(folder), *names], env=environment(), timeout=SECONDS,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-6000:]
    return results(folder, n)


def scripts(folder, n, *names):
    """Run cases in n processes that set up a group by themselves; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    running = []
    for rank in range(n):
        own = {"RANK": str(rank), "WORLD_SIZE": str(n), "MASTER_ADDR": "127.0.0.1"}
        command = [sys.executable, str(SCRIPT), str(folder), "--group", *names]
        running.append(subprocess.Popen(command, env=environment(MASTER_PORT=port, **own)))
    try:
        return [process.wait(SECONDS) for process in running]
    finally:
        for process in running:
            process.kill()


def numbers(tree):
    if isinstance(tree, int | float):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree
    return [number for value in values for number in numbers(value)]


LOOSER = {
    "float32": 1e-5,
    # Solvers of their own, which stop at a tolerance: rounding moves where they do.
    "nash_mtl": 1e-7,
    "cagrad": 1e-7,
}


def compare(name, found, expected):
    tolerance = LOOSER.get(name.partition("-")[0], TOLERANCE)
    np.testing.assert_allclose(
        numbers(found), numbers(expected), rtol=0, atol=tolerance, err_msg=name
    )


def check_alike(found):
    for name in found[0]:
        assert len({json.dumps(rank[name]) for rank in found}) == 1, name


# What fits come to --------------------------------------------------------------------------------


def with_torchjd(names):
    """Leave out cases of packages that are not there, as the rest of the tests does."""
    if importlib.util.find_spec("torchjd"):
        return list(names)
    from sk_mtl.balancing import AGGREGATORS

    return [name for name in names if not any(known in name for known in AGGREGATORS)]


def test_two_processes_do_what_one_does(tmp_path):
    names = with_torchjd(EQUAL)
    found = torchrun(tmp_path / "two", 2, *names)
    check_alike(found)
    for name in names:
        compare(name, found[0][name], CASES[name]())


@pytest.mark.slow  # a third start, for what two processes show nearly as well
def test_three_processes_do_what_one_does(tmp_path):
    names = ["few_rows", "stem-pcgrad", "aitm", "streamed", "stops_early", "penalty-pcgrad"]
    found = torchrun(tmp_path / "three", 3, *names)
    check_alike(found)
    for name in names:
        compare(name, found[0][name], CASES[name]())


def test_ranks_agree_and_end_together_after_errors(tmp_path):
    found = torchrun(tmp_path / "alike", 2, *ALIKE, *ERRORS)
    check_alike([{name: rank[name] for name in ALIKE} for rank in found])
    one = found[0]
    assert one["ends_in_an_epoch"]["epochs"] == 1
    assert one["ends_after_an_epoch"]["epochs"] == 2
    compare("waits", one["waits"], CASES["waits"]())
    # Whoever raises keeps its error, and the other one has a RankError that tells it.
    for name, rank in (("raises", 1), ("raises_first", 0), ("bad_input", 1)):
        own, told = found[rank][name], found[1 - rank][name]
        assert not own["rank_error"]
        assert told["rank_error"]
        assert f"Rank {rank} of 2 has failed: {own['error']}: {own['text']}" == told["text"]
    for name, match in (
        ("fewer_rows", "what is trained on differs between processes: 131 rows .* 122 rows"),
        ("other_values", "what is trained on differs between processes: 131 rows .* 131 rows"),
        ("other_parameters", "`lr` differs between processes: 0.1 on rank 0 and 0.2 on rank 1"),
        ("one_checkpoint", "`checkpoint` differs between processes: True on rank 0 and False"),
        ("other_method", "method called differs between processes: fit on rank 0 and partial_fit"),
        ("other_place", "rows are differs between processes: files on rank 0 and memory"),
        ("batch_norm", "`batch_norm` is True.*2 processes"),
        ("infinite", "learning rate"),
    ):
        for rank in found:
            assert not rank[name]["rank_error"], rank[name]
            assert re.search(match, rank[name]["text"]), rank[name]
    # No estimator is left half fitted, and the next fit is as ever.
    whole = CASES["waits"]()
    for rank in found:
        for name in ERRORS:
            assert not rank[name]["fitted"], name
            compare(name, rank[name]["after"], whole)


def test_a_group_of_the_script_serves_and_survives(tmp_path):
    assert scripts(tmp_path, 2, "members", "raises", "interrupted") == [0, 0]
    found = results(tmp_path, 2)
    compare("members", found[0]["members"], CASES["members"]())
    assert found[0]["raises"]["rank_error"]
    assert found[1]["interrupted"]["error"] == "KeyboardInterrupt"
    assert found[0]["interrupted"]["text"] == "Rank 1 of 2 has failed: KeyboardInterrupt"


def test_a_killed_process_is_named_by_the_others(tmp_path):
    codes = scripts(tmp_path, 2, "killed")
    assert codes[1] == -9
    assert codes[0] == 0
    found = json.loads((tmp_path / "0.json").read_text())["killed"]
    assert "Rank 1 of 2 has ended without a word" in found["text"]
    assert found["seconds"] < 60  # the promise of the documentation; about ten as a rule


def test_a_group_of_one_process_is_none(tmp_path):
    assert scripts(tmp_path, 1, "members") == [0]
    assert results(tmp_path, 1)[0]["members"] == json.loads(json.dumps(CASES["members"]()))


# Exchanges, between threads of this process -------------------------------------------------------


@contextmanager
def meeting(size):
    """Yield a function that calls another one with every rank, each on a thread of its own."""
    server = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)

    def call(function):
        found = [None] * size

        def run(rank):
            store, beside = (dist.TCPStore("127.0.0.1", server.port, None, False) for _ in "12")
            own = Ranks(dist.PrefixStore("fit", store), rank, size, dist.PrefixStore("fit", beside))
            try:
                own.meet()
                found[rank] = function(own)
                own.part()
            except BaseException as error:
                own.fail(error)
                found[rank] = error
            finally:
                own.close()

        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        return found

    yield call


def test_exchanges_give_all_ranks_the_same():
    lengths = [3, 0, 2]

    def talk(ranks):
        own = torch.arange(lengths[ranks.rank], dtype=torch.int64) + 10 * ranks.rank
        values = own.double().unsqueeze(1) / 3
        one, two = torch.tensor([ranks.rank + 0.1]), torch.full((2, 2), float(ranks.rank))
        return {
            "sums": [part.tolist() for part in ranks.sum_all([one, two])],
            "none": ranks.sum_all([]),
            "gathered": [[p.tolist() for p in part] for part in ranks.gather(own, values)],
            "object": ranks.broadcast_object({"from": ranks.rank}),
            "objects": ranks.gather_objects("x" * ranks.rank),
            "any": [ranks.any(ranks.rank == 1), ranks.any(False)],
        }

    with meeting(3) as call:
        found = call(talk)
    assert found[0] == found[1] == found[2]
    assert found[0]["sums"][1] == [[3.0, 3.0], [3.0, 3.0]]
    slots, values = found[0]["gathered"]
    assert slots == [[0, 1, 2], [], [20, 21]]
    assert [len(part) for part in values] == lengths
    assert found[0]["object"] == {"from": 0}
    assert found[0]["objects"] == ["", "x", "xx"]
    assert found[0]["any"] == [True, False]


def test_the_rank_that_keeps_the_store_waits_until_its_error_is_heard(monkeypatch):
    def work(ranks):
        if ranks.rank == 0:
            ranks.fail(OSError("disk full"))
            return ranks.store.add("heard", 0)
        while ranks.watch.failure is None:
            time.sleep(0.01)
        return ranks.watch.failure

    monkeypatch.setattr(ranks_file, "BEAT", 0.5)
    with meeting(3) as call:
        heard, *others = call(work)
    assert heard == 2
    # A rank may meet the error in its next exchange, too.
    assert list(map(str, others)) == ["Rank 0 of 3 has failed: OSError: disk full"] * 2


def test_an_error_of_one_rank_reaches_those_that_wait():
    def work(ranks):
        if ranks.rank == 1:
            raise OSError("disk full")
        return ranks.sum(torch.ones(1))

    with meeting(3) as call:
        found = call(work)
    assert isinstance(found[1], OSError)
    for rank in (0, 2):
        assert isinstance(found[rank], RankError)
        assert str(found[rank]) == "Rank 1 of 3 has failed: OSError: disk full"


def test_a_rank_without_a_sign_of_life_counts_as_lost(monkeypatch):
    monkeypatch.setattr(ranks_file, "BEAT", 0.05)
    monkeypatch.setattr(ranks_file, "SILENCE", 10)
    monkeypatch.setattr(ranks_file, "SLICE", timedelta(seconds=0.1))
    told = threading.Event()

    def work(ranks):
        if ranks.rank == 1:  # as if its machine had lost the network
            ranks.watch.stop()
            assert told.wait(30)
            return None
        while ranks.watch.failure is None:
            told.wait(0.05)
        told.set()
        return ranks.check()

    with meeting(2) as call:
        found = call(work)
    assert isinstance(found[0], RankError)
    assert "Rank 1 of 2 has given no sign of life" in str(found[0])


def test_whoever_waits_for_others_to_come_says_for_whom(monkeypatch):
    monkeypatch.setattr(ranks_file, "REMIND", 0.1)
    server = dist.TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
    stores = [dist.TCPStore("127.0.0.1", server.port, None, False) for _ in range(4)]
    second = Ranks(stores[1], 1, 2, stores[3])
    late = threading.Timer(1.0, second.meet)
    late.start()
    first = Ranks(stores[0], 0, 2, stores[2])
    with pytest.warns(UserWarning, match="Rank 0 of 2 waits in fit for rank 1"):
        first.meet()
    late.join()
    first.close()
    second.close()


def test_without_other_processes_there_are_no_ranks(monkeypatch):
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert find_ranks() is None
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = ["unset"]
    thread = threading.Thread(target=lambda: found.__setitem__(0, find_ranks()))
    thread.start()
    thread.join()
    assert found == [None]  # fits of threads would come in another order on every rank
    process = type("Process", (), {"name": "LokyProcess-1"})
    monkeypatch.setattr(ranks_file, "current_process", process)
    assert find_ranks() is None  # a worker that a rank has started inherits its environment


def test_a_fitted_estimator_keeps_no_connection():
    X, Y = CASES["waits"].__globals__["table"]()
    model = SharedBottom(max_epochs=1, random_state=0).fit(X, Y)
    assert model.net_.ranks is None
    assert model.net_.exchange is None


# Shares of a batch --------------------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 40), st.integers(1, 16), st.integers(2, 5), st.booleans())
def test_shares_side_by_side_are_the_batches(n, batch_size, parts, shuffle):
    numbers = np.arange(n, dtype=np.float32).reshape(-1, 1)
    rows = Rows({"numeric": numbers}, numbers)

    def cut(share):
        generator = torch.Generator().manual_seed(3)
        batches = Batches(rows, batch_size, shuffle, generator)
        batches.share = share
        return list(batches)

    shares = [cut((part, parts)) for part in range(parts)]
    for whole, *own in zip(cut((0, 1)), *shares, strict=True):
        targets = [batch.target for batch in own if batch.n_rows]
        assert torch.equal(torch.cat(targets), whole.target)
        assert sum(batch.n_rows for batch in own) == whole.n_rows
        counts = [batch.n_rows for batch in own]
        assert max(counts) - min(counts) <= 1
        for batch in own:
            assert torch.equal(batch.parts["numeric"], batch.target)
            if not batch.n_rows:  # a row that stands in has no weight
                assert batch.weight is not None
                assert not batch.weight.any()


def test_values_are_those_of_all_and_gradients_of_the_own_share():
    def work(ranks):
        network = nn.Linear(1, 2, bias=False)
        with torch.no_grad():
            network.weight.fill_(1.0)
        exchange = Exchange(ranks, network, nn.Identity(), ())
        x = torch.full((1, 1), 1.0 + ranks.rank)
        sums, weights, n_rows, penalty = exchange.terms(
            network(x).sum(0), torch.tensor([1.0, 0.0]), 1, network.weight.sum() * x.sum()
        )
        (sums.sum() + penalty).backward()
        own = network.weight.grad.clone()
        exchange.add_gradients()
        found = sums.tolist(), weights.tolist(), n_rows, penalty.item()
        return found, own.tolist(), network.weight.grad.tolist()

    with meeting(2) as call:
        (found, own, total), (same, other, total_too) = call(work)
    assert found == same == ([3.0, 3.0], [2.0, 0.0], 2, 3.0)
    # One of the share, and half the penalty's: two rows, each with a penalty of its own.
    assert own == [[1.5], [1.5]]
    assert other == [[3.0], [3.0]]
    assert total == total_too == [[4.5], [4.5]]


def test_a_gradient_that_no_rank_has_stays_none():
    def work(ranks):
        network = nn.Linear(2, 1)
        exchange = Exchange(ranks, network, nn.Identity(), ())
        if ranks.rank == 0:
            network.weight.grad = torch.ones_like(network.weight)
        exchange.add_gradients()
        return network.weight.grad.tolist(), network.bias.grad

    with meeting(2) as call:
        assert call(work) == [([[1.0, 1.0]], None)] * 2
