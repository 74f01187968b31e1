"""Features: from the columns of X to a block of numbers and a block of category codes."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from sk_mtl._lookup import (
    CELLS,
    FIRST_KNOWN,
    MISSING,
    UNKNOWN,
    Lookup,
    distinct_integers,
    encode_cells,
    encode_integers,
    encode_numbers,
)
from sk_mtl._tables import infer_numbers

USABLE = (
    "pass numbers or categories (of dates: their parts, or the time since some date as a number)"
)
"""What to do about a dtype that is neither."""

MAX_AUTO_DIM = 64
"""Widest embedding that ``embedding_dim="auto"`` chooses."""


class Features(NamedTuple):
    """Encoded rows: numbers (n, F), NaN where missing, and codes (n, C) int64."""

    numeric: Any
    categorical: NDArray

    def __len__(self) -> int:  # of rows, not of fields
        return self.categorical.shape[0]


class FeatureSpec(NamedTuple):
    """What a network must know of the features: the sizes and statistics found at `fit`."""

    n_numeric: int
    n_categories: list[int]
    embedding_dims: list[int]
    mean: NDArray
    scale: NDArray
    fill: NDArray
    missing_columns: list[int]


class FeatureEncoder:
    """Split columns into numeric and categorical ones, and encode both.

    Parameters
    ----------
    categorical_features : "from_dtype", None, or array-like of bool, int or str
        Which columns are categorical, see `sk_mtl.base.MultiTaskEstimator`.
    numeric_features : {"standardize", "passthrough"}
        How numbers enter the network.
    embedding_dim : int, "auto", mapping or sequence
        Width of the embeddings.

    Attributes
    ----------
    names_ : list
        The columns' names, positions if X had none.
    categorical_, numeric_ : list of int
        Positions of the categorical and of the numeric columns.
    categories_ : list of pandas.Index
        Known categories of each categorical column, sorted.
    spec_ : FeatureSpec
        What the network needs to know.
    """

    def __init__(
        self, categorical_features: Any, numeric_features: str, embedding_dim: Any
    ) -> None:
        self.categorical_features = categorical_features
        self.numeric_features = numeric_features
        self.embedding_dim = embedding_dim

    def __getstate__(self) -> dict[str, Any]:
        # pandas objects are large in a pickle, and not every format takes them.
        state = dict(self.__dict__)
        state.pop("_lookups", None)
        if "categories_" in state:
            state["categories_"] = [index.to_numpy() for index in self.categories_]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if "categories_" in state:
            known = [pd.Index(array, tupleize_cols=False) for array in state["categories_"]]
            self.categories_ = known

    def fit(self, X: Any, sample_weight: NDArray | None = None) -> "FeatureEncoder":
        """Learn categories and statistics.

        Parameters
        ----------
        X : pandas.DataFrame, ndarray or CSR matrix of shape (n, columns)
            The rows.
        sample_weight : ndarray of shape (n,), optional
            Weights of the rows in means and variances.

        Raises
        ------
        ValueError
            If a column holds something that cannot be used, named with the remedy.
        """
        frame = isinstance(X, pd.DataFrame)
        self.names_ = list(X.columns) if frame else list(range(X.shape[1]))
        self.categorical_ = self._find_categorical(X)
        chosen = set(self.categorical_)
        self.numeric_ = [j for j in range(X.shape[1]) if j not in chosen]
        self.__dict__.pop("_lookups", None)
        self.categories_ = [self._learn_categories(_column(X, j), j) for j in self.categorical_]
        numeric = self._numbers(X)
        mean, scale, fill = self._statistics(numeric, sample_weight)
        self.spec_ = FeatureSpec(
            n_numeric=len(self.numeric_),
            n_categories=[len(index) for index in self.categories_],
            embedding_dims=self._embedding_dims(),
            mean=mean,
            scale=scale,
            fill=fill,
            missing_columns=_columns_with_nan(numeric),
        )
        return self

    def transform(self, X: Any) -> Features:
        """Encode rows with the columns, in the order, that `fit` saw."""
        if X.shape[0] * X.shape[1] <= CELLS * len(self.categorical_):
            few = self._transform_few(X)
            if few is not None:
                return few
        # Column by column in memory, and turned at once: rows of another stride are slow to fill.
        codes = np.empty((len(self.categorical_), X.shape[0]), dtype=np.int64)
        for c, (j, lookup) in enumerate(zip(self.categorical_, self._lookups, strict=True)):
            codes[c] = self._encode(_column(X, j), lookup, j)
        return Features(self._numbers(X), np.ascontiguousarray(codes.T))

    @cached_property
    def _lookups(self) -> list[Lookup]:
        return [Lookup.of(index) for index in self.categories_]

    def _transform_few(self, X: Any) -> Features | None:
        """Encode rows cell by cell, or return None where a column has to be looked at."""
        if isinstance(X, pd.DataFrame):
            cells = X.to_numpy(dtype=object).tolist()
            numeric = encode_numbers(cells, self.numeric_)
            codes = encode_cells(cells, self.categorical_, self._lookups)
        else:
            part = X[:, self.categorical_]
            cells = (part.toarray() if sparse.issparse(part) else part).tolist()
            codes = encode_cells(cells, range(len(self.categorical_)), self._lookups)
            numeric = None if codes is None else self._numbers(X)
        return None if numeric is None or codes is None else Features(numeric, codes)

    def _find_categorical(self, X: Any) -> list[int]:
        """Resolve `categorical_features` to positions."""
        asked, n_columns = self.categorical_features, X.shape[1]
        if asked is None:
            return []
        if isinstance(asked, str) and asked == "from_dtype":
            if not isinstance(X, pd.DataFrame):
                return []
            return [j for j, dtype in enumerate(X.dtypes) if _is_categorical(dtype)]
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
        if not isinstance(X, pd.DataFrame):
            raise ValueError(
                f"`categorical_features` names {given.tolist()[0]!r} and X has no column names; "
                "pass a DataFrame, or a mask or indices."
            )
        position = {name: j for j, name in enumerate(self.names_)}
        unknown = [name for name in given.tolist() if name not in position]
        if unknown:
            raise ValueError(
                f"`categorical_features` names {unknown[0]!r}, which is no column of X; its "
                f"columns are {self.names_}."
            )
        return sorted({position[name] for name in given.tolist()})

    def _learn_categories(self, values: pd.Series, j: int) -> pd.Index:
        """Return the sorted categories that stand in a column."""
        integers = distinct_integers(values)
        if integers is not None:
            return pd.Index(integers)
        if isinstance(values.dtype, pd.CategoricalDtype):
            found = values.cat.remove_unused_categories().cat.categories
        else:
            if values.dtype.kind == "f":
                numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
                fractional = np.isinf(numbers) | (numbers > np.floor(numbers))
                if fractional.any():
                    raise ValueError(
                        f"Column {self.names_[j]!r} is declared categorical, by its dtype or in "
                        f"`categorical_features`, and holds the number {numbers[fractional][0]}; "
                        "give it a numeric dtype and leave it out there, or bin it first."
                    )
            try:
                # Not `unique`: that of pandas 2 takes strings for C's, "\x00" for "".
                found = pd.Index(values.dropna().drop_duplicates().array)
            except TypeError as error:
                raise self._unusable(values, j) from error
        try:
            return found.sort_values()
        except TypeError:  # such as strings among numbers: any fixed order will do
            return pd.Index(
                sorted(found, key=lambda v: (type(v).__name__, repr(v))),
                dtype=object,
                tupleize_cols=False,
            )

    def _unusable(self, values: pd.Series, j: int) -> TypeError:
        """Name the first value of a column that can be neither a number nor a category."""
        bad = next(v for v in values if not pd.api.types.is_hashable(v))
        return TypeError(
            f"Column {self.names_[j]!r} holds a {type(bad).__name__}, {bad!r}: argument must be a "
            "string or a real number; make columns of its parts first."
        )

    def _encode(self, values: pd.Series, known: Lookup, j: int) -> NDArray:
        """Return the codes of one column."""
        index = known.index
        if isinstance(values.dtype, pd.CategoricalDtype):
            given = values.array
            lookup = index.get_indexer(given.categories)
            codes = np.append(np.where(lookup < 0, UNKNOWN, lookup + FIRST_KNOWN), MISSING)
            return codes[given.codes]
        by_table = encode_integers(values, index)
        if by_table is not None:
            return by_table
        # Objects are compared in another way where missing ones stand among them.
        mixed = values.dtype == object and known.kind is not str
        present = values.notna().to_numpy() if mixed else slice(None)
        codes = np.zeros(len(values), dtype=np.int64)
        try:
            codes[present] = index.get_indexer(pd.Index(values[present])) + FIRST_KNOWN
        except TypeError as error:
            raise self._unusable(values, j) from error
        absent = np.flatnonzero(codes < FIRST_KNOWN)
        codes[absent] = np.where(values.iloc[absent].isna(), MISSING, UNKNOWN)
        return codes

    def _numbers(self, X: Any) -> Any:
        """Return the numeric columns as one floating block, dense or CSR."""
        columns = self.numeric_
        if isinstance(X, pd.DataFrame):
            part = X.iloc[:, columns].copy(deep=False)
            for position, (j, dtype) in enumerate(zip(columns, part.dtypes, strict=True)):
                if not _is_number(dtype):
                    part.isetitem(position, self._parse(X.iloc[:, j], j))
            block = part.to_numpy(dtype=np.float64, na_value=np.nan)
        else:
            block = X if len(columns) == X.shape[1] else X[:, columns]
            if block.dtype.kind not in "fiub":
                raise ValueError(f"X has dtype {block.dtype}; {USABLE}.")
            if block.dtype.kind != "f" or block.dtype.itemsize not in (4, 8):
                block = block.astype(np.float64)
        infinite = np.isinf(block.data if sparse.issparse(block) else block)
        if infinite.any():
            self._raise_infinite(block)
        return block

    def _parse(self, values: pd.Series, j: int) -> NDArray:
        """Return a column that should be numeric as numbers, or say why it cannot be."""
        if not _is_categorical(values.dtype):
            raise ValueError(f"Column {self.names_[j]!r} has dtype {values.dtype}; {USABLE}.")
        try:
            return pd.to_numeric(values).to_numpy(dtype=np.float64, na_value=np.nan)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"Column {self.names_[j]!r} should hold numbers and cannot be read as such "
                f"({error}); mend it, or name it in `categorical_features`."
            ) from error

    def _raise_infinite(self, block: Any) -> None:
        coo = block.tocoo() if sparse.issparse(block) else None
        bad = np.isinf(block).any(axis=0) if coo is None else coo.col[np.isinf(coo.data)]
        column = int(np.flatnonzero(bad)[0]) if coo is None else int(bad[0])
        raise ValueError(
            f"Input X contains infinity or a value too large for dtype('float64') in column "
            f"{self.names_[self.numeric_[column]]!r}; replace it, by NaN if it means missing."
        )

    def _statistics(self, numeric: Any, weight: NDArray | None) -> tuple[NDArray, NDArray, NDArray]:
        """Return centre, scale and the fill of missing values, in the network's units."""
        n = len(self.numeric_)
        if n == 0:
            return np.zeros(0), np.ones(0), np.zeros(0)
        # Columns may be all missing, or too large to be squared.
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            scaler = StandardScaler(with_mean=not sparse.issparse(numeric))
            scaler.fit(numeric, sample_weight=weight)
        mean, scale = np.asarray(scaler.mean_), np.asarray(scaler.scale_, dtype=np.float64)
        empty = np.isnan(mean)
        mean, scale = np.where(empty, 0.0, mean), np.where(empty, 1.0, scale)
        if self.numeric_features == "passthrough":
            return np.zeros(n), np.ones(n), mean
        if not np.isfinite(scale).all():
            column = self.numeric_[int(np.isfinite(scale).argmin())]
            raise ValueError(
                f"Column {self.names_[column]!r} has a variance too large for dtype('float64'); "
                "give it in a larger unit."
            )
        return mean, scale, np.zeros(n)

    def _embedding_dims(self) -> list[int]:
        """Resolve `embedding_dim` to one width per categorical column."""
        asked = self.embedding_dim
        names = [self.names_[j] for j in self.categorical_]
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


