"""Rows that are read anew in every epoch: each row once, in windows, from any window on."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_mtl.data.rows import Rows
from sk_mtl.data.windows import StreamedRows, Windows


def streamed(sizes, window_rows, seed=None):
    """Return rows whose one number is their position, and the reads that were asked for."""
    ends = np.cumsum(sizes)
    reads = []

    def read(order, skip, n):
        reads.append((list(order), skip, n))
        values = np.concatenate([np.arange(ends[g] - sizes[g], ends[g]) for g in order])
        values = values[skip : skip + n].astype(float)
        for start in range(0, len(values), 3):  # in small pieces
            piece = values[start : start + 3, None]
            yield Rows({"numeric": piece}, piece.copy())

    def read_labels():
        yield torch.arange(float(ends[-1]))[:, None], None

    return StreamedRows(sizes, read, read_labels, window_rows, seed), reads


def values_of(batches):
    return [batch.parts["numeric"][:, 0].tolist() for batch in batches]


some_sizes = st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(lambda s: sum(s) > 0)


@settings(max_examples=60, deadline=None)
@given(some_sizes, st.integers(1, 40), st.integers(1, 12), st.integers(0, 9))
def test_every_row_once_and_steps_as_in_memory(sizes, window_rows, batch_size, seed):
    rows, _ = streamed(sizes, window_rows)
    windows = Windows(rows, batch_size, True, torch.Generator().manual_seed(seed))
    found = values_of(windows)
    n = sum(sizes)
    assert sorted(chain.from_iterable(found)) == list(range(n))
    assert len(windows) == len(found)
    in_memory = [batch_size] * (n // batch_size) + [n % batch_size] * (n % batch_size > 0)
    if len(in_memory) > 1 and in_memory[-1] == 1 < batch_size:
        in_memory[-2:] = [in_memory[-2] + 1]
    assert [len(batch) for batch in found] == in_memory


@settings(max_examples=40, deadline=None)
@given(some_sizes, st.integers(1, 40), st.integers(1, 12), st.data())
def test_a_pass_goes_on_from_any_window(sizes, window_rows, batch_size, data):
    rows, _ = streamed(sizes, window_rows)
    windows = Windows(rows, batch_size, True, torch.Generator().manual_seed(0))
    seen, reached = [], []
    windows.window_end = lambda: reached.append((windows.position, len(seen)))
    for batch in windows:
        seen += [batch.parts["numeric"][:, 0].tolist()]
    assert windows.position is None
    if not reached:
        return
    position, n_seen = data.draw(st.sampled_from(reached))
    again = Windows(rows, batch_size, True, torch.Generator().manual_seed(99))
    again.next_pass = position
    assert values_of(again) == seen[n_seen:]


@settings(max_examples=40, deadline=None)
@given(some_sizes, st.integers(1, 40), st.integers(2, 12), st.integers(2, 4))
def test_shares_are_equal_runs_of_one_order(sizes, window_rows, batch_size, parts):
    rows, _ = streamed(sizes, window_rows)
    n = sum(sizes)
    found = []
    for part in range(parts):
        windows = Windows(rows, batch_size, True, torch.Generator().manual_seed(5))
        windows.share = part, parts
        found.append(values_of(windows))
    lengths = {tuple(map(len, batches)) for batches in found}
    assert len(lengths) == 1  # as many steps of as many rows on each
    taken = [value for batches in found for batch in batches for value in batch]
    if n >= parts * (parts - 1):
        assert sorted(set(taken)) == list(range(n))
        assert len(taken) == -(-n // parts) * parts


@pytest.mark.parametrize("n", [7, 12, 13])
def test_rows_that_only_fill_a_share_have_no_weight(n):
    rows, _ = streamed([n], 4)
    total = 0.0
    for part in range(3):
        windows = Windows(rows, 6)
        windows.share = part, 3
        for batch in windows:
            weight = torch.ones_like(batch.target) if batch.weight is None else batch.weight
            total += float((batch.target * weight).sum())
    assert total == n * (n - 1) / 2


def test_order_changes_from_pass_to_pass_and_hangs_on_the_seed():
    def passes(seed=None, generator_seed=0):
        rows, _ = streamed([20, 20, 20], 15, seed)
        windows = Windows(rows, 5, True, torch.Generator().manual_seed(generator_seed))
        return values_of(windows), values_of(windows)

    first, second = passes()
    assert first != second
    assert (first, second) == passes()
    assert passes(generator_seed=1)[0] != first
    assert passes(seed=3, generator_seed=1) == passes(seed=3, generator_seed=2)


def test_without_shuffling_rows_keep_their_order():
    rows, _ = streamed([4, 0, 7], 5)
    assert [*chain.from_iterable(values_of(Windows(rows, 2)))] == list(range(11))
    assert rows.head().parts["numeric"][:, 0].tolist() == list(range(11))


def test_windows_are_no_larger_than_asked_for():
    rows, reads = streamed([10] * 10, 32)
    values_of(Windows(rows, 8, True, torch.Generator()))
    assert [n for _, _, n in reads] == [32, 32, 32, 4]


def test_the_first_pass_shows_every_window():
    rows, _ = streamed([10, 10], 6)
    shown = []
    rows.show(lambda parts: shown.extend(parts["numeric"][:, 0].tolist()))
    windows = Windows(rows, 3, True, torch.Generator())
    for _ in range(2):
        values_of(windows)
    assert sorted(shown) == list(range(20))


def test_an_error_of_the_reader_comes_through():
    rows, _ = streamed([10, 10], 6)
    read = rows.read

    def broken(order, skip, n):
        if skip:
            raise OSError("file gone")
        yield from read(order, skip, n)

    rows.read = broken
    with pytest.raises(OSError, match="file gone"):
        values_of(Windows(rows, 3))
