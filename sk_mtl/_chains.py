"""What estimators share whose tasks are the steps of a chain, and those of rates between steps."""

import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from sk_mtl._checks import per_task
from sk_mtl._params import check_parameters, same
from sk_mtl.base import ArrayLike, MultiTaskEstimator, NDArray, Objective, Tasks, parameter
from sk_mtl.data import Labels
from sk_mtl.nn import ProbabilityChain, SharedEmbeddingBottom, chain_rates
from sk_mtl.tasks import (
    BinaryTask,
    Column,
    Task,
    complete_chain,
    encode_targets,
    looks_negative,
    with_positive,
)


class OrderedObjective(Objective):
    r"""The tasks' losses, and a penalty for a step that is likelier than the one before it.

    .. math:: \alpha \sum_{t \ge 2} \max(p_t - p_{t-1}, 0)

    in the mean over all rows, whatever their labels. Nothing is detached: it lifts the step before
    as well as lowering the step after.

    Parameters
    ----------
    tasks : sequence of Task
        Binary tasks, the steps of a chain.
    price : float
        Weight :math:`\alpha` of the penalty.
    """

    def __init__(self, tasks: Tasks, price: float) -> None:
        super().__init__(tasks)
        self.price = price

    def row_penalty(self, tower_logits: Tensor, logits: Tensor) -> Tensor:
        """Return each row's penalty: (B, K) -> (B,)."""
        p = logits.sigmoid()
        return self.price * (p[:, 1:] - p[:, :-1]).relu().sum(1)


@dataclass(kw_only=True, eq=False, repr=False)
class ChainEstimator(MultiTaskEstimator):
    """An estimator whose tasks are steps, each reached only after the one before.

    What a row's binary labels imply is known: after a step that it did not reach it reached none,
    before one that it reached it reached all. Labels that were not observed are filled in by that
    rule.

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

    takes: ClassVar[tuple[type[Task], ...]] = (BinaryTask,)
    n_tasks: ClassVar[tuple[int, int | None]] = (2, None)
    _tasks_are: ClassVar[str] = ", the steps of a chain such as click and click-and-conversion"

    positive: Any = parameter(None, object)

    def _nests(self) -> bool:
        """Return whether the tasks are the steps of a chain whatever the parameters are."""
        return True

    def _takes_classes_only(self) -> bool:
        return self._nests()

    def _task_kinds(self, names: list[str]) -> list[Any]:
        kinds = super()._task_kinds(names)
        if self.positive is None:
            return kinds
        several = isinstance(self.positive, list | tuple | dict | np.ndarray)
        positive = self.positive if several else [self.positive] * len(names)
        labels = per_task(positive, names, "positive", None)
        return [with_positive(kind, label) for kind, label in zip(kinds, labels, strict=True)]

    def _check_tasks(self, tasks: Tasks) -> None:
        if not self._nests():
            return
        super()._check_tasks(tasks)
        for task in tasks:
            if not isinstance(task, BinaryTask) or task.classes_ is None:
                continue
            if task.positive is None and looks_negative(task.positive_class):
                other = task.classes_[0]
                warnings.warn(
                    f"{type(self).__name__} takes {task.positive_class!r}, the second class in "
                    f"sorted order, for the class of task {task.name!r} that says 'reached'; pass "
                    f"positive={{{task.name!r}: {other!r}}} if it is {other!r}.",
                    UserWarning,
                    stacklevel=2,
                )

    def _tell_contradictions(self, tasks: Tasks, n_rows: int) -> None:
        names = " -> ".join(task.name for task in tasks)
        warnings.warn(
            f"{n_rows} rows have come to a step of {names} without a step before it; "
            f"{type(self).__name__} takes y as nested (conversion implies click).",
            UserWarning,
            stacklevel=3,
        )

    def _complete_labels(
        self, tasks: Tasks, labels: Labels, told: list[int] | None = None
    ) -> Labels:
        if not self._nests() or not all(isinstance(task, BinaryTask) for task in tasks):
            return labels
        targets = encode_targets(tasks, labels.columns)
        usable = np.ones(targets.shape, bool) if labels.weight is None else labels.weight > 0
        completed, n_contradictions = complete_chain(targets, usable)
        if n_contradictions and told is None:
            self._tell_contradictions(tasks, n_contradictions)
        elif told is not None:
            told.append(n_contradictions)
        if np.array_equal(np.isnan(targets), np.isnan(completed)):
            return labels
        columns = []
        for k, (task, column) in enumerate(zip(tasks, labels.columns, strict=True)):
            assert isinstance(task, BinaryTask)
            observed = ~np.isnan(completed[:, k])
            columns.append(Column(column.name, task.labels(completed[observed, k]), observed))
        return labels._replace(columns=columns)


@dataclass(kw_only=True, eq=False, repr=False)
class ConversionEstimator(ChainEstimator):
    """An estimator of the rates between steps: a tower gives each step's, given the one before.

    What it predicts of a step, the probability of having come to it, is the product of the rates
    up to it.

    Parameters
    ----------
    bottom : estimator, default=None
        The architecture before the towers, such as ``MMoE(n_experts=4)``: of this estimator only
        the parameters of its bottom count. None: the towers read the shared embedding itself.
    {common_parameters}

    Attributes
    ----------
    {common_attributes}
    """

    bottom: Any = parameter(None, MultiTaskEstimator, None)

    def _check_architecture(self) -> None:
        if self.bottom is None:
            return
        kind, owner = type(self.bottom), type(self).__name__
        for hook in ("_build_head", "_build_objective"):
            if getattr(kind, hook) is not getattr(MultiTaskEstimator, hook):
                raise ValueError(
                    f"`bottom` is a {kind.__name__}, which has more than a bottom of its own; pass "
                    "one such as SharedBottom, MMoE or PLE."
                )
        check_parameters(self.bottom)
        for name in MultiTaskEstimator.__dataclass_fields__:
            value, default = getattr(self.bottom, name), kind.__dataclass_fields__[name].default
            if not same(value, default):
                raise ValueError(
                    f"`bottom` has {name}={value!r}, which counts for nothing there; pass "
                    f"{name} to {owner} itself."
                )
        self.bottom._check_architecture()

    def _describe(self, tasks: Tasks, columns: dict[Any, list[int]]) -> dict[str, Any]:
        return {} if self.bottom is None else self.bottom._describe(tasks, columns)

    def _embedding_copies(self, n_tasks: int) -> tuple[int, bool]:
        return (0, True) if self.bottom is None else self.bottom._embedding_copies(n_tasks)

    def _build_bottom(self, in_features: int, n_tasks: int, **network: Any) -> nn.Module:
        if self.bottom is None:
            n_members = network.get("n_members", 1)
            return SharedEmbeddingBottom(in_features, n_tasks, n_members=n_members)
        return self.bottom._build_bottom(in_features, n_tasks, **network)

    def _build_head(self, tasks: Tasks) -> nn.Module:
        return ProbabilityChain()

    def predict_conversion_rate(self, X: ArrayLike) -> NDArray:
        """Predict the probability of each step given the step before it.

        Parameters
        ----------
        X : {array-like, dataframe, sparse matrix} of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_tasks - 1)
            With two tasks pCVR, the probability of a conversion given a click, for every row,
            clicked or not. With more, one column for each step after the first. Of several
            members it is the mean probability over that of the step before.
        """
        steps = self._logits(X, "tower_logits").unflatten(1, (self.module_.n_members, -1))
        rates = chain_rates(steps[..., : len(self.tasks_)]).numpy()[:, 1:]
        return rates[:, 0] if rates.shape[1] == 1 else rates