def auto_embedding_dim(n_categories: int) -> int:
    """Return a width for a column of `n_categories`: a power of two from 4 to 64.

    It is the smallest one that is at least 1.6 * n ** 0.56, fastai's rule of thumb. Powers of two
    keep the number of distinct widths, and so of tables, small.
    """
    wanted = 1.6 * max(n_categories, 1) ** 0.56
    return int(min(MAX_AUTO_DIM, max(4, 2 ** np.ceil(np.log2(wanted)))))


def _column(X: Any, j: int) -> pd.Series:
    """Return one column of any X; numbers are equal whatever held them."""
    if isinstance(X, pd.DataFrame):
        return infer_numbers(X.iloc[:, j])
    return infer_numbers(pd.Series(X[:, [j]].toarray()[:, 0] if sparse.issparse(X) else X[:, j]))


def _columns_with_nan(numeric: Any) -> list[int]:
    """Return the positions of the columns that have a missing value."""
    if sparse.issparse(numeric):
        coo = numeric.tocoo()
        return np.unique(coo.col[np.isnan(coo.data)]).tolist()
    return np.flatnonzero(np.isnan(numeric).any(axis=0)).tolist()


def _is_categorical(dtype: Any) -> bool:
    """Whether a dataframe's column of this dtype is categorical under "from_dtype"."""
    types = pd.api.types
    return (
        isinstance(dtype, pd.CategoricalDtype)
        or types.is_string_dtype(dtype)
        or types.is_object_dtype(dtype)
        or types.is_bool_dtype(dtype)
    )


def _is_number(dtype: Any) -> bool:
    types = pd.api.types
    return types.is_numeric_dtype(dtype) and not types.is_complex_dtype(dtype)
