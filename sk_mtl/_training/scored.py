"""What a net gives to the scorers of skorch's callbacks: labels, blocks and logits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from skorch import NeuralNet
from torch import Tensor

from sk_mtl.tasks import Task, decision_values, mean_blocks


class Blocks:
    """The inverse links of all tasks at once: (B, n_members * L) -> blocks side by side."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.tasks = tasks

    def __call__(self, logits: Tensor) -> Tensor:
        return torch.cat(mean_blocks(self.tasks, logits), dim=1)


class ScoredNet(NeuralNet):
    """A net whose labels are codes of classes, and values on their own scale.

    They are NaN where not observed: (n, K).
    """

    def _restore(self, target: Tensor) -> Tensor:
        """Return encoded labels as callbacks see them: values on their own scale, (B, K)."""
        tasks = self.criterion_.objective.tasks
        columns = [t.restore(own) for t, own in zip(tasks, target.unbind(1), strict=True)]
        return torch.stack(columns, dim=1)

    def _split_blocks(self, X: Any) -> list[NDArray]:
        """Return the tasks' blocks of a data set."""
        tasks = self.criterion_.objective.tasks
        widths = [1 if task.classes_ is None else len(task.classes_) for task in tasks]
        return np.split(self.predict_proba(X), np.cumsum(widths)[:-1], axis=1)

    def predict(self, X: Any) -> NDArray:
        """Return codes of classes and values of a data set, (n, K), or (n,) for a single task."""
        tasks = self.criterion_.objective.tasks
        columns = [
            block[:, 0] if task.classes_ is None else block.argmax(axis=1)
            for task, block in zip(tasks, self._split_blocks(X), strict=True)
        ]
        return columns[0] if len(columns) == 1 else np.column_stack(columns)

    def decision_function(self, X: Any) -> NDArray:
        """Return a column for each task of two classes, one per class of others: (n, columns)."""
        tasks = self.criterion_.objective.tasks
        columns = []
        for task, block in zip(tasks, self._split_blocks(X), strict=True):
            if task.classes_ is not None:
                columns.append(decision_values(block))
        out = np.hstack(columns)
        return out[:, 0] if len(tasks) == 1 and out.shape[1] == 1 else out
