"""Numbers as normal scores of their ranks."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sk_mtl._checks import check_count
from sk_mtl.numeric.base import Encoding
from sk_mtl.numeric.learned import Column, common, observed, read_columns


class QuantileNormal(Encoding):
    """Map numbers by their quantiles to a normal distribution.

    Heavy tails and outliers then matter no more than their ranks. It is
    ``sklearn.preprocessing.QuantileTransformer(output_distribution="normal")`` over all rows (a
    million at most) instead of 10,000, with weights. A missing number takes the median. Numbers
    beyond those of `fit` read -5.2 and 5.2.

    Parameters
    ----------
    n_quantiles : int or "auto", default="auto"
        Number of quantiles; "auto": the number of rows over 30, but from 10 to 1000.
    ties : {"middle", "ends"}, default="middle"
        What the least and the greatest value read where many rows have them. "middle": the middle
        of their ranks, as any other value that many rows have, and as TabM's noise makes it.
        "ends": -5.2 and 5.2, as in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mtl.numeric import QuantileNormal
    >>> QuantileNormal().fit(np.array([[1.0], [2.0], [10.0]]))["knots"]
    [array([ 1.,  2., 10.])]
    """

    name: ClassVar[str] = "quantile"
    kind: ClassVar[str] = "quantiles"
    exact: ClassVar[bool] = False

    def __init__(self, n_quantiles: Any = "auto", ties: str = "middle") -> None:
        self.n_quantiles = n_quantiles
        self.ties = ties

    def check(self) -> None:
        """Check the options."""
        if self.n_quantiles != "auto":
            remedy = 'or pass "auto"'
            check_count("numeric_features__n_quantiles", self.n_quantiles, 2, remedy=remedy)
        self._choice("ties", ["middle", "ends"])

    def fit(self, values: NDArray, weight: NDArray | None = None) -> dict[str, Any]:
        """Learn the quantiles.

        Parameters
        ----------
        values : ndarray of shape (n, F), float64
            The columns, NaN where missing.
        weight : ndarray of shape (n,), optional
            Weights of the rows.
        """
        values, weight = observed(values, weight)
        n, wanted = len(values), self.n_quantiles
        if wanted == "auto":
            wanted = max(min(n // 30, 1000), 10)
        shares = np.linspace(0.0, 1.0, max(min(int(wanted), n), 2))
        columns = read_columns(values, weight)
        knots, below, upto, at = zip(*(self._learn(one, shares) for one in columns), strict=True)
        found = {"knots": list(knots), "below": list(below), "upto": list(upto), "at": list(at)}
        return {**found, **common(columns)}

    def _learn(self, column: Column, shares: NDArray) -> tuple[NDArray, ...]:
        """Return a column's distinct quantiles, and the first, last and middle share of each."""
        if column.held:
            return np.array([column.fill]), np.zeros(1), np.ones(1), np.full(1, 0.5)
        # Rounding may bring two quantiles out of order by one step.
        quantiles = np.maximum.accumulate(column.quantiles(shares))
        knots, first, counts = np.unique(quantiles, return_index=True, return_counts=True)
        below, upto = shares[first], shares[first + counts - 1]
        at = 0.5 * (below + upto)
        if self.ties == "ends":
            at[0], at[-1] = 0.0, 1.0
        return knots, below, upto, at
