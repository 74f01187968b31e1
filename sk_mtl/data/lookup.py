"""Codes of categories by the shortest way: a table for integers, single cells for few rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

MISSING, UNKNOWN, FIRST_KNOWN = 0, 1, 2
"""Codes of a missing value, of a category not seen at `fit`, and of the first known one."""

CELLS = 32
"""Cells that are encoded one by one in less time than one categorical column as a whole."""

SPARE = 4
"""Entries per category and per row that a table of integers may have."""

EXACT = 2**53
"""Integers up to here are exact as floats."""


def encode_integers(values: pd.Series, index: pd.Index) -> NDArray | None:
    """Return the codes of a column of integers by a table over their range.

    Parameters
    ----------
    values : Series of n values
        A column.
    index : Index
        The known categories, sorted.

    Returns
    -------
    ndarray of shape (n,), int64, or None
        None where the column or the categories are no integers, or the table would be large
        beside either.
    """
    if not (_plain(values.dtype) and _plain(index.dtype) and len(index)):
        return None
    known = index.to_numpy(dtype=np.int64)
    low = known[0]
    size = _table_size(low, known[-1], min(len(index), len(values)))
    if size is None:
        return None
    table = np.full(size, UNKNOWN, dtype=np.int64)
    table[known - low] = np.arange(len(known)) + FIRST_KNOWN
    position = values.to_numpy(dtype=np.int64) - low
    codes = table.take(position, mode="clip")
    # A position below zero, or a difference that ran over, is a large number without a sign.
    codes[position.view(np.uint64) >= size] = UNKNOWN
    return codes


def distinct_integers(values: pd.Series) -> NDArray | None:
    """Return what stands in a column of integers, sorted and in its dtype, or None as above."""
    if not _plain(values.dtype) or not len(values):
        return None
    given = values.to_numpy(dtype=np.int64)
    low = given.min()
    size = _table_size(low, given.max(), len(given))
    if size is None:
        return None
    stands = np.zeros(size, dtype=bool)
    stands[given - low] = True
    return (np.flatnonzero(stands) + low).astype(values.dtype)


def _table_size(low: Any, high: Any, n: int) -> int | None:
    """Return the entries of a table from `low` to `high`, None if they are many beside `n`."""
    size = int(high) - int(low) + 1
    return size if size <= SPARE * n + 1024 else None


def _plain(dtype: Any) -> bool:
    """Whether a column's dtype is one of numpy's integers that int64 holds."""
    return isinstance(dtype, np.dtype) and dtype.kind in "iu" and dtype != np.uint64


def as_index(values: Any) -> pd.Index:
    """Return values as an index; pandas' strings do not take characters that UTF-8 has not."""
    try:
        return pd.Index(values, tupleize_cols=False)
    except UnicodeEncodeError:
        return pd.Index(values, dtype=object, tupleize_cols=False)


class Lookup(NamedTuple):
    """Sorted categories, the type that all of them have, `kind` or None, and all types of theirs.

    ``kinds`` are those in which a value of another type may be found, see `same_values`.
    """

    index: pd.Index
    kind: type | None
    kinds: tuple[type, ...]

    @classmethod
    def of(cls, index: pd.Index) -> "Lookup":
        """Return the lookup of sorted categories."""
        names = {"integer": int, "floating": float, "string": str, "boolean": bool}
        kind = names.get(pd.api.types.infer_dtype(index))
        if kind is not None or index.dtype != object:
            return cls(index, kind, (kind,) if kind else ())
        found = {type(value) for value in index}
        return cls(index, kind, tuple(one for one in (int, float, bool, str) if one in found))

    def code(self, value: Any) -> int | None:
        """Return a value's code, or None where that depends on more than the value."""
        absent = value is None or value is pd.NA or value is pd.NaT
        if absent or (type(value) is float and value != value):
            return MISSING
        if type(value) is not self.kind:
            return None
        try:
            return self.index.get_loc(value) + FIRST_KNOWN
        except KeyError:
            return UNKNOWN


def same_values(value: Any, kind: type) -> list[Any]:
    """Return what a value of another type may be among categories of a type.

    True, 1, 1.0, "1" and "True" are one value where the categories are booleans, 3, 3.0 and "3"
    where they are whole numbers, and the other way round where they are strings.

    Parameters
    ----------
    value : object
        The value.
    kind : {bool, int, float, str}
        Type of the categories.
    """
    if isinstance(value, str):
        return _read(value.strip(), kind)
    if isinstance(value, bool | np.bool_):
        words = [str(value), str(value).lower(), str(value).upper(), str(int(value))]
        return words if kind is str else [kind(value)]
    if not isinstance(value, int | float | np.integer | np.floating):
        return []
    whole = bool(np.isfinite(value)) and value == int(value)
    if isinstance(value, float | np.floating) and abs(float(value)) > EXACT and kind is not float:
        return []  # it may stand for several whole numbers
    if kind is str:
        return [str(int(value)), f"{int(value)}.0"] if whole else [repr(float(value))]
    if kind is bool:
        return [bool(value)] if value in (0, 1) else []
    return [kind(value)] if whole or kind is float else []


def _read(text: str, kind: type) -> list[Any]:
    """Return the number or the boolean that stands in a string, if one does."""
    if kind is bool:
        found = WORDS.get(text.lower())
        return [] if found is None else [found]
    if kind is str:
        return [text]
    try:
        return [kind(text)]
    except ValueError:
        pass
    try:  # such as "3.0" where the categories are whole numbers
        return same_values(float(text), kind)
    except ValueError:
        return []


WORDS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
"""Booleans as files and databases write them."""


def encode_cells(
    cells: list[list], columns: Sequence[int], lookups: Sequence[Lookup]
) -> NDArray | None:
    """Return the codes of some columns of rows of cells, (n, C), or None if one has none."""
    codes = [[at.code(row[j]) for j, at in zip(columns, lookups, strict=True)] for row in cells]
    if any(code is None for row in codes for code in row):
        return None
    return np.array(codes, dtype=np.int64)


def encode_numbers(cells: list[list], columns: Sequence[int]) -> NDArray | None:
    """Return some columns of rows of cells as finite numbers or NaN, (n, F), or None."""
    numbers = np.array([[_number(row[j]) for j in columns] for row in cells], dtype=np.float64)
    return None if np.isinf(numbers).any() else numbers


def _number(value: Any) -> float:
    """Return a cell as a number, infinity where it is none that is plain."""
    if type(value) is float:
        return value
    if (type(value) is int and -EXACT <= value <= EXACT) or type(value) is bool:
        return float(value)
    return np.nan if value is None or value is pd.NA else np.inf
