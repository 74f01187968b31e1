"""Which rows are held out for validation: the same ones at every fit."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

FEW_ROWS, ATTEMPTS = 1000, 20
"""Up to how many rows other draws are tried, and how many, where tasks lack a label on a side."""


class HoldOut(NamedTuple):
    """A rule that holds rows out, kept for the fits that go on from one.

    Of the first ``n_known`` positions those in ``held``, int64 as bytes, are held out. For
    positions after them ``order`` are the tasks from the one with the fewest labels on, and
    ``limits`` the number, one for each task, below which a row's draw holds it out.
    """

    fraction: float
    seed: int
    order: tuple[int, ...]
    limits: tuple[float, ...]
    n_known: int
    held: bytes


def draw_rule(observed: NDArray, rows: NDArray, fraction: float, seed: int) -> HoldOut:
    """Draw a rule that holds out a share of the labels of every task.

    Each row has a draw that depends on its position and the seed alone. Rows are dealt task by
    task, the rarest task first: of those with its label that no task before has dealt, the ones
    with the lowest draws are held out. Then single rows change sides until every task has a label
    to train on, and a task of two labels or more has one held out, as far as that can be had.

    Parameters
    ----------
    observed : ndarray of shape (n, K), bool
        Which labels there are; each row has one.
    rows : ndarray of shape (n,), int
        The rows' positions in what the user passed, ascending.
    fraction : float
        Share to hold out, between 0 and 1; of n rows ``ceil(fraction * n)``.
    seed : int
        Seed of the draws.

    Returns
    -------
    HoldOut
    """
    order = np.argsort(observed.sum(axis=0), kind="stable")
    best, least = None, np.inf
    for attempt in range(ATTEMPTS if len(rows) <= FEW_ROWS else 1):
        limits, held = _deal(observed, row_draws(rows, seed + attempt), order, fraction)
        _turn(observed, held)
        lacking = _n_lacking(observed, held)
        if lacking < least:
            n_known = int(rows[-1]) + 1 if len(rows) else 0
            known = rows[held].astype(np.int64).tobytes()
            names = tuple(order.tolist()), tuple(limits)
            best, least = HoldOut(fraction, seed + attempt, *names, n_known, known), lacking
        if lacking == 0:
            break
    assert best is not None
    return best


def stream_rule(n_tasks: int, fraction: float, seed: int) -> HoldOut:
    """Return a rule for rows whose labels are not known beforehand, such as those of files.

    Each row with a label is held out with the probability `fraction`, by its position and the
    seed alone; so `hold_out` may be asked of the rows piece by piece. The share is exact on
    average only, and no task is sure to have a label on both sides.

    Parameters
    ----------
    n_tasks : int
        Number of tasks.
    fraction : float
        Share to hold out, between 0 and 1.
    seed : int
        Seed of the draws.

    Returns
    -------
    HoldOut
    """
    return HoldOut(fraction, seed, tuple(range(n_tasks)), (fraction,) * n_tasks, 0, b"")


def hold_out(rule: HoldOut, observed: NDArray, rows: NDArray) -> NDArray:
    """Return which rows a rule holds out.

    Parameters
    ----------
    rule : HoldOut
        The rule.
    observed : ndarray of shape (n, K), bool
        Which labels there are.
    rows : ndarray of shape (n,), int
        The rows' positions, ascending.

    Returns
    -------
    ndarray of shape (n,), bool
    """
    held = np.isin(rows, np.frombuffer(rule.held, dtype=np.int64))
    new = rows >= rule.n_known
    if new.any():
        draws, left = row_draws(rows, rule.seed), new.copy()
        for k, limit in zip(rule.order, rule.limits, strict=True):
            labeled = observed[:, k] & left
            held |= labeled & (draws < limit)
            left &= ~labeled
    return held


def _deal(
    observed: NDArray, draws: NDArray, order: NDArray, fraction: float
) -> tuple[list[float], NDArray]:
    """Return the limits of the tasks, and which rows they hold out."""
    left, held = np.ones(len(draws), dtype=bool), np.zeros(len(draws), dtype=bool)
    limits = []
    for k in order:
        labeled = observed[:, k]
        n = int(labeled.sum())
        # Rounding: 0.1 * 30 is a little more than 3.
        wanted = int(np.ceil(fraction * n - 1e-9))
        if n > 1 or len(order) > 1:
            wanted = min(wanted, n - 1)
        mine = np.sort(draws[labeled & left])
        wanted = min(max(wanted - int((labeled & held).sum()), 0), len(mine))
        limit = 1.0 if 0 < wanted == len(mine) else float(mine[wanted]) if wanted else 0.0
        limits.append(limit)
        held |= labeled & left & (draws < limit)
        left &= ~labeled
    return limits, held


def _turn(observed: NDArray, held: NDArray) -> None:
    """Turn rows in place, so that tasks have labels on both sides."""
    every, several = observed.any(axis=0), observed.sum(axis=0) > 1
    # First a label to train on for every task, then one to hold out where there are two.
    for side, needed in ((False, every), (True, several)):
        for k in np.flatnonzero(needed):
            labeled = np.flatnonzero(observed[:, k])
            if (held[labeled] == side).any():
                continue
            # A row may go if each of its tasks keeps another on the side that it leaves; at worst
            # a task loses its only label to the rows held out, and never keeps none to train on
            # of two.
            rest = (observed & (held != side)[:, None]).sum(axis=0)
            for careful in (every, several) if side else (several,):
                free = [row for row in labeled if (rest[observed[row] & careful] > 1).all()]
                if free:
                    break
            if free or (several[k] and not side):
                held[free[0] if free else labeled[0]] = side


def _n_lacking(observed: NDArray, held: NDArray) -> float:
    """Return how many tasks of two labels lack one on a side; one without any to train on."""
    n, n_held = observed.sum(axis=0), observed[held].sum(axis=0)
    several = n > 1
    lacking = float((several & ((n_held == 0) | (n_held == n))).sum())
    return lacking + 0.01 * float(((n == 1) & (n_held == 1)).sum()) * (len(n) > 1)


def row_draws(rows: NDArray, seed: int) -> NDArray:
    """Return a number from [0, 1) for each position, whatever the other positions are."""
    if not len(rows):
        return np.zeros(0)
    first, last = int(rows[0]), int(rows[-1])
    # PCG64 is what `np.random.default_rng` takes, and a double is one step of it: the draws before
    # the first row are passed over.
    generator = np.random.Generator(np.random.PCG64(seed).advance(first))
    return generator.random(last - first + 1)[rows - first]
