"""Numbers scaled by their middle half, and squashed far out."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sk_mtl._checks import check_number
from sk_mtl.numeric.base import Encoding
from sk_mtl.numeric.learned import Column, common, read_columns


class RobustClip(Encoding):
    """Subtract the median, divide by the interquartile range, and squash what lies far out.

    A column whose interquartile range is zero is divided by half its range. A missing number
    takes the median.

    Parameters
    ----------
    limit : float or None, default=3.0
        A scaled number z becomes z / sqrt(1 + (z / limit)**2), nearly z about zero and never
        beyond the limit. None: z stays.

    References
    ----------
    D. Holzmüller, L. Grinsztajn, I. Steinwart, "Better by default: Strong pre-tuned MLPs and
    boosted trees on tabular data", NeurIPS 2024.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mtl.numeric import RobustClip
    >>> found = RobustClip().fit(np.array([[1.0], [2.0], [3.0], [4.0], [1000.0]]))
    >>> found["center"], found["scale"]
    (array([3.]), array([2.]))
    """

    name: ClassVar[str] = "robust"
    kind: ClassVar[str] = "scaled"
    exact: ClassVar[bool] = False

    def __init__(self, limit: float | None = 3.0) -> None:
        self.limit = limit

    def check(self) -> None:
        """Check the options."""
        if self.limit is not None:
            remedy = "or pass None for no limit"
            check_number("numeric_features__limit", self.limit, 0, above=True, remedy=remedy)

    def fit(self, values: NDArray, weight: NDArray | None = None) -> dict[str, Any]:
        """Learn medians and ranges.

        Parameters
        ----------
        values : ndarray of shape (n, F), float64
            The columns, NaN where missing.
        weight : ndarray of shape (n,), optional
            Weights of the rows.
        """
        columns = read_columns(values, weight)
        limit = None if self.limit is None else float(self.limit)
        shared = common(columns)
        scale = np.array([_spread(column) for column in columns])
        return {"center": shared["fill"], "scale": scale, "limit": limit, **shared}


def _spread(column: Column) -> float:
    """Return the interquartile range, or half the range, or one."""
    if column.held:
        return 1.0
    low, high = column.quantiles([0.25, 0.75])
    return float(high - low) or float(column.values[-1] - column.values[0]) / 2
