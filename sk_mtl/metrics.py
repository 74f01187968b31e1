"""Scorers that scikit-learn lacks: per task, over several tasks, and with missing labels."""

import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import get_scorer
from sklearn.utils.metadata_routing import get_routing_for_object

from sk_mtl._compat import MetadataRequest, _safe_indexing, with_labels
from sk_mtl._views import TaskView, find_multi_task
from sk_mtl.data import FITTED, check_weight, read_targets

__all__ = [
    "MultiTaskScorer",
    "TaskScorer",
    "multi_task_report",
    "multi_task_scorer",
    "relative_gain",
    "task_scorer",
    "task_scorers",
]

REPORTED = {
    "binary": ["roc_auc", "average_precision", "accuracy", "neg_log_loss", "neg_brier_score"],
    "multiclass": ["accuracy", "f1_macro", "roc_auc_ovr", "neg_log_loss"],
    "ordinal": ["accuracy", "f1_macro", "roc_auc_ovr", "neg_log_loss"],
    "regression": ["r2", "neg_root_mean_squared_error", "neg_mean_absolute_error"],
    "quantile": ["neg_mean_absolute_error"],
    "count": ["neg_mean_poisson_deviance", "neg_root_mean_squared_error"],
}
"""The metrics of `multi_task_report` by kind of task."""


def _inside_training(estimator: Any, X: Any, y: Any, weights: Any) -> tuple[Any, Any, Any, Any]:
    """Return what to score: of a net in training, which skorch's EpochScoring passes, its rows."""
    if not hasattr(estimator, "stand_in"):
        return estimator, X, y, weights
    if estimator.stand_in is None or X is not estimator.valid_batches.rows:
        raise ValueError(
            "In a callback sk_mtl's scorers score the rows held out; pass EpochScoring("
            "on_train=False), and validation_fraction or X_val to the estimator."
        )
    return estimator.stand_in(estimator)


class _Scorer:
    """What the scorers share: requests for routed sample weights."""

    def __init__(self) -> None:
        self._request = MetadataRequest(owner=type(self).__name__)

    def set_score_request(self, **kwargs: Any) -> Any:
        """Say, with metadata routing on, whether `sample_weight` is to be passed on.

        Parameters
        ----------
        sample_weight : bool, str or None
            As in scikit-learn's scorers.

        Returns
        -------
        scorer
            This scorer.
        """
        for param, alias in kwargs.items():
            self._request.score.add_request(param=param, alias=alias)
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return the requests, for scikit-learn's routing."""
        return get_routing_for_object(self._request)


class _BinaryView(TaskView):
    """A binary task with classes 0 and 1, whatever its labels: metrics want a positive class."""

    @property
    def classes_(self) -> NDArray:
        return np.array([0, 1])

    def predict(self, X: ArrayLike) -> NDArray:
        return self.predict_proba(X).argmax(axis=1)


class TaskScorer(_Scorer):
    """One metric of one task over its observed labels; made by `task_scorer`."""

    def __init__(self, metric: Any, task: str | int) -> None:
        super().__init__()
        self.metric, self.task = metric, task

    def __call__(
        self, estimator: Any, X: Any, y: Any, sample_weight: ArrayLike | None = None
    ) -> float:
        """Score the task's predictions of X against its column of y."""
        estimator, X, y, sample_weight = _inside_training(estimator, X, y, sample_weight)
        view = TaskView(estimator, self.task)
        task = view._task()
        name = task.name
        targets = read_targets(y, X, type(estimator).__name__)
        if targets.single:
            k = 0
        elif targets.named and name in targets.names:  # others may be missing
            k = targets.names.index(name)
        else:
            names = find_multi_task(estimator).task_names_
            targets = targets.align(names, "y", FITTED)
            k = names.index(name)
        seen = targets.observed[:, k]
        weight = check_weight(sample_weight, X, targets.names)
        if weight is not None:
            seen = seen & (weight[:, k] > 0)
        if not seen.any():
            return float("nan")
        rows = X if seen.all() else _safe_indexing(X, np.flatnonzero(seen))
        labels = targets.values[k][seen]
        task.check_scored(labels)
        if task.classes_ is not None and len(task.classes_) == 2:
            view, labels = _BinaryView(estimator, self.task), labels == task.classes_[1]
            labels = labels.astype(int)
        kwargs = {} if weight is None else {"sample_weight": weight[seen, k]}
        scorer = get_scorer(self.metric)
        if task.classes_ is not None and len(np.unique(labels)) < len(task.classes_):
            return _score_slice(scorer, view, rows, labels, kwargs)
        try:
            return float(scorer(view, rows, labels, **kwargs))
        except AttributeError as error:
            # An error of the metric's own is no question of the task's kind.
            is_lack = any(f in str(error) for f in ("predict_proba", "decision_function"))
            if task.classes_ is not None or not is_lack:
                raise
            raise ValueError(
                f"The metric {self.metric!r} wants probabilities, and task {name!r} is of the kind "
                f"{task.kind!r}, which has none; pass a metric of values such as 'r2'."
            ) from error

    def __repr__(self) -> str:
        return f"task_scorer({self.metric!r}, task={self.task!r})"


