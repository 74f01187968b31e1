"""Labels: what users hold them in, as columns with names and gaps."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import check_consistent_length, column_or_1d

from sk_mtl.data.frames import is_frame, is_series, to_pandas

FITTED = "the estimator was fitted with"
"""Whose tasks labels are to match, see `match_names`."""


class Targets(NamedTuple):
    """Target columns as read: names, labels with gaps, masks of what was observed.

    ``named`` says whether `y` brought the names, or its columns are told by position; ``orders``
    are the labels of ordered Categoricals, from the lowest to the highest.
    """

    names: list[str]
    values: list[NDArray]
    observed: NDArray
    single: bool
    named: bool
    orders: list[list[Any] | None]

    def align(self, tasks: Sequence[str], what: str, whose: str) -> "Targets":
        """Return the columns in the order of some tasks, see `match_names`.

        Raises
        ------
        ValueError
            If there is a column too few or too many, or one of another name.
        """
        order = match_names(self.names, tasks, what, whose, named=self.named and not self.single)
        return self._replace(
            names=list(tasks),
            values=[self.values[k] for k in order],
            observed=self.observed[:, order],
            orders=[self.orders[k] for k in order],
        )


def match_names(
    given: Sequence[str], tasks: Sequence[str], what: str, whose: str, *, named: bool
) -> list[int]:
    """Return the positions of the columns that belong to tasks: by name if both have names.

    Parameters
    ----------
    given : sequence of str
        The names of the columns.
    tasks : sequence of str
        The names of the tasks.
    what, whose : str
        What the columns are, and who has the tasks, for messages.
    named : bool
        Whether the columns came with names of their own.

    Raises
    ------
    ValueError
        If they do not match.
    """
    if list(given) == list(tasks):
        return list(range(len(tasks)))
    if named and any(task != unnamed(k) for k, task in enumerate(tasks)):
        if set(given) == set(tasks):
            return [list(given).index(task) for task in tasks]
    elif len(given) == len(tasks):
        return list(range(len(tasks)))
    raise ValueError(
        f"{what} has the tasks {list(given)} and {whose} {list(tasks)}; pass a column of that name "
        "for each of them and no other, or an array with the columns in that order."
    )


def task_names(frame: pd.DataFrame) -> tuple[list[str], bool]:
    """Return the names of a frame's columns as tasks have them, and whether it had any."""
    return [str(name) for name in frame.columns], not isinstance(frame.columns, pd.RangeIndex)


def unnamed(k: int) -> str:
    """Return the name of a task of a target without names."""
    return f"task_{k}"


def read_targets(y: Any, X: Any, owner: str) -> Targets:
    """Read `y` in any form scikit-learn users hold it in.

    Parameters
    ----------
    y : array-like, Series or dataframe
        Shape (n,) or (n, K). NaN, None and pd.NA are labels that were not observed.
    X : array-like
        The rows, for the check of lengths.
    owner : str
        Name of the estimator, for messages.

    Returns
    -------
    Targets
        ``values[k]`` has n entries of a plain dtype; those not observed are arbitrary.

    Raises
    ------
    ValueError
        If y is None, has another length than X, more than two dimensions, no column, a missing
        label in one dimension, or labels of mixed or unusable types.
    """
    if y is None:
        raise ValueError(
            f"This {owner} estimator requires y to be passed, but the target y is None."
        )
    if sparse.issparse(y):
        raise ValueError("y is a sparse matrix; pass a dense array, `y.toarray()`.")
    _refuse_other_forms(y, X)
    single = named = False
    if is_frame(y):
        frame = to_pandas(y)
        names, named = task_names(frame)
    elif is_series(y):
        series = y if isinstance(y, pd.Series) else pd.Series(y.to_numpy(), name=y.name)
        frame = series.reset_index(drop=True).to_frame()
        single = True
        names = ["y" if series.name in (None, "") else str(series.name)]
    else:
        array = y if isinstance(y, np.ndarray) else _from_sequence(y)
        if array.ndim not in (1, 2):
            raise ValueError(f"y must have one or two dimensions; its shape is {array.shape}.")
        single = array.ndim == 1
        frame = pd.DataFrame(array[:, None] if single else array, copy=False)
        names = ["y"] if single else [unnamed(k) for k in range(array.shape[1])]
    check_consistent_length(X, frame)
    if not names:
        raise ValueError("y has no column; pass at least one target.")
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"y has more than one column named {repeated[0]!r}; rename them.")
    if not single and len(names) == 1:
        # scikit-learn's rule for a column vector: warn, and treat it as one-dimensional.
        column_or_1d(np.empty((len(frame), 1)), warn=True)
        single = True
    columns = [plain(frame.iloc[:, k], name) for k, name in enumerate(names)]
    observed = np.column_stack([mask for _, mask in columns])
    if single and not observed.all():
        raise ValueError(
            "Input y contains NaN. With a single target every row needs its label; drop the rows "
            "without one."
        )
    orders = [_order(dtype) for dtype in frame.dtypes]
    return Targets(names, [values for values, _ in columns], observed, single, named, orders)


