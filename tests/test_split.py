"""Rows held out: how many, whose labels, and the same ones at every fit."""

import copy
import itertools

import numpy as np
import pandas as pd
import pytest
from conftest import by_pickle, everywhere, is_chain, small
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from skorch.callbacks import Callback

import sk_mtl
from sk_mtl import SharedBottom
from sk_mtl.data import draw_rule, hold_out, stream_rule
from sk_mtl.data.split import row_draws
from sk_mtl.tasks import BinaryTask

steady = settings(max_examples=100, deadline=None, derandomize=True, database=None)

seeds = st.integers(0, 2**31 - 2)
percents = st.integers(1, 99)


def split(observed, rows=None, fraction=0.3, seed=0):
    """Return a rule and the rows that it holds out."""
    rows = np.arange(len(observed)) if rows is None else rows
    rule = draw_rule(observed, rows, fraction, seed)
    return rule, hold_out(rule, observed, rows)


@st.composite
def labels(draw, max_rows=60, max_tasks=4):
    """Draw which labels there are, each row with one, and the rows' positions."""
    n, n_tasks = draw(st.integers(2, max_rows)), draw(st.integers(1, max_tasks))
    rng = np.random.default_rng(draw(seeds))
    observed = rng.random((n, n_tasks)) < rng.random(n_tasks)
    observed[np.arange(n), rng.integers(n_tasks, size=n)] = True
    rows = np.flatnonzero(rng.random(3 * n) < 0.7)[:n]
    return observed[: len(rows)], rows


# The rule -----------------------------------------------------------------------------------------


