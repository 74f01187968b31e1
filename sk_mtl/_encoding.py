"""A fitted estimator's encoder as a user sees it: columns in, what the network takes out."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sk_mtl.data import CategoryEncoder, FeatureEncoder, NumberEncoder, check_rows
from sk_mtl.data.rows import Numbers


class RowEncoder:
    """The encoder of a fitted estimator, for those who bring their own runtime.

    It is `encoder_` of every fitted estimator, a light view that holds no copy of anything.

    Parameters
    ----------
    estimator : estimator
        The fitted estimator.

    Examples
    --------
    >>> import torch
    >>> from sk_mtl import MMoE
    >>> from sk_mtl.datasets import make_census_like
    >>> X, Y = make_census_like(300, random_state=0)
    >>> model = MMoE(max_epochs=1, n_members=2, random_state=0).fit(X, Y)
    >>> parts = model.encoder_.transform(X[:5])
    >>> {name: (part.shape, part.dtype.name) for name, part in parts.items()}
    {'numeric': ((5, 6), 'float64'), 'categorical': ((5, 6), 'int64')}
    >>> with torch.no_grad():
    ...     logits = model.module_(**{name: torch.from_numpy(p) for name, p in parts.items()})
    >>> logits.shape  # those of each task, for the first member and then for the second
    torch.Size([5, 6])
    """

    def __init__(self, estimator: Any) -> None:
        self._estimator = estimator

    @property
    def _encoder(self) -> FeatureEncoder:
        encoder: FeatureEncoder = self._estimator._fitted_.encoder
        return encoder

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self._estimator).__name__})"

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The names of the columns of each part, in the part's order.

        Returns
        -------
        dict of str to list
            Names, or positions if X had none.
        """
        encoder = self._encoder
        return {e.part: [encoder.names_[j] for j in e.columns_] for e in encoder.encoders}

    @property
    def categories(self) -> dict[Any, NDArray]:
        """The known categories of each categorical column, by its name.

        Returns
        -------
        dict of name to ndarray
            The category at position i has the code i + 2. 0 is the code of a missing value, 1 of
            every other category. A hashed column has none.
        """
        found = {}
        for one in self._encoder.encoders:
            if isinstance(one, CategoryEncoder):
                for name, vocabulary in zip(one.names_, one.vocabularies_, strict=True):
                    found[name] = one.categories_[vocabulary].to_numpy()
        return found

    def transform(self, X: ArrayLike) -> dict[str, Any]:
        """Encode rows.

        Parameters
        ----------
        X : {array-like, dataframe, CSR matrix} of shape (n_samples, n_features)
            The rows, checked as `predict` checks them.

        Returns
        -------
        dict of str to ndarray
            What ``module_`` takes, by the names of its arguments: "numeric", (n_samples, F)
            float64 with NaN where missing, and "categorical", (n_samples, C) int64, see
            `categories`. If a column is a `sk_mtl.categorical.Bag`, "categorical" holds the
            object that the network takes instead; a part of a kind of feature of one's own is
            what its `sk_mtl.data.ColumnEncoder` makes.

        Raises
        ------
        ValueError, TypeError
            As in `predict`.
        """
        table = check_rows(self._estimator, X, self._encoder.names_)
        return {name: _plain(name, part) for name, part in self._encoder.encode(table).items()}


DTYPES = {NumberEncoder.part: np.float64, CategoryEncoder.part: np.int64}
"""What the arrays of our own parts are to hold."""


def _plain(name: str, part: Any) -> Any:
    """Return a part as an array of its usual dtype, if it is one or can be."""
    if hasattr(part, "toarray"):
        part = part.toarray()
    elif isinstance(part, Numbers):
        part = part[:].numpy()
    dtype = DTYPES.get(name)
    if dtype is None or not isinstance(part, np.ndarray):
        return part
    return np.ascontiguousarray(part, dtype=dtype)
