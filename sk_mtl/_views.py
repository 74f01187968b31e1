"""One task of a fitted estimator as an estimator of its own."""

from collections import deque
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import ClassifierTags, RegressorTags, Tags, get_tags
from sklearn.utils.metaestimators import available_if

from sk_mtl._compat import PageMixin
from sk_mtl.tasks import Task

MOST_OBJECTS = 10_000
"""Objects that `find_multi_task` looks at before it gives up."""


def find_multi_task(estimator: Any) -> Any:
    """Return the fitted multi-task estimator that another one holds.

    Pipelines, searches, and any other estimator or learner are looked through that keeps what it
    fitted as an attribute, in a list or in a dict; attributes that end in an underscore first.

    Raises
    ------
    TypeError
        If there is none.
    """
    waiting, seen = deque([estimator]), set[int]()
    while waiting and len(seen) < MOST_OBJECTS:
        one = waiting.popleft()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if hasattr(type(one), "task_view") and "tasks_" in vars(one):
            return one
        waiting.extend(_held(one))
    raise TypeError(
        f"{type(estimator).__name__} is no fitted sk_mtl estimator, nor a pipeline, a search or "
        "another estimator that holds a fitted one."
    )


def _held(one: Any) -> list[Any]:
    """Return what an object holds, the likeliest first; nothing of data and of plain values."""
    if isinstance(one, list | tuple):
        return list(reversed(one)) if len(one) <= 100 else []  # the last step is the final one
    if isinstance(one, dict):
        return list(one.values()) if len(one) <= 100 else []
    module = type(one).__module__.partition(".")[0]
    if isinstance(one, type | ModuleType) or module in ("builtins", "numpy", "pandas", "torch"):
        return []
    try:  # an object may be lazy, and answer to any name
        own: dict[str, Any] = object.__getattribute__(one, "__dict__")
    except AttributeError:
        return []
    return _fitted_first(own)


def _fitted_first(attributes: dict[str, Any]) -> list[Any]:
    """Return attributes, those with the name of a fitted one first."""
    names = sorted(attributes, key=lambda name: not name.endswith("_"))
    return [attributes[name] for name in names]


def _is_classification(view: "TaskView") -> bool:
    return view._task().classes_ is not None


class TaskView(PageMixin, BaseEstimator):
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

    def __getattr__(self, name: str) -> Any:
        # No property: some tools set it.
        if name == "feature_names_in_":
            return self.estimator.feature_names_in_
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

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


def task_view(estimator: Any, task: str | int) -> TaskView:
    """Return one task as a fitted classifier or regressor with a single target.

    Parameters
    ----------
    estimator : estimator
        A fitted sk_mtl estimator, or a pipeline, a search or the like that holds one.
    task : str or int
        The task's name or position.

    Returns
    -------
    TaskView
        It takes the X that `estimator` takes.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sk_mtl import MMoE, task_view
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> pipeline = make_pipeline(MMoE(max_epochs=2, random_state=0)).fit(X, Y)
    >>> task_view(pipeline, "married").predict_proba(X).shape
    (500, 2)
    """
    view = TaskView(estimator, task)
    view._task()  # an unknown task raises now
    return view


def predict_task_proba(estimator: Any, X: Any) -> dict[str, NDArray]:
    """Predict the probabilities of each classification task by name.

    Parameters
    ----------
    estimator : estimator
        A fitted sk_mtl estimator, or a pipeline, a search or the like that holds one.
    X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
        The rows, as `estimator` takes them.

    Returns
    -------
    dict of str to ndarray of shape (n_samples, n_classes)
    """
    slices = find_multi_task(estimator).task_slices_
    proba = estimator.predict_proba(X)
    return {name: proba[:, at] for name, at in slices.items() if at.stop > at.start}


def predict_frame(estimator: Any, X: Any, method: str = "predict") -> pd.DataFrame:
    """Predict into a DataFrame with named columns and the rows' own index.

    Parameters
    ----------
    estimator : estimator
        A fitted sk_mtl estimator, or a pipeline, a search or the like that holds one.
    X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
        The rows, as `estimator` takes them.
    method : {"predict", "predict_proba", "predict_log_proba"}, default="predict"
        What to predict.

    Returns
    -------
    DataFrame of n_samples rows
        With "predict" a column for each task, of the dtype of its labels, else one for each class
        of each classification task, such as ``income=>50K``: see `get_proba_names_out`. The index
        is that of X. Without any row in X the frame has these columns with their dtypes: some
        partitions of a larger frame may be empty, and Dask asks for such a frame as ``meta``.

    Raises
    ------
    ValueError
        If `method` is another one.

    Examples
    --------
    >>> from sk_mtl import MMoE, predict_frame
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(500, random_state=0)
    >>> model = MMoE(max_epochs=2, random_state=0).fit(X, Y)
    >>> predict_frame(model, X[:2], "predict_proba").columns.tolist()
    ['high_income=0', 'high_income=1', 'married=0', 'married=1']
    """
    model = find_multi_task(estimator)
    if method not in ("predict", "predict_proba", "predict_log_proba"):
        raise ValueError(
            f"`method` is {method!r}; pass 'predict', 'predict_proba' or 'predict_log_proba'."
        )
    function, n_rows = getattr(estimator, method), X.shape[0] if hasattr(X, "shape") else len(X)
    # Estimators refuse to predict no rows, and so do steps before them.
    found = function(X) if n_rows else model._example(method)
    names = model.task_names_ if method == "predict" else model.get_proba_names_out()
    index = X.index if isinstance(X, pd.DataFrame | pd.Series) else None
    frame = pd.DataFrame(found, columns=list(names)).infer_objects()
    if method == "predict":
        # In one array with values, whole numbers and booleans had become floats.
        kinds = {
            task.name: task.classes_.dtype for task in model.tasks_ if task.classes_ is not None
        }
        frame = frame.astype({name: kind for name, kind in kinds.items() if kind.kind in "iub"})
    frame = frame.iloc[:n_rows]
    return frame if index is None else frame.set_axis(index)
