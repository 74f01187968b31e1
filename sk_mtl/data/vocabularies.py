"""Vocabularies: the categories that columns have, alone or together."""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sk_mtl.categorical import CategoricalEncoding, Vectors, infrequent, read_vectors
from sk_mtl.data.frames import infer_numbers
from sk_mtl.data.lookup import (
    FIRST_KNOWN,
    UNKNOWN,
    Lookup,
    as_index,
    distinct_integers,
    refuse_unhashable,
    same_values,
    unusable,
)

SHARED = ("n_slots", "max_categories", "min_frequency", "vectors")
"""Options that belong to a vocabulary; columns that leave one as it is follow the others."""


class Vocabulary(NamedTuple):
    """What the columns that share a vocabulary say of it.

    ``columns`` are their places among the categorical columns; the rest are the options of their
    kinds, see `sk_mtl.categorical.CategoricalEncoding`.
    """

    columns: list[int]
    n_slots: int | None
    max_categories: int | None
    min_frequency: float | None
    vectors: Vectors | None
    trainable: bool

    @property
    def has_rule(self) -> bool:
        """Whether some categories may be infrequent."""
        return self.max_categories is not None or self.min_frequency is not None


def group_columns(kinds: Sequence[CategoricalEncoding], names: Sequence[Any]) -> list[Vocabulary]:
    """Return the vocabularies of columns, in the order of their first columns.

    Raises
    ------
    ValueError
        If columns that share one say different things of it, or what does not go together.
    """
    by_name: dict[Any, list[int]] = {}
    for c, kind in enumerate(kinds):
        key = (c, None) if kind.vocabulary is None else (None, kind.vocabulary)
        by_name.setdefault(key, []).append(c)
    found = []
    for columns in by_name.values():
        said: dict[str, Any] = {}
        for option in SHARED:
            who = [c for c in columns if getattr(kinds[c], option) is not None]
            values = [getattr(kinds[c], option) for c in who]
            if option == "vectors":
                values = [
                    read_vectors(value, f" of column {names[c]!r}")
                    for c, value in zip(who, values, strict=True)
                ]
            for c, value in zip(who[1:], values[1:], strict=True):
                if not _agree(value, values[0]):
                    told = "others" if option == "vectors" else f"{value!r}"
                    first = "some" if option == "vectors" else f"{values[0]!r}"
                    raise ValueError(
                        f"Columns {names[who[0]]!r} and {names[c]!r} share the vocabulary "
                        f"{kinds[c].vocabulary!r}, and `{option}` is {first} for one and {told} "
                        "for the other; pass it for one of them."
                    )
            said[option] = values[0] if values else None
            if values and option != "n_slots" and said["n_slots"] is not None:
                raise ValueError(
                    f"Column {names[who[0]]!r} has `{option}`, and its categories are hashed into "
                    f"{said['n_slots']} slots; there are no learned categories to apply it to. "
                    f"Leave out `{option}` or `n_slots`."
                )
        trainable = all(kinds[c].trainable for c in columns)
        found.append(Vocabulary(columns, **said, trainable=trainable))
    return found


def _agree(one: Any, other: Any) -> bool:
    """Whether two columns say the same of their vocabulary."""
    if isinstance(one, Vectors):
        return one.keys == other.keys and np.array_equal(one.values, other.values)
    return bool(one == other)


def learn(columns: Iterable[tuple[pd.Series, Any]]) -> pd.Index:
    """Return the sorted categories that stand in some columns, or pieces of them, with names."""
    return unite([distinct(*column) for column in columns])


def unite(indices: Iterable[pd.Index]) -> pd.Index:
    """Return the sorted categories of several indices."""
    found = [index for index in indices if len(index)]
    if not found:
        return pd.Index([], dtype=object)
    if len(found) == 1:
        return found[0]
    if len({index.dtype for index in found}) > 1:  # whole numbers, some of them read as floats
        found = [as_integers(index) for index in found]
    return distinct(infer_numbers(pd.concat([pd.Series(index) for index in found])), "")


