"""Vectors given for categories."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

ACCEPTED = "a mapping of categories to vectors, or a DataFrame indexed by category"


class Vectors(NamedTuple):
    """Categories and their vectors.

    Parameters
    ----------
    keys : list of length V
        The categories, each once.
    values : ndarray of shape (V, width), float64
        Their vectors.
    """

    keys: list[Any]
    values: NDArray

    @property
    def width(self) -> int:
        """Length of a vector."""
        return self.values.shape[1]


def read_vectors(vectors: Any, whose: str = "") -> Vectors:
    """Return given vectors as categories and one array.

    Parameters
    ----------
    vectors : mapping or DataFrame
        Vectors by category, or a DataFrame whose index holds the categories.
    whose : str, default=""
        Whose they are, for messages: such as " of column 'item'".

    Raises
    ------
    ValueError
        If they are neither, are none, differ in length, hold what is no finite number, or have a
        category twice.
    """
    what = f"`vectors`{whose}"
    if isinstance(vectors, Mapping):
        keys, rows = list(vectors), list(vectors.values())
        lengths = {np.shape(row) for row in rows}
        if any(len(shape) != 1 for shape in lengths) or len(lengths) > 1:
            odd = next(k for k, row in enumerate(rows) if np.shape(row) != np.shape(rows[0]) or
                       np.ndim(row) != 1)  # fmt: skip
            raise ValueError(
                f"{what} must be one-dimensional and of one length; that of {keys[odd]!r} has "
                f"shape {np.shape(rows[odd])}, that of {keys[0]!r} {np.shape(rows[0])}."
            )
    elif hasattr(vectors, "index") and hasattr(vectors, "columns"):
        keys, rows = vectors.index.tolist(), vectors.to_numpy()
        if len(set(keys)) < len(keys):
            double = next(key for k, key in enumerate(keys) if key in keys[:k])
            raise ValueError(f"{what} have the category {double!r} twice; give it one vector.")
    else:
        raise ValueError(f"{what} must be {ACCEPTED}, got a {type(vectors).__name__}.")
    try:
        values = np.array(rows, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{what} cannot be read as numbers ({error}).") from error
    if values.size == 0:
        raise ValueError(f"{what} are empty; pass {ACCEPTED}, or None.")
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        key = keys[int(bad.argmax())]
        raise ValueError(f"{what} must be finite numbers; that of {key!r} is not.")
    return Vectors(keys, values)
