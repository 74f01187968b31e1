"""Which rows are held out for validation: the same ones at every fit."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class HoldOut(NamedTuple):
    """A rule that holds rows out, kept for the fits that go on from one.

    ``order`` are the tasks from the one with the fewest labels on, ``limits`` the number, one for
    each of them, below which a row's draw holds it out. The rows at the positions ``turned`` go
    to the other side.
    """

    fraction: float
    seed: int
    order: tuple[int, ...]
    limits: tuple[float, ...]
    turned: tuple[int, ...] = ()


def draw_rule(observed: NDArray, rows: NDArray, fraction: float, seed: int) -> HoldOut:
    """Draw a rule that holds out a share of the labels of every task.

    Each row has a draw that depends on its position and the seed alone, so that rows which come
    later change nothing for those before. Rows are dealt task by task, the rarest task first: of
    those with its label that no task before has dealt, the ones with the lowest draws are held
    out. At last single rows are turned so that a task with two labels or more has one on either
    side, as far as the other tasks of the row allow it.

    Parameters
    ----------
    observed : ndarray of shape (n, K), bool
        Which labels there are; each row has one.
    rows : ndarray of shape (n,), int
        The rows' positions in what the user passed.
    fraction : float
        Share to hold out, between 0 and 1; of n rows ``ceil(fraction * n)``.
    seed : int
        Seed of the draws.
    """
    draws = _draws(rows, seed)
    order = np.argsort(observed.sum(axis=0), kind="stable")
    left, held = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    limits = []
    for k in order:
        labeled = observed[:, k]
        n = int(labeled.sum())
        # Rounding: 0.1 * 30 is a little more than 3.
        wanted = int(np.ceil(fraction * n - 1e-9))
        wanted = min(wanted, n - 1) if n > 1 else 0 if len(order) > 1 else wanted
        mine = np.sort(draws[labeled & left])
        wanted = min(max(wanted - int((labeled & held).sum()), 0), len(mine))
        if wanted == 0:
            limit = 0.0
        elif wanted == len(mine):
            limit = 1.0
        else:
            limit = float(mine[wanted])
        limits.append(limit)
        held |= labeled & left & (draws < limit)
        left &= ~labeled
    turned = _turn(observed, held)
    rule = HoldOut(fraction, seed, tuple(order.tolist()), tuple(limits))
    return rule._replace(turned=tuple(rows[turned].tolist()))


def _turn(observed: NDArray, held: NDArray) -> list[int]:
    """Return which rows to turn, so that tasks of two labels have one on either side."""
    turned: list[int] = []
    held = held.copy()
    several = observed.sum(axis=0) > 1
    # First a label to train on for every task, then one to hold out.
    for side in (False, True):
        for k in np.flatnonzero(several):
            labeled = np.flatnonzero(observed[:, k])
            if (held[labeled] == side).any():
                continue
            # A row may go if each of its tasks keeps another on the side that it leaves.
            rest = (observed & (held != side)[:, None]).sum(axis=0)
            free = [row for row in labeled if (rest[observed[row] & several] > 1).all()]
            if free or not side:
                row = int(free[0] if free else labeled[0])
                held[row] = side
                turned.append(row)
    return turned


def hold_out(rule: HoldOut, observed: NDArray, rows: NDArray) -> NDArray:
    """Return which rows a rule holds out, a mask of shape (n,)."""
    draws = _draws(rows, rule.seed)
    left, held = np.ones(len(rows), dtype=bool), np.zeros(len(rows), dtype=bool)
    for k, limit in zip(rule.order, rule.limits, strict=True):
        labeled = observed[:, k] & left
        held |= labeled & (draws < limit)
        left &= ~labeled
    if rule.turned:
        held ^= np.isin(rows, rule.turned)
    return held


def _draws(rows: NDArray, seed: int) -> NDArray:
    """Return a number from [0, 1) for each position, whatever the other positions are."""
    n = int(rows[-1]) + 1 if len(rows) else 0
    return np.random.default_rng(seed).random(n)[rows]