def as_integers(index: pd.Index) -> pd.Index:
    """Return whole numbers, read as floats or with gaps that are gone, as numpy's integers."""
    if index.dtype.kind in "iu" and not isinstance(index.dtype, np.dtype):  # no gap is left
        return index.astype(f"{index.dtype.kind}8")
    if index.dtype.kind != "f" or not len(index) or np.abs(index).max() >= 2**63:
        return index
    return index.astype(np.int64)


def distinct(values: pd.Series, name: Any) -> pd.Index:
    """Return the sorted categories that stand in a column."""
    integers = distinct_integers(values)
    if integers is not None:
        return pd.Index(integers)
    if isinstance(values.dtype, pd.CategoricalDtype):
        given = values.array
        stands = np.zeros(len(given.categories) + 1, dtype=bool)  # and one for gaps
        stands[given.codes] = True
        found = given.categories[stands[:-1]]
    else:
        refuse_fractions(values, name)
        try:
            # Not `unique`: that of pandas 2 takes strings for C's, "\x00" for "".
            found = as_index(values.dropna().drop_duplicates().array)
        except TypeError as error:
            raise unusable(values, name) from error
        refuse_unhashable(found, name)
    return _sort(found)


def _sort(found: pd.Index) -> pd.Index:
    try:
        return found.sort_values()
    except TypeError:  # such as strings among numbers: any fixed order will do
        return pd.Index(
            sorted(found, key=lambda v: (type(v).__name__, repr(v))),
            dtype=object,
            tupleize_cols=False,
        )


def refuse_fractions(values: pd.Series, name: Any) -> None:
    """Refuse a column of numbers that are not whole."""
    if values.dtype.kind != "f":
        return
    numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    fractional = np.isinf(numbers) | (numbers > np.floor(numbers))
    if fractional.any():
        raise ValueError(
            f"Column {name!r} is declared categorical, by its dtype or in "
            f"`categorical_features`, and holds the number {numbers[fractional][0]}; "
            "give it a numeric dtype and leave it out there, or bin it first."
        )


def keep_frequent(
    index: pd.Index, columns: Iterable[tuple[pd.Series, Any, int]], vocabulary: Vocabulary
) -> pd.Index:
    """Return the categories that are not infrequent, by their counts.

    Parameters
    ----------
    index : Index
        The categories, sorted.
    columns : iterable of (Series, name, int)
        Columns, or pieces of them, and how many cells they are of.
    vocabulary : Vocabulary
        What is said of it.
    """
    lookup, n = Lookup.of(index), 0
    counts = np.zeros(len(index) + FIRST_KNOWN, dtype=np.int64)
    for values, name, n_cells in columns:
        counts += np.bincount(lookup.encode(values, name), minlength=len(counts))
        n += n_cells
    # NOTE[DIFF] scikit-learn's rule takes a missing value for a category; here it is none, and
    # counts only in the number of rows that a share is of.
    rule = vocabulary.max_categories, vocabulary.min_frequency
    return index[~infrequent(counts[FIRST_KNOWN:], n, *rule)]


def add_given(frequent: pd.Index, seen: pd.Index, vectors: Vectors, name: Any) -> pd.Index:
    """Return the categories with those that have vectors, in the type of those seen.

    Parameters
    ----------
    frequent, seen : Index
        The categories that are kept, and all that were seen.
    vectors : Vectors
        The vectors.
    name : object
        Name of the column.

    Raises
    ------
    ValueError
        If a category with a vector is missing, or of another type than the column's.
    """
    keys = as_index(vectors.keys)
    missing = pd.isna(keys)
    if missing.any():
        raise ValueError(f"`vectors` of column {name!r} have one of a missing value; leave it out.")
    lookup = Lookup.of(seen)
    if lookup.kind is None:  # mixed, or nothing seen
        return _sort(frequent.append(keys).drop_duplicates())
    own = [_in_type(key, lookup.kind, name) for key in keys.tolist()]
    added = as_index(own)
    known = pd.Index([]) if not len(frequent) else frequent
    dtype = seen.dtype if added.dtype.kind == seen.dtype.kind else None
    added = added if dtype is None or not len(frequent) else cast_index(added, dtype)
    return _sort((known.append(added) if len(known) else added).drop_duplicates())


