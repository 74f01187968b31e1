"""What a fitted estimator gives back, in the shapes that scikit-learn expects."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import ClassifierTags, RegressorTags, Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from sk_mtl._encoding import RowEncoder
from sk_mtl._training import MultiTaskNet, predict_logits
from sk_mtl._views import TaskView, task_view
from sk_mtl.data import FeatureEncoder, HoldOut, ParquetSource, Rows, Table, check_rows
from sk_mtl.nn import MultiTaskModule
from sk_mtl.tasks import (
    Task,
    decision_values,
    declared_kinds,
    logit_slices,
    mean_blocks,
    member_blocks,
)

EXACT = 2**53
"""Whole numbers up to here are exact as floats."""


def as_object_array(arrays: list[NDArray]) -> NDArray:
    """Return arrays of any lengths as the entries of one object array."""
    out = np.empty(len(arrays), dtype=object)
    for index, array in enumerate(arrays):
        out[index] = array
    return out


def side_by_side(columns: list[NDArray]) -> NDArray:
    """Stack label columns: one plain dtype where they share a kind and keep all digits."""
    kinds = {"number" if c.dtype.kind in "fiu" else c.dtype.kind for c in columns}
    is_float = any(c.dtype.kind == "f" for c in columns)
    loses_digits = is_float and any(
        c.dtype.kind in "iu" and len(c) and max(abs(int(c.min())), abs(int(c.max()))) > EXACT
        for c in columns
    )
    if len(kinds) > 1 or kinds == {"O"} or loses_digits:
        columns = [column.astype(object) for column in columns]
    return np.column_stack(columns)


def _has_classes(estimator: "PredictionMixin") -> bool:
    """Whether some task has classes, as far as is known."""
    if hasattr(estimator, "tasks_"):
        return any(task.classes_ is not None for task in estimator.tasks_)
    return estimator._known_kinds() != {"regressor"}


class Fitted(NamedTuple):
    """What a fitted estimator keeps beside its public attributes.

    ``weight_scale`` is what weights were divided by, ``hold_out`` the rule by which rows were held
    out or None, ``streamed`` says whether `partial_fit` trained last, and ``n_members`` is the
    number of members of the network.
    """

    encoder: FeatureEncoder
    params: dict[str, Any]
    seed: int
    single: bool
    weight_scale: float = 1.0
    hold_out: HoldOut | None = None
    streamed: bool = False
    n_members: int = 1


class PredictionMixin(BaseEstimator):
    """Predictions, scores and tags of a multi-task estimator."""

    tasks_: tuple[Task, ...]
    module_: MultiTaskModule
    net_: MultiTaskNet
    _fitted_: Fitted
    _epochs_: list[dict[str, Any]]
    task_types: Any

    def _takes_classes_only(self) -> bool:
        """Return whether only classification tasks are taken, whatever `task_types` says."""
        return False

    def _known_kinds(self) -> set[str]:
        """Return "classifier", "regressor" or both, or nothing where `y` is to decide."""
        if hasattr(self, "tasks_"):
            return {"regressor" if t.classes_ is None else "classifier" for t in self.tasks_}
        if self._takes_classes_only():
            return {"classifier"}
        return declared_kinds(self.task_types)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.input_tags.sparse = True
        tags.input_tags.allow_nan = True
        tags.input_tags.categorical = True
        kinds = self._known_kinds()
        # Where y is yet to decide, the estimator is of no type but may turn out to be either.
        if kinds <= {"classifier"}:
            tags.classifier_tags = ClassifierTags()
        if kinds <= {"regressor"}:
            tags.regressor_tags = RegressorTags()
        if len(kinds) == 1:
            (tags.estimator_type,) = kinds
        return tags

    @property
    def history_(self) -> pd.DataFrame:
        """A row per epoch: losses, weights, and seconds."""
        if not hasattr(self, "_epochs_"):
            raise AttributeError(f"This {type(self).__name__} is not fitted: it has no history_.")
        return pd.DataFrame(self._epochs_)

    @property
    def n_iter_(self) -> int:
        """Number of epochs run."""
        if not hasattr(self, "_epochs_"):
            raise AttributeError(f"This {type(self).__name__} is not fitted: it has no n_iter_.")
        return len(self._epochs_)

    @property
    def encoder_(self) -> RowEncoder:
        """The encoder: columns to what the network takes."""
        if not hasattr(self, "_fitted_"):
            raise AttributeError(f"This {type(self).__name__} is not fitted: it has no encoder_.")
        return RowEncoder(self)

    def _describe_tasks(self, tasks: tuple[Task, ...]) -> None:
        """Set the public attributes that follow from the tasks."""
        self.tasks_ = tasks
        self.task_names_ = [task.name for task in tasks]
        ends = np.cumsum([0 if task.classes_ is None else len(task.classes_) for task in tasks])
        starts = [0, *ends[:-1].tolist()]
        self.task_slices_ = {
            name: slice(start, end)
            for name, start, end in zip(self.task_names_, starts, ends.tolist(), strict=True)
        }
        classes = [task.classes_ for task in tasks if task.classes_ is not None]
        if len(classes) == len(tasks):
            self.classes_ = classes[0] if self._fitted_.single else as_object_array(classes)

    def _logits(self, X: Any, method: str = "forward") -> torch.Tensor:
        """Return the logits of X, those of each member: (n, M * L)."""
        (logits,) = self._each(X, lambda some: [some.numpy()], method)
        return torch.from_numpy(logits)

    def _each(
        self,
        X: Any,
        function: Callable[[torch.Tensor], list[NDArray]],
        method: str = "forward",
        axis: int = 0,
    ) -> list[NDArray]:
        """Return what a function makes of the rows' logits, some rows at a time."""
        check_is_fitted(self)
        return self._each_of(self._read_rows(X), function, method, axis)

    def _read_rows(self, X: Any) -> Table:
        """Return rows to predict, checked."""
        if isinstance(X, ParquetSource):
            raise TypeError(
                "X is a ParquetSource, whose predictions go to a file; call predict_source."
            )
        return check_rows(self, X, self._fitted_.encoder.names_)

    def _each_of(
        self,
        table: Table,
        function: Callable[[torch.Tensor], list[NDArray]],
        method: str = "forward",
        axis: int = 0,
    ) -> list[NDArray]:
        """Do the same with rows that are checked."""
        n, whole = len(table), []
        for at, parts in self._fitted_.encoder.pieces(table):
            rows = Rows(parts, device=self.net_.device)
            some = function(predict_logits(self.module_, rows, method))
            if at == slice(0, n):
                whole = some
                continue
            if not whole:
                shapes = [(*a.shape[:axis], n, *a.shape[axis + 1 :]) for a in some]
                whole = [np.empty(s, dtype=a.dtype) for s, a in zip(shapes, some, strict=True)]
            for array, part in zip(whole, some, strict=True):
                array[(slice(None),) * axis + (at,)] = part
        return whole

    def _blocks(self, logits: torch.Tensor) -> list[NDArray]:
        """Return each task's block (n, columns): probabilities, or one column of values."""
        return [block.numpy() for block in mean_blocks(self.tasks_, logits)]

    def _member_blocks(self, logits: torch.Tensor) -> list[NDArray]:
        """Return each task's block of each member, (M, n, columns)."""
        return [block.numpy() for block in member_blocks(self.tasks_, logits)]

    def _example(self, method: str) -> NDArray:
        """Return what a method of `predict_frame` gives for some row, from logits of zero."""
        width = self._fitted_.n_members * logit_slices(self.tasks_)[-1].stop
        logits = torch.zeros(1, width, dtype=torch.float64)
        if method == "predict":
            return self._join(self._decode(logits))
        return np.concatenate(self._probabilities(logits, members=False), axis=-1)

    def _probabilities(self, logits: torch.Tensor, *, members: bool) -> list[NDArray]:
        """Return the blocks of the tasks with classes."""
        blocks = self._member_blocks(logits) if members else self._blocks(logits)
        by_task = zip(self.tasks_, blocks, strict=True)
        return [block for task, block in by_task if task.classes_ is not None]

    def _decode(self, logits: torch.Tensor) -> list[NDArray]:
        """Return each task's labels or values, (n,)."""
        blocks = self._blocks(logits)
        return [task.decode(block) for task, block in zip(self.tasks_, blocks, strict=True)]

    def _decode_members(self, logits: torch.Tensor) -> list[NDArray]:
        """Return each task's labels or values of each member, (M, n)."""
        blocks = zip(self.tasks_, self._member_blocks(logits), strict=True)
        return [np.stack([task.decode(own) for own in block]) for task, block in blocks]

    def predict(self, X: ArrayLike, *, members: bool = False) -> NDArray:
        """Predict every task's label or value.

        Parameters
        ----------
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
            The rows.
        members : bool, default=False
            Whether to return what each of `n_members` members predicts; their spread says how
            sure the mean is.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_tasks), with `members` (n_members, ...)
            Labels as they stood in y, and values on their own scale; one-dimensional if y was.
            Tasks of different kinds (strings and numbers) share an array of dtype object, and so
            do values with whole numbers too large for a float.
        """
        if not members:
            return self._join(self._each(X, self._decode))
        columns = self._each(X, self._decode_members, axis=1)
        return np.stack([self._join(list(own)) for own in zip(*columns, strict=True)])

    def _join(self, columns: list[NDArray]) -> NDArray:
        """Return the tasks' labels and values as one array."""
        return columns[0] if self._fitted_.single else side_by_side(columns)

    @available_if(_has_classes)
    def predict_proba(self, X: ArrayLike, *, members: bool = False) -> NDArray:
        """Predict the probability of every class of every classification task.

        Parameters
        ----------
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
            The rows.
        members : bool, default=False
            Whether to return what each of `n_members` members predicts, not their mean.

        Returns
        -------
        ndarray of shape (n_samples, n_columns) or (n_members, n_samples, n_columns), float64
            The tasks' blocks side by side in task order, see `task_slices_` and
            `get_proba_names_out`. A block has a column per class in sorted order and sums to
            one; a task without classes has no block.
        """

        def join(logits: torch.Tensor) -> list[NDArray]:
            return [np.concatenate(self._probabilities(logits, members=members), axis=-1)]

        (out,) = self._each(X, join, axis=1 if members else 0)
        return out

    @available_if(_has_classes)
    def predict_log_proba(self, X: ArrayLike) -> NDArray:
        """Predict the logarithm of `predict_proba`, in its shape."""
        return np.log(self.predict_proba(X))

    @available_if(_has_classes)
    def predict_task_proba(self, X: ArrayLike, *, members: bool = False) -> dict[str, NDArray]:
        """Predict the probabilities of each classification task by name.

        Parameters
        ----------
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
            The rows.
        members : bool, default=False
            Whether to return what each member predicts, not their mean.

        Returns
        -------
        dict of str to ndarray of shape (n_samples, n_classes) or (n_members, n_samples, n_classes)
        """
        own = partial(self._probabilities, members=members)
        blocks = self._each(X, own, axis=1 if members else 0)
        names = [task.name for task in self.tasks_ if task.classes_ is not None]
        return dict(zip(names, blocks, strict=True))

    @available_if(_has_classes)
    def decision_function(self, X: ArrayLike) -> NDArray:
        """Return the logits as scikit-learn shapes them, for ordered classes log-probabilities.

        Of several members they follow from the mean probabilities: the logit of the second of two
        classes, and the logarithms of more.

        Parameters
        ----------
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
            The rows.

        Returns
        -------
        ndarray of shape (n_samples, n_columns) or (n_samples,)
            For each classification task one column if it has two classes (above zero: the second
            one), else one per class. One-dimensional for a single task of two classes.
        """
        (out,) = self._each(X, self._decisions)
        return out[:, 0] if self._fitted_.single and out.shape[1] == 1 else out

    def _decisions(self, logits: torch.Tensor) -> list[NDArray]:
        """Return the decision values of the tasks with classes, side by side."""
        if self._fitted_.n_members > 1:
            return [
                np.hstack([decision_values(b) for b in self._probabilities(logits, members=False)])
            ]
        slices = zip(self.tasks_, logit_slices(self.tasks_), strict=True)
        columns = [
            task.decision(logits[:, at].numpy()) for task, at in slices if task.classes_ is not None
        ]
        return [np.hstack(columns)]

    @available_if(_has_classes)
    def get_proba_names_out(self) -> NDArray:
        """Return the names of `predict_proba`'s columns, such as ``income=>50K``.

        Returns
        -------
        ndarray of str, dtype object
        """
        check_is_fitted(self)
        names = [
            f"{task.name}={label}"
            for task in self.tasks_
            if task.classes_ is not None
            for label in task.classes_.tolist()
        ]
        return np.array(names, dtype=object)

    def task_view(self, task: str | int) -> TaskView:
        """Return one task as a fitted classifier or regressor with a single target.

        Parameters
        ----------
        task : str or int
            The task's name or position.

        Returns
        -------
        TaskView
            A light view of this estimator, see `sk_mtl.TaskView`.
        """
        check_is_fitted(self)
        return task_view(self, task)
