"""Which categories are infrequent."""

from numbers import Integral

import numpy as np
from numpy.typing import NDArray


def infrequent(
    counts: NDArray, n: int, max_categories: int | None, min_frequency: float | None
) -> NDArray:
    """Return which categories are infrequent, by the rule of scikit-learn's OneHotEncoder.

    Parameters
    ----------
    counts : ndarray of int of shape (V,)
        How often each category stands in the column, the categories in sorted order.
    n : int
        Number of rows.
    max_categories : int or None
        Most categories, the infrequent ones counted as one. Of equal counts the later are kept.
    min_frequency : int, float or None
        Least count of a frequent category, or as a float its least share of the rows.

    Returns
    -------
    ndarray of bool of shape (V,)

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mtl.categorical import infrequent
    >>> infrequent(np.array([5, 1, 3, 1]), 10, None, 2)
    array([False,  True, False,  True])
    """
    rare = np.zeros(len(counts), dtype=bool)
    if min_frequency is not None:
        is_count = isinstance(min_frequency, Integral)
        rare = counts < (min_frequency if is_count else min_frequency * n)
    if max_categories is not None and len(counts) - rare.sum() + 1 > max_categories:
        order = np.argsort(counts, kind="stable")
        rare[order[: len(order) - (max_categories - 1)]] = True
    return rare
