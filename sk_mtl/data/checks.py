"""What a user hands to `fit` and `predict`, checked: rows, labels and their weights."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import validate_data

from sk_mtl._checks import per_task
from sk_mtl._compat import _check_sample_weight
from sk_mtl.data.frames import (
    Table,
    as_table,
    infer_numbers,
    is_frame,
    read_numbers,
    to_pandas,
)
from sk_mtl.data.targets import FITTED, match_names, plain, read_targets, task_names
from sk_mtl.tasks import Column


class Labels(NamedTuple):
    """Labels of the rows that count.

    ``weight`` is what was passed, (n, K), whether the label was observed or not; None: all one.
    ``rows`` are the rows' positions in X; None: all of them.
    """

    columns: list[Column]
    weight: NDArray | None
    single: bool
    rows: NDArray | None = None

    def scored(self, rows: NDArray | None) -> tuple[Any, NDArray | None]:
        """Return some rows' labels and weights as a scorer takes them, as they were passed."""
        n = len(self.columns[0].observed)
        rows = np.arange(n) if rows is None else rows
        columns = {}
        for name, values, observed, _ in self.columns:
            whole = np.full(n, None, dtype=object)
            whole[observed] = values
            columns[name] = whole[rows] if not observed.all() else values[rows]
        labels: Any = pd.DataFrame(columns)
        if self.single:
            labels = labels.iloc[:, 0]
        return labels, None if self.weight is None else self.weight[rows]


def check_rows(estimator: Any, X: Any, names: Sequence[Any] | None = None) -> Table:
    """Return X as a table, or raise with scikit-learn's words.

    Parameters
    ----------
    estimator : object
        It gets ``n_features_in_`` and ``feature_names_in_`` where `names` is None.
    X : array-like, dataframe or sparse matrix
        The rows.
    names : sequence, optional
        Names of the columns that `fit` saw. A dataframe is brought into their order.
    """
    return as_table(_check_rows(estimator, X, names))


def _check_rows(estimator: Any, X: Any, names: Sequence[Any] | None) -> Any:
    """Return X as a DataFrame, a 2-D array or a CSR matrix."""
    if not is_frame(X) and not sparse.issparse(X):
        _refuse_other_forms(X)
        # An array of strings made strings of its numbers.
        of_strings = isinstance(X, np.ndarray) and X.dtype.kind == "U"
        infer = read_numbers if of_strings else infer_numbers
        X = _as_array(X)
        if X.dtype.kind == "O" and X.ndim == 2:
            frame = pd.DataFrame(X, copy=False).apply(infer)
            if all(dtype.kind in "fiu" for dtype in frame.dtypes):
                X = frame.to_numpy()
            elif len(frame):
                X = frame
    if not is_frame(X):
        return validate_data(
            estimator, X, reset=names is None, accept_sparse="csr", dtype="numeric",
            ensure_all_finite=False,
        )  # fmt: skip
    X = to_pandas(X)
    # scikit-learn's check of names that are what they were takes as long as a row's prediction.
    if names is None or X.columns.tolist() != names:
        repeated = X.columns[X.columns.duplicated()]
        if len(repeated):
            raise ValueError(f"X has more than one column named {repeated[0]!r}; rename them.")
        if names is not None and set(X.columns) == set(names):
            X = X[list(names)]
        validate_data(estimator, X, reset=names is None, skip_check_array=True)
        if names is not None:
            _check_other_names(X, names)
    for size, what in zip(X.shape, ("sample", "feature"), strict=True):
        if size == 0:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={X.shape}) while a minimum of 1 is required "
                f"by {type(estimator).__name__}."
            )
    return X