def cast_index(index: pd.Index, dtype: Any) -> pd.Index:
    """Return an index in a dtype, or as it is where that would change a value."""
    try:
        cast = index.astype(dtype)
    except (TypeError, ValueError, OverflowError):
        return index
    return cast if (cast == index).all() else index


def _in_type(key: Any, kind: type, name: Any) -> Any:
    """Return a category in the type that a column has."""
    if type(key) is kind:
        return key
    found = same_values(key, kind)
    if not found:
        raise ValueError(
            f"`vectors` of column {name!r} have the category {key!r}, a {type(key).__name__}, and "
            f"the column holds values of type {kind.__name__}; leave it out, or give it in their "
            "type."
        )
    return found[0]


def given_codes(index: pd.Index, vectors: Vectors, name: Any) -> NDArray:
    """Return the codes of the categories that have vectors.

    Raises
    ------
    ValueError
        If two of them are one category of the column, such as 3 and "3".
    """
    codes = Lookup.of(index).encode(infer_numbers(pd.Series(as_index(vectors.keys))), name)
    assert (codes != UNKNOWN).all()
    if len(np.unique(codes)) < len(codes):
        found, counts = np.unique(codes, return_counts=True)
        first, second, *_ = np.flatnonzero(codes == found[counts > 1][0])
        raise ValueError(
            f"`vectors` of column {name!r} have {vectors.keys[first]!r} and "
            f"{vectors.keys[second]!r}, which are one category of it; give it one vector."
        )
    return codes


# Cells that hold several categories -----------------------------------------------------------


class Members(NamedTuple):
    """The categories in the cells of a column: all of them, and how many each cell has."""

    values: pd.Series
    lengths: NDArray


SEVERAL = (list, tuple, set, frozenset)
"""What a cell with several categories may be, beside an array."""


def read_members(values: pd.Series, name: Any, separator: str | None) -> Members:
    """Return what stands in the cells of a column of lists.

    Raises
    ------
    TypeError
        If a cell is neither a list, nor missing, nor a string where there is a separator.
    """
    cells = read_cells(values.to_numpy(dtype=object).tolist(), name, separator)
    lengths = np.fromiter(map(len, cells), dtype=np.int64, count=len(cells))
    arrays = [cell for cell in cells if isinstance(cell, np.ndarray)]
    if arrays and len(arrays) == np.count_nonzero([cell is not NOTHING for cell in cells]):
        dtypes = {array.dtype for array in arrays}
        if len(dtypes) == 1 and next(iter(dtypes)).kind in "iuf":
            return Members(infer_numbers(pd.Series(np.concatenate(arrays))), lengths)
    flat = np.fromiter(chain.from_iterable(map(as_plain, cells)), dtype=object)
    return Members(infer_numbers(pd.Series(flat, copy=False)), lengths)


def read_cells(cells: list[Any], name: Any, separator: str | None) -> list[Any]:
    """Return each cell as a sequence, a set or an array."""
    if set(map(type, cells)) <= {list, tuple}:
        return cells
    return [_read_cell(cell, name, separator) for cell in cells]


def as_plain(cell: Any) -> Any:
    """Return a cell's categories as Python has them."""
    return cell.tolist() if isinstance(cell, np.ndarray) else cell


NOTHING: tuple[Any, ...] = ()
"""A cell that is missing."""


def _read_cell(cell: Any, name: Any, separator: str | None) -> Any:
    is_array = isinstance(cell, np.ndarray) and cell.ndim == 1
    if is_array or isinstance(cell, SEVERAL):
        return cell
    if isinstance(cell, str) and separator is not None:
        return [part for part in map(str.strip, cell.split(separator)) if part]
    if cell is None or cell is pd.NA or (isinstance(cell, float) and cell != cell):
        return NOTHING
    hint = "pass lists, tuples, sets or arrays"
    if isinstance(cell, str):
        hint += ', or Bag(separator=",") if that is what stands between categories'
    raise TypeError(
        f"Column {name!r} is a Bag in `categorical_features` and holds a {type(cell).__name__}, "
        f"{cell!r}; {hint}."
    )
