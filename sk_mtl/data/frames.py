"""Tables: what pandas, polars, numpy and scipy hand over, as columns with names."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.validation import check_consistent_length, column_or_1d


class Table(ABC):
    """Rows of any origin, read column by column.

    Attributes
    ----------
    names : list
        The columns' names; their positions if X had none.
    named : bool
        Whether X had names.
    sparse : bool
        Whether the rows are a CSR matrix.
    codes : dict of int to ndarray
        Codes of the categories of Categorical columns, by position: what an encoder has found
        for one run of rows holds for all others.
    shape : (int, int)
        Numbers of rows and columns.
    """

    names: list[Any]
    named: bool = False
    sparse: bool = False
    codes: dict[int, NDArray]
    shape: tuple[int, int]

    def __len__(self) -> int:  # of rows
        return self.shape[0]

    @property
    @abstractmethod
    def dtypes(self) -> list[Any]:
        """The columns' dtypes."""

    @abstractmethod
    def column(self, j: int, rows: NDArray | None = None) -> pd.Series:
        """Return one column; equal numbers come out equal, whatever held them.

        Parameters
        ----------
        j : int
            Position of the column.
        rows : ndarray of int, optional
            Positions of the rows to return; all if None.
        """

    @abstractmethod
    def take(self, rows: NDArray) -> "Table":
        """Return some rows, by position."""

    @abstractmethod
    def cut(self, rows: slice) -> "Table":
        """Return a run of rows, without a copy of a frame's or an array's."""

    def not_numbers(self, columns: list[int]) -> list[int]:
        """Return which of some columns have a dtype that is no number's."""
        dtypes = self.dtypes
        return [j for j in columns if not is_number(dtypes[j])]

    @abstractmethod
    def block(self, columns: list[int], replaced: dict[int, NDArray]) -> Any:
        """Return some columns as floats, NaN where missing: (n, F), dense or CSR.

        Parameters
        ----------
        columns : list of int
            Positions of the columns.
        replaced : dict of int to ndarray
            Columns that are no numbers, by position, already read as such.
        """

    @abstractmethod
    def cells(self) -> list[list[Any]]:
        """Return the rows as lists of plain cells, for a few rows."""


class FrameTable(Table):
    """A pandas DataFrame."""

    named = True

    def __init__(self, frame: pd.DataFrame, codes: dict[int, NDArray] | None = None) -> None:
        self.frame, self.shape = frame, frame.shape
        self.codes = {} if codes is None else codes

    @property
    def names(self) -> list[Any]:  # type: ignore[override]
        """The frame's columns."""
        return list(self.frame.columns)

    @property
    def dtypes(self) -> list[Any]:
        """The columns' dtypes."""
        return list(self.frame.dtypes)

    def take(self, rows: NDArray) -> "FrameTable":
        """Return some rows."""
        return FrameTable(self.frame.iloc[rows])

    def cut(self, rows: slice) -> "FrameTable":
        """Return a run of rows."""
        return FrameTable(self.frame.iloc[rows], self.codes)

    def column(self, j: int, rows: NDArray | None = None) -> pd.Series:
        """Return one column."""
        values = self.frame.iloc[:, j]
        return infer_numbers(values if rows is None else values.iloc[rows])

    def block(self, columns: list[int], replaced: dict[int, NDArray]) -> NDArray:
        """Return some columns as floats."""
        part = self.frame.iloc[:, columns].copy(deep=False)
        for j, values in replaced.items():
            part.isetitem(columns.index(j), values)
        return part.to_numpy(dtype=np.float64, na_value=np.nan)

    def cells(self) -> list[list[Any]]:
        """Return the rows as lists."""
        return self.frame.to_numpy(dtype=object).tolist()


class ArrayTable(Table):
    """A 2-D array or a CSR matrix, without names."""

    def __init__(self, values: Any) -> None:
        self.values, self.shape = values, values.shape
        self.sparse, self.codes = sparse.issparse(values), {}

    @property
    def names(self) -> list[Any]:  # type: ignore[override]
        """The positions."""
        return list(range(self.shape[1]))

    @property
    def dtypes(self) -> list[Any]:
        """The columns' dtypes."""
        return [self.values.dtype] * self.shape[1]

    def take(self, rows: NDArray) -> "ArrayTable":
        """Return some rows."""
        return ArrayTable(self.values[rows])

    def cut(self, rows: slice) -> "ArrayTable":
        """Return a run of rows."""
        return ArrayTable(self.values[rows])

    def not_numbers(self, columns: list[int]) -> list[int]:
        """Return all columns or none: they have one dtype."""
        return [] if is_number(self.values.dtype) else columns

    def column(self, j: int, rows: NDArray | None = None) -> pd.Series:
        """Return one column."""
        if sparse.issparse(self.values):
            values = self.values[:, [j]].toarray()[:, 0]
        else:
            values = self.values[:, j]
        return infer_numbers(pd.Series(values if rows is None else values[rows]))

    def block(self, columns: list[int], replaced: dict[int, NDArray]) -> Any:
        """Return some columns as floats, in the precision they have."""
        block = self.values
        if len(columns) < self.shape[1]:
            start = columns[0] if columns else 0
            run = columns == list(range(start, start + len(columns)))
            block = block[:, slice(start, start + len(columns)) if run else columns]
        if block.dtype.kind != "f" or block.dtype.itemsize not in (4, 8):
            block = block.astype(np.float64)
        return block

    def cells(self) -> list[list[Any]]:
        """Return the rows as lists."""
        values = self.values
        return (values.toarray() if sparse.issparse(values) else values).tolist()