def _refuse_other_forms(X: Any) -> None:
    """Refuse rows of named values, which numpy would read without their names."""
    if isinstance(X, pd.Series):
        raise ValueError(
            "X is a Series; pass a DataFrame: of one row X.iloc[[i]], of one column X[['name']]."
        )
    if isinstance(X, Mapping):
        raise ValueError(f"X is a {type(X).__name__}; pass pd.DataFrame(X), a column per entry.")
    if isinstance(X, np.ndarray) and X.dtype.names:
        raise ValueError(f"X is an array of records {list(X.dtype.names)}; pass pd.DataFrame(X).")
    if isinstance(X, list | tuple) and len(X) and isinstance(X[0], Mapping):
        raise ValueError(f"X is a {type(X).__name__} of dicts; pass pd.DataFrame(X).")


def _check_other_names(X: pd.DataFrame, names: Sequence[Any]) -> None:
    """Refuse names that are no strings and no positions, of which scikit-learn knows nothing."""
    given = X.columns.tolist()
    by_position = (list(range(len(names))), list(names))
    if given in by_position or names == by_position[0]:
        return
    if all(isinstance(name, str) for name in names):
        return
    missing = [name for name in names if name not in given]
    if missing:
        raise ValueError(
            f"X has no column {missing[0]!r}, which `fit` saw; its columns are {given}."
        )


def _as_array(X: Any) -> NDArray:
    """Return nested sequences as an array, without making strings of numbers."""
    array = X if isinstance(X, np.ndarray) else np.asarray(X)
    return np.asarray(X, dtype=object) if array.dtype.kind in "US" else array


def check_labels(
    y: Any,
    sample_weight: Any,
    table: Table,
    estimator: Any,
    tasks: Sequence[str] | None = None,
    what: str = "y",
) -> tuple[Table, Labels]:
    """Return the rows that count, and their labels with weights.

    Zero weight equals absence: a row without any weight is left out, a label without weight is
    not observed.

    Parameters
    ----------
    y, sample_weight : array-like
        As handed to `fit`.
    table : Table
        The checked rows.
    estimator : object
        For its name in messages.
    tasks : sequence of str, optional
        Names of the tasks that the labels are to match.
    what : str, default="y"
        Name of the parameter that the labels came by.

    Returns
    -------
    table : Table
        The rows with some weight.
    labels : Labels
        Their labels.
    """
    targets = read_targets(y, table, type(estimator).__name__)
    if tasks is not None:
        targets = targets.align(tasks, what, FITTED if what == "y" else "y has")
    weight = check_weight(sample_weight, table, targets.names)
    observed, values = targets.observed, targets.values
    if weight is not None:
        observed = observed & (weight > 0)
    keep, rows = observed.any(axis=1), None
    if keep.any() and not keep.all():
        rows = np.flatnonzero(keep)
        table = table.take(rows)
        observed, values = observed[rows], [column[rows] for column in values]
        weight = None if weight is None else weight[rows]
    columns = [
        Column(name, _finite(name, labels[seen]), seen, order)
        for name, labels, seen, order in zip(
            targets.names, values, observed.T, targets.orders, strict=True
        )
    ]
    return table, Labels(columns, weight, targets.single, rows)


def _finite(name: str, values: NDArray) -> NDArray:
    """Refuse infinite labels."""
    if values.dtype.kind == "f" and np.isinf(values).any():
        raise ValueError(
            "Input y contains infinity or a value too large for dtype('float64') in task "
            f"{name!r}; use NaN for a label that was not observed."
        )
    return values


