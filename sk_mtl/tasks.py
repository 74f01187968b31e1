"""Tasks: what a target column means. The only place that knows what a kind of task is.

A task encodes its labels as numbers, turns logits into a loss while training, and turns logits
into probabilities, values and labels afterwards. Nothing else in the package asks a task for its
kind. A new kind is one subclass of `Task`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import r2_score
from torch import Tensor

MAX_AUTO_CLASSES = 100
"""With more distinct whole numbers than this, ``task_types="auto"`` refuses to guess."""


class Column(NamedTuple):
    """One target column: its name, its observed labels, and where they stand.

    ``values`` holds the observed labels only, ``observed`` is a mask over all rows.
    """

    name: str
    values: NDArray
    observed: NDArray


class Task(ABC):
    """One target: how its labels are encoded, trained on and decoded.

    Parameters
    ----------
    name : str
        Name of the task, for messages and columns.

    Attributes
    ----------
    n_logits : int
        Number of the network's outputs that belong to the task.
    classes_ : ndarray or None
        Sorted labels of a classification task, else None.
    """

    kind: ClassVar[str]
    n_logits: int = 1
    classes_: NDArray | None = None

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn what encoding needs from the observed labels; raise if they do not suit."""

    @abstractmethod
    def encode(self, values: NDArray) -> NDArray:
        """Return labels as floats: (n,) -> (n,) float64."""

    @abstractmethod
    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of each row: (..., n_logits), (...) -> (...), unreduced."""

    @abstractmethod
    def link(self, logits: Tensor) -> Tensor:
        """Return probabilities (B, n_classes), or values (B, 1): the inverse link."""

    @abstractmethod
    def decode(self, block: NDArray) -> NDArray:
        """Return what `predict` gives for a block of `link`: (n, columns) -> (n,)."""

    def decision(self, logits: NDArray) -> NDArray:
        """Return decision values as scikit-learn shapes them: (n, 1) or (n, n_classes)."""
        return logits

    @abstractmethod
    def score(self, labels: NDArray, predicted: NDArray, weights: NDArray | None) -> float:
        """Return the default score of predictions, the greater the better."""

    def loss_key(self) -> tuple:
        """Tasks with equal keys may compute their losses in one call of `loss`."""
        return type(self), self.n_logits

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class ClassificationTask(Task):
    """What binary and multiclass tasks share: sorted classes and their positions."""

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn the sorted classes, or take those given."""
        found = np.unique(values)
        self.classes_ = found if classes is None else np.unique(classes)
        if len(self.classes_) < 2:
            raise ValueError(
                f"Task {self.name!r} has one class only, {self.classes_.tolist()[0]!r}: there is "
                "nothing to learn. Leave the task out, or give rows of another class."
            )
        return self

    def encode(self, values: NDArray) -> NDArray:
        """Return the position of each label among the sorted classes."""
        assert self.classes_ is not None
        position = np.zeros(len(values), dtype=np.int64)
        if _are_numbers(values) == _are_numbers(self.classes_):  # else there is no common order
            position = np.searchsorted(self.classes_, values).clip(max=len(self.classes_) - 1)
        unseen = self.classes_[position] != values
        if unseen.any():
            raise ValueError(
                f"Task {self.name!r} has the label {values[unseen].tolist()[0]!r}, which the first "
                f"call did not see; its classes are {_shorten(self.classes_)}. Pass `classes` at "
                "the first call of partial_fit, with every label that may come."
            )
        return position.astype(np.float64)

    def decode(self, block: NDArray) -> NDArray:
        """Return the most probable class of each row."""
        assert self.classes_ is not None
        return self.classes_[block.argmax(axis=1)]

    def score(self, labels: NDArray, predicted: NDArray, weights: NDArray | None) -> float:
        """Return the accuracy."""
        return float(np.average(labels == predicted, weights=weights))


