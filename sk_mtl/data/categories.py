"""Categorical columns: categories learned at `fit`, and codes of them."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sk_mtl.data.encoder import BlockSpec, ColumnEncoder
from sk_mtl.data.frames import Table
from sk_mtl.data.lookup import (
    EXACT,
    FIRST_KNOWN,
    MISSING,
    UNKNOWN,
    Lookup,
    as_index,
    distinct_integers,
    encode_cells,
    encode_integers,
    same_values,
)
from sk_mtl.numeric.values import auto_embedding_dim


class CategoryEncoder(ColumnEncoder):
    """Code categories by their positions.

    Parameters
    ----------
    categorical_features : "from_dtype", None, or array-like of bool, int or str
        Which columns are categorical, see `sk_mtl.base.MultiTaskEstimator`.
    embedding_dim : int, "auto", mapping or sequence
        Width of the embeddings.

    Attributes
    ----------
    columns_ : list of int
        Positions of the categorical columns.
    names_ : list
        Their names.
    categories_ : list of pandas.Index
        Known categories of each of them, sorted.
    dims_ : list of int
        Width of each embedding.
    """

    part: ClassVar[str] = "categorical"

    def __init__(
        self, categorical_features: Any = "from_dtype", embedding_dim: Any = "auto"
    ) -> None:
        self.categorical_features = categorical_features
        self.embedding_dim = embedding_dim
        self._lookups: list[Lookup] | None = None

    def __getstate__(self) -> dict[str, Any]:
        # pandas objects are large in a pickle, and not every format takes them.
        state = {**self.__dict__, "_lookups": None}
        if "categories_" in state:
            state["categories_"] = [index.to_numpy() for index in self.categories_]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "categories_" in state:
            known = [as_index(array) for array in state["categories_"]]
            self.categories_ = known

    def choose(self, table: Table) -> list[int]:
        """Resolve `categorical_features` to positions."""
        asked, n_columns = self.categorical_features, table.shape[1]
        if asked is None:
            return []
        if isinstance(asked, str) and asked == "from_dtype":
            if not table.named:
                return []
            return [j for j, dtype in enumerate(table.dtypes) if is_categorical(dtype)]
        given = np.atleast_1d(np.asarray(asked, dtype=None if len(asked) else np.int64))
        if given.dtype.kind == "b":
            if len(given) != n_columns:
                raise ValueError(
                    f"`categorical_features` is a mask of {len(given)} entries and X has "
                    f"{n_columns} columns; pass one entry per column, or indices."
                )
            return np.flatnonzero(given).tolist()
        if given.dtype.kind in "iu":
            bad = given[(given < 0) | (given >= n_columns)]
            if len(bad):
                raise ValueError(
                    f"`categorical_features` has the index {bad[0]} and X has {n_columns} columns; "
                    f"pass indices from 0 to {n_columns - 1}."
                )
            return np.unique(given).tolist()
        if not table.named:
            raise ValueError(
                f"`categorical_features` names {given.tolist()[0]!r} and X has no column names; "
                "pass a DataFrame, or a mask or indices."
            )
        position = {name: j for j, name in enumerate(table.names)}
        unknown = [name for name in given.tolist() if name not in position]
        if unknown:
            raise ValueError(
                f"`categorical_features` names {unknown[0]!r}, which is no column of X; its "
                f"columns are {table.names}."
            )
        return sorted({position[name] for name in given.tolist()})

    def fit(self, table: Table, rows: NDArray | None, weight: NDArray | None) -> None:
        """Learn the categories that stand in the rows, and the widths of their embeddings."""
        self.names_ = [table.names[j] for j in self.columns_]
        self._lookups = None
        self.categories_ = [
            self._learn(table.column(j, rows), name)
            for j, name in zip(self.columns_, self.names_, strict=True)
        ]
        self.dims_ = self._widths()

    def specs(self) -> dict[str, BlockSpec]:
        """Return how to build the block: a table for each width."""
        sizes = [len(index) for index in self.categories_]
        options = {"n_categories": sizes, "embedding_dims": self.dims_}
        return {"categorical": BlockSpec("tables", options, self.part)}

    @property
    def lookups(self) -> list[Lookup]:
        """The known categories of each column, ready for single cells."""
        if self._lookups is None:
            self._lookups = [Lookup.of(index) for index in self.categories_]
        return self._lookups

    def transform(self, table: Table) -> NDArray:
        """Return codes, (n, C), in the smallest type that holds them."""
        # Fill column by column and transpose once: writing strided rows is slow.
        codes = np.empty((len(self.columns_), len(table)), dtype=self._code_dtype())
        columns = zip(self.columns_, self.names_, self.lookups, strict=True)
        for c, (j, name, lookup) in enumerate(columns):
            values = table.column(j)
            if isinstance(values.dtype, pd.CategoricalDtype):
                given = values.array
                if j not in table.codes:
                    table.codes[j] = self._encode_categories(given.categories, lookup, name)
                codes[c] = table.codes[j][given.codes]
            else:
                codes[c] = self._encode(values, lookup, name)
        return np.ascontiguousarray(codes.T)

    def store(self, table: Table, n: int) -> NDArray:
        """Return an array for the codes of n rows."""
        return np.empty((n, len(self.columns_)), dtype=self._code_dtype())

    def seen(self, part: NDArray) -> NDArray:
        """Return, for each column, whether a known and whether an unknown value stands in it."""
        return np.stack([(part >= FIRST_KNOWN).any(axis=0), (part == UNKNOWN).any(axis=0)])

    def tell(self, table: Table, seen: NDArray) -> None:
        """Warn of columns without a single known value."""
        any_known, any_unknown = seen
        strange = np.flatnonzero(any_unknown & ~any_known).tolist()
        if not strange:
            return
        told = []
        for c in strange:
            (value,) = table.column(self.columns_[c]).dropna().iloc[:1].tolist()
            known = "".join(f"such as {first!r}" for first in self.categories_[c][:1].tolist())
            told.append(
                f"column {self.names_[c]!r} has values such as {value!r}, and `fit` saw "
                f"{known or 'none'}"
            )
        warnings.warn(
            f"No category of X is known in some columns: {'; '.join(told)}. Their rows are "
            "predicted as those of an unknown category; pass the values that `fit` saw.",
            UserWarning,
            stacklevel=2,
        )

    def _code_dtype(self) -> Any:
        largest = max((len(index) for index in self.categories_), default=0) + FIRST_KNOWN
        return np.int16 if largest < 2**15 else np.int32

    def transform_few(self, table: Table, cells: list[list[Any]]) -> NDArray | None:
        """Encode cell by cell, or return None where a column has to be looked at."""
        return encode_cells(cells, self.columns_, self.lookups)

    def _learn(self, values: pd.Series, name: Any) -> pd.Index:
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
            if values.dtype.kind == "f":
                numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
                fractional = np.isinf(numbers) | (numbers > np.floor(numbers))
                if fractional.any():
                    raise ValueError(
                        f"Column {name!r} is declared categorical, by its dtype or in "
                        f"`categorical_features`, and holds the number {numbers[fractional][0]}; "
                        "give it a numeric dtype and leave it out there, or bin it first."
                    )
            try:
                # Not `unique`: that of pandas 2 takes strings for C's, "\x00" for "".
                found = as_index(values.dropna().drop_duplicates().array)
            except TypeError as error:
                raise _unusable(values, name) from error
        try:
            return found.sort_values()
        except TypeError:  # such as strings among numbers: any fixed order will do
            return pd.Index(
                sorted(found, key=lambda v: (type(v).__name__, repr(v))),
                dtype=object,
                tupleize_cols=False,
            )

    def _encode(self, values: pd.Series, known: Lookup, name: Any) -> NDArray:
        """Return the codes of one column."""
        index = known.index
        by_table = encode_integers(values, index)
        if by_table is not None:
            return by_table
        # Objects are compared in another way where missing ones stand among them.
        mixed = values.dtype == object and known.kind is not str
        present = values.notna().to_numpy() if mixed else slice(None)
        codes = np.zeros(len(values), dtype=np.int64)
        try:
            codes[present] = index.get_indexer(as_index(values[present])) + FIRST_KNOWN
        except TypeError as error:
            raise _unusable(values, name) from error
        if values.dtype.kind == "f" and known.kind is int:
            # A float of that size may stand for several whole numbers.
            numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
            codes[np.abs(numbers) > EXACT] = UNKNOWN
        absent = np.flatnonzero(codes < FIRST_KNOWN)
        if not len(absent):
            return codes
        codes[absent] = np.where(values.iloc[absent].isna(), MISSING, UNKNOWN)
        unknown = np.flatnonzero(codes == UNKNOWN)
        if len(unknown) and known.kinds:
            codes[unknown] = self._encode_other(values.iloc[unknown], known)
        return codes

    def _encode_categories(self, categories: pd.Index, known: Lookup, name: Any) -> NDArray:
        """Return the codes of a Categorical's categories, and behind them that of a gap."""
        codes = known.index.get_indexer(categories) + FIRST_KNOWN
        if (codes < FIRST_KNOWN).any():
            codes = self._encode(pd.Series(categories), known, name)
        return np.append(codes, MISSING).astype(self._code_dtype())

    def _encode_other(self, values: pd.Series, known: Lookup) -> NDArray:
        """Return the codes of values that may be known ones in another type."""
        place, distinct = pd.factorize(values)
        codes = np.full(len(distinct), UNKNOWN)
        for d, value in enumerate(distinct.tolist()):
            others = [kind for kind in known.kinds if kind is not type(value)]
            found = [
                other
                for kind in others
                for other in same_values(value, kind)
                if other in known.index
            ]
            if found:
                codes[d] = known.index.get_loc(found[0]) + FIRST_KNOWN
        return codes[place]

    def _widths(self) -> list[int]:
        """Resolve `embedding_dim` to one width per column."""
        asked, names = self.embedding_dim, self.names_
        if isinstance(asked, Mapping):
            unknown = [name for name in asked if name not in names]
            if unknown:
                raise ValueError(
                    f"`embedding_dim` names {unknown[0]!r}, which is no categorical column; those "
                    f"are {names}."
                )
            dims = [asked.get(name, "auto") for name in names]
        elif isinstance(asked, Sequence) and not isinstance(asked, str):
            dims = list(asked)
            if len(dims) != len(names):
                raise ValueError(
                    f"`embedding_dim` has {len(dims)} entries and X has {len(names)} categorical "
                    f"columns: {names}."
                )
        else:
            dims = [asked] * len(names)
        widths = []
        for name, dim, index in zip(names, dims, self.categories_, strict=True):
            width = auto_embedding_dim(len(index)) if dim == "auto" else dim
            if isinstance(width, bool) or not isinstance(width, (int, np.integer)) or width < 1:
                raise ValueError(
                    f"`embedding_dim` of column {name!r} must be a positive integer or 'auto', "
                    f"got {dim!r}."
                )
            widths.append(int(width))
        return widths


def _unusable(values: pd.Series, name: Any) -> TypeError:
    """Name the first value of a column that can be neither a number nor a category."""
    bad = next(v for v in values if not pd.api.types.is_hashable(v))
    return TypeError(
        f"Column {name!r} holds a {type(bad).__name__}, {bad!r}: argument must be a "
        "string or a real number; make columns of its parts first."
    )


def is_categorical(dtype: Any) -> bool:
    """Whether a dataframe's column of this dtype is categorical under "from_dtype"."""
    types = pd.api.types
    return (
        isinstance(dtype, pd.CategoricalDtype)
        or types.is_string_dtype(dtype)
        or types.is_object_dtype(dtype)
        or types.is_bool_dtype(dtype)
    )
