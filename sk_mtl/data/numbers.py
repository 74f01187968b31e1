"""Numeric columns: their statistics, and one block of floats."""

from copy import copy
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.preprocessing import StandardScaler

from sk_mtl.data.categories import is_categorical
from sk_mtl.data.encoder import USABLE, BlockSpec, ColumnEncoder
from sk_mtl.data.frames import FrameTable, Table, is_number
from sk_mtl.data.lookup import encode_numbers


class NumberEncoder(ColumnEncoder):
    """Read columns as numbers, and learn their means and variances.

    Parameters
    ----------
    numeric_features : {"standardize", "passthrough"}
        How numbers enter the network.

    Attributes
    ----------
    columns_ : list of int
        Positions of the numeric columns.
    names_ : list
        Their names.
    counts_, means_, variances_ : ndarray of shape (F,), float64
        Total weight of the numbers seen in each column, their mean and variance; NaN without any.
    missing_columns_ : list of int
        Places, among the numeric columns, of those with a missing value at `fit`.
    """

    part: ClassVar[str] = "numeric"

    def __init__(self, numeric_features: str = "standardize") -> None:
        self.numeric_features = numeric_features

    def choose(self, table: Table) -> list[int]:
        """Return the columns with a number's dtype."""
        return [j for j, dtype in enumerate(table.dtypes) if is_number(dtype)]

    def fit(self, table: Table, rows: NDArray | None, weight: NDArray | None) -> None:
        """Learn the statistics, and which columns have missing values."""
        self.names_ = [table.names[j] for j in self.columns_]
        block = self._numbers(table, rows)
        self.missing_columns_ = _columns_with_nan(block)
        self._learn(block, weight, StandardScaler(with_mean=not sparse.issparse(block)))

    def update(self, table: Table, rows: NDArray | None, weight: NDArray | None) -> Self:
        """Return a copy whose statistics are those of further rows too."""
        twin, block = copy(self), self._numbers(table, rows)
        scaler = StandardScaler(with_mean=not sparse.issparse(block))
        scaler.n_features_in_ = len(self.columns_)
        scaler.n_samples_seen_ = np.array(self.counts_)
        # Without a number so far a mean of any kind weighs nothing.
        scaler.mean_, scaler.var_ = np.nan_to_num(self.means_), np.nan_to_num(self.variances_)
        scaler.scale_ = np.ones(len(self.columns_))
        twin._learn(block, weight, scaler)
        return twin

    def _learn(self, block: Any, weight: NDArray | None, scaler: StandardScaler) -> None:
        n = len(self.columns_)
        self.counts_, self.means_, self.variances_ = np.zeros(n), np.zeros(n), np.zeros(n)
        self.constant_ = [True] * n
        if n == 0:
            return
        # Columns may be all missing, or too large to be squared.
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            scaler.partial_fit(block, sample_weight=weight)
            deviation = np.sqrt(scaler.var_)
        self.counts_ = np.array(np.broadcast_to(scaler.n_samples_seen_, n), dtype=np.float64)
        empty = self.counts_ == 0
        self.means_ = np.where(empty, np.nan, scaler.mean_)
        self.variances_ = np.where(empty, np.nan, scaler.var_)
        # scikit-learn says that a column is constant, up to rounding, by a scale of one.
        self.constant_ = (empty | (scaler.scale_ != deviation)).tolist()
        if self.numeric_features == "standardize" and np.isinf(deviation).any():
            raise ValueError(
                f"Column {self.names_[int(np.isinf(deviation).argmax())]!r} has a variance too "
                "large for dtype('float64'); give it in a larger unit."
            )

    def statistics(self) -> dict[str, dict[str, Any]]:
        """Return centre, scale and fill, in the network's units; a scale is NaN of a constant."""
        standardize = self.numeric_features == "standardize"
        means, n = np.nan_to_num(self.means_), len(self.columns_)
        scale = np.sqrt(np.nan_to_num(self.variances_)) if standardize else np.ones(n)
        found = {
            "mean": means if standardize else np.zeros(n),
            "scale": np.where(self.constant_, np.nan, scale),
            "fill": np.zeros(n) if standardize else means,
        }
        return {"numeric": found}

    def specs(self) -> dict[str, BlockSpec]:
        """Return how to build the block: statistics are buffers of the network."""
        options = {"n_columns": len(self.columns_), "missing_columns": self.missing_columns_}
        options |= self.statistics()["numeric"]
        return {"numeric": BlockSpec("numbers", options, self.part)}

    def transform(self, table: Table) -> Any:
        """Return the numbers as they are, (n, F) floats, NaN where missing, dense or CSR."""
        return self._numbers(table, None)

    def transform_few(self, table: Table, cells: list[list[Any]]) -> Any | None:
        """Read cell by cell where the rows are a frame's."""
        is_frame = isinstance(table, FrameTable)
        return encode_numbers(cells, self.columns_) if is_frame else self._numbers(table, None)

    def _numbers(self, table: Table, rows: NDArray | None) -> Any:
        """Return the columns as one block of floats."""
        replaced = {j: self._parse(table, j) for j in table.not_numbers(self.columns_)}
        block = table.block(self.columns_, replaced)
        infinite = np.isinf(block.data if sparse.issparse(block) else block)
        if infinite.any():
            self._raise_infinite(block)
        return block if rows is None else block[rows]

    def _parse(self, table: Table, j: int) -> NDArray:
        """Return a column that should be numeric as numbers, or say why it cannot be."""
        dtype, name = table.dtypes[j], table.names[j]
        if not table.named:
            raise ValueError(f"X has dtype {dtype}; {USABLE}.")
        if not is_categorical(dtype):
            raise ValueError(f"Column {name!r} has dtype {dtype}; {USABLE}.")
        try:
            values = pd.to_numeric(table.column(j))
            return values.to_numpy(dtype=np.float64, na_value=np.nan)
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"Column {name!r} should hold numbers and cannot be read as such "
                f"({error}); mend it, or name it in `categorical_features`."
            ) from error

    def _raise_infinite(self, block: Any) -> None:
        coo = block.tocoo() if sparse.issparse(block) else None
        bad = np.isinf(block).any(axis=0) if coo is None else coo.col[np.isinf(coo.data)]
        column = int(np.flatnonzero(bad)[0]) if coo is None else int(bad[0])
        raise ValueError(
            f"Input X contains infinity or a value too large for dtype('float64') in column "
            f"{self.names_[column]!r}; replace it, by NaN if it means missing."
        )


def _columns_with_nan(block: Any) -> list[int]:
    """Return the positions of the columns that have a missing value."""
    if sparse.issparse(block):
        coo = block.tocoo()
        return np.unique(coo.col[np.isnan(coo.data)]).tolist()
    return np.flatnonzero(np.isnan(block).any(axis=0)).tolist()
