"""Codes of categories by the shortest way: a table for integers, single cells for few rows."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sk_mtl.categorical import hash_integers, hash_value

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

    @property
    def size(self) -> int:
        """Number of codes of known values."""
        return len(self.index)

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

    def encode(self, values: pd.Series, name: Any) -> NDArray:
        """Return the codes of a column, (n,)."""
        by_table = encode_integers(values, self.index)
        if by_table is not None:
            return by_table
        # Objects are compared in another way where missing ones stand among them.
        mixed = values.dtype == object and self.kind is not str
        present = values.notna().to_numpy() if mixed else slice(None)
        codes = np.zeros(len(values), dtype=np.int64)
        try:
            codes[present] = self.index.get_indexer(as_index(values[present])) + FIRST_KNOWN
        except TypeError as error:
            raise unusable(values, name) from error
        if values.dtype.kind == "f" and self.kind is int:
            # A float of that size may stand for several whole numbers.
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
            codes[np.abs(numbers) > EXACT] = UNKNOWN
        absent = np.flatnonzero(codes < FIRST_KNOWN)
        if not len(absent):
            return codes
        codes[absent] = np.where(values.iloc[absent].isna(), MISSING, UNKNOWN)
        unknown = np.flatnonzero(codes == UNKNOWN)
        refuse_unhashable(values.iloc[unknown], name)
        if len(unknown) and self.kinds:
            codes[unknown] = self._encode_other(values.iloc[unknown])
        return codes

    def encode_categories(self, categories: pd.Index, name: Any) -> NDArray:
        """Return the codes of a Categorical's categories, and behind them that of a gap."""
        codes = self.index.get_indexer(categories) + FIRST_KNOWN
        if (codes < FIRST_KNOWN).any():
            codes = self.encode(pd.Series(categories), name)
        return np.append(codes, MISSING)

    def _encode_other(self, values: pd.Series) -> NDArray:
        """Return the codes of values that may be known ones in another type."""
        place, distinct = pd.factorize(values)
        codes = np.full(len(distinct), UNKNOWN)
        for d, value in enumerate(distinct.tolist()):
            others = [kind for kind in self.kinds if kind is not type(value)]
            found = [
                other
                for kind in others
                for other in same_values(value, kind)
                if other in self.index
            ]
            if found:
                codes[d] = self.index.get_loc(found[0]) + FIRST_KNOWN
        return codes[place]


class HashLookup(NamedTuple):
    """Codes of values by their hashes: none is unknown."""

    size: int

    def code(self, value: Any) -> int | None:
        """Return a value's code, or None where that depends on more than the value."""
        absent = value is None or value is pd.NA or value is pd.NaT
        if absent or (type(value) is float and value != value):
            return MISSING
        return self._code(value) if type(value) in (str, int, float, bool) else None

    def encode(self, values: pd.Series, name: Any) -> NDArray:
        """Return the codes of a column, (n,)."""
        codes = np.full(len(values), MISSING, dtype=np.int64)
        kind, is_numpy = values.dtype.kind, isinstance(values.dtype, np.dtype)
        if kind in "iub" and is_numpy and values.dtype != np.uint64:
            return self._slots(hash_integers(values.to_numpy(dtype=np.int64)))
        present = np.array(values.notna())
        if kind == "f" and is_numpy:
            numbers = values.to_numpy(dtype=np.float64)
            with np.errstate(invalid="ignore"):
                whole = present & (np.floor(numbers) == numbers) & (np.abs(numbers) < 2**63)
            codes[whole] = self._slots(hash_integers(numbers[whole].astype(np.int64)))
            present &= ~whole
        if not present.any():
            return codes
        some = values[present]
        refuse_unhashable(some, name)
        try:
            distinct = as_index(some.drop_duplicates().array)
            place = distinct.get_indexer(as_index(some))
        except TypeError as error:
            raise unusable(some, name) from error
        codes[present] = np.array([self._named(v, name) for v in distinct.tolist()])[place]
        return codes

    def encode_categories(self, categories: pd.Index, name: Any) -> NDArray:
        """Return the codes of a Categorical's categories, and behind them that of a gap."""
        return np.append(self.encode(pd.Series(categories), name), MISSING)

    def _slots(self, hashes: NDArray) -> NDArray:
        return (hashes % np.uint64(self.size)).astype(np.int64) + FIRST_KNOWN

    def _code(self, value: Any) -> int:
        return hash_value(value) % self.size + FIRST_KNOWN

    def _named(self, value: Any, name: Any) -> int:
        try:
            return self._code(value)
        except TypeError as error:
            raise TypeError(f"Column {name!r} holds {error}; make strings of them.") from error


def refuse_unhashable(values: pd.Series | pd.Index, name: Any) -> None:
    """Refuse a column of lists or the like; pandas takes some of them for values."""
    if values.dtype == object and any(kind.__hash__ is None for kind in set(map(type, values))):
        raise unusable(values, name)


def unusable(values: pd.Series | pd.Index, name: Any) -> TypeError:
    """Name the first value of a column that can be neither a number nor a category."""
    bad = next(v for v in values if not pd.api.types.is_hashable(v))
    remedy = "make columns of its parts first"
    if isinstance(bad, list | set | np.ndarray):
        remedy += f", or pass `categorical_features={{{name!r}: Bag()}}`, see sk_mtl.categorical"
    return TypeError(
        f"Column {name!r} holds a {type(bad).__name__}, {bad!r}: argument must be a "
        f"string or a real number; {remedy}."
    )


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
    cells: list[list], columns: Sequence[int], lookups: Sequence[Lookup | HashLookup]
) -> NDArray | None:
    """Return the codes of some columns of rows of cells, (n, C), or None if one has none."""
    codes = [[at.code(row[j]) for j, at in zip(columns, lookups, strict=True)] for row in cells]
    if any(code is None for row in codes for code in row):
        return None
    if len(cells) > 1:
        for j, at in zip(columns, lookups, strict=True):
            if isinstance(at, HashLookup) and not of_one_type([row[j] for row in cells]):
                return None
    return np.array(codes, dtype=np.int64)


def of_one_type(cells: list[Any]) -> bool:
    """Whether cells have one type, so that a column of them changes none of their values."""
    return len(set(map(type, cells)) - {type(None)}) <= 1


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
