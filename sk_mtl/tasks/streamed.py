"""Tasks of labels that come piece by piece, in memory that does not grow with the rows."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_mtl.tasks.base import Column, Task
from sk_mtl.tasks.binary import BinaryTask
from sk_mtl.tasks.choice import KINDS, Kind, make_tasks, resolve_task_types
from sk_mtl.tasks.classification import ClassificationTask
from sk_mtl.tasks.count import CountTask
from sk_mtl.tasks.multiclass import MulticlassTask
from sk_mtl.tasks.ordinal import OrdinalTask
from sk_mtl.tasks.quantile import QuantileTask
from sk_mtl.tasks.regression import RegressionTask
from sk_mtl.tasks.reservoir import Reservoir

MOST_LABELS = 100_000
"""Distinct values of a task up to which they are told apart; of more only moments are kept."""

SAMPLED_LABELS = 1_000_000
"""Labels that are kept for a kind of task whose `fit` is none of this package's."""

OF_CLASSES = {cls.fit for cls in (ClassificationTask, BinaryTask, MulticlassTask, OrdinalTask)}
OF_MOMENTS = {RegressionTask.fit, QuantileTask.fit}
OF_MEANS = {CountTask.fit}
"""What learns from labels with weights nothing but distinct ones with sums of weights; what from
a mean and a variance, and from a mean alone."""

OF_VALUES = OF_MOMENTS | OF_MEANS


def make_tasks_stream(
    labels: Iterable[tuple[Sequence[Column], NDArray | None]],
    task_types: Any,
    classes: Sequence[NDArray | None] | None = None,
) -> tuple[Task, ...]:
    """Choose and fit a task for each column of labels that come piece by piece.

    The tasks are those that `make_tasks` makes of all pieces as one, with their errors and
    warnings; means and scales up to rounding. Memory is that of the distinct labels: of classes
    all of them, of values 100,000. A value task of more is fitted by the mean and the variance of
    all its labels.

    A kind whose class defines a `fit` of its own gets a uniform sample of 1,000,000 labels, drawn
    with a fixed seed, in their order; all labels where they are no more than that.

    Parameters
    ----------
    labels : iterable of (sequence of Column, ndarray of shape (n, K) or None)
        The targets of some rows, and weights of their labels; None: all one. A piece may lack
        labels of a task.
    task_types : kind, sequence or mapping
        See `resolve_task_types`. Instances are copied.
    classes : sequence of (ndarray or None), optional
        Classes known beforehand, per task.

    Returns
    -------
    tuple of Task

    Raises
    ------
    ValueError
        If there is no piece; if pieces have other tasks than the first one, or labels of another
        type; and as `make_tasks`.
    """
    names: list[str] = []
    found: list[_Labels] = []
    for columns, weights in labels:
        if not found:
            names = [column.name for column in columns]
            kinds = resolve_task_types(task_types, names)
            found = [_Labels(*pair) for pair in zip(names, kinds, strict=True)]
        if [column.name for column in columns] != names:
            raise ValueError(
                f"A table of the stream has the tasks {[column.name for column in columns]}, and "
                f"the first one has {names}; give all tables the same targets in the same order."
            )
        for k, (own, column) in enumerate(zip(found, columns, strict=True)):
            own.add(column, None if weights is None else weights[column.observed, k])
    if not found:
        raise ValueError("There is no label to learn from: the stream has no table.")
    stand_ins = [own.stand_in() for own in found]
    n = max(len(one.values) for one in stand_ins)
    columns, all_weights = [], np.zeros((n, len(names)))
    for k, (name, one) in enumerate(zip(names, stand_ins, strict=True)):
        observed = np.arange(n) < len(one.values)
        all_weights[observed, k] = one.weights
        columns.append(Column(name, one.values, observed, found[k].order))
    return make_tasks(columns, [one.kind for one in stand_ins], all_weights, classes)


class _StandIn(NamedTuple):
    """A few labels and weights from which a kind of task learns what it would of all."""

    values: NDArray
    weights: NDArray
    kind: Kind


class _Labels:
    """What is remembered of the labels of one task."""

    def __init__(self, name: str, kind: Kind) -> None:
        self.name, self.kind = name, kind
        cls = KINDS.get(kind) if isinstance(kind, str) else kind
        self.is_ordinal = _lacks_order(cls)
        # Of the class: a method of an instance is another object. "auto" has none.
        self.fit = getattr(cls if isinstance(cls, type) else type(cls), "fit", None)
        is_known = self.fit is None or self.fit in OF_CLASSES | OF_VALUES
        self.order: list[Any] | None = None
        self.family = ""
        self.tally: _Numbers | _Names = _Numbers()
        self.rows = None if is_known else Reservoir(SAMPLED_LABELS)
        self.moments: _Moments | None = None
        self.n_pieces = 0

    def add(self, column: Column, weights: NDArray | None) -> None:
        """Take in the labels of some rows."""
        self._read_order(column.order)
        values = column.values
        if not len(values):
            return
        self._check_family(values)
        if self.rows is not None:
            rows = self.rows.pick(len(values))
            self.rows.put(values[rows], None if weights is None else weights[rows])
        elif self.moments is not None:
            self.moments.add(values, weights)
        else:
            self.tally.add(values, weights)
            are_values = self.fit in OF_VALUES or self.kind == "auto"
            if are_values and self.family == "numbers" and len(self.tally) > MOST_LABELS:
                self.moments = _Moments()
                self.moments.add(*self.tally.result())

    def _read_order(self, order: list[Any] | None) -> None:
        """Take the order of the labels, which all pieces must have in common."""
        self.n_pieces += 1
        if self.n_pieces > 1 and self.is_ordinal and order != self.order:
            raise ValueError(
                f"The labels of task {self.name!r} have the order {self.order} in the first table "
                f"of the stream and {order} in a later one; pass "
                f"task_types={{{self.name!r}: OrdinalTask(order=[...])}}, see sk_mtl.tasks."
            )
        self.order = order if self.n_pieces == 1 else self.order

    def _check_family(self, values: NDArray) -> None:
        """Refuse labels of another type than those before."""
        family = FAMILIES.get(values.dtype.kind, "strings")
        if self.family not in ("", family):
            raise ValueError(
                f"Unknown label type: task {self.name!r} holds labels of mixed types, "
                f"{self.family} in the first tables of the stream and {family} in a later one; "
                "pass all strings or all numbers."
            )
        if not self.family and family in ("strings", "bytes"):
            self.tally = _Names()
        self.family = family

    def stand_in(self) -> _StandIn:
        """Return labels for `make_tasks`, and the kind."""
        if not self.family:
            return _StandIn(np.zeros(0), np.zeros(0), self.kind)
        if self.rows is not None:
            values, weights = self.rows.result()
            return _StandIn(values, np.ones(len(values)) if weights is None else weights, self.kind)
        if self.moments is None or (self.kind == "auto" and not self.moments.fractional):
            # Under "auto" whole numbers as many as that are an error of `make_tasks`.
            return _StandIn(*self.tally.result(), self.kind)
        kind = "regression" if self.kind == "auto" else self.kind
        return _StandIn(*self.moments.labels(mean_only=self.fit in OF_MEANS), kind)