def _score_slice(scorer: Any, view: TaskView, rows: Any, labels: NDArray, kwargs: Any) -> float:
    """Score rows that lack a class: NaN where the metric is not defined without it."""
    scorer = with_labels(scorer, view.classes_)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        score = float(scorer(view, rows, labels, **kwargs))
    for warning in told:
        if "No positive class" in str(warning.message):  # average precision would be 0
            score = float("nan")
        warnings.warn(warning.message, warning.category, stacklevel=3)
    return score


class MultiTaskScorer(_Scorer):
    """Weighted mean of task scorers; made by `multi_task_scorer`."""

    def __init__(self, scorers: list[TaskScorer], weights: NDArray) -> None:
        super().__init__()
        self.scorers, self.weights = scorers, weights

    def __call__(
        self, estimator: Any, X: Any, y: Any, sample_weight: ArrayLike | None = None
    ) -> float:
        """Average the tasks' scores."""
        estimator, X, y, sample_weight = _inside_training(estimator, X, y, sample_weight)
        scores = [scorer(estimator, X, y, sample_weight) for scorer in self.scorers]
        return float(np.average(scores, weights=self.weights))

    def __repr__(self) -> str:
        return f"multi_task_scorer({self.scorers}, weights={self.weights.tolist()})"


def task_scorer(metric: Any, task: str | int) -> TaskScorer:
    """Make a scorer of one task, for any tool that takes `scoring`.

    Parameters
    ----------
    metric : str or scorer
        Name of a scikit-learn scorer such as "roc_auc" or "r2", or a scorer made by
        `sklearn.metrics.make_scorer`. Labels of a binary task reach it as 0 and 1, in the order
        of its classes.
    task : str or int
        The task's name or position.

    Returns
    -------
    TaskScorer
        A picklable callable (estimator, X, y, sample_weight=None) -> float. Rows whose label is
        missing are left out; with none left the score is NaN. The classes are those of `fit`: a
        slice that lacks one is scored by the others, or NaN. The estimator may be a pipeline.

    Examples
    --------
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> from sk_mtl.metrics import task_scorer
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(max_epochs=2, random_state=0).fit(X, Y)
    >>> 0 < task_scorer("roc_auc", task="married")(model, X, Y) < 1
    True
    """
    if isinstance(metric, str):
        get_scorer(metric)  # an unknown name raises here, not in the middle of a search
    return TaskScorer(metric, task)


def task_scorers(metric: Any, tasks: Iterable[str]) -> dict[str, TaskScorer]:
    """Make one scorer per task, for searches with several metrics.

    Parameters
    ----------
    metric : str or scorer
        As in `task_scorer`, the same for all.
    tasks : iterable of str
        The tasks' names.

    Returns
    -------
    dict of str to TaskScorer
        By task name, so ``refit="income"`` names the task that decides.
    """
    return {task: task_scorer(metric, task) for task in tasks}