class BinaryTask(ClassificationTask):
    """Two classes, one logit: that of the second class in sorted order."""

    kind = "binary"

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn the two classes."""
        super().fit(values, weights, classes)
        assert self.classes_ is not None
        if len(self.classes_) != 2:
            raise ValueError(
                f"Task {self.name!r} is declared 'binary' and has {len(self.classes_)} classes: "
                f"{_shorten(self.classes_)}. Pass 'multiclass' or 'classification' for it."
            )
        return self

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the binary cross-entropy of each row."""
        return F.binary_cross_entropy_with_logits(logits.squeeze(-1), target, reduction="none")

    def link(self, logits: Tensor) -> Tensor:
        """Return the two classes' probabilities: (B, 1) -> (B, 2)."""
        return torch.cat([-logits, logits], dim=1).sigmoid()


class MulticlassTask(ClassificationTask):
    """C classes, C logits, softmax."""

    kind = "multiclass"

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn the classes, and with them the number of logits."""
        super().fit(values, weights, classes)
        assert self.classes_ is not None
        self.n_logits = len(self.classes_)
        return self

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the cross-entropy of each row."""
        log_p = logits.log_softmax(-1)
        return -log_p.gather(-1, target.long().unsqueeze(-1)).squeeze(-1)

    def link(self, logits: Tensor) -> Tensor:
        """Return the classes' probabilities: (B, C) -> (B, C)."""
        return logits.softmax(dim=1)

    def decision(self, logits: NDArray) -> NDArray:
        """Return the logits, of two classes their difference."""
        return logits[:, 1:] - logits[:, :1] if self.n_logits == 2 else logits


class RegressionTask(Task):
    """A real value, standardized for training: squared error in units of its variance."""

    kind = "regression"

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn mean and standard deviation, weighted."""
        numbers = self._numbers(values)
        with np.errstate(over="ignore", invalid="ignore"):
            self.mean_ = float(np.average(numbers, weights=weights))
            scale = float(np.sqrt(np.average((numbers - self.mean_) ** 2, weights=weights)))
        if not np.isfinite(scale):
            raise ValueError(
                f"Task {self.name!r} has a variance too large for dtype('float64'); give it in a "
                "larger unit."
            )
        # Of a constant target (or rounding noise of one) only the mean is to be learned.
        self.scale_ = scale if scale > 10 * np.finfo(np.float64).eps * abs(self.mean_) else 1.0
        return self

    def _numbers(self, values: NDArray) -> NDArray:
        if not _are_numbers(values):
            raise ValueError(
                f"Task {self.name!r} is declared 'regression' and has labels that are no numbers, "
                f"such as {values.tolist()[0]!r}. Pass 'classification' for it, or numbers."
            )
        numbers = values.astype(np.float64)
        if not np.isfinite(numbers).all():
            raise ValueError(
                f"Input y contains infinity or a value too large for dtype('float64') in task "
                f"{self.name!r}; use NaN for a label that was not observed."
            )
        return numbers

    def encode(self, values: NDArray) -> NDArray:
        """Return the standardized values."""
        return (self._numbers(values) - self.mean_) / self.scale_

    def loss(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the squared error of each row, on the standardized scale."""
        return (logits.squeeze(-1) - target).square()

    def link(self, logits: Tensor) -> Tensor:
        """Return the values on their own scale: (B, 1) -> (B, 1)."""
        return logits * self.scale_ + self.mean_

    def decode(self, block: NDArray) -> NDArray:
        """Return the value of each row."""
        return block[:, 0]

    def score(self, labels: NDArray, predicted: NDArray, weights: NDArray | None) -> float:
        """Return R², the coefficient of determination."""
        return float(r2_score(labels, predicted, sample_weight=weights))


KINDS: dict[str, type[Task]] = {
    cls.kind: cls for cls in (BinaryTask, MulticlassTask, RegressionTask)
}
"""The kinds of task by name. ``"classification"`` and ``"auto"`` choose among them."""

CLASSIFICATION_NAMES = {"classification", "binary", "multiclass"}


def _are_numbers(values: NDArray) -> bool:
    """Whether labels are numbers or booleans, rather than strings."""
    return values.dtype.kind in "fiub"


