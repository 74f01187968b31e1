"""All tasks' labels as arrays: encoded, weighted and sampled."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sk_mtl.tasks.base import Column, Task


def encode_targets(tasks: Sequence[Task], columns: Sequence[Column]) -> NDArray:
    """Encode every task's labels: (n, K) float64, NaN where a label was not observed."""
    targets = np.full((len(columns[0].observed), len(tasks)), np.nan)
    for k, (task, column) in enumerate(zip(tasks, columns, strict=True)):
        targets[column.observed, k] = task.encode(column.values)
    return targets


def logit_slices(tasks: Sequence[Task]) -> list[slice]:
    """Return the columns of the flat logits that belong to each task."""
    ends = np.cumsum([task.n_logits for task in tasks]).tolist()
    return [slice(end - task.n_logits, end) for end, task in zip(ends, tasks, strict=True)]


def weigh_labels(tasks: Sequence[Task], targets: NDArray, weight: NDArray | None) -> NDArray | None:
    """Multiply weights by what the tasks make of each label.

    Parameters
    ----------
    tasks : sequence of Task
        The tasks, fitted.
    targets : ndarray of shape (n, K)
        Encoded labels, NaN where not observed.
    weight : ndarray of shape (n, K) or None
        Weights of the labels, of those not observed too; None: all one.

    Returns
    -------
    ndarray of shape (n, K) or None
        Their weights, zero where not observed; None: all are observed and weigh one.
    """
    observed = ~np.isnan(targets)
    factors = [
        task.label_weight(targets[seen, k])
        for k, (task, seen) in enumerate(zip(tasks, observed.T, strict=True))
    ]
    if weight is None and observed.all() and all(factor is None for factor in factors):
        return None
    weight = observed.astype(np.float64) if weight is None else np.where(observed, weight, 0.0)
    for k, factor in enumerate(factors):
        if factor is not None:
            weight[observed[:, k], k] *= factor
    return weight


def drawing(generator: torch.Generator) -> Callable[[int], NDArray]:
    """Return a function that draws n numbers from [0, 1), float64."""
    return lambda n: torch.rand(n, generator=generator, dtype=torch.float64).numpy()


class Sample(NamedTuple):
    """Positions of the rows that are left, and their encoded labels and weights."""

    rows: NDArray
    targets: NDArray
    weight: NDArray | None


def sample_labels(
    tasks: Sequence[Task],
    targets: NDArray,
    weight: NDArray | None,
    draw: Callable[[int], NDArray],
    *,
    at_least_one: bool,
) -> Sample | None:
    """Leave out labels as the tasks' `keep_rate` says, and the rows without any.

    Parameters
    ----------
    tasks : sequence of Task
        The tasks, fitted.
    targets : ndarray of shape (n, K)
        Encoded labels, NaN where not observed.
    weight : ndarray of shape (n, K) or None
        Weights, zero where not observed; None: all one.
    draw : callable
        ``draw(n)`` gives a random number from [0, 1) for each row, see `drawing`; it is not called
        if no task samples.
    at_least_one : bool
        Whether to raise if none is left of the labels that a task samples.

    Returns
    -------
    Sample or None
        None if no task samples.

    Raises
    ------
    ValueError
        If a task has lost all labels that it samples.
    """
    observed = ~np.isnan(targets)
    rates = [
        task.keep_rate(targets[seen, k])
        for k, (task, seen) in enumerate(zip(tasks, observed.T, strict=True))
    ]
    if all(rate is None for rate in rates):
        return None
    # One number per row for all tasks: labels that leave together leave no row half used.
    draws = draw(len(targets))
    for k, (task, rate) in enumerate(zip(tasks, rates, strict=True)):
        if rate is None:
            continue
        kept = draws[observed[:, k]] < rate
        sampled = rate < 1
        if at_least_one and sampled.any() and not kept[sampled].any():
            raise ValueError(
                f"Sampling kept none of the {int(sampled.sum())} labels of task {task.name!r} that "
                "it may leave out; pass a greater `negative_fraction`."
            )
        observed[observed[:, k], k] = kept
    rows = np.flatnonzero(observed.any(axis=1))
    observed = observed[rows]
    if weight is not None:
        weight = np.where(observed, weight[rows], 0.0)
    elif not observed.all():
        weight = observed.astype(np.float64)
    return Sample(rows, np.where(observed, targets[rows], np.nan), weight)