@steady
@given(st.integers(2, 400), st.integers(1, 4), percents, seeds)
def test_the_number_is_exact_where_everything_is_observed(n, n_tasks, percent, seed):
    _, held = split(np.ones((n, n_tasks), dtype=bool), fraction=percent / 100, seed=seed)
    wanted = -(-percent * n // 100)  # rounded up
    assert held.sum() == min(wanted, n - 1)


@steady
@given(labels(), percents, seeds)
def test_the_rule_is_the_same_again(given_labels, percent, seed):
    observed, rows = given_labels
    first, held = split(observed, rows, percent / 100, seed)
    second, again = split(observed.copy(), rows.copy(), percent / 100, seed)
    assert first == second
    assert_array_equal(held, again)
    assert_array_equal(hold_out(first, observed, rows), held)


def test_other_seeds_hold_out_other_rows():
    observed = np.ones((100, 2), dtype=bool)
    found = {tuple(np.flatnonzero(split(observed, seed=seed)[1])) for seed in range(20)}
    assert len(found) == 20


@steady
@given(labels(), labels(), percents, seeds)
def test_a_row_stands_whatever_rows_come_later(before, later, percent, seed):
    observed, rows = before
    rule, held = split(observed, rows, percent / 100, seed)
    more = np.resize(later[0], (len(later[0]), observed.shape[1]))
    both = np.concatenate([observed, more])
    positions = np.concatenate([rows, rows[-1] + 1 + later[1]])
    assert_array_equal(hold_out(rule, both, positions)[: len(rows)], held)


@steady
@given(labels(max_rows=20), percents, seeds)
def test_a_row_stands_whatever_rows_are_there(given_labels, percent, seed):
    observed, rows = given_labels
    rule, held = split(observed, rows, percent / 100, seed)
    alone = [hold_out(rule, observed[[k]], rows[[k]])[0] for k in range(len(rows))]
    assert_array_equal(alone, held)
    some = np.arange(len(rows)) % 3 > 0
    assert_array_equal(hold_out(rule, observed[some], rows[some]), held[some])


def test_no_rows():
    rule, _ = split(np.ones((9, 2), dtype=bool))
    assert hold_out(rule, np.zeros((0, 2), dtype=bool), np.arange(0)).shape == (0,)


# Every task's labels ------------------------------------------------------------------------------


@steady
@given(st.integers(300, 2000), st.integers(1, 4), st.integers(5, 95), seeds)
def test_the_share_of_every_task_is_near_the_fraction(n, n_tasks, percent, seed):
    rng = np.random.default_rng(seed)
    observed = rng.random((n, n_tasks)) < rng.uniform(0.05, 1, n_tasks)
    observed = observed[observed.any(axis=1)]
    fraction = percent / 100
    _, held = split(observed, fraction=fraction, seed=seed)
    n_labels, n_held = observed.sum(axis=0), observed[held].sum(axis=0)
    chance = np.sqrt(n_labels * fraction * (1 - fraction))
    assert (np.abs(n_held - fraction * n_labels) <= 2 + 4 * chance).all()
    rarest = n_labels.argmin()
    assert abs(n_held[rarest] - fraction * n_labels[rarest]) <= n_tasks  # but for rows turned


def on_both_sides(observed, held):
    """Return which tasks have a label on either side; `held` is one mask or many."""
    labeled = observed.astype(int)
    return ((held.astype(int) @ labeled) > 0) & (((~held).astype(int) @ labeled) > 0)


def tables(n_tasks, max_rows=4):
    """Yield all tables of a few rows: which labels there are, each row with one."""
    kinds = [kind for kind in itertools.product([False, True], repeat=n_tasks) if any(kind)]
    for n in range(2, max_rows + 1):
        masks = np.array(list(itertools.product([False, True], repeat=n)))
        for rows in itertools.product(kinds, repeat=n):
            yield np.array(rows), masks


def test_a_row_is_turned_where_a_task_would_have_no_label_to_watch():
    observed = np.array([[1, 0, 1], [0, 1, 1], [0, 1, 1], [1, 1, 0]], dtype=bool)
    rule, held = split(observed)
    unturned = hold_out(rule._replace(n_known=0, held=b""), observed, np.arange(4))
    assert on_both_sides(observed, unturned).tolist() == [True, True, False]
    assert on_both_sides(observed, held).all()
    assert (held != unturned).sum() == 1


def trained(observed, held):
    """Return which tasks have a label to train on; `held` is one mask or many."""
    return ((~held).astype(int) @ observed.astype(int)) > 0


def failures(n_tasks, fraction, serves):
    """Return tables in which some split serves all tasks, and the rule's does not."""
    found = []
    for observed, masks in tables(n_tasks):
        _, held = split(observed, fraction=fraction)
        if not serves(observed, held).all() and serves(observed, masks).all(axis=1).any():
            found.append((observed.astype(int).tolist(), held.astype(int).tolist()))
    return found


fractions = pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
up_to_three = pytest.mark.parametrize("n_tasks", [1, 2, 3])


@fractions
@up_to_three
def test_every_task_has_labels_on_both_sides_where_it_can(n_tasks, fraction):
    def serves(observed, held):
        return on_both_sides(observed, held) | (observed.sum(axis=0) < 2)

    assert failures(n_tasks, fraction, serves) == []


@fractions
@up_to_three
def test_a_single_label_is_trained_on_where_it_can(n_tasks, fraction):
    def serves(observed, held):
        several = observed.sum(axis=0) > 1
        return np.where(several, on_both_sides(observed, held), trained(observed, held))

    assert failures(n_tasks, fraction, serves) == []


@steady
@given(st.integers(2, 12), percents, seeds)
def test_a_rare_task_has_a_label_on_either_side(n_labels, percent, seed):
    observed = np.ones((500, 2), dtype=bool)
    observed[:, 1] = False
    observed[np.random.default_rng(seed).choice(500, n_labels, replace=False), 1] = True
    _, held = split(observed, fraction=percent / 100, seed=seed)
    assert on_both_sides(observed, held).all()


# Through estimators -------------------------------------------------------------------------------


class Watch(Callback):
    """Notes the numbers in the first column of the rows trained on and held out."""

    def __init__(self, note):
        self.note = note

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        self.note(first_column(dataset_train), first_column(dataset_valid))


def first_column(rows):
    return set() if rows is None else set(rows.parts["numeric"][:, 0].int().tolist())


def watched(cls=SharedBottom, **params):
    """Return a small estimator, and a list of what each epoch trains on and holds out."""
    seen = []
    watch = Watch(lambda *sides: seen.append(sides))
    usual = {"max_epochs": 1, "validation_fraction": 0.3, "batch_size": 256}
    return small(cls, callbacks=[watch], **{**usual, **params}), seen


def make_rows(n, seed=0):
    """Return rows numbered in their first column, and a chain of labels, none of them missing."""
    rng = np.random.default_rng(seed)
    X = np.column_stack([np.arange(n), rng.standard_normal(n)])
    first = rng.random(n) < 0.6
    second = first & (rng.random(n) < 0.5)
    return X, pd.DataFrame({"a": first, "b": second}).astype(float)


def with_gaps(Y, seed=1):
    """Return labels of which many are missing, of the second task more."""
    return Y.mask(np.random.default_rng(seed).random(Y.shape) < [0.2, 0.7])


def check_nothing_leaks(seen):
    """Check that no row is trained on that was held out before."""
    held_before = set()
    for train, held in seen:
        assert held
        assert not train & (held | held_before)
        held_before |= held


@pytest.mark.parametrize("gaps", [False, True])
@everywhere
def test_every_row_has_one_side(cls, gaps):
    X, Y = make_rows(80)
    Y = with_gaps(Y) if gaps else Y
    model, seen = watched(cls, max_epochs=2)
    model.fit(X, Y)
    (train, held), later = seen
    assert later == (train, held)
    assert not train & held
    labeled = Y.mask(Y["a"] == 0, 0.0) if is_chain(cls) else Y
    assert train | held == set(np.flatnonzero(labeled.notna().any(axis=1)).tolist())
    assert gaps or len(held) == 24


@pytest.mark.parametrize("gaps", [False, True])
@everywhere
def test_warm_start_with_more_rows_trains_on_nothing_held_out(cls, gaps):
    X, Y = make_rows(160)
    Y = with_gaps(Y) if gaps else Y
    model, seen = watched(cls, warm_start=True, early_stopping=True)
    for n in (40, 41, 90, 160):
        model.fit(X[:n], Y[:n])
    check_nothing_leaks(seen)
    assert {row for row in seen[-1][1] if row < 40} == seen[0][1]
    assert len(seen[-1][1]) > 30


def by_file(model, folder):
    # A file keeps no callbacks, and only fits with this one are watched.
    pytest.importorskip("safetensors", reason="an extra that save and load need")
    with pytest.warns(UserWarning, match="`callbacks` is left out"):
        model.save(folder / "model.safetensors")
    return sk_mtl.load(folder / "model.safetensors").set_params(callbacks=model.callbacks)


@pytest.mark.parametrize("how", [copy.deepcopy, by_file])
def test_a_copy_holds_out_the_same_rows(how, tmp_path):
    X, Y = make_rows(120)
    model, seen = watched(warm_start=True)
    model.fit(X[:80], Y[:80])
    again = how(model, tmp_path) if how is by_file else how(model)
    again.fit(X, Y)
    model.fit(X, Y)
    check_nothing_leaks(seen)
    assert len(seen) == 3
    assert seen[1] == seen[2]


def test_a_pickle_keeps_the_rule():
    X, Y = make_rows(120)
    model = small(SharedBottom, warm_start=True, validation_fraction=0.3).fit(X[:80], Y[:80])
    assert by_pickle(model)._fitted_.hold_out == model._fitted_.hold_out


def test_rows_without_weight_move_no_other_row():
    X, Y = make_rows(120)
    weight = np.ones(120)
    weight[::5] = 0
    model, seen = watched(warm_start=True)
    model.fit(X[:80], Y[:80], sample_weight=weight[:80])
    model.fit(X, Y, sample_weight=weight)
    model.fit(X, Y)  # what had no weight comes in, on one side or the other
    check_nothing_leaks(seen)
    assert {row for row in seen[2][1] if row < 80 and row % 5} == seen[0][1]


@pytest.mark.parametrize("gaps", [False, True])
def test_sampled_negatives_move_no_other_row(gaps):
    X, Y = make_rows(300)
    Y = with_gaps(Y) if gaps else Y
    kinds = {"a": BinaryTask(negative_fraction=0.3), "b": "binary"}
    model, seen = watched(warm_start=True, task_types=kinds)
    for _ in range(8):
        model.fit(X, Y)
    check_nothing_leaks(seen)


@pytest.mark.parametrize("seed", [0, 3, 9])
def test_labels_that_come_later_move_no_row(seed):
    X, Y = make_rows(300)
    model, seen = watched(warm_start=True, random_state=seed)
    model.fit(X, Y.assign(b=Y["b"].where(np.arange(300) % 2 > 0)))
    model.fit(X, Y)
    check_nothing_leaks(seen)


def test_one_task():
    X, Y = make_rows(50)
    model, seen = watched()
    model.fit(X, Y["a"])
    assert len(seen[0][1]) == 15


# Tasks with few labels ----------------------------------------------------------------------------


def make_rare(n_labels, n=1000):
    """Return rows, and targets of which the second has few labels."""
    X, Y = make_rows(n)
    rare = pd.Series(np.nan, index=Y.index)
    where = np.random.default_rng(5).choice(n, n_labels, replace=False)
    rare[where] = X[where, 1] + np.arange(n_labels)
    return X, Y[["a"]].assign(rare=rare)


@pytest.mark.parametrize("seed", range(6))
def test_a_rare_task_is_watched_at_any_seed(seed):
    X, Y = make_rare(6)
    params = {"early_stopping": True, "random_state": seed, "batch_size": 512}
    model = small(SharedBottom, **params)
    history = model.fit(X, Y).history_
    assert history["valid_loss_rare"].notna().all()
    assert history["train_loss_rare"].notna().all()


def test_a_task_with_a_single_label_is_named():
    X, Y = make_rare(1, n=100)
    model, seen = watched(early_stopping=True, task_types=["binary", "regression"])
    with pytest.warns(UserWarning, match=r"have no label of task 'rare'") as said:
        model.fit(X, Y)
    assert len(said) == 1
    assert int(np.flatnonzero(Y["rare"].notna())[0]) in seen[0][0]


@pytest.mark.parametrize("early_stopping", [False, True])
def test_rows_of_ones_own_without_a_label_of_a_task(early_stopping, recwarn):
    X, Y = make_rows(100)
    X_val, Y_val = make_rows(40, seed=9)
    model, seen = watched(early_stopping=early_stopping)
    model.fit(X, Y, X_val=X_val, y_val=Y_val.assign(b=np.nan))
    found = [str(warning.message) for warning in recwarn]
    if early_stopping:
        (message,) = found
        assert "no label of task 'b'" in message
    else:
        assert found == []
    assert seen[0][0] == set(range(100))
    assert np.isnan(model.history_["valid_loss_b"][0])
    assert np.isfinite(model.history_["valid_loss_a"][0])


def test_a_label_of_zero_weight_is_none_to_watch():
    X, Y = make_rows(100)
    X_val, Y_val = make_rows(40, seed=9)
    weight = np.column_stack([np.ones(40), np.zeros(40)])
    model = small(SharedBottom, early_stopping=True)
    with pytest.warns(UserWarning, match="no label of task 'b'"):
        model.fit(X, Y, X_val=X_val, y_val=Y_val, sample_weight_val=weight)


# Rows of a stream ---------------------------------------------------------------------------------


@steady
@given(st.integers(0, 5000), st.integers(1, 300), seeds)
def test_draws_of_a_run_of_rows_are_those_of_all_rows(first, n, seed):
    rows = first + np.flatnonzero(np.random.default_rng(n).random(n) < 0.7)
    everything = np.random.default_rng(seed).random(first + n)
    assert_array_equal(row_draws(rows, seed), everything[rows])


def test_draws_far_out_cost_what_near_ones_do():
    """All draws up to such a position would not fit into memory."""
    rows = np.array([10**15, 10**15 + 3])
    once, again = row_draws(rows, 3), row_draws(rows[1:], 3)
    assert once[1] == again[0] != once[0]


@steady
@given(labels(), percents, seeds, st.integers(1, 20))
def test_a_rule_of_a_stream_goes_piece_by_piece(given_labels, percent, seed, size):
    observed, rows = given_labels
    rule = stream_rule(observed.shape[1], percent / 100, seed)
    whole = hold_out(rule, observed, rows)
    starts = range(0, len(rows), size)
    pieces = [hold_out(rule, observed[i : i + size], rows[i : i + size]) for i in starts]
    assert_array_equal(np.concatenate([np.zeros(0, dtype=bool), *pieces]), whole)
    assert_array_equal(whole, row_draws(rows, seed) < percent / 100)


def test_a_rule_of_a_stream_holds_out_its_share_of_every_task():
    rng = np.random.default_rng(0)
    observed = rng.random((200_000, 2)) < [0.9, 0.05]
    held = hold_out(stream_rule(2, 0.1, 7), observed, np.arange(200_000))
    assert held[observed[:, 0]].mean() == pytest.approx(0.1, abs=0.004)
    assert held[observed[:, 1]].mean() == pytest.approx(0.1, abs=0.015)
    assert not held[~observed.any(axis=1)].any()
