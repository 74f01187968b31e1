"""One task of a fitted estimator as an estimator of its own."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import ClassifierTags, RegressorTags, Tags, get_tags
from sklearn.utils.metaestimators import available_if

from sk_mtl.tasks import Task


def find_multi_task(estimator: Any) -> Any:
    """Return the multi-task estimator inside pipelines, searches and the like.

    Raises
    ------
    TypeError
        If there is none.
    """
    seen = estimator
    while not hasattr(seen, "task_slices_"):
        if hasattr(seen, "best_estimator_"):
            seen = seen.best_estimator_
        elif hasattr(seen, "steps"):
            seen = seen.steps[-1][1]
        elif hasattr(seen, "estimator"):
            seen = seen.estimator
        else:
            raise TypeError(
                f"{type(estimator).__name__} is no fitted sk_mtl estimator, nor a pipeline or a "
                "search that ends in one."
            )
    return seen


def _is_classification(view: "TaskView") -> bool:
    return view._task().classes_ is not None


class TaskView(BaseEstimator):
    """A light view of one task of a fitted multi-task estimator.

    It is a fitted scikit-learn classifier or regressor with a single target, for tools that know
    no other: calibration, threshold tuning, ROC and partial-dependence displays, voting. `fit`
    does nothing, and a clone is the view itself: tools that fit copies get what is fitted.

    Parameters
    ----------
    estimator : estimator
        A fitted sk_mtl estimator, or a fitted pipeline or search that ends in one.
    task : str or int
        The task's name or position.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The task's classes, sorted; absent for a task of values.
    n_features_in_ : int
        Number of columns of X.

    Examples
    --------
    >>> from sklearn.metrics import roc_auc_score
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> view = MMoE(max_epochs=2, random_state=0).fit(X, Y).task_view("married")
    >>> view.predict_proba(X).shape
    (500, 2)
    """

    def __init__(self, estimator: Any, task: str | int = 0) -> None:
        self.estimator = estimator
        self.task = task

    def _task(self) -> Task:
        tasks = find_multi_task(self.estimator).tasks_
        if isinstance(self.task, str):
            for task in tasks:
                if task.name == self.task:
                    return task
        elif -len(tasks) <= self.task < len(tasks):
            return tasks[self.task]
        names = [task.name for task in tasks]
        raise ValueError(f"There is no task {self.task!r}; the estimator's tasks are {names}.")

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> "TaskView":
        return self  # a copy without what was fitted would be of no use

    @property
    def _estimator_type(self) -> str:
        """What tools from before scikit-learn's tags ask for."""
        return "classifier" if _is_classification(self) else "regressor"

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self.estimator).input_tags
        if _is_classification(self):
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        else:
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        return tags

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> "TaskView":
        """Do nothing: the estimator is fitted."""
        return self

    @property
    def classes_(self) -> NDArray:
        """The task's classes."""
        classes = self._task().classes_
        if classes is None:
            raise AttributeError(
                f"Task {self._task().name!r} is of kind {self._task().kind!r}: no classes_."
            )
        return classes

    @property
    def n_features_in_(self) -> int:
        """Number of columns of X."""
        return self.estimator.n_features_in_

    @property
    def feature_names_in_(self) -> NDArray:
        """Names of the columns of X."""
        return self.estimator.feature_names_in_

    @available_if(_is_classification)
    def predict_proba(self, X: ArrayLike) -> NDArray:
        """Predict the task's probabilities, (n_samples, n_classes)."""
        where = find_multi_task(self.estimator).task_slices_[self._task().name]
        return self.estimator.predict_proba(X)[:, where]

    @available_if(_is_classification)
    def predict_log_proba(self, X: ArrayLike) -> NDArray:
        """Predict the logarithm of `predict_proba`."""
        return np.log(self.predict_proba(X))

    def predict(self, X: ArrayLike) -> NDArray:
        """Predict the task's labels or values, (n_samples,)."""
        task = self._task()
        if task.classes_ is not None:
            return task.decode(self.predict_proba(X))
        model = find_multi_task(self.estimator)
        values = self.estimator.predict(X)
        if values.ndim == 2:
            values = values[:, model.task_names_.index(task.name)]
        return values.astype(np.float64)

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return the task's score: accuracy, or R² or D² of values."""
        weights = None if sample_weight is None else np.asarray(sample_weight)
        return self._task().score(np.asarray(y), self.predict(X), weights)
