"""From the flat logits of a network to every task's probabilities and values."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sk_mtl.tasks.base import Task
from sk_mtl.tasks.labels import logit_slices


def mean_blocks(tasks: Sequence[Task], logits: Tensor) -> list[Tensor]:
    """Return each task's probabilities, or one column of values.

    Parameters
    ----------
    tasks : sequence of Task
        The tasks, fitted.
    logits : Tensor of shape (n, M * L)
        The tasks' logits side by side, of one member of the network after the other.

    Returns
    -------
    list of Tensor of shape (n, columns)
        A block per task: the mean over the members.
    """
    slices = logit_slices(tasks)
    if logits.shape[1] == slices[-1].stop:
        return [task.link(logits[:, at]) for task, at in zip(tasks, slices, strict=True)]
    return [block.mean(0) for block in member_blocks(tasks, logits)]


def member_blocks(tasks: Sequence[Task], logits: Tensor) -> list[Tensor]:
    """Return what `mean_blocks` takes the mean of: a block (M, n, columns) per task."""
    # Not `len`: it would make the number of rows a constant of an exported network.
    slices, n = logit_slices(tasks), logits.shape[0]
    by_member = logits.reshape(n, -1, slices[-1].stop).transpose(0, 1)
    rows = by_member.flatten(0, 1)
    blocks = [task.link(rows[:, at]) for task, at in zip(tasks, slices, strict=True)]
    return [block.unflatten(0, by_member.shape[:2]) for block in blocks]


def decision_values(block: NDArray) -> NDArray:
    """Return the decision values that a block of probabilities gives: (n, 1) or (n, n_classes)."""
    block = np.maximum(block, np.finfo(block.dtype).tiny)
    # Of the quotient, not a difference: the sign is that of the more probable class.
    return np.log(block[:, 1:] / block[:, :1] if block.shape[1] == 2 else block)
