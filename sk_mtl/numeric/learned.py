"""What encodings learn of a column: its values with their weights, quantiles, a single value."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sk_mtl.numeric.base import STEPS

MOST_ROWS = 1_000_000
"""Quantiles of more rows than these are taken of so many, drawn with a fixed seed."""


class Column(NamedTuple):
    """The observed numbers of one column, sorted, and their weights, None where all are equal."""

    values: NDArray
    weight: NDArray | None

    @property
    def held(self) -> bool:
        """Whether the column has one value at most, up to a few float steps."""
        if not len(self.values):
            return True
        low, high = self.values[0], self.values[-1]
        return bool(high - low <= STEPS * np.spacing(max(abs(low), abs(high))))

    @property
    def fill(self) -> float:
        """The median: what a missing number is read as; zero without a number."""
        return float(self.quantiles([0.5])[0]) if len(self.values) else 0.0

    @property
    def mean(self) -> float:
        """The mean."""
        return float(np.average(self.values, weights=self.weight))

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        shifted = self.values - self.mean
        largest = np.abs(shifted).max()  # taken out: squares may overflow
        squares = np.average((shifted / largest) ** 2, weights=self.weight)
        return float(largest * np.sqrt(squares))

    def quantiles(self, probabilities: Any) -> NDArray:
        """Return quantiles: numpy's "linear" without weights, else its averaged inverse.

        With weights the quantile at p is the least value that has the share p of the weight up to
        it, or the middle to the next one where its share is exactly p.
        """
        if self.weight is None:
            return _linear(self.values, np.asarray(probabilities, dtype=np.float64))
        total = np.cumsum(self.weight)
        wanted = np.asarray(probabilities, dtype=np.float64) * total[-1]
        slack = 1e-12 * total[-1]
        first = np.searchsorted(total, wanted - slack, side="left")
        next_ = np.searchsorted(total, wanted + slack, side="right")
        last = len(self.values) - 1
        low, high = self.values[first.clip(max=last)], self.values[next_.clip(max=last)]
        return low + 0.5 * (high - low)


def _linear(values: NDArray, probabilities: NDArray) -> NDArray:
    """Return ``np.quantile`` of values that are sorted."""
    position = probabilities * (len(values) - 1)
    whole = np.round(position)  # where rounding has moved it off a value, back to it
    position = np.where(np.abs(position - whole) < 1e-12 * len(values), whole, position)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, len(values) - 1)
    share = position - low
    gap = values[high] - values[low]
    # As numpy interpolates: from the nearer end, so that the result never passes the other.
    return np.where(share < 0.5, values[low] + gap * share, values[high] - gap * (1 - share))


def observed(values: NDArray, weight: NDArray | None) -> tuple[NDArray, NDArray | None]:
    """Return the rows with a weight above zero, and their weights, None if they are equal."""
    if weight is None:
        return values, None
    kept = weight > 0
    values, weight = (values, weight) if kept.all() else (values[kept], weight[kept])
    return values, None if not len(weight) or (weight == weight[0]).all() else weight


def read_columns(
    values: NDArray, weight: NDArray | None, most: int | None = MOST_ROWS
) -> list[Column]:
    """Return the columns, of `most` rows at most.

    Parameters
    ----------
    values : ndarray of shape (n, F)
        Numbers, NaN where missing.
    weight : ndarray of shape (n,), optional
        Weights of the rows.
    most : int, default=1_000_000
        Rows to look at; of more so many are drawn, always the same ones. None: all.
    """
    values, weight = observed(values, weight)
    if most is not None and len(values) > most:
        rows = np.sort(np.random.default_rng(0).choice(len(values), most, replace=False))
        values, weight = values[rows], None if weight is None else weight[rows]
    columns = []
    for j in range(values.shape[1]):
        own = values[:, j]
        here = ~np.isnan(own)
        own, own_weight = own[here], None if weight is None else weight[here]
        if own_weight is None:
            columns.append(Column(np.sort(own), None))
        else:
            order = np.argsort(own, kind="stable")
            columns.append(Column(own[order], own_weight[order]))
    return columns


def common(columns: list[Column]) -> dict[str, Any]:
    """Return what every block of numbers takes: ``fill`` and ``held``."""
    return {
        "fill": np.array([column.fill for column in columns]),
        "held": [column.held for column in columns],
    }