def check_weight(sample_weight: Any, rows: Any, names: Sequence[str]) -> NDArray | None:
    """Return weights as (n, K), or None; columns with names are matched to the tasks by them.

    Raises
    ------
    ValueError
        If the shape is neither (n,) nor (n, K), a weight is negative, NaN or infinite, all are
        zero, or a column is named after no task.
    """
    if sample_weight is None:
        return None
    if is_frame(sample_weight):
        frame = to_pandas(sample_weight)
        given, named = task_names(frame)
        order = match_names(given, names, "`sample_weight`", "y has", named=named)
        sample_weight = frame.iloc[:, order]
    n, n_tasks = _n_rows(rows), len(names)
    try:
        weight = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`sample_weight` cannot be read as numbers ({error}).") from error
    if not weight.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    if weight.ndim == 1:
        placeholder = np.empty((n, 0))
        weight = _check_sample_weight(
            weight, placeholder, dtype=np.float64, ensure_non_negative=True
        )
        return np.tile(weight[:, None], (1, n_tasks))
    if weight.shape != (n, n_tasks):
        raise ValueError(
            f"`sample_weight` has shape {weight.shape}; pass ({n},), one weight per row, or "
            f"({n}, {n_tasks}), one per row and task."
        )
    bad = ~(weight >= 0) | np.isinf(weight)
    if bad.any():
        row, k = np.argwhere(bad)[0]
        raise ValueError(
            f"`sample_weight` of task {names[k]!r} is {weight[row, k]} in row {row}; weights must "
            "be finite and at least 0 (0 leaves the label out)."
        )
    return weight


def _n_rows(rows: Any) -> int:
    return rows.shape[0] if hasattr(rows, "shape") else len(rows)


def resolve_classes(classes: Any, names: list[str], single: bool) -> list[Any] | None:
    """Return the labels known beforehand of each task, None for a task without any.

    Raises
    ------
    ValueError
        If `classes` has another length than there are tasks, names no task, or gives one of them
        something other than labels.
    """
    if classes is None:
        return None
    one_array = single and not isinstance(classes, Mapping)
    given = [classes] if one_array else per_task(classes, names, "classes", None)
    return [
        None if known is None else _labels(known, name)
        for name, known in zip(names, given, strict=True)
    ]


def _labels(known: Any, name: str) -> NDArray:
    """Return the labels that a task may have, in a plain dtype."""
    if isinstance(known, str) or np.ndim(known) != 1:
        raise ValueError(
            f"`classes` of task {name!r} must be an array of its labels, got {known!r}; with "
            "several tasks pass one such array per task, None for a regression."
        )
    labels, observed = plain(pd.Series(known), name)
    if not observed.all():
        raise ValueError(f"`classes` of task {name!r} holds a missing value; leave it out.")
    return labels


def choose_columns(
    parameter_name: str, asked: Any, names: Sequence[Any], *, named: bool
) -> list[int]:
    """Return the sorted positions of the columns that a parameter asks for.

    Parameters
    ----------
    parameter_name : str
        Name of the parameter.
    asked : array-like of bool, int or str
        A mask, positions, or names.
    names : sequence
        Names of all columns of X, positions if X had none.
    named : bool
        Whether X had names.

    Raises
    ------
    ValueError
        If one is no column of X, or a mask has another length.
    """
    given = np.atleast_1d(np.asarray(asked, dtype=None if len(asked) else np.int64))
    n_columns = len(names)
    if given.dtype.kind == "b":
        if len(given) != n_columns:
            raise ValueError(
                f"`{parameter_name}` is a mask of {len(given)} entries and X has {n_columns} "
                "columns; pass one entry per column, or indices."
            )
        return np.flatnonzero(given).tolist()
    if given.dtype.kind in "iu":
        bad = given[(given < 0) | (given >= n_columns)]
        if len(bad):
            raise ValueError(
                f"`{parameter_name}` has the index {bad[0]} and X has {n_columns} columns; pass "
                f"indices from 0 to {n_columns - 1}."
            )
        return np.unique(given).tolist()
    if not named:
        raise ValueError(
            f"`{parameter_name}` names {given.tolist()[0]!r} and X has no column names; pass a "
            "DataFrame, or a mask or indices."
        )
    position = {name: j for j, name in enumerate(names)}
    unknown = [name for name in given.tolist() if name not in position]
    if unknown:
        raise ValueError(
            f"`{parameter_name}` names {unknown[0]!r}, which is no column of X; its columns are "
            f"{list(names)}."
        )
    return sorted({position[name] for name in given.tolist()})