FAMILIES = {"b": "booleans", "i": "numbers", "u": "numbers", "f": "numbers", "S": "bytes"}
"""Types of labels that do not mix, by the kind of dtype; else they are strings."""


def _lacks_order(kind: Any) -> bool:
    """Whether a kind is ordinal, and takes the order of the labels from their column."""
    if isinstance(kind, type):
        return issubclass(kind, OrdinalTask)
    return isinstance(kind, OrdinalTask) and kind.order is None


class _Numbers:
    """Distinct numbers or booleans, and the weight of each."""

    def __init__(self) -> None:
        self.values: NDArray | None = None
        self.weights: NDArray = np.zeros(0)

    def __len__(self) -> int:
        return 0 if self.values is None else len(self.values)

    def add(self, values: NDArray, weights: NDArray | None) -> None:
        values, weights = _sum_equal(values, weights)
        if self.values is not None:
            both = np.concatenate([self.values, values])
            values, weights = _sum_equal(both, np.concatenate([self.weights, weights]))
        self.values, self.weights = values, weights

    def result(self) -> tuple[NDArray, NDArray]:
        assert self.values is not None
        return self.values, self.weights


def _sum_equal(values: NDArray, weights: NDArray | None) -> tuple[NDArray, NDArray]:
    """Return the distinct values, sorted, and the sum of the weights of each."""
    if weights is None:
        distinct, counts = np.unique(values, return_counts=True)
        return distinct, counts.astype(np.float64)
    distinct, place = np.unique(values, return_inverse=True)
    return distinct, np.bincount(place, weights, len(distinct))


class _Names:
    """Distinct strings, and the weight of each."""

    def __init__(self) -> None:
        # Sorting strings is slow: their places are looked up.
        self.places: dict[Any, int] = {}
        self.weights: NDArray = np.zeros(0)
        self.dtype: Any = None

    def __len__(self) -> int:
        return len(self.places)

    def add(self, values: NDArray, weights: NDArray | None) -> None:
        places = self.places
        found = (places.setdefault(value, len(places)) for value in values.tolist())
        place = np.fromiter(found, dtype=np.int64, count=len(values))
        sums = np.bincount(place, weights, len(places)).astype(np.float64)
        sums[: len(self.weights)] += self.weights
        self.weights = sums
        is_object = values.dtype == object or self.dtype == object
        self.dtype = object if is_object else None

    def result(self) -> tuple[NDArray, NDArray]:
        return np.array(list(self.places), dtype=self.dtype), self.weights


class _Moments:
    """Weight, mean and variance of numbers, whether some are not whole, and their ends."""

    def __init__(self) -> None:
        self.weight = self.mean = self.squares = 0.0
        self.fractional = False
        self.low: Any = None
        self.high: Any = None

    def add(self, values: NDArray, weights: NDArray | None) -> None:
        low, high = values.min(), values.max()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        is_float = values.dtype.kind == "f"
        self.fractional |= is_float and not bool((values == np.floor(values)).all())
        numbers = values.astype(np.float64)
        weight = float(len(values)) if weights is None else float(weights.sum())
        if weight <= 0:
            return
        # Chan, Golub and LeVeque, equation 2.1: parts join by the distance of their means.
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(np.average(numbers, weights=weights))
            squares = weight * float(np.average((numbers - mean) ** 2, weights=weights))
            total, distance = self.weight + weight, mean - self.mean
            self.squares += squares + distance * distance * self.weight * weight / total
            self.mean += distance * weight / total
        self.weight = total

    def labels(self, *, mean_only: bool) -> tuple[NDArray, NDArray]:
        """Return two labels of the same mean and variance, or one that a task will refuse."""
        with np.errstate(over="ignore", invalid="ignore"):
            spread = np.sqrt(self.squares / self.weight) if self.weight > 0 else 0.0
        for end in (self.low, self.high):
            if not np.isfinite(end) or (mean_only and end < 0):
                return np.array([end]), np.ones(1)
        if mean_only:
            spread = 0.0
        if not np.isfinite([self.mean, spread]).all():
            # The task says of such that they are too large.
            largest = np.finfo(np.float64).max
            return np.array([largest if mean_only else -largest, largest]), np.ones(2)
        share = np.full(2, self.weight / 2)
        return np.array([self.mean - spread, self.mean + spread]), share
