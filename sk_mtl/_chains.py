"""What estimators share whose tasks are the steps of a chain."""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from sk_mtl._checks import per_task
from sk_mtl.base import MultiTaskEstimator, Tasks, parameter
from sk_mtl.data import Labels
from sk_mtl.tasks import (
    BinaryTask,
    Column,
    complete_chain,
    encode_targets,
    looks_negative,
    with_positive,
)


@dataclass(kw_only=True, eq=False, repr=False)
class ChainEstimator(MultiTaskEstimator):
    """An estimator whose binary tasks are steps, each reached only after the one before.

    What a row's labels imply is known: after a step that it did not reach it reached none, before
    one that it reached it reached all. Labels that were not observed are filled in by that rule.

    Parameters
    ----------
    positive : label, list or dict, default=None
        The class that says "reached": one label for all tasks, or one per task as a list or a
        dict by name. None: the second class in sorted order, of booleans True.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}
    """

    _classes_only: ClassVar[bool] = True

    positive: Any = parameter(None, object)

    def _task_kinds(self, names: list[str]) -> list[Any]:
        kinds = super()._task_kinds(names)
        if self.positive is None:
            return kinds
        several = isinstance(self.positive, list | tuple | dict | np.ndarray)
        positive = self.positive if several else [self.positive] * len(names)
        labels = per_task(positive, names, "positive", None)
        return [with_positive(kind, label) for kind, label in zip(kinds, labels, strict=True)]

    def _check_tasks(self, tasks: Tasks) -> None:
        owner = type(self).__name__
        for task in tasks:
            if not isinstance(task, BinaryTask):
                raise ValueError(
                    f"{owner} takes binary tasks only, and task {task.name!r} is of kind "
                    f"{task.kind!r}. Leave it out, or use MMoE or PLE."
                )
        if len(tasks) < 2:
            raise ValueError(
                f"{owner} needs at least two tasks, the steps of a chain such as click and "
                f"click-and-conversion; y has one column, {tasks[0].name!r}. For one task use "
                "SharedBottom."
            )
        for task in tasks:
            assert isinstance(task, BinaryTask)
            assert task.classes_ is not None
            if task.positive is None and looks_negative(task.positive_class):
                other = task.classes_[0]
                warnings.warn(
                    f"{owner} takes {task.positive_class!r}, the second class in sorted order, for "
                    f"the class of task {task.name!r} that says 'reached'; pass positive="
                    f"{{{task.name!r}: {other!r}}} if it is {other!r}.",
                    UserWarning,
                    stacklevel=2,
                )

    def _complete_labels(self, tasks: Tasks, labels: Labels) -> Labels:
        targets = encode_targets(tasks, labels.columns)
        usable = np.ones(targets.shape, bool) if labels.weight is None else labels.weight > 0
        completed, n_contradictions = complete_chain(targets, usable)
        if n_contradictions:
            names = " -> ".join(task.name for task in tasks)
            warnings.warn(
                f"{n_contradictions} rows have come to a step of {names} without a step before "
                f"it; {type(self).__name__} takes y as nested (conversion implies click).",
                UserWarning,
                stacklevel=2,
            )
        if np.array_equal(np.isnan(targets), np.isnan(completed)):
            return labels
        columns = []
        for k, (task, column) in enumerate(zip(tasks, labels.columns, strict=True)):
            assert isinstance(task, BinaryTask)
            observed = ~np.isnan(completed[:, k])
            columns.append(Column(column.name, task.labels(completed[observed, k]), observed))
        return labels._replace(columns=columns)