def _shorten(values: NDArray, most: int = 6) -> str:
    """Show an array's first values."""
    shown = ", ".join(repr(v) for v in values[:most].tolist())
    return f"[{shown}{', ...' if len(values) > most else ''}]"


def resolve_task_types(task_types: Any, names: Sequence[str]) -> list[str]:
    """Return the kind asked for each task.

    Parameters
    ----------
    task_types : str, sequence of str, or mapping of task name to str
        One kind for all tasks, one per task, or by name (``"auto"`` for those not named).
    names : sequence of str
        The tasks' names.

    Raises
    ------
    ValueError
        If the length does not fit, or a kind or a task is unknown.
    """
    if isinstance(task_types, str):
        kinds = [task_types] * len(names)
    elif isinstance(task_types, Mapping):
        unknown = [name for name in task_types if name not in names]
        if unknown:
            raise ValueError(
                f"`task_types` names the task {unknown[0]!r}, which y does not have; its tasks are "
                f"{list(names)}."
            )
        kinds = [task_types.get(name, "auto") for name in names]
    else:
        kinds = list(task_types)
        if len(kinds) != len(names):
            raise ValueError(
                f"`task_types` has {len(kinds)} entries and y has {len(names)} tasks: "
                f"{list(names)}. Pass one kind per task, one string for all, or a dict by name."
            )
    known = {"auto", "classification", *KINDS}
    for name, kind in zip(names, kinds, strict=True):
        if not isinstance(kind, str) or kind not in known:
            raise ValueError(
                f"`task_types` gives task {name!r} the kind {kind!r}; pass one of {sorted(known)}."
            )
    return kinds


def _infer_kind(name: str, values: NDArray) -> str:
    """Choose a kind from the labels: the rule of ``task_types="auto"``."""
    if values.dtype.kind not in "fiu":
        return "classification"
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        return "regression"
    n_distinct = len(np.unique(values))
    if n_distinct > MAX_AUTO_CLASSES:
        raise ValueError(
            f"Task {name!r} has {n_distinct} distinct whole numbers, which may be values or "
            f"classes. Pass task_types={{{name!r}: 'regression'}} or {{{name!r}: "
            "'classification'}."
        )
    return "classification"


def make_tasks(
    columns: Sequence[Column],
    task_types: Any,
    weights: NDArray | None = None,
    classes: Sequence[NDArray | None] | None = None,
) -> tuple[Task, ...]:
    """Choose and fit a task for each column.

    Parameters
    ----------
    columns : sequence of Column
        The targets.
    task_types : str, sequence or mapping
        See `resolve_task_types`.
    weights : ndarray of shape (n, K), optional
        Weights of the labels.
    classes : sequence of (ndarray or None), optional
        Classes known beforehand, per task.

    Returns
    -------
    tuple of Task

    Raises
    ------
    ValueError
        If a column has no label, one class, or labels that do not suit its kind.
    """
    kinds = resolve_task_types(task_types, [column.name for column in columns])
    tasks = []
    for k, (column, kind) in enumerate(zip(columns, kinds, strict=True)):
        given = None if classes is None else classes[k]
        if len(column.values) == 0:
            raise ValueError(
                f"Task {column.name!r} has no observed label (with a weight above zero); leave it "
                "out, or give rows that have one."
            )
        if kind == "auto":
            kind = "classification" if given is not None else _infer_kind(*column[:2])
        if kind in CLASSIFICATION_NAMES:
            _check_labels(column)
        if kind == "classification":
            labels = column.values if given is None else given
            kind = "binary" if len(np.unique(labels)) <= 2 else "multiclass"
        observed = None if weights is None else weights[column.observed, k]
        tasks.append(KINDS[kind](column.name).fit(column.values, observed, given))
    return tuple(tasks)


def _check_labels(column: Column) -> None:
    """Refuse labels that cannot be classes."""
    values = column.values
    if values.dtype.kind == "f" and not (values == np.floor(values)).all():
        example = values[values != np.floor(values)][0]
        raise ValueError(
            f"Unknown label type: task {column.name!r} is declared a classification and has the "
            f"continuous value {example}. Maybe you want 'regression' for it, or bin it first."
        )


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
