"""The contract of an encoding of numbers."""

import inspect
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from sk_mtl._checks import check_choice, check_count, check_number

STEPS = 8
"""A column whose values lie within so many float steps of one another is constant."""


class Encoding(ABC):
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
    """

    name: ClassVar[str]
    kind: ClassVar[str]
    marks_missing: ClassVar[bool] = True

    @abstractmethod
    def fit(self, values: NDArray, weight: NDArray | None = None) -> dict[str, Any]:
        """Learn from the rows that are trained on how to build the block.

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

    def check(self) -> None:  # noqa: B027 (options need no check where there are none)
        """Check the options.

        Raises
        ------
        ValueError
            If one cannot be used.
        """

    @classmethod
    def _options(cls) -> dict[str, Any]:
        """Return the constructor's options with their defaults."""
        return {p.name: p.default for p in inspect.signature(cls).parameters.values()}

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the options.

        Parameters
        ----------
        deep : bool, default=True
            For scikit-learn; options have no parameters of their own.
        """
        return {name: getattr(self, name) for name in self._options()}

    def set_params(self, **params: Any) -> Self:
        """Set options; they count from the next fit.

        Parameters
        ----------
        **params
            Values by name.
        """
        known = self._options()
        for name, value in params.items():
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no option {name!r}; it has {sorted(known)}."
                )
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        """Return the class and the options that are not the default."""
        defaults = self._options()
        shown = [
            f"{name}={value!r}"
            for name, value in self.get_params().items()
            if repr(value) != repr(defaults[name])
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

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


class Affine(Encoding):
    """Base of encodings that shift and scale by mean and variance, which a stream updates.

    `sk_mtl.data.NumberEncoder` keeps means and variances; `scales` makes the block's arguments of
    them.
    """

    kind: ClassVar[str] = "numbers"

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
