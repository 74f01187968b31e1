"""Numbers by a line with a bend at every edge of a bin."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sk_mtl.numeric.base import Encoding
from sk_mtl.numeric.learned import Column, common, read_columns
from sk_mtl.numeric.under import NUMBERS, fit_number


class PiecewiseLinear(Encoding):
    """Embed numbers by a linear part, and one that may bend at the edges of bins.

    It is "version B" of ``rtdl_num_embeddings.PiecewiseLinearEmbeddings``, as TabM uses it, but
    flat beyond the range of values at `fit`. A missing number takes the median.

    Parameters
    ----------
    n_bins : int, default=48
        Bins per column at most.
    embedding_dim : int, default=16
        Width of a column's vector.
    bins : {"quantile", "distinct", "mixed"}, default="quantile"
        Where the edges are. "quantile": at quantiles of the rows. "distinct": at quantiles of the
        distinct values, each taken once, so that values seen often do not swallow the bins; at
        every value if they are few. "mixed": half the bins of either sort.
    number : {"robust", "quantile", "standardize"}, default="robust"
        The number that the linear part is of, as `RobustClip`, `QuantileNormal` or `Standardize`
        make it.

    References
    ----------
    Y. Gorishniy, I. Rubachev, A. Babenko, "On embeddings for numerical features in tabular deep
    learning", NeurIPS 2022. Y. Gorishniy, A. Kotelnikov, A. Babenko, "TabM", ICLR 2025.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mtl.numeric import PiecewiseLinear
    >>> values = np.array([[0.0], [0.0], [0.0], [1.0], [5.0]])
    >>> PiecewiseLinear(n_bins=2).fit(values)["edges"]
    [array([0., 5.])]
    >>> PiecewiseLinear(n_bins=2, bins="distinct").fit(values)["edges"]
    [array([0., 1., 5.])]
    """

    name: ClassVar[str] = "piecewise"
    kind: ClassVar[str] = "piecewise"
    exact: ClassVar[bool] = False

    def __init__(
        self,
        n_bins: int = 48,
        embedding_dim: int = 16,
        bins: str = "quantile",
        number: str = "robust",
    ) -> None:
        self.n_bins = n_bins
        self.embedding_dim = embedding_dim
        self.bins = bins
        self.number = number

    def check(self) -> None:
        """Check the options."""
        self._count("n_bins")
        self._count("embedding_dim")
        self._choice("bins", ["quantile", "distinct", "mixed"])
        self._choice("number", NUMBERS)

    def fit(self, values: NDArray, weight: NDArray | None = None) -> dict[str, Any]:
        """Learn the edges.

        Parameters
        ----------
        values : ndarray of shape (n, F), float64
            The columns, NaN where missing.
        weight : ndarray of shape (n,), optional
            Weights of the rows.
        """
        columns = read_columns(values, weight)
        return {
            "edges": [self._edges(column) for column in columns],
            "number": fit_number(self.number, values, weight),
            "embedding_dim": int(self.embedding_dim),
            **common(columns),
        }

    def _edges(self, column: Column) -> NDArray:
        """Return the edges of a column's bins, two at least."""
        if column.held:
            return np.array([column.fill, column.fill + max(1.0, abs(column.fill))])
        once = Column(np.unique(column.values), None)
        if self.bins == "quantile" or (self.bins == "mixed" and self.n_bins == 1):
            edges = column.quantiles(np.linspace(0.0, 1.0, self.n_bins + 1))
        elif len(once.values) <= self.n_bins + 1:
            edges = once.values
        elif self.bins == "distinct":
            edges = once.quantiles(np.linspace(0.0, 1.0, self.n_bins + 1))
        else:
            half = self.n_bins // 2
            by_rows = column.quantiles(np.linspace(0.0, 1.0, half + 1))
            # Both have the two ends: n_bins + 1 edges in all.
            by_values = once.quantiles(np.linspace(0.0, 1.0, self.n_bins - half + 1))
            edges = np.concatenate([by_rows, by_values])
        # Weighted quantiles need not reach the ends.
        return np.unique(np.concatenate([edges, column.values[[0, -1]]]))
