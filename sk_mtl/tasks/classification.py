"""What all kinds of task with classes share."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_mtl.tasks.base import Task, are_numbers, shorten

STRANGE = 0.1
"""Share of labels to score from which on it is strange that `fit` did not see their class."""


class ClassificationTask(Task):
    """A task whose labels are classes: sorted, and encoded by their positions.

    Parameters
    ----------
    name : str, default=""
        Name of the task.
    class_weight : "balanced", dict or None, default=None
        Factors of the labels' weights, by label (1 for labels not named): the same as
        `sample_weight` that is multiplied by them. "balanced" gives class c of C the factor
        :math:`W / (C W_c)`, with :math:`W` the sum of the sample weights of all observed labels
        and :math:`W_c` of those of class c, as scikit-learn does. Probabilities are those of
        the weighted labels.
    """

    has_classes = True
    _class_weights: list[float] | None = None

    def __init__(self, name: str = "", *, class_weight: Any = None) -> None:
        super().__init__(name)
        self.class_weight = class_weight

    def fit(self, values: NDArray, weights: NDArray | None, classes: NDArray | None) -> "Task":
        """Learn the sorted classes, or take those given, and the weights of classes."""
        self._check_options()
        self._check_labels(values)
        self.classes_ = self._find_classes(values, classes)
        if len(self.classes_) < 2:
            raise ValueError(
                f"Task {self.name!r} has one class only, {self.classes_.tolist()[0]!r}: there is "
                "nothing to learn. Leave the task out, or give rows of another class; with "
                "partial_fit pass `classes`, with every label that may come, at the first call."
            )
        self._class_weights = self._weigh_classes(values, weights)
        return self

    def _check_options(self) -> None:
        """Check the options that need no label."""

    def _check_labels(self, values: NDArray) -> None:
        """Refuse labels that cannot be classes."""
        if values.dtype.kind == "f" and not (values == np.floor(values)).all():
            example = values[values != np.floor(values)][0]
            raise ValueError(
                f"Unknown label type: task {self.name!r} is declared a classification and has the "
                f"continuous value {example}. Maybe you want 'regression' for it, or bin it first."
            )

    def _find_classes(self, values: NDArray, classes: NDArray | None) -> NDArray:
        """Return the sorted classes."""
        return np.unique(values) if classes is None else np.unique(classes)

    def _weigh_classes(self, values: NDArray, weights: NDArray | None) -> list[float] | None:
        """Return the factor of each code, or None for all one."""
        if self.class_weight is None:
            return None
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            return self._balance(values, weights)
        if not isinstance(self.class_weight, Mapping):
            raise ValueError(
                f"`class_weight` of task {self.name!r} is {self.class_weight!r}; pass 'balanced', "
                "a dict of label to weight, or None."
            )
        return self._read_weights(self.class_weight)

    def _balance(self, values: NDArray, weights: NDArray | None) -> list[float]:
        """Return weights that give all classes the same sum."""
        assert self.classes_ is not None
        sums = np.bincount(self.encode(values).astype(int), weights, len(self.classes_))
        if not sums.all():
            missing = self.classes_[self.encode(self.classes_) == sums.argmin()]
            raise ValueError(
                f"`class_weight` of task {self.name!r} is 'balanced' and its class "
                f"{missing.tolist()[0]!r} has no label; pass a dict of label to weight, or give "
                "rows of every class at the first fit."
            )
        return (sums.sum() / (len(sums) * sums)).tolist()

    def _read_weights(self, given: Mapping[Any, float]) -> list[float]:
        """Return the weights that a dict names, one for the other classes."""
        assert self.classes_ is not None
        labels = self.classes_.tolist()
        for label, weight in given.items():
            if label not in labels:
                raise ValueError(
                    f"`class_weight` of task {self.name!r} names the label {label!r}, which the "
                    f"task does not have; its classes are {shorten(self.classes_)}."
                )
            if not isinstance(weight, int | float | np.number) or not 0 < weight < np.inf:
                raise ValueError(
                    f"`class_weight` of task {self.name!r} gives the label {label!r} the weight "
                    f"{weight!r}; pass a finite number above 0."
                )
        factors = np.ones(len(labels))
        factors[self.encode(self.classes_).astype(int)] = [given.get(v, 1.0) for v in labels]
        return factors.tolist()

    def encode(self, values: NDArray) -> NDArray:
        """Return the position of each label among the sorted classes."""
        assert self.classes_ is not None
        position = np.zeros(len(values), dtype=np.int64)
        if are_numbers(values) == are_numbers(self.classes_):  # else there is no common order
            position = np.searchsorted(self.classes_, values).clip(max=len(self.classes_) - 1)
        unseen = self.classes_[position] != values
        if unseen.any():
            label = values[unseen].tolist()[0]
            remedy = ""
            if isinstance(label, float) and label != np.floor(label):
                remedy = (
                    f" If its labels are values, pass task_types={{{self.name!r}: 'regression'}}."
                )
            raise ValueError(
                f"Task {self.name!r} has the label {label!r}, which the first call did not see; "
                f"its classes are {shorten(self.classes_)}. Pass `classes` at the first call of "
                f"partial_fit, with every label that may come; with warm_start, fit a new model."
                f"{remedy}"
            )
        return position.astype(np.float64)

    def check_scored(self, labels: NDArray) -> None:
        """Refuse labels of another type than the classes; warn of many that `fit` did not see."""
        assert self.classes_ is not None
        if not len(labels):
            return
        if are_numbers(labels) != are_numbers(self.classes_):
            raise ValueError(
                f"Task {self.name!r} has labels such as {labels.tolist()[0]!r} to score, and "
                f"classes such as {self.classes_.tolist()[0]!r}; pass labels of that type."
            )
        unseen = ~np.isin(labels, self.classes_)
        if unseen.mean() >= STRANGE:
            warnings.warn(
                f"{unseen.sum()} of {len(labels)} labels of task {self.name!r} are of a class "
                f"that `fit` did not see, such as {labels[unseen].tolist()[0]!r}; each counts as "
                "wrong. If the rows are sorted by class, cross-validation must stratify or "
                "shuffle: pass cv=StratifiedKFold() or MultiTaskStratifiedKFold(), or "
                "task_types='classification'.",
                UserWarning,
                stacklevel=2,
            )

    def label_weight(self, target: NDArray) -> NDArray | None:
        """Return the weight of each label's class."""
        if self._class_weights is None:
            return None
        return np.array(self._class_weights)[target.astype(int)]

    def decode(self, block: NDArray) -> NDArray:
        """Return the most probable class of each row."""
        assert self.classes_ is not None
        return self.classes_[block.argmax(axis=1)]

    def score(self, labels: NDArray, predicted: NDArray, weights: NDArray | None) -> float:
        """Return the accuracy."""
        return float(np.average(labels == predicted, weights=weights))


def check_focus(task: Task) -> None:
    """Check `focal_gamma` and `label_smoothing`."""
    task._check_option("focal_gamma", lambda v: 0 <= v < np.inf, "a finite number of at least 0")
    task._check_option("label_smoothing", lambda v: 0 <= v < 1, "a number of at least 0, below 1")
