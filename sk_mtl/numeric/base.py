"""The contract of an encoding of numbers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sk_mtl._checks import Options, check_choice, check_count, check_number

STEPS = 8
"""A column whose values lie within so many float steps of one another is constant."""


class Encoding(Options, ABC):
    """How some numeric columns enter the network.

    A new encoding is one subclass and one `sk_mtl.nn.Block`. Its constructor stores its options
    under their names, each with a default: numbers, strings, None or tuples of such. `fit` of an
    estimator copies what it was given, calls `check`, then `fit` with the rows that are trained
    on. What `fit` returns are the arguments of the block: numbers, strings, lists, dicts or
    arrays, so that `save` can write them.

    Attributes
    ----------
    name : str
        Name of the encoding, a class attribute.
    kind : str
        Kind of the block, a class attribute.
    marks_missing : bool
        Whether the block takes ``missing_columns`` and adds indicators of missing values for
        them, a class attribute. False: it tells missing values by itself.
    exact : bool
        Whether numbers that differ in the last digits of a float64 must not become equal, a class
        attribute. False: training may hold them as float32, in half the memory.
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    marks_missing: ClassVar[bool] = True
    exact: ClassVar[bool] = True

    @abstractmethod
    def fit(self, values: NDArray, weight: NDArray | None = None) -> dict[str, Any]:
        """Learn from the rows that are trained on how to build the block.

        Columns of a large table come some at a time, each in one call, and what the calls return
        is joined: lists and arrays, which have an entry for each column, end to end. Anything
        else must be the same for all columns.

        Parameters
        ----------
        values : ndarray of shape (n, F), float64
            The columns, NaN where missing, never infinite.
        weight : ndarray of shape (n,), optional
            Weights of the rows, at least zero.

        Returns
        -------
        dict of str to object
            Arguments of the block's constructor, but for ``columns``, ``missing_columns`` and
            ``generator``.
        """

    def check(self) -> None:
        """Check the options.

        Raises
        ------
        ValueError
            If one cannot be used.
        """

    def _count(self, option: str, minimum: int = 1) -> None:
        """Check that an option is a whole number."""
        check_count(f"numeric_features__{option}", getattr(self, option), minimum)

    def _number(
        self,
        option: str,
        low: float,
        high: float = np.inf,
        *,
        above: bool = False,
        below: bool = False,
    ) -> None:
        """Check that an option is a number between two ends."""
        value = getattr(self, option)
        check_number(f"numeric_features__{option}", value, low, high, above=above, below=below)

    def _choice(self, option: str, choices: list[str]) -> None:
        """Check that an option is one of some strings."""
        check_choice(f"numeric_features__{option}", getattr(self, option), choices)


def join_columns(parts: Sequence[Any]) -> Any:
    """Join what `Encoding.fit` returned for some columns after others: see there."""
    if not parts:
        return {}
    first = parts[0]
    if isinstance(first, dict):
        return {name: join_columns([part[name] for part in parts]) for name in first}
    if isinstance(first, np.ndarray):
        return np.concatenate(parts)
    if isinstance(first, list):
        return [entry for part in parts for entry in part]
    if isinstance(first, tuple):
        return tuple(map(join_columns, zip(*parts, strict=True)))
    return first


class Affine(Encoding):
    """Base of encodings that shift and scale by mean and variance, which a stream updates.

    `sk_mtl.data.NumberEncoder` keeps means and variances; `scales` makes the block's arguments of
    them.
    """

    kind: ClassVar[str] = "numbers"

    exact: ClassVar[bool] = False

    def fit(self, values: NDArray, weight: NDArray | None = None) -> dict[str, Any]:
        """Return nothing: see `scales`."""
        return {}

    @abstractmethod
    def scales(self, means: NDArray, variances: NDArray, constant: NDArray) -> dict[str, NDArray]:
        """Return what the block takes from columns' means, variances, and which are constant.

        Parameters
        ----------
        means, variances : ndarray of shape (F,)
            NaN for a column without a number.
        constant : ndarray of bool of shape (F,)
            Whether a column had one value at most.

        Returns
        -------
        dict of str to ndarray
            ``mean``, ``scale`` (NaN of a constant column) and ``fill``.
        """
