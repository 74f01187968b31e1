"""Tables: what pandas, polars, numpy and scipy hand over, as columns with names."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse


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
        return FrameTable(self.frame.iloc[rows], self.codes)

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


def is_categorical(dtype: Any) -> bool:
    """Whether a dataframe's column of this dtype is categorical under "from_dtype"."""
    types = pd.api.types
    return (
        isinstance(dtype, pd.CategoricalDtype)
        or types.is_string_dtype(dtype)
        or types.is_object_dtype(dtype)
        or types.is_bool_dtype(dtype)
    )


def is_frame(X: Any) -> bool:
    """Whether `X` is a dataframe of pandas, polars or the like, or a table of Arrow."""
    # Asked of the class: an instance that is lazy would have to resolve its columns.
    cls = type(X)
    if hasattr(cls, "columns") and (hasattr(cls, "dtypes") or hasattr(cls, "column_names")):
        return True
    if hasattr(cls, "to_native") and hasattr(cls, "columns"):  # narwhals
        return True
    return _speaks(cls) and not hasattr(cls, "__array__")  # an array of Arrow, a column


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
    if hasattr(X, "columns") and (hasattr(X, "null_count") or not _speaks(X)):  # polars
        return pd.DataFrame({name: _from_polars(X[name]) for name in X.columns})
    import pyarrow

    if hasattr(X, PROTOCOLS[0]):
        return _from_arrow(pyarrow.table(X))
    from pyarrow.interchange import from_dataframe

    return _from_arrow(from_dataframe(X))


PROTOCOLS = ("__arrow_c_stream__", "__dataframe__")
"""Arrow's protocol for tables, and the older interchange of dataframes."""


def _speaks(X: Any) -> bool:
    return any(hasattr(X, protocol) for protocol in PROTOCOLS)


def _from_polars(column: Any) -> Any:
    """Return a column of polars; numpy has no whole numbers with gaps."""
    if column.dtype.is_nested():  # a list in each cell: no array of two dimensions
        return pd.Series(column.to_list(), dtype=object)
    if type(column.dtype).__name__ == "Enum":  # strings in an order
        order = column.dtype.categories.to_list()
        return pd.Categorical(column.to_list(), categories=order, ordered=True)
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
    # Only types that a column with gaps has: pandas' own integers are slow to make.
    gaps = {column.type for column in table.columns if column.null_count}
    frame = table.to_pandas(types_mapper={kind: whole[kind] for kind in gaps & set(whole)}.get)
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
