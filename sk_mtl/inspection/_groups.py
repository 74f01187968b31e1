"""Rows by the values of a column."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sk_mtl._checks import check_count
from sk_mtl.base import MultiTaskEstimator

OTHERS, MISSING = "<others>", "<missing>"
"""Names of the values that are not shown one by one, and of none."""


class Groups(NamedTuple):
    """Some rows by the values of a column."""

    name: str
    """What the values are of."""
    labels: list[str]
    """The groups' names."""
    codes: NDArray
    """The group of each row, (n,)."""
    counts: NDArray
    """How many rows each group has."""

    def mean(self, values: NDArray) -> NDArray:
        """Return each group's mean of values: (n, ...) -> (n_groups, ...)."""
        return np.stack([values[self.codes == g].mean(axis=0) for g in range(len(self.labels))])


def group_rows(estimator: MultiTaskEstimator, X: Any, by: Any, n_values: Any) -> Groups:
    """Group rows by a column of theirs, or by values beside them.

    Parameters
    ----------
    estimator : MultiTaskEstimator
        A fitted estimator.
    X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
        The rows.
    by : str, int or array-like of shape (n_samples,)
        Name of a column, its position if X has no names, or a value for each row.
    n_values : int
        Most groups, missing values aside. Numbers with more values are cut at quantiles; of
        categories the rarest are put together.

    Raises
    ------
    ValueError
        If there is no such column, or a value is missing or too many, or a cell is a list.
    """
    n_values = check_count("n_values", n_values, 2)
    table = estimator._read_rows(X)
    if isinstance(by, str | int):
        if by not in table.names:
            raise ValueError(
                f"`by` is {by!r}, and X has no such column; pass one of {table.names}, or an array "
                "with a value for each row."
            )
        name, values = str(by), table.column(table.names.index(by))
    else:
        name = str(getattr(by, "name", None) or "value")
        is_column = isinstance(by, pd.Series | pd.Index | pd.Categorical | np.ndarray)
        values = pd.Series(by if is_column else list(by))
        if len(values) != len(table):
            raise ValueError(
                f"`by` has {len(values)} values and X has {len(table)} rows; pass a value for each."
            )
    values = values.reset_index(drop=True)
    missing = values.isna().to_numpy()
    present = values[~missing]
    labels, found = _group(name, present, n_values) if len(present) else ([], np.zeros(0, int))
    codes = np.full(len(values), len(labels))
    codes[~missing] = found
    if missing.any():
        labels = [*labels, MISSING]
    return Groups(name, labels, codes, np.bincount(codes, minlength=len(labels)))


def _group(name: str, values: pd.Series, n_values: int) -> tuple[list[str], NDArray]:
    """Return names of groups, and the group of each value."""
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    try:
        distinct = values.nunique()
    except TypeError:
        raise ValueError(
            f"`by` is {name!r}, whose cells hold several categories, such as "
            f"{values.iloc[0]!r}; pass an array with one value for each row."
        ) from None
    if is_number and distinct > n_values:
        numbers = values.to_numpy(dtype=np.float64)
        codes = pd.qcut(numbers, n_values, labels=False, duplicates="drop")
        codes = np.unique(codes, return_inverse=True)[1]  # a quantile may hold no row
        return [_range(numbers[codes == g]) for g in range(codes.max() + 1)], codes
    # In the order of categories that have one, else sorted.
    ordered = pd.Categorical(values).remove_unused_categories()
    labels, codes = [str(value) for value in ordered.categories], ordered.codes.astype(np.int64)
    if distinct <= n_values:
        return labels, codes
    counts = np.bincount(codes)
    kept = np.sort(np.argsort(-counts, kind="stable")[: n_values - 1])
    place = np.full(len(counts), len(kept))
    place[kept] = np.arange(len(kept))
    return [*(labels[code] for code in kept), OTHERS], place[codes]


def _range(numbers: NDArray) -> str:
    low, high = f"{numbers.min():.4g}", f"{numbers.max():.4g}"
    return low if low == high else f"{low} to {high}"