def as_table(X: Any) -> Table:
    """Return checked rows (a DataFrame, a 2-D array or a CSR matrix) as a table."""
    return FrameTable(X) if isinstance(X, pd.DataFrame) else ArrayTable(X)


def is_number(dtype: Any) -> bool:
    """Whether columns of this dtype hold real numbers or booleans."""
    types = pd.api.types
    return types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype)


def is_frame(X: Any) -> bool:
    """Whether `X` is a dataframe of pandas, polars or the like, or a table of Arrow."""
    # Asked of the class: an instance that is lazy would have to resolve its columns.
    cls = type(X)
    if hasattr(cls, "columns") and (hasattr(cls, "dtypes") or hasattr(cls, "column_names")):
        return True
    return hasattr(cls, "__dataframe__") or (hasattr(cls, "to_native") and hasattr(cls, "columns"))


def to_pandas(X: Any) -> pd.DataFrame:
    """Return a dataframe as pandas; whole numbers with gaps stay whole."""
    if isinstance(X, pd.DataFrame):
        return X
    if hasattr(X, "to_native"):  # narwhals
        return to_pandas(X.to_native())
    for resolve in ("collect", "compute"):  # of polars and Spark, of dask
        if hasattr(X, resolve):
            raise TypeError(
                f"A {type(X).__name__} holds no rows yet; pass what its {resolve}() returns."
            )
    if hasattr(X, "to_arrow_table"):  # a relation of DuckDB
        X = X.to_arrow_table()
    if hasattr(X, "column_names") and hasattr(X, "schema"):
        return _from_arrow(X)
    if hasattr(X, "null_count") or not hasattr(X, "__dataframe__"):  # polars
        return pd.DataFrame({name: _from_polars(X[name]) for name in X.columns})
    from pyarrow.interchange import from_dataframe

    return _from_arrow(from_dataframe(X))


def _from_polars(column: Any) -> Any:
    """Return a column of polars; numpy has no whole numbers with gaps."""
    if column.dtype.is_nested():  # a list in each cell: no array of two dimensions
        return pd.Series(column.to_list(), dtype=object)
    values = column.to_numpy()
    if values.dtype.kind == "f" and column.dtype.is_integer():
        return pd.array(column.to_list(), dtype="UInt64" if _is_large(column) else "Int64")
    return values


def _is_large(column: Any) -> bool:
    return (column.max() or 0) >= 2**63


def _from_arrow(table: Any) -> pd.DataFrame:
    """Return a table of Arrow; whole numbers with gaps are of pandas' own integers."""
    import pyarrow

    whole = {
        getattr(pyarrow, name.lower())(): getattr(pd, f"{name}Dtype")()
        for name in ("Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
    }
    frame = table.to_pandas(types_mapper=whole.get)
    for name, dtype in frame.dtypes.items():
        if dtype in whole.values() and not frame[name].hasnans:
            frame[name] = frame[name].astype(dtype.numpy_dtype)
    return frame


def is_series(y: Any) -> bool:
    """Whether `y` is one named column."""
    return hasattr(y, "name") and hasattr(y, "to_numpy")


def infer_numbers(values: pd.Series) -> pd.Series:
    """Give a column of objects that are all numbers, or of a rare float dtype, a common one."""
    if values.dtype == object:
        found = pd.api.types.infer_dtype(values, skipna=True)
        if found == "integer" and values.hasnans:
            values = _whole(values)
        elif found in NUMBERS:
            values = pd.to_numeric(values)
    return values.astype(np.float64) if values.dtype in RARE_FLOATS else values


def _whole(values: pd.Series) -> pd.Series:
    """Return whole numbers with gaps, with all their digits."""
    try:
        return values.astype("Int64")
    except (OverflowError, TypeError):  # beyond 64 bits, or without sign
        return pd.to_numeric(values)


def read_numbers(values: pd.Series) -> pd.Series:
    """Return a column of strings as numbers if each is one."""
    try:
        return pd.to_numeric(values)
    except (ValueError, TypeError):
        return values


NUMBERS = ("integer", "floating", "mixed-integer-float", "decimal")
"""What pandas calls the contents of object columns that hold numbers."""

RARE_FLOATS = (np.float16, np.longdouble)
"""Floats that a pandas index cannot hold."""


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
        named = not isinstance(frame.columns, pd.RangeIndex)
        names = [str(name) for name in frame.columns]
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
