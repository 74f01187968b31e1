"""Exact values of numbers as categories."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sk_mtl._checks import check_count
from sk_mtl.numeric.base import Encoding
from sk_mtl.numeric.learned import observed

MAX_AUTO_DIM = 64
"""Widest embedding that ``embedding_dim="auto"`` chooses."""


class ExactValues(Encoding):
    """Embed the distinct values of numeric columns as if they were categories.

    Codes, counts and amounts in which single values stand out: a network learns something of each
    value. A value that is not known reads what rare values of the column have learned or, if
    there were none, the mean of what was seen. A missing value has an embedding of its own.
    Values are compared as float64 numbers: whole numbers above 2**53 that it cannot tell apart
    are one value.

    Parameters
    ----------
    max_values : int, default=2000
        Known values per column at most: the ones seen most often.
    min_count : int, default=1
        Rows that a value must stand in at `fit` to be known.
    embedding_dim : int or "auto", default="auto"
        Width of the embeddings; "auto" grows with the number of known values, from 4 to 64 in
        powers of two, as for categories.
    dropout : float, default=0.0
        Probability, in training, that a row does without a column's embedding.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mtl.numeric import ExactValues
    >>> ExactValues(min_count=2).fit(np.array([[0.0], [0.0], [7.0], [5.0], [5.0]]))["values"]
    [array([0., 5.])]
    """

    name: ClassVar[str] = "values"
    kind: ClassVar[str] = "values"
    marks_missing: ClassVar[bool] = False

    def __init__(
        self,
        max_values: int = 2000,
        min_count: int = 1,
        embedding_dim: Any = "auto",
        dropout: float = 0.0,
    ) -> None:
        self.max_values = max_values
        self.min_count = min_count
        self.embedding_dim = embedding_dim
        self.dropout = dropout

    def check(self) -> None:
        """Check the options."""
        self._count("max_values")
        self._count("min_count")
        if self.embedding_dim != "auto":
            remedy = 'or pass "auto"'
            check_count("numeric_features__embedding_dim", self.embedding_dim, remedy=remedy)
        self._number("dropout", 0, 1, below=True)

    def fit(self, values: NDArray, weight: NDArray | None = None) -> dict[str, Any]:
        """Learn the known values.

        Parameters
        ----------
        values : ndarray of shape (n, F), float64
            The columns, NaN where missing.
        weight : ndarray of shape (n,), optional
            Weights of the rows; a row without weight does not count, any other counts once.
        """
        rows, _ = observed(values, weight)
        known = [self._known(column[~np.isnan(column)]) for column in rows.T]
        fixed = None if self.embedding_dim == "auto" else int(self.embedding_dim)
        return {
            "values": known,
            "embedding_dims": [fixed or auto_embedding_dim(len(own)) for own in known],
            "dropout": float(self.dropout),
        }

    def _known(self, column: NDArray) -> NDArray:
        """Return a column's known values, sorted."""
        found, counts = np.unique(column, return_counts=True)
        often = counts >= self.min_count
        found, counts = found[often], counts[often]
        if len(found) > self.max_values:
            first = np.argsort(-counts, kind="stable")[: self.max_values]
            found = np.sort(found[first])
        return found


def auto_embedding_dim(n_categories: int) -> int:
    """Return a width for a column of `n_categories`: a power of two from 4 to 64.

    It is the smallest one that is at least 1.6 * n ** 0.56, fastai's rule of thumb. Powers of two
    keep the number of distinct widths, and so of tables, small.
    """
    wanted = 1.6 * max(n_categories, 1) ** 0.56
    return int(min(MAX_AUTO_DIM, max(4, 2 ** np.ceil(np.log2(wanted)))))