def _refuse_other_forms(y: Any, X: Any) -> None:
    """Refuse the forms in which other libraries take the labels of several tasks."""
    if isinstance(y, Mapping):
        raise ValueError(
            f"y is a {type(y).__name__} of {list(y)}; pass pd.DataFrame(y), a column per task."
        )
    if isinstance(y, np.ndarray) and y.dtype.names:
        raise ValueError(
            f"y is an array of records {list(y.dtype.names)}; pass pd.DataFrame(y), a column per "
            "task."
        )
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    if isinstance(y, list | tuple) and len(y) != n and len(y):
        lengths = {len(one) for one in y if hasattr(one, "__len__") and not isinstance(one, str)}
        if lengths == {n}:
            raise ValueError(
                f"y is a {type(y).__name__} of {len(y)} arrays of {n} labels; pass "
                "np.column_stack(y), or a DataFrame with a column per task."
            )


def _order(dtype: Any) -> list[Any] | None:
    """Return the categories of an ordered Categorical, from the lowest to the highest."""
    is_ordered = isinstance(dtype, pd.CategoricalDtype) and dtype.ordered
    return dtype.categories.tolist() if is_ordered else None


def _from_sequence(y: Any) -> NDArray:
    """Return nested sequences as an array, without making numbers of strings."""
    array = np.asarray(y)
    if array.dtype.kind in "US" and array.ndim == 2:
        array = np.asarray(y, dtype=object)
    return array


PLAIN = {
    "integer": np.int64,
    "floating": np.float64,
    "mixed-integer-float": np.float64,
    "decimal": np.float64,
}
"""Plain dtypes of the object columns that pandas finds to hold numbers."""


def plain(series: pd.Series, name: str) -> tuple[NDArray, NDArray]:
    """Return one column's labels in a plain dtype, and the mask of those observed."""
    observed = series.notna().to_numpy()
    if series.dtype.kind in "fiub" and isinstance(series.dtype, np.dtype):
        return series.to_numpy(), observed
    labels = np.asarray(series[observed])
    if labels.dtype.kind == "O":
        found = pd.api.types.infer_dtype(labels, skipna=True)
        if found == "boolean":
            labels = labels.astype(bool)
        elif found in PLAIN:
            labels = labels.astype(PLAIN[found])
        elif found not in ("string", "empty"):
            raise ValueError(
                f"Unknown label type: task {name!r} holds labels of mixed or unusable types "
                f"({found}); pass all strings or all numbers."
            )
    elif labels.dtype.kind not in "fiubUS":
        raise ValueError(
            f"Unknown label type: task {name!r} has dtype {series.dtype}; pass numbers, strings, "
            "booleans or categories."
        )
    values = np.empty(len(series), dtype=labels.dtype)
    values[observed] = labels
    return values, observed