def multi_task_scorer(
    metrics: Mapping[str, Any], weights: Mapping[str, float] | None = None
) -> MultiTaskScorer:
    """Make a scorer that averages a metric of each task.

    Parameters
    ----------
    metrics : mapping of task name to str or scorer
        The metric of each task, such as ``{"income": "roc_auc", "age": "r2"}``.
    weights : mapping of task name to float, default=None
        Weights of the tasks in the mean; equal if None, 1 for a task not named.

    Returns
    -------
    MultiTaskScorer
        A picklable callable (estimator, X, y, sample_weight=None) -> float.

    Raises
    ------
    TypeError
        If `metrics` is no mapping.
    ValueError
        If `weights` names a task that `metrics` does not.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(
            f"`metrics` is {metrics!r}; pass a metric of each task, as {{'income': 'roc_auc'}}."
        )
    unknown = [name for name in weights or () if name not in metrics]
    if unknown:
        raise ValueError(f"`weights` names {unknown[0]!r}; `metrics` has {list(metrics)}.")
    scorers = [task_scorer(metric, task) for task, metric in metrics.items()]
    return MultiTaskScorer(scorers, np.array([(weights or {}).get(name, 1.0) for name in metrics]))


def multi_task_report(
    y: Any, estimator: Any, X: Any, sample_weight: ArrayLike | None = None
) -> pd.DataFrame:
    """Score every task with the metrics that suit it.

    Parameters
    ----------
    y : array-like of shape (n_samples, n_tasks)
        Labels; those not observed are left out, task by task.
    estimator : estimator
        A fitted sk_mtl estimator, or a pipeline or search that ends in one.
    X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
        The rows.
    sample_weight : array-like of shape (n_samples,) or (n_samples, n_tasks), default=None
        Weights of rows, or of single labels.

    Returns
    -------
    DataFrame
        A row per task: its kind, ``n_labels``, and the metrics, NaN where one does not apply.
    """
    model = find_multi_task(estimator)
    targets = read_targets(y, X, type(estimator).__name__)
    targets = targets.align(model.task_names_, "y", FITTED)
    rows = {}
    for k, task in enumerate(model.tasks_):
        row: dict[str, Any] = {"kind": task.kind, "n_labels": int(targets.observed[:, k].sum())}
        for metric in REPORTED.get(task.kind, []):
            with warnings.catch_warnings():  # NaN says it
                warnings.simplefilter("ignore", UndefinedMetricWarning)
                warnings.filterwarnings("ignore", "No positive class")
                row[metric] = task_scorer(metric, k)(estimator, X, y, sample_weight)
        rows[task.name] = row
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("task")


def relative_gain(
    scores: Mapping[str, float],
    single_task: Mapping[str, float],
    *,
    greater_is_better: bool | Mapping[str, bool] = True,
) -> float:
    r"""Return the mean signed relative change over single-task models, :math:`\Delta_{MTL}`.

    .. math:: \Delta_{MTL} = \frac{1}{K} \sum_k (-1)^{l_k} \frac{M_k - M_k^0}{|M_k^0|}

    with :math:`l_k = 1` where a lower value is better.

    Parameters
    ----------
    scores : mapping of task name to float
        Metrics of the multi-task model.
    single_task : mapping of task name to float
        The same metrics of models fitted on each task alone.
    greater_is_better : bool or mapping of task name to bool, default=True
        Whether a greater value is better.

    Returns
    -------
    float
        0.01 means one percent better on average.

    References
    ----------
    K.-K. Maninis et al., "Attentive Single-Tasking of Multiple Tasks", CVPR 2019, section 5.

    Examples
    --------
    >>> round(relative_gain({"a": 0.9, "b": 0.33}, {"a": 0.9, "b": 0.3}), 3)
    0.05
    """
    if set(scores) != set(single_task):
        raise ValueError(f"The tasks differ: {sorted(scores)} and {sorted(single_task)}.")
    changes = []
    for name, value in scores.items():
        better = (
            greater_is_better if isinstance(greater_is_better, bool) else greater_is_better[name]
        )
        change = (value - single_task[name]) / abs(single_task[name])
        changes.append(change if better else -change)
    return float(np.mean(changes))
